"""LimitObjective: the networks at the end of a channel to infinity, where the loss is an ordinary, finite objective.

Two neurons with w_i, w_j -> w and a_i, a_j -> +-infinity become the gated unit c s(w.x) + (v.x) s'(w.x); neurons that
diverge at w = 0 become a constant and a linear unit b.x (math: s''(0) = 0 for odd and sigmoid activations). Source:
"Flat channels to infinity in neural loss landscapes", arXiv 2506.14951, and the parity variants of the sigmoid.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from critpoints.kernels.threads import map_rows
from critpoints.objectives.base import Objective, SecondOrder
from critpoints.objectives.two_layer import TwoLayerObjective

Array = NDArray[np.float64]


@dataclass(frozen=True)
class LimitShape:
    """What a limit network is made of: how many ordinary neurons, gated pairs, a constant, a linear unit."""

    ordinary: int
    pairs: int
    constant: bool
    linear: bool


@dataclass(frozen=True)
class LimitParts:
    """A limit network's parameters, as views: w (*b, o, d), a (*b, o); pairs: centre, gate (*b, p, d), c (*b, p)."""

    w: Tensor
    a: Tensor
    centre: Tensor
    gate: Tensor
    c: Tensor
    constant: Tensor
    linear: Tensor


class LimitObjective(Objective):
    """The loss of limit networks of one shape on the data of a two-layer objective.

    Parameters, flat: (w_1, .., w_o, a_1, .., a_o, centres, gates v, c_1, .., c_p [, constant] [, b]). An output bias of
    the students is the limit network's constant.

    Args:
        base: the students' objective.
        shape: of the limit network.
    """

    def __init__(self, base: TwoLayerObjective, shape: LimitShape) -> None:
        self.base, self.shape = base, shape
        self.dtype, self.device = base.dtype, base.device
        d = base.n_inputs
        sizes = [shape.ordinary * d, shape.ordinary, shape.pairs * d, shape.pairs * d, shape.pairs]
        self._sizes = [*sizes, int(shape.constant), d if shape.linear else 0]
        self.dim = sum(self._sizes)

    def parts(self, theta: Tensor) -> LimitParts:
        """Splits parameters (*b, P)."""
        w, a, centre, gate, c, constant, linear = theta.split(self._sizes, dim=-1)
        d = self.base.n_inputs
        w, centre, gate = (part.reshape(*theta.shape[:-1], part.shape[-1] // d, d) for part in (w, centre, gate))
        return LimitParts(w, a, centre, gate, c, constant, linear)

    def predict(self, theta: Tensor) -> Tensor:
        """Outputs on the data, (*b, N); differentiable."""
        x, s, p = self.base.features, self.base.activation, self.parts(self.validate(theta))
        output = theta.new_zeros((*theta.shape[:-1], len(x)))
        if self.shape.ordinary:
            output = output + (p.a.unsqueeze(-1) * s(p.w @ x.T)).sum(-2)
        if self.shape.pairs:
            z = p.centre @ x.T
            output = output + (p.c.unsqueeze(-1) * s(z) + (p.gate @ x.T) * s.derivative(z, 1)).sum(-2)
        if self.shape.linear:
            output = output + p.linear @ x.T
        return output + p.constant if self.shape.constant else output

    def loss(self, theta: Tensor) -> Tensor:
        """The loss of each row, (*b)."""
        error = self.predict(theta) - self.base.y
        return self.base.scale * (self.base.sample_weight * error**2).sum(-1)

    def second_order(self, theta: Tensor) -> SecondOrder:
        """See ``Objective.second_order``; closed forms, row by row, so that a row does not depend on its batch."""
        theta = self.validate(theta).detach()
        rows = zip(*map_rows(self._row, theta), strict=True)
        loss, gradient, hessian, noise = (np.stack(parts) for parts in rows)
        return SecondOrder(*(torch.from_numpy(a).to(theta) for a in (loss, gradient, hessian, noise)))

    def loss_and_gradient(self, theta: Tensor) -> tuple[Tensor, Tensor]:
        """Loss (*b) and gradient (*b, P)."""
        theta = self.validate(theta)
        here = self.second_order(theta.reshape(-1, theta.shape[-1]))
        return here.loss.reshape(theta.shape[:-1]), here.gradient.reshape(theta.shape)

    @cached_property
    def _data(self) -> tuple[Array, Array, Array]:
        samples = self.base.samples
        x = np.ascontiguousarray(samples.inputs.cpu().numpy().T)
        return x, samples.targets.cpu().numpy(), samples.weights.cpu().numpy()

    def _derivatives(self, z: Array, orders: int) -> list[Array]:
        values = torch.from_numpy(np.ascontiguousarray(z))
        return [t.numpy() for t in self.base.activation.derivatives(values, orders)]

    def _balance_jacobian(self) -> Array:
        """dB/dtheta of halved data (kernels/samples.py): the constant and every output weight have mirror images."""
        d, shape = self.base.n_inputs, self.shape
        row = np.zeros(self.dim or 0)
        first_c = shape.ordinary * (d + 1) + 2 * shape.pairs * d
        row[shape.ordinary * d : shape.ordinary * (d + 1)] = self.base.samples.reflection
        row[first_c : first_c + shape.pairs] = self.base.samples.reflection
        if shape.constant:
            row[first_c + shape.pairs] = 2.0
        return row

    def _row(self, theta: Tensor) -> tuple[Array, Array, Array, Array]:
        x, y, q = self._data
        samples, p = self.base.samples, self.parts(theta.cpu())
        n, d = x.shape
        jacobian: list[Array] = []
        s, s1, s2 = self._derivatives(p.w.numpy() @ x.T, 2)
        t, t1, t2, t3 = self._derivatives(p.centre.numpy() @ x.T, 3)
        s, t = s - samples.centre, t - samples.centre
        a, c, gate = p.a.numpy()[:, None], p.c.numpy()[:, None], p.gate.numpy() @ x.T
        terms = [*(a * s), *(c * t), *(gate * t1)]
        jacobian += [x[:, j] * row for row in a * s1 for j in range(d)]
        jacobian += list(s)
        jacobian += [x[:, j] * row for row in c * t1 + gate * t2 for j in range(d)]
        jacobian += [x[:, j] * row for row in t1 for j in range(d)]
        jacobian += list(t)
        if self.shape.constant:
            ones = np.zeros(n) if samples.halved else np.ones(n)
            terms.append(float(p.constant[0]) * ones)
            jacobian.append(ones)
        if self.shape.linear:
            terms.append(x @ p.linear.numpy())
            jacobian += list(x.T)
        matrix, error = np.array(jacobian), sum(terms, -y)
        size = np.abs(y) + sum(np.abs(term) for term in terms)
        weighted = q * error
        loss, gradient = weighted @ error, 2 * matrix @ weighted
        hessian = 2 * (matrix * q) @ matrix.T
        self._add_curvature(hessian, x, weighted, (a * s2, s1), (c * t2 + gate * t3, t1, t2))
        if samples.halved:
            row = self._balance_jacobian()
            balance = float(row @ theta.cpu().numpy()) - samples.shift
            loss = loss + samples.balance_weight * balance**2
            gradient = gradient + 2 * samples.balance_weight * balance * row
            hessian = hessian + 2 * samples.balance_weight * np.outer(row, row)
        absolute = 2 * np.abs(matrix) @ (q * size)
        noise = np.finfo(np.float64).eps * np.linalg.norm(absolute)
        return np.asarray(loss), gradient, 0.5 * (hessian + hessian.T), np.asarray(noise)

    def _add_curvature(
        self,
        hessian: Array,
        x: Array,
        weighted: Array,
        ordinary: tuple[Array, Array],
        gated: tuple[Array, Array, Array],
    ) -> None:
        """Adds 2 sum_i q_i e_i D2 f_i: a block a neuron, and centre-centre, centre-c, centre-gate of a pair."""
        d, o, pairs = x.shape[1], self.shape.ordinary, self.shape.pairs
        first_a, first_centre = o * d, o * (d + 1)
        first_gate, first_c = first_centre + pairs * d, first_centre + 2 * pairs * d

        def add(rows: slice, columns: slice, block: Array) -> None:
            hessian[rows, columns] += 2 * block
            if rows != columns:
                hessian[columns, rows] += 2 * block.T

        for k in range(o):
            block, column = slice(k * d, (k + 1) * d), slice(first_a + k, first_a + k + 1)
            add(block, block, (x.T * (weighted * ordinary[0][k])) @ x)
            add(block, column, (x.T @ (weighted * ordinary[1][k]))[:, None])
        for k in range(pairs):
            block = slice(first_centre + k * d, first_centre + (k + 1) * d)
            gate = slice(first_gate + k * d, first_gate + (k + 1) * d)
            add(block, block, (x.T * (weighted * gated[0][k])) @ x)
            add(block, slice(first_c + k, first_c + k + 1), (x.T @ (weighted * gated[1][k]))[:, None])
            add(block, gate, (x.T * (weighted * gated[2][k])) @ x)
