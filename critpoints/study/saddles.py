"""A search for saddles in resumable units: one file each, written whole or not at all."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from itertools import combinations
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
import torch
from torch import Tensor

from critpoints.census import take_census
from critpoints.errors import STATUS_CODES, STATUSES, SpecMismatch, StoreError, require
from critpoints.landscape.paths import find_band
from critpoints.landscape.saddle_starts import (
    PLACES,
    LineStart,
    PredictedSaddles,
    line_starts,
    midpoints,
    perturb,
    predict_saddles,
)
from critpoints.objectives.two_layer import TwoLayerObjective
from critpoints.solvers.escaping import gaussian_directions
from critpoints.solvers.saddle_search import ANY, FoundPoints, search_saddles
from critpoints.solvers.training import train
from critpoints.study.distinct import stored_verdicts
from critpoints.study.store import Store
from critpoints.symmetry.canonical import orbit_distance
from critpoints.verdict import Kind

TRAJECTORY, LINE, NOTHING, MIDPOINT, BAND = "trajectory", "line", "nothing", "midpoint", "band"
NOTHINGS = 8  # starts without output weights
BAND_ITERATIONS = 60  # of a nudged elastic band: its top need not be exact, the search goes on from there
BLOCK = 400  # searches a unit
_FLOATS = ("theta", "loss", "gradient_norm", "gradient_noise")
_INTEGERS = ("target", "index", "nullity", "iterations")

Callback = Callable[[float, int, str], None]


@dataclass(frozen=True)
class SearchPlan:
    """What is searched; two plans with equal fields start the same searches.

    Attributes:
        problem: the specification of the study that the minima come from, as text.
        width: of the students.
        seeds: trajectories, of the seeds 0, 1, ..
        steps, snapshots: of Adam, and points taken of each trajectory.
        max_index: targets are any index and 1 .. max_index.
        epsilon: of the perturbations of trajectories, relative to the length of a point.
        tries: distances from each predicted part of a saddle line at which searches start, see ``line_starts``.
        minima: distinct minima, the lowest, between which midpoints are taken.
        bands: nudged elastic bands, between the closest pairs of these.
        max_iterations: of a search.
    """

    problem: str
    width: int
    seeds: int = 100
    steps: int = 4000
    snapshots: int = 3
    max_index: int = 3
    epsilon: float = 0.05
    tries: int = 4
    minima: int = 12
    bands: int = 12
    max_iterations: int = 150

    def __post_init__(self) -> None:
        require(self.width >= 1, f"width must be at least 1, got {self.width}")
        for name in ("seeds", "tries", "minima", "bands"):
            require(getattr(self, name) >= 0, f"{name} must not be negative, got {getattr(self, name)}")
        for name in ("steps", "snapshots", "max_index", "max_iterations"):
            require(getattr(self, name) >= 1, f"{name} must be at least 1, got {getattr(self, name)}")
        require(0 <= self.epsilon < 1, f"epsilon must be from 0 to below 1, got {self.epsilon}")

    def to_json(self) -> str:
        """The plan as text, the same for equal plans."""
        return json.dumps(asdict(self), sort_keys=True)


@dataclass(frozen=True)
class Starts:
    """Starts of searches: (S, P), a target index each, and what they are."""

    theta: Tensor
    target: Tensor
    kind: str


@dataclass(frozen=True)
class Known:
    """What a study knows: distinct minima of a width, (K, P), and the strict ones of the next narrower, (K', P')."""

    minima: Tensor
    narrower: Tensor
    predicted: tuple[PredictedSaddles, ...]


def strict_minima(store: Store, problem: TwoLayerObjective, width: int) -> Tensor:
    """The distinct strict minima of a width, the lowest first: (K, P)."""
    rows = [row for row in store.points(width) if row["kind"] == Kind.STRICT_MINIMUM.value]
    if not rows:
        return torch.empty(0, problem.n_parameters(width), dtype=problem.dtype)
    census = take_census(problem, stored_verdicts(rows))
    return torch.stack([entry.representative for entry in census.entries])


def known_points(store: Store, other: Store, problem: TwoLayerObjective, width: int) -> Known:
    """Minima that searches start from, narrower ones of another study, and the saddles that their splits predict."""
    narrower = strict_minima(other, problem, width - 1) if width > 1 else torch.empty(0, 0, dtype=problem.dtype)
    predicted = predict_saddles(problem, narrower) if len(narrower) else []
    return Known(strict_minima(store, problem, width), narrower, tuple(predicted))


@dataclass(frozen=True)
class Unit:
    """Searches that are stored together: a name, what makes their starts, and which lines they start beside."""

    name: str
    make: Callable[[], Starts]
    lines: tuple[LineStart, ...] = ()


@dataclass(frozen=True)
class Searched:
    """What a search found.

    Attributes:
        found: the ends of all searches.
        kinds: of their starts.
        lines: by row, where those beside saddle lines started.
    """

    found: FoundPoints
    kinds: list[str]
    lines: dict[int, LineStart]


def plan_starts(plan: SearchPlan, problem: TwoLayerObjective, known: Known) -> Iterator[Unit]:
    """The units of a plan."""
    targets = torch.tensor([ANY, *range(1, plan.max_index + 1)])
    per_unit = max(1, BLOCK // (plan.snapshots * len(targets)))
    for first in range(0, plan.seeds, per_unit):
        seeds = range(first, min(first + per_unit, plan.seeds))
        yield Unit(f"{TRAJECTORY}-{first:05d}", partial(_trajectory_starts, plan, problem, seeds, targets))
    lines = [k for k, each in enumerate(known.predicted) if each.inertia.negative <= plan.max_index]
    if plan.tries:
        each_makes = plan.tries * len(next(iter(PLACES.values())))
        for first in range(0, len(lines), max(1, BLOCK // each_makes)):
            numbers = lines[first : first + max(1, BLOCK // each_makes)]
            parts = [known.predicted[k] for k in numbers]
            points, beside = line_starts(problem, parts, numbers, plan.tries)
            target = torch.tensor([part.inertia.negative for part in parts]).repeat(each_makes)
            yield Unit(f"{LINE}-{first:05d}", partial(Starts, points, target, LINE), tuple(beside))
    if plan.seeds:
        yield Unit(f"{NOTHING}-00000", partial(_nothing_starts, plan, problem))
    chosen = known.minima[: plan.minima]
    if len(chosen) > 1:
        yield Unit(f"{MIDPOINT}-00000", partial(_midpoint_starts, problem, chosen))
        if plan.bands:
            yield Unit(f"{BAND}-00000", partial(_band_starts, problem, chosen, plan.bands))


def _trajectory_starts(plan: SearchPlan, problem: TwoLayerObjective, seeds: range, targets: Tensor) -> Starts:
    init = getattr(problem, "init", None)
    require(callable(init), "the problem must have init(width, seeds): trajectories start from random students")
    theta0 = init(plan.width, seeds)  # pyright: ignore[reportOptionalCall]
    path = train(problem, theta0, steps=plan.steps, record=plan.snapshots).trajectory[-plan.snapshots :]
    parts, wanted = [], []
    for number, points in enumerate(path):
        for attempt, target in enumerate(targets.tolist()):
            parts.append(perturb(points, plan.epsilon, seeds, attempt=number * len(targets) + attempt))
            wanted.append(torch.full((len(points),), target))
    return Starts(torch.cat(parts), torch.cat(wanted), TRAJECTORY)


def _nothing_starts(plan: SearchPlan, problem: TwoLayerObjective) -> Starts:
    """Random neurons without output weights, next to the student f = 0, whose index is the width."""
    rows = gaussian_directions(plan.width * problem.n_inputs, range(NOTHINGS), 0, normalised=False).to(problem.dtype)
    theta = torch.nn.functional.pad(rows, (0, problem.n_parameters(plan.width) - rows.shape[1]))
    return Starts(theta, torch.full((NOTHINGS,), plan.width), NOTHING)


def _midpoint_starts(problem: TwoLayerObjective, minima: Tensor) -> Starts:
    points = midpoints(problem, minima)
    return Starts(points.repeat(2, 1), torch.tensor([1, 2]).repeat_interleave(len(points)), MIDPOINT)


def _band_starts(problem: TwoLayerObjective, minima: Tensor, bands: int) -> Starts:
    """The tops of bands between the closest pairs of minima."""
    pairs = list(combinations(range(len(minima)), 2))
    distances = [orbit_distance(problem, minima[j], minima[i]) for i, j in pairs]
    nearest = sorted(range(len(pairs)), key=distances.__getitem__)[:bands]
    found = [find_band(problem, *minima[list(pairs[k])], max_iterations=BAND_ITERATIONS) for k in nearest]
    tops = torch.stack([band.images[band.highest] for band in found])
    return Starts(tops, torch.ones(len(tops), dtype=torch.int64), BAND)


class SearchFolder:
    """The folder of a search: its plan, and a file for every unit that is done.

    Args:
        path: made if it is not there.

    Raises:
        SpecMismatch: it holds a search by another plan.
        StoreError: it cannot be read or written.
    """

    def __init__(self, path: Path, plan: SearchPlan) -> None:
        self.path, self.plan = path, plan
        try:
            path.mkdir(parents=True, exist_ok=True)
            name = path / "plan.json"
            if name.exists() and name.read_text(encoding="utf-8") != plan.to_json():
                raise SpecMismatch(f"{path} holds a search by another plan; ask for the same, or give another folder")
            _write_whole(name, plan.to_json().encode())
        except OSError as error:
            raise StoreError(f"{path}: {error.strerror or error}") from error

    def load(self, name: str) -> FoundPoints | None:
        """The ends of a unit; None if it is still to do.

        Raises:
            StoreError: the file is damaged.
        """
        file = self.path / f"{name}.npz"
        if not file.exists():
            return None
        try:
            with file.open("rb") as stream, np.load(stream) as data:
                arrays = {key: torch.from_numpy(data[key]) for key in (*_FLOATS, *_INTEGERS)}
                status = tuple(STATUSES[code] for code in data["status"].tolist())
        except (OSError, KeyError, ValueError, BadZipFile, IndexError) as error:
            raise StoreError(f"{file} is damaged ({error}); remove it to compute the unit again") from error
        return FoundPoints(**arrays, status=status)

    def save(self, name: str, found: FoundPoints) -> None:
        """Stores the ends of a unit: the file is there as a whole or not at all."""
        import io

        buffer = io.BytesIO()
        status = np.array([STATUS_CODES[each] for each in found.status])
        arrays = {key: getattr(found, key).numpy() for key in (*_FLOATS, *_INTEGERS)}
        np.savez(buffer, **arrays, status=status)
        _write_whole(self.path / f"{name}.npz", buffer.getvalue())


def _write_whole(path: Path, data: bytes) -> None:
    partial = path.with_suffix(path.suffix + ".partial")
    with partial.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)


def run_search(
    folder: SearchFolder, problem: TwoLayerObjective, known: Known, *, callback: Callback | None = None
) -> Searched:
    """Computes the units that are missing.

    Args:
        callback: callback(units done, units, what is being done).

    Raises:
        StoreError: a stored unit is damaged, or of another program that started elsewhere.
    """
    units = list(plan_starts(folder.plan, problem, known))
    found, kinds, lines = [], [], {}
    for number, unit in enumerate(units):
        if callback is not None:
            callback(number, len(units), unit.name)
        ends = folder.load(unit.name)
        if ends is None:
            starts = unit.make()
            limit = folder.plan.max_iterations
            ends = search_saddles(problem, starts.theta, index=starts.target, max_iterations=limit)
            folder.save(unit.name, ends)
        if unit.lines and len(unit.lines) != len(ends.theta):
            file = folder.path / f"{unit.name}.npz"
            raise StoreError(
                f"{file} holds {len(ends.theta)} searches, not {len(unit.lines)}; remove it to search anew"
            )
        lines |= dict(enumerate(unit.lines, len(kinds)))
        found.append(ends)
        kinds += [unit.name.split("-")[0]] * len(ends.theta)
    require(bool(found), "the plan starts no search: give seeds, or minima to start from")
    if callback is not None:
        callback(len(units), len(units), "searched")
    return Searched(join(found), kinds, lines)


def join(parts: Sequence[FoundPoints]) -> FoundPoints:
    """One batch of several."""
    tensors = {name: torch.cat([getattr(each, name) for each in parts]) for name in (*_FLOATS, *_INTEGERS)}
    return FoundPoints(**tensors, status=tuple(status for each in parts for status in each.status))


def plan_name(plan: SearchPlan) -> str:
    """A folder name for a plan that is given none."""
    return f"critpoints-saddles-{hashlib.sha256(plan.to_json().encode()).hexdigest()[:12]}"
