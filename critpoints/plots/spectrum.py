"""Smallest eigenvalues: against the loss, and before and after refinement."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from critpoints.errors import require
from critpoints.plots.scales import (
    LogPositions,
    as_array,
    from_symlog,
    linear_width,
    log_positions,
    power_of_ten,
    set_log,
    set_symlog,
    symlog,
)
from critpoints.plots.style import (
    GREY,
    KIND_STYLES,
    NEGATIVE,
    POSITIVE,
    as_kinds,
    beside_legend,
    draw_noise_band,
    new_figure,
    omitted,
    outside_legend,
    set_labels,
)
from critpoints.verdict import Kind

# A mean squared error that differs from zero by less than this is zero for labels of order one in float64.
ZERO_LOSS = 1e-16
BINS_PER_DECADE = 2


def smallest_eigenvalue_against_loss(
    loss: object,
    smallest_eigenvalue: object,
    kinds: Iterable[str],
    *,
    noise_floor: object | None = None,
    zero_below: float = ZERO_LOSS,
    title: str | None = None,
) -> Figure:
    """The regimes of a study: the smallest Hessian eigenvalue of each point against its loss, by kind.

    Args:
        loss: (S,). Values up to ``zero_below``, also zero, stand on a rail at the left, in the order of their size.
        smallest_eigenvalue: (S,).
        kinds: S kinds, or their names.
        noise_floor: (S,) or one number; half-width of the band around zero in which an eigenvalue has no sign. Its
            range is shaded, and points inside their own floor are hollow.
        zero_below: losses up to this one count as zero in the drawing.

    Raises:
        InvalidArgument: lengths that differ, or a name that is no kind.
    """
    kinds = as_kinds(kinds)
    require(zero_below >= 0, f"zero_below must not be negative, got {zero_below}")
    losses, lowest = (
        as_array(name, value, (len(kinds),))
        for name, value in (("loss", loss), ("smallest_eigenvalue", smallest_eigenvalue))
    )
    floor = None
    if noise_floor is not None:
        floor = as_array("noise_floor", noise_floor)
        require(
            floor.shape in ((), losses.shape), f"noise_floor must be one number or ({len(kinds)},), got {floor.shape}"
        )
        floor = np.where(np.isfinite(floor), floor, 0.0) + np.zeros_like(losses)
    finite = np.isfinite(losses) & np.isfinite(lowest)
    log = log_positions(np.where(finite, losses, np.nan), zero_below=zero_below)
    positions = spread_rail(log, losses)

    figure, (axes,) = new_figure(size=(8.4, 5.0), title=title)
    band = [] if floor is None else draw_noise_band(axes, floor)
    unsigned = np.zeros_like(finite) if floor is None else np.abs(lowest) <= floor
    handles = _draw_kinds(axes, positions, lowest, kinds, finite, unsigned)
    axes.axhline(0.0, color="0.4", linewidth=0.8, zorder=1)
    set_symlog(axes, "y", linear_width(lowest[finite], noise_floor=floor), _with_band(lowest[finite], floor))
    set_log(axes, "x", log)
    set_labels(axes, "loss", "smallest Hessian eigenvalue")
    if (unsigned & finite).any():
        band.append(
            Line2D([], [], linestyle="none", marker="o", color=GREY, markerfacecolor="none", label="hollow: no sign")
        )
    outside_legend(figure, [*handles, *band, *omitted(int((~finite).sum()))])
    return figure


def spread_rail(log: LogPositions, losses: np.ndarray) -> np.ndarray:
    """Positions with the points on the rail spread over its width, smallest loss first, so that none hides another."""
    positions = log.positions.copy()
    (rows,) = np.nonzero(log.on_rail)
    if len(rows) > 1 and log.rail is not None:
        half = 0.7 * np.log10(log.edge / log.rail)
        ordered = rows[np.argsort(losses[rows], kind="stable")]
        positions[ordered] = log.rail * 10.0 ** np.linspace(-half, half, len(rows))
    return positions


def _with_band(values: np.ndarray, floor: np.ndarray | None) -> np.ndarray:
    return values if floor is None else np.concatenate([values, floor, -floor])


def _draw_kinds(
    axes: Axes, x: np.ndarray, y: np.ndarray, kinds: Sequence[Kind], drawn: np.ndarray, hollow: np.ndarray
) -> list[Artist]:
    """One scatter for each kind, filled and hollow, the rarer kinds on top; returns the legend's entries."""
    counts = Counter(kind for kind, is_drawn in zip(kinds, drawn, strict=True) if is_drawn)
    of_kind = np.array([kind.value for kind in kinds], dtype=str)
    handles: list[Artist] = []
    for depth, (kind, _) in enumerate(counts.most_common()):
        style = KIND_STYLES[kind]
        for filled in (True, False):
            rows = drawn & (of_kind == kind.value) & (hollow != filled)
            if rows.any():
                axes.scatter(
                    x[rows],
                    y[rows],
                    s=34,
                    marker=style.marker,
                    facecolors=style.color if filled else "none",
                    edgecolors="white" if filled else style.color,
                    linewidths=0.4 if filled else 1.1,
                    alpha=0.85,
                    zorder=3 + 0.01 * depth,
                    label=style.label,
                )
    for kind in Kind:
        if counts[kind]:
            style = KIND_STYLES[kind]
            label = f"{style.label} ({counts[kind]})"
            handles.append(Line2D([], [], linestyle="none", marker=style.marker, color=style.color, label=label))
    return handles


