"""Disconnectivity graphs, and index against loss."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.artist import Artist
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from critpoints.errors import require
from critpoints.merge_tree import MergeTree
from critpoints.plots.scales import log_positions, set_log
from critpoints.plots.style import BLACK, GREY, KIND_STYLES, as_kinds, new_figure, outside_legend, set_labels
from critpoints.verdict import Kind

ZERO = 1e-20  # losses up to this are drawn on the rail
WIDEST = 15.0  # inches
ORIGINS = ("isolated", "split", "zero output", "antipodal pairs")  # of critical points, see landscape/saddle_census.py
SMALLEST_LEAF, LARGEST_LEAF = 20.0, 220.0  # areas of the markers, in square points


def disconnectivity_graph(tree: MergeTree, *, title: str | None = None) -> Figure:
    """The merge tree as a disconnectivity graph: leaves at their losses, joined at the heights of saddles.

    A channel is drawn open, its loss being a limit; the area of a marker grows with the fraction of seeds that ended
    there.
    Trees that nothing joins stand beside each other, cut by a dotted line.

    Raises:
        InvalidArgument: a tree without leaves, or with kinds that are none.
    """
    require(len(tree.leaves) > 0, "the tree must have at least one leaf")
    kinds = as_kinds([leaf.kind for leaf in tree.leaves])
    places = _places(tree)
    heights = np.array([tree.loss(node) for node in range(len(tree.leaves) + len(tree.merges))])
    log = log_positions(heights, zero_below=ZERO)
    figure, (axes,) = new_figure(1, 1, size=(min(max(8.4, 0.16 * len(tree.leaves) + 3.4), WIDEST), 5.4), title=title)
    set_log(axes, "y", log)
    above = log.limits[1]
    parents = {child: len(tree.leaves) + i for i, merge in enumerate(tree.merges) for child in merge.children}
    for node, x in enumerate(places):
        top = log.positions[parents[node]] if node in parents else above
        dotted = ":" if node not in parents else "-"
        axes.plot([x, x], [log.positions[node], top], color=GREY, linewidth=1.1, linestyle=dotted, zorder=1)
    for number, merge in enumerate(tree.merges):
        x = [places[child] for child in merge.children]
        y = log.positions[len(tree.leaves) + number]
        axes.plot(x, [y, y], color=GREY, linewidth=1.1, zorder=1)
    largest = max((leaf.fraction for leaf in tree.leaves), default=0.0) or 1.0
    for number, (leaf, kind) in enumerate(zip(tree.leaves, kinds, strict=True)):
        style = KIND_STYLES[kind]
        area = SMALLEST_LEAF + (LARGEST_LEAF - SMALLEST_LEAF) * leaf.fraction / largest
        axes.scatter(
            places[number],
            log.positions[number],
            s=area,
            marker=style.marker,
            facecolor="white" if leaf.is_open else style.color,
            edgecolor=style.color,
            linewidth=1.2,
            zorder=3,
        )
    axes.set_xticks([])
    axes.grid(False, axis="x")
    axes.set_xlim(-1.0, len(tree.leaves))
    set_labels(axes, f"{len(tree.leaves)} minima and channels, in the order of the tree", "loss")
    present = [kind for kind in Kind if kind in kinds]
    handles: list[Artist] = [
        Line2D(
            [],
            [],
            linestyle="none",
            marker=KIND_STYLES[kind].marker,
            color=KIND_STYLES[kind].color,
            markerfacecolor="white" if kind is Kind.CHANNEL else KIND_STYLES[kind].color,
            label=KIND_STYLES[kind].label,
        )
        for kind in present
    ]
    handles.append(Line2D([], [], color=GREY, linewidth=1.1, label="joined at a saddle or plateau"))
    if len(tree.roots) > 1:
        handles.append(Line2D([], [], color=GREY, linewidth=1.1, linestyle=":", label="not joined"))
    outside_legend(figure, handles)
    return figure


def _places(tree: MergeTree) -> list[float]:
    """Horizontal positions of all nodes: leaves in the order of the tree, inner nodes between their children."""
    n = len(tree.leaves)
    places = [0.0] * (n + len(tree.merges))
    column = 0
    for root in sorted(tree.roots, key=lambda node: -len(tree.merges[node - n].leaves) if node >= n else 0):
        stack = [(root, False)]
        while stack:
            node, done = stack.pop()
            if node < n:
                places[node], column = float(column), column + 1
            elif done:
                places[node] = float(np.mean([places[child] for child in tree.merges[node - n].children]))
            else:
                children = sorted(tree.merges[node - n].children, key=tree.loss)
                stack += [(node, True), *((child, False) for child in reversed(children))]
    return places


def _place(origin: str) -> int:
    """Of an origin's marker and colour, the same in every figure."""
    return ORIGINS.index(origin) if origin in ORIGINS else len(ORIGINS)


