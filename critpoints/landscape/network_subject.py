"""Networks on images as subjects of the experiments on the large-scale structure."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from critpoints.data import Dataset, load
from critpoints.errors import InvalidData, require
from critpoints.landscape.settings import Setting
from critpoints.landscape.subjects import Optimum, Subject, cyclic_rate
from critpoints.landscape.training import Recipe, fit
from critpoints.objectives.module import ModuleObjective

CHECK_EVERY = 4  # steps; within so few the loss changes by some per cent

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
            "weight decay": (0.0, 1e-3, 2e-3),
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
