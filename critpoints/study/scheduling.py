"""Hands units to workers, stores what comes back, and tries again where a worker was lost."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Executor, Future, wait
from dataclasses import dataclass
from time import perf_counter

from critpoints.errors import CritpointsError
from critpoints.study.executors import WorkerLost
from critpoints.study.records import Row
from critpoints.study.store import FAILED, RETRIED, Store
from critpoints.study.units import Unit

RETRIES = 3  # of a unit whose worker died or hung


@dataclass(frozen=True)
class Computed:
    """What a worker returns.

    Attributes:
        points, verdicts: rows for the store.
        environment: on what they were computed, JSON.
        seconds: how long it took.
        worker: where.
    """

    points: list[Row]
    verdicts: list[Row]
    environment: str
    seconds: float
    worker: str


@dataclass(frozen=True)
class Failure:
    """A unit that could not be computed, and why."""

    unit: Unit
    reason: str


def _capacity(executor: Executor) -> int:
    """How many units an executor computes at a time; more workers may come while it runs."""
    return getattr(executor, "workers", None) or getattr(executor, "_max_workers", None) or os.cpu_count() or 1


def compute_units(
    store: Store,
    units: Sequence[Unit],
    executor: Executor,
    submit: Callable[[Unit], Future],
    stored: Callable[[Unit], None],
) -> list[Failure]:
    """Computes units and stores each as soon as it is done; in what order does not matter to the study.

    A unit whose worker dies or hangs is tried again, ``RETRIES`` times at most. A unit that raises an error is not: it
    would raise it again. Both are stored as attempts, and the study goes on. An error of critpoints itself, a problem
    that is not there or a store that cannot be written, ends it.

    Args:
        submit: gives a unit to a worker; the future holds ``Computed``.
        stored: is told of each unit whose commit has returned.

    Returns:
        The units that failed.
    """
    waiting = deque((unit, 1) for unit in units)
    running: dict[Future, tuple[Unit, int, float]] = {}
    failures: list[Failure] = []
    try:
        while waiting or running:
            while waiting and len(running) < _capacity(executor):
                unit, tries = waiting.popleft()
                running[submit(unit)] = (unit, tries, perf_counter())
            done, _ = wait(running, return_when=FIRST_COMPLETED)
            for future in done:
                unit, tries, started = running.pop(future)
                outcome = _result(future)
                if isinstance(outcome, Computed):
                    _commit(store, unit, outcome)
                    stored(unit)
                    continue
                lost = isinstance(outcome, WorkerLost)
                tries += outcome.tries - 1 if isinstance(outcome, WorkerLost) else 0
                again = lost and tries <= RETRIES
                reason = str(outcome) if lost else f"{type(outcome).__name__}: {outcome}"
                store.note(unit, RETRIED if again else FAILED, reason, "", perf_counter() - started)
                if again:
                    waiting.appendleft((unit, tries + 1))
                else:
                    failures.append(Failure(unit, reason))
    finally:
        for future in running:
            future.cancel()
    return failures


def _result(future: Future) -> Computed | Exception:
    try:
        return future.result()
    except CritpointsError:
        raise
    except Exception as error:
        return error


def _commit(store: Store, unit: Unit, computed: Computed) -> None:
    row = {"width": unit.width, "block": unit.block}
    row |= {"environment": computed.environment, "seconds": computed.seconds}
    store.commit(row, computed.points, computed.verdicts, computed.worker)
