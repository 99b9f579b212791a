"""The geometry of a path of T points in parameter space: principal components, distances, lengths (Lipton 2016)."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from critpoints.errors import InvalidData, require


@dataclass(frozen=True)
class PrincipalComponents:
    """The principal components of T points.

    Attributes:
        mean: (P,).
        components: (k, P), orthonormal rows; the sign makes the largest entry of each positive.
        variances: (T - 1,) or fewer, descending, of all directions: sums of squares over T - 1.
        coordinates: (T, k), of the points.
        residuals: (T,), the distance of each point from the subspace: how far outside a drawn plane it really lies.
    """

    mean: Tensor
    components: Tensor
    variances: Tensor
    coordinates: Tensor
    residuals: Tensor

    @property
    def explained(self) -> Tensor:
        """(r,), the share of the variance that the first 1, 2, ... components explain."""
        total = self.variances.sum()
        return torch.cumsum(self.variances, 0) / total

    def project(self, theta: Tensor) -> Tensor:
        """Coordinates of other points: (*b, P) -> (*b, k)."""
        return (theta.to(self.mean) - self.mean) @ self.components.T

    def to_dict(self) -> dict[str, Any]:
        """A JSON-ready dictionary, without mean and components."""
        return {name: getattr(self, name).tolist() for name in ("variances", "explained", "coordinates", "residuals")}


def find_principal_components(points: Tensor, k: int = 2) -> PrincipalComponents:
    """Exact principal components by way of the T x T Gram matrix, whose cost is linear in P.

    Args:
        points: (T, P), T >= 2; computed in float64.
        k: components kept, at most T - 1.

    Raises:
        InvalidArgument: fewer than 2 points, or k out of range.
        InvalidData: points that are not finite, or all the same.

    >>> corners = torch.tensor([[0.0, 0.0, 1.0], [4.0, 0.0, 1.0], [0.0, 2.0, 1.0], [4.0, 2.0, 1.0]])
    >>> found = find_principal_components(corners)
    >>> found.explained[:2].round(decimals=12), found.components.abs().round(decimals=12)
    (tensor([0.8000, 1.0000], dtype=torch.float64), tensor([[1., 0., 0.],
            [0., 1., 0.]], dtype=torch.float64))
    """
    points = _checked(points)
    _require_components(k, len(points))
    mean = points.mean(0)
    centred = points - mean
    return _from_gram(centred @ centred.T, mean, k, lambda weights: weights @ centred)


def stream_principal_components(
    read: Callable[[int], Tensor], n_points: int, k: int = 2, *, block: int = 32
) -> PrincipalComponents:
    """The same components of points that do not fit into memory together: at most two blocks of them are held.

    Every pair of blocks is read once for the Gram matrix, so the points are read about ``n_points / (2 block)`` times.

    Args:
        read: from a number below ``n_points`` to that point, (P,); called again and again.
        block: points held at a time.

    Raises:
        InvalidArgument, InvalidData: as ``find_principal_components``.
    """
    require(block >= 1, f"block must be at least 1, got {block}")
    _require_components(k, n_points)
    starts = range(0, n_points, block)

    def rows(start: int) -> Tensor:
        found = torch.stack(
            [read(i).detach().to("cpu", torch.float64) for i in range(start, min(start + block, n_points))]
        )
        require(bool(torch.isfinite(found).all()), f"a point from {start} on is not finite", InvalidData)
        return found

    mean = sum((rows(start).sum(0) for start in starts[1:]), rows(0).sum(0)) / n_points
    gram = torch.empty(n_points, n_points, dtype=torch.float64)
    for i, first in enumerate(starts):
        left = rows(first) - mean
        for second in starts[i:]:
            part = left @ (left if second == first else rows(second) - mean).T
            gram[first : first + len(part), second : second + part.shape[1]] = part
            gram[second : second + part.shape[1], first : first + len(part)] = part.T

    def combine(weights: Tensor) -> Tensor:
        total = torch.zeros(k, len(mean), dtype=torch.float64)
        for start in starts:
            total += weights[:, start : start + block] @ (rows(start) - mean)
        return total

    return _from_gram(gram, mean, k, combine)


def _from_gram(gram: Tensor, mean: Tensor, k: int, combine: Callable[[Tensor], Tensor]) -> PrincipalComponents:
    """Components from X X^T of the centred points X: if X X^T u = s u then X^T u / sqrt(s) is one."""
    values, vectors = torch.linalg.eigh(gram)
    values, vectors = values.flip(0).clamp_min(0), vectors.flip(1)
    require(float(values[0]) > 0, "the points are all the same: they have no principal components", InvalidData)
    # one direction of the T points is lost to the mean; tiny values are rounding, and divided by nowhere else
    scale = values[:k].clamp_min(float(values[0]) * 1e-30).sqrt()
    components = combine((vectors[:, :k] / scale).T)
    components = _orthonormal(components)
    largest = components.gather(1, components.abs().argmax(1, keepdim=True))
    signs = torch.where(largest < 0, -1.0, 1.0).to(components)
    components = components * signs
    coordinates = vectors[:, :k] * scale * signs.T
    outside = gram.diagonal() - coordinates.square().sum(1)
    variances = values[:-1] / (len(gram) - 1)
    return PrincipalComponents(mean, components, variances, coordinates, outside.clamp_min(0).sqrt())


def _orthonormal(rows: Tensor) -> Tensor:
    """Rows of length 1: those of directions without any variance come out of the Gram matrix as noise."""
    q, r = torch.linalg.qr(rows.T)
    return (q * torch.where(r.diagonal() < 0, -1.0, 1.0).to(q)).T


def _require_components(k: int, n_points: int) -> None:
    require(n_points >= 2, f"points must be at least 2, got {n_points}")
    require(1 <= k <= n_points - 1, f"k must be from 1 to {n_points - 1}, one less than the points, got {k}")


def _checked(points: Tensor) -> Tensor:
    points = torch.as_tensor(points).detach()
    require(points.ndim == 2, f"points must have shape (T, P), got {tuple(points.shape)}")
    require(bool(torch.isfinite(points).all()), "points must be finite", InvalidData)
    return points.to(torch.float64)


def random_walk_shares(n_points: int, dimension: int, *, walks: int = 20, seed: int = 0) -> Tensor:
    """What a random walk with independent Gaussian steps explains with its first components: (walks, n_points - 1).

    High shares alone do not make a path low-dimensional: as the dimension grows, the first component of a random walk
    explains 6 / pi^2 = 61 % and the first two 76 % of the variance (Antognini and Sohl-Dickstein 2018). The Gram matrix
    of the steps has a Wishart distribution, which is drawn by Bartlett's decomposition without points in P dimensions.

    Args:
        n_points: T, at least 2.
        dimension: P; must be at least n_points - 1.
    """
    steps = n_points - 1
    require(n_points >= 2, f"n_points must be at least 2, got {n_points}")
    require(dimension >= steps, f"dimension must be at least {steps}, the number of steps, got {dimension}")
    generator = np.random.default_rng(seed)
    shares = np.empty((walks, steps))
    centre = np.eye(n_points) - 1 / n_points
    sums = np.vstack([np.zeros(steps), np.tri(steps)])  # a walk is the cumulative sum of its steps
    for row in shares:
        factor = np.tril(generator.standard_normal((steps, steps)), -1)
        np.fill_diagonal(factor, np.sqrt(generator.chisquare(dimension - np.arange(steps))))
        half = centre @ sums @ factor
        values = np.linalg.svd(half, compute_uv=False) ** 2
        row[:] = np.cumsum(values) / values.sum()
    return torch.from_numpy(shares)


@dataclass(frozen=True)
class PathLengths:
    """How a path of T points moves.

    Attributes:
        from_origin: (T,), |theta_t|.
        from_start: (T,), |theta_t - theta_0|.
        steps: (T - 1,), |theta_{t+1} - theta_t|.
    """

    from_origin: Tensor
    from_start: Tensor
    steps: Tensor

    @property
    def straightness(self) -> float:
        """Chord over path length: 1 on a straight line."""
        return float(self.from_start[-1] / self.steps.sum())

    def moved_after(self, index: int) -> float:
        """The share of the path length that lies after point ``index``."""
        return float(self.steps[index:].sum() / self.steps.sum())

    def to_dict(self) -> dict[str, Any]:
        """A JSON-ready dictionary."""
        return {name: each.tolist() for name, each in self.__dict__.items()}


def measure_lengths(points: Tensor) -> PathLengths:
    """Distances along a path (T, P), T >= 2.

    >>> path = measure_lengths(torch.tensor([[3.0, 0.0], [3.0, 4.0], [0.0, 4.0]]))
    >>> path.from_origin.tolist(), path.from_start.tolist(), round(path.straightness, 3)
    ([3.0, 5.0, 4.0], [0.0, 4.0, 5.0], 0.714)
    """
    points = _checked(points)
    require(len(points) >= 2, "points must be at least 2")
    return PathLengths(points.norm(dim=1), (points - points[0]).norm(dim=1), points.diff(dim=0).norm(dim=1))


def pairwise_distances(points: Tensor) -> Tensor:
    """Euclidean distances between all pairs of n points, (n (n - 1) / 2,), in the order of ``itertools.combinations``.

    Exact differences, unlike a formula by scalar products, which loses small distances to rounding.
    """
    points = _checked(points)
    require(len(points) >= 2, "points must be at least 2")
    rows: Iterable[Tensor] = ((points[i + 1 :] - points[i]).norm(dim=1) for i in range(len(points) - 1))
    return torch.cat(list(rows))


def coefficient_of_variation(values: Tensor) -> float:
    """Standard deviation over mean: 0 if all are the same."""
    values = torch.as_tensor(values, dtype=torch.float64)
    return float(values.std() / values.mean())


def convergence_index(losses: Any, threshold: float) -> int | None:
    """The first of T points from which on every loss stays below ``threshold``; None if the last does not.

    >>> convergence_index([2.0, 0.1, 0.5, 0.1, 0.05], 0.2)
    3
    """
    above = np.flatnonzero(~(np.asarray(losses) < threshold))
    first = int(above[-1]) + 1 if len(above) else 0
    return first if first < len(losses) else None