def smallest_eigenvalue_histogram(
    raw: object, refined: object, *, noise_floor: float | None = None, title: str | None = None
) -> Figure:
    """Histograms of the smallest eigenvalues where Adam stopped and after refinement, on one axis.

    Args:
        raw, refined: (S,) each; the lengths may differ.
        noise_floor: eigenvalues within it have no sign and share the middle bin; without it, those more than
            eight decades below the largest share it.

    Raises:
        InvalidArgument: not one axis each, or a noise floor that is not positive.
    """
    samples = {"after Adam": as_array("raw", raw, (None,)), "after refinement": as_array("refined", refined, (None,))}
    finite = {name: values[np.isfinite(values)] for name, values in samples.items()}
    require(noise_floor is None or noise_floor > 0, f"noise_floor must be positive, got {noise_floor}")
    pooled = np.concatenate(list(finite.values()))
    linthresh = linear_width(pooled) if noise_floor is None else float(noise_floor)
    edges, within = _symlog_edges(pooled, linthresh), f"within ± {power_of_ten(linthresh)}"
    figure, panels = new_figure(2, 1, size=(8.4, 5.2), title=title, sharex=True, sharey=True)
    for axes, (name, values) in zip(panels, finite.items(), strict=True):
        counts, _ = np.histogram(values, edges)
        middle = (edges[:-1] + edges[1:]) / 2
        colors = np.where(middle < -linthresh, NEGATIVE, np.where(middle > linthresh, POSITIVE, GREY))
        axes.bar(edges[:-1], counts, np.diff(edges), align="edge", color=list(colors), edgecolor="white", linewidth=0.5)
        negative, positive = int((values < -linthresh).sum()), int((values > linthresh).sum())
        handles = [
            Patch(color=NEGATIVE, label=f"negative: {negative} of {len(values)}"),
            Patch(color=GREY, label=f"{within}: {len(values) - negative - positive} of {len(values)}"),
            Patch(color=POSITIVE, label=f"positive: {positive} of {len(values)}"),
            *omitted(len(samples[name]) - len(values)),
        ]
        beside_legend(axes, handles)
        set_labels(axes, y="points", title=name)
    set_symlog(panels[1], "x", linthresh, edges)
    set_labels(panels[1], "smallest Hessian eigenvalue")
    figure.align_ylabels(panels)
    return figure


def _symlog_edges(values: np.ndarray, linthresh: float) -> np.ndarray:
    """Edges of equal width on the symmetric logarithmic axis, one bin for everything within the threshold."""
    positions = symlog(values, linthresh) if values.size else np.zeros(1)
    steps_down = int(np.ceil(max(-1 - positions.min(), 0) * BINS_PER_DECADE + 1e-9))
    steps_up = int(np.ceil(max(positions.max() - 1, 0) * BINS_PER_DECADE + 1e-9))
    below = -1 - np.arange(steps_down, -1, -1) / BINS_PER_DECADE
    above = 1 + np.arange(steps_up + 1) / BINS_PER_DECADE
    return from_symlog(np.concatenate([below, above]), linthresh)
