"""LimitObjective: the networks at the end of a channel to infinity, where the loss is an ordinary, finite objective.

Two neurons with w_i, w_j -> w and a_i, a_j -> +-infinity become the gated unit c s(w.x) + (v.x) s'(w.x). Three become
c s(w.x) + (v.x) s'(w.x) + (sigma/2) (q.x)^2 s''(w.x), sigma = +-1: their weight vectors must be collinear to leading
order for the diverging terms to cancel, which makes the quadratic form one of rank 1. Neurons that diverge at w = 0
become a constant and a linear unit b.x (s''(0) = 0 for odd and sigmoid activations). Source: "Flat channels to infinity
in neural loss landscapes", arXiv 2506.14951; the parity variants of the sigmoid and sigma by the project's own algebra.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from critpoints.kernels.threads import map_rows
from critpoints.objectives.base import Objective, SecondOrder
from critpoints.objectives.two_layer import TwoLayerObjective

Array = NDArray[np.float64]
_VECTORS = (0, 2, 3, 5, 6, 7)  # the fields of LimitParts that hold vectors of the input space


@dataclass(frozen=True)
class LimitShape:
    """What a limit network is made of: how many ordinary neurons, gated pairs, a constant, a linear unit.

    ``triples`` holds the sign sigma of each triple.
    """

    ordinary: int
    pairs: int
    constant: bool
    linear: bool
    triples: tuple[int, ...] = ()


@dataclass(frozen=True)
class LimitParts:
    """A limit network's parameters, as views.

    Attributes:
        w, a: ordinary neurons, (*b, o, d) and (*b, o).
        centre, gate, c: of the pairs, (*b, p, d), (*b, p, d) and (*b, p).
        triple_centre, triple_gate, bend, triple_c: w, v, q (*b, t, d) and c (*b, t) of the triples.
        constant, linear: (*b, 0 or 1) and (*b, 0 or d).
    """

    w: Tensor
    a: Tensor
    centre: Tensor
    gate: Tensor
    c: Tensor
    triple_centre: Tensor
    triple_gate: Tensor
    bend: Tensor
    triple_c: Tensor
    constant: Tensor
    linear: Tensor


class LimitObjective(Objective):
    """The loss of limit networks of one shape on the data of a two-layer objective.

    Parameters, flat: (w_1, .., w_o, a_1, .., a_o, then of the pairs centres, gates v, c, then of the triples centres,
    gates v, bends q, c [, constant] [, b]). An output bias of the students is the limit network's constant.

    Args:
        base: the students' objective.
        shape: of the limit network.
    """

    def __init__(self, base: TwoLayerObjective, shape: LimitShape) -> None:
        self.base, self.shape = base, shape
        self.dtype, self.device = base.dtype, base.device
        d, triples = base.n_inputs, len(shape.triples)
        sizes = [shape.ordinary * d, shape.ordinary, shape.pairs * d, shape.pairs * d, shape.pairs]
        sizes += [triples * d, triples * d, triples * d, triples]
        self._sizes = [*sizes, int(shape.constant), d if shape.linear else 0]
        self.dim = sum(self._sizes)

    def parts(self, theta: Tensor) -> LimitParts:
        """Splits parameters (*b, P)."""
        d, parts = self.base.n_inputs, list(theta.split(self._sizes, dim=-1))
        for k in _VECTORS:
            parts[k] = parts[k].reshape(*theta.shape[:-1], parts[k].shape[-1] // d, d)
        return LimitParts(*parts)

    def predict(self, theta: Tensor, features: Tensor | None = None) -> Tensor:
        """Outputs on the data, or on the (N, n_inputs) that the hidden neurons are to see; (*b, N), differentiable."""
        x = self.base.features if features is None else features
        s, p = self.base.activation, self.parts(self.validate(theta))
        output = theta.new_zeros((*theta.shape[:-1], len(x)))
        if self.shape.ordinary:
            output = output + (p.a.unsqueeze(-1) * s(p.w @ x.T)).sum(-2)
        if self.shape.pairs:
            z = p.centre @ x.T
            output = output + (p.c.unsqueeze(-1) * s(z) + (p.gate @ x.T) * s.derivative(z, 1)).sum(-2)
        if self.shape.triples:
            z, sigma = p.triple_centre @ x.T, torch.tensor(self.shape.triples, dtype=theta.dtype).unsqueeze(-1)
            output = output + (p.triple_c.unsqueeze(-1) * s(z) + (p.triple_gate @ x.T) * s.derivative(z, 1)).sum(-2)
            output = output + (0.5 * sigma * (p.bend @ x.T) ** 2 * s.derivative(z, 2)).sum(-2)
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

    @cached_property
    def _starts(self) -> list[int]:
        """Where each field of LimitParts begins in theta."""
        return [0, *np.cumsum(self._sizes).tolist()]

    def _balance_jacobian(self) -> Array:
        """dB/dtheta of halved data (kernels/samples.py): the constant and every output weight have mirror images."""
        row, first = np.zeros(self.dim or 0), self._starts
        for weights in (1, 4, 8):
            row[first[weights] : first[weights + 1]] = self.base.samples.reflection
        row[first[9] : first[10]] = 2.0
        return row

    def _row(self, theta: Tensor) -> tuple[Array, Array, Array, Array]:
        x, y, q = self._data
        samples = self.base.samples
        units = self._units(theta.cpu(), x)
        matrix = np.zeros((self.dim or 0, len(x)))
        for unit in units:
            for rows, values in unit.jacobian:
                matrix[rows] = values
        error = sum((term for unit in units for term in unit.terms), -y)
        size = np.abs(y) + sum(np.abs(term) for unit in units for term in unit.terms)
        weighted = q * error
        loss, gradient = weighted @ error, 2 * matrix @ weighted
        hessian = 2 * (matrix * q) @ matrix.T
        for unit in units:
            for rows, columns, factor, pattern in unit.curvature:
                block = 2 * _PATTERNS[pattern](x, weighted * factor)
                hessian[rows, columns] += block
                if rows != columns:
                    hessian[columns, rows] += block.T
        if samples.halved:
            row = self._balance_jacobian()
            balance = float(row @ theta.cpu().numpy()) - samples.shift
            loss = loss + samples.balance_weight * balance**2
            gradient = gradient + 2 * samples.balance_weight * balance * row
            hessian = hessian + 2 * samples.balance_weight * np.outer(row, row)
        absolute = 2 * np.abs(matrix) @ (q * size)
        noise = np.finfo(np.float64).eps * np.linalg.norm(absolute)
        return np.asarray(loss), gradient, 0.5 * (hessian + hessian.T), np.asarray(noise)

    def _units(self, theta: Tensor, x: Array) -> list[_Unit]:
        """Every unit's terms and derivatives at one point."""
        parts: list[Any] = [part.numpy() for part in self.parts(theta).__dict__.values()]
        p: Any = LimitParts(*parts)
        centre, d, first = self.base.samples.centre, self.base.n_inputs, self._starts

        def vector(field: int, k: int) -> slice:
            return slice(first[field] + k * d, first[field] + (k + 1) * d)

        def scalar(field: int, k: int) -> slice:
            return slice(first[field] + k, first[field] + k + 1)

        units = []
        for k in range(self.shape.ordinary):
            s = self._derivatives(p.w[k] @ x.T, 2)
            units.append(_neuron(x, s, p.a[k], centre, vector(0, k), scalar(1, k)))
        for k in range(self.shape.pairs):
            s = self._derivatives(p.centre[k] @ x.T, 3)
            units.append(_pair(x, s, p.c[k], x @ p.gate[k], centre, vector(2, k), vector(3, k), scalar(4, k)))
        for k, sigma in enumerate(self.shape.triples):
            s = self._derivatives(p.triple_centre[k] @ x.T, 4)
            places = vector(5, k), vector(6, k), vector(7, k), scalar(8, k)
            units.append(_triple(x, s, p.triple_c[k], x @ p.triple_gate[k], x @ p.bend[k], sigma, centre, places))
        if self.shape.constant:
            ones = np.zeros(len(x)) if self.base.samples.halved else np.ones(len(x))
            units.append(_Unit([p.constant[0] * ones], [(scalar(9, 0), ones[None])], []))
        if self.shape.linear:
            units.append(_Unit([x @ p.linear], [(vector(10, 0), x.T)], []))
        return units


