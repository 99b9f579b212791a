"""What the experiments on the large-scale structure are made with: the wedge model, a network, the student problem."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from critpoints.data import Dataset, load
from critpoints.errors import InvalidData, require
from critpoints.landscape.settings import Setting
from critpoints.landscape.training import Recipe, fit
from critpoints.objectives.base import Objective
from critpoints.objectives.module import ModuleObjective
from critpoints.objectives.teacher_student import TeacherStudent
from critpoints.objectives.wedges import WedgeObjective
from critpoints.solvers.training import train

Schedule = Callable[[int], float]
CHECK_EVERY = 4  # steps of a network's training; within so few the loss changes by some per cent


@dataclass(frozen=True)
class Optimum:
    """A point of low loss, and the objective it belongs to, which a change of the architecture changes."""

    objective: Objective
    theta: Tensor


@dataclass(frozen=True)
class Subject:
    """An objective, how its optima are found, and the sizes that suit it.

    Attributes:
        objective: the loss that is optimised.
        judge: what ensembles are judged by: the loss on held-out data, where there are some.
        initial: from a seed to a starting point (P,).
        optimise: from a seed, and a change of one knob by name, to an optimum of loss ``low`` or just below.
        cycle: from an optimum (P,) and a seed to the members (K, P) that a cyclic learning rate collects.
        low: the loss at which optimisation stops, so that all optima are compared at the same.
        cut: the loss that bounds a tunnel.
        dims: of the random sections.
        section_lr, section_steps, tunnel_lr, tunnel_steps: of Adam in sections and on sheets.
        radii: of the sweep.
        knobs: values of each knob for the table of tunnel widths.
        distinct: whether an optimum may join others, by index; on the model, if it is in another wedge.
    """

    name: str
    objective: Objective
    judge: Objective
    initial: Callable[[int], Tensor]
    optimise: Callable[..., Optimum]
    cycle: Callable[[Tensor, int], Tensor]
    low: float
    cut: float
    dims: tuple[int, ...]
    section_lr: float
    section_steps: int
    tunnel_lr: float
    tunnel_steps: int
    radii: tuple[float, ...]
    knobs: Mapping[str, Sequence[float]] = field(default_factory=dict)
    distinct: Callable[[Tensor, Tensor], bool] = lambda theta, others: True

    def optima(self, count: int, first: int = 0) -> Tensor:
        """Distinct optima from the seeds ``first``, ``first`` + 1, ..: (count, P)."""
        found: list[Tensor] = []
        for seed in range(first, first + 20 * count):
            theta = self.optimise(seed).theta
            if self.distinct(theta, torch.stack(found) if found else theta.new_empty(0, len(theta))):
                found.append(theta)
            if len(found) == count:
                return torch.stack(found)
        raise InvalidData(f"{self.name}: {20 * count} seeds gave {len(found)} distinct optima, {count} are wanted")


def noisy_descent(
    objective: Objective,
    theta: Tensor,
    *,
    rate: Schedule,
    steps: int,
    noise: float,
    weight_decay: float = 0.0,
    seed: int = 0,
) -> Iterator[tuple[Tensor, float]]:
    """Gradient descent with Gaussian noise on every entry of the gradient, where there are no minibatches to draw.

    Yields the point (P,) and its loss before each step, and after the last.
    """
    rng, theta = np.random.default_rng([seed, 7]), objective.validate(theta).detach()
    for step in range(steps + 1):
        loss, gradient = objective.loss_and_gradient(theta)
        yield theta, float(loss)
        random = torch.from_numpy(rng.standard_normal(len(theta))).to(theta)
        theta = theta - rate(step) * (gradient + noise * random + weight_decay * theta)


def cyclic_rate(low: float, high: float, length: int) -> Schedule:
    """A learning rate that falls from ``high`` to ``low`` in a straight line, and jumps back, every ``length`` steps.

    >>> [cyclic_rate(0.0, 1.0, 3)(step) for step in range(4)]
    [1.0, 0.5, 0.0, 1.0]
    """
    return lambda step: high + (low - high) * (step % length) / max(length - 1, 1)


WEDGES: dict[str, Any] = {"dim": 100, "short": 10, "wedges": 10, "offset": 1.0, "thickness": 0.3}


def wedge_subject(seed: int = 0) -> Subject:
    """The model: 10 wedges in 100 dimensions with 10 short directions each, disjoint; starts are standard normal."""

    def model(dim: int) -> WedgeObjective:
        return WedgeObjective.random(**{**WEDGES, "dim": dim}, disjoint=True, seed=seed)

    def initial(number: int, dim: int = WEDGES["dim"]) -> Tensor:
        return torch.from_numpy(np.random.default_rng([number, 3]).standard_normal(dim))

    def optimise(number: int, **knob: float) -> Optimum:
        objective = model(int(knob.get("long and short directions", float(WEDGES["dim"]))))
        way = noisy_descent(
            objective,
            initial(number, objective.dim or 0),
            rate=lambda step: knob.get("learning rate", 0.1),
            steps=5000,
            noise=1 / math.sqrt(knob.get("batch size", 64)),
            weight_decay=knob.get("weight decay", 0.0),
            seed=number,
        )
        return Optimum(objective, _first_below(way, LOW))

    def cycle(theta: Tensor, number: int) -> Tensor:
        length, rate = 40, cyclic_rate(0.01, 0.5, 40)
        way = noisy_descent(objective, theta, rate=rate, steps=5 * length, noise=0.5, seed=number)
        return torch.stack([point for step, (point, _) in enumerate(way) if step and step % length == 0])

    LOW = 0.005
    objective = model(WEDGES["dim"])
    return Subject(
        name="wedge model",
        objective=objective,
        judge=objective,
        initial=initial,
        optimise=optimise,
        cycle=cycle,
        low=LOW,
        cut=0.5,
        dims=(1, 3, 5, 7, 8, 9, 10, 11, 12, 15, 20, 30),
        section_lr=0.1,
        section_steps=400,
        tunnel_lr=0.1,
        tunnel_steps=400,
        radii=(1, 2, 3, 5, 7, 10, 14, 20, 30),
        knobs={
            "learning rate": (0.03, 0.1, 0.3),
            "batch size": (16, 64, 256),
            "weight decay": (0.0, 0.01, 0.1),
            "long and short directions": (100, 200, 400),
        },
        distinct=lambda theta, others: int(objective.nearest(theta)) not in objective.nearest(others).tolist(),
    )


def student_subject(width: int = 8) -> Subject:
    """Students on the 41 x 41 grid with a sigmoid teacher of four neurons, trained on all points by Adam."""
    objective = TeacherStudent.grid()
    low = 2e-3

    def initial(number: int) -> Tensor:
        return objective.init(width, [number])[0]

    def optimise(number: int, **knob: float) -> Optimum:
        def way() -> Iterator[tuple[Tensor, float]]:
            theta = initial(number)[None]
            for _ in range(400):
                found = train(objective, theta, lr=knob.get("learning rate", 0.02), steps=20)
                theta = found.theta
                yield theta[0], float(found.loss)

        return Optimum(objective, _first_below(way(), low))

    def cycle(theta: Tensor, number: int) -> Tensor:
        length, rate = 40, cyclic_rate(0.02, 0.4, 40)
        way = noisy_descent(objective, theta, rate=rate, steps=5 * length, noise=0.02, seed=number)
        return torch.stack([point for step, (point, _) in enumerate(way) if step and step % length == 0])

    return Subject(
        name="student problem",
        objective=objective,
        judge=objective,
        initial=initial,
        optimise=optimise,
        cycle=cycle,
        low=low,
        cut=0.05,
        dims=(1, 2, 4, 6, 9, 12, 18, 24),
        section_lr=0.05,
        section_steps=600,
        tunnel_lr=0.02,
        tunnel_steps=300,
        radii=(0.5, 1, 2, 3, 5, 8, 12),
        knobs={"learning rate": (0.005, 0.02)},
    )


DIGITS = Setting("digits", "fully-connected", Recipe(lr=0.1, batch_size=64, epochs=150), {"widths": (32, 32)})


def network_subject(setting: Setting = DIGITS, root: str | None = None) -> Subject:
    """A network without BatchNorm on images, trained by stochastic gradient descent until the training loss is 0.02.

    Args:
        setting: the data, the architecture and the recipe; knobs change one number of them. The knob ``width`` needs an
            architecture with hidden ``widths``.
        root: the folder of the data, where they are not bundled.
    """
    dataset = load(setting.dataset, root)
    low, objective = 0.02, _network_objective(setting, dataset, 0)

    def initial(number: int) -> Tensor:
        return _network_objective(setting, dataset, number).parameters_vector()

    def optimise(number: int, **knob: float) -> Optimum:
        changed, dropout = _with_knob(setting, knob), knob.get("dropout", 0.0)
        model = _insert_dropout(changed.network(dataset, number), dropout)
        _fit_to_loss(model, dataset, changed.recipe, low, number)
        found = ModuleObjective(model, F.cross_entropy, dataset.train)
        return Optimum(found, found.parameters_vector())

    def cycle(theta: Tensor, number: int) -> Tensor:
        model = setting.network(dataset, number)
        nn.utils.vector_to_parameters(theta.to(torch.float32), model.parameters())
        recipe = CyclicRecipe(**{**setting.recipe.__dict__, "lr": 0.2, "epochs": 15}, low=0.01, length=3)
        members: list[Tensor] = []

        def collect(epoch: int, current: nn.Module) -> None:
            if epoch and epoch % recipe.length == 0:
                members.append(nn.utils.parameters_to_vector(current.parameters()).detach().clone())

        fit(model, dataset.train, recipe, seed=number, on_epoch=collect)
        return torch.stack(members)

    return Subject(
        name=f"network on {setting.dataset}",
        objective=objective,
        judge=_network_objective(setting, dataset, 0, held_out=True),
        initial=initial,
        optimise=optimise,
        cycle=cycle,
        low=low,
        cut=0.2,
        dims=(5, 10, 20, 40, 80, 160, 320),
        section_lr=0.1,
        section_steps=400,
        tunnel_lr=0.02,
        tunnel_steps=300,
        radii=(2, 4, 6, 8, 10, 12, 15, 20, 30),
        knobs={
            "learning rate": (0.03, 0.1, 0.3),
            "batch size": (16, 64, 256),
            "weight decay": (0.0, 1e-3, 3e-3),
            "dropout": (0.0, 0.1, 0.3),
            "width": (16, 32, 64, 128),
        },
    )


@dataclass(frozen=True)
class CyclicRecipe(Recipe):
    """A recipe whose learning rate falls from ``lr`` to ``low`` every ``length`` epochs, and jumps back."""

    low: float = 0.01
    length: int = 3

    def rate(self, step: int, epoch: int) -> float:
        """See ``Recipe.rate``; a straight line over the epochs of a cycle."""
        return cyclic_rate(self.low, self.lr, self.length)(epoch)


class _LowEnough(Exception):
    """Ends a training run inside its callback."""


def _fit_to_loss(model: nn.Module, dataset: Dataset, recipe: Recipe, low: float, seed: int) -> None:
    """Trains until the loss over all training samples, in evaluation mode, is at most ``low``; seen every few steps.

    Raises:
        InvalidData: the epochs of the recipe do not suffice.
    """
    x, y = dataset.train
    lowest = math.inf

    def check(step: int, current: nn.Module) -> None:
        nonlocal lowest
        if step % CHECK_EVERY:
            return
        lowest = min(lowest, float(F.cross_entropy(current(x), y)))
        if lowest <= low:
            raise _LowEnough

    try:
        fit(model, dataset.train, recipe, seed=seed, on_step=check)
    except _LowEnough:
        model.zero_grad(set_to_none=True)
        return
    raise InvalidData(f"{recipe.epochs} epochs brought the training loss to {lowest:.3g}, not to {low:g}")


def _network_objective(setting: Setting, dataset: Dataset, seed: int, *, held_out: bool = False) -> ModuleObjective:
    model = setting.network(dataset, seed).eval()
    return ModuleObjective(model, F.cross_entropy, dataset.test if held_out else dataset.train)


def _with_knob(setting: Setting, knob: Mapping[str, float]) -> Setting:
    """The setting with one number changed."""
    names = {"learning rate": "lr", "batch size": "batch_size", "weight decay": "weight_decay"}
    changes: dict[str, Any] = {names[name]: value for name, value in knob.items() if name in names}
    if "batch_size" in changes:
        changes["batch_size"] = int(changes["batch_size"])
    options = dict(setting.options)
    if "width" in knob:
        options["widths"] = tuple(int(knob["width"]) for _ in options["widths"])
    unknown = set(knob) - set(names) - {"width", "dropout"}
    require(not unknown, f"knobs are {', '.join(names)}, width and dropout; got {', '.join(unknown)}")
    return dataclasses.replace(setting, recipe=dataclasses.replace(setting.recipe, **changes), options=options)


def _insert_dropout(model: nn.Module, probability: float) -> nn.Module:
    """Dropout after every ReLU of a sequential network."""
    if not probability:
        return model
    require(isinstance(model, nn.Sequential), "dropout is inserted into sequential networks only")
    layers = [each for layer in model.children() for each in _followed_by_dropout(layer, probability)]
    return nn.Sequential(*layers)


def _followed_by_dropout(layer: nn.Module, probability: float) -> list[nn.Module]:
    return [layer, nn.Dropout(probability)] if isinstance(layer, nn.ReLU) else [layer]


def _first_below(way: Iterator[tuple[Tensor, float]], low: float) -> Tensor:
    """The first point of a way whose loss is at most ``low``."""
    lowest = math.inf
    for theta, loss in way:
        if loss <= low:
            return theta
        lowest = min(lowest, loss)
    raise InvalidData(f"optimisation reached a loss of {lowest:.3g}, not {low:g}")


SUBJECTS: Mapping[str, Callable[[], Subject]] = {
    "wedges": wedge_subject,
    "digits": network_subject,
    "student": student_subject,
}
