"""A plain, seeded training loop: stochastic gradient descent or Adam, with callbacks; nothing exotic."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from critpoints.errors import InvalidData, require

OPTIMISERS = ("sgd", "adam")
_EPOCH_STRIDE = 1_000_003  # keeps the shuffles of neighbouring seeds and epochs apart

Callback = Callable[[int, nn.Module], None]


@dataclass(frozen=True)
class Recipe:
    """The hyperparameters of one training run.

    Attributes:
        weight_decay: coefficient of |theta|^2 / 2 in the gradient (not decoupled).
        milestones: epochs at whose beginning the learning rate is multiplied by ``gamma``.
        warmup: steps over which the learning rate grows linearly from 0.
        augment: random crops after padding by 4 pixels, and horizontal flips.

    Raises:
        InvalidArgument: an unknown optimiser, or a number outside its range.
    """

    optimiser: str = "sgd"
    lr: float = 0.1
    momentum: float = 0.0
    weight_decay: float = 0.0
    batch_size: int = 128
    epochs: int = 40
    milestones: tuple[int, ...] = ()
    gamma: float = 0.1
    warmup: int = 0
    augment: bool = False

    def __post_init__(self) -> None:
        require(
            self.optimiser in OPTIMISERS, f"optimiser must be one of {', '.join(OPTIMISERS)}, got {self.optimiser!r}"
        )
        require(0 < self.lr < math.inf, f"lr must be a positive number, got {self.lr}")
        require(0 <= self.momentum < 1, f"momentum must lie in [0, 1), got {self.momentum}")
        require(self.weight_decay >= 0, f"weight_decay must not be negative, got {self.weight_decay}")
        require(self.batch_size >= 1, f"batch_size must be at least 1, got {self.batch_size}")
        require(self.epochs >= 0, f"epochs must not be negative, got {self.epochs}")

    def steps_per_epoch(self, n_samples: int) -> int:
        """Batches in one pass over the samples, the last one smaller."""
        return -(-n_samples // self.batch_size)

    def rate(self, step: int, epoch: int) -> float:
        """The learning rate of a step, both counted from 0."""
        decay = self.gamma ** sum(epoch >= each for each in self.milestones)
        return self.lr * decay * min(1.0, (step + 1) / self.warmup if self.warmup else 1.0)

    def to_dict(self) -> dict[str, Any]:
        """A JSON-ready dictionary."""
        return {**asdict(self), "milestones": list(self.milestones)}


@dataclass(frozen=True)
class Fit:
    """What a training run reports.

    Attributes:
        losses: (epochs,), the mean loss over the batches of each epoch, while the parameters move.
        steps: optimiser steps taken.
    """

    losses: Tensor
    steps: int

    def to_dict(self) -> dict[str, Any]:
        """A JSON-ready dictionary."""
        return {"losses": self.losses.tolist(), "steps": self.steps}


def fit(
    model: nn.Module,
    data: tuple[Tensor, Tensor],
    recipe: Recipe,
    *,
    seed: int,
    loss_fn: Callable[[Tensor, Tensor], Tensor] = F.cross_entropy,
    on_step: Callback | None = None,
    on_epoch: Callback | None = None,
) -> Fit:
    """Trains ``model`` in place, and leaves it in evaluation mode.

    Shuffles, augmentation and dropout depend on the seed alone, and the random numbers of the caller stay untouched.
    Floating-point sums depend on the number of threads as well: ``torch.set_num_threads`` before runs to be compared.

    Args:
        data: inputs and targets, on the device of the model.
        on_step, on_epoch: called with the number of steps (epochs) done and the model, in evaluation mode; first with
            0, before anything has moved.

    Raises:
        InvalidData: inputs and targets differ in number, or the loss becomes infinite or NaN.
    """
    x, y = data
    require(len(x) == len(y) > 0, f"data must pair inputs with targets, got {len(x)} and {len(y)}", InvalidData)
    optimiser = _optimiser(model, recipe)
    losses, step = [], 0
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)  # of dropout
        _call(on_step, 0, model)
        _call(on_epoch, 0, model)
        for epoch in range(recipe.epochs):
            total = 0.0
            for batch in _batches(x, recipe, seed * _EPOCH_STRIDE + epoch):
                for group in optimiser.param_groups:
                    group["lr"] = recipe.rate(step, epoch)
                model.train()
                optimiser.zero_grad(set_to_none=True)
                loss = loss_fn(model(batch.inputs), y[batch.indices])
                loss.backward()
                optimiser.step()
                total += float(loss.detach()) * len(batch.indices)
                step += 1
                _call(on_step, step, model)
            losses.append(total / len(x))
            require(
                math.isfinite(total),
                f"the loss is {total} in epoch {epoch + 1}: training diverged; lower lr (now {recipe.lr:g})",
                InvalidData,
            )
            _call(on_epoch, epoch + 1, model)
    model.zero_grad(set_to_none=True)
    model.eval()
    return Fit(torch.tensor(losses, dtype=torch.float64), step)


@dataclass(frozen=True)
class _Batch:
    inputs: Tensor
    indices: Tensor


def _batches(x: Tensor, recipe: Recipe, seed: int) -> Iterator[_Batch]:
    """The shuffled batches of one epoch."""
    generator = torch.Generator().manual_seed(seed)
    for indices in torch.randperm(len(x), generator=generator).split(recipe.batch_size):
        inputs = x[indices.to(x.device)]
        yield _Batch(_augment(inputs, generator) if recipe.augment else inputs, indices.to(x.device))


def _augment(images: Tensor, generator: torch.Generator) -> Tensor:
    """Each image shifted by up to 4 pixels, the border filled with zeros, and flipped with probability 1/2."""
    height, width = images.shape[-2:]
    padded = F.pad(images, (4, 4, 4, 4))
    shifts = torch.randint(0, 9, (len(images), 2), generator=generator).tolist()
    flips = (torch.rand(len(images), generator=generator) < 0.5).tolist()
    crops = [each[:, i : i + height, j : j + width] for each, (i, j) in zip(padded, shifts, strict=True)]
    return torch.stack([crop.flip(-1) if flip else crop for crop, flip in zip(crops, flips, strict=True)])


def _optimiser(model: nn.Module, recipe: Recipe) -> torch.optim.Optimizer:
    parameters = [each for each in model.parameters() if each.requires_grad]
    if recipe.optimiser == "adam":
        return torch.optim.Adam(parameters, lr=recipe.lr, weight_decay=recipe.weight_decay)
    return torch.optim.SGD(parameters, lr=recipe.lr, momentum=recipe.momentum, weight_decay=recipe.weight_decay)


def _call(callback: Callback | None, done: int, model: nn.Module) -> None:
    """A callback sees the model in evaluation mode and may draw random numbers of its own."""
    if callback is None:
        return
    model.eval()
    state = torch.get_rng_state()
    with torch.no_grad():
        callback(done, model)
    torch.set_rng_state(state)
