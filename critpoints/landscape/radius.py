"""Curvature against the distance from the origin of parameter space, along rays.

A shell of unusually positive curvature at the radius of common initialisations: Fort and Scherlis (arXiv 1807.02581),
whose measure is the trace over the Frobenius norm.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from critpoints.curvature.lanczos import eigsh
from critpoints.curvature.operator import HessianOperator
from critpoints.curvature.trace_estimation import Estimate, norm, trace
from critpoints.errors import require
from critpoints.objectives.base import Objective
from critpoints.solvers.base import to_plain

Callback = Callable[[int, int], None]


@dataclass(frozen=True)
class RadiusSweep:
    """Loss and curvature at points of rays from the origin.

    Attributes:
        radii: (R,), |theta|.
        losses, traces, frobenius_norms, largest, smallest: (R, S), of each ray; the two eigenvalues at the ends.
        ray_radii: (S,), how far the points that gave the rays their directions lie from the origin.
    """

    radii: tuple[float, ...]
    losses: Tensor
    traces: Tensor
    frobenius_norms: Tensor
    largest: Tensor
    smallest: Tensor
    ray_radii: Tensor

    @property
    def positivity(self) -> Tensor:
        """Trace over Frobenius norm, (R, S), 0 where the Hessian vanishes: sqrt(P) for a multiple of the identity."""
        return torch.where(self.frobenius_norms > 0, self.traces / self.frobenius_norms, 0.0)

    def to_dict(self) -> dict[str, Any]:
        """A JSON-ready dictionary."""
        return to_plain(self) | {"positivity": self.positivity.tolist()}


def sweep_radius(
    objective: Objective,
    theta: Tensor,
    radii: Sequence[float],
    *,
    products: int = 30,
    seed: int = 0,
    callback: Callback | None = None,
) -> RadiusSweep:
    """Loss, trace, Frobenius norm and extreme eigenvalues of the Hessian along the rays through points.

    Args:
        theta: (S, P), not zero.
        radii: distances from the origin.
        products: Hessian-vector products for the trace, and as many for the norm; all of P where that is fewer.
        callback: callback(done, total) after each point.
    """
    theta = objective.validate(theta).detach()
    require(theta.ndim == 2, f"theta must be (S, P), got {tuple(theta.shape)}")
    lengths = theta.norm(dim=1)
    require(bool((lengths > 0).all()), "theta must not be zero: a ray needs a direction")
    require(len(radii) > 0 and min(radii) > 0, f"radii must be positive, got {list(radii)}")
    table = torch.zeros(5, len(radii), len(theta), dtype=torch.float64)
    for i, radius in enumerate(radii):
        for j, (row, length) in enumerate(zip(theta, lengths, strict=True)):
            table[:, i, j] = _measure(objective, row * (radius / length), products, seed)
            if callback is not None:
                callback(i * len(theta) + j + 1, len(radii) * len(theta))
    return RadiusSweep(tuple(map(float, radii)), *table, ray_radii=lengths.double().cpu())


def _measure(objective: Objective, theta: Tensor, products: int, seed: int) -> Tensor:
    """Loss, trace, Frobenius norm, largest and smallest eigenvalue at one point."""
    loss, operator = float(objective.loss(theta)), HessianOperator(objective, theta)
    if operator.dim <= products:
        values = torch.linalg.eigvalsh(operator.dense().double())
        return torch.stack([torch.tensor(loss), values.sum(), values.norm(), values[-1], values[0]])
    ends = eigsh(operator, 2, "BE", tol=1e-2, seed=seed).values
    frobenius = norm(operator, "frobenius", products=products, seed=seed)
    assert isinstance(frobenius, Estimate)
    total = trace(operator, products, seed=seed).value
    return torch.tensor([loss, total, frobenius.value, float(ends[-1]), float(ends[0])], dtype=torch.float64)
