"""Directions in parameter space to look along: random, filter-normalised, of the Hessian, through points."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from critpoints.curvature.lanczos import Eigenpairs, eigsh
from critpoints.curvature.operator import HessianOperator
from critpoints.errors import InvalidArgument, require
from critpoints.objectives.base import Objective
from critpoints.objectives.module import ModuleObjective
from critpoints.objectives.two_layer import TwoLayerObjective

DEPENDENT = 1e-10  # relative: directions closer to each other than this span no plane


def random_directions(theta: Tensor, k: int = 2, *, seed: int) -> Tensor:
    """k random unit vectors, (k, P), of the point's dtype and device; they depend on the seed and on P alone."""
    require(k >= 1, f"k must be at least 1, got {k}")
    drawn = torch.randn(k, theta.shape[-1], dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    return (drawn / drawn.norm(dim=-1, keepdim=True)).to(theta)


def filters(objective: Objective, theta: Tensor) -> list[Tensor]:
    """The filters of each layer at points (*b, P), (*b, filters, size) each, as views of ``theta``.

    A filter is what makes one output channel: a row of every weight with two axes or more of a module, whose
    parameters with one axis (biases, scales of BatchNorm) belong to none; a hidden neuron's weights, bias included, and
    the output weights together, of a two-layer network. Other objectives are one filter.
    """
    if isinstance(objective, ModuleObjective):
        weights = [each for each in objective.unflatten(theta).values() if each.ndim > theta.ndim]
        return [each.flatten(theta.ndim) for each in weights]
    if isinstance(objective, TwoLayerObjective):
        w, a = objective.split(theta)
        return [w, a.unsqueeze(-2)]
    return [theta.unsqueeze(-2)]


def filter_normalised(objective: Objective, theta: Tensor, directions: Tensor) -> Tensor:
    """Directions (k, P) in which every filter has the norm of that filter of ``theta`` (P,); zero outside of filters.

    d_ij <- d_ij / |d_ij| |theta_ij|, so that pictures of networks whose weights are scaled differently can be compared
    (Li et al. 2018, section 4; parameters with one axis are fixed there, too).

    >>> from critpoints import PolynomialObjective
    >>> f = PolynomialObjective({(2, 0): 1, (0, 2): 1})
    >>> filter_normalised(f, torch.tensor([3.0, 4.0]).double(), torch.tensor([[0.0, 2.0]]).double())
    tensor([[0., 5.]], dtype=torch.float64)
    """
    theta, directions = objective.validate(theta).detach(), objective.validate(directions).detach()
    require(directions.ndim == 2, f"directions must have shape (k, P), got {tuple(directions.shape)}")
    scaled = torch.zeros_like(directions)
    layers = zip(*(filters(objective, each) for each in (theta, directions, scaled)), strict=True)
    for own, drawn, target in layers:
        norm = drawn.norm(dim=-1, keepdim=True)
        target.copy_(torch.where(norm > 0, drawn / norm * own.norm(dim=-1, keepdim=True), 0.0))
    return scaled


def hessian_directions(
    objective: Objective, theta: Tensor, k: int = 2, which: str = "BE", **options: Any
) -> tuple[Tensor, Eigenpairs]:
    """Eigenvectors (k, P) of the Hessian at a point (P,), and the eigenpairs in the same order, ascending.

    Args:
        which, options: of ``critpoints.eigsh``: "BE" from both ends, "SA" smallest, "LA" largest.
    """
    theta = objective.validate(theta).detach()
    pairs = eigsh(HessianOperator(objective, theta), k, which, **options)
    return _signed(pairs.vectors.mT).to(theta), pairs


def directions_through(points: Tensor) -> Tensor:
    """Orthonormal directions (k, P) of the flat through k + 1 points (k + 1, P), the first towards the second.

    Gram-Schmidt on the differences from the first point, as Garipov et al. 2018, section A.2, for three points.

    Raises:
        InvalidArgument: the points lie on a smaller flat.
    """
    require(points.ndim == 2 and len(points) >= 2, f"points must have shape (k + 1, P), got {tuple(points.shape)}")
    basis: list[Tensor] = []
    for difference in (points[1:] - points[0]).double():
        rest = difference
        for _ in range(2):  # once more, against cancellation
            for each in basis:
                rest = rest - (each @ rest) * each
        if not float(rest.norm()) > DEPENDENT * float(difference.norm()):
            raise InvalidArgument("points must not lie on one line: their differences are linearly dependent")
        basis.append(rest / rest.norm())
    return torch.stack(basis).to(points)


def _signed(vectors: Tensor) -> Tensor:
    """Rows with their largest component positive: an eigenvector's sign is nobody's choice."""
    largest = vectors.abs().argmax(-1, keepdim=True)
    return vectors * torch.where(vectors.gather(-1, largest) < 0, -1.0, 1.0)
