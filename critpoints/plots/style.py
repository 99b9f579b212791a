"""What all figures share: the colour and marker of each kind, fonts, frames and legends."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from critpoints.errors import InvalidArgument
from critpoints.verdict import Kind

# The palette of Okabe and Ito (2008), distinguishable under the common colour-vision deficiencies.
BLACK, ORANGE, SKY_BLUE, GREEN = "#000000", "#E69F00", "#56B4E9", "#009E73"
YELLOW, BLUE, VERMILLION, PURPLE = "#F0E442", "#0072B2", "#D55E00", "#CC79A7"
GREY, DARK_GREY = "#7F7F7F", "#595959"  # the darker one differs from GREEN for every eye
POSITIVE, NEGATIVE = BLUE, VERMILLION

LABEL_SIZE, TICK_SIZE, LEGEND_SIZE, TITLE_SIZE = 11, 9.5, 9.5, 12


@dataclass(frozen=True)
class KindStyle:
    """How a kind of point is drawn, in every figure."""

    color: str
    marker: str
    label: str


KIND_STYLES: dict[Kind, KindStyle] = {
    Kind.GLOBAL_MINIMUM: KindStyle(GREEN, "o", "global minimum"),
    Kind.STRICT_MINIMUM: KindStyle(BLUE, "s", "strict minimum"),
    Kind.DEGENERATE_MINIMUM: KindStyle(SKY_BLUE, "D", "degenerate minimum"),
    Kind.STRICT_SADDLE: KindStyle(VERMILLION, "^", "strict saddle"),
    Kind.DEGENERATE_SADDLE: KindStyle(ORANGE, "v", "degenerate saddle"),
    Kind.STRICT_MAXIMUM: KindStyle(BLACK, "P", "strict maximum"),
    Kind.CHANNEL: KindStyle(PURPLE, ">", "channel to infinity"),
    Kind.GRADIENT_FLAT: KindStyle(YELLOW, "X", "gradient-flat"),
    Kind.UNDECIDED: KindStyle(DARK_GREY, "d", "undecided"),
}


def as_kinds(kinds: Iterable[str]) -> list[Kind]:
    """Kinds from kinds or their names.

    Raises:
        InvalidArgument: a name that is no kind.
    """
    names = [str(kind) for kind in kinds]
    unknown = sorted(set(names) - {kind.value for kind in Kind})
    if unknown:
        raise InvalidArgument(f"kinds must be from {', '.join(Kind)}; got {', '.join(map(repr, unknown))}")
    return [Kind(name) for name in names]


def new_figure(
    n_rows: int = 1,
    n_columns: int = 1,
    *,
    size: tuple[float, float],
    title: str | None = None,
    sharex: bool = False,
    sharey: bool = False,
    ratios: Sequence[float] | None = None,
    square: bool = False,
) -> tuple[Figure, list[Axes]]:
    """An empty figure and its axes, row by row; ``ratios`` are the heights of the rows, ``square`` fixes the aspect."""
    figure = Figure(figsize=size, layout="compressed" if square else "constrained", facecolor="white")
    grid = figure.subplots(
        n_rows, n_columns, sharex=sharex, sharey=sharey, squeeze=False, gridspec_kw={"height_ratios": ratios}
    )
    every = list(np.ravel(grid))
    for axes in every:
        axes.tick_params(labelsize=TICK_SIZE)
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(True, color="0.9", linewidth=0.6)
        axes.set_axisbelow(True)
        if square:
            axes.set_box_aspect(1)
    if title is not None:
        figure.suptitle(title, fontsize=TITLE_SIZE)
    return figure, every


def set_labels(axes: Axes, x: str | None = None, y: str | None = None, title: str | None = None) -> None:
    """Labels in the sizes of all figures."""
    if x is not None:
        axes.set_xlabel(x, fontsize=LABEL_SIZE)
    if y is not None:
        axes.set_ylabel(y, fontsize=LABEL_SIZE)
    if title is not None:
        axes.set_title(title, fontsize=LABEL_SIZE, loc="left")


def remark(text: str) -> Line2D:
    """A legend entry that is text alone."""
    return Line2D([], [], linestyle="none", label=text)


def omitted(count: int, what: str = "points") -> list[Line2D]:
    """The legend entry that owns up to values left out; none for none."""
    if not count:
        return []
    noun = what.removesuffix("s") if count == 1 else what
    return [remark(f"not finite, left out: {count} {noun}")]


def draw_noise_band(axes: Axes, floors: np.ndarray) -> list[Artist]:
    """Shades the noise floor of eigenvalues: to the median over the points (dark) and to the largest (light)."""
    if not floors.size or not floors.max() > 0:
        return []
    halves = {float(floors.max()), float(np.median(floors))}
    for half in halves:
        axes.axhspan(-half, half, color="0.5", alpha=0.16, linewidth=0, zorder=0)
    label = "noise floor" + (" (median, largest)" if len(halves) > 1 else "")
    return [Patch(color="0.5", alpha=0.3, linewidth=0, label=label)]


def outside_legend(figure: Figure, handles: Sequence[Artist]) -> None:
    """A legend to the right of all axes."""
    if handles:
        # matplotlib's own annotations leave the "outside" places of a figure's legend out
        figure.legend(handles=list(handles), loc="outside right upper", fontsize=LEGEND_SIZE, frameon=False)  # pyright: ignore


def beside_legend(axes: Axes, handles: Sequence[Artist]) -> None:
    """A legend to the right of one panel."""
    if handles:
        axes.legend(
            handles=list(handles),
            loc="upper left",
            bbox_to_anchor=(1.01, 1.0),
            borderaxespad=0.0,
            fontsize=LEGEND_SIZE,
            frameon=False,
        )
