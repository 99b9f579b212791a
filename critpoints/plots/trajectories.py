"""Paths through weight space in the plane of their principal components, beside what a random walk would show."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from critpoints.plots.style import (
    BLACK,
    BLUE,
    GREEN,
    LEGEND_SIZE,
    ORANGE,
    PURPLE,
    SKY_BLUE,
    VERMILLION,
    new_figure,
    set_labels,
)

if TYPE_CHECKING:
    from critpoints.landscape.results import Result

_RUNS = (BLUE, ORANGE, GREEN, VERMILLION, PURPLE, SKY_BLUE, BLACK)
_GROUPS = ((BLUE, "o"), (ORANGE, "s"), (GREEN, "^"))
_TITLES = {
    "initialisation": "4. Other initialisations and shuffles",
    "shuffle": "5. One initialisation, other shuffles",
    "clone": "6. One run, cloned, then other shuffles",
}


def trajectory_planes(runs: Result, pairs: Result, *, title: str | None = None) -> Figure:
    """Nine panels about training runs as paths, after the figures of Lipton 2016.

    One path in its own plane, coloured by the true loss; what stays outside of that plane; the variance explained
    beside that of random walks; five paths in a common plane, for each way to make them differ; distances from the
    origin, distances and barriers between solutions, and derivatives along the path.

    Args:
        runs, pairs: what ``critpoints.landscape.trajectory_experiment`` leaves.
    """
    figure, axes = new_figure(3, 3, size=(14.5, 12.5), title=title)
    arrays = runs.arrays
    _one_path(figure, axes[0], arrays)
    _residuals(axes[1], arrays)
    _explained(axes[2], arrays)
    for each, (group, name) in zip(axes[3:6], _TITLES.items(), strict=True):
        shares = pairs.arrays[f"{group}-explained"]
        for number, path in enumerate(pairs.arrays[f"{group}-coordinates"]):
            color = _RUNS[number % len(_RUNS)]
            each.plot(*path.T, color=color, linewidth=1.3, marker=".", markersize=4)
            each.plot(*path[-1], color=color, marker="*", markersize=11)
        note = f"{100 * shares[1]:.0f} % of variance"
        set_labels(each, f"component 1 ({note} in both)", "component 2", name)
        each.set_aspect("equal", adjustable="datalim")
        each.xaxis.set_major_locator(MaxNLocator(6))
    _distances(axes[6], arrays)
    _pairs(axes[7], pairs)
    _derivatives(axes[8], arrays)
    return figure


def _one_path(figure: Figure, axes: Axes, arrays: dict[str, np.ndarray]) -> None:
    path, losses = arrays["coordinates"][0], arrays["losses"][0]
    axes.plot(*path.T, color="0.7", linewidth=0.8, zorder=1)
    positive = np.clip(losses, 1e-12, None)
    dots = axes.scatter(*path.T, c=positive, norm=LogNorm(), cmap="viridis", s=14, zorder=2)
    bar = figure.colorbar(dots, ax=axes)
    bar.set_label("training loss at the point itself", fontsize=LEGEND_SIZE)
    for text, point in (("start", path[0]), ("end", path[-1])):
        box = {"boxstyle": "round,pad=0.15", "facecolor": "white", "alpha": 0.75, "linewidth": 0}
        axes.annotate(text, point, textcoords="offset points", xytext=(8, -12), fontsize=LEGEND_SIZE, bbox=box)
    share = 100 * arrays["explained"][0, 1]
    set_labels(axes, f"component 1 ({share:.1f} % of variance in both)", "component 2", "1. One path in its own plane")
    axes.set_aspect("equal", adjustable="datalim")


def _residuals(axes: Axes, arrays: dict[str, np.ndarray]) -> None:
    """The distance from the plane, over the distance from the path's mean."""
    inside = np.linalg.norm(arrays["coordinates"], axis=2)
    outside = arrays["residuals"]
    share = outside / np.hypot(inside, outside)
    epochs = np.arange(share.shape[1])
    for number, row in enumerate(share):
        axes.plot(epochs, row, color=_RUNS[number % len(_RUNS)], linewidth=1.1)
    axes.set_ylim(0, 1)
    set_labels(axes, "epoch", "distance from the plane / from the mean", "2. What the plane does not show, each run")


