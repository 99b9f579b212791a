"""Lines and planes through parameter space: the loss on a grid, and where points of interest project to."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from critpoints.errors import SpecMismatch, require
from critpoints.landscape.evaluation import Evaluator, State, as_state
from critpoints.landscape.grids import FASTEST, GridLosses
from critpoints.landscape.interpolation import Point
from critpoints.landscape.module_losses import Flat
from critpoints.landscape.results import Callback, run_units
from critpoints.objectives.base import Objective

BLOCKS = 24  # units that the points of a grid are stored in
_PROJECTION = 1e-12  # relative singular value below which directions are dependent


@dataclass(frozen=True)
class Section:
    """A grid on the flat origin + sum_j c_j directions_j.

    Attributes:
        origin: (P,).
        directions: (k, P), k = 1 (a line) or 2 (a plane); of any lengths, not necessarily orthogonal.
        axes: k vectors of coordinates c_j, float64, ascending.

    Raises:
        InvalidArgument: shapes that do not fit, directions that are dependent or not finite.

    >>> line = Section(torch.zeros(2).double(), torch.tensor([[3.0, 4.0]]).double(), (torch.arange(3).double(),))
    >>> line.project(torch.tensor([[3.0, 4.0], [4.0, -3.0]]).double())
    Projection(coordinates=tensor([[1.],
            [0.]], dtype=torch.float64), distances=tensor([0., 5.], dtype=torch.float64))
    """

    origin: Tensor
    directions: Tensor
    axes: tuple[Tensor, ...]

    def __post_init__(self) -> None:
        require(self.origin.ndim == 1, f"origin must be one point (P,), got shape {tuple(self.origin.shape)}")
        k, length = len(self.axes), len(self.origin)
        require(
            k in (1, 2) and self.directions.shape == (k, length),
            f"directions must have shape ({k}, {length}) for {k} axes, one or two, got {tuple(self.directions.shape)}",
        )
        for axis in self.axes:
            require(axis.ndim == 1 and len(axis) > 0, f"an axis must be a vector, got shape {tuple(axis.shape)}")
        require(bool(torch.isfinite(self.directions).all()), "directions must be finite")
        values = torch.linalg.svdvals(self.directions.double())
        require(float(values[-1]) > _PROJECTION * float(values[0]), "directions must be independent and not zero")

    @property
    def shape(self) -> tuple[int, ...]:
        """Points along each axis."""
        return tuple(len(axis) for axis in self.axes)

    @property
    def coefficients(self) -> Tensor:
        """(n, k), all points of the grid, the last axis fastest."""
        grids = torch.meshgrid(*self.axes, indexing="ij")
        return torch.stack([each.reshape(-1) for each in grids], -1).to("cpu", torch.float64)

    def project(self, points: Tensor) -> Projection:
        """The nearest points of the flat to ``points`` (T, P)."""
        basis, away = self.directions.double(), points.double() - self.origin.double()
        coordinates = torch.linalg.lstsq(basis @ basis.T, basis @ away.T).solution.T
        distances = (away - coordinates @ basis).norm(dim=-1)
        return Projection(coordinates.cpu(), distances.cpu())


@dataclass(frozen=True)
class Projection:
    """Where points lie from a flat: coordinates (T, k) of the nearest points, distances (T,) from them."""

    coordinates: Tensor
    distances: Tensor


def section_around(theta: Tensor, directions: Tensor, *, span: float = 1.0, points: int = 51) -> Section:
    """The grid of coordinates from -span to span along each direction, (k, P), around a point (P,)."""
    require(points >= 2, f"points must be at least 2, got {points}")
    require(0 < span < math.inf, f"span must be a positive number, got {span}")
    axis = torch.linspace(-span, span, points, dtype=torch.float64)
    return Section(theta, directions, (axis,) * len(directions))


def section_covering(
    origin: Tensor, directions: Tensor, points: Tensor, *, margin: float = 0.2, n: int = 51
) -> Section:
    """The smallest grid of n points an axis that holds the projections of ``points`` (T, P), and a margin.

    Args:
        margin: on each side, as a share of the extent along that axis, at least a tenth of the larger extent.
    """
    require(n >= 2, f"n must be at least 2, got {n}")
    blank = (torch.zeros(1, dtype=torch.float64),) * len(directions)
    coordinates = Section(origin, directions, blank).project(points).coordinates
    low, high = coordinates.min(0).values, coordinates.max(0).values
    extent = torch.maximum(high - low, 0.1 * (high - low).max())
    require(float(extent.max()) > 0, "points must not all project to one point of the section")
    ends = zip((low - margin * extent).tolist(), (high + margin * extent).tolist(), strict=True)
    return Section(origin, directions, tuple(torch.linspace(a, b, n, dtype=torch.float64) for a, b in ends))


@dataclass(frozen=True)
class Marks:
    """Points of interest beside their images on a section: why the plane's loss differs from theirs.

    Attributes:
        coordinates: (T, k), of their projections.
        distances: (T,), to the projections.
        train_loss, test_loss: (T,), at the points themselves, with the statistics of BatchNorm that they bring.
        projected_train_loss, projected_test_loss: (T,), at the projections.
    """

    coordinates: Tensor
    distances: Tensor
    train_loss: Tensor
    test_loss: Tensor
    projected_train_loss: Tensor
    projected_test_loss: Tensor

    def to_dict(self) -> dict[str, Any]:
        """A JSON-ready dictionary."""
        return {name: each.tolist() for name, each in self.__dict__.items()}


@dataclass(frozen=True)
class SectionLosses:
    """The loss on a section.

    Attributes:
        section: where.
        train_loss, test_loss: of the shape of the section, float64; test_loss is NaN without test data.
        way: how the points were evaluated, see ``critpoints.landscape.grids``.
        batch_norm: the policy; None for an objective without BatchNorm.
        marks: None where no points were given.
    """

    section: Section
    train_loss: Tensor
    test_loss: Tensor
    way: str
    batch_norm: str | None
    marks: Marks | None

    def to_dict(self) -> dict[str, Any]:
        """A JSON-ready dictionary, without the vectors that span the section."""
        return {
            "axes": [each.tolist() for each in self.section.axes],
            "train_loss": self.train_loss.tolist(),
            "test_loss": self.test_loss.tolist(),
            "way": self.way,
            "batch_norm": self.batch_norm,
            "marks": None if self.marks is None else self.marks.to_dict(),
        }


def evaluate_section(
    objective: Objective,
    section: Section,
    *,
    test: Any = None,
    batch_norm: str | None = None,
    marked: Sequence[Point] = (),
    way: str = FASTEST,
    folder: str | Path | None = None,
    configuration: Mapping[str, Any] | None = None,
    workers: int = 1,
    callback: Callback | None = None,
) -> SectionLosses:
    """Evaluates the loss at every point of a section.

    Args:
        objective: any ``Objective``.
        test, batch_norm: see ``Evaluator``; a section has no statistics to interpolate.
        marked: points of interest, (P,) each or a module's ``state_dict()``: a trajectory, minima.
        way: how to evaluate; by default what is fastest on a few of the points. Ways differ by rounding.
        folder: where points are stored as they are computed, each by one thread; a second call computes those that
            are missing. Without it nothing is stored.
        configuration: what else the results depend on (data, seeds), compared with that of the stored points.
        workers: processes, if there is a folder; ``objective`` and ``test`` must pickle for more than one.
        callback: see ``run_units``.

    Raises:
        InvalidArgument: a section or marked points of another architecture, an unknown way.
        SpecMismatch: the folder holds another section, or the loss at its origin was another.

    >>> from critpoints import PolynomialObjective
    >>> f = PolynomialObjective({(2, 0): 1, (0, 2): -1})  # x^2 - y^2
    >>> plane = section_around(torch.zeros(2).double(), torch.eye(2).double(), points=3)
    >>> evaluate_section(f, plane).train_loss.tolist()
    [[0.0, 1.0, 0.0], [-1.0, 0.0, -1.0], [0.0, 1.0, 0.0]]
    """
    section = _fitting(objective, section)
    states = [as_state(objective, each, f"marked[{number}]") for number, each in enumerate(marked)]
    task = _Task(objective, section, test, batch_norm)
    if folder is None:
        way = task.grid.fastest(section.coefficients) if way == FASTEST else way
        losses = task.grid.evaluate(section.coefficients, way)
    else:
        way, losses = _stored(task, way, Path(folder), configuration or {}, workers, callback)
    marks = _mark(task, section, states, test) if states else None
    train, test_loss = (column.reshape(section.shape) for column in losses.T)
    return SectionLosses(section, train, test_loss, way, task.grid.evaluator.policy, marks)


def _fitting(objective: Objective, section: Section) -> Section:
    length = len(section.origin)
    require(
        objective.dim in (None, length),
        f"section belongs to another architecture: it has {length} parameters, the objective {objective.dim}",
    )
    return Section(
        objective.validate(section.origin).detach(), objective.validate(section.directions).detach(), section.axes
    )


class _Task:
    """What is computed, in this process or another: a callable from the name of a unit to its arrays."""

    def __init__(self, objective: Objective, section: Section, test: Any, batch_norm: str | None) -> None:
        self.arguments = (objective, section, test, batch_norm)
        self.way: str = FASTEST
        flat = Flat(section.origin, section.directions)
        self.grid = GridLosses(objective, flat, test=test, batch_norm=batch_norm)
        self.blocks = section.coefficients.chunk(BLOCKS)

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuilt, (*self.arguments, self.way)

    @property
    def origin_loss(self) -> Tensor:
        """(2,), training and test."""
        return self.grid.evaluate(torch.zeros(1, len(self.grid.flat.directions)), self.grid.ways[0])[0]

    def __call__(self, unit: str) -> dict[str, np.ndarray]:
        if unit == "way":
            way = self.grid.fastest(torch.cat(self.blocks)) if self.way == FASTEST else self.way
            return {"way": np.array(way), "origin_loss": self.origin_loss.numpy()}
        return {"losses": self.grid.evaluate(self.blocks[int(unit.rpartition("-")[2])], self.way).numpy()}


def _rebuilt(objective: Objective, section: Section, test: Any, batch_norm: str | None, way: str) -> _Task:
    task = _Task(objective, section, test, batch_norm)
    task.way = way
    return task


def _stored(
    task: _Task, way: str, folder: Path, configuration: Mapping[str, Any], workers: int, callback: Callback | None
) -> tuple[str, Tensor]:
    """The way and the losses of all points, those in the folder and those that were missing."""
    objective, section, test, batch_norm = task.arguments
    whole = {
        **configuration,
        "section": _digest(section),
        "shape": section.shape,
        "objective": type(objective).__name__,
        "batch_norm": batch_norm,
        "test": test is not None,
        "way": way,
    }
    task.way = way
    (plan,) = run_units(folder, whole, ["way"], task)
    tolerance = torch.finfo(objective.dtype).eps ** 0.6
    if not np.allclose(task.origin_loss.numpy(), plan.arrays["origin_loss"], tolerance, tolerance, equal_nan=True):
        raise SpecMismatch(
            f"{folder} holds a section on which the loss at the origin is {plan.arrays['origin_loss'].tolist()}, now it"
            f" is {task.origin_loss.tolist()}: other data or another model; choose another folder"
        )
    task.way = str(plan.arrays["way"])
    units = [f"block-{number:02d}" for number in range(len(task.blocks))]
    found = run_units(folder, whole, units, task, workers=workers, callback=callback)
    return task.way, torch.from_numpy(np.concatenate([each.arrays["losses"] for each in found]))


def _digest(section: Section) -> str:
    digest = hashlib.sha256()
    for each in (section.origin, section.directions, *section.axes):
        digest.update(each.detach().to("cpu", torch.float64).contiguous().numpy().tobytes())
    return digest.hexdigest()


def _mark(task: _Task, section: Section, states: Sequence[State], test: Any) -> Marks:
    projection = section.project(torch.stack([each.theta for each in states]))
    projected = task.grid.evaluate(projection.coordinates, task.grid.ways[0])
    objective, policy = task.arguments[0], task.grid.evaluator.policy
    if policy is not None and all(each.buffers for each in states):
        policy = "interpolate"  # each has statistics of its own
    true = Evaluator(objective, test=test, batch_norm=policy).measure(states)
    return Marks(
        projection.coordinates, projection.distances, true.train_loss, true.test_loss, projected[:, 0], projected[:, 1]
    )
