"""Loss, error and curvature along the straight line between two states (Goodfellow et al. 2015, Frankle 2020)."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from critpoints.errors import require
from critpoints.landscape.curvature import PathCurvature, measure_curvature
from critpoints.landscape.evaluation import ErrorFn, Evaluator, Losses, State, as_state
from critpoints.objectives.base import Objective

Point = State | Tensor | Mapping[str, Tensor]


@dataclass(frozen=True)
class Interpolation:
    """Losses and errors at n evenly spaced points from a state (t = 0) to another (t = 1).

    Attributes:
        t: (n,).
        losses: at each point.
        batch_norm: the policy; None for an objective without BatchNorm.
        distance: between the ends, Euclidean, parameters alone.
        t_curvature: (m,), where the curvature was measured.
        curvature: None unless asked for.
    """

    t: Tensor
    losses: Losses
    batch_norm: str | None
    distance: float
    t_curvature: Tensor
    curvature: PathCurvature | None

    def to_dict(self) -> dict[str, Any]:
        """A JSON-ready dictionary."""
        curvature = None if self.curvature is None else self.curvature.to_dict()
        plain = {"t": self.t.tolist(), "batch_norm": self.batch_norm, "distance": self.distance}
        return {**plain, **self.losses.to_dict(), "t_curvature": self.t_curvature.tolist(), "curvature": curvature}


def max_rise(losses: Any) -> np.ndarray:
    """The largest increase when moving from left to right, max over i <= j of L_j - L_i: (*b, n) -> (*b).

    >>> float(max_rise([3.0, 1.0, 2.5, 2.0, 0.0]))
    1.5
    """
    losses = np.asarray(losses, dtype=np.float64)
    return (losses - np.minimum.accumulate(losses, -1)).max(-1)


def barrier(losses: Any) -> np.ndarray:
    """How far the highest point lies above the straight line between the ends' losses: (*b, n) -> (*b).

    The convention of Frankle et al. 2020 and Entezari et al. 2022, for evenly spaced points.

    >>> float(barrier([1.0, 3.0, 2.0]))  # the line is at 1.5 in the middle
    1.5
    """
    losses = np.asarray(losses, dtype=np.float64)
    t = np.linspace(0.0, 1.0, losses.shape[-1])
    return (losses - (1 - t) * losses[..., :1] - t * losses[..., -1:]).max(-1)


def relative_mid_height(losses: Any) -> np.ndarray:
    """(L(1/2) - L(1)) / (L(0) - L(1)) of evenly spaced points: (*b, n) -> (*b).

    1 on a plateau that ends in a cliff, 1/2 on a straight slope, 1/4 on a parabola with its minimum at the end.

    >>> float(relative_mid_height([(1 - t / 10) ** 2 for t in range(11)]))
    0.25
    """
    losses = np.asarray(losses, dtype=np.float64)
    low, high = (losses.shape[-1] - 1) // 2, losses.shape[-1] // 2  # the same one for an odd number of points
    middle = 0.5 * (losses[..., low] + losses[..., high])
    with np.errstate(divide="ignore", invalid="ignore"):
        return (middle - losses[..., -1]) / (losses[..., 0] - losses[..., -1])


def convex_share(losses: Any) -> np.ndarray:
    """The share of second differences that are not negative, up to rounding: (*b, n) -> (*b); 1 if convex.

    >>> float(convex_share([4.0, 1.0, 0.0, 1.0])), float(convex_share([0.0, 1.0, 1.0, 1.0]))
    (1.0, 0.5)
    """
    losses = np.asarray(losses, dtype=np.float64)
    second = losses[..., 2:] - 2 * losses[..., 1:-1] + losses[..., :-2]
    rounding = 1e-6 * np.abs(losses).max(-1, keepdims=True)  # of losses in single precision
    return (second >= -rounding).mean(-1)


def interpolate(
    objective: Objective,
    a: Point,
    b: Point,
    points: int = 101,
    *,
    test: Any = None,
    batch_norm: str | None = None,
    curvature: bool | int = False,
    error_fn: ErrorFn | None = None,
    tol: float = 1e-3,
) -> Interpolation:
    """Walks from a to b in a straight line and measures the loss at every point.

    Args:
        objective: the training loss: any ``Objective``.
        a, b: parameters (P,); for a module also its ``state_dict()`` at each end, with BatchNorm's statistics.
        points: evenly spaced, both ends included.
        test, batch_norm, error_fn: see ``Evaluator``.
        curvature: whether to find the Hessian's extreme eigenvalues along the path, at every point; or at how many.
        tol: relative residual of these eigenvalues.

    Raises:
        InvalidArgument: ends of another architecture, fewer than 2 points, no policy for a module with BatchNorm, or
            curvature under the policy "batch", which couples the samples.

    >>> from critpoints import PolynomialObjective
    >>> f = PolynomialObjective({(2, 0): 1, (0, 2): -1})  # x^2 - y^2
    >>> line = interpolate(f, torch.tensor([0.0, 0.0]).double(), torch.tensor([1.0, 0.0]).double(), points=3)
    >>> line.losses.train_loss.tolist()
    [0.0, 0.25, 1.0]
    """
    require(points >= 2, f"points must be at least 2, got {points}")
    start, end = as_state(objective, a, "a"), as_state(objective, b, "b")
    evaluator = Evaluator(objective, test=test, batch_norm=batch_norm, error_fn=error_fn)
    n_curvature = points if curvature is True else int(curvature)
    t, t_curvature = (torch.linspace(0, 1, n, dtype=torch.float64) for n in (points, n_curvature))
    way = end.theta - start.theta
    curvature_found = None
    if n_curvature:  # first, as its conditions are the stricter ones
        states = (start.lerp(end, each) for each in t_curvature.tolist())
        curvature_found = measure_curvature(evaluator, states, direction=way, tol=tol)
    losses = evaluator.measure(start.lerp(end, each) for each in t.tolist())
    return Interpolation(t, losses, evaluator.policy, float(way.norm()), t_curvature, curvature_found)


def pairwise_barriers(
    objective: Objective, ends: Sequence[Point], points: int = 21, *, name: str = "train_loss", **options: Any
) -> Tensor:
    """The barrier between any two of n states, (n (n - 1) / 2,), in the order of ``itertools.combinations``.

    Args:
        name: of the quantity, one of those of ``Losses``.
        options: of ``interpolate``.
    """
    found = [
        barrier(getattr(interpolate(objective, a, b, points, **options).losses, name).numpy())
        for a, b in itertools.combinations(ends, 2)
    ]
    return torch.tensor(found, dtype=torch.float64)


@dataclass(frozen=True)
class Rises:
    """How far loss and error rise on the way from each snapshot of a run to its end.

    Attributes:
        steps: (k,), of the snapshots.
        paths: one from each snapshot.
    """

    steps: tuple[int, ...]
    paths: tuple[Interpolation, ...]

    def of(self, name: str) -> np.ndarray:
        """(k,), ``max_rise`` of one of the names of ``Losses``, "test_loss" for example."""
        return max_rise(np.stack([getattr(path.losses, name).numpy() for path in self.paths]))


def interpolate_snapshots(
    objective: Objective, snapshots: Mapping[int, Point], end: Point, points: int = 101, **options: Any
) -> Rises:
    """``interpolate`` from each snapshot, by its step, to the end of training; arguments as there."""
    require(len(snapshots) > 0, "snapshots must hold at least one state")
    steps = tuple(sorted(snapshots))
    return Rises(steps, tuple(interpolate(objective, snapshots[step], end, points, **options) for step in steps))


def frankle_steps(total: int) -> tuple[int, ...]:
    """The iterations that Frankle 2020 starts from: 0, powers of two up to 1024, then thousands, up to ``total``.

    >>> frankle_steps(2500)
    (0, 1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2000)
    """
    steps = [0, *(2**k for k in range(11)), *range(2000, total + 1, 1000)]
    return tuple(step for step in steps if step <= total)
