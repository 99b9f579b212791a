"""The loss along lines, aligned lines and trained curves between pairs of solutions."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from critpoints.plots.style import (
    BLUE,
    GREEN,
    ORANGE,
    VERMILLION,
    beside_legend,
    new_figure,
    set_labels,
)

if TYPE_CHECKING:
    from critpoints.landscape.results import Result

_STYLES = ((VERMILLION, "-", "o"), (ORANGE, "--", "s"), (BLUE, "-", "^"), (GREEN, "-.", "v"))
_LABELS = ("straight line", "line after alignment", "Bezier curve", "polygonal chain")


def joining_paths(result: Result, *, title: str | None = None) -> Figure:
    """Loss and error along every path: the mean over pairs, bands from the lowest to the highest pair.

    Args:
        result: what ``critpoints.landscape.curve_experiment`` leaves, stacked over pairs.
    """
    from critpoints.landscape.curve_experiment import QUANTITIES

    t, losses = result.arrays["t"][0], result.arrays["losses"]  # (pairs, paths, n, quantities)
    measured = [q for q in range(len(QUANTITIES)) if np.isfinite(losses[..., q]).any()]
    shown = [q for q in measured if QUANTITIES[q] != "train_error"]
    figure, panels = new_figure(1, len(shown), size=(4.6 * len(shown) + 2.2, 4.4), title=title)
    handles = []
    for axes, quantity in zip(panels, shown, strict=True):
        values = losses[..., quantity]
        handles = []
        for (color, line, marker), label, path in zip(_STYLES, _LABELS, values.swapaxes(0, 1), strict=True):
            axes.fill_between(t, path.min(0), path.max(0), color=color, alpha=0.15, linewidth=0)
            style = {"color": color, "linestyle": line, "marker": marker, "markersize": 4, "markevery": 3}
            handles += axes.plot(t, path.mean(0), linewidth=1.6, label=label, **style)
        name = QUANTITIES[quantity].replace("_", " ").replace("train", "training")
        set_labels(axes, "position $t$ on the path", "share misclassified" if "error" in name else "loss", name)
        _choose_scale(axes, values)
    beside_legend(panels[-1], handles)
    return figure


def _choose_scale(axes: Axes, values: np.ndarray) -> None:
    """Logarithmic where values span decades, down to 0 where some are rounding."""
    positive = values[values > 0]
    if not positive.size or positive.max() < 30 * np.median(values):
        axes.set_ylim(bottom=0)
        return
    low = 10.0 ** np.floor(np.log10(max(positive.min(), 1e-6 * positive.max())))
    if values.min() >= low:
        axes.set_yscale("log")
        return
    axes.set_yscale("symlog", linthresh=low)
    axes.set_ylim(bottom=0)
