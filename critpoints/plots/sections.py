"""The loss on planes and lines through parameter space, with the points that were projected onto them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm, Normalize
from matplotlib.contour import QuadContourSet
from matplotlib.figure import Figure
from matplotlib.ticker import LogFormatterSciNotation, LogLocator, MaxNLocator

from critpoints.plots.scales import as_array
from critpoints.plots.style import BLACK, BLUE, LEGEND_SIZE, VERMILLION, new_figure, remark, set_labels

if TYPE_CHECKING:
    from critpoints.landscape.results import Result

LEVELS = 24
_CLOSE = 0.08  # of the frame: two labels would cover each other
_ON_THE_PLANE = 1e-5  # of the largest coordinate: a distance that rounding explains
_COLORMAP = "cividis"  # made for colour-vision deficiency
DECADES = 6  # of a logarithmic scale, below the largest value


def loss_plane(result: Result, *, labels: tuple[str, str], title: str | None = None, connected: bool = True) -> Figure:
    """The training (and test) loss on a plane, the marked points on it, and their true losses beside the plane's.

    Args:
        result: what ``critpoints.landscape.section_experiment.run`` returned, or the same arrays.
        labels: of the two directions.
        connected: whether the marked points are a path.

    Raises:
        InvalidArgument: arrays of other shapes.
    """
    arrays = result.arrays
    x, y = (as_array(f"axis-{number}", arrays[f"axis-{number}"], (None,)) for number in range(2))
    shape = (len(x), len(y))
    surfaces = {"training loss": as_array("train_loss", arrays["train_loss"], shape)}
    test = as_array("test_loss", arrays["test_loss"], shape)
    if np.isfinite(test).any():
        surfaces["test loss"] = test
    marked = "marks-coordinates" in arrays
    figure, panels = new_figure(1, len(surfaces) + marked, size=(5.2 * (len(surfaces) + marked), 4.6), title=title)
    norm = _norm(np.concatenate([each.ravel() for each in surfaces.values()]))
    contours = None
    for axes, (name, surface) in zip(panels, surfaces.items(), strict=False):
        contours = _surface(axes, x, y, surface, norm)
        set_labels(axes, *labels, title=name)
        if marked:
            _path(axes, arrays["marks-coordinates"], connected, np.array([np.ptp(x), np.ptp(y)]))
            axes.set(xlim=(x[0], x[-1]), ylim=(y[0], y[-1]))  # a path may leave the frame
    if contours is not None:
        shown = panels[: len(surfaces)]
        bar = figure.colorbar(contours, ax=shown, label="loss", shrink=0.9)
        if isinstance(norm, LogNorm):
            narrow = float(norm.vmax or 1) < 30 * float(norm.vmin or 1)
            bar.set_ticks(LogLocator(10, subs=range(1, 10) if narrow else (1.0, 2.0, 5.0)))
            bar.ax.yaxis.set_major_formatter(LogFormatterSciNotation(minor_thresholds=(math.inf, math.inf)))
    if marked:
        _true_losses(panels[-1], arrays, connected, result.header.get("batch_norm"))
    return figure


def _norm(values: np.ndarray) -> Normalize:
    """A logarithmic scale for positive losses, a linear one otherwise."""
    finite = values[np.isfinite(values)]
    if not finite.size:
        return Normalize(0, 1)
    low, high = float(finite.min()), float(finite.max())
    if high <= 0 or low == high:
        return Normalize(low, high if high > low else low + 1)
    return LogNorm(max(low, high * 10.0**-DECADES), high)


def _surface(axes: Axes, x: np.ndarray, y: np.ndarray, surface: np.ndarray, norm: Normalize) -> QuadContourSet:
    low, high = float(norm.vmin or 0), float(norm.vmax or 1)
    space = np.geomspace if isinstance(norm, LogNorm) else np.linspace
    levels = space(low, high, LEVELS)
    values = np.ma.masked_invalid(np.clip(surface, low, high)).T
    filled = axes.contourf(x, y, values, levels=levels, norm=norm, cmap=_COLORMAP)
    axes.contour(x, y, values, levels=levels[::2], colors="white", linewidths=0.4, alpha=0.6)
    axes.grid(False)
    return filled


def _path(axes: Axes, coordinates: np.ndarray, connected: bool, extent: np.ndarray) -> None:
    x, y = coordinates.T
    # white under vermillion: seen on the dark and on the light end of the colours
    if connected:
        axes.plot(x, y, color="white", linewidth=2.6, zorder=3)
        axes.plot(x, y, color=VERMILLION, linewidth=1.2, zorder=4)
    axes.scatter(x, y, s=22, color=VERMILLION, edgecolors="white", linewidths=0.7, zorder=5)
    named = {0: "first", len(x) - 1: "last"} if connected else {i: str(i + 1) for i in range(len(x))}
    if connected and (np.abs(coordinates[0] - coordinates[-1]) < _CLOSE * extent).all():
        named = {len(x) - 1: "first, last"}
    for number, text in named.items():
        axes.annotate(
            text,
            (x[number], y[number]),
            xytext=(5, 5),
            textcoords="offset points",
            color=BLACK,
            fontsize=LEGEND_SIZE,
            bbox={"boxstyle": "round,pad=0.15", "facecolor": "white", "alpha": 0.75, "linewidth": 0},
            zorder=6,
            annotation_clip=True,
        )


def _true_losses(axes: Axes, arrays: Mapping[str, np.ndarray], connected: bool, batch_norm: str | None) -> None:
    """What the points lose by projection: their true losses, those of their images, their distance from the plane."""
    number = np.arange(len(arrays["marks-train_loss"])) + (not connected)  # solutions are numbered from 1
    line = "-" if connected else "none"
    true, projected = arrays["marks-train_loss"], arrays["marks-projected_train_loss"]
    # a ring around a square: both are seen where they are equal
    ring = {"marker": "o", "markersize": 7, "markerfacecolor": "none"}
    handles = axes.plot(number, true, linestyle=line, color=BLUE, label="true training loss", **ring)
    handles += axes.plot(
        number, projected, linestyle=line, marker="s", markersize=3.5, color=VERMILLION, label="of the projection"
    )
    both = np.concatenate([true, projected])
    finite = both[np.isfinite(both)]
    if finite.size and finite.min() > 0 and finite.max() > 3 * finite.min():
        axes.set_yscale("log")
    set_labels(axes, "marked point", "training loss", "loss at the points themselves")
    distances = arrays["marks-distances"]
    if distances.max() <= _ON_THE_PLANE * np.abs(arrays["marks-coordinates"]).max():
        handles.append(remark("all points lie on the plane"))
    else:
        other = axes.twinx()
        other.spines[["top"]].set_visible(False)
        dots = ":" if connected else "none"
        handles += other.plot(
            number, distances, linestyle=dots, marker=".", color=BLACK, label="distance from the plane"
        )
        other.set_ylim(bottom=0)
        set_labels(other, y="distance from the plane")
    if batch_norm is not None:
        handles += [remark(f"BatchNorm on the plane: {batch_norm}"), remark("at true points: their own statistics")]
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.legend(handles=handles, fontsize=LEGEND_SIZE, frameon=False, loc="upper center", bbox_to_anchor=(0.5, -0.15))
