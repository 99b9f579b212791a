"""Paths between minima: nudged elastic band with a climbing image, then the exact saddle, then both ways down from it.

Images between two minima are moved by the gradient across the path and by springs along it; the highest one climbs, its
gradient along the path reversed. The tangent points to the higher neighbour. Source: G. Henkelman and H. Jónsson,
J. Chem. Phys. 113 (2000) 9978; with B. P. Uberuaga, 113 (2000) 9901. Steps across the path are preconditioned with the
Hessians |H| + shift at the images: where curvatures differ by 1e6, plain gradient steps do not move along valleys.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from critpoints.curvature.dense import eigensystem, row_norm
from critpoints.descent import Descents, descend_from_saddles
from critpoints.errors import require
from critpoints.objectives.base import Objective
from critpoints.objectives.two_layer import TwoLayerObjective
from critpoints.solvers.base import to_plain
from critpoints.solvers.saddle_search import search_saddles
from critpoints.symmetry.canonical import align, same_orbit
from critpoints.symmetry.group import apply

IMAGES = 15
ITERATIONS = 200
STILL = 1e-4  # of the path's length: largest move of an image at which the band has settled
LONGEST = 0.2  # a step, in units of the distance between neighbours at the start
SHIFT = 1e-3  # of the largest curvature, added to all of them
SAME = 1e-5


@dataclass(frozen=True)
class Band:
    """A nudged elastic band.

    Attributes:
        images: (M, P), the two ends included; the second end is aligned to the first.
        loss: (M,).
        highest: the climbing image's number.
        iterations: steps made.
        settled: whether the images stopped moving.
    """

    images: Tensor
    loss: Tensor
    highest: int
    iterations: int
    settled: bool

    def to_dict(self) -> dict[str, Any]:
        """A JSON-ready dictionary."""
        return to_plain(self)


@dataclass(frozen=True)
class Connection:
    """A band, the saddle of index 1 found from its highest image, and where both sides of that lead.

    Attributes:
        band: the nudged elastic band.
        saddle: (P,); None if the search found no critical point of index 1.
        loss: of the saddle.
        ways: down from the saddle; None without one.
        connects: whether the two ways lead to the two ends, modulo the group.
        reason: why there is no connection; empty if there is.
    """

    band: Band
    saddle: Tensor | None
    loss: float | None
    ways: Descents | None
    connects: bool
    reason: str

    def to_dict(self) -> dict[str, Any]:
        """A JSON-ready dictionary."""
        ways = None if self.ways is None else self.ways.to_dict()
        return {
            "band": self.band.to_dict(),
            "saddle": None if self.saddle is None else self.saddle.tolist(),
            "loss": self.loss,
            "ways": ways,
            "connects": self.connects,
            "reason": self.reason,
        }


def find_band(
    problem: Objective, a: Tensor, b: Tensor, *, images: int = IMAGES, max_iterations: int = ITERATIONS
) -> Band:
    """A nudged elastic band with a climbing image between two points (P,), the second one aligned to the first.

    Raises:
        InvalidArgument: fewer than three images, points that do not fit.
    """
    require(images >= 3, f"images must be at least 3, got {images}")
    require(max_iterations >= 1, f"max_iterations must be at least 1, got {max_iterations}")
    a, b = problem.validate(a).detach(), problem.validate(b).detach()
    require(a.ndim == 1 and a.shape == b.shape, f"a and b must be points (P,), got {tuple(a.shape)}, {tuple(b.shape)}")
    if isinstance(problem, TwoLayerObjective):
        b = apply(problem, align(problem, b, a).element, b)
    shares = torch.linspace(0, 1, images, dtype=a.dtype).unsqueeze(-1)
    path = (1 - shares) * a + shares * b
    spacing = float((b - a).norm()) / (images - 1)
    settled, iteration = False, 0
    loss = problem.loss_and_gradient(path)[0]
    for iteration in range(1, max_iterations + 1):
        step = _steps(problem, path, climb=iteration > max_iterations // 5)
        length = row_norm(step)
        step = step * (LONGEST * spacing / length.clamp(min=LONGEST * spacing)).unsqueeze(-1)
        path = path.clone()
        path[1:-1] += step
        loss = problem.loss_and_gradient(path)[0]
        if iteration > max_iterations // 5 and float(row_norm(step).max()) <= STILL * spacing:
            settled = True
            break
    return Band(path, loss, 1 + int(loss[1:-1].argmax()), iteration, settled)


def _steps(problem: Objective, path: Tensor, *, climb: bool) -> Tensor:
    """Steps of the inner images, (M - 2, P)."""
    here = problem.second_order(path)
    tangent, inner = _tangents(path, here.loss), here.gradient[1:-1]
    system = eigensystem(here.hessian[1:-1])
    size = system.values.abs()
    size = size + SHIFT * size.amax(-1, keepdim=True)
    along = (system.vectors * inner.unsqueeze(-1)).sum(-2) / size
    step = -(system.vectors * along.unsqueeze(-2)).sum(-1)
    parallel = (step * tangent).sum(-1, keepdim=True) * tangent
    gaps = row_norm(path[1:] - path[:-1])
    springs = 0.5 * (gaps[1:] - gaps[:-1]).unsqueeze(-1) * tangent
    result = step - parallel + springs
    if climb:
        top = int(here.loss[1:-1].argmax())
        result[top] = step[top] - 2 * parallel[top]
    return result


def _tangents(path: Tensor, loss: Tensor) -> Tensor:
    """Unit tangents of the inner images: towards the higher neighbour, mixed at extrema (Henkelman & Jónsson, 8-11)."""
    forward, backward = path[2:] - path[1:-1], path[1:-1] - path[:-2]
    rise, fall = loss[2:] - loss[1:-1], loss[1:-1] - loss[:-2]
    large, small = torch.maximum(rise.abs(), fall.abs()), torch.minimum(rise.abs(), fall.abs())
    up = loss[2:] > loss[:-2]
    weights = torch.where(up, large, small), torch.where(up, small, large)
    mixed = weights[0].unsqueeze(-1) * forward + weights[1].unsqueeze(-1) * backward
    tangent = torch.where(((rise > 0) & (fall > 0)).unsqueeze(-1), forward, mixed)
    tangent = torch.where(((rise < 0) & (fall < 0)).unsqueeze(-1), backward, tangent)
    return tangent / row_norm(tangent).clamp(min=torch.finfo(path.dtype).tiny).unsqueeze(-1)


def connect(
    problem: Objective,
    a: Tensor,
    b: Tensor,
    *,
    images: int = IMAGES,
    max_iterations: int = ITERATIONS,
    method: str = "flow",
) -> Connection:
    """A saddle of index 1 next to the top of a nudged elastic band between two minima (P,), and where it leads.

    Args:
        images: of the band, the ends included.
        max_iterations: of the band.
        method: of the ways down, as for ``descend_from_saddles``.

    Raises:
        InvalidArgument: options out of range, points that do not fit.

    >>> from critpoints.objectives.zoo import MuellerBrown
    >>> problem = MuellerBrown()
    >>> deep, shallow = problem.critical_points[0].theta, problem.critical_points[2].theta
    >>> found = connect(problem, deep, shallow)
    >>> found.saddle.round(decimals=4).tolist(), found.connects
    ([-0.822, 0.6243], True)
    """
    band = find_band(problem, a, b, images=images, max_iterations=max_iterations)
    order = band.loss[1:-1].argsort(descending=True)[:3] + 1
    ends = search_saddles(problem, band.images[order], index=1)
    rows = [i for i in range(len(order)) if ends.status[i].is_critical and int(ends.index[i]) == 1]
    if not rows:
        return Connection(band, None, None, None, False, "no critical point of index 1 next to the top of the band")
    saddle = ends.theta[rows[0]]
    (ways,) = descend_from_saddles(problem, saddle[None], method=method)
    targets, reached = [band.images[0], band.images[-1]], [branch.end.theta for branch in ways.branches]
    straight = [_same(problem, p, q) for p, q in zip(reached, targets, strict=False)]
    crossed = [_same(problem, p, q) for p, q in zip(reached, targets[::-1], strict=False)]
    connects = len(reached) == 2 and (all(straight) or all(crossed))
    reason = "" if connects else ways.reason or "the saddle's ways down lead elsewhere"
    return Connection(band, saddle, float(ends.loss[rows[0]]), ways, connects, reason)


def _same(problem: Objective, p: Tensor, q: Tensor) -> bool:
    if isinstance(problem, TwoLayerObjective):
        return same_orbit(problem, p, q, SAME)
    return float((p - q).norm()) <= SAME * (1 + float(q.norm()))
