"""How far a study is: what is stored, what failed, how fast it goes and how long it will still take."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from critpoints.study.records import Row
from critpoints.study.store import FAILED, STORED, Store
from critpoints.study.units import from_ranges, to_ranges

_RECENT = 50  # attempts whose times say how many units are computed at once


@dataclass(frozen=True)
class WidthStatus:
    """One width: how many points are wanted and stored, how many of the others failed when they were last tried."""

    width: int
    wanted: int
    stored: int
    missing: int
    failed: int
    seconds_per_point: float | None


@dataclass(frozen=True)
class FailedSeeds:
    """Seeds of one width that are missing since their units failed when they were last tried, all for one reason.

    Attributes:
        seeds: as ``to_ranges`` writes them.
    """

    width: int
    seeds: str
    reason: str

    def __str__(self) -> str:
        return f"width {self.width}, seeds {self.seeds} failed: {' '.join(self.reason.split())}"


@dataclass(frozen=True)
class StudyStatus:
    """A study.

    Attributes:
        widths: one entry a width.
        rate: points a second of time in which it ran, of late; None before the first unit.
        remaining: seconds until it is complete if it goes on like that; None if nobody can say.
        last_stored: when the last unit was stored, seconds since 1970.
        retried: attempts that a lost worker took with it.
        failures: what failed and is still missing, and why.
    """

    widths: tuple[WidthStatus, ...]
    rate: float | None
    remaining: float | None
    last_stored: float | None
    retried: int
    failures: tuple[FailedSeeds, ...]

    @property
    def missing(self) -> int:
        """Points that are wanted and not stored."""
        return sum(width.missing for width in self.widths)

    def to_dict(self) -> dict[str, Any]:
        """A JSON-ready dictionary."""
        return asdict(self) | {"missing": self.missing}


def study_status(store: Store) -> StudyStatus:
    """The status of a study, which another process may be extending."""
    attempts, units = store.attempts(), store.units()
    wanted: dict[int, set[int]] = {width: set() for width in store.widths()}
    for width, seeds in store.requests():
        wanted[width].update(seeds)
    failed = _failed(store, attempts)
    widths = []
    for width, seeds in wanted.items():
        missing = store.missing(width, seeds)
        n_failed = sum((width, seed) in failed for seed in missing)
        cost = _seconds_per_point([unit for unit in units if unit["width"] == width])
        widths.append(WidthStatus(width, len(seeds), store.count(width), len(missing), n_failed, cost))
    recent = [each for each in attempts if each["outcome"] == STORED][-_RECENT:]
    at_once = _units_at_once(recent)
    busy, points = _busy(recent), sum(len(list(from_ranges(each["seeds"]))) for each in recent)
    return StudyStatus(
        tuple(widths),
        rate=points / busy if busy else None,
        remaining=_remaining(widths, _seconds_per_point(units), at_once),
        last_stored=recent[-1]["finished"] if recent else None,
        retried=sum(each["outcome"] != STORED and each["outcome"] != FAILED for each in attempts),
        failures=_by_reason(failed),
    )


def failed_seeds(store: Store) -> tuple[FailedSeeds, ...]:
    """What is missing since its units failed when they were last tried, and why, by width."""
    return _by_reason(_failed(store, store.attempts()))


def _by_reason(failed: dict[tuple[int, int], str]) -> tuple[FailedSeeds, ...]:
    seeds: dict[tuple[int, str], list[int]] = {}
    for (width, seed), reason in failed.items():
        seeds.setdefault((width, reason), []).append(seed)
    found = [FailedSeeds(width, to_ranges(members), reason) for (width, reason), members in seeds.items()]
    return tuple(sorted(found, key=lambda each: (each.width, int(each.seeds.split("-")[0].split(",")[0]))))


def _failed(store: Store, attempts: Iterable[Row]) -> dict[tuple[int, int], str]:
    """Why the last attempt at a point failed, of points that are missing."""
    reasons: dict[tuple[int, int], str] = {}
    for each in attempts:
        if each["outcome"] == FAILED:
            reasons |= {(each["width"], seed): each["reason"] for seed in from_ranges(each["seeds"])}
    missing = {
        (width, seed)
        for width in {width for width, _ in reasons}
        for seed in store.missing(width, [seed for other, seed in reasons if other == width])
    }
    return {key: reason for key, reason in reasons.items() if key in missing}


def _seconds_per_point(units: Sequence[Row]) -> float | None:
    points = sum(unit["points"] for unit in units)
    return sum(unit["seconds"] for unit in units if unit["points"]) / points if points else None


def _busy(attempts: Sequence[Row]) -> float:
    """Seconds in which at least one of the attempts was being computed: pauses between two runs do not count."""
    total, end = 0.0, float("-inf")
    for start, finished in sorted((each["finished"] - each["seconds"], each["finished"]) for each in attempts):
        total += max(0.0, finished - max(start, end))
        end = max(end, finished)
    return total


def _units_at_once(attempts: Sequence[Row]) -> float:
    busy = _busy(attempts)
    return sum(each["seconds"] for each in attempts) / busy if busy else 1.0


def _remaining(widths: Iterable[WidthStatus], mean: float | None, at_once: float) -> float | None:
    """A width of which nothing is stored yet is taken to cost what a point of the study costs on average."""
    seconds = 0.0
    for width in widths:
        cost = mean if width.seconds_per_point is None else width.seconds_per_point
        if width.missing and cost is None:
            return None
        seconds += width.missing * (cost or 0.0)
    return seconds / at_once
