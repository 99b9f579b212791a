"""Which kinds of point a width has, and the lowest eigenvalues along a line of saddles."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from critpoints.errors import require
from critpoints.plots.scales import as_array, decade, set_symlog
from critpoints.plots.style import (
    BLACK,
    BLUE,
    GREY,
    KIND_STYLES,
    TICK_SIZE,
    as_kinds,
    beside_legend,
    draw_noise_band,
    new_figure,
    omitted,
    outside_legend,
    set_labels,
)
from critpoints.statistics import wilson_interval
from critpoints.verdict import Kind

BAR = 0.72
# Without a noise floor, eigenvalues this far below the largest one along the line count as zero.
LINE_RANGE = 1e-6


def kinds_per_width(counts: Mapping[int, Mapping[str, int]], *, title: str | None = None) -> Figure:
    """Fractions of the kinds for each width: stacked on the left, each with its Wilson 95 % interval on the right.

    Args:
        counts: width -> kind (or its name) -> number of points.

    Raises:
        InvalidArgument: a name that is no kind, or a negative number.
    """
    widths = sorted(counts)
    table = {width: dict(zip(as_kinds(counts[width]), counts[width].values(), strict=True)) for width in widths}
    require(all(n >= 0 for row in table.values() for n in row.values()), "counts must not be negative")
    kinds = [kind for kind in Kind if any(row.get(kind) for row in table.values())]
    totals = [sum(table[width].values()) for width in widths]
    figure, (stacked, intervals) = new_figure(1, 2, size=(10.4, 4.6), title=title)
    _draw_stacks(stacked, [[table[width].get(kind, 0) for width in widths] for kind in kinds], kinds, totals)
    for column, (width, total) in enumerate(zip(widths, totals, strict=True)):
        for place, kind in enumerate(kinds):
            if total:
                shift = (place + 0.5) / len(kinds) - 0.5
                _draw_interval(intervals, column + BAR * shift, table[width].get(kind, 0), total, kind)
    for boundary in range(len(widths) - 1):
        intervals.axvline(boundary + 0.5, color="0.8", linewidth=0.8, zorder=0)
    for axes in (stacked, intervals):
        axes.grid(False, axis="x")
        axes.set_xticks(range(len(widths)), labels=[str(width) for width in widths])
        axes.set(xlim=(-0.6, max(len(widths), 1) - 0.4), ylim=(0.0, 1.0))
    intervals.set_ylim(-0.02, 1.02)
    set_labels(stacked, "student width (hidden neurons)", "fraction of points")
    set_labels(intervals, "student width (hidden neurons)", "fraction, with Wilson 95 % interval")
    handles: list[Artist] = [
        Line2D([], [], linestyle="none", marker=style.marker, color=style.color, markersize=8, label=style.label)
        for style in (KIND_STYLES[kind] for kind in reversed(kinds))
    ]
    outside_legend(figure, handles)
    return figure


def _draw_stacks(axes: Axes, numbers: list[list[int]], kinds: list[Kind], totals: list[int]) -> None:
    """Bars of height 1, one a width, with the number of points above them."""
    parts = np.array(numbers, dtype=np.float64).reshape(len(kinds), len(totals)) / np.maximum(totals, 1)
    base = np.cumsum(parts, axis=0) - parts
    for kind, height, bottom in zip(kinds, parts, base, strict=True):
        style = KIND_STYLES[kind]
        axes.bar(
            range(len(totals)),
            height,
            BAR,
            bottom,
            color=style.color,
            edgecolor="white",
            linewidth=0.6,
            label=style.label,
        )
    for column, total in enumerate(totals):
        axes.annotate(
            f"n = {total}",
            (column, 1.0 if total else 0.0),
            (0, 3),
            textcoords="offset points",
            ha="center",
            fontsize=TICK_SIZE,
        )


def _draw_interval(axes: Axes, x: float, successes: int, total: int, kind: Kind) -> None:
    style, fraction = KIND_STYLES[kind], successes / total
    low, high = wilson_interval(successes, total)
    axes.errorbar(
        x,
        fraction,
        yerr=[[max(fraction - low, 0.0)], [max(high - fraction, 0.0)]],
        color=style.color,
        marker=style.marker,
        markersize=6,
        capsize=2.5,
        elinewidth=1.4,
        linestyle="none",
        clip_on=False,
    )


def eigenvalues_along_line(
    mu: object,
    eigenvalues: object,
    *,
    predicted_index: object | None = None,
    noise_floor: float | None = None,
    title: str | None = None,
) -> Figure:
    """The lowest Hessian eigenvalues along a line that splits a neuron into shares mu and 1 - mu.

    Args:
        mu: (M,).
        eigenvalues: (M, K), the lowest K at each mu.
        predicted_index: (M,), the number of negative eigenvalues that the theory predicts; drawn below, over the
            number found among the K.
        noise_floor: half-width of the band in which an eigenvalue has no sign; 1e-6 of the largest without it.

    Raises:
        InvalidArgument: shapes that do not fit, or a noise floor that is not positive.
    """
    require(noise_floor is None or noise_floor > 0, f"noise_floor must be positive, got {noise_floor}")
    shares = as_array("mu", mu, (None,))
    values = as_array("eigenvalues", eigenvalues, (len(shares), None))
    order = np.argsort(shares, kind="stable")
    shares, values = shares[order], np.sort(values[order], axis=1)
    finite = values[np.isfinite(values)]
    largest = float(np.abs(finite).max()) if finite.size else 0.0
    threshold = noise_floor or (decade(LINE_RANGE * largest) if largest > 0 else 1.0)
    with_index = predicted_index is not None
    figure, panels = new_figure(
        2 if with_index else 1,
        1,
        size=(7.8, 5.8 if with_index else 4.6),
        title=title,
        sharex=True,
        ratios=(3, 1) if with_index else None,
    )
    upper = panels[0]
    band = draw_noise_band(upper, np.array([threshold]))
    for k in range(values.shape[1]):
        shade = 0.15 + 0.6 * k / max(values.shape[1] - 1, 1)
        color = BLUE if k == 0 else str(shade)
        upper.plot(shares, values[:, k], color=color, linewidth=2.0 if k == 0 else 1.1, zorder=4 - k / 100)
    set_symlog(upper, "y", threshold, np.append(finite, [threshold, -threshold]))
    _mark_ends(panels)
    set_labels(upper, None if with_index else "share $\\mu$", "lowest Hessian eigenvalues")
    if noise_floor is None:
        band[0].set_label("counted as zero")
    handles: list[Artist] = [
        Line2D([], [], color=BLUE, linewidth=2.0, label="lowest"),
        Line2D([], [], color="0.5", linewidth=1.1, label="next ones"),
        *band,
        *omitted(values.size - finite.size, "values"),
    ]
    beside_legend(upper, handles)
    if with_index:
        predicted = as_array("predicted_index", predicted_index, (len(shares),))[order]
        _draw_index(panels[1], shares, predicted, (values < -threshold).sum(1))
        figure.align_ylabels(panels)
    return figure


def _mark_ends(panels: list[Axes]) -> None:
    """mu = 0 and mu = 1, where one of the two copies has no output weight."""
    for axes in panels:
        for end in (0.0, 1.0):
            axes.axvline(end, color="0.55", linewidth=0.9, linestyle=":", zorder=1)


def _draw_index(axes: Axes, shares: np.ndarray, predicted: np.ndarray, found: np.ndarray) -> None:
    axes.plot(shares, predicted, color=BLACK, linewidth=1.4, drawstyle="steps-mid", zorder=2)
    axes.plot(shares, found, color=GREY, marker="o", markersize=4.5, linestyle="none", markerfacecolor="none", zorder=3)
    top = int(max(predicted[np.isfinite(predicted)].max(initial=0), found.max(initial=0)))
    axes.set_yticks(range(0, top + 1, max(1, top // 4)))
    axes.set_ylim(-0.4, top + 0.4)
    set_labels(axes, "share $\\mu$", "index")
    beside_legend(
        axes,
        [
            Line2D([], [], color=BLACK, linewidth=1.4, label="predicted"),
            Line2D(
                [], [], color=GREY, marker="o", markersize=4.5, linestyle="none", markerfacecolor="none", label="found"
            ),
        ],
    )
