"""Dense symmetric matrices, many at once: eigendecompositions and the exact trust-region step, row by row.

Whatever mixes the entries of one row here is done in a fixed order, one row at a time, so that a row's result does
not depend on the batch that it is in.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numba
import numpy as np
import torch
from torch import Tensor

from critpoints.kernels.threads import map_rows, threads_for

_CHUNK = 64  # matrices a task; small enough to balance two threads, large enough to hide Python


@dataclass(frozen=True)
class Eigensystem:
    """Eigenvalues (S, P), ascending, and eigenvectors (S, P, P), one a column."""

    values: Tensor
    vectors: Tensor


def eigensystem(matrices: Tensor) -> Eigensystem:
    """Eigendecompositions of symmetric matrices (S, P, P) by LAPACK, each by one thread.

    A matrix with a non-finite entry gives NaN and leaves the others alone.
    """
    if matrices.device.type != "cpu":
        return eigensystem_on_device(matrices)
    source = matrices.detach().numpy()
    values, vectors = np.full(source.shape[:2], np.nan), np.full(source.shape, np.nan)
    finite = np.nonzero(np.isfinite(source).all(axis=(1, 2)))[0]

    def solve(rows: np.ndarray) -> None:
        values[rows], vectors[rows] = np.linalg.eigh(source[rows])

    map_rows(solve, [finite[i : i + _CHUNK] for i in range(0, len(finite), _CHUNK)])
    return Eigensystem(torch.from_numpy(values), torch.from_numpy(vectors))


def eigensystem_on_device(matrices: Tensor) -> Eigensystem:
    """As ``eigensystem``, by torch's batched solver on the matrices' own device.

    The solver is chosen by whether there is more than one matrix, and fails as a whole on a NaN: a batch of one is
    doubled, so that a row does not depend on its batch, and rows with a non-finite entry are solved as the identity.
    """
    finite = torch.isfinite(matrices).all(-1).all(-1)[:, None, None]
    safe = torch.where(finite, matrices, torch.eye(matrices.shape[-1]).to(matrices))
    batch = safe.expand(2, -1, -1) if len(safe) == 1 else safe
    values, vectors = (t[: len(safe)] for t in torch.linalg.eigh(batch))
    nan = torch.full_like(values[:, :1], torch.nan)
    return Eigensystem(torch.where(finite[:, :, 0], values, nan), torch.where(finite, vectors, nan[:, :, None]))


def row_norm(rows: Tensor) -> Tensor:
    """Euclidean norms of the rows of (S, P), each summed in the same order whatever S is."""
    total = torch.zeros_like(rows[:, 0])
    for p in range(rows.shape[1]):
        total = total + rows[:, p] ** 2
    return total.sqrt()


@dataclass(frozen=True)
class TrustRegionSteps:
    """Steps (S, P), the reduction that the quadratic model predicts (S,), and whether the radius binds (S,)."""

    step: Tensor
    predicted_reduction: Tensor
    on_boundary: Tensor


_rowwise: Any = numba.njit(error_model="numpy", cache=True)
_driver: Any = numba.njit(parallel=True, error_model="numpy", cache=True)


@_rowwise
def _length(g, values, shift):
    total = 0.0
    for i in range(len(g)):
        total += (g[i] / (values[i] + shift)) ** 2
    return math.sqrt(total)


@_rowwise
def _shift(g, values, radius):
    """The multiplier mu with |(Lambda + mu)^-1 g| = radius, by safeguarded Newton on 1/length (Conn et al., 7.3)."""
    norm = 0.0
    for i in range(len(g)):
        norm += g[i] * g[i]
    low = max(0.0, -values[0])
    high = low + math.sqrt(norm) / radius
    mu = high
    for _ in range(100):
        length = _length(g, values, mu)
        if abs(length - radius) <= 1e-10 * radius:
            break
        if length > radius:
            low = mu
        else:
            high = mu
        slope = 0.0
        for i in range(len(g)):
            slope += g[i] * g[i] / (values[i] + mu) ** 3
        guess = mu + (length - radius) / radius * length * length / slope
        mu = guess if low < guess < high else 0.5 * (low + high)
    return mu


@_rowwise
def _boundary_step(g, values, mu, gap, step):
    """-(Lambda + mu)^-1 g where Lambda + mu exceeds ``gap``, 0 elsewhere; returns the squared length."""
    length = 0.0
    for i in range(len(g)):
        step[i] = -g[i] / (values[i] + mu) if values[i] + mu > gap else 0.0
        length += step[i] ** 2
    return length


@_rowwise
def _solve_row(g, values, radius, step):
    """Global minimiser of g.p + p.Lambda.p/2 over |p| <= radius in the eigenbasis; returns whether the radius binds."""
    n = len(g)
    if values[0] > 0.0 and _length(g, values, 0.0) <= radius:
        for i in range(n):
            step[i] = -g[i] / values[i]
        return False
    low = max(0.0, -values[0])
    gap = 1e-13 * max(abs(values[0]), abs(values[n - 1]))
    largest = 0.0
    for i in range(n):
        largest = max(largest, abs(g[i]))
    hard = True
    for i in range(n):
        hard = hard and (values[i] + low > gap or abs(g[i]) <= 1e-14 * largest)
    if not hard:
        mu = _shift(g, values, radius)
        length = _boundary_step(g, values, mu, 0.0, step)
        if abs(math.sqrt(length) - radius) <= 1e-6 * radius:
            return True
        # mu is -values[0] to the last bit, where the length cannot be resolved: as good as the hard case
    # The hard case: g has no component along the lowest eigenvectors, so mu = -values[0] leaves |p| < radius and
    # the rest of the radius goes along the lowest eigenvector, either way (Nocedal & Wright, section 4.3).
    length = _boundary_step(g, values, low, gap, step)
    if length > radius * radius:
        _boundary_step(g, values, _shift(g, values, radius), 0.0, step)
        return True
    if values[0] < 0.0 or not hard:
        step[0] += math.copysign(math.sqrt(radius * radius - length), -g[0])
        return True
    return False


@_driver
def _solve_rows(gradient, values, vectors, radius, step, reduction, boundary):
    n_rows, n = gradient.shape
    for row in numba.prange(n_rows):
        g, p = np.zeros(n), np.zeros(n)
        for j in range(n):
            for i in range(n):
                g[i] += vectors[row, j, i] * gradient[row, j]
        boundary[row] = _solve_row(g, values[row], radius[row], p)
        for i in range(n):
            reduction[row] -= p[i] * (g[i] + 0.5 * values[row, i] * p[i])
        for j in range(n):
            for i in range(n):
                step[row, j] += vectors[row, j, i] * p[i]


def trust_region_steps(gradient: Tensor, system: Eigensystem, radius: Tensor) -> TrustRegionSteps:
    """Exact minimisers of the quadratic models g.p + p.H.p/2 within the radii, the hard case included.

    Args:
        gradient: (S, P).
        system: of the Hessians.
        radius: (S,).
    """
    arrays = [t.detach().cpu().numpy() for t in (gradient, system.values, system.vectors, radius)]
    n_rows = len(arrays[0])
    step, reduction, boundary = np.zeros_like(arrays[0]), np.zeros(n_rows), np.zeros(n_rows, dtype=np.bool_)
    with threads_for(len(step)):
        _solve_rows(*arrays, step, reduction, boundary)
    return TrustRegionSteps(*(torch.from_numpy(a).to(gradient.device) for a in (step, reduction, boundary)))


def newton_steps(gradient: Tensor, system: Eigensystem, cutoff: Tensor) -> Tensor:
    """-H^+ g, (S, P): undamped Newton steps, without the eigenvalues of size up to ``cutoff`` (S,)."""
    arrays = [t.detach().cpu().numpy() for t in (gradient, system.values, system.vectors, cutoff)]
    step = np.zeros_like(arrays[0])
    with threads_for(len(step)):
        _newton_rows(*arrays, step)
    return torch.from_numpy(step).to(gradient.device)


@_driver
def _newton_rows(gradient, values, vectors, cutoff, step):
    n_rows, n = gradient.shape
    for row in numba.prange(n_rows):
        for i in range(n):
            if abs(values[row, i]) > cutoff[row]:
                g = 0.0
                for j in range(n):
                    g += vectors[row, j, i] * gradient[row, j]
                for j in range(n):
                    step[row, j] -= vectors[row, j, i] * g / values[row, i]


def eigenvalue_noise(eigenvalues: Tensor) -> Tensor:
    """How far rounding can move an eigenvalue, (S,): P eps |H|, LAPACK's own bound with the entries' rounding.

    Source: Golub & Van Loan, Matrix Computations, section 8.1 (Weyl) and 8.3; a factor 4 for the sums in the entries.
    """
    eps = torch.finfo(eigenvalues.dtype).eps
    return 4 * eps * eigenvalues.shape[-1] * eigenvalues.abs().amax(-1)
