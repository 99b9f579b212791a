"""Named settings of multi-point optimisation: the paper's for FashionMNIST and CIFAR-10, small ones for the digits."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from torch import nn

from critpoints.data import Dataset
from critpoints.errors import require
from critpoints.landscape.masks import PICTURE_SIZE, RANDOM_SIZE
from critpoints.landscape.networks import build
from critpoints.landscape.patterns import PatternRecipe


@dataclass(frozen=True)
class PatternSetting:
    """What is trained on what, how, and how large a picture is.

    Attributes:
        dataset: a name that ``critpoints.data.load`` knows.
        architecture: a name that ``build`` knows; ``options`` are its.
        size: cells along an edge of the picture.
        map_samples: images, of each part of the data set, that the final maps are measured on.
        margin: cells around a picture that its maps show as well.
        source: where the numbers come from.
    """

    dataset: str
    architecture: str
    recipe: PatternRecipe
    size: int
    options: Mapping[str, Any] = field(default_factory=dict)
    map_samples: int = 10_000
    margin: int = 0
    source: str = "ours, by calibration"

    def network(self, dataset: Dataset) -> nn.Module:
        """The network whose parameters a plane holds; its own are never used."""
        return build(self.architecture, dataset.shape, len(dataset.classes), seed=0, **dict(self.options))

    def with_batch_norm(self, batch_norm: bool) -> PatternSetting:
        """The same with BatchNorm after each convolution, or without."""
        return replace(self, options={**self.options, "batch_norm": batch_norm})

    def to_dict(self) -> dict[str, Any]:
        """A JSON-ready dictionary."""
        return {
            "dataset": self.dataset,
            "architecture": self.architecture,
            "options": {name: list(each) if isinstance(each, tuple) else each for name, each in self.options.items()},
            "recipe": self.recipe.to_dict(),
            "size": self.size,
            "map_samples": self.map_samples,
            "margin": self.margin,
            "source": self.source,
        }


def get_pattern_setting(name: str, settings: Mapping[str, PatternSetting]) -> PatternSetting:
    """The setting of that name.

    Raises:
        InvalidArgument: there is none.
    """
    require(name in settings, f"setting must be one of {', '.join(settings)}, got {name!r}")
    return settings[name]


# Appendices A and B; 100 epochs and 50 cells of each colour are those of the authors' code, the paper gives neither
# the number of steps nor the split by colour.
_SOURCE = "Skorokhodov and Burtsev 2019; steps and split by colour from github.com/universome/loss-patterns"
_STEPS = {"fashion-mnist": 100 * 118, "cifar-10": 100 * 98}  # batches of 512 in 60,000 and 50,000 images
_DEEP = {"channels": (8, 8, 32, 32, 64, 64)}

PICTURE_SETTINGS: Mapping[str, PatternSetting] = {
    "digits": PatternSetting(
        "digits",
        "fully-connected",
        PatternRecipe(
            lr=0.01, batch_size=32, steps=2500, final_lr=0.02, cells=(25, 25), white="unlikelihood", scale=0.3
        ),
        size=20,
        options={"widths": (128, 64)},
    ),
    **{
        name: PatternSetting(name, "pattern-cnn", PatternRecipe(steps=steps), PICTURE_SIZE, source=_SOURCE)
        for name, steps in _STEPS.items()
    },
}

FILLING_SETTINGS: Mapping[str, PatternSetting] = {
    "digits": PatternSetting(
        "digits",
        "pattern-cnn",
        # masks are smaller than the paper's, cells lie further apart: its s of 0.1 left networks without BatchNorm near
        # guessing at a filling of 1/2
        PatternRecipe(lr=0.005, batch_size=32, steps=800, final_lr=0.05, cells=(4, 4), scale=0.2),
        size=8,
        options={"channels": (4, 4, 8, 8), "pool": 4, "hidden": 32},
    ),
    **{
        name: PatternSetting(name, "pattern-cnn", PatternRecipe(steps=steps), RANDOM_SIZE, _DEEP, source=_SOURCE)
        for name, steps in _STEPS.items()
    },
}
