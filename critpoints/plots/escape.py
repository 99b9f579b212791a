"""What a perturbation of size epsilon does to points: right after it, and after refining again."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from critpoints.errors import require
from critpoints.plots.scales import as_array, linear_width, log_positions, set_log, set_symlog, shade_rail
from critpoints.plots.style import BLUE, GREEN, ORANGE, beside_legend, draw_noise_band, new_figure, omitted, set_labels

if TYPE_CHECKING:
    from critpoints.solvers.escaping import EpsilonSweep

# Losses this many times below the unperturbed one are drawn as zero.
ZERO_RATIO = 1e-9


def epsilon_sweep(sweep: EpsilonSweep, *, noise_floor: float | None = None, title: str | None = None) -> Figure:
    """Three panels against epsilon: the loss right after the perturbation, the loss and curvature after refining again.

    Both losses are divided by the loss of the same point before it was perturbed, so that 1 means "nothing gained".
    Each row is a faint line, the median over the rows a strong one.

    Args:
        sweep: of E sizes and S points; a size of 0 stands on a rail at the left. Ratios below 1e-9 count as zero.
        noise_floor: half-width of the band around zero in which an eigenvalue has no sign; shaded.

    Raises:
        InvalidArgument: shapes that do not fit, no sizes, or a noise floor that is not positive.
    """
    require(noise_floor is None or noise_floor > 0, f"noise_floor must be positive, got {noise_floor}")
    epsilons = as_array("sweep.epsilons", sweep.epsilons, (None,))
    require(len(epsilons) > 0, "sweep.epsilons must hold at least one size")
    before = as_array("sweep.loss_before", sweep.loss_before, (None,))
    shape = (len(epsilons), len(before))
    order = np.argsort(epsilons, kind="stable")
    perturbed, refined, lowest = (
        as_array(f"sweep.{name}", getattr(sweep, name), shape)[order]
        for name in ("loss_perturbed", "loss_refined", "smallest_eigenvalue")
    )
    known = np.isfinite(before) & (before > 0)
    with np.errstate(divide="ignore", invalid="ignore"):
        ratios = [np.where(known, loss / before, np.nan) for loss in (perturbed, refined)]
    x = log_positions(epsilons[order])

    figure, panels = new_figure(3, 1, size=(8.2, 8.6), title=title, sharex=True)
    _draw_ratio(panels[0], x.positions, ratios[0], _Style(ORANGE, "--", None))
    set_labels(panels[0], y="loss / loss before", title="1. Right after the perturbation, nothing optimised")
    _draw_ratio(panels[1], x.positions, ratios[1], _Style(BLUE, "-", "o"))
    set_labels(panels[1], y="loss / loss before", title="2. The same points after refining again")
    floor = np.array([] if noise_floor is None else [noise_floor])
    _draw_rows(panels[2], x.positions, lowest, _Style(GREEN, "-", "o"), *draw_noise_band(panels[2], floor))
    panels[2].axhline(0.0, color="0.4", linewidth=0.8, zorder=1)
    set_symlog(panels[2], "y", linear_width(lowest, noise_floor=floor), np.concatenate([lowest.ravel(), floor, -floor]))
    unit = "length of the step" if sweep.normalised else "standard deviation of each parameter"
    set_labels(
        panels[2],
        f"size of the perturbation, $\\varepsilon$ ({unit})",
        "smallest eigenvalue",
        "3. Hessian after refining again",
    )
    set_log(panels[2], "x", x)
    for axes in panels[:2]:
        shade_rail(axes, "x", x)
    figure.align_ylabels(panels)
    return figure


@dataclass(frozen=True)
class _Style:
    color: str
    linestyle: str
    marker: str | None


def _draw_ratio(axes: Axes, x: np.ndarray, ratio: np.ndarray, style: _Style) -> None:
    """Losses over the unperturbed loss, on a logarithmic axis with 1 marked."""
    y = log_positions(ratio, zero_below=ZERO_RATIO, include=(0.8, 1.25))
    unity = axes.axhline(1.0, color="black", linewidth=0.9, linestyle=":", zorder=4, label="unperturbed (= 1)")
    set_log(axes, "y", y)
    _draw_rows(axes, x, y.positions, style, unity)


def _draw_rows(axes: Axes, x: np.ndarray, y: np.ndarray, style: _Style, *handles: Artist) -> None:
    """Each column of ``y`` (E, S) faint, their median strong, and a legend beside the panel."""
    finite = np.isfinite(y)
    alpha = float(np.clip(6 / max(y.shape[1], 1), 0.05, 0.45))
    lines = [np.column_stack([x, row])[ok] for row, ok in zip(y.T, finite.T & np.isfinite(x), strict=True)]
    axes.add_collection(LineCollection(lines, colors=style.color, linewidths=0.8, alpha=alpha, zorder=2))
    some = finite.any(1)
    medians = [np.median(row[ok]) for row, ok in zip(y[some], finite[some], strict=True)]
    strong = {"color": style.color, "linestyle": style.linestyle, "marker": style.marker, "markersize": 5}
    median = axes.plot(x[some], medians, linewidth=2.4, zorder=3, label="median", **strong)
    each = Line2D([], [], color=style.color, linewidth=0.8, alpha=0.5, label=f"each of {y.shape[1]} points")
    beside_legend(axes, [*median, each, *handles, *omitted(int((~finite).sum()), "values")])
