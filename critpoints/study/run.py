"""Runs a study: computes the rows that are missing, unit by unit, and stores each unit as soon as it is done."""

from __future__ import annotations

import os
import platform
from collections.abc import Callable, Sequence
from concurrent.futures import Executor, Future
from dataclasses import dataclass, replace
from functools import cache, lru_cache
from time import perf_counter

import torch
from torch import Tensor

from critpoints.certification.polishing import polish_settled
from critpoints.classification import Spectrum, classify, negative_eigenvalue_causes, raw_spectrum, settle
from critpoints.errors import Status, require
from critpoints.objectives.base import Objective
from critpoints.objectives.two_layer import TwoLayerObjective
from critpoints.solvers.refinement import Refinement, refine
from critpoints.solvers.training import Training, train
from critpoints.study.environment import provenance
from critpoints.study.executors import SerialExecutor
from critpoints.study.initial import Initial
from critpoints.study.memory import is_out_of_memory, release_memory
from critpoints.study.problems import resolve_problem
from critpoints.study.records import Row, to_json
from critpoints.study.scheduling import Computed, Failure, compute_units
from critpoints.study.spec import CLASSIFIER_VERSION, StudySpec
from critpoints.study.store import Store
from critpoints.study.units import Unit, split_into_units
from critpoints.verdict import Verdicts

# Seeds a unit: little is lost when a run is ended, and a batch is large enough to be fast.
BLOCK_SIZES = {"cpu": 100, "cuda": 1000}
_TRAINING_SHARE = 0.8  # of the time of a unit; for the progress display alone
_REFINEMENT_SHARE = 0.15
_POLISHING_SHARE = 0.05

Callback = Callable[[float, int, str], None]


def run_study(
    store: Store,
    widths: Sequence[int],
    seeds: range,
    *,
    problem: Objective | None = None,
    initial: Initial | None = None,
    executor: Executor | None = None,
    callback: Callback | None = None,
) -> list[Failure]:
    """Computes and stores what the study does not have yet of these widths and seeds.

    The row of a seed depends on the specification, the width and the seed alone, so a study that was interrupted or
    extended, or computed by many workers, equals one that was computed at once.

    Args:
        store: open for writing; its specification says what to compute.
        problem, initial: the objective and the initial students, where the caller has them already.
        executor: where to compute, a ``ProcessExecutor`` or a ``DaskExecutor``; by default in this process.
        callback: callback(rows done, rows wanted, what is being done); the first may be fractional within a unit. An
            exception in it drops what is not stored and leaves the study as it was before that.

    Returns:
        The units that could not be computed, whose rows are missing; another run tries them again.

    Raises:
        InvalidArgument: no widths or no seeds.
        StoreError: the study cannot be written.
    """
    require(len(widths) > 0 and len(seeds) > 0, "widths and seeds must name at least one each")
    problem = resolve_problem(store.spec) if problem is None else problem
    initial = Initial() if initial is None else initial
    require(initial.checksum == store.spec.init, "initial students must be those of the study's specification")
    missing = {width: store.missing(width, seeds) for width in widths}
    total = len(widths) * len(seeds)
    done = total - sum(map(len, missing.values()))
    for width in widths:
        store.request(width, seeds)
    size = BLOCK_SIZES[store.spec.device]
    units = [unit for width in widths for unit in split_into_units(width, missing[width], size)]

    def submit(unit: Unit) -> Future:
        _Report(callback, done, total, unit)("starting", 0.0)
        if executor is None:
            report = _Report(callback, done, total, unit)
            return here.submit(compute_rows, store.spec, problem, unit, initial, report)
        return executor.submit(compute_elsewhere, store.spec, unit, initial.of(unit))

    def stored(unit: Unit) -> None:
        nonlocal done
        done += len(unit.seeds)
        _Report(callback, done, total, unit)("stored", 0.0)

    here = SerialExecutor()
    failures = compute_units(store, units, here if executor is None else executor, submit, stored)
    for width in widths:
        _judge_again(store, problem, width, seeds)
    return failures


@dataclass(frozen=True)
class _Report:
    """Turns the solvers' callbacks within one unit into the study's."""

    callback: Callback | None
    done: int
    total: int
    unit: Unit

    def __call__(self, activity: str, share: float) -> None:
        if self.callback is not None:
            self.callback(self.done + share * len(self.unit.seeds), self.total, f"{self.unit}: {activity}")

    def stage(self, activity: str, start: float, share: float) -> Callable[[int, int], None]:
        return lambda done, total: self(activity, start + share * done / max(total, 1))


