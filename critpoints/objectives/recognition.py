"""Which modules are two-layer networks with one output and a mean squared error, in somebody else's words.

Their points then have the symmetries and the channels to infinity that ``TwoLayerObjective`` knows about. Nobody's
source is read: a module is recognised by what it computes, at random parameters of several sizes on all of its data.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import permutations

import torch
from torch import Tensor

from critpoints.activations import ACTIVATIONS
from critpoints.errors import CritpointsError
from critpoints.objectives.module import ModuleObjective
from critpoints.objectives.two_layer import TwoLayerObjective

SIZES = (0.5, 2.0, 8.0)  # standard deviations of the parameters tried: at the centre of activations and in their tails
AGREEMENT = 1e-11  # of outputs and losses, relative


@dataclass(frozen=True)
class Recognised:
    """A two-layer objective that computes what a module does.

    Attributes:
        objective: it has no teacher.
        order: (P,); the module's row ``theta`` is the student ``theta[order]``.
    """

    objective: TwoLayerObjective
    order: Tensor


@dataclass(frozen=True)
class _Data:
    x: Tensor
    y: Tensor


def recognise_two_layer(module: ModuleObjective) -> Recognised | None:
    """The same loss as a ``TwoLayerObjective``, or None if the module is something else.

    That is sum_k a_k s(w_k . x) with hidden and output biases or without, a smooth s from the table of activations, one
    output of shape (N,) or (N, 1), all parameters trainable, in float64, and a multiple of the mean squared error.
    """
    parameters = len(module.parameter_shapes)
    if module.closure or module.process_group is not None or module.dtype != torch.float64 or not 2 <= parameters <= 4:
        return None
    points = _points(module)
    data = _data(module)
    if data is None:
        return None
    outputs, losses = _outputs(module, points), [float(module.loss(point)) for point in points]
    if outputs is None or any(len(each) != len(data.y) for each in outputs):
        return None
    errors = [float((each - data.y).square().mean()) for each in outputs]
    scale = losses[0] / errors[0] if errors[0] > 0 else 0.0
    if not scale > 0 or any(abs(a - scale * b) > AGREEMENT * abs(a) for a, b in zip(losses, errors, strict=True)):
        return None
    for order, hidden_bias, output_bias in _orders(module, data.x.shape[1]):
        for name, activation in ACTIVATIONS.items():
            if not activation.smooth:
                continue
            student = TwoLayerObjective(
                data.x, data.y, name, scale=scale, hidden_bias=hidden_bias, output_bias=output_bias
            )
            if all(_agrees(student, point[order], each) for point, each in zip(points, outputs, strict=True)):
                return Recognised(student, order)
    return None


def _points(module: ModuleObjective) -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    drawn = torch.randn(len(SIZES), module.dim or 0, generator=generator, dtype=torch.float64)
    return [size * row for size, row in zip(SIZES, drawn.to(module.device), strict=True)]


def _data(module: ModuleObjective) -> _Data | None:
    """Inputs (N, d) and targets (N,) of all batches; None where they have other shapes."""
    xs, ys = [], []
    for batch in module.checked_batches():
        if not (isinstance(batch.content, tuple | list) and len(batch.content) == 2):
            return None
        x, y = batch.content
        if not (isinstance(x, Tensor) and isinstance(y, Tensor) and x.ndim == 2 and y.numel() == len(x)):
            return None
        if x.dtype != torch.float64 or y.dtype != torch.float64 or not len(x) or not x.shape[1]:
            return None
        xs.append(x)
        ys.append(y.reshape(-1))
    x, y = torch.cat(xs), torch.cat(ys)
    return _Data(x, y) if bool(torch.isfinite(x).all() and torch.isfinite(y).all()) else None


def _outputs(module: ModuleObjective, points: list[Tensor]) -> list[Tensor] | None:
    """What the module puts out on all data at each point, (N,); None if that is not one number a sample."""
    found = []
    with torch.no_grad():
        for point in points:
            try:
                parts = [
                    module.batch_outputs(module.unflatten(point), batch.content) for batch in module.checked_batches()
                ]
            except CritpointsError:
                return None
            if any(part.ndim not in (1, 2) or part.numel() != len(part) for part in parts):
                return None
            found.append(torch.cat([part.reshape(-1) for part in parts]))
    return found


def _orders(module: ModuleObjective, n_inputs: int) -> Iterator[tuple[Tensor, bool, bool]]:
    """Every way to read the parameters as w, a and biases: the order of a student's, and which biases there are."""
    places = torch.arange(module.dim or 0).split([shape.numel() for shape in module.parameter_shapes])
    shapes = module.parameter_shapes
    for roles in permutations(range(len(shapes))):
        w, a, *biases = roles
        if len(shapes[w]) != 2 or n_inputs not in shapes[w]:
            continue
        m = len(places[a])
        for columns in (False, True):  # the weights of a neuron as a row, as nn.Linear has them, or as a column
            if tuple(shapes[w]) != ((n_inputs, m) if columns else (m, n_inputs)):
                continue
            weights = places[w].reshape(n_inputs, m).mT if columns else places[w].reshape(m, n_inputs)
            for hidden_bias, output_bias in _bias_roles([len(places[k]) for k in biases], m):
                parts = [torch.cat([weights, places[biases[0]][:, None]], 1) if hidden_bias else weights, places[a]]
                if output_bias:
                    parts.append(places[biases[-1]])
                yield torch.cat([part.reshape(-1) for part in parts]), hidden_bias, output_bias


def _bias_roles(lengths: list[int], m: int) -> list[tuple[bool, bool]]:
    """Whether biases of these lengths, in this order, are those of m hidden neurons, of the output, or both."""
    if not lengths:
        return [(False, False)]
    if len(lengths) == 2:
        return [(True, True)] if lengths == [m, 1] else []
    return [roles for roles, length in (((True, False), m), ((False, True), 1)) if lengths[0] == length]


def _agrees(student: TwoLayerObjective, theta: Tensor, outputs: Tensor) -> bool:
    difference = (student.predict(theta) - outputs).abs().max()
    return bool(difference <= AGREEMENT * (1 + outputs.abs().max() + theta.abs().sum()))
