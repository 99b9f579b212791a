"""How the benchmarks measure: contestants that take turns, medians with their range, ratios pair by pair."""

from __future__ import annotations

import argparse
import json
import math
import os
import statistics
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from typing import Any, Protocol

from critpoints.study.environment import cpu_model

PAUSE = 0.05  # seconds between two turns: threads that wait actively for more work have gone to sleep by then
_THREAD_VARIABLES = ("NUMBA_NUM_THREADS", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


class Contestant(Protocol):
    """One way to do the work: ``advance`` returns when so many steps are done, ``reset`` goes back to the start."""

    name: str
    description: str

    def reset(self) -> None: ...

    def advance(self, steps: int) -> None: ...


class Disagreement(Exception):
    """Two contestants that do not compute the same thing."""


def names_of(known: Sequence[str]) -> Callable[[str], list[str]]:
    """A type of argument: names from ``known``, comma-separated, or none."""

    def read(text: str) -> list[str]:
        names = [] if text == "none" else text.split(",")
        if unknown := sorted(set(names) - set(known)):
            raise argparse.ArgumentTypeError(f"unknown {', '.join(unknown)}; choose from {', '.join(known)}, or none")
        return names

    return read


def require_positive(parser: argparse.ArgumentParser, options: argparse.Namespace, names: Iterable[str]) -> None:
    """Ends with an error of usage at the first of these options that is not positive."""
    for name in names:
        if getattr(options, name) <= 0:
            parser.error(f"--{name} must be positive, got {getattr(options, name)}")


def print_report(measure: Callable[[], dict[str, Any]], report: Callable[[dict[str, Any]], str], as_json: bool) -> int:
    """Measures and prints, unless contestants disagree; the exit code."""
    try:
        document = measure()
    except Disagreement as error:
        print(f"refusing to report: {error}", file=sys.stderr)
        return 1
    print(json.dumps(document, indent=2) if as_json else report(document))
    return 0


def available_processors() -> list[int]:
    """The processors that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return sorted(os.sched_getaffinity(0))
    return list(range(os.cpu_count() or 1))


def bind(threads: int) -> None:
    """Gives every library the same threads; to be called before any of them is imported.

    Where the system can, the process is bound to that many processors: some libraries have no setting of their own.
    """
    for variable in _THREAD_VARIABLES:
        os.environ[variable] = str(threads)
    os.environ["JAX_PLATFORMS"] = "cpu"
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, available_processors()[:threads])


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def machine(threads: int, packages: Iterable[str]) -> dict[str, Any]:
    """What a timing depends on: processor, threads, load, versions (None for a package that is not installed)."""
    return {
        "cpu": cpu_model(),
        "processors": os.cpu_count(),
        "threads": threads,
        "load_average": os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
        "versions": {package: _version(package) for package in packages},
    }


def seconds_for(contestant: Contestant, steps: int) -> float:
    """Wall-clock seconds of so many steps from the start, after one step that is not counted."""
    contestant.reset()
    contestant.advance(1)
    start = time.perf_counter()
    contestant.advance(steps)
    return time.perf_counter() - start


def calibrate(contestant: Contestant, seconds: float) -> int:
    """The steps of a turn that lasts ``seconds`` or longer; at least one."""
    steps = 1
    while (elapsed := seconds_for(contestant, steps)) < seconds / 4:
        steps *= 2
    return max(1, math.ceil(steps * seconds / elapsed))


def race(
    contestants: Sequence[Contestant],
    steps: Mapping[str, int],
    rounds: int,
    callback: Callable[[int, int], None] | None = None,
) -> dict[str, list[float]]:
    """Milliseconds a step of every contestant in every round; within a round they take turns (A B C, A B C, ...)."""
    times: dict[str, list[float]] = {contestant.name: [] for contestant in contestants}
    for done in range(rounds):
        for contestant in contestants:
            time.sleep(PAUSE)
            elapsed = seconds_for(contestant, steps[contestant.name])
            times[contestant.name].append(1e3 * elapsed / steps[contestant.name])
        if callback is not None:
            callback(done + 1, rounds)
    return times


def summary(values: Sequence[float]) -> dict[str, float]:
    """Median and range."""
    return {"median": statistics.median(values), "min": min(values), "max": max(values)}


def ratios(values: Sequence[float], reference: Sequence[float]) -> dict[str, float]:
    """Median and range of values[i] / reference[i]: the two were measured one soon after the other."""
    return summary([value / base for value, base in zip(values, reference, strict=True)])


def progress(done: int, total: int) -> None:
    print(f"round {done} of {total}", file=sys.stderr)


def spread(found: Mapping[str, float], digits: int) -> str:
    """A summary for people."""
    low, median, high = (f"{found[key]:.{digits}f}" for key in ("min", "median", "max"))
    return f"{median} ({low}-{high})"


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A plain table, the first column left and the others right."""
    lines = [list(header), *map(list, rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(header))]
    return "\n".join(
        "  ".join(
            cell.ljust(w) if i == 0 else cell.rjust(w) for i, (cell, w) in enumerate(zip(line, widths, strict=True))
        )
        for line in lines
    )
