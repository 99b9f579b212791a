"""Pictures in loss landscapes: what was asked for, what was found, and how well random masks are found."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import BoundaryNorm, ListedColormap, LogNorm, Normalize
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import LogFormatter

from critpoints.errors import require
from critpoints.plots.scales import as_array
from critpoints.plots.style import (
    BLUE,
    LABEL_SIZE,
    TICK_SIZE,
    VERMILLION,
    beside_legend,
    new_figure,
    remark,
    set_labels,
)

# dark is a small loss and a high accuracy: both look like the picture
LOSS_COLORS, ACCURACY_COLORS = "cividis", "cividis_r"
_LOSS_RANGE = 1e-3  # of the largest loss: smaller ones are drawn as this one
PARTS = ("train", "test")
_Line = Literal["-", ":"]


def pattern_maps(levels: object, trained: object, maps: Mapping[str, object], *, title: str | None = None) -> Figure:
    """A picture, the cells that were trained, and maps of loss and accuracy on training and test data.

    Figures 1 and 2 of Skorokhodov and Burtsev 2019. Loss is coloured on a logarithmic scale, the same for both parts.

    Args:
        levels: (H, W), from 0, white, to 1, black.
        trained: (H, W), whether a cell was.
        maps: "train_loss", "train_accuracy", "test_loss" and "test_accuracy", (H, W) each, or with the same margin of
            cells on all sides.

    Raises:
        InvalidArgument: shapes that do not fit, or a map that is missing.
    """
    picture = as_array("levels", levels, (None, None))
    known = as_array("trained", trained, picture.shape)
    figure, panels = new_figure(2, 3, size=(12.4, 7.6), title=title, square=True)
    _draw_picture(panels[0], picture, "1. Picture")
    _draw_trained(panels[3], picture, known > 0)
    arrays = {
        f"{part}_{what}": _map(maps, f"{part}_{what}", picture.shape) for part in PARTS for what in ("loss", "accuracy")
    }
    norm = _loss_norm([arrays[f"{part}_loss"] for part in PARTS])
    for row, part in enumerate(PARTS):
        loss, accuracy = panels[3 * row + 1 : 3 * row + 3]
        drawn = _draw_map(loss, arrays[f"{part}_loss"], LOSS_COLORS, norm, f"{2 + row}a. Loss, {part}")
        _color_bar(figure, drawn, loss, "cross-entropy (log scale)", "both")
        drawn = _draw_map(accuracy, arrays[f"{part}_accuracy"], ACCURACY_COLORS, None, f"{2 + row}b. Accuracy, {part}")
        _color_bar(figure, drawn, accuracy, "accuracy", "neither")
    for axes in panels:
        _frame(axes, picture.shape)
    set_labels(panels[0], "cells along $w_{right}$", "cells along $w_{up}$")
    return figure


def random_pattern_maps(
    mask: object, without: object, with_norm: object, *, part: str = "test", title: str | None = None
) -> Figure:
    """A random mask and the accuracies of the planes fitted to it, without and with BatchNorm: figure 3 of the paper.

    Args:
        mask: (H, W).
        without, with_norm: accuracies, (H, W).

    Raises:
        InvalidArgument: shapes that do not fit.
    """
    picture = as_array("mask", mask, (None, None))
    figure, panels = new_figure(1, 3, size=(12.4, 4.2), title=title, square=True)
    _draw_picture(panels[0], picture, "a. Random mask")
    for axes, name, values, label in (
        (panels[1], "without", without, "b. Without BatchNorm"),
        (panels[2], "with_norm", with_norm, "c. With BatchNorm"),
    ):
        drawn = _draw_map(axes, as_array(name, values, picture.shape), ACCURACY_COLORS, None, label)
        _color_bar(figure, drawn, axes, f"accuracy, {part}", "neither")
    for axes in panels:
        _frame(axes, picture.shape)
    set_labels(panels[0], "cells along $w_{right}$", "cells along $w_{up}$")
    return figure


def filling_curves(fillings: object, accuracies: object, *, part: str = "test", title: str | None = None) -> Figure:
    """How well random masks are found against their filling, with and without BatchNorm: figure 4 of the paper.

    Left, the accuracy of black minus white cells; right, the accuracies themselves. Means over the runs, bars of one
    standard deviation.

    Args:
        fillings: (F,).
        accuracies: (2, F, R, 2): without and with BatchNorm, fillings, runs, black and white cells.

    Raises:
        InvalidArgument: shapes that do not fit.
    """
    x = as_array("fillings", fillings, (None,))
    values = as_array("accuracies", accuracies, (2, len(x), None, 2))
    figure, (left, right) = new_figure(1, 2, size=(12.4, 4.4), title=title)
    styles = (("without BatchNorm", BLUE, "o", -1), ("with BatchNorm", VERMILLION, "s", 1))
    handles: list[Any] = []
    width = 0.12 * float(np.diff(np.sort(x)).min()) if len(x) > 1 else 0.01
    for (label, color, marker, side), each in zip(styles, values, strict=True):
        moved = x + side * width / 2  # bars of both side by side
        _draw_curve(left, moved, each[..., 0] - each[..., 1], color, marker, "-")
        for colour, (_, line) in enumerate(_LINES):
            _draw_curve(right, moved, each[..., colour], color, marker, line)
        handles.append(Line2D([], [], color=color, marker=marker, label=label))
    handles += [Line2D([], [], color="0.3", linestyle=line, label=f"{name} cells") for name, line in _LINES]
    handles += [remark(f"{values.shape[2]} runs, bars: ± 1 sd")]
    left.axhline(0.0, color="0.4", linewidth=0.8, zorder=1)
    set_labels(left, "filling: share of black cells", f"accuracy of black − white cells, {part}", "a. Difference")
    set_labels(right, "filling: share of black cells", f"mean accuracy, {part}", "b. Accuracies")
    for axes in (left, right):
        axes.set_xlim(0, 1)
    right.set_ylim(0, 1)
    beside_legend(right, handles)
    return figure


_LINES: tuple[tuple[str, _Line], ...] = (("black", "-"), ("white", ":"))


def _draw_curve(axes: Axes, x: np.ndarray, runs: np.ndarray, color: str, marker: str, line: _Line) -> None:
    """Mean and standard deviation over the runs, (F, R); fillings without a cell of the colour are left out."""
    some = np.isfinite(runs).any(axis=1)
    mean = np.nanmean(runs[some], axis=1)
    spread = np.array(
        [np.std(row[np.isfinite(row)], ddof=1) if np.isfinite(row).sum() > 1 else 0.0 for row in runs[some]]
    )
    axes.errorbar(
        x[some], mean, spread, color=color, marker=marker, linestyle=line, markersize=5, capsize=2.5, elinewidth=1.2
    )


def _map(maps: Mapping[str, object], name: str, shape: tuple[int, ...]) -> np.ndarray:
    require(name in maps, f"maps must hold {name!r}, it has {', '.join(maps)}")
    values = as_array(name, maps[name], (None, None))
    margins = {n - m for n, m in zip(values.shape, shape, strict=True)}
    fits = len(margins) == 1 and min(margins) >= 0 and min(margins) % 2 == 0
    require(fits, f"{name} must have shape {shape}, or a margin on all sides, got {values.shape}")
    return values


def _loss_norm(losses: list[np.ndarray]) -> Normalize:
    values = np.concatenate([each[np.isfinite(each) & (each > 0)] for each in losses])
    if not values.size:
        return Normalize(0, 1)
    # far outside of the picture a loss may be enormous
    high = float(np.quantile(values, 0.98))
    return LogNorm(max(float(np.quantile(values, 0.02)), _LOSS_RANGE * high), high)


def _extent(shape: tuple[int, ...]) -> tuple[float, float, float, float]:
    """Cells are counted from the middle of the picture, and w_up points up."""
    return (-shape[1] / 2, shape[1] / 2, -shape[0] / 2, shape[0] / 2)


def _draw_picture(axes: Axes, picture: np.ndarray, label: str) -> None:
    axes.imshow(1 - picture, cmap="gray", vmin=0, vmax=1, extent=_extent(picture.shape), interpolation="nearest")
    set_labels(axes, title=label)


def _draw_trained(axes: Axes, picture: np.ndarray, trained: np.ndarray) -> None:
    """Trained cells in black and white, or their grey, on a colour of their own."""
    skipped = ListedColormap(["#8FB8DE"])
    axes.imshow(1 - picture, cmap="gray", vmin=0, vmax=1, extent=_extent(picture.shape), interpolation="nearest")
    hidden = np.ma.masked_where(trained, np.zeros(picture.shape))
    norm = BoundaryNorm([-0.5, 0.5], 1)
    axes.imshow(hidden, cmap=skipped, norm=norm, extent=_extent(picture.shape), interpolation="nearest")
    set_labels(axes, title="Trained cells")
    handle = Patch(color="#8FB8DE", label=f"skipped: {int((~trained).sum())} of {trained.size}")
    axes.legend(handles=[handle], loc="upper center", bbox_to_anchor=(0.5, -0.1), fontsize=TICK_SIZE, frameon=False)


def _draw_map(axes: Axes, values: np.ndarray, colors: str, norm: Normalize | None, label: str):
    norm = norm or Normalize(0, 1)
    shown = np.ma.masked_invalid(values)
    drawn = axes.imshow(shown, cmap=colors, norm=norm, extent=_extent(values.shape), interpolation="nearest")
    set_labels(axes, title=label)
    return drawn


def _color_bar(figure: Figure, drawn: Any, axes: Axes, label: str, extend: str) -> None:
    bar = figure.colorbar(drawn, ax=axes, shrink=0.8, extend=extend)
    bar.set_label(label, fontsize=LABEL_SIZE)
    if isinstance(drawn.norm, LogNorm):
        bar.ax.yaxis.set_minor_formatter(LogFormatter())  # 2, 3, 5 where there is less than a decade
    bar.ax.tick_params(which="both", labelsize=TICK_SIZE)


def _frame(axes: Axes, shape: tuple[int, ...]) -> None:
    axes.grid(False)
    axes.spines[["top", "right"]].set_visible(True)