def compute_rows(
    spec: StudySpec, problem: Objective, unit: Unit, initial: Initial, report: _Report | None = None
) -> Computed:
    """The rows of a unit, with where and in what time they were computed.

    Raises:
        MemoryError: not even a single seed fits into the memory.
    """
    started = perf_counter()
    points, verdicts = _compute_in_parts(spec, problem, unit, initial, report)
    worker = f"{platform.node()}:{os.getpid()}"
    return Computed(points, verdicts, _environment(), perf_counter() - started, worker)


def compute_elsewhere(spec: StudySpec, unit: Unit, initial: Initial) -> Computed:
    """``compute_rows`` for a worker, which has the specification alone."""
    return compute_rows(spec, _problem(spec), unit, initial)


@lru_cache(maxsize=4)
def _problem(spec: StudySpec) -> Objective:
    return resolve_problem(spec)


@cache
def _environment() -> str:
    return to_json(provenance(), sort_keys=True)


def _compute_in_parts(
    spec: StudySpec, problem: Objective, unit: Unit, initial: Initial, report: _Report | None
) -> tuple[list[Row], list[Row]]:
    """A unit that does not fit into the memory in halves, and so on: a row does not depend on its batch."""
    points, verdicts, waiting = [], [], [unit]
    while waiting:
        part = waiting[0]
        try:
            computed = compute_unit(spec, problem, part, initial, report)
        except (MemoryError, RuntimeError) as error:
            if not is_out_of_memory(error):
                raise
            if len(part.seeds) == 1:
                raise MemoryError(f"seed {part.seeds[0]} of width {part.width} alone does not fit: {error}") from error
        else:
            points, verdicts = points + computed[0], verdicts + computed[1]
            waiting.pop(0)
            continue
        # outside of the handler, which holds on to the frames of what failed and to the memory in them
        release_memory()
        # what waits and is no smaller would not fit either
        waiting = [
            half for each in waiting for half in (each.halves() if len(each.seeds) >= len(part.seeds) else (each,))
        ]
    return points, verdicts


def compute_unit(
    spec: StudySpec, problem: Objective, unit: Unit, initial: Initial, report: _Report | None = None
) -> tuple[list[Row], list[Row]]:
    """The points and the verdicts of a unit, as rows for the store."""
    report = _Report(None, 0, 0, unit) if report is None else report
    theta0 = initial.rows(problem, unit.width, unit.seeds, spec.scheme)
    training = train(
        problem,
        theta0,
        method=spec.method,
        lr=spec.lr,
        steps=spec.steps,
        callback=report.stage("training", 0.0, _TRAINING_SHARE),
    )
    home = _home(problem)
    trained = training.theta.to(home.device)
    raw = raw_spectrum(home, trained)
    near = _refined_on_gpu(spec, problem, training.theta).to(home.device)
    settled = settle(
        home,
        near,
        method=spec.refine,
        gtol=spec.gtol,
        callback=report.stage("refining", _TRAINING_SHARE, _REFINEMENT_SHARE),
    )
    if isinstance(home, TwoLayerObjective) and spec.refine == "newton":
        stage = report.stage("polishing", _TRAINING_SHARE + _REFINEMENT_SHARE, _POLISHING_SHARE)
        settled = polish_settled(home, settled, callback=stage)
    points = _point_rows(unit, training, raw, settled.refinement, settled.verdicts)
    return points, _verdict_rows(unit, raw, settled.verdicts)


def _home(problem: Objective) -> Objective:
    """Where points are judged: verdicts are the CPU's."""
    return problem.to("cpu") if isinstance(problem, TwoLayerObjective) else problem


def _refined_on_gpu(spec: StudySpec, problem: Objective, theta: Tensor) -> Tensor:
    """On a GPU the long part of the refinement is done there, and ``settle`` has only the end of it left."""
    if problem.device.type != "cuda" or spec.refine != "newton":
        return theta
    return refine(problem, theta, method=spec.refine, gtol=spec.gtol).theta


