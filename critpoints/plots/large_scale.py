"""The large-scale structure of loss landscapes: every experiment on every subject side by side, as one page."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure

from critpoints.errors import require
from critpoints.plots.style import (
    BLACK,
    BLUE,
    GREEN,
    GREY,
    LABEL_SIZE,
    ORANGE,
    PURPLE,
    SKY_BLUE,
    VERMILLION,
    new_figure,
    set_labels,
)

Arrays = Mapping[str, np.ndarray]
Results = Mapping[str, Mapping[str, Arrays]]  # by subject, then by experiment

CYCLE = (BLACK, BLUE, ORANGE, GREEN, VERMILLION, PURPLE, SKY_BLUE)  # for m = 1, 2, ..
SMALL = 8.5  # points, of what stands inside a panel


@dataclass(frozen=True)
class Panel:
    """One experiment's panel.

    Attributes:
        experiment: whose arrays it draws.
        title: what it shows.
        draw: onto axes from arrays.
        square: whether both axes are lengths of the same space.
    """

    experiment: str
    title: str
    draw: Callable[[Axes, Arrays], None]
    square: bool = False


def large_scale_page(results: Results, *, title: str | None = None) -> Figure:
    """All panels, those of one kind for all subjects beside each other, two kinds a row.

    Args:
        results: arrays by subject and experiment; a panel whose experiment a subject lacks stays empty.

    Raises:
        InvalidArgument: nothing to draw.
    """
    known = {name for each in results.values() for name in each}
    panels = [panel for panel in PANELS if panel.experiment in known]
    require(bool(panels), "results must hold at least one experiment to draw")
    across = 2 if len(panels) > 1 else 1
    rows, columns = -(-len(panels) // across), across * len(results)
    figure, axes = new_figure(rows, columns, size=(max(4.4 * columns, 6.0), 3.4 * rows), title=title)
    for axis in axes:
        axis.set_visible(False)
    for number, panel in enumerate(panels):
        for place, (subject, found) in enumerate(results.items()):
            axis = axes[number * len(results) + place]
            axis.set_visible(True)
            axis.set_title(f"{panel.title}\n{subject}", fontsize=LABEL_SIZE, loc="left")
            if panel.experiment in found:
                panel.draw(axis, found[panel.experiment])
            else:
                axis.text(0.5, 0.5, "not measured", ha="center", va="center", transform=axis.transAxes)
            if panel.square:
                axis.set_aspect("equal")
                axis.grid(False)
    return figure


def _legend(axes: Axes, **options) -> None:
    axes.legend(fontsize=SMALL, frameon=False, **options)


def draw_paths(axes: Axes, arrays: Arrays) -> None:
    """Losses along straight lines; each faint, their mean strong."""
    kinds = (("to_optimum", BLUE, "initial point to its optimum"), ("between", VERMILLION, "optimum to optimum"))
    for name, color, label in kinds:
        losses = arrays[name]
        t = np.linspace(0, 1, losses.shape[1])
        axes.plot(t, losses.T, color=color, alpha=0.25, linewidth=0.8)
        axes.plot(t, losses.mean(0), color=color, linewidth=2.2, label=f"{label} (mean of {len(losses)})")
    axes.set_ylim(0, 1.3 * max(float(arrays[name].max()) for name, *_ in kinds))
    set_labels(axes, "position on the straight line", "training loss")
    _legend(axes, loc="upper right")


def draw_subspaces(axes: Axes, arrays: Arrays) -> None:
    """The loss reached against the dimension of the section; the exact distance where it is known."""
    dims, losses = arrays["dims"], arrays["losses"]
    floor = 1e-6
    axes.plot(dims, np.maximum(losses, floor), "o", color=BLUE, markersize=3, alpha=0.5)
    axes.plot(dims, np.maximum(np.median(losses, 1), floor), color=BLUE, label=f"loss by Adam, {losses.shape[1]} seeds")
    axes.axhline(
        float(arrays["low"]), color=GREY, linewidth=0.8, linestyle=":", label=f"loss {float(arrays['low']):.2g}"
    )
    if "exact_dims" in arrays:
        distance = np.maximum(arrays["exact_distances"], floor)
        axes.plot(arrays["exact_dims"], distance.max(1), "x--", color=GREEN, label="exact distance to a wedge")
    axes.set_xscale("log")
    axes.set_yscale("log")
    lowest = min(float(losses.min()), float(np.min(arrays.get("exact_distances", 1.0))))
    note = f" (at least {floor:g})" if lowest < floor else ""
    set_labels(axes, "dimension d of the random section", f"loss, distance{note}")
    low, high = axes.get_ylim()
    axes.set_ylim(low * (low / high) ** 0.3)  # below the values, for the legend
    _legend(axes, loc="lower left")


def _plane(name: str) -> Callable[[Axes, Arrays], None]:
    def draw(axes: Axes, arrays: Arrays) -> None:
        x, y, losses, marks = (arrays[f"{name}_{key}"] for key in ("x", "y", "losses", "marks"))
        _draw_map(axes, axes.pcolormesh(x, y, _positive(losses), norm=_norm(losses), cmap="cividis", shading="nearest"))
        axes.contour(x, y, np.log10(_positive(losses)), levels=6, colors="white", linewidths=0.5)
        if name == "radial":
            axes.plot(*marks[0], "+", color=VERMILLION, markersize=9, markeredgewidth=2)
        points = marks[1:2] if name == "radial" else marks
        axes.plot(*points.T, "o", color=VERMILLION, markeredgecolor="white", markersize=7)
        set_labels(axes, "distance in parameter space", "distance")

    return draw


def _positive(losses: np.ndarray) -> np.ndarray:
    """Losses for a logarithmic scale of four decades."""
    top = float(np.nanmax(losses))
    return np.clip(losses, (top or 1.0) * 1e-4, None)


def _norm(losses: np.ndarray) -> LogNorm:
    clipped = _positive(losses)
    return LogNorm(float(clipped.min()), max(float(clipped.max()), float(clipped.min()) * 1.01))


def _draw_map(axes: Axes, mappable) -> None:
    figure = axes.figure
    bar = figure.colorbar(mappable, ax=axes, shrink=0.85, pad=0.02)
    bar.set_label("training loss", fontsize=SMALL)
    bar.ax.tick_params(labelsize=SMALL)


def draw_widths(axes: Axes, arrays: Arrays) -> None:
    """Mean and standard deviation over seeds of the tunnel's angle, for each value of each knob."""
    position, ticks, labels = 0.0, [], []
    knobs = [name.removesuffix("/values") for name in arrays if name.endswith("/values")]
    for color, knob in zip(CYCLE[1:], knobs, strict=False):
        values, angles = arrays[f"{knob}/values"], arrays[f"{knob}/angles"]
        places = position + np.arange(len(values))
        with np.errstate(all="ignore"):
            mean = np.array([np.nanmean(row) if np.isfinite(row).any() else np.nan for row in angles])
            deviation = np.array([np.nanstd(row, ddof=1) if np.isfinite(row).sum() > 1 else 0.0 for row in angles])
        axes.errorbar(places, mean, deviation, color=color, marker="o", capsize=3, linewidth=1.2, label=knob)
        ticks += places.tolist()
        labels += [f"{value:g}" for value in values]
        position = places[-1] + 1.6
    axes.set_xticks(ticks, labels, rotation=60, fontsize=SMALL)
    axes.grid(False, axis="x")
    axes.margins(y=0.35)
    set_labels(axes, f"value of the knob (training loss {float(arrays['low']):g})", "angle, degrees")
    _legend(axes, loc="upper center", ncols=2)