@dataclass(frozen=True)
class _Unit:
    """A unit's terms (N,) of the output, rows of the Jacobian, and blocks of sum_i e_i D2 f_i by factor and pattern."""

    terms: list[Array]
    jacobian: list[tuple[slice, Array]]
    curvature: list[tuple[slice, slice, Array, str]]


# sum_i e_i factor_i x_i x_i^T, and sum_i e_i factor_i x_i
_PATTERNS: dict[str, Callable[[Array, Array], Array]] = {
    "xx": lambda x, values: (x.T * values) @ x,
    "x1": lambda x, values: (x.T @ values)[:, None],
}


def _neuron(x: Array, s: list[Array], a: float, centre: float, w_at: slice, a_at: slice) -> _Unit:
    """A s(w.x)."""
    value = s[0] - centre
    jacobian = [(w_at, x.T * (a * s[1])), (a_at, value[None])]
    return _Unit([a * value], jacobian, [(w_at, w_at, a * s[2], "xx"), (w_at, a_at, s[1], "x1")])


def _pair(
    x: Array, s: list[Array], c: float, gated: Array, centre: float, w_at: slice, v_at: slice, c_at: slice
) -> _Unit:
    """C s(w.x) + (v.x) s'(w.x)."""
    value = s[0] - centre
    jacobian = [(w_at, x.T * (c * s[1] + gated * s[2])), (v_at, x.T * s[1]), (c_at, value[None])]
    curvature = [
        (w_at, w_at, c * s[2] + gated * s[3], "xx"),
        (w_at, c_at, s[1], "x1"),
        (w_at, v_at, s[2], "xx"),
    ]
    return _Unit([c * value, gated * s[1]], jacobian, curvature)


def _triple(
    x: Array, s: list[Array], c: float, gated: Array, bent: Array, sigma: int, centre: float, places: tuple[slice, ...]
) -> _Unit:
    """C s(w.x) + (v.x) s'(w.x) + (sigma/2) (q.x)^2 s''(w.x)."""
    w_at, v_at, q_at, c_at = places
    value, half = s[0] - centre, 0.5 * sigma * bent**2
    jacobian = [
        (w_at, x.T * (c * s[1] + gated * s[2] + half * s[3])),
        (v_at, x.T * s[1]),
        (q_at, x.T * (sigma * bent * s[2])),
        (c_at, value[None]),
    ]
    curvature = [
        (w_at, w_at, c * s[2] + gated * s[3] + half * s[4], "xx"),
        (w_at, c_at, s[1], "x1"),
        (w_at, v_at, s[2], "xx"),
        (w_at, q_at, sigma * bent * s[3], "xx"),
        (q_at, q_at, sigma * s[2], "xx"),
    ]
    return _Unit([c * value, gated * s[1], half * s[2]], jacobian, curvature)
