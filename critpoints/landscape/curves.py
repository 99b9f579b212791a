"""Curves of low loss between two states: Bezier curves and polygonal chains whose inner points are trained."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_map_only

from critpoints.errors import InvalidArgument, InvalidData, require
from critpoints.landscape.evaluation import ErrorFn, Evaluator, Losses, State, as_state, batch_norm_layers
from critpoints.landscape.interpolation import Point
from critpoints.objectives.base import Objective
from critpoints.objectives.batches import Batch, shared_length
from critpoints.objectives.module import ModuleObjective

KINDS = ("bezier", "polygon")
LENGTH_POINTS = 201

Callback = Callable[[int, float], None]


def bezier_weights(t: Tensor, degree: int) -> Tensor:
    """Bernstein polynomials, C(n, k) (1 - t)^(n - k) t^k: (*b) -> (*b, degree + 1), float64.

    >>> bezier_weights(torch.tensor([0.5]), 2)
    tensor([[0.2500, 0.5000, 0.2500]], dtype=torch.float64)
    """
    t = t.double().unsqueeze(-1)
    k = torch.arange(degree + 1)
    binomials = torch.tensor([math.comb(degree, int(each)) for each in k], dtype=torch.float64)
    return binomials * (1 - t) ** (degree - k) * t**k


def polygon_weights(t: Tensor, degree: int) -> Tensor:
    """Hat functions at 0, 1/n, ..., 1 (n = degree pieces of equal parameter length): (*b) -> (*b, degree + 1), float64.

    >>> polygon_weights(torch.tensor([0.25]), 2)
    tensor([[0.5000, 0.5000, 0.0000]], dtype=torch.float64)
    """
    return (1 - (degree * t.double().unsqueeze(-1) - torch.arange(degree + 1)).abs()).clamp_min(0)


_WEIGHTS = {"bezier": bezier_weights, "polygon": polygon_weights}


@dataclass(frozen=True)
class Curve:
    """A curve sum_k w_k(t) theta_k, t from 0 to 1, through its first and its last control point.

    Attributes:
        kind: "bezier" or "polygon".
        controls: (n + 1, P).
    """

    kind: str
    controls: Tensor

    def weights(self, t: Tensor) -> Tensor:
        """Of the control points, (*b) -> (*b, n + 1)."""
        return _WEIGHTS[self.kind](t, len(self.controls) - 1).to(self.controls)

    def at(self, t: Tensor) -> Tensor:
        """Points, (*b) -> (*b, P)."""
        return self.weights(t) @ self.controls

    def length(self, points: int = LENGTH_POINTS) -> float:
        """Of the chain through so many points of the curve."""
        return float(self.at(torch.linspace(0, 1, points, dtype=torch.float64)).diff(dim=0).norm(dim=-1).sum())


@dataclass(frozen=True)
class TrainedCurve:
    """A curve and what was measured along it.

    Attributes:
        curve: the one that was trained.
        t: (n,), evenly spaced.
        losses: at each.
        batch_norm: the policy under which the losses were measured; None for an objective without BatchNorm.
        length, chord: of the curve, and between its ends.
        training_losses: (steps,), the mean over the points of each step, before it.
    """

    curve: Curve
    t: Tensor
    losses: Losses
    batch_norm: str | None
    length: float
    chord: float
    training_losses: Tensor

    def to_dict(self) -> dict[str, Any]:
        """A JSON-ready dictionary, without the control points."""
        plain = {name: getattr(self, name) for name in ("batch_norm", "length", "chord")}
        numbers = {"t": self.t.tolist(), "training_losses": self.training_losses.tolist()}
        return {"kind": self.curve.kind, **plain, **numbers, **self.losses.to_dict()}


def connect(
    objective: Objective,
    a: Point,
    b: Point,
    *,
    kind: str = "bezier",
    bends: int = 1,
    steps: int = 300,
    lr: float = 0.01,
    samples: int = 2,
    batch_size: int | None = None,
    seed: int = 0,
    points: int = 61,
    test: Any = None,
    batch_norm: str | None = None,
    error_fn: ErrorFn | None = None,
    callback: Callback | None = None,
) -> TrainedCurve:
    """Trains a curve from a to b for a low mean loss along it (Garipov et al. 2018, section 3).

    Adam lowers the mean of the loss over t, uniform in (0, 1), as a function of the inner control points, which start
    on the straight line; the ends stay. The learning rate is constant for the first half, then falls linearly to a
    hundredth. BatchNorm uses the statistics of each batch during training.

    Args:
        objective: any ``Objective``.
        a, b: parameters (P,), or a module's ``state_dict()``.
        kind: "bezier" or "polygon".
        bends: inner control points.
        samples: values of t a step, one in each of so many equal parts of (0, 1).
        batch_size: samples of data a step, drawn anew each time, where a module's data are one batch in memory; all by
            default. Of a loader, every step takes the next batch.
        seed: of values of t and samples of data.
        points: where the loss is measured in the end, evenly spaced.
        test, batch_norm, error_fn: see ``Evaluator``; the points of a curve bring no statistics to interpolate.
        callback: called with the steps done and the mean loss of the last one.

    Raises:
        InvalidArgument: ends of another architecture or equal ends, an unknown kind, numbers out of range.
        InvalidData: the loss becomes infinite or NaN.
    """
    require(kind in KINDS, f"kind must be one of {', '.join(KINDS)}, got {kind!r}")
    for name, value in (("bends", bends), ("samples", samples), ("batch_size", batch_size or 1)):
        require(value >= 1, f"{name} must be at least 1, got {value}")
    require(steps >= 0, f"steps must not be negative, got {steps}")
    require(0 < lr < math.inf, f"lr must be a positive number, got {lr}")
    require(points >= 2, f"points must be at least 2, got {points}")
    require(batch_norm != "interpolate", "batch_norm must be recalibrate, batch or freeze: a curve has no statistics")
    start, end = as_state(objective, a, "a"), as_state(objective, b, "b")
    require(
        start.theta.shape == end.theta.shape, f"b must have {len(start.theta)} parameters, as a, not {len(end.theta)}"
    )
    require(not torch.equal(start.theta, end.theta), "a and b must be different points")
    evaluator = Evaluator(objective, test=test, batch_norm=batch_norm, error_fn=error_fn)
    t = torch.linspace(0, 1, bends + 2, dtype=torch.float64).to(start.theta)
    curve = Curve(kind, torch.lerp(start.theta, end.theta, t.unsqueeze(-1)))
    gradients = _Gradients(objective, batch_size, seed)
    history = _train(curve, gradients, steps, lr, samples, seed, callback)
    t = torch.linspace(0, 1, points, dtype=torch.float64)
    ends = {0.0: start, 1.0: end}
    states = (ends.get(each, State(curve.at(torch.tensor(each)))) for each in t.tolist())
    return TrainedCurve(
        curve,
        t,
        evaluator.measure(list(states)),
        evaluator.policy,
        curve.length(),
        float((end.theta - start.theta).norm()),
        history,
    )


class _Gradients:
    """Losses and gradients at rows of points, on all data or on a part of them that changes from step to step."""

    def __init__(self, objective: Objective, batch_size: int | None, seed: int) -> None:
        self.objective, self.batch_size = objective, batch_size
        self.generator = torch.Generator().manual_seed(seed)
        self.module: ModuleObjective | None = None
        if isinstance(objective, ModuleObjective):
            self.module = _in_batch_mode(objective)
            in_memory = self.module.batches.in_memory
            require(in_memory or batch_size is None, "batch_size must be None: data is a loader, which has batches")
            self.objective = self.module
            self._batches: Iterator[Batch] = iter(())
            if in_memory and batch_size is None:
                self.module = None
        else:
            require(batch_size is None, "batch_size must be None: only a module's data can be taken apart")

    def at(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """(n, P) -> (n), (n, P)."""
        if self.module is None:
            return self.objective.loss_and_gradient(rows)
        module, content = self.module, self._next(self.module)
        with torch.enable_grad():
            points = rows.detach().requires_grad_()
            losses = torch.stack([module.batch_loss(module.unflatten(row), content) for row in points])
            (gradient,) = torch.autograd.grad(losses.sum(), points)
        return losses.detach(), gradient

    def _next(self, module: ModuleObjective) -> Any:
        """Samples drawn from the data in memory, or the loader's next batch."""
        if self.batch_size is None:
            batch = next(self._batches, None)
            if batch is None:
                self._batches = module.checked_batches()
                batch = next(self._batches)
            return batch.content
        content = module.batches.first().content
        length = shared_length(content)
        if length is None:
            raise InvalidArgument("batch_size must be None: the tensors of the data differ in length along axis 0")
        chosen = torch.randperm(length, generator=self.generator)[: self.batch_size]
        return tree_map_only(Tensor, lambda each: each[chosen.to(each.device)], content)


