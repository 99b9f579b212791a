"""Disconnectivity graphs and index against loss: what is drawn, and where."""

import io

import numpy as np
import pytest

from critpoints.errors import InvalidArgument
from critpoints.merge_tree import Leaf, Pass, build_merge_tree
from critpoints.plots.merge_tree import disconnectivity_graph, index_against_loss

LEAVES = [
    Leaf("g", 0.0, "global_minimum", 0.5),
    Leaf("m", 1e-4, "strict_minimum", 0.3),
    Leaf("c", 5e-5, "channel", 0.2, is_open=True),
    Leaf("alone", 2e-4, "degenerate_minimum"),
]


def test_leaves_stand_apart_and_joins_at_their_heights() -> None:
    tree = build_merge_tree(LEAVES, [Pass("a", 2e-4, (1, 2)), Pass("b", 1e-3, (0, 1)), Pass("loop", 2e-3, (0, 2))])
    figure = disconnectivity_graph(tree, title="a tree")
    (axes,) = figure.axes
    horizontal = sorted(float(line.get_ydata()[0]) for line in axes.lines if line.get_ydata()[0] == line.get_ydata()[1])
    assert horizontal == pytest.approx([2e-4, 1e-3])
    points = np.concatenate(
        [collection.get_offsets() for collection in axes.collections if len(collection.get_offsets())]
    )
    assert len(set(points[:, 0].tolist())) == len(LEAVES)
    assert axes.get_yscale() == "log" and axes.get_ylabel() == "loss"
    assert sum(line.get_linestyle() == ":" for line in axes.lines) == 2, "two trees, each with an open top"
    figure.savefig(io.BytesIO(), format="png")


def test_gradient_flat_points_are_drawn_apart() -> None:
    figure = index_against_loss(
        [1e-4, 2e-4, 3e-4], [0, 1, 2], ["isolated", "split", "split"], flat_loss=[5e-4], flat_index=[3], title="t"
    )
    (axes,) = figure.axes
    sizes = [len(line.get_xdata()) for line in axes.lines]
    assert sorted(sizes) == [1, 1, 2]
    crosses = [line for line in axes.lines if line.get_marker() == "x"]
    assert [line.get_ydata()[0] for line in crosses] == [3]


def test_an_origin_looks_the_same_in_every_figure() -> None:
    looks = []
    for origins in (["split", "isolated"], ["zero output", "split"]):
        (axes,) = index_against_loss([1e-4, 2e-4], [1, 2], origins).axes
        named = sorted(origins, key=["isolated", "split", "zero output"].index)
        looks.append(
            {name: (line.get_marker(), line.get_color()) for name, line in zip(named, axes.lines, strict=True)}
        )
    assert looks[0]["split"] == looks[1]["split"]
    assert len({*looks[0].values(), *looks[1].values()}) == 3


def test_nothing_to_draw_is_an_error() -> None:
    with pytest.raises(InvalidArgument, match="at least one leaf"):
        disconnectivity_graph(build_merge_tree([], []))
    with pytest.raises(InvalidArgument, match="at least one point"):
        index_against_loss([], [], [])
