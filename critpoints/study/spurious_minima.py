"""Safran and Shamir's experiment: which minima gradient descent ends at, modulo symmetry, and a proof for each.

k students learn k orthonormal targets in R^k (arXiv 1712.08968, section 4.2): Gaussian starts of variance 1/k, gradient
descent until |grad F| <= 1e-9, with steps of 5/k as in arXiv 2006.01005 (the first paper has 0.1). End points are
grouped into orbits under permutations of neurons and of coordinates, each by an explicit permutation, and one of each
is proven.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from critpoints.certification.gaussian_relu_certificate import MinimumCertificate, certify_gaussian_relu
from critpoints.certification.safran_shamir import LocalMinimum
from critpoints.errors import NotCertified, SpecMismatch, StoreError, require
from critpoints.kernels.threads import single_blas_thread
from critpoints.objectives.gaussian_relu import GaussianReluObjective
from critpoints.solvers.base import iterate
from critpoints.solvers.gradient_descent import STRIDE, GradientDescent
from critpoints.statistics import wilson_interval
from critpoints.symmetry.rows_columns import align

SCHEMA = 1
GTOL = 1e-9
MAX_STEPS = 400_000  # of gradient descent; minima with an eigenvalue of 4e-4 take about 150,000
TOLERANCE = 1e-5  # entrywise, between aligned end points of one orbit
SAME_LOSS = 1e-8  # losses that differ by more need no alignment: at |grad| = 1e-9 a loss is exact to |grad|^2 / lambda

Callback = Callable[[float, str], None]


@dataclass(frozen=True)
class Orbit:
    """One minimum modulo symmetry.

    Attributes:
        count, fraction, wilson95: starts that ended there, of all, with the 95 % interval.
        seed: of the start that is the representative.
        loss: of the representative, float64; the proof has its interval.
        farthest: largest distance of a member from the representative, after alignment.
        inside: members proven to lie in the ball where the representative's minimum is the only critical point.
        is_global: whether it is the orbit of the target itself.
        proof: what was proven, or None.
        reason: why nothing was proven, or empty.
        certificate: name of the certificate's file, or None.
    """

    count: int
    fraction: float
    wilson95: tuple[float, float]
    seed: int
    loss: float
    farthest: float
    inside: int
    is_global: bool
    proof: LocalMinimum | None
    reason: str
    certificate: str | None = None


@dataclass(frozen=True)
class SpuriousMinima:
    """The minima found for one k, most frequent first.

    Attributes:
        starts, seed: the starts have seeds from ``seed`` on.
        unresolved: starts whose gradient norm stayed above 1e-9.
        seconds, cpu_seconds: wall-clock and processor time.
    """

    k: int
    starts: int
    seed: int
    orbits: tuple[Orbit, ...]
    unresolved: int
    seconds: float
    cpu_seconds: float

    @property
    def distinct(self) -> bool:
        """Whether the orbits are proven to be different: all proven, their loss intervals disjoint."""
        proofs = [orbit.proof for orbit in self.orbits if orbit.proof is not None]
        losses = sorted((Fraction(proof.loss_lower), Fraction(proof.loss_upper)) for proof in proofs)
        apart = all(low[1] < high[0] for low, high in pairwise(losses))
        return apart and len(proofs) == len(self.orbits)

    def to_dict(self) -> dict[str, Any]:
        """A JSON-ready dictionary."""
        return {**asdict(self), "distinct": self.distinct}


@dataclass
class _Group:
    """Aligned end points: the representative's row, the members' rows and distances."""

    matrix: np.ndarray
    loss: float
    rows: list[int]
    distances: list[float]


def end_points(
    problem: GaussianReluObjective, seeds: range, callback: Callable[[int, int], None] | None = None
) -> Tensor:
    """Where gradient descent from the starts of these seeds ends, (S, P)."""
    method, limit = GradientDescent(min(1.0, 5.0 / problem.k), GTOL), MAX_STEPS // STRIDE
    return iterate(method, problem, problem.init(seeds), max_iterations=limit, callback=callback)["theta"]


def group_orbits(problem: GaussianReluObjective, theta: Tensor) -> list[_Group]:
    """End points (S, P) grouped by explicit permutations; the first group is the target's, even if it is empty."""
    matrices, losses = problem.split(theta).numpy(), problem.loss(theta).tolist()
    groups = [_Group(problem.target.numpy(), 0.0, [], [])]
    for row, (matrix, loss) in enumerate(zip(matrices, losses, strict=True)):
        for group in groups:
            found = align(matrix, group.matrix, TOLERANCE) if abs(loss - group.loss) <= SAME_LOSS else None
            if found is not None:
                group.rows.append(row)
                group.distances.append(found.distance)
                break
        else:
            groups.append(_Group(matrix, loss, [row], [0.0]))
    return groups