def draw_tunnels(axes: Axes, arrays: Arrays) -> None:
    """The worst loss on the fitted sheet and on the flat simplex, against m."""
    m = arrays["m"]
    axes.plot(m, arrays["flat_worst"], "s--", color=VERMILLION, label="flat simplex, worst loss")
    axes.plot(m, arrays["flat_barrier"] / 4, ":", color=GREY, label="a quarter of its barrier")
    axes.plot(m, arrays["worst"], "o-", color=BLUE, label="sheet: spokes, edges, interior, worst")
    mean = [float(arrays[f"interior_losses-{each}"].mean()) for each in m]
    axes.plot(m, np.maximum(mean, 1e-6), "^-", color=SKY_BLUE, label="sheet: interior, mean")
    axes.set_yscale("log")
    axes.set_xticks(m)
    low, high = axes.get_ylim()
    axes.set_ylim(low, high * (high / low) ** 0.5)
    set_labels(axes, "optima joined, m", "training loss")
    _legend(axes, loc="upper left")


def draw_triangle(axes: Axes, arrays: Arrays) -> None:
    """Losses over the flat triangle (left) and over the fitted sheet (right), in barycentric coordinates."""
    corners = np.array([[0.0, 0.0], [1.0, 0.0], [0.5, 0.75**0.5]])
    places = arrays["triangle"] @ corners
    flat, sheet = _positive(arrays["triangle_flat_losses"]), arrays["triangle_losses"]
    sheet = np.maximum(sheet, flat.min())
    norm = _norm(np.concatenate([flat, sheet]))
    for shift, losses, label in ((0.0, flat, "flat"), (1.15, sheet, "sheet")):
        mappable = axes.tripcolor(
            places[:, 0] + shift, places[:, 1], losses, norm=norm, cmap="cividis", shading="gouraud"
        )
        axes.plot(corners[:, 0] + shift, corners[:, 1], "o", color=VERMILLION, markeredgecolor="white", markersize=7)
        axes.text(0.5 + shift, -0.14, label, ha="center", fontsize=SMALL)
    _draw_map(axes, mappable)  # pyright: ignore[reportPossiblyUnboundVariable]
    axes.set_axis_off()
    axes.set_ylim(-0.2, 0.95)


