"""How wide a tunnel is: the angle at which the loss crosses a cut, seen from the origin of parameter space."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from critpoints.errors import require
from critpoints.objectives.base import Objective
from critpoints.solvers.base import to_plain

BISECTIONS = 7  # of the first interval on the grid that holds a crossing


@dataclass(frozen=True)
class TunnelWidths:
    """Angles at which the loss along random directions crosses a cut.

    Attributes:
        angles: (S, K) in degrees, of each point and direction; NaN where the loss stays below the cut up to the largest
            angle, or is above it at once.
        cut: the loss that was crossed.
        radius: (S,), the distance of each point from the origin, which a rotation keeps.
        losses: (S,), at the points.
    """

    angles: Tensor
    cut: float
    radius: Tensor
    losses: Tensor

    @property
    def mean(self) -> Tensor:
        """(S,), over the directions that cross."""
        return self.angles.nanmean(1)

    def to_dict(self) -> dict[str, Any]:
        """A JSON-ready dictionary; directions that do not cross are None."""
        plain = to_plain(self)
        plain["angles"] = [[None if math.isnan(angle) else angle for angle in row] for row in plain["angles"]]
        return plain


def measure_tunnel_width(
    objective: Objective,
    theta: Tensor,
    cut: float,
    *,
    directions: int = 16,
    largest: float = 90.0,
    points: int = 46,
    seed: int = 0,
) -> TunnelWidths:
    """Turns points towards random directions, at a fixed distance from the origin, until the loss crosses ``cut``.

    theta(a) = cos(a) theta + sin(a) |theta| q, q a random unit vector across theta. The first crossing on a grid of
    ``points`` angles up to ``largest`` degrees is refined by bisection.

    Args:
        theta: (S, P), not zero; all are turned towards the same random directions (less their own parts).
        cut: a loss above those at the points.
    """
    theta = objective.validate(theta).detach()
    require(theta.ndim == 2, f"theta must be (S, P), got {tuple(theta.shape)}")
    require(0 < largest <= 180, f"largest must be an angle of at most 180 degrees, got {largest}")
    require(directions >= 1 and points >= 2, f"directions, points must be at least 1, 2, got {directions}, {points}")
    rng = np.random.default_rng([seed, theta.shape[1]])
    random = torch.from_numpy(rng.standard_normal((directions, theta.shape[1]))).to(theta)
    angles = torch.stack([_angles(objective, row, random, cut, math.radians(largest), points) for row in theta])
    losses = objective.loss(theta).detach().double().cpu()
    return TunnelWidths(torch.rad2deg(angles), float(cut), theta.norm(dim=1).double().cpu(), losses)


def _angles(objective: Objective, theta: Tensor, random: Tensor, cut: float, largest: float, points: int) -> Tensor:
    """The first crossing along each direction, in radians, (K,)."""
    radius = theta.norm()
    across = random - (random @ theta)[:, None] * theta / radius**2
    across = radius * across / across.norm(dim=1, keepdim=True)

    def above(angle: Tensor) -> Tensor:
        turned = angle.cos()[:, None].to(theta) * theta + angle.sin()[:, None].to(theta) * across
        return ~(objective.loss(turned).detach().cpu() <= cut)

    grid = torch.linspace(0, largest, points, dtype=torch.float64)
    high = torch.full((len(random),), torch.nan, dtype=torch.float64)
    for angle in grid[1:]:
        if not high.isnan().any():
            break
        high = torch.where(high.isnan() & above(angle.expand(len(random))), angle, high)
    low = high - grid[1]
    for _ in range(BISECTIONS):
        middle = 0.5 * (low + high)
        beyond = above(middle)
        low, high = torch.where(beyond, low, middle), torch.where(beyond, middle, high)
    at_once = bool(above(torch.zeros(1, dtype=torch.float64).expand(len(random)))[0])
    return torch.full_like(high, torch.nan) if at_once else 0.5 * (low + high)
