"""m-tunnels: sheets of low loss through m optima at once.

After Fort and Jastrzebski (arXiv 1906.04724). The form of the sheet is our choice: a Bezier simplex of degree 2, for
m = 2 the curve of Garipov et al. (arXiv 1802.10026).
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from critpoints.errors import InvalidData, require
from critpoints.kernels.types import AdamRun
from critpoints.landscape.subspaces import half_cosine
from critpoints.objectives.base import Objective
from critpoints.solvers.base import to_plain

Callback = Callable[[int, int], None]
BETAS, EPS = (0.9, 0.999), 1e-8


def spokes(m: int, points: int = 41) -> Tensor:
    """Barycentric coordinates along the lines from each vertex of a simplex to its centre: (m, points, m)."""
    t = torch.linspace(0, 1, points, dtype=torch.float64)[:, None]
    return torch.stack([(1 - t) * vertex + t / m for vertex in torch.eye(m, dtype=torch.float64)])


def edges(m: int, points: int = 41) -> Tensor:
    """Barycentric coordinates along the edges of a simplex: (m (m - 1) / 2, points, m)."""
    t, vertices = torch.linspace(0, 1, points, dtype=torch.float64)[:, None], torch.eye(m, dtype=torch.float64)
    return torch.stack([(1 - t) * vertices[i] + t * vertices[j] for i, j in itertools.combinations(range(m), 2)])


def interior(m: int, count: int, rng: np.random.Generator) -> Tensor:
    """Uniform random points of a simplex in barycentric coordinates, (count, m)."""
    return torch.from_numpy(rng.dirichlet(np.ones(m), count))


def triangle(points: int = 31) -> Tensor:
    """The lattice with ``points`` points an edge on a triangle, in barycentric coordinates (K, 3)."""
    n = points - 1
    return torch.tensor([(i, j, n - i - j) for i in range(points) for j in range(points - i)], dtype=torch.float64) / n


@dataclass(frozen=True)
class Sheet:
    """theta(b) = sum_i b_i^2 v_i + sum_{i<j} 2 b_i b_j c_ij for barycentric b: a Bezier simplex of degree 2.

    Attributes:
        optima: v, (m, P), where b is a unit vector.
        control: c, (m (m - 1) / 2, P), one for each pair i < j in lexicographic order.
    """

    optima: Tensor
    control: Tensor

    @classmethod
    def flat(cls, optima: Tensor) -> Sheet:
        """The flat simplex: control points half-way."""
        i, j = _pairs(len(optima))
        return cls(optima, 0.5 * (optima[i] + optima[j]))

    def weights(self, b: Tensor) -> tuple[Tensor, Tensor]:
        """The weights (K, m) of the optima and (K, m (m - 1) / 2) of the control points."""
        b = b.to(self.optima)
        i, j = _pairs(len(self.optima))
        return b**2, 2 * b[..., i] * b[..., j]

    def points(self, b: Tensor) -> Tensor:
        """The parameters at barycentric coordinates: (K, m) -> (K, P)."""
        corner, control = self.weights(b)
        return corner @ self.optima + control @ self.control

    @property
    def centre(self) -> Tensor:
        """The point with equal coordinates, (P,)."""
        m = len(self.optima)
        return self.points(torch.full((1, m), 1 / m, dtype=torch.float64))[0]


@dataclass(frozen=True)
class Tunnel:
    """A sheet through m optima, fitted for low loss, beside the flat simplex.

    Attributes:
        sheet: the fitted sheet; (m, P) optima and (m (m - 1) / 2, P) control points.
        spoke_losses, flat_spoke_losses: (m, points), from each optimum to the centre, on the sheet and on the simplex.
        edge_losses, flat_edge_losses: (m (m - 1) / 2, points).
        interior_losses, flat_interior_losses: (K,), at the same random points.
    """

    sheet: Sheet
    spoke_losses: Tensor
    flat_spoke_losses: Tensor
    edge_losses: Tensor
    flat_edge_losses: Tensor
    interior_losses: Tensor
    flat_interior_losses: Tensor

    @property
    def worst(self) -> float:
        """The largest loss found on the sheet: spokes, edges and interior."""
        return _largest(self.spoke_losses, self.edge_losses, self.interior_losses)

    @property
    def flat_worst(self) -> float:
        """The largest loss found on the flat simplex."""
        return _largest(self.flat_spoke_losses, self.flat_edge_losses, self.flat_interior_losses)

    @property
    def flat_barrier(self) -> float:
        """By how much the flat simplex rises above the highest of the optima."""
        return self.flat_worst - float(self.spoke_losses[:, 0].max())

    def to_dict(self) -> dict[str, Any]:
        """A JSON-ready dictionary, without the points of the sheet."""
        document = to_plain(self)
        del document["sheet"]
        return document | {"worst": self.worst, "flat_worst": self.flat_worst, "flat_barrier": self.flat_barrier}


def fit_tunnel(
    objective: Objective,
    optima: Tensor,
    *,
    lr: float,
    steps: int,
    samples: int = 8,
    seed: int = 0,
    dense: int = 400,
    callback: Callback | None = None,
) -> Tunnel:
    """Bends the simplex spanned by m optima into a sheet of low loss: all control points together, by Adam.

    Each step takes new points, half of them uniform on the spokes from the optima to the centre and on the edges, half
    uniform inside; without those on the lines, the lines stay high.

    Args:
        optima: (m, P), m >= 2.
        lr, steps: of Adam; the rate falls to zero along half a cosine.
        samples: points a step.
        dense: random interior points at which the result is measured, besides 41 on every spoke and edge.

    Raises:
        InvalidArgument: fewer than two optima.
        InvalidData: the losses of a step are not finite.
    """
    optima = objective.validate(optima).detach()
    require(optima.ndim == 2 and len(optima) >= 2, f"optima must be (m, P), m >= 2, got {tuple(optima.shape)}")
    require(samples >= 2, f"samples must be at least 2, got {samples}")
    flat, m, rng = Sheet.flat(optima), len(optima), np.random.default_rng([seed, len(optima)])
    run, rate = AdamRun.start(flat.control), half_cosine(steps)
    for step in range(steps):
        sheet = Sheet(optima, run.theta)
        b = torch.cat([_on_lines(m, samples // 2, rng), interior(m, samples - samples // 2, rng)])
        losses, gradients = objective.loss_and_gradient(sheet.points(b))
        require(
            bool(torch.isfinite(losses).all()), f"the sheet's loss is not finite at step {step}: lower lr", InvalidData
        )
        gradient = sheet.weights(b)[1].T @ gradients / len(b)
        bias = (1 - BETAS[0] ** (step + 1), 1 - BETAS[1] ** (step + 1))
        run.step(losses.mean().expand(len(gradient)), gradient, lr * rate(step), bias, BETAS, EPS)
        if callback is not None:
            callback(step + 1, steps)
    inside = interior(m, dense, np.random.default_rng([seed, m, 1]))
    found = [sheet_losses(objective, Sheet(optima, run.theta), b) for b in (spokes(m), edges(m), inside)]
    before = [sheet_losses(objective, flat, b) for b in (spokes(m), edges(m), inside)]
    pairs = [each for pair in zip(found, before, strict=True) for each in pair]
    return Tunnel(Sheet(optima, run.theta), *pairs)


def sheet_losses(objective: Objective, sheet: Sheet, b: Tensor) -> Tensor:
    """Losses on a sheet at barycentric coordinates (*b, m): (*b)."""
    rows = b.reshape(-1, b.shape[-1])
    return torch.cat([objective.loss(sheet.points(row)) for row in rows.split(64)]).detach().cpu().reshape(b.shape[:-1])


def _on_lines(m: int, count: int, rng: np.random.Generator) -> Tensor:
    """Random points on spokes and edges, as many of the one as of the other, (count, m)."""
    corners = np.eye(m)
    chosen = np.array([rng.permutation(m)[:2] for _ in range(count)])
    ends = np.where(rng.random(count)[:, None] < 0.5, corners[chosen[:, 1]], 1 / m)
    t = rng.random((count, 1))
    return torch.from_numpy((1 - t) * corners[chosen[:, 0]] + t * ends)


def _pairs(m: int) -> tuple[Tensor, Tensor]:
    i, j = torch.triu_indices(m, m, offset=1)
    return i, j


def _largest(*losses: Tensor) -> float:
    return max(float(each.max()) for each in losses)
