"""Subjects of the experiments on the large-scale structure: the wedge model and the student problem."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from critpoints.errors import InvalidData
from critpoints.objectives.base import Objective
from critpoints.objectives.teacher_student import TeacherStudent
from critpoints.objectives.wedges import WedgeObjective
from critpoints.solvers.training import train

Schedule = Callable[[int], float]


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
        return Optimum(objective, first_below(way, LOW))

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

        return Optimum(objective, first_below(way(), low))

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


def first_below(way: Iterator[tuple[Tensor, float]], low: float) -> Tensor:
    """The first point of a way whose loss is at most ``low``."""
    lowest = math.inf
    for theta, loss in way:
        if loss <= low:
            return theta
        lowest = min(lowest, loss)
    raise InvalidData(f"optimisation reached a loss of {lowest:.3g}, not {low:g}")
