"""Loss, error and curvature along straight lines to the end of training, under each policy for BatchNorm."""

from __future__ import annotations

from typing import TYPE_CHECKING

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import SymLogNorm
from matplotlib.figure import Figure

from critpoints.plots.style import BLUE, GREEN, LEGEND_SIZE, ORANGE, VERMILLION, new_figure, set_labels

if TYPE_CHECKING:
    from critpoints.landscape.results import Result

_COLORS = (BLUE, VERMILLION, GREEN, ORANGE)
NOTABLE_RISE = 0.05  # the least height of the panel of rises
_TRAIN_LOSS, _TEST_LOSS, _TEST_ERROR = 0, 2, 3


def interpolation_lines(result: Result, *, title: str | None = None) -> Figure:
    """Six panels about the lines from states along training runs to their ends; means over runs, bands over all runs.

    The loss and the error on the line from initialisation, the test loss on lines from later iterations (one panel for
    each policy for BatchNorm, or the test error where there is one policy), the largest rise against the iteration,
    and the extreme eigenvalues of the Hessian along the line from initialisation.

    Args:
        result: what ``critpoints.landscape.interpolation_experiment`` leaves, stacked over runs.
    """
    from critpoints.landscape.interpolation import max_rise
    from critpoints.landscape.interpolation_experiment import NO_BATCH_NORM, policies_of

    figure, axes = new_figure(2, 3, size=(14.5, 9.2), title=title)
    policies = policies_of(result)
    t, steps = result.arrays["t"][0], result.arrays["steps"][0]
    x = f"position on the line, iteration 0 $\\to$ {steps_label(result)}"
    styles = dict(zip(policies, _COLORS, strict=False))
    for policy, color in styles.items():
        first = result.arrays[f"first-{policy}"]  # (runs, n, 4)
        later = result.arrays[f"losses-{policy}"][..., _TEST_LOSS]  # (runs, T, k)
        name = "" if policy == NO_BATCH_NORM else f", {policy}"
        _band(axes[0], t, first[..., _TEST_LOSS], color, "-", f"test{name}")
        _band(axes[0], t, first[..., _TRAIN_LOSS], color, ":", f"training{name}")
        _band(axes[1], t, first[..., _TEST_ERROR], color, "-", f"test{name}")
        _band(axes[4], steps, max_rise(later), color, "-", f"test loss{name}", marker="o")
        if f"curvature-{policy}" in result.arrays:
            at, table = result.arrays["t_curvature"][0], result.arrays[f"curvature-{policy}"]
            _band(axes[5], at, table[..., 1], color, "-", f"largest{name}", marker="^")
            _band(axes[5], at, table[..., 0], color, "--", f"smallest{name}", marker="v")
    set_labels(axes[0], x, "cross-entropy", "1. Loss from initialisation to the end")
    set_labels(axes[1], x, "share of test samples misclassified", "2. Error from initialisation to the end")
    _later_lines(figure, axes[2:4], result, policies)
    axes[4].set_xscale("symlog", linthresh=1)
    axes[4].set_xlim(left=-0.15)
    axes[4].axhline(0, color="0.4", linewidth=0.8)
    highest = max(max_rise(result.arrays[f"losses-{each}"][..., _TEST_LOSS]).max() for each in policies)
    axes[4].set_ylim(-0.04 * highest, max(1.05 * highest, NOTABLE_RISE))  # rounding is not to look like a mountain
    set_labels(axes[4], "iteration at which the line begins", "largest rise of the test loss", "5. Rise on the line")
    axes[5].set_yscale("symlog", linthresh=0.1)
    axes[5].axhline(0, color="0.4", linewidth=0.8)
    set_labels(axes[5], x, "eigenvalue of the Hessian", "6. Curvature on the line from initialisation")
    for each in (axes[0], axes[1], axes[4], axes[5]):
        _legend_below(each, None if policies == [NO_BATCH_NORM] else "BatchNorm's statistics on the line")
    return figure


def _legend_below(axes: Axes, title: str | None) -> None:
    """Where it covers no curve."""
    style = {"fontsize": LEGEND_SIZE - 1, "title_fontsize": LEGEND_SIZE - 1, "frameon": False, "ncols": 2}
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.14), title=title, **style)  # pyright: ignore[reportArgumentType]


def steps_label(result: Result) -> str:
    """What the right end of every line is."""
    return f"epoch {result.header['configuration']['setting']['recipe']['epochs']}"


def _band(axes: Axes, x: np.ndarray, y: np.ndarray, color: str, line: str, label: str, marker: str = "") -> None:
    """The mean of the rows of y (runs, n), and a band from the lowest to the highest."""
    axes.fill_between(x, y.min(0), y.max(0), color=color, alpha=0.15, linewidth=0)
    axes.plot(x, y.mean(0), color=color, linestyle=line, linewidth=1.8, marker=marker, markersize=5, label=label)


def _later_lines(figure: Figure, axes: list[Axes], result: Result, policies: list[str]) -> None:
    """The mean test loss on the line from each iteration, coloured by it."""
    t, steps = result.arrays["t_later"][0], result.arrays["steps"][0]
    colors = matplotlib.colormaps["viridis"]
    norm = SymLogNorm(1, vmin=0, vmax=max(1, int(steps[-1])))
    panels = [(policy, _TEST_LOSS, "cross-entropy on test data") for policy in policies[:2]]
    if len(panels) == 1:
        panels.append((policies[0], _TEST_ERROR, "share of test samples misclassified"))
    for number, (each, (policy, column, label)) in enumerate(zip(axes, panels, strict=True), 3):
        profiles = result.arrays[f"losses-{policy}"][..., column].mean(0)
        for step, profile in zip(steps, profiles, strict=True):
            each.plot(t, profile, color=colors(norm(step)), linewidth=1.4)
        name = f", BatchNorm: {policy}" if len(policies) > 1 else ""
        set_labels(
            each, "position on the line from an iteration to the end", label, f"{number}. From later iterations{name}"
        )
        bar = figure.colorbar(ScalarMappable(norm, colors), ax=each)
        bar.set_ticks([step for step in (0, 1, 10, 100, 1000, 10_000) if step <= steps[-1]])
        bar.ax.set_yticklabels([str(step) for step in (0, 1, 10, 100, 1000, 10_000) if step <= steps[-1]])
        bar.set_label("iteration", fontsize=LEGEND_SIZE)
