"""train: from initial students to the end of training, by Adam or by gradient flow."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from critpoints.curvature.dense import row_norm
from critpoints.errors import InvalidArgument, Status, require
from critpoints.kernels.devices import resolve_device
from critpoints.kernels.types import AdamRun
from critpoints.objectives.base import Objective
from critpoints.solvers.base import Callback, to_plain
from critpoints.solvers.gradient_flow import follow_flow

Schedule = Callable[[int], float]
_CHUNKS = {"cpu": 500, "cuda": 5000}  # Adam steps between two looks at the keyboard, and in one launch on a GPU


@dataclass(frozen=True)
class Training:
    """End points of training.

    Attributes:
        theta: (S, P).
        loss: (S,).
        gradient_norm: (S,).
        status: of each row: RUNNING (all steps done, nothing is claimed), CONVERGED (gradient flow alone) or
            NON_FINITE, which keeps the last finite parameters.
        steps: Adam steps, or the most steps that a row's integrator took.
        trajectory: (T, S, P) snapshots, or None.
        trajectory_steps: the step, or the flow's time, of each snapshot.
    """

    theta: Tensor
    loss: Tensor
    gradient_norm: Tensor
    status: tuple[Status, ...]
    steps: int
    trajectory: Tensor | None = None
    trajectory_steps: tuple[float, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """A JSON-ready dictionary."""
        return to_plain(self)


def log_spaced_steps(steps: int, count: int) -> list[int]:
    """0, ``steps`` and log-spaced step numbers between, at most ``count`` in all, without repetition.

    >>> log_spaced_steps(1000, 5)
    [0, 1, 10, 100, 1000]
    """
    if count <= 0:
        return []
    inner = torch.logspace(0, math.log10(max(steps, 1)), max(count - 1, 1), dtype=torch.float64).round().int().tolist()
    return sorted({0, steps, *inner})


def _bias_corrections(first: int, count: int, betas: tuple[float, float]) -> Tensor:
    t = torch.arange(first + 1, first + count + 1, dtype=torch.float64)
    return torch.stack([1 - beta**t for beta in betas], dim=1)


def _adam(
    objective: Objective,
    starts: Sequence[Tensor],
    lr: float,
    steps: int,
    schedule: Schedule | None,
    betas: tuple[float, float],
    eps: float,
    record: int,
    callback: Callback | None,
) -> list[Training]:
    """Trains the rows of every tensor in ``starts``, each of its own width, by the same steps."""
    runs = [AdamRun.start(theta) for theta in starts]
    marks = log_spaced_steps(steps, record)
    snapshots = [[run.theta.clone() for run in runs]] if marks else []
    chunk = _CHUNKS.get(objective.device.type, _CHUNKS["cpu"])
    done = 0
    while done < steps:
        count = min([chunk, steps - done, *(mark - done for mark in marks if mark > done)])
        rates = torch.full((count, 1), lr, dtype=torch.float64)
        if schedule is not None:
            rates *= torch.tensor([[schedule(done + i)] for i in range(count)], dtype=torch.float64)
        plan = torch.cat([rates, _bias_corrections(done, count, betas)], 1)
        objective.advance_adam_together(runs, plan, betas, eps)
        done += count
        if done in marks:
            snapshots.append([run.theta.clone() for run in runs])
        if callback is not None:
            callback(done, steps)
    return [_trained(objective, run, steps, [each[i] for each in snapshots], marks) for i, run in enumerate(runs)]


def _trained(objective: Objective, run: AdamRun, steps: int, snapshots: list[Tensor], marks: list[int]) -> Training:
    loss, gradient = objective.loss_and_gradient(run.theta)
    status = tuple(Status.NON_FINITE if failed else Status.RUNNING for failed in run.failed.tolist())
    trajectory = torch.stack(snapshots) if snapshots else None
    return Training(run.theta, loss, row_norm(gradient), status, steps, trajectory, tuple(marks))


def _check(lr: float, steps: int, betas: tuple[float, float], eps: float, record: int) -> None:
    require(math.isfinite(lr) and lr > 0, f"lr must be a positive number, got {lr}")
    require(steps >= 0, f"steps must be at least 0, got {steps}")
    require(all(0 <= beta < 1 for beta in betas), f"betas must be in [0, 1), got {betas}")
    require(eps > 0, f"eps must be positive, got {eps}")
    require(record >= 0, f"record must be at least 0, got {record}")


def train(
    problem: Objective,
    theta0: Tensor | Mapping[int, Tensor],
    *,
    method: str = "adam",
    lr: float = 1e-4,
    steps: int = 30_000,
    schedule: Schedule | None = None,
    betas: tuple[float, float] = (0.9, 0.999),
    eps: float = 1e-8,
    time: float = 1e7,
    record: int = 0,
    device: torch.device | str | None = None,
    callback: Callback | None = None,
) -> Any:
    """Trains every row of ``theta0`` on the full data.

    Args:
        problem: the objective; it decides the dtype, and the device where none is given.
        theta0: (S, P) initial parameters, or one such tensor a width in a dictionary, which gives a dictionary back.
        method: ``adam`` (Kingma & Ba 2015, algorithm 1: bias correction, no weight decay) or ``gradient-flow``
            (theta' = -grad L until ``time`` or a gradient norm of 1e-9).
        lr, steps, schedule, betas, eps: Adam's; schedule(step) multiplies ``lr``, steps counted from 0.
        time: the flow's end.
        record: snapshots to keep of each row, log-spaced in the steps; 0 for none.
        device: where to train, and where the results are: ``cpu``, ``cuda``, ``cuda:1`` or the like, or ``auto``.
        callback: callback(done, total), called between chunks of steps; an exception in it ends the training.

    Returns:
        A ``Training``, or a dictionary from width to ``Training``.

    Raises:
        InvalidArgument: an option out of range, an unknown method, parameters that do not fit, an objective that
            cannot be moved to ``device``.
        DeviceUnavailable: ``device`` is not there.
    """
    if device is not None:
        problem = problem.to(resolve_device(device))
    if method not in ("adam", "gradient-flow"):
        raise InvalidArgument(f"method must be adam or gradient-flow, got {method!r}")
    _check(lr, steps, betas, eps, record)
    starts = theta0 if isinstance(theta0, Mapping) else {None: theta0}
    blocks = {width: problem.validate(rows) for width, rows in starts.items()}
    for block in blocks.values():
        require(block.ndim == 2, f"theta0 must have shape (S, P), got {tuple(block.shape)}")
    if method == "adam":
        results = _adam(problem, list(blocks.values()), lr, steps, schedule, betas, eps, record, callback)
    else:
        results = [_flow(problem, block, time, record, callback) for block in blocks.values()]
    trained = dict(zip(blocks, results, strict=True))
    return trained if isinstance(theta0, Mapping) else trained[None]


def _flow(problem: Objective, theta: Tensor, time: float, record: int, callback: Callback | None) -> Training:
    require(time > 0, f"time must be positive, got {time}")
    flow = follow_flow(problem, theta, time=time, record=record, callback=callback)
    return Training(
        flow.theta, flow.loss, flow.gradient_norm, flow.status, flow.steps, flow.trajectory, flow.trajectory_times
    )
