"""Multi-point optimisation: a plane in parameter space whose loss map shows a given picture.

After Skorokhodov and Burtsev 2019, "Loss patterns of neural networks" (arXiv 1910.03867). Black cells are networks
with a small loss, white cells networks with a large one; all of them lie on one plane, and only the plane is trained.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from critpoints.errors import InvalidData, require
from critpoints.landscape.cell_losses import CUT, WHITE_LOSSES, CellLoss, GreyLoss, PatternLoss
from critpoints.landscape.cells import Cells, Data, Maps, OutputLoss, Speed
from critpoints.landscape.masks import boundary_cells
from critpoints.landscape.networks import CentredBatchNorm2d
from critpoints.landscape.planes import INITIAL_SCALE, Frame, Orthogonality, Plane, grid_coordinates, memory

EVALUATIONS = ("fastest", "loop", "vmap")
_TIMED_CELLS = 10

Callback = Callable[[float, int, str], None]


@dataclass(frozen=True)
class PatternRecipe:
    """How a plane is trained, by Adam.

    Attributes:
        final_lr: share of ``lr`` at the last step, reached along a half cosine; 1 keeps it constant.
        cells: black and white cells drawn for each step, without repetition.
        cut, white: what white cells are trained by, see ``PatternLoss``; grey levels know the cut alone.
        scale: s at the start; it is trained, too.
        skip_interior: leave out cells whose neighbours are all of their own level.

    Raises:
        InvalidArgument: a number outside its range.
    """

    lr: float = 3e-4
    batch_size: int = 512
    steps: int = 10_000
    final_lr: float = 1.0
    cells: tuple[int, int] = (50, 50)
    cut: float = CUT
    white: str = "cut"
    scale: float = INITIAL_SCALE
    skip_interior: bool = True

    def __post_init__(self) -> None:
        require(0 < self.lr < math.inf, f"lr must be a positive number, got {self.lr}")
        require(self.batch_size >= 1, f"batch_size must be at least 1, got {self.batch_size}")
        require(self.steps >= 0, f"steps must not be negative, got {self.steps}")
        require(0 < self.final_lr <= 1, f"final_lr must lie in (0, 1], got {self.final_lr}")
        require(
            len(self.cells) == 2 and min(self.cells) >= 0 and sum(self.cells) > 0,
            f"cells must be the numbers of black and white cells of a step, got {self.cells}",
        )
        require(self.white in WHITE_LOSSES, f"white must be one of {', '.join(WHITE_LOSSES)}, got {self.white!r}")
        require(self.cut > 0, f"cut must be positive, got {self.cut}")
        require(0 < self.scale < math.inf, f"scale must be a positive number, got {self.scale}")

    def rate(self, step: int) -> float:
        """The learning rate of a step, counted from 0."""
        turn = (1 + math.cos(math.pi * step / max(self.steps - 1, 1))) / 2
        return self.lr * (self.final_lr + (1 - self.final_lr) * turn)

    def to_dict(self) -> dict[str, Any]:
        """A JSON-ready dictionary."""
        return {**asdict(self), "cells": list(self.cells)}


@dataclass(frozen=True)
class Pattern:
    """A trained plane and how it was found.

    Attributes:
        plane: float64.
        frame: of the plane, as the network is evaluated on it.
        trained: the picture's shape, True where a cell may have been drawn.
        losses: (steps,).
        evaluation: "loop" or "vmap", which was used.
        speed: of both, where they were compared.
        memory: bytes of the plane, and of as many separate networks as there are cells.
    """

    plane: Plane
    frame: Frame
    trained: np.ndarray
    losses: np.ndarray
    evaluation: str
    speed: Speed | None
    memory: dict[str, float]

    @property
    def orthogonality(self) -> Orthogonality:
        """Of the axes that the network is evaluated along."""
        return self.frame.measure()


def initial_vectors(model: nn.Module, n: int, *, seed: int) -> Tensor:
    """``n`` random parameter vectors (n, P), float64: Xavier's initialisation, appendix A; biases are 0.

    Vectors depend on the seed and on their number alone. The scales of ``CentredBatchNorm2d`` are uniform in
    (-1/2, 1/2), appendix C.
    """
    centred = {id(module.weight) for module in model.modules() if isinstance(module, CentredBatchNorm2d)}
    rows = []
    with torch.random.fork_rng(devices=[]):
        for number in range(n):
            torch.manual_seed(seed * 1_000_003 + number)
            parts = []
            for each in model.parameters():
                part = torch.zeros(each.shape)
                if id(each) in centred:
                    nn.init.uniform_(part, -0.5, 0.5)
                elif each.ndim >= 2:
                    nn.init.xavier_uniform_(part)
                parts.append(part.flatten())
            rows.append(torch.cat(parts))
    return torch.stack(rows).to(torch.float64)


def fit_pattern(
    model: nn.Module,
    data: Data,
    levels: np.ndarray,
    recipe: PatternRecipe,
    *,
    seed: int,
    loss: CellLoss | None = None,
    evaluation: str = "fastest",
    callback: Callback | None = None,
) -> Pattern:
    """Trains a plane of networks so that their losses show a picture.

    The plane has as many dimensions as the picture has axes. The result depends on the seed and, to rounding, on the
    evaluation; it does not depend on the parameters that ``model`` happens to have.

    Args:
        model: any classifier, on the device of the data; BatchNorm must be a ``CentredBatchNorm2d`` or at least use
            the statistics of the batch.
        data: inputs and class indices to train on.
        levels: a mask, True where black, or grey levels from 0, white, to 1, black.
        loss: by default ``PatternLoss`` for masks and ``GreyLoss`` where there are levels in between.
        evaluation: "loop", "vmap", or "fastest": what is faster on this device, measured at the start.
        callback: called with the steps done, those wanted, and the present loss in words.

    Raises:
        InvalidArgument: levels outside [0, 1], no cells to draw, an unknown evaluation.
        InvalidData: inputs and targets differ in number, or the loss becomes infinite or NaN.
    """
    x, y = data
    require(len(x) == len(y) > 0, f"data must pair inputs with targets, got {len(x)} and {len(y)}", InvalidData)
    require(evaluation in EVALUATIONS, f"evaluation must be one of {', '.join(EVALUATIONS)}, got {evaluation!r}")
    target = np.asarray(levels, dtype=np.float64)
    require(bool(((target >= 0) & (target <= 1)).all()), "levels must lie in [0, 1], from white to black")
    is_mask = bool(np.isin(target, (0, 1)).all())
    chosen: CellLoss = loss or (PatternLoss(recipe.cut, recipe.white) if is_mask else GreyLoss(recipe.cut))
    trained = boundary_cells(target) if recipe.skip_interior else np.ones(target.shape, dtype=bool)
    groups = _groups(target, trained, recipe.cells)
    require(
        bool(groups),
        "levels leaves no cells to draw: all have one level, and cells inside of one colour are skipped"
        " (skip_interior=False trains them, too)",
    )
    cells = Cells(model)
    vectors = initial_vectors(model, 1 + target.ndim, seed=seed).to(x.device)
    plane = Plane(vectors[0], vectors[1:], scale=recipe.scale)
    coordinates = grid_coordinates(target.shape).to(x.device)
    speed = None
    if evaluation == "fastest":
        batch = x[: recipe.batch_size].to(cells.dtype), y[: recipe.batch_size]
        speed = cells.measure_speed(_detached(plane, cells.dtype), coordinates[:_TIMED_CELLS], batch)
        evaluation = speed.fastest
    cells = cells.with_strategy(evaluation)
    losses = _train(plane, cells, data, _Target(coordinates, target, groups, chosen), recipe, seed, callback)
    bytes_needed = memory(cells.dim, plane.dimension, target.size, itemsize=cells.dtype.itemsize)
    frame = _detached(plane, cells.dtype)
    return Pattern(plane.requires_grad_(False), frame, trained, losses, evaluation, speed, bytes_needed)


@dataclass(frozen=True)
class _Target:
    """What the cells should show."""

    coordinates: Tensor
    levels: np.ndarray
    groups: list[tuple[np.ndarray, int]]  # cells of one colour, and how many of them are drawn for a step
    loss: CellLoss

    def draw(self, generator: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """The cells of a step, and 1 over the number of those of the same colour."""
        drawn = [generator.choice(each, n, replace=False) for each, n in self.groups]
        return np.concatenate(drawn), np.concatenate([np.full(len(each), 1 / len(each)) for each in drawn])


def _groups(target: np.ndarray, trained: np.ndarray, cells: tuple[int, int]) -> list[tuple[np.ndarray, int]]:
    dark = target.ravel() > 0.5
    colours = (np.flatnonzero(trained.ravel() & colour) for colour in (dark, ~dark))
    return [(each, min(n, len(each))) for each, n in zip(colours, cells, strict=True) if n and len(each)]


def _train(
    plane: Plane,
    cells: Cells,
    data: Data,
    target: _Target,
    recipe: PatternRecipe,
    seed: int,
    callback: Callback | None,
) -> np.ndarray:
    x, y = data[0].to(cells.dtype), data[1]
    optimiser = torch.optim.Adam(plane.parameters(), lr=recipe.lr)
    generator = np.random.default_rng((seed, 1))
    losses = np.empty(recipe.steps)
    if callback is not None:
        callback(0, recipe.steps, "")
    for step in range(recipe.steps):
        chosen = generator.choice(len(x), min(recipe.batch_size, len(x)), replace=False)
        samples = torch.from_numpy(chosen).to(x.device)
        optimiser.param_groups[0]["lr"] = recipe.rate(step)
        optimiser.zero_grad(set_to_none=True)
        frame = plane.frame(cells.dtype)
        losses[step], gradient = _step(cells, frame, target, generator, (x[samples], y[samples]))
        torch.autograd.backward([frame.origin, frame.steps], [gradient.origin, gradient.steps])
        require(
            math.isfinite(losses[step]),
            f"the loss is {losses[step]} in step {step + 1}: training diverged; lower lr (now {recipe.lr:g})",
            InvalidData,
        )
        optimiser.step()
        if callback is not None:
            callback(step + 1, recipe.steps, f"loss {losses[step]:.3f}")
    return losses


def _step(
    cells: Cells, frame: Frame, target: _Target, generator: np.random.Generator, batch: Data
) -> tuple[float, Frame]:
    """The loss of randomly drawn cells and its gradient by the frame."""
    x, y = batch
    chosen, weights = target.draw(generator)
    coordinates = target.coordinates[torch.from_numpy(chosen).to(x.device)]
    levels, weights = (
        torch.as_tensor(each, dtype=cells.dtype, device=x.device) for each in (target.levels.ravel()[chosen], weights)
    )
    sizes = cells.chunk_sizes(len(chosen))
    if not target.loss.coupled:
        parts = zip(levels.split(sizes), weights.split(sizes), strict=True)
        return cells.gradient(frame, coordinates, x, [_bound(target.loss, y, *each) for each in parts])
    outputs = cells.outputs(frame, coordinates, x).requires_grad_()
    loss = target.loss(outputs, y, levels, weights)
    (by_outputs,) = torch.autograd.grad(loss, outputs)
    _, gradient = cells.gradient(frame, coordinates, x, [_product(each) for each in by_outputs.split(sizes)])
    return float(loss.detach()), gradient


def _bound(loss: CellLoss, y: Tensor, levels: Tensor, weights: Tensor) -> OutputLoss:
    return lambda outputs: loss(outputs, y, levels, weights)


def _product(by_outputs: Tensor) -> OutputLoss:
    """The linear function of the outputs that has the gradient of a coupled loss."""
    return lambda outputs: (outputs * by_outputs).sum()


def _detached(plane: Plane, dtype: torch.dtype) -> Frame:
    with torch.no_grad():
        frame = plane.frame(dtype)
    return Frame(frame.origin.detach(), frame.steps.detach())


def map_pattern(model: nn.Module, pattern: Pattern, data: Data, *, batch_size: int = 512, margin: int = 0) -> Maps:
    """Loss and accuracy of every cell, trained or not, in the shape of the picture.

    Args:
        margin: cells around the picture that are evaluated as well; each axis grows by twice as many.
    """
    shape = tuple(n + 2 * margin for n in pattern.trained.shape)
    cells = Cells(model, strategy=pattern.evaluation)
    coordinates = grid_coordinates(shape).to(pattern.frame.origin.device)
    flat = cells.maps(pattern.frame, coordinates, data, batch_size=batch_size)
    return Maps(flat.loss.reshape(shape), flat.accuracy.reshape(shape))


@dataclass(frozen=True)
class Contrast:
    """Mean accuracy of black and of white cells; NaN where there are none."""

    black: float
    white: float

    @property
    def difference(self) -> float:
        """Black minus white: 0 where no picture is to be seen."""
        return self.black - self.white

    def to_dict(self) -> dict[str, Any]:
        """A JSON-ready dictionary."""
        return {**asdict(self), "difference": self.difference}


def measure_contrast(levels: np.ndarray, accuracy: np.ndarray) -> Contrast:
    """How well a picture shows in a map of the accuracy; levels above 1/2 count as black.

    >>> measure_contrast(np.array([[1, 0]]), np.array([[0.9, 0.2]])).difference
    0.7
    """
    black = np.asarray(levels) > 0.5
    require(black.shape == np.shape(accuracy), f"accuracy must have shape {black.shape}, got {np.shape(accuracy)}")
    means = [float(np.mean(accuracy[each])) if each.any() else math.nan for each in (black, ~black)]
    return Contrast(*means)
