"""Loss and error at states of an objective, with a policy for BatchNorm's statistics; the module stays as it is."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from critpoints.errors import InvalidArgument, require
from critpoints.objectives.base import Objective
from critpoints.objectives.module import ModuleObjective

POLICIES = ("interpolate", "recalibrate", "batch", "freeze")
_ROW_NUMBERS = 2**22  # parameters that are evaluated at a time, where an objective evaluates rows

ErrorFn = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class State:
    """A point, and the statistics of BatchNorm that belong to it.

    Attributes:
        theta: (P,).
        buffers: the module's floating-point buffers by name; empty for a point that brings none.
    """

    theta: Tensor
    buffers: Mapping[str, Tensor] = field(default_factory=dict)

    def lerp(self, other: State, t: float) -> State:
        """(1 - t) self + t other, buffers included where both have them; exactly ``self`` and ``other`` at 0 and 1."""
        buffers = {
            name: torch.lerp(each, other.buffers[name], t)
            for name, each in self.buffers.items()
            if name in other.buffers
        }
        return State(torch.lerp(self.theta, other.theta, t), buffers)


def as_state(objective: Objective, point: State | Tensor | Mapping[str, Tensor], name: str = "state") -> State:
    """A state of an objective from parameters (P,), or of a module's from its ``state_dict()``.

    Raises:
        InvalidArgument: a state of another architecture, or a ``state_dict`` where the objective is no module's.
    """
    if isinstance(point, State):
        return State(_one_point(objective, point.theta, name), point.buffers)
    if not isinstance(point, Mapping):
        return State(_one_point(objective, point, name))
    if not isinstance(objective, ModuleObjective):
        raise InvalidArgument(f"{name} must be parameters (P,): a {type(objective).__name__} has no state_dict")
    wanted = dict(zip(objective.parameter_names, objective.parameter_shapes, strict=True))
    missing = [key for key in wanted if key not in point]
    other = [
        f"{key} {tuple(point[key].shape)} instead of {tuple(shape)}"
        for key, shape in wanted.items()
        if key in point and point[key].shape != shape
    ]
    known = dict(objective.model.state_dict(keep_vars=True))
    foreign = [key for key in point if key not in known]
    complaints = [f"no {key}" for key in missing] + other + [f"an unknown {key}" for key in foreign]
    require(not complaints, f"{name} belongs to another architecture: it has {', '.join(complaints[:4])}")
    target: dict[str, Any] = {"dtype": objective.dtype, "device": objective.device}
    theta = torch.cat([point[key].detach().to(**target).reshape(-1) for key in wanted])
    buffers = {name: each for name, each in objective.model.named_buffers() if each.is_floating_point()}
    return State(theta, {key: point[key].detach().to(**target, copy=True) for key in buffers if key in point})


def _one_point(objective: Objective, theta: Tensor, name: str) -> Tensor:
    theta = torch.as_tensor(theta)
    fits = theta.ndim == 1 and objective.dim in (None, len(theta))
    require(fits, f"{name} must have shape ({objective.dim},), one point, got {tuple(theta.shape)}")
    return objective.validate(theta).detach()


def batch_norm_layers(model: nn.Module) -> list[_BatchNorm]:
    """The layers whose statistics a policy decides about."""
    return [each for each in model.modules() if isinstance(each, _BatchNorm)]


def misclassified(outputs: Tensor, targets: Tensor) -> Tensor:
    """The share of samples whose largest output is not at their class."""
    return (outputs.argmax(-1) != targets).to(torch.float64).mean()


@dataclass(frozen=True)
class Losses:
    """What was measured at n states; NaN where there is nothing to measure.

    Attributes:
        train_loss, train_error, test_loss, test_error: (n,), float64; errors are shares of samples.
    """

    train_loss: Tensor
    train_error: Tensor
    test_loss: Tensor
    test_error: Tensor

    def to_dict(self) -> dict[str, Any]:
        """A JSON-ready dictionary."""
        return {name: each.tolist() for name, each in self.__dict__.items()}


class Evaluator:
    """Measures losses and errors at any states of an objective.

    A module is copied first, and the copy is evaluated in evaluation mode: the caller's stays bit for bit as it is.

    Args:
        objective: any ``Objective``.
        test: held-out data for a module, ``(x, y)`` or a loader; or another objective of the same parameters.
        batch_norm: what becomes of BatchNorm's statistics away from the states that were trained; it has to be chosen
            where the module has such layers. "interpolate": those that the state brings, interpolated as its
            parameters are. "recalibrate": measured anew at each state over the training data (means over its batches).
            "batch": each batch's own, for training and test data alike. "freeze": the module's present ones.
        error_fn: (outputs, targets) -> share of wrong samples; by default ``misclassified``, for integer targets.

    Raises:
        InvalidArgument: no policy where one is needed, or an unknown one.
    """

    def __init__(
        self, objective: Objective, *, test: Any = None, batch_norm: str | None = None, error_fn: ErrorFn | None = None
    ) -> None:
        require(
            batch_norm is None or batch_norm in POLICIES,
            f"batch_norm must be one of {', '.join(POLICIES)}, got {batch_norm!r}",
        )
        self.error_fn = error_fn
        self.layers: list[_BatchNorm] = []
        self.train, self.test = objective, test if isinstance(test, Objective) else None
        require(
            self.test is None or self.test.dim == objective.dim,
            f"test must be an objective of {objective.dim} parameters, as the one to train on",
        )
        if isinstance(objective, ModuleObjective):
            self._copy(objective, test)
        else:
            require(test is None or self.test is not None, "test must be an Objective: only a module takes other data")
        require(
            batch_norm is not None or not self.layers,
            f"batch_norm must be chosen, one of {', '.join(POLICIES)}: the model has BatchNorm, and away from trained"
            " states its statistics decide the loss",
        )
        self.policy = batch_norm if self.layers else None
        if isinstance(self.train, ModuleObjective) and self.policy == "batch":
            for layer in self.layers:
                layer.train()
            for each in (self.train, self.test):
                if isinstance(each, ModuleObjective):
                    each.allow_train_mode = True

    def _copy(self, objective: ModuleObjective, test: Any) -> None:
        model = copy.deepcopy(objective.model).to(device=objective.device, dtype=objective.dtype).eval()
        self.layers = batch_norm_layers(model)
        self.train = objective.replace(model=model)
        self.train.allow_train_mode = False
        if test is not None:
            self.test = (
                test.replace(model=model) if isinstance(test, ModuleObjective) else self.train.replace(data=test)
            )

    def at(self, state: State) -> Objective:
        """The training objective with the statistics that the policy wants at this state, until the next call."""
        if isinstance(self.train, ModuleObjective):
            if self.policy == "interpolate":
                self._install(state)
            elif self.policy == "recalibrate":
                self._recalibrate(self.train, state.theta)
        return self.train

    def measure(self, states: Iterable[State]) -> Losses:
        """Losses and errors at each state."""
        if isinstance(self.train, ModuleObjective):
            rows = [self._measure_state(state) for state in states]
            table = torch.tensor(rows, dtype=torch.float64).reshape(-1, 4)
            return Losses(*(column.clone() for column in table.T))
        theta = torch.stack([state.theta for state in states])
        losses = _row_losses(self.train, theta)
        unknown = torch.full_like(losses, math.nan)
        return Losses(losses, unknown, unknown if self.test is None else _row_losses(self.test, theta), unknown)

    def _measure_state(self, state: State) -> list[float]:
        self.at(state)
        with torch.no_grad():
            return [*self._measure(self.train, state.theta), *self._measure(self.test, state.theta)]

    def _measure(self, objective: Objective | None, theta: Tensor) -> tuple[float, float]:
        """Loss and error on one data set, in one pass."""
        if objective is None:
            return math.nan, math.nan
        if not isinstance(objective, ModuleObjective) or objective.closure:
            return float(objective.loss(theta)), math.nan
        parameters = objective.unflatten(theta)
        losses: list[tuple[Tensor, int | None]] = []
        wrong, counted = 0.0, 0
        for batch in objective.checked_batches():
            outputs = objective.batch_outputs(parameters, batch.content)
            losses.append((objective.output_loss(outputs, batch.content), batch.count))
            weight = batch.count or 1
            wrong, counted = wrong + weight * self._error(outputs, batch.content[1]), counted + weight
        return float(objective.combine(iter(losses))), wrong / counted

    def _error(self, outputs: Tensor, targets: Any) -> float:
        if self.error_fn is not None:
            return float(self.error_fn(outputs, targets))
        classes = isinstance(targets, Tensor) and not targets.is_floating_point() and outputs.ndim == targets.ndim + 1
        return float(misclassified(outputs, targets)) if classes else math.nan

    def _install(self, state: State) -> None:
        own = dict(self.train.model.named_buffers()) if isinstance(self.train, ModuleObjective) else {}
        needed = [name for name in own if name.rpartition(".")[2] in ("running_mean", "running_var")]
        missing = [name for name in needed if name not in state.buffers]
        require(
            not missing,
            f"batch_norm='interpolate' needs states with BatchNorm's statistics, there is no {', '.join(missing[:2])}:"
            " pass each end as a state_dict()",
        )
        for name in needed:
            own[name].copy_(state.buffers[name])

    def _recalibrate(self, objective: ModuleObjective, theta: Tensor) -> None:
        """The statistics of the training data at this state: means over batches of means and variances."""
        parameters = objective.unflatten(theta)
        momenta = [layer.momentum for layer in self.layers]
        for layer in self.layers:
            layer.reset_running_stats()
            layer.momentum = None  # a plain mean over the batches
            layer.train()
        try:
            with torch.no_grad():
                for batch in objective.batches:
                    objective.batch_loss(parameters, batch.content)
        finally:
            for layer, momentum in zip(self.layers, momenta, strict=True):
                layer.momentum = momentum
                layer.eval()


def _row_losses(objective: Objective, theta: Tensor) -> Tensor:
    """The losses of rows (n, P), as many at a time as fit."""
    size = max(1, _ROW_NUMBERS // theta.shape[-1])
    with torch.no_grad():
        parts: Sequence[Tensor] = [objective.loss(part) for part in theta.split(size)]
    return torch.cat(list(parts)).to("cpu", torch.float64)