def _explained(axes: Axes, arrays: dict[str, np.ndarray]) -> None:
    n = min(12, arrays["explained"].shape[1])
    components = np.arange(1, n + 1)
    walk = arrays["walk"].reshape(-1, arrays["walk"].shape[2])[:, :n]
    for number, row in enumerate(arrays["explained"][:, :n]):
        label = "training runs" if number == 0 else None
        axes.plot(components, row, color=BLUE, linewidth=1.1, marker="o", markersize=3.5, label=label)
    # on top: random walks hardly differ, and training may explain as much
    axes.plot(components, walk.mean(0), color=BLACK, linestyle="--", marker="x", markersize=4, label="random walks")
    axes.set_ylim(top=1.005)
    set_labels(axes, "principal components", "share of variance explained", "3. Variance explained, and the null")
    axes.legend(fontsize=LEGEND_SIZE, frameon=False, loc="lower right")


def _distances(axes: Axes, arrays: dict[str, np.ndarray]) -> None:
    epochs = arrays["epochs"][0]
    for g, (group, (color, _)) in enumerate(zip(_TITLES, _GROUPS, strict=True)):
        for number, points in enumerate(arrays["points"][:, g]):
            label = group if number == 0 else None
            axes.plot(epochs, np.linalg.norm(points, axis=1), color=color, linewidth=1.0, label=label)
    set_labels(axes, "epoch", "Euclidean distance", "7. Distance from the origin, each run")
    axes.legend(fontsize=LEGEND_SIZE, frameon=False)


def _pairs(axes: Axes, pairs: Result) -> None:
    """How far apart solutions lie, and how high the loss rises between them."""
    barriers = pairs.arrays["barriers"]
    for group, row, heights, (color, marker) in zip(_TITLES, pairs.arrays["distances"], barriers, _GROUPS, strict=True):
        axes.plot(row, heights, marker, color=color, markersize=6, alpha=0.8, label=group)
    if (barriers > 0).any():
        axes.set_yscale("symlog", linthresh=float(10.0 ** np.floor(np.log10(barriers[barriers > 0].min()))))
    axes.set_ylim(bottom=0)
    axes.set_xlim(0, 1.1 * pairs.arrays["distances"].max())
    set_labels(axes, "Euclidean distance", "barrier of the training loss", "8. Between solutions, each pair")
    axes.legend(fontsize=LEGEND_SIZE, title="what differs", frameon=False)


def _derivatives(axes: Axes, arrays: dict[str, np.ndarray]) -> None:
    epochs, table = arrays["curvature_epochs"][0], arrays["curvature"]
    for column, (label, color, marker) in enumerate(
        (("smallest $\\lambda$", VERMILLION, "v"), ("largest $\\lambda$", BLUE, "^"), ("gradient norm", GREEN, "o"))
    ):
        for number, row in enumerate(table[..., column]):
            name = label if number == 0 else None
            axes.plot(epochs, row, color=color, marker=marker, markersize=4, linewidth=1.0, label=name)
    axes.axhline(0, color="0.4", linewidth=0.8)
    axes.set_yscale("symlog", linthresh=1e-3)
    axes.set_xscale("symlog", linthresh=1)
    axes.margins(y=0.08)
    axes.set_xlim(left=-0.15)
    set_labels(
        axes, "epoch", "eigenvalues $\\lambda$ of the Hessian, gradient", "9. Derivatives along the path, each run"
    )
    # below the axes, as the curves fill them
    axes.legend(
        fontsize=LEGEND_SIZE - 1,
        frameon=False,
        loc="upper center",
        bbox_to_anchor=(0.5, -0.13),
        ncols=3,
        columnspacing=1,
    )