def index_against_loss(
    loss: Sequence[float],
    index: Sequence[int],
    origin: Sequence[str],
    *,
    flat_loss: Sequence[float] = (),
    flat_index: Sequence[int] = (),
    title: str | None = None,
) -> Figure:
    """The index of critical points against their loss, with gradient-flat points, which are not critical, apart.

    Args:
        loss, index, origin: of the proven critical points; one marker and colour an origin.
        flat_loss, flat_index: of gradient-flat points.

    Raises:
        InvalidArgument: columns of different lengths, or nothing to draw.
    """
    require(len(loss) == len(index) == len(origin), "loss, index and origin must have one entry a point")
    require(len(flat_loss) == len(flat_index), "flat_loss and flat_index must have one entry a point")
    require(len(loss) + len(flat_loss) > 0, "there must be at least one point to draw")
    figure, (axes,) = new_figure(1, 1, size=(7.2, 4.8), title=title)
    both = np.array([*loss, *flat_loss], dtype=np.float64)
    log = log_positions(both, zero_below=ZERO)
    names = sorted(set(origin), key=lambda name: (_place(name), name))
    numbers = np.array([*index, *flat_index])
    handles: list[Artist] = []
    for place, name in enumerate(names):
        style = list(KIND_STYLES.values())[_place(name) % len(KIND_STYLES)]
        rows = [i for i, each in enumerate(origin) if each == name]
        shift = 0.16 * (place - 0.5 * (len(names) - 1))
        axes.plot(
            log.positions[rows],
            numbers[rows] + shift,
            linestyle="none",
            marker=style.marker,
            color=style.color,
            markersize=6,
            alpha=0.8,
        )
        handles.append(
            Line2D([], [], linestyle="none", marker=style.marker, color=style.color, label=f"{name}, {len(rows)}")
        )
    if len(flat_loss):
        positions = log.positions[len(loss) :]
        axes.plot(positions, numbers[len(loss) :], linestyle="none", marker="x", color=BLACK, markersize=5, alpha=0.6)
        label = f"gradient-flat, not critical, {len(flat_loss)}"
        handles.append(Line2D([], [], linestyle="none", marker="x", color=BLACK, label=label))
    set_log(axes, "x", log)
    axes.set_yticks(range(int(numbers.max()) + 1))
    axes.set_ylim(-0.6, float(numbers.max()) + 0.6)
    set_labels(axes, "loss", "index (negative eigenvalues)")
    outside_legend(figure, handles)
    return figure


def index_against_loss_of(document: Mapping[str, Any], *, title: str | None = None) -> Figure | None:
    """``index_against_loss`` of the document of a search for saddles, its proven points alone; None without any.

    Args:
        document: as ``critpoints saddles --json`` prints it.
        title: by default the width, and how many points are proven.
    """
    flat = document["gradient_flat"]
    proven = [entry for entry in document["entries"] if entry["certificate"] is not None]
    if not proven and not flat["loss"]:
        return None
    return index_against_loss(
        [entry["verdict"]["loss"] for entry in proven],
        [entry["verdict"]["index"] for entry in proven],
        [entry["origin"] for entry in proven],
        flat_loss=flat["loss"],
        flat_index=flat["index"],
        title=f"width {document['width']}: {len(proven)} proven critical points" if title is None else title,
    )
