"""Random two-layer problems in all variants, and a plain evaluation of them that shares nothing with the kernels."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import product

import numpy as np
import torch
from torch import Tensor

from critpoints.activations import ACTIVATIONS
from critpoints.objectives.two_layer import TwoLayerObjective

EPS = float(np.finfo(np.float64).eps)
OPTIONS = list(product((False, True), repeat=3))  # hidden bias, output bias, weighted data


@dataclass(frozen=True)
class Case:
    """A kind of two-layer problem; ``mirrored`` data are symmetric, with labels that the activation's parity allows."""

    activation: str
    width: int = 3
    d: int = 2
    hidden_bias: bool = False
    output_bias: bool = False
    weighted: bool = False
    mirrored: bool = False
    n: int = 40
    scale: float = 1.0
    rows: int = 3
    seed: int = 0
    dtype: torch.dtype = field(default=torch.float64)

    def data(self) -> tuple[Tensor, Tensor, Tensor | None]:
        """Inputs, labels, weights."""
        rng = np.random.default_rng([self.seed, self.width, self.d])
        x, y, q = rng.normal(size=(self.n, self.d)), rng.normal(size=self.n), rng.uniform(0.1, 2, self.n)
        if self.mirrored:
            shift = 0.7 if ACTIVATIONS[self.activation].reflection else 0.0
            x, y, q = np.concatenate([x, -x]), np.concatenate([y, shift - y]), np.concatenate([q, q])
        return torch.from_numpy(x), torch.from_numpy(y), torch.from_numpy(q) if self.weighted else None

    def problem(self, **options) -> TwoLayerObjective:
        x, y, q = self.data()
        settings = {"hidden_bias": self.hidden_bias, "output_bias": self.output_bias, "scale": self.scale}
        return TwoLayerObjective(x, y, self.activation, sample_weight=q, dtype=self.dtype, **settings | options)

    def theta(self) -> Tensor:
        """Standard normal students, (rows, P)."""
        rng = np.random.default_rng([self.seed, self.width, self.d, 1])
        shape = (self.rows, self.problem().n_parameters(self.width))
        return torch.from_numpy(rng.normal(size=shape)).to(self.dtype)

    def directions(self, count: int) -> list[Tensor]:
        rng = np.random.default_rng([self.seed, self.width, self.d, 2])
        return [torch.from_numpy(rng.normal(size=self.theta().shape)) for _ in range(count)]

    def plain_loss(self, theta: Tensor) -> Tensor:
        """The loss of one student (P,), from the definition of the network and of the loss."""
        x, y, q = self.data()
        q = torch.ones_like(y) if q is None else q
        inputs = torch.cat([x, torch.ones(len(x), 1, dtype=x.dtype)], 1) if self.hidden_bias else x
        d = inputs.shape[1]
        f = torch.zeros_like(y) if not self.output_bias else theta[-1] * torch.ones_like(y)
        for k in range(self.width):
            f = f + theta[self.width * d + k] * ACTIVATIONS[self.activation](inputs @ theta[k * d : (k + 1) * d])
        return self.scale * (q * (f - y) ** 2).sum() / q.sum()


def all_sizes(activation: str) -> Iterator[Case]:
    """Widths 1 to 8 in dimensions 1 to 5, with the biases and weights taking turns so that all occur."""
    for i, (width, d) in enumerate(product(range(1, 9), range(1, 6))):
        hidden, output, weighted = OPTIONS[(i + i // 8) % 8]
        yield Case(activation, width, d, hidden, output, weighted, scale=1.0 if i % 3 else 0.5, n=37)


@dataclass(frozen=True)
class Sizes:
    """The sums of the absolute values of the terms that loss (S,), gradient (S, P) and Hessian (S, P, P) consist of."""

    loss: Tensor
    gradient: Tensor
    hessian: Tensor


def sizes_of_terms(problem: TwoLayerObjective, theta: Tensor) -> Sizes:
    """What a rounding error of eps a term may add up to, over eps; on the full data."""
    w, a = problem.split(theta)
    z, x, q = w @ problem.features.T, problem.features, 2 * problem.scale * problem.sample_weight
    s, s1, s2 = problem.activation.derivatives(z, 2)
    bias = theta[:, -1:].abs() if problem.output_bias else 0.0
    f = (a.unsqueeze(-1) * s).abs().sum(1) + bias + problem.y.abs()
    inner = (a.unsqueeze(-1) * s1).abs().unsqueeze(2) * x.T.abs()  # (S, m, d, N)
    ones = [torch.ones_like(f).unsqueeze(1)] if problem.output_bias else []
    jacobian = torch.cat([inner.flatten(1, 2), s.abs(), *ones], 1)
    hessian = (q * jacobian) @ jacobian.mT
    blocks = torch.einsum("sk,sn,skn,ni,nj->skij", a.abs(), q * f, s2.abs(), x.abs(), x.abs())
    cross = torch.einsum("sn,skn,ni->ski", q * f, s1.abs(), x.abs())
    m, d = w.shape[1:]
    for k in range(m):
        rows = slice(k * d, (k + 1) * d)
        hessian[:, rows, rows] += blocks[:, k]
        hessian[:, rows, m * d + k] += cross[:, k]
        hessian[:, m * d + k, rows] += cross[:, k]
    return Sizes(0.5 * (q * f**2).sum(-1), (jacobian * (q * f).unsqueeze(1)).sum(-1), hessian)