def find_minima(k: int, starts: int, seed: int = 0, *, callback: Callback | None = None) -> Iterator[Any]:
    """The minima for one k: yields (orbit, certificate or None) as they are proven, and at last the ``SpuriousMinima``.

    Args:
        callback: called as callback(starts done, what is being done).

    Raises:
        InvalidArgument: k below 2, no starts, a negative seed.
    """
    require(k >= 2, f"k must be at least 2, got {k}")
    require(starts >= 1 and seed >= 0, f"starts must be at least 1 and seed not negative, got {starts} and {seed}")
    report = callback or (lambda done, what: None)
    clock, cpu = time.perf_counter(), time.process_time()
    problem, seeds = GaussianReluObjective(k), range(seed, seed + starts)
    theta = end_points(problem, seeds, lambda done, _: report(0.9 * done, f"k = {k}: descending"))
    resolved = problem.gradient(theta).norm(dim=-1) <= GTOL
    rows = torch.nonzero(resolved).squeeze(-1)
    report(0.9 * starts, f"k = {k}: comparing")
    with single_blas_thread():
        groups = sorted(group_orbits(problem, theta[rows]), key=lambda group: -len(group.rows))
        orbits = []
        for number, group in enumerate(groups):
            report((0.95 + 0.05 * number / len(groups)) * starts, f"k = {k}: proving {number + 1} of {len(groups)}")
            example = int(rows[group.rows[0]]) + seed if group.rows else -1
            orbit, certificate = _prove(problem, group, starts, example)
            orbits.append(orbit)
            yield orbit, certificate
    report(float(starts), f"k = {k}: done")
    seconds, cpu_seconds = time.perf_counter() - clock, time.process_time() - cpu
    yield SpuriousMinima(k, starts, seed, tuple(orbits), starts - len(rows), seconds, cpu_seconds)


def _prove(
    problem: GaussianReluObjective, group: _Group, starts: int, seed: int
) -> tuple[Orbit, MinimumCertificate | None]:
    certificate, reason = None, ""
    try:
        certificate = certify_gaussian_relu(problem, group.matrix.ravel().tolist())
    except NotCertified as error:
        reason = str(error)
    proof, inside = None, 0
    if certificate is not None:
        proof = certificate.proof
        moved = np.linalg.norm(group.matrix.ravel() - np.array([float(c) for c in certificate.centre]))
        reach = float(proof.uniqueness_radius) * (1 - 1e-9)  # room for the rounding of the distances
        inside = int(np.sum(np.array(group.distances) + moved < reach))
    count = len(group.rows)
    orbit = Orbit(
        count=count,
        fraction=count / starts,
        wilson95=wilson_interval(count, starts),
        seed=seed,
        loss=group.loss,
        farthest=max(group.distances, default=0.0),
        inside=inside,
        is_global=certificate is not None and certificate.is_global,
        proof=proof,
        reason=reason,
    )
    return orbit, certificate


def run(k: int, starts: int, seed: int, folder: Path, *, callback: Callback | None = None) -> SpuriousMinima:
    """``find_minima`` with files: a certificate an orbit as it is proven, then ``k-NN.summary``, which is read back.

    Raises:
        SpecMismatch: the folder holds the minima for this k from other starts.
        StoreError: the file cannot be read.
    """
    summary = folder / f"k-{k:02d}.summary"
    if summary.exists():
        return _load(summary, starts, seed)
    folder.mkdir(parents=True, exist_ok=True)
    orbits: list[Orbit] = []
    for found in find_minima(k, starts, seed, callback=callback):
        if isinstance(found, SpuriousMinima):
            found = replace(found, orbits=tuple(orbits))
            _write(summary, json.dumps({"schema": SCHEMA, **found.to_dict()}, indent=1, allow_nan=False) + "\n")
            return found
        orbit, certificate = found
        if certificate is not None:
            name = f"k-{k:02d}-orbit-{len(orbits):02d}.json"
            _write(folder / name, certificate.certificate.to_json())
            orbit = replace(orbit, certificate=name)
        orbits.append(orbit)
    raise AssertionError("find_minima ends with a SpuriousMinima")


def _write(path: Path, text: str) -> None:
    """Whole or not at all: an interruption leaves no half of a file."""
    part = path.with_suffix(".part")
    part.write_text(text, encoding="utf-8")
    os.replace(part, path)


def _load(path: Path, starts: int, seed: int) -> SpuriousMinima:
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        found = document.pop("schema"), document["starts"], document["seed"]
    except (ValueError, KeyError, TypeError) as error:
        raise StoreError(f"{path} is not a list of minima: {error}; delete it or give another --out") from error
    if found != (SCHEMA, starts, seed):
        raise SpecMismatch(
            f"{path} holds {found[1]} starts from seed {found[2]} (schema {found[0]}), not {starts} from {seed}; give "
            "another --out"
        )
    orbits = tuple(
        Orbit(**{**o, "wilson95": tuple(o["wilson95"]), "proof": o["proof"] and LocalMinimum(**o["proof"])})
        for o in document.pop("orbits")
    )
    document.pop("distinct")
    return SpuriousMinima(**document, orbits=orbits)
