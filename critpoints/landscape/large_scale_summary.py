"""What the experiments on the large-scale structure found, line by line: measured, and whether a claim holds."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from critpoints.landscape.interpolation import barrier, max_rise

Arrays = Mapping[str, np.ndarray]
MOVED = 2.0  # standard deviations between the ends of a knob's range, from which on it moves the width
QUARTER = 0.25  # of the flat barrier, below which a sheet counts as a tunnel
EXACT = 1e-8  # distance below which a section meets a wedge


@dataclass(frozen=True)
class Finding:
    """One line of a summary.

    Attributes:
        experiment: where it comes from.
        what: the quantity.
        measured: its value, in words.
        holds: whether the claim that belongs to it does; None where nothing is claimed.
    """

    experiment: str
    what: str
    measured: str
    holds: bool | None = None

    def to_dict(self) -> dict[str, Any]:
        """A JSON-ready dictionary."""
        return dict(self.__dict__)


def summarise(experiment: str, arrays: Arrays) -> list[Finding]:
    """The findings of one experiment on one subject."""
    return [Finding(experiment, *each) for each in _SUMMARIES[experiment](arrays)]


def _spread(values: np.ndarray) -> str:
    """Mean and standard deviation."""
    values = values[np.isfinite(values)]
    deviation = f" ± {values.std(ddof=1):.2g}" if len(values) > 1 else ""
    return f"{values.mean():.3g}{deviation}" if len(values) else "the loss was not reached"


def _paths(arrays: Arrays) -> Iterator[tuple]:
    down, between = arrays["to_optimum"], arrays["between"]
    rise, wall = max_rise(down) / (down[:, 0] - down[:, -1]), barrier(between)
    yield "largest rise from start to optimum, part of the fall", _spread(rise), bool(rise.max() < 0.01)
    share = wall / down[:, 0].mean()
    yield "barrier between optima", f"{_spread(wall)}, {share.mean():.0%} of the initial loss", bool(share.min() > 0.1)


def _subspaces(arrays: Arrays) -> Iterator[tuple]:
    dims, losses = arrays["dims"], arrays["losses"]
    for d, row in ((dims[0], losses[0]), (dims[-1], losses[-1])):
        yield f"loss in random sections of d = {d}", _spread(row)
    threshold = int(arrays["threshold"])
    yield f"smallest d with loss {float(arrays['low']):.2g} by Adam", str(threshold) if threshold else "none"
    if "exact_dims" in arrays:
        distances, short = arrays["exact_distances"], len(arrays["exact_dims"]) // 2
        met = arrays["exact_dims"][(distances < EXACT).all(1)]
        none_before = bool((distances[: short - 1] > 1e-3).all())
        first = int(met[0]) if len(met) else 0
        yield f"smallest d that meets a wedge by least squares, s = {short}", str(first), first == short and none_before


def _planes(arrays: Arrays) -> Iterator[tuple]:
    for name in ("radial", "through"):
        losses = arrays[f"{name}_losses"]
        yield f"losses in the plane ({name})", f"{losses.min():.2g} to {losses.max():.2g}"


def _widths(arrays: Arrays) -> Iterator[tuple]:
    for knob in (name.removesuffix("/values") for name in arrays if name.endswith("/values")):
        values, angles = arrays[f"{knob}/values"], arrays[f"{knob}/angles"]
        cells = [f"{value:g}: {_spread(row)}" for value, row in zip(values, angles, strict=True)]
        rows = [kept for row in angles if len(kept := row[np.isfinite(row)]) >= 2]
        if len(rows) < 2:
            yield f"angle in degrees by {knob}", "; ".join(cells)
            continue
        low, high = rows[0], rows[-1]
        pooled = math.sqrt(0.5 * (low.var(ddof=1) + high.var(ddof=1)))
        moved = (high.mean() - low.mean()) / pooled
        verdict = "moved" if abs(moved) >= MOVED else "not moved"
        yield f"angle in degrees by {knob}", f"{'; '.join(cells)}: {verdict}, {moved:+.1f} s.d."


def _tunnels(arrays: Arrays) -> Iterator[tuple]:
    for m, worst, flat in zip(arrays["m"], arrays["worst"], arrays["flat_barrier"], strict=True):
        measured = f"{worst:.3g}, flat barrier {flat:.3g}"
        yield f"worst loss on the sheet, m = {m}", measured, bool(worst < QUARTER * flat)
    if "ranks" in arrays:
        expected = arrays["rank_m"] * arrays["short"]
        yield (
            "rank of the short axes of m wedges",
            str(arrays["ranks"].tolist()),
            bool((arrays["ranks"] == expected).all()),
        )
        directions = arrays["centre_wedges"] * arrays["short"]
        yield "short directions at the sheets' centres", _by_m(arrays["m"], directions)
    if "traces" in arrays:
        m, counts = arrays["curvature_m"], arrays["short_counts"]
        cells = [f"{each}: {_spread(counts[m == each].astype(float))}" for each in np.unique(m)]
        cut, loss = float(arrays["short_cut"]), float(np.mean(arrays["curvature_losses"]))
        what = f"eigenvalues above {cut:.2g} grow with m, at a loss of {loss:.2g}"
        yield what, "; ".join(cells), bool(arrays["short_grow"])
        found = zip(arrays["m"], arrays["centre_counts"], arrays["centre_losses"], strict=True)
        cells = [f"{each}: {count} (loss {loss:.2g})" for each, count, loss in found]
        yield "the same at the sheets' centres as found", "; ".join(cells)
        numbers = np.unique(arrays["curvature_m"])
        traces = [f"{m}: {_spread(arrays['traces'][arrays['curvature_m'] == m])}" for m in numbers]
        yield "trace of the Hessian by m, at matched loss", "; ".join(traces)


def _by_m(m: np.ndarray, values: np.ndarray) -> str:
    return "; ".join(f"{each}: {value}" for each, value in zip(m, values, strict=True))


def _ensembles(arrays: Arrays) -> Iterator[tuple]:
    loss = {
        (where, kind): arrays[f"{where}_{kind}_losses"]
        for where in ("within", "across")
        for kind in ("member", "swa", "fge")
    }
    for where, words in (("within", "within one wedge"), ("across", "across initialisations")):
        cells = []
        for kind in ("member", "swa", "fge"):
            name = f"{where}_{kind}_accuracies"
            accuracy = f" ({100 * arrays[name].mean():.1f} %)" if name in arrays else ""
            cells.append(f"{kind.upper() if kind != 'member' else kind} {_spread(loss[where, kind])}{accuracy}")
        swa, fge = loss[where, "swa"].mean(), loss[where, "fge"].mean()
        # on a thick wedge both may vanish, and a mean of weights may be better than the bound
        holds = swa <= max(1.1 * fge, 1e-3) if where == "within" else swa > 10 * fge
        yield f"loss {words}", ", ".join(cells), bool(holds)


def _radius(arrays: Arrays) -> Iterator[tuple]:
    positivity = arrays["positivity"].mean(1)
    top = float(arrays["radii"][int(positivity.argmax())])
    start = float(arrays["ray_radii"].mean())
    ends = f"trace over norm from {positivity.min():.3g} to {positivity.max():.3g}"
    yield "radius of the most positive curvature", f"{top:g} (initialisation at {start:.3g}); {ends}"


_SUMMARIES = {
    "paths": _paths,
    "subspaces": _subspaces,
    "planes": _planes,
    "widths": _widths,
    "tunnels": _tunnels,
    "ensembles": _ensembles,
    "radius": _radius,
}
