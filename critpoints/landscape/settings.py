"""Named settings: a data set, an architecture and a recipe, those of the papers and small ones for the digits."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from critpoints.data import Dataset
from critpoints.errors import require
from critpoints.landscape.networks import POOL, build
from critpoints.landscape.training import Recipe


@dataclass(frozen=True)
class Setting:
    """What is trained on what, and how.

    Attributes:
        dataset: a name that ``critpoints.data.load`` knows.
        architecture: a name that ``build`` knows; ``options`` are its, and may name the ``initialisation``.
        source: where the numbers come from.
    """

    dataset: str
    architecture: str
    recipe: Recipe
    options: Mapping[str, Any] = field(default_factory=dict)
    source: str = "ours"

    def network(self, dataset: Dataset, seed: int, *, dtype: torch.dtype = torch.float32) -> nn.Module:
        """The network with random weights of this seed."""
        return build(
            self.architecture, dataset.shape, len(dataset.classes), seed=seed, dtype=dtype, **dict(self.options)
        )

    def to_dict(self) -> dict[str, Any]:
        """A JSON-ready dictionary."""
        return {
            "dataset": self.dataset,
            "architecture": self.architecture,
            "options": {name: list(each) if isinstance(each, tuple) else each for name, each in self.options.items()},
            "recipe": self.recipe.to_dict(),
            "source": self.source,
        }


def get_setting(name: str) -> Setting:
    """The setting of that name.

    Raises:
        InvalidArgument: there is none.
    """
    require(name in SETTINGS, f"setting must be one of {', '.join(SETTINGS)}, got {name!r}")
    return SETTINGS[name]


_OPENLTH = "Frankle 2020; the defaults of OpenLTH"
_CIFAR = Recipe(lr=0.1, momentum=0.9, weight_decay=1e-4, epochs=160, milestones=(80, 120), augment=True)
# the first four stages of VGG-16, all that 8 x 8 pixels allow, at a quarter of their widths
_DIGITS_VGG = (16, 16, POOL, 32, 32, POOL, 64, 64, 64, POOL, 128, 128, 128)
_SHALLOW_VGG = (16, 16, POOL, 32, 32, POOL, 64, 64)
_DIGITS_CNN = Recipe(lr=0.05, momentum=0.9, weight_decay=1e-4, epochs=40, milestones=(20, 30))
# for deep networks without BatchNorm, where the recipe above leaves runs on a plateau or makes them diverge: reaches a
# training accuracy of 1 on seeds that no experiment uses
_GENTLE = Recipe(lr=0.02, momentum=0.9, weight_decay=1e-4, epochs=60, milestones=(40, 50), warmup=120)
_LONG = Recipe(lr=0.05, momentum=0.9, weight_decay=1e-4, epochs=120, milestones=(80, 100), warmup=120)
_TRAJECTORY = Recipe(lr=0.05, momentum=0.9, weight_decay=1e-4, batch_size=128, epochs=200)
_LIPTON_DIGITS = {"channels": (16, 32, 64), "hidden": 128, "paddings": (2, 1, 1)}

SETTINGS: Mapping[str, Setting] = {
    "mnist-300-100": Setting("mnist", "fully-connected", Recipe(lr=0.1, epochs=40), source=_OPENLTH),
    "cifar10-vgg16": Setting("cifar-10", "vgg", _CIFAR, source=_OPENLTH),
    "cifar10-resnet20": Setting("cifar-10", "resnet", _CIFAR, source=_OPENLTH),
    # written down as the paper's fourth setting; neither the data nor the network is part of critpoints
    "imagenet-resnet50": Setting(
        "imagenet",
        "resnet50",
        Recipe(
            lr=0.4,
            momentum=0.9,
            weight_decay=1e-4,
            batch_size=1024,
            epochs=90,
            milestones=(30, 60, 80),
            warmup=5 * 1251,
            augment=True,
        ),
        source=_OPENLTH,
    ),
    # the paper names dropout, weight decay and 200 epochs; rates and sizes are ours
    "mnist-lipton": Setting("mnist", "lipton-cnn", _TRAJECTORY, source="Lipton 2016, where it says"),
    "digits-300-100": Setting("digits", "fully-connected", Recipe(lr=0.1, epochs=40)),
    "digits-vgg": Setting("digits", "vgg", _DIGITS_CNN, {"plan": _DIGITS_VGG, "batch_norm": False}),
    # the same, trained more gently: one run in five of the recipe above never leaves the plateau
    "digits-vgg-warm": Setting("digits", "vgg", _GENTLE, {"plan": _DIGITS_VGG, "batch_norm": False}),
    "digits-vgg6": Setting("digits", "vgg", _DIGITS_CNN, {"plan": _SHALLOW_VGG, "batch_norm": False}),
    # with the smaller weights that torch begins with, which take longer to train: to the same loss as above
    "digits-vgg6-torch": Setting(
        "digits", "vgg", _LONG, {"plan": _SHALLOW_VGG, "batch_norm": False, "initialisation": "torch"}
    ),
    "digits-vgg-bn": Setting("digits", "vgg", _DIGITS_CNN, {"plan": _DIGITS_VGG, "batch_norm": True}),
    "digits-resnet": Setting("digits", "resnet", _GENTLE, {"width": 8, "batch_norm": False}),
    "digits-resnet-bn": Setting("digits", "resnet", _DIGITS_CNN, {"width": 8, "batch_norm": True}),
    "digits-lipton": Setting("digits", "lipton-cnn", _TRAJECTORY, _LIPTON_DIGITS),
    "digits-mlp": Setting("digits", "fully-connected", _TRAJECTORY),
    "digits-lstm": Setting("digits", "lstm", _TRAJECTORY),
}