def draw_short_directions(axes: Axes, arrays: Arrays) -> None:
    """On the model the short directions of m wedges and of sheets' centres; elsewhere eigenvalues above cuts."""
    if "ranks" in arrays:
        m, short = arrays["rank_m"], int(arrays["short"])
        axes.plot(m, m * short, "-", color=GREY, label=f"m s, s = {short}")
        axes.plot(m, arrays["ranks"], "o", color=BLUE, label="rank of the short axes of m wedges")
        directions = arrays["centre_wedges"] * short
        axes.plot(arrays["m"], directions, "x", color=VERMILLION, markersize=9, label="at the centre of a sheet")
        axes.set_ylim(0, 1.5 * float(arrays["ranks"].max()))
        set_labels(axes, "wedges, m", "short directions")
    else:
        for number in np.unique(arrays["curvature_m"]):
            rows = arrays["eigenvalues"][arrays["curvature_m"] == number]
            traces = arrays["traces"][arrays["curvature_m"] == number]
            what = f"m = {number}, trace {traces.mean():.2g}"
            what += f" ± {traces.std(ddof=1):.1g} ({len(rows)} optima)" if len(rows) > 1 else ""
            values = rows.mean(0)
            color = CYCLE[(int(number) - 1) % len(CYCLE)]
            axes.step(values, np.arange(1, len(values) + 1), where="post", color=color, label=what)
        axes.axvline(float(arrays["short_cut"]), color=GREY, linewidth=0.8, linestyle=":")
        _say_growth(axes, bool(arrays["short_grow"]), float(arrays["short_cut"]))
        axes.set_xscale("log")
        axes.set_xlim(left=0.5 * float(arrays["short_cut"]))
        axes.set_ylim(0, 1.5 * arrays["short_counts"].max())
        matched = float(np.mean(arrays["curvature_losses"]))
        set_labels(axes, f"cut (training loss {matched:.2g} at all points)", "eigenvalues above the cut")
    _legend(axes, loc="upper left" if "ranks" in arrays else "upper right")


