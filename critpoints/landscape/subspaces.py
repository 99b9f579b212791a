"""Affine sections of parameter space: losses on planes, optimisation inside, intrinsic dimension.

Optimisation in random affine sections and the intrinsic dimension: Li, Farkhoor, Liu and Yosinski (arXiv 1804.08838).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from critpoints.errors import require
from critpoints.objectives.base import Objective
from critpoints.objectives.wedges import WedgeObjective
from critpoints.solvers.base import to_plain
from critpoints.solvers.training import train

Callback = Callable[[int, int], None]


class SectionObjective(Objective):
    """An objective on the affine section origin + B z, as a function of the d coordinates z.

    Args:
        objective: on P parameters.
        origin: (P,).
        basis: B, (P, d), columns of any length.

    Raises:
        InvalidArgument: shapes that do not fit.

    >>> from critpoints.objectives.zoo import Rosenbrock
    >>> line = SectionObjective(Rosenbrock(), torch.tensor([0.0, 1.0]), torch.tensor([[1.0], [0.0]]))
    >>> line.loss(torch.tensor([[0.0], [1.0]])).tolist()  # (0, 1) and (1, 1)
    [101.0, 0.0]
    """

    def __init__(self, objective: Objective, origin: Tensor, basis: Tensor) -> None:
        self.objective, self.origin = objective, objective.validate(origin).detach()
        require(self.origin.ndim == 1, f"origin must be one point (P,), got shape {tuple(self.origin.shape)}")
        self.dtype, self.device = objective.dtype, objective.device
        self.basis = torch.as_tensor(basis).to(dtype=self.dtype, device=self.device)
        shape, size = tuple(self.basis.shape), len(self.origin)
        require(len(shape) == 2 and shape[0] == size, f"basis must have shape ({size}, d), got {shape}")
        self.dim = shape[1]

    def embed(self, z: Tensor) -> Tensor:
        """The parameters at each row of coordinates: (*b, d) -> (*b, P)."""
        z = self.validate(z)
        # row by row, on memory of its own: one matrix product would round by the size of the batch
        rows = [self.origin + self.basis @ row.clone() for row in z.reshape(-1, z.shape[-1])]
        return torch.stack(rows).reshape(*z.shape[:-1], -1) if rows else z.new_empty(*z.shape[:-1], len(self.origin))

    def _restrict(self, theta: Tensor) -> Tensor:
        """B^T of each row: (*b, P) -> (*b, d)."""
        rows = [self.basis.mT @ row.clone() for row in theta.reshape(-1, theta.shape[-1])]
        return torch.stack(rows).reshape(*theta.shape[:-1], -1)

    def loss(self, theta: Tensor) -> Tensor:
        """The loss at each row of coordinates: (*b, d) -> (*b)."""
        return self.objective.loss(self.embed(theta))

    def loss_and_gradient(self, theta: Tensor) -> tuple[Tensor, Tensor]:
        """Loss (*b) and gradient by the coordinates (*b, d)."""
        loss, gradient = self.objective.loss_and_gradient(self.embed(theta.detach()))
        return loss, self._restrict(gradient)

    def hvp(self, theta: Tensor, v: Tensor) -> Tensor:
        """B^T H B v, row by row: (*b, d)."""
        theta, v = torch.broadcast_tensors(self.validate(theta).detach(), self.validate(v).detach())
        along = self.embed(v) - self.origin
        return self._restrict(self.objective.hvp(self.embed(theta), along))


def random_basis(dim: int, d: int, seed: int) -> Tensor:
    """An orthonormal basis (dim, d) of a uniformly random subspace; those of one seed are nested in each other."""
    require(1 <= d <= dim, f"d must be from 1 to dim = {dim}, got {d}")
    # column by column, so that the first ones do not depend on how many there are
    columns = np.random.default_rng([seed, dim]).standard_normal((d, dim)).T
    q, r = np.linalg.qr(columns)
    return torch.from_numpy(np.ascontiguousarray(q * np.sign(np.diag(r))))


@dataclass(frozen=True)
class PlaneLosses:
    """Losses on a planar section.

    Attributes:
        x, y: (N,), coordinates along the first and the second orthonormal direction from the origin of the plane.
        losses: (N, N), rows by y.
        marks: (K, 2), coordinates of the points that the plane was laid through; none for a random plane.
    """

    x: Tensor
    y: Tensor
    losses: Tensor
    marks: Tensor

    def to_dict(self) -> dict[str, Any]:
        """A JSON-ready dictionary."""
        return to_plain(self)


def cut_plane(objective: Objective, origin: Tensor, basis: Tensor, *, extent: float, points: int = 41) -> PlaneLosses:
    """Losses on a square of half-width ``extent`` around a point (P,), in the plane of an orthonormal basis (P, 2)."""
    x = torch.linspace(-extent, extent, points, dtype=objective.dtype)
    return _plane(SectionObjective(objective, origin, basis), x, x, x.new_zeros(0, 2))


def cut_plane_through(objective: Objective, three: Tensor, *, margin: float = 0.3, points: int = 41) -> PlaneLosses:
    """Losses in the plane through three points (3, P), which are marked; ``margin`` is a part of their extent."""
    three = objective.validate(three)
    require(three.ndim == 2 and len(three) == 3, f"three must have shape (3, P), got {tuple(three.shape)}")
    differences = (three[1:] - three[0]).T
    basis, lengths = torch.linalg.qr(differences)
    require(bool((lengths.diagonal().abs() > 1e-6 * lengths.abs().max()).all()), "three must not lie on a line")
    marks = torch.cat([three.new_zeros(1, 2), (basis.T @ differences).T])
    low, high = marks.amin(0), marks.amax(0)
    pad = margin * (high - low).max()
    x, y = (
        torch.linspace(float(a - pad), float(b + pad), points, dtype=three.dtype)
        for a, b in zip(low, high, strict=True)
    )
    return _plane(SectionObjective(objective, three[0], basis), x, y, marks)


def _plane(section: SectionObjective, x: Tensor, y: Tensor, marks: Tensor) -> PlaneLosses:
    losses = [section.loss(torch.stack([x, each.expand_as(x)], -1).to(section.device)).detach() for each in y]
    return PlaneLosses(x, y, torch.stack(losses).cpu(), marks)


@dataclass(frozen=True)
class SubspaceStudy:
    """Losses reached inside random affine sections.

    Attributes:
        dims: (N,), dimensions of the sections, ascending.
        seeds: (S,), of the random directions.
        losses: (N, S), the lowest found in each.
        start_losses: (S,), at the origins of the sections.
    """

    dims: tuple[int, ...]
    seeds: tuple[int, ...]
    losses: Tensor
    start_losses: Tensor

    def threshold(self, loss: float) -> int | None:
        """The smallest d from which on at least half of the sections reach ``loss``; None if there is no such d."""
        reached = (self.losses <= loss).double().mean(1) >= 0.5
        below = [d for d, ok in zip(self.dims, reached.tolist(), strict=True) if not ok]
        above = [d for d in self.dims if not below or d > below[-1]]
        return above[0] if above else None

    def to_dict(self) -> dict[str, Any]:
        """A JSON-ready dictionary."""
        return to_plain(self)


def optimise_in_subspaces(
    objective: Objective,
    origins: Tensor,
    dims: Sequence[int],
    *,
    seeds: Sequence[int],
    lr: float,
    steps: int,
    callback: Callback | None = None,
) -> SubspaceStudy:
    """Minimises an objective inside random affine sections, by Adam on the coordinates in an orthonormal basis.

    Args:
        origins: (S, P), where the sections start, one a seed; their directions depend on the seed alone, and a
            section of higher dimension contains those of lower.
        lr, steps: of Adam; the rate falls to zero along half a cosine.
        callback: callback(done, total) after each section.
    """
    origins = objective.validate(origins)
    require(
        origins.ndim == 2 and len(origins) == len(seeds),
        f"origins must be ({len(seeds)}, P), got {tuple(origins.shape)}",
    )
    dims = tuple(sorted(set(dims)))
    require(bool(dims) and dims[0] >= 1, f"dims must be positive integers, got {dims}")
    losses = torch.full((len(dims), len(seeds)), torch.nan, dtype=torch.float64)
    for j, (origin, seed) in enumerate(zip(origins, seeds, strict=True)):
        basis = random_basis(len(origin), dims[-1], seed)
        for i, d in enumerate(dims):
            section = SectionObjective(objective, origin, basis[:, :d])
            start = torch.zeros(1, d, dtype=objective.dtype)
            found = train(section, start, lr=lr, steps=steps, schedule=half_cosine(steps))
            losses[i, j] = float(found.loss)
            if callback is not None:
                callback(j * len(dims) + i + 1, len(dims) * len(seeds))
    return SubspaceStudy(dims, tuple(seeds), losses, objective.loss(origins).detach().double().cpu())


def half_cosine(steps: int) -> Callable[[int], float]:
    """A schedule that falls from 1 to 0 along half a cosine."""
    return lambda step: 0.5 * (1 + float(np.cos(np.pi * step / max(steps, 1))))


def section_distances(model: WedgeObjective, origin: Tensor, basis: Tensor) -> Tensor:
    """The distance from an affine section to the middle of each wedge of the model, by least squares: (W,).

    Wedge w is met where s equations in d unknowns, (R^T B)[S_w] z = o_w - (R^T origin)[S_w], have a solution.
    """
    x = model.coordinates(origin)
    columns = model.coordinates(basis.T.contiguous())
    found = []
    for axes, offsets in zip(model.axes, model.offsets, strict=True):
        matrix, right = columns[:, axes].T, (offsets - x[axes]).unsqueeze(-1)
        z = torch.linalg.lstsq(matrix, right, driver="gelsd").solution
        found.append((matrix @ z - right).norm())
    return torch.stack(found)
