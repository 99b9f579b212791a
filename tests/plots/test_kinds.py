"""Kinds for each width, and eigenvalues along a line of saddles."""

import numpy as np
import pytest
import torch
from matplotlib.colors import to_hex
from matplotlib.container import BarContainer, ErrorbarContainer

from critpoints.errors import InvalidArgument
from critpoints.plots import KIND_STYLES, eigenvalues_along_line, kinds_per_width
from critpoints.statistics import wilson_interval
from critpoints.verdict import Kind

COUNTS = {
    6: {"global_minimum": 90, "channel": 10},
    4: {"strict_minimum": 30, "global_minimum": 50, "channel": 20},
}


def test_the_bars_of_a_width_stack_to_one_in_the_colours_of_the_kinds(legend_texts) -> None:
    figure = kinds_per_width(COUNTS, title="kinds")
    bars = {each.get_label(): each for each in figure.axes[0].containers if isinstance(each, BarContainer)}
    assert list(bars) == ["global minimum", "strict minimum", "channel to infinity"]
    heights = np.array([[bar.get_height() for bar in each] for each in bars.values()])
    assert np.allclose(heights, [[0.5, 0.9], [0.3, 0.0], [0.2, 0.1]])
    assert to_hex(bars["channel to infinity"][0].get_facecolor()) == KIND_STYLES[Kind.CHANNEL].color.lower()
    assert np.allclose([bar.get_y() for bar in bars["channel to infinity"]], [0.8, 0.9])
    assert [text.get_text() for text in figure.axes[0].texts] == ["n = 100", "n = 100"]
    assert legend_texts(figure) == list(bars)[::-1]


def test_every_fraction_carries_its_wilson_interval() -> None:
    axes = kinds_per_width(COUNTS).axes[1]
    intervals = [each for each in axes.containers if isinstance(each, ErrorbarContainer)]
    assert len(intervals) == 6
    line, _, (bars,) = intervals[0]
    low, high = bars.get_segments()[0][:, 1]
    assert line.get_ydata() == [0.5]
    assert (low, high) == pytest.approx(wilson_interval(50, 100))
    assert line.get_marker() == KIND_STYLES[Kind.GLOBAL_MINIMUM].marker


def test_widths_are_labelled_in_ascending_order() -> None:
    for axes in kinds_per_width(COUNTS).axes:
        assert [label.get_text() for label in axes.get_xticklabels()] == ["4", "6"]
        assert axes.get_xlabel() == "student width (hidden neurons)"
        assert axes.get_ylabel().startswith("fraction")


@pytest.mark.parametrize(
    "counts",
    [{}, {5: {}}, {5: {"channel": 0}}, {4: {"channel": 1}, 5: {}}, {5: {kind: 1 for kind in Kind}}],
    ids=["no width", "no kind", "no point", "an empty width", "all kinds"],
)
def test_tables_with_holes(counts: dict, legend_texts) -> None:
    legend_texts(kinds_per_width(counts))


@pytest.mark.parametrize(
    ("counts", "message"), [({5: {"saddle": 1}}, "kinds must be from"), ({5: {"channel": -1}}, "must not be negative")]
)
def test_tables_that_cannot_be_read(counts: dict, message: str) -> None:
    with pytest.raises(InvalidArgument, match=message):
        kinds_per_width(counts)


MU = np.linspace(-1, 2, 31)
LINES = np.stack([-1e-4 * MU * (1 - MU), 1e-17 * np.sin(50 * MU), np.full_like(MU, 3e-3)], axis=1)


def test_the_line_shows_all_eigenvalues_on_a_symmetric_axis(legend_texts) -> None:
    figure = eigenvalues_along_line(MU, LINES)
    (axes,) = figure.axes
    legend_texts(figure)
    assert axes.get_yscale() == "symlog"
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("share $\\mu$", "lowest Hessian eigenvalues")
    curves = [line for line in axes.lines if len(line.get_xdata()) == len(MU)]
    assert len(curves) == 3
    lowest = np.asarray(max(curves, key=lambda line: line.get_linewidth()).get_ydata())
    assert np.array_equal(lowest, np.minimum(LINES[:, 0], LINES[:, 1]))


def test_the_predicted_index_stands_over_the_one_found(legend_texts) -> None:
    predicted = ((MU > 1e-9) & (MU < 1 - 1e-9)).astype(int)
    figure = eigenvalues_along_line(
        MU[::-1].copy(), LINES[::-1].copy(), predicted_index=torch.tensor(predicted[::-1].copy())
    )
    texts = legend_texts(figure)
    step, found = (line for line in figure.axes[1].lines if len(line.get_xdata()) == len(MU))
    assert {"predicted", "found", "counted as zero"} <= set(texts)
    assert np.array_equal(np.asarray(step.get_ydata()), predicted)
    assert np.array_equal(np.asarray(found.get_ydata()), predicted)
    assert figure.axes[1].get_ylabel() == "index"


def test_the_noise_floor_decides_what_counts_as_negative(legend_texts) -> None:
    figure = eigenvalues_along_line(MU, LINES, predicted_index=np.zeros(31), noise_floor=1e-3)
    assert "noise floor" in legend_texts(figure)
    found = figure.axes[1].lines[-1]
    assert not np.asarray(found.get_ydata()).any()
    assert figure.axes[0].yaxis.get_transform().linthresh == 1e-3


@pytest.mark.parametrize(
    "values",
    [
        np.zeros((31, 2)),
        np.full((31, 1), np.nan),
        np.full((31, 2), -np.inf),
        np.zeros((31, 0)),
        np.full((31, 1), 5e-324),
    ],
)
def test_unusual_eigenvalues_neither_warn_nor_fail(values: np.ndarray, legend_texts) -> None:
    legend_texts(eigenvalues_along_line(MU, values, predicted_index=np.full(31, np.nan)))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"eigenvalues": LINES[1:]}, "eigenvalues must have shape"),
        ({"predicted_index": [1]}, "predicted_index must have shape"),
        ({"noise_floor": -1.0}, "noise_floor must be positive"),
    ],
)
def test_arguments_that_do_not_fit_are_named(arguments: dict, message: str) -> None:
    with pytest.raises(InvalidArgument, match=message):
        eigenvalues_along_line(**({"mu": MU, "eigenvalues": LINES} | arguments))