def _say_growth(axes: Axes, grow: bool, cut: float) -> None:
    words = "they grow with m" if grow else "not reproduced:\nthey do not grow with m"
    axes.text(0.97, 0.28, f"above {cut:.1g} (dotted),\n{words}", ha="right", transform=axes.transAxes, fontsize=SMALL)


def draw_ensembles(axes: Axes, arrays: Arrays) -> None:
    """Losses of the members, of the mean of weights and of the mean of predictions, with the deviation over seeds."""
    bound = str(arrays["form"]) == "bound"
    kinds = (
        ("member", "one member", GREY),
        ("swa", "mean of weights (SWA)", VERMILLION),
        ("fge", "mean of losses (bound of FGE)" if bound else "mean of predictions (FGE)", BLUE),
    )
    for place, (kind, label, color) in enumerate(kinds):
        heights = [arrays[f"{where}_{kind}_losses"] for where in ("within", "across")]
        for group, values in enumerate(heights):
            x = group + 0.25 * (place - 1)
            height = max(float(values.mean()), 1e-4)
            axes.bar(x, height, 0.22, color=color, label=label if group == 0 else None)
            axes.errorbar(x, height, values.std(ddof=1), color=BLACK, capsize=3, linewidth=1)
            name = f"{('within', 'across')[group]}_{kind}_accuracies"
            text = f"{100 * float(arrays[name].mean()):.0f} %" if name in arrays else f"{values.mean():.1g}"
            axes.text(x, height + values.std(ddof=1), text, ha="center", va="bottom", fontsize=SMALL)
    axes.set_yscale("log")
    low, high = axes.get_ylim()
    axes.set_ylim(low, high * (high / low) ** 0.5)
    axes.set_xticks((0, 1), ("within one wedge\n(cyclic learning rate)", "across initialisations"))
    axes.grid(False, axis="x")
    set_labels(axes, y="held-out loss" if "within_member_accuracies" in arrays else "loss")
    _legend(axes, loc="upper left")


def draw_radius(axes: Axes, arrays: Arrays) -> None:
    """Trace over Frobenius norm against the radius, and the radius of initialisation."""
    radii, positivity = arrays["radii"], arrays["positivity"]
    axes.plot(radii, positivity, "o", color=BLUE, markersize=3, alpha=0.5)
    axes.plot(radii, positivity.mean(1), color=BLUE, label=f"trace / Frobenius norm, {positivity.shape[1]} rays")
    axes.axvline(
        float(arrays["ray_radii"].mean()), color=GREY, linestyle="--", ymax=0.75, label="radius of initialisation"
    )
    axes.set_xscale("log")
    axes.set_xticks(radii[::2], [f"{radius:g}" for radius in radii[::2]])
    axes.set_xticks([], minor=True)
    axes.set_ylim(0, 1.45 * float(positivity.max()))
    set_labels(axes, "distance from the origin", "positivity of the Hessian")
    _legend(axes, loc="upper left")


PANELS = (
    Panel("paths", "Straight lines", draw_paths),
    Panel("subspaces", "Optimisation in random sections", draw_subspaces),
    Panel("planes", "Origin, optimum and a random direction", _plane("radial"), square=True),
    Panel("planes", "The plane through three optima", _plane("through"), square=True),
    Panel("widths", "Width of the tunnel, mean ± s.d. over seeds", draw_widths),
    Panel("tunnels", "Sheets through m optima", draw_tunnels),
    Panel("tunnels", "The sheet through three optima", draw_triangle, square=True),
    Panel("tunnels", "Short directions", draw_short_directions),
    Panel("ensembles", "Averages of weights and of predictions", draw_ensembles),
    Panel("radius", "Curvature against the radius", draw_radius),
)
