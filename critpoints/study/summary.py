"""What a study found: counts, fractions and medians by width, ready for tables and JSON."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from statistics import median
from typing import Any

from critpoints.statistics import wilson_interval
from critpoints.study.records import Row
from critpoints.study.store import Store

CAUSES = ("rounding", "unconverged", "saddle", "undecided")
THRESHOLDS = (1e-3, 1e-4)  # losses below which the literature calls a point global: arXiv 1712.08968, 2105.14573
_SCALARS = ("kind", "status", "negative_cause", "loss", "smallest_eigenvalue", "trained_smallest_eigenvalue")


def summarise(
    store: Store, widths: Iterable[int] | None = None, seeds: Collection[int] | None = None
) -> dict[str, dict[str, Any]]:
    """The summary of each width, by its decimal name.

    Its entries are ``seeds``, ``kinds``, ``statuses``, ``negative_raw_eigenvalues`` and ``loss_thresholds``.

    A kind has ``count``, ``fraction``, ``wilson95`` (its interval), ``median_loss`` and
    ``median_smallest_eigenvalue``; kinds and statuses are sorted by falling count.
    """
    widths = store.widths() if widths is None else widths
    return {str(width): summarise_points(_scalars(store, width, seeds)) for width in widths}


def unfinished(store: Store) -> tuple[int, int]:
    """How many rows are missing of those that were ever asked for, and how many those are."""
    wanted: dict[int, set[int]] = {}
    for width, seeds in store.requests():
        wanted.setdefault(width, set()).update(seeds)
    missing = sum(len(store.missing(width, seeds)) for width, seeds in wanted.items())
    return missing, sum(map(len, wanted.values()))


def _scalars(store: Store, width: int, seeds: Collection[int] | None) -> list[Row]:
    return list(store.points(width, seeds, _SCALARS))


def _ranked(values: Iterable[str]) -> list[tuple[str, int]]:
    return sorted(Counter(values).items(), key=lambda item: (-item[1], item[0]))


def summarise_points(points: Sequence[Row]) -> dict[str, Any]:
    """The summary of one width's points, rows of ``Store.points``; see ``summarise``."""
    return {
        "seeds": len(points),
        "kinds": {
            kind: _summarise_kind([point for point in points if point["kind"] == kind], len(points))
            for kind, _ in _ranked(point["kind"] for point in points)
        },
        "statuses": dict(_ranked(point["status"] for point in points)),
        "negative_raw_eigenvalues": _summarise_negative(points),
        "loss_thresholds": {f"{threshold:g}": _below(points, threshold) for threshold in THRESHOLDS},
    }


def _below(points: Sequence[Row], threshold: float) -> dict[str, int]:
    """How many points a loss threshold would call global, and how many of them are."""
    below = [point for point in points if point["loss"] < threshold]
    return {"below": len(below), "global": sum(point["kind"] == "global_minimum" for point in below)}


def _summarise_kind(points: Sequence[Row], n: int) -> dict[str, Any]:
    return {
        "count": len(points),
        "fraction": len(points) / n,
        "wilson95": list(wilson_interval(len(points), n)),
        "median_loss": _median(point["loss"] for point in points),
        "median_smallest_eigenvalue": _median(point["smallest_eigenvalue"] for point in points),
    }


def _summarise_negative(points: Sequence[Row]) -> dict[str, int]:
    negative = [point for point in points if point["trained_smallest_eigenvalue"] < 0]
    causes = Counter(point["negative_cause"] for point in negative)
    return {"negative": len(negative), **{cause: causes[cause] for cause in CAUSES}}


def _median(values: Iterable[float]) -> float | None:
    """The median of the values that are finite, or None where there are none."""
    finite = [value for value in values if math.isfinite(value)]
    return median(finite) if finite else None