def _in_batch_mode(objective: ModuleObjective) -> ModuleObjective:
    """A copy in which BatchNorm, if there is any, uses the statistics of each batch."""
    policy = "batch" if batch_norm_layers(objective.model) else None
    train = Evaluator(objective, batch_norm=policy).train
    assert isinstance(train, ModuleObjective)
    return train


def _train(
    curve: Curve, gradients: _Gradients, steps: int, lr: float, samples: int, seed: int, callback: Callback | None
) -> Tensor:
    """Moves the inner control points; the mean loss of each step."""
    inner = curve.controls[1:-1]
    optimiser = torch.optim.Adam([inner], lr=lr)
    generator = torch.Generator().manual_seed(seed)
    history = []
    for step in range(steps):
        t = (torch.arange(samples) + torch.rand(samples, dtype=torch.float64, generator=generator)) / samples
        losses, slopes = gradients.at(curve.at(t))
        mean = float(losses.mean())
        require(
            math.isfinite(mean),
            f"the loss along the curve is {mean} after {step} steps; lower lr (now {lr:g})",
            InvalidData,
        )
        inner.grad = curve.weights(t)[:, 1:-1].T @ slopes / samples  # d phi(t) / d theta_k = w_k(t)
        for group in optimiser.param_groups:
            group["lr"] = lr * _schedule((step + 0.5) / steps)
        optimiser.step()
        history.append(mean)
        if callback is not None:
            callback(step + 1, mean)
    inner.grad = None
    return torch.tensor(history, dtype=torch.float64)


def _schedule(progress: float) -> float:
    """1 up to half of the time, 0.01 from nine tenths, linear between (Garipov et al. 2018, appendix A.1)."""
    return min(1.0, max(0.01, 1 - 0.99 * (progress - 0.5) / 0.4))