def retrace(spec: StudySpec, problem: Objective, initial: Initial, width: int, seed: int, record: int = 60) -> Tensor:
    """The trajectory of one student, computed again: (T, P), log-spaced in the steps."""
    theta0 = initial.rows(problem, width, (seed,), spec.scheme)
    trajectory = train(problem, theta0, method=spec.method, lr=spec.lr, steps=spec.steps, record=record).trajectory
    return trajectory[:, 0]


def _point_rows(unit: Unit, training: Training, raw: Spectrum, refinement: Refinement, verdicts: Verdicts) -> list[Row]:
    columns = {
        "seed": unit.seeds,
        "training_status": [status.name.lower() for status in training.status],
        "trained_theta": training.theta.cpu().numpy(),
        "trained_loss": training.loss.tolist(),
        "trained_gradient_norm": training.gradient_norm.tolist(),
        "trained_smallest_eigenvalue": raw.eigenvalues[:, 0].tolist(),
        "raw_eigenvalues": raw.eigenvalues.cpu().numpy(),
        "raw_index": raw.index.tolist(),
        "raw_nullity": raw.nullity.tolist(),
        "raw_noise_floor": raw.noise_floor.tolist(),
        "status": [status.name.lower() for status in refinement.status],
        "theta": refinement.theta.cpu().numpy(),
        "loss": refinement.loss.tolist(),
        "gradient_norm": refinement.gradient_norm.tolist(),
        "gradient_noise": refinement.gradient_noise.tolist(),
        "iterations": refinement.iterations.tolist(),
        "evaluations": refinement.evaluations.tolist(),
        "eigenvalues": verdicts.eigenvalues.cpu().numpy(),
    }
    rows = (dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True))
    return [{"width": unit.width, **row} for row in rows]


def _verdict_rows(unit: Unit, raw: Spectrum, verdicts: Verdicts) -> list[Row]:
    rows = []
    for i, (seed, verdict) in enumerate(zip(unit.seeds, verdicts, strict=True)):
        row = {name: getattr(verdict, name) for name in ("index", "nullity", "level", "noise_floor")}
        row |= {
            "width": unit.width,
            "seed": seed,
            "classifier_version": CLASSIFIER_VERSION,
            "kind": verdict.kind.value,
            "smallest_eigenvalue": float(verdict.eigenvalues[0]),
            "standard": verdict.evidence.standard.value,
            "evidence": to_json(verdict.evidence.to_dict(), sort_keys=True),
            "negative_cause": _negative_cause(raw, verdicts, i),
        }
        rows.append(row)
    return rows


def _negative_cause(raw: Spectrum, verdicts: Verdicts, row: int) -> str | None:
    """Why the smallest eigenvalue of one row was negative after training; None if it was not."""
    alone = replace(raw, **{name: value[row : row + 1] for name, value in raw.__dict__.items()})
    causes = negative_eigenvalue_causes(alone, Verdicts.gather([verdicts[row]]))
    return next((cause for cause, count in causes.items() if count), None)


def _judge_again(store: Store, problem: Objective, width: int, seeds: range) -> None:
    """Adds verdicts to points that have none by this version of the classifier."""
    there = set(seeds).difference(store.missing(width, seeds))
    unjudged = store.unjudged(width, sorted(there), CLASSIFIER_VERSION)
    problem = _home(problem)
    for unit in split_into_units(width, unjudged, BLOCK_SIZES[store.spec.device]):
        started = perf_counter()
        points = store.trained(width, unit.seeds)
        raw = raw_spectrum(problem, _stack(points, "trained_theta"))
        verdicts = classify(problem, _stack(points, "theta"), refinement=_as_refinement(points))
        row = {"width": width, "block": unit.block, "environment": _environment(), "seconds": perf_counter() - started}
        store.commit(row, [], _verdict_rows(unit, raw, verdicts))


def _stack(points: list[Row], column: str) -> torch.Tensor:
    return torch.stack([torch.from_numpy(point[column]) for point in points])


def _as_refinement(points: list[Row]) -> Refinement:
    numbers = {name: torch.tensor([point[name] for point in points], dtype=torch.float64) for name in _NUMBERS}
    counts = {name: torch.tensor([point[name] for point in points]) for name in ("iterations", "evaluations")}
    status = tuple(Status[point["status"].upper()] for point in points)
    return Refinement(theta=_stack(points, "theta"), status=status, **numbers, **counts)


_NUMBERS = ("loss", "gradient_norm", "gradient_noise")
