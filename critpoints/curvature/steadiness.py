"""Whether an eigenvalue says anything: it must stay what it is as far as the critical point may be away."""

from __future__ import annotations

import torch
from torch import Tensor

from critpoints.curvature.dense import Eigensystem, eigenvalue_noise, row_norm
from critpoints.objectives.base import Objective
from critpoints.verdict import STEP


def is_steady(
    problem: Objective, theta: Tensor, system: Eigensystem, gradient: Tensor, newton: Tensor | None = None
) -> Tensor:
    """Whether the decisive curvature at each row of ``theta`` (S, P) keeps its size within a factor of 2.

    Looked at along the lowest direction of a saddle, else along the weakest one, as far as the gradient leaves open
    where the critical point is: 2 |g|/|lambda|, which must be short; and twice as far as the Newton step leads, where
    that is short. Next to a degenerate point, such as a monkey saddle, the curvature is that of the way there.

    Args:
        system: of the Hessians at ``theta``.
        gradient: (S,), the norms of the gradients with their rounding errors.
        newton: (S, P), undamped Newton steps.
    """
    rows = torch.arange(len(theta))
    weakest = system.values.abs().nan_to_num(nan=0.0).argmin(-1)
    negative = system.values[:, 0] < -eigenvalue_noise(system.values)
    chosen = torch.where(negative, torch.zeros_like(weakest), weakest)
    curvature, direction = system.values[rows, chosen], system.vectors[rows, :, chosen]
    reach = 2 * gradient / curvature.abs()
    steady = reach <= STEP * (1 + row_norm(theta))
    reach = torch.where(steady, reach, torch.zeros_like(reach)).unsqueeze(-1)
    moves = [reach * direction.nan_to_num(), -reach * direction.nan_to_num()]
    if newton is not None:
        short = row_norm(newton) <= STEP * (1 + row_norm(theta))
        moves.append(torch.where(short.unsqueeze(-1), 2 * newton, torch.zeros_like(newton)))
    for move in moves:
        hessian = problem.second_order(theta + move).hessian
        ratio = (hessian * direction.unsqueeze(-1) * direction.unsqueeze(-2)).sum((-1, -2)) / curvature
        steady = steady & (ratio >= 0.5) & (ratio <= 2.0)
    return steady
