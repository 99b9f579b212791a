"""The losses of modules at points of one flat o + c D: three ways to compute them, all the same to rounding."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from functools import cached_property
from typing import Any

import torch
from torch import Tensor
from torch.func import vmap
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from critpoints.objectives.module import ModuleObjective

LIVE_ACTIVATIONS = 4  # how many of the largest one a forward pass is taken to hold at a time
_LINEAR = {F.linear, F.conv1d, F.conv2d, F.conv3d}


class Flat:
    """The points origin + c @ directions.

    Args:
        origin: (P,).
        directions: (k, P).
    """

    def __init__(self, origin: Tensor, directions: Tensor) -> None:
        self.origin, self.directions = origin, directions

    def point(self, coefficients: Sequence[float], out: Tensor | None = None) -> Tensor:
        """(k,) -> (P,)."""
        theta = self.origin.clone() if out is None else out.copy_(self.origin)
        for c, direction in zip(coefficients, self.directions, strict=True):
            theta.add_(direction, alpha=c)
        return theta

    def points(self, coefficients: Tensor) -> Tensor:
        """(n, k) -> (n, P); the same bits for a point in every chunk."""
        return torch.stack([self.point(row) for row in coefficients.tolist()])


class _LinearLayers(TorchFunctionMode):
    """Runs a module while it numbers the calls of linear layers, and notes those with inputs that are constants."""

    def __init__(self) -> None:
        super().__init__()
        self.calls, self.largest, self.numbers = 0, 0, 0
        self.constant: dict[int, tuple[Any, tuple[Any, ...]]] = {}

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        outputs = func(*args, **(kwargs or {}))
        if func in _LINEAR:
            if len(args) >= 3 and not kwargs and not args[0].requires_grad and isinstance(args[1], torch.nn.Parameter):
                self.constant[self.calls] = (func, args)
                self.numbers += outputs.numel()
            self.calls += 1
        if isinstance(outputs, Tensor):
            self.largest = max(self.largest, outputs.numel())
        return outputs


class _Combined(TorchFunctionMode):
    """Runs a module with combinations of stored outputs in the place of the calls that ``_LinearLayers`` noted."""

    def __init__(self, stored: Mapping[int, list[Tensor]], coefficients: Sequence[float]) -> None:
        super().__init__()
        self.stored, self.coefficients, self.calls = stored, coefficients, 0

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func in _LINEAR:
            number, self.calls = self.calls, self.calls + 1
            if number in self.stored:
                origin, first, *others = self.stored[number]
                outputs = torch.add(origin, first, alpha=self.coefficients[0])
                for each, c in zip(others, self.coefficients[1:], strict=True):
                    outputs.add_(each, alpha=c)
                return outputs
        return func(*args, **(kwargs or {}))


class ModuleLosses:
    """Losses of objectives that share one model, whose parameters become views of one vector: it must be a copy."""

    def __init__(self, objectives: Sequence[ModuleObjective], flat: Flat) -> None:
        self.objectives, self.flat = objectives, flat
        self.present = flat.origin.clone()
        self.names: dict[int, str] = {}
        model = objectives[0].model
        parameters = dict(model.named_parameters())
        for name, view in objectives[0].unflatten(self.present).items():
            parameters[name].data = view
            self.names[id(parameters[name])] = name

    def looped(self, coefficients: Sequence[float], *, linear: bool) -> Tensor:
        """The losses at one point, (k,) -> (objectives,)."""
        with torch.no_grad():
            self.flat.point(coefficients, out=self.present)
            losses = []
            for number, objective in enumerate(self.objectives):
                terms = []
                for k, batch in enumerate(objective.checked_batches()):
                    with _Combined(self._stored[number][k], coefficients) if linear else nullcontext():
                        terms.append((objective.present_loss(batch.content), batch.count))
                losses.append(objective.combine(iter(terms)))
            return torch.stack(losses)

    def vectorised(self, points: Tensor) -> Tensor:
        """The losses at rows, (n, P) -> (objectives, n)."""

        def losses(objective: ModuleObjective) -> Tensor:
            def on_batch(content: Any) -> Tensor:
                return vmap(lambda row: objective.batch_loss(objective.unflatten(row), content))(points)

            return objective.accumulate(on_batch)

        with torch.no_grad():
            return torch.stack([losses(each) for each in self.objectives])

    def bytes_of(self, size: int, *, linear: bool) -> int:
        """About how much memory a way takes beyond the data and the model; ``size`` points at a time."""
        layers = [each for batches in self._layers for each in batches]
        largest = max(each.largest for each in layers)
        numbers = LIVE_ACTIVATIONS * size * largest + (size + len(self.flat.directions)) * len(self.present)
        if linear:
            numbers += (1 + len(self.flat.directions)) * sum(each.numbers for each in layers)
        return numbers * self.present.element_size()

    @cached_property
    def _layers(self) -> list[list[_LinearLayers]]:
        """What one run on each batch of each objective shows: where gradients reach, inputs are not constant."""
        found = []
        for objective in self.objectives:
            per_batch = []
            for batch in objective.checked_batches():
                with torch.enable_grad(), _LinearLayers() as layers:
                    objective.present_loss(batch.content)
                per_batch.append(layers)
            found.append(per_batch)
        return found

    @cached_property
    def _stored(self) -> list[list[dict[int, list[Tensor]]]]:
        """By objective, batch and number of the call: the layer's outputs at the origin and along each direction."""
        with torch.no_grad():
            named = self.objectives[0].unflatten(torch.stack([self.flat.origin, *self.flat.directions]))
            return [[self._outputs(layers, named) for layers in batches] for batches in self._layers]

    def _outputs(self, layers: _LinearLayers, named: Mapping[str, Tensor]) -> dict[int, list[Tensor]]:
        stored = {}
        for number, (func, (x, weight, bias, *options)) in layers.constant.items():
            if id(weight) not in self.names:  # a frozen one
                continue
            weights = named[self.names[id(weight)]]
            # a bias that is frozen is there once, not once for each direction
            biases: Any = [bias, *(None for _ in self.flat.directions)]
            if bias is not None and id(bias) in self.names:
                biases = named[self.names[id(bias)]]
            stored[number] = [func(x, w, b, *options) for w, b in zip(weights, biases, strict=True)]
        return stored
