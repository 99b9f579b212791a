"""Planes through trained networks and students of the seed study: what is trained, which plane, what is drawn in."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from critpoints.data import Dataset, load
from critpoints.errors import InvalidData, require
from critpoints.landscape.directions import (
    directions_through,
    filter_normalised,
    hessian_directions,
    random_directions,
)
from critpoints.landscape.evaluation import as_state
from critpoints.landscape.interpolation import Point
from critpoints.landscape.results import Arrays, Callback, Result, run_units
from critpoints.landscape.sections import (
    Section,
    SectionLosses,
    evaluate_section,
    section_around,
    section_covering,
)
from critpoints.landscape.settings import Setting
from critpoints.landscape.training import fit
from critpoints.landscape.trajectories import find_principal_components
from critpoints.objectives.base import Objective
from critpoints.objectives.module import ModuleObjective
from critpoints.objectives.teacher_student import TeacherStudent
from critpoints.solvers.refinement import refine
from critpoints.solvers.training import train
from critpoints.symmetry.saddle_lines import irreducible_point
from critpoints.symmetry.splitting import saddle_line

PLANES = ("filter", "random", "pca", "hessian", "minima")
STUDENTS = ("student-saddle", "student-trajectory")
SADDLE_SPAN = 0.4  # along the negative direction of a student's saddle
_SHARES = (-0.5, 0.5, 1.5)  # of a split neuron's output weight: one of them makes a strict saddle, if any does


@dataclass(frozen=True)
class SectionExperiment:
    """A plane through what one setting trains, or through a student.

    Attributes:
        name: of the setting, or one of ``STUDENTS``.
        setting: None for students.
        plane: one of ``PLANES``: around the end of training along two random directions, filter-normalised or as long
            as the weights, or along the Hessian's two largest eigenvalues; through the mean of the trajectory along its
            principal components; or through the ends of three runs.
        points: along each axis.
        snapshots: of the trajectory, at most.
        hessian_samples: training samples that the Hessian's eigenvectors are found on.
        batch_norm: policy, where there is BatchNorm.
    """

    name: str
    setting: Setting | None
    plane: str = "filter"
    points: int = 51
    seed: int = 0
    snapshots: int = 21
    hessian_samples: int = 512
    batch_norm: str = "recalibrate"

    def __post_init__(self) -> None:
        require(self.plane in PLANES, f"plane must be one of {', '.join(PLANES)}, got {self.plane!r}")
        require(self.points >= 3, f"points must be at least 3, got {self.points}")

    def configuration(self, dataset: Dataset | None) -> dict[str, Any]:
        """Everything that the results depend on."""
        setting = None if self.setting is None else self.setting.to_dict()
        checksum = None if dataset is None else dataset.checksum
        return {"experiment": "section", **asdict(self), "setting": setting, "data": checksum}


def run(
    experiment: SectionExperiment,
    folder: str | Path,
    *,
    root: str | Path | None = None,
    workers: int = 1,
    environment: Mapping[str, Any] | None = None,
    callback: Callback | None = None,
) -> Result:
    """Trains, spans the plane, evaluates it; what ``folder`` holds is not computed again.

    Returns:
        Arrays ``axis-0``, ``axis-1``, ``train_loss`` and ``test_loss`` (n0, n1), ``theta_origin`` (P,), ``directions``
        (2, P), and of the marked points ``marks-...`` as in ``Marks``; the header says how it was evaluated.
    """
    dataset = None if experiment.setting is None else load(experiment.setting.dataset, root)
    configuration = experiment.configuration(dataset)

    def compute(unit: str) -> Arrays:
        return _student(experiment) if dataset is None else _network(experiment, dataset)

    (trained,) = run_units(folder, configuration, ["trained"], compute, environment=environment)
    objective, marked, test = _restore(experiment, dataset, trained.arrays)
    origin, directions = (torch.from_numpy(trained.arrays[name]) for name in ("theta_origin", "directions"))
    section = Section(origin, directions, _axes(trained))
    norms = isinstance(objective, ModuleObjective) and any("running_mean" in name for name in trained.arrays)
    losses = evaluate_section(
        objective,
        section,
        test=test,
        batch_norm=experiment.batch_norm if norms else None,
        marked=marked,
        folder=folder,
        configuration=configuration,
        workers=workers,
        callback=callback,
    )
    return _result(losses, trained)


def _axes(trained: Result) -> tuple[Tensor, ...]:
    return tuple(torch.from_numpy(trained.arrays[f"axis-{number}"]) for number in range(2))


def _result(losses: SectionLosses, trained: Result) -> Result:
    spanned = {name: trained.arrays[name] for name in ("axis-0", "axis-1", "theta_origin", "directions", "eigenvalues")}
    marks = {} if losses.marks is None else {f"marks-{name}": each.numpy() for name, each in vars(losses.marks).items()}
    surfaces = {"train_loss": losses.train_loss.numpy(), "test_loss": losses.test_loss.numpy()}
    header = {**trained.header, "unit": "section", "way": losses.way, "batch_norm": losses.batch_norm}
    return Result(header, {**spanned, **surfaces, **marks, "steps": trained.arrays["steps"]})


def _network(experiment: SectionExperiment, dataset: Dataset) -> Arrays:
    """Trains what the plane needs: its spanning vectors, and the states to mark."""
    assert experiment.setting is not None
    minima = experiment.plane == "minima"
    seeds = range(experiment.seed, experiment.seed + (3 if minima else 1))
    epochs = experiment.setting.recipe.epochs
    wanted = {epochs} if minima else {round(e) for e in np.linspace(0, epochs, experiment.snapshots)}
    states: list[dict[str, Tensor]] = []
    steps: list[int] = []

    def keep(epoch: int, model: nn.Module) -> None:
        if epoch in wanted:
            states.append({name: each.clone() for name, each in model.state_dict().items()})
            steps.append(epoch)

    model = experiment.setting.network(dataset, experiment.seed)
    for seed in seeds:
        model = experiment.setting.network(dataset, seed)
        fit(model, dataset.train, experiment.setting.recipe, seed=seed, on_epoch=keep)
    objective = ModuleObjective(model.eval(), F.cross_entropy, dataset.train)
    points = torch.stack([as_state(objective, state).theta for state in states])
    section, values = _span(experiment, objective, points)
    kept = {f"state-{i:02d}/{name}": each.numpy() for i, state in enumerate(states) for name, each in state.items()}
    return {**kept, **_spanned(section, values), "steps": np.array(steps)}


def _span(experiment: SectionExperiment, objective: ModuleObjective, points: Tensor) -> tuple[Section, Sequence[float]]:
    """The plane that was asked for, and the eigenvalues along its directions where it has some."""
    end, n = points[-1], experiment.points
    drawn = random_directions(end, seed=experiment.seed)
    if experiment.plane == "filter":
        return section_around(end, filter_normalised(objective, end, drawn), points=n), ()
    if experiment.plane == "random":
        return section_around(end, drawn * end.norm(), points=n), ()
    if experiment.plane == "hessian":
        x, y = (each[: experiment.hessian_samples] for each in objective.batches.first().content)
        directions, pairs = hessian_directions(objective.replace(data=(x, y)), end, 2, "LA", tol=1e-3)
        # as far as the larger eigenvalue alone raises the loss by about 2
        span = min(float(end.norm()), (4 / max(float(pairs.values[-1]), 1e-6)) ** 0.5)
        return section_around(end, directions, span=span, points=n), pairs.values.tolist()
    if experiment.plane == "pca":
        found = find_principal_components(points)
        mean, components = found.mean.to(points), found.components.to(points)
        return section_covering(mean, components, points, n=n), ()
    return section_covering(points[0], directions_through(points), points, margin=0.3, n=n), ()


def _spanned(section: Section, values: Sequence[float]) -> Arrays:
    axes = {f"axis-{number}": axis.numpy() for number, axis in enumerate(section.axes)}
    vectors = {"theta_origin": section.origin.numpy(), "directions": section.directions.numpy()}
    return {**axes, **vectors, "eigenvalues": np.array(values)}


def _restore(
    experiment: SectionExperiment, dataset: Dataset | None, arrays: Mapping[str, np.ndarray]
) -> tuple[Objective, Sequence[Point], Any]:
    """The objective, the states to mark, and the held-out data."""
    if dataset is None or experiment.setting is None:
        return TeacherStudent.grid(), list(torch.from_numpy(arrays["marked"])), None
    model = experiment.setting.network(dataset, experiment.seed).eval()
    states: list[dict[str, Tensor]] = [{} for _ in arrays["steps"]]
    for name, each in arrays.items():
        if name.startswith("state-"):
            number, _, key = name.removeprefix("state-").partition("/")
            states[int(number)][key] = torch.from_numpy(each)
    model.load_state_dict(states[-1])
    return ModuleObjective(model, F.cross_entropy, dataset.train), states, dataset.test


def _student(experiment: SectionExperiment) -> Arrays:
    """A plane through a student's saddle, or through its way to a minimum, with the path to mark."""
    problem, n = TeacherStudent.grid(), experiment.points
    if experiment.name == "student-trajectory":
        found = train(problem, problem.init(5, [experiment.seed]), steps=30_000, lr=1e-3, record=40)
        path = found.trajectory[:, 0]
        components = find_principal_components(path)
        section = section_covering(components.mean, components.components, path, n=n)
        return {**_spanned(section, ()), "marked": path.numpy(), "steps": np.array(found.trajectory_steps)}
    saddle = _saddle(problem, experiment.seed)
    directions, pairs = hessian_directions(problem, saddle, 2, "BE")
    # gradient descent from both sides, which leaves along the negative direction
    sides = torch.stack([saddle + sign * 0.02 * directions[0] for sign in (-1, 1)])
    paths = train(problem, sides, method="gradient-flow", record=20).trajectory
    path = torch.cat([paths[:, 0].flip(0), saddle[None], paths[:, 1]])
    # along each direction as far as curvature alone changes the loss by as much as along the other
    low, high = pairs.values.abs().tolist()
    halves = (SADDLE_SPAN, SADDLE_SPAN * (low / high) ** 0.5)
    axes = tuple(torch.linspace(-half, half, n, dtype=torch.float64) for half in halves)
    section = Section(saddle, directions, axes)
    steps = np.arange(len(path)) - len(paths)
    return {**_spanned(section, pairs.values.tolist()), "marked": path.numpy(), "steps": steps}


def _saddle(problem: TeacherStudent, seed: int) -> Tensor:
    """A strict saddle of width 3: a critical point of width 2 with a split neuron (Simsek et al. 2021)."""
    trained = train(problem, problem.init(2, [seed]), steps=10_000, lr=1e-3).theta
    point = irreducible_point(problem, refine(problem, trained).theta[0])
    split = torch.cat([saddle_line(problem, point, neuron, torch.tensor(_SHARES)) for neuron in range(2)])
    lowest = torch.linalg.eigvalsh(problem.hessian(split))[:, 0]
    require(float(lowest.min()) < -1e-9, f"seed {seed} gives no strict saddle: try another", InvalidData)
    return split[lowest.argmin()]
