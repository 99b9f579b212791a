"""The points of a study as the page's plot reads them: arrays in base64, places on the axes computed here."""

from __future__ import annotations

import base64
import math
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from critpoints.plots.scales import LogPositions, linear_width, log_positions, log_ticks, symlog
from critpoints.plots.spectrum import ZERO_LOSS, spread_rail
from critpoints.report.contents import Contents, WidthContents
from critpoints.study.attached import CERTIFICATE, TIE
from critpoints.study.records import Row
from critpoints.verdict import Kind

# Numbers of all spectra together that a page carries (4 bytes each); beyond, of each spectrum the lowest ones alone.
MAX_SPECTRA = 4_000_000
# Points up to which each carries its verdict's reason; beyond, the undecided alone.
MAX_REASONS = 10_000
MAX_TICKS = 8
KINDS = list(Kind)


def points_document(contents: Contents) -> dict[str, Any]:
    """Everything that the plot of loss against smallest eigenvalue and its details need, ready for JSON.

    Arrays are little-endian bytes in base64: int64 for seeds, float64 for losses and gradients, float32 for places,
    noise floors and spectra (7 digits, more than is printed). Places on the axes run from 0 to 1, NaN where a point
    has none.
    """
    points = [point for each in contents.widths for point in each.points]
    loss, smallest, floor, gradient = (
        np.array([point[name] for point in points], dtype=np.float64)
        for name in ("loss", "smallest_eigenvalue", "noise_floor", "gradient_norm")
    )
    finite = np.isfinite(loss) & np.isfinite(smallest)
    log = log_positions(np.where(finite, loss, np.nan), zero_below=ZERO_LOSS)
    x = _unit(np.log10(spread_rail(log, loss)), *np.log10(log.limits))
    floor = np.where(np.isfinite(floor), floor, 0.0)
    threshold = linear_width(smallest[finite], noise_floor=floor)
    heights = symlog(np.where(finite, smallest, np.nan), threshold)
    low, high = _limits(heights[finite], threshold, floor)
    texts = _Texts()
    return {
        "widths": [each.width for each in contents.widths],
        "counts": [len(each.points) for each in contents.widths],
        "kinds": [kind.value for kind in KINDS],
        "kind": _encoded([KINDS.index(Kind(point["kind"])) for point in points], "<u1"),
        "seed": _encoded([point["seed"] for point in points], "<i8"),
        "x": _encoded(x, "<f4"),
        "y": _encoded(_unit(heights, low, high), "<f4"),
        "loss": _encoded(loss, "<f8"),
        "gradient": _encoded(gradient, "<f8"),
        "floor": _encoded(floor, "<f4"),
        "entry": _encoded([entry for each in contents.widths for entry in _entries(each)], "<i4"),
        "index": _encoded([point["index"] for point in points], "<i4"),
        "level": _encoded([-1 if point["level"] is None else point["level"] for point in points], "<i4"),
        "spectra": _spectra(contents.widths, MAX_SPECTRA // max(len(points), 1)),
        "reason": _encoded(_reasons(contents, len(points) <= MAX_REASONS, texts), "<i4"),
        "certificate": _encoded(_certificates(contents.widths, texts), "<i4"),
        "texts": texts.texts,
        "loss_axis": _loss_axis(log),
        "eigenvalue_axis": _eigenvalue_axis(threshold, low, high),
        "band": _unit(symlog(np.array([-1.0, 1.0]) * _median(floor), threshold), low, high).tolist(),
    }


def _encoded(values: Any, dtype: str) -> str:
    return base64.b64encode(np.ascontiguousarray(values, dtype=dtype).tobytes()).decode()


def _unit(values: np.ndarray, low: float, high: float) -> np.ndarray:
    return (values - low) / (high - low)


def _median(floor: np.ndarray) -> float:
    return float(np.median(floor)) if floor.size else 0.0


def _limits(heights: np.ndarray, threshold: float, floor: np.ndarray) -> tuple[float, float]:
    band = float(symlog(np.array(_median(floor)), threshold))
    low, high = min(heights.min(initial=0.0), -band), max(heights.max(initial=0.0), band)
    room = 0.04 * (high - low) + 0.3
    return float(low - room), float(high + room)


def _loss_axis(log: LogPositions) -> dict[str, Any]:
    """Ticks as place, sign and exponent; the rail of losses that count as zero ends at ``rail``."""
    low, high = (math.log10(limit) for limit in log.limits)
    start = math.log10(log.edge)
    room = 0.05 * (high - low) if log.rail is not None else 0.0  # labels must not touch the rail's
    ticks = []
    for tick in log_ticks(10**start, 10**high):
        if start + room <= (size := math.log10(tick)) <= high:
            exponent = math.floor(size + 1e-9)
            ticks.append([(size - low) / (high - low), round(tick / 10.0**exponent), exponent])
    rail = None if log.rail is None else (start - low) / (high - low)
    return {"ticks": ticks, "rail": rail, "zero": math.floor(math.log10(log.zero_below) + 0.5)}


def _eigenvalue_axis(threshold: float, low: float, high: float) -> dict[str, Any]:
    decade = math.log10(threshold) - 1  # of a height of 0 on the logarithmic parts
    ticks: list[list[float]] = [[-low / (high - low), 0, 0]]
    for sign, end in ((1, high), (-1, -low)):
        for k in _decades(max(1.0, 0.12 * (high - low)) + decade, end + decade, high - low):
            ticks.append([(sign * (k - decade) - low) / (high - low), sign, k])
    return {"ticks": ticks}


def _decades(low: float, high: float, span: float) -> list[int]:
    """Exponents from ``low`` to ``high``, few enough to read on an axis of ``span`` decades."""
    stride = max(1, math.ceil(span / MAX_TICKS))
    return [k for k in range(math.ceil(low - 1e-9), math.floor(high) + 1) if k % stride == 0]


def _entries(contents: WidthContents) -> list[int]:
    """The number of the distinct point that each point is, -1 for none."""
    if contents.census is None:
        return [-1] * len(contents.points)
    entry_of = {seed: number for number, entry in enumerate(contents.census.entries) for seed in entry.rows}
    return [entry_of.get(point["seed"], -1) for point in contents.points]


def _spectra(widths: Sequence[WidthContents], most: int) -> list[dict[str, Any]]:
    """By width, the lowest eigenvalues of each point, all of them where there is room."""
    spectra = []
    for each in widths:
        total = max(len(point["eigenvalues"]) for point in each.points)
        kept = min(total, max(most, 1))
        rows = np.full((len(each.points), kept), np.nan, dtype="<f4")
        for row, point in zip(rows, each.points, strict=True):
            lowest = point["eigenvalues"][:kept]
            row[: len(lowest)] = lowest
        spectra.append({"kept": kept, "total": total, "values": _encoded(rows, "<f4")})
    return spectra


class _Texts:
    """Sentences that points refer to by number, each kept once."""

    def __init__(self) -> None:
        self._numbers: dict[str, int] = {}

    @property
    def texts(self) -> list[str]:
        return list(self._numbers)

    def number(self, text: str) -> int:
        return self._numbers.setdefault(text, len(self._numbers))


def _reasons(contents: Contents, every: bool, texts: _Texts) -> Iterable[int]:
    return [
        texts.number(reason) if every or point["kind"] == Kind.UNDECIDED else -1
        for each in contents.widths
        for point, reason in zip(each.points, each.reasons, strict=True)
    ]


def _certificates(widths: Sequence[WidthContents], texts: _Texts) -> list[int]:
    numbers = []
    for each in widths:
        for point in each.points:
            row = each.certificates.rows.get(point["seed"])
            numbers.append(-1 if row is None else texts.number(_certificate(row)))
    return numbers


def _certificate(row: Row) -> str:
    """What is attached to a point, in words."""
    if row["form"] == CERTIFICATE:
        return f"certified: file {row['sha256'][:12]}"
    if row["form"] == TIE:
        return f"certified: tied by symmetry to the certificate of seed {row['tied_to']}, file {row['sha256'][:12]}"
    return f"not certified: {row['reason']}"
