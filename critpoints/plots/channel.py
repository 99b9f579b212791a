"""The profile of a channel to infinity against the laws for a pair of diverging neurons."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from critpoints.errors import require
from critpoints.plots.scales import as_array, log_positions, set_log
from critpoints.plots.style import BLACK, BLUE, VERMILLION, beside_legend, new_figure, omitted, remark, set_labels


def channel_profile(
    distance: object,
    loss: object,
    eigenvalues: object,
    *,
    limit_loss: float,
    c: float,
    title: str | None = None,
) -> Figure:
    """Loss above its limit and lowest eigenvalue against d = |a_i - a_j|, with the laws C/d^2 and 12 C/d^4 dashed.

    The axes are logarithmic; magnitudes are drawn, negative values hollow.

    Args:
        distance: (n,), d of each point.
        loss: (n,).
        eigenvalues: (n,) the lowest eigenvalue of each point, or (n, K) several, of which the lowest is drawn.
        limit_loss: the loss of the limit network.
        c: the constant C of the laws; negative where descent leaves the end of the channel.

    Raises:
        InvalidArgument: shapes that do not fit, or constants that are not finite.
    """
    d = as_array("distance", distance, (None,))
    excess = as_array("loss", loss, d.shape) - float(limit_loss)
    spectrum = as_array("eigenvalues", eigenvalues)
    require(
        spectrum.ndim in (1, 2) and spectrum.shape[0] == len(d) and spectrum.size >= len(d),
        f"eigenvalues must be ({len(d)},) or ({len(d)}, K), got {spectrum.shape}",
    )
    lowest = spectrum.reshape(len(d), -1).min(axis=1) if len(d) else np.zeros(0)
    require(bool(np.isfinite([limit_loss, c]).all()), f"limit_loss and c must be finite, got {limit_loss} and {c}")

    figure, (upper, lower) = new_figure(2, 1, size=(7.8, 6.6), title=title, sharex=True)
    set_log(lower, "x", log_positions(d[np.isfinite(d) & (d > 0)]))
    _draw(upper, d, excess, _Law("$L - L_\\infty$", "$C / d^2$", c, 2), color=BLUE, marker="s")
    _draw(lower, d, lowest, _Law("$\\lambda_{\\min}$", "$12\\,C / d^4$", 12 * c, 4), color=VERMILLION, marker="o")
    set_labels(upper, y="$|L - L_\\infty|$")
    set_labels(lower, "distance of the output weights, $d = |a_i - a_j|$", "$|\\lambda_{\\min}|$")
    figure.align_ylabels([upper, lower])
    return figure


@dataclass(frozen=True)
class _Law:
    """A quantity that should be factor / d^power."""

    quantity: str
    formula: str
    factor: float
    power: int


def _draw(axes: Axes, d: np.ndarray, values: np.ndarray, law: _Law, *, color: str, marker: str) -> None:
    """One quantity with its law, on logarithmic axes, and a legend beside the panel."""
    finite = np.isfinite(d) & np.isfinite(values)
    drawn = finite & (d > 0) & (values != 0)
    handles: list[Artist] = []
    set_log(axes, "y", log_positions(np.abs(values[drawn])))
    for positive in (True, False):
        rows = drawn & ((values > 0) == positive)
        if rows.any():
            style = {"color": color, "marker": marker, "linestyle": "none", "markersize": 5.5}
            style["markerfacecolor"] = color if positive else "none"
            label = law.quantity if positive else f"{law.quantity}, negative"
            handles += axes.plot(d[rows], np.abs(values[rows]), label=label, zorder=3, **style)
    if law.factor != 0 and drawn.any():
        ends = np.array([d[drawn].min(), d[drawn].max()])
        label = law.formula if law.factor > 0 else f"{law.formula}, $C < 0$"
        predicted = abs(law.factor) / ends**law.power
        handles += axes.plot(ends, predicted, color=BLACK, linestyle="--", linewidth=1.5, label=label)
    zeros = int((finite & ~drawn).sum())
    if zeros:
        handles.append(remark(f"zero, left out: {zeros}"))
    beside_legend(axes, [*handles, *omitted(int((~finite).sum()))])
