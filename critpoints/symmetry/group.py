"""The symmetry group of a two-layer network: permutations of the neurons, and reflections (w, a) -> (-w, -a) of some.

With s(-z) = k - s(z), reflecting the neurons of a set F changes f by the constant -k sum_F a, so F is admissible

- always for an odd activation (k = 0), and with an output bias, which takes the constant up: b -> b + k sum_F a;
- exactly when sum_F a = 0 otherwise: for the sigmoid without output bias it depends on the point. Such an element
  keeps f at this point, not around it. It maps a critical point to a critical point only where the mean residual is
  zero (at zero loss; or with data and labels symmetric under x -> -x, where sum_k a_k is that of the teacher), and
  changes the spectrum of the Hessian even there.

For an activation without reflection the group is that of the permutations. Left out are the continuous rescaling of
ReLU neurons, and reflections paid for by the output weight of a constant neuron (w = 0, a -> a + 2 sum_F a): they keep
f only where w = 0 exactly, and ``count_isolated_minima`` counts their images. Source: B. Simsek et al., arXiv
2105.12221; for the reflections, H. J. Sussmann, Neural Networks 5 (1992).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from critpoints.errors import require
from critpoints.objectives.two_layer import TwoLayerObjective

TOLERANCE = 1e-6  # in units of the parameters: what refinement leaves where the smallest eigenvalues are about 1e-7
ENUMERABLE = 12  # neurons up to which all sets of reflections are looked through


@dataclass(frozen=True)
class GroupElement:
    """A signed permutation of m neurons: neuron j of the image is neuron ``permutation[j]``, negated if ``flips[j]``.

    Raises:
        InvalidArgument: not a permutation of 0..m-1, or another number of flips.
    """

    permutation: tuple[int, ...]
    flips: tuple[bool, ...]

    def __post_init__(self) -> None:
        m = len(self.permutation)
        require(
            sorted(self.permutation) == list(range(m)),
            f"permutation must hold each of 0..{m - 1} once, got {self.permutation}",
        )
        require(len(self.flips) == m, f"flips must have one entry a neuron, {m}, got {len(self.flips)}")

    @classmethod
    def of(cls, permutation: np.ndarray, flips: np.ndarray) -> GroupElement:
        """The element with these arrays, (m,) each; ``flips`` in the order of the image."""
        return cls(tuple(permutation.tolist()), tuple(flips.astype(bool).tolist()))


def identity(width: int) -> GroupElement:
    """The element that leaves every student of this width alone."""
    return GroupElement(tuple(range(width)), (False,) * width)


def compose(second: GroupElement, first: GroupElement) -> GroupElement:
    """The element that acts as ``first``, then ``second``.

    >>> turn = GroupElement((1, 2, 0), (True, False, False))
    >>> compose(turn, inverse(turn)) == identity(3)
    True
    """
    require(
        len(second.permutation) == len(first.permutation),
        f"both elements must act on one width, got {len(second.permutation)} and {len(first.permutation)}",
    )
    pairs = zip(second.permutation, second.flips, strict=True)
    return GroupElement(
        tuple(first.permutation[i] for i in second.permutation),
        tuple(flip != first.flips[i] for i, flip in pairs),
    )


def inverse(element: GroupElement) -> GroupElement:
    """The element that undoes ``element``."""
    back = np.argsort(element.permutation)
    return GroupElement.of(back, np.array(element.flips, dtype=bool)[back])


def flips_are_free(problem: TwoLayerObjective) -> bool:
    """Whether every set of neurons may be reflected at every point."""
    k = problem.activation.reflection
    return k is not None and (k == 0 or problem.output_bias)


def is_admissible(problem: TwoLayerObjective, element: GroupElement, theta: Tensor, tol: float = TOLERANCE) -> bool:
    """Whether ``element`` keeps the function of all students ``theta`` (*b, P).

    Where reflections are not free that means |sum_F a| <= tol sqrt(m) for the set F of reflected neurons: a
    perturbation of the parameters of norm ``tol`` can change the sum by that much.
    """
    if not any(element.flips) or flips_are_free(problem):
        return True
    if problem.activation.reflection is None:
        return False
    _, a = problem.split(problem.validate(theta))
    return bool((_flipped_sum(element, a).abs() <= tol * len(element.flips) ** 0.5).all())


def _flipped_sum(element: GroupElement, a: Tensor) -> Tensor:
    """sum_F a, (*b, 1), for the set F of neurons that the element reflects."""
    flipped = [i for i, flip in zip(element.permutation, element.flips, strict=True) if flip]
    return a[..., flipped].sum(-1, keepdim=True)


def apply(problem: TwoLayerObjective, element: GroupElement, theta: Tensor, tol: float = TOLERANCE) -> Tensor:
    """The image of the students ``theta`` (*b, P) under ``element``, (*b, P): students with the same function.

    Raises:
        InvalidArgument: the element acts on another width, or would change the function by more than ``tol`` allows.
    """
    theta = problem.validate(theta)
    w, a = problem.split(theta)
    m = a.shape[-1]
    require(len(element.flips) == m, f"element acts on {len(element.flips)} neurons, theta has {m}")
    require(
        is_admissible(problem, element, theta, tol),
        f"the flips {element.flips} change the function: the output weights of the flipped neurons must sum to zero "
        f"(activation {problem.activation.name}, no output bias); see random_element for flips that are admissible",
    )
    order = torch.tensor(element.permutation, device=theta.device)
    sign = 1 - 2 * torch.tensor(element.flips, device=theta.device).to(theta.dtype)
    parts = [(w[..., order, :] * sign.unsqueeze(-1)).flatten(-2), a[..., order] * sign]
    if problem.output_bias:
        parts.append(theta[..., -1:] + (problem.activation.reflection or 0.0) * _flipped_sum(element, a))
    return torch.cat(parts, -1)


def zero_sum_sets(weights: np.ndarray, tol: float) -> np.ndarray:
    """All subsets of n numbers with a sum within ``tol`` of zero, as rows of a mask (n_sets, n); the empty one first.

    Raises:
        InvalidArgument: more than 24 numbers.

    >>> len(zero_sum_sets(np.array([1.0, -1.0, 1.0, -1.0]), 1e-9))
    6
    """
    require(len(weights) <= 24, f"the subsets of {len(weights)} numbers are too many to look through (at most 24)")
    sums = np.zeros(1)
    for weight in weights:  # bit j of an entry's number says whether weight j is in
        sums = np.concatenate([sums, sums + weight])
    numbers = np.flatnonzero(np.abs(sums) <= tol)
    return (numbers[:, None] >> np.arange(len(weights)) & 1).astype(bool)


def random_element(
    problem: TwoLayerObjective, theta: Tensor, rng: np.random.Generator, tol: float = 1e-12
) -> GroupElement:
    """A random element that keeps the function of the student ``theta`` (P,).

    The permutation is uniform. The reflections are uniform where they are free; where their output weights must sum
    to zero they are uniform among the sets within at most 12 neurons drawn at random, the empty set included.
    """
    theta = problem.validate(theta)
    require(theta.ndim == 1, f"theta must be one flat vector, got shape {tuple(theta.shape)}")
    m = problem.width(theta)
    flipped = np.zeros(m, dtype=bool)
    if flips_are_free(problem):
        flipped = rng.random(m) < 0.5
    elif problem.activation.reflection is not None:
        a = problem.split(theta)[1].detach().cpu().numpy()
        tried = rng.permutation(m)[:ENUMERABLE]
        flipped[tried] = rng.choice(zero_sum_sets(a[tried], tol * m**0.5))
    permutation = rng.permutation(m)
    return GroupElement.of(permutation, flipped[permutation])
