"""Networks whose critical points are all known: deep linear networks, and quadratic networks that learn XOR.

Their critical points are not isolated. They fill strata: manifolds on each of which loss and index are constant.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from critpoints.errors import require
from critpoints.objectives.base import Objective


@dataclass(frozen=True)
class Stratum:
    """A manifold of critical points.

    Attributes:
        name: what distinguishes it.
        loss: on all of it.
        index: of the Hessian on all of it; None where it varies.
        example: (P,), one of its points.
    """

    name: str
    loss: float
    index: int | None
    example: Tensor


class StratifiedObjective(Objective):
    """An objective that knows the strata of its critical points.

    Attributes:
        strata: all of them but for points where strata meet, at which the loss is one of theirs.
        known_minimum: the least loss.
    """

    strata: list[Stratum]
    known_minimum: float = 0.0


class DeepLinear(StratifiedObjective):
    """|W_D .. W_2 W_1 - M|^2 (Frobenius), the W of widths n, hidden.., n, for a random matrix M with given spectrum.

    A critical point fits a set I of singular pairs of M, no more than the narrowest layer holds, at the loss
    tr S - sum over I of lambda_i, where S = M M^T has the eigenvalues lambda_i = sigma_i^2: binomially many levels.
    With r = |I| at its maximum, the index is the number of pairs i in I, j not in I with sigma_j > sigma_i: there the
    product of the layers is a submersion onto the matrices of rank r. Below it, with one hidden layer of width p, every
    free hidden unit adds n - r; deeper networks have points of several indices, non-strict saddles among them.
    Source: P. Baldi and K. Hornik, Neural Networks 2 (1989) 53; E. M. Achour et al., arXiv 2107.13289; the indices by
    our own algebra.

    Args:
        singular_values: of M, n positive numbers, no two alike.
        hidden: widths of the hidden layers, at least one.
        seed: of the random orthogonal factors of M.

    >>> sorted((round(each.loss, 6), each.index) for each in DeepLinear([2.0, 1.0], hidden=[1]).strata)
    [(1.0, 0), (4.0, 1), (5.0, 2)]
    """

    def __init__(self, singular_values: Sequence[float], hidden: Sequence[int], seed: int = 0) -> None:
        n = len(singular_values)
        require(n >= 1 and min(singular_values) > 0, f"singular_values must be positive, got {list(singular_values)}")
        require(len(set(singular_values)) == n, f"singular_values must differ, got {list(singular_values)}")
        require(len(hidden) >= 1 and min(hidden) >= 1, f"hidden must be one or more widths from 1, got {list(hidden)}")
        self.widths, self.sigma = (n, *hidden, n), tuple(map(float, singular_values))
        self.dim = sum(a * b for a, b in itertools.pairwise(self.widths))
        rng = np.random.default_rng(seed)
        self.left, self.right = (torch.from_numpy(np.linalg.qr(rng.standard_normal((n, n)))[0]) for _ in range(2))
        self.target = (self.left * torch.tensor(self.sigma, dtype=self.dtype)) @ self.right.T
        most = min(n, *hidden)
        sets = [chosen for r in range(most + 1) for chosen in itertools.combinations(range(n), r)]
        self.strata = [self._stratum(chosen, most) for chosen in sets]
        self.known_minimum = min(each.loss for each in self.strata)

    def layers(self, theta: Tensor) -> list[Tensor]:
        """W_1, .., W_D of each row, (*b, rows, columns)."""
        sizes = [a * b for a, b in itertools.pairwise(self.widths)]
        pieces = theta.split(sizes, -1)
        return [
            piece.unflatten(-1, (b, a)) for piece, (a, b) in zip(pieces, itertools.pairwise(self.widths), strict=True)
        ]

    def loss(self, theta: Tensor) -> Tensor:
        """See the class."""
        first, *rest = self.layers(self.validate(theta))
        for layer in rest:  # products as sums over one axis: row by row the same, alone or in a batch
            first = (layer.unsqueeze(-1) * first.unsqueeze(-3)).sum(-2)
        return ((first - self.target) ** 2).sum((-1, -2))

    def _stratum(self, chosen: tuple[int, ...], most: int) -> Stratum:
        n, r = self.widths[0], len(chosen)
        rest = [j for j in range(n) if j not in chosen]
        index: int | None = sum(self.sigma[j] > self.sigma[i] for i in chosen for j in rest)
        if len(self.widths) == 3:
            index += (self.widths[1] - r) * (n - r)
        elif r < most:
            index = None
        layers = [torch.zeros(b, a, dtype=self.dtype) for a, b in itertools.pairwise(self.widths)]
        for place, i in enumerate(chosen):
            for number, layer in enumerate(layers):
                scale = self.sigma[i] if number == 0 else 1.0
                out = self.left[:, i] if number == len(layers) - 1 else torch.eye(layer.shape[0])[place].to(layer)
                into = self.right[:, i] if number == 0 else torch.eye(layer.shape[1])[place].to(layer)
                layer += scale * torch.outer(out, into)
        loss = sum(self.sigma[j] ** 2 for j in rest)
        name = "pairs " + ", ".join(map(str, chosen)) if chosen else "no pair"
        return Stratum(name, loss, index, torch.cat([layer.flatten() for layer in layers]))


class QuadraticXor(StratifiedObjective):
    """XOR of two signs by f(x) = sum_k a_k (w_k . x)^2, mean squared error over the four inputs (+-1, +-1).

    On these f = S + D x_1 x_2 with S = sum a_k |w_k|^2 and D = 2 sum a_k w_k1 w_k2, and the label is x_1 x_2: the loss
    is S^2 + (D - 1)^2. Its critical points have loss 0; or 1/2, where one half of XOR is learnt: all w_k on one
    diagonal, and as many negative directions as neurons whose a_k has the wrong sign, so that those with none are
    local minima that are not global; or 1, where f = 0, generically of index m. Parameters as in ``TwoLayerObjective``.
    Source: our own algebra: a_k M w_k = 0 and w_k . M w_k = 0 with M = [[S, D - 1], [D - 1, S]].

    >>> [(each.loss, each.index) for each in QuadraticXor(2).strata]
    [(0.0, 0), (0.5, 0), (0.5, 1), (0.5, 0), (0.5, 1), (1.0, 2)]
    """

    def __init__(self, width: int = 2) -> None:
        require(width >= 1, f"width must be at least 1, got {width}")
        self.width, self.dim = width, 3 * width
        both = self._parameters([(1.0, 1.0), (1.0, -1.0)], [0.25, -0.25]) if width > 1 else None
        self.strata = [Stratum("XOR learnt", 0.0, 0, both)] if both is not None else []
        self.strata += [self._half_learnt(sign, wrong) for sign in (1, -1) for wrong in range(width)]
        self.strata.append(Stratum("f = 0", 1.0, width, self._parameters([(0.0, 0.0)] * width, [1.0] * width)))
        self.known_minimum = min(each.loss for each in self.strata)

    def _half_learnt(self, sign: int, wrong: int) -> Stratum:
        """All neurons on the diagonal (1, sign), ``wrong`` of them with an output weight of the wrong sign."""
        right = (0.25 + 0.1 * wrong) / (self.width - wrong)
        weights = [-0.1 * sign] * wrong + [right * sign] * (self.width - wrong)
        name = f"diagonal (1, {sign}), {wrong} of the wrong sign"
        return Stratum(name, 0.5, wrong, self._parameters([(1.0, float(sign))] * self.width, weights))

    def _parameters(self, w: Sequence[tuple[float, float]], a: Sequence[float]) -> Tensor:
        """Parameters of these neurons; those that are missing are zero."""
        w, a = [*w, *[(0.0, 0.0)] * (self.width - len(w))], [*a, *[0.0] * (self.width - len(a))]
        return torch.tensor([*itertools.chain.from_iterable(w), *a], dtype=self.dtype)

    def loss(self, theta: Tensor) -> Tensor:
        """See the class."""
        theta = self.validate(theta)
        w, a = theta[..., : 2 * self.width].unflatten(-1, (self.width, 2)), theta[..., 2 * self.width :]
        total = (a * (w**2).sum(-1)).sum(-1)
        product = 2 * (a * w[..., 0] * w[..., 1]).sum(-1)
        return total**2 + (product - 1) ** 2
