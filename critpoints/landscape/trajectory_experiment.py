"""Lipton 2016: paths through weight space, of one run, other initialisations, other shuffles, and clones."""

from __future__ import annotations

import copy
import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from critpoints.data import Dataset, load
from critpoints.landscape.criteria import Criterion, jackknife, judge_kinks
from critpoints.landscape.curvature import measure_curvature
from critpoints.landscape.evaluation import Evaluator, State
from critpoints.landscape.interpolation import barrier
from critpoints.landscape.results import Arrays, Result
from critpoints.landscape.settings import Setting
from critpoints.landscape.snapshots import flatten_state
from critpoints.landscape.training import fit
from critpoints.landscape.trajectories import (
    coefficient_of_variation,
    convergence_index,
    find_principal_components,
    measure_lengths,
    pairwise_distances,
    random_walk_shares,
    stream_principal_components,
)
from critpoints.objectives.module import ModuleObjective

GROUPS = ("initialisation", "shuffle", "clone")
COMPONENTS = 10  # whose share the paper reports, and 2
TOP2, TOP10, MOVEMENT, VARIATION = 0.70, 0.93, 0.10, 0.1
_SHUFFLES = {"initialisation": 0, "shuffle": 1000, "clone": 2000}  # plus the run's number: seeds of the data's order


@dataclass(frozen=True)
class TrajectoryExperiment:
    """What is measured on each of the runs of a setting.

    Attributes:
        every: epochs between the states that are compared across runs.
        clone_after: epochs of training before the clones part.
        converged: a run has converged when its training loss stays below.
        curvature_epochs, curvature_samples: where derivatives are measured, on so many training samples.
        barrier_points: on the line between two solutions.
    """

    setting: Setting
    every: int = 10
    clone_after: int = 10
    converged: float = 0.014
    curvature_epochs: tuple[int, ...] = (0, 1, 3, 10, 30, 100, 200)
    curvature_samples: int = 256
    barrier_points: int = 21
    micro_batch: int = 512

    def configuration(self, dataset: Dataset) -> dict[str, Any]:
        """Everything that the results depend on."""
        own = {name: each for name, each in asdict(self).items() if name != "setting"}
        return {"experiment": "trajectory", "setting": self.setting.to_dict(), "data": dataset.checksum, **own}


def compute(unit: str, *, experiment: TrajectoryExperiment, root: str | Path | None = None) -> Arrays:
    """One run of each group, "seed-3" say, of which the first is measured after every epoch.

    Returns:
        ``epochs`` (E,) and ``points`` (groups, E, P), what is compared across runs; of the first group ``losses``
        (epochs + 1,), ``coordinates`` (epochs + 1, 2), ``residuals``, ``explained``, ``walk`` (the same of random
        walks), the fields of ``PathLengths``, ``curvature_epochs`` (m,), ``curvature`` (m, 3): smallest and largest
        eigenvalue, gradient norm, and ``kinks`` (m,), see ``PathCurvature``.
    """
    number = int(unit.rpartition("-")[2])
    dataset = load(experiment.setting.dataset, root)
    runs = {group: _run(experiment, dataset, group, number) for group in GROUPS}
    kept = range(0, experiment.setting.recipe.epochs + 1, experiment.every)
    first = runs["initialisation"]
    return {
        "losses": np.array(first.losses),
        "epochs": np.array(kept),
        "points": np.stack([[run.path[epoch].numpy() for epoch in kept] for run in runs.values()]),
        **_geometry(first.path),
        **_curvature(experiment, dataset, first),
    }


@dataclass(frozen=True)
class _Run:
    """States (P,) and, in the first group, training losses after 0, 1, 2, ... epochs, and the trained module."""

    path: list[Tensor]
    losses: list[float]
    model: nn.Module


def _run(experiment: TrajectoryExperiment, dataset: Dataset, group: str, number: int) -> _Run:
    """One training run; only the first group begins elsewhere each time, the clones part after some epochs."""
    setting, is_first = experiment.setting, group == GROUPS[0]
    model = setting.network(dataset, seed=number if is_first else 0)
    path: list[Tensor] = []
    losses: list[float] = []
    evaluator = _evaluator(experiment, dataset, model, len(dataset.train_y))

    def keep(epoch: int, trained: nn.Module) -> None:
        point = flatten_state(trained.state_dict(), dtype=torch.float32)
        path.append(point)
        if is_first:  # the others are compared by where they go alone
            losses.append(float(evaluator.measure([State(point)]).train_loss))

    recipe, before = setting.recipe, 0
    if group == "clone":
        before = min(experiment.clone_after, recipe.epochs)
        fit(model, dataset.train, replace(recipe, epochs=before), seed=0, on_epoch=keep)
        path.pop()  # the clones' first state, which they record themselves
    seed = _SHUFFLES[group] + number
    fit(model, dataset.train, replace(recipe, epochs=recipe.epochs - before), seed=seed, on_epoch=keep)
    return _Run(path, losses, model)


def _evaluator(experiment: TrajectoryExperiment, dataset: Dataset, model: nn.Module, samples: int) -> Evaluator:
    model = copy.deepcopy(model).eval()
    data = tuple(each[:samples] for each in dataset.train)
    return Evaluator(ModuleObjective(model, F.cross_entropy, data, micro_batch=experiment.micro_batch))


def _geometry(path: Sequence[Tensor]) -> Arrays:
    components = stream_principal_components(lambda i: path[i], len(path), 2, block=64)
    lengths = measure_lengths(torch.stack(list(path)))
    walk = random_walk_shares(len(path), len(path[0]))
    return {
        "coordinates": components.coordinates.numpy(),
        "residuals": components.residuals.numpy(),
        "explained": components.explained.numpy(),
        "walk": walk.numpy(),
        **{name: each.numpy() for name, each in lengths.__dict__.items()},
    }


def _curvature(experiment: TrajectoryExperiment, dataset: Dataset, run: _Run) -> Arrays:
    epochs = [epoch for epoch in experiment.curvature_epochs if epoch < len(run.path)]
    evaluator = _evaluator(experiment, dataset, run.model, experiment.curvature_samples)
    found = measure_curvature(evaluator, (State(run.path[epoch]) for epoch in epochs), tol=1e-2)
    table = torch.stack([found.smallest, found.largest, found.gradient_norm], -1)
    return {"curvature_epochs": np.array(epochs), "curvature": table.numpy(), "kinks": found.kinks.numpy()}


def compare(
    unit: str, *, results: Sequence[Result], experiment: TrajectoryExperiment, root: str | Path | None = None
) -> Arrays:
    """What takes all runs together: distances and barriers between their ends, principal components of several paths.

    Returns:
        ``distances``, ``barriers`` (groups, pairs); ``GROUP-coordinates`` (runs, E, 2) and ``GROUP-explained``, and the
        same for ``two``, the first two runs of the first group.
    """
    points = torch.from_numpy(np.stack([each.arrays["points"] for each in results], 1))  # (groups, runs, E, P)
    dataset = load(experiment.setting.dataset, root)
    evaluator = _evaluator(experiment, dataset, experiment.setting.network(dataset, 0), len(dataset.train_y))
    arrays: Arrays = {
        "distances": torch.stack([pairwise_distances(group[:, -1]) for group in points]).numpy(),
        "barriers": np.array([_barriers(evaluator, group[:, -1], experiment.barrier_points) for group in points]),
    }
    for name, paths in (("two", points[0, :2]), *zip(GROUPS, points, strict=True)):
        found = find_principal_components(paths.flatten(0, 1), 2)
        arrays[f"{name}-coordinates"] = found.coordinates.reshape(*paths.shape[:2], 2).numpy()
        arrays[f"{name}-explained"] = found.explained.numpy()
    return arrays


def _barriers(evaluator: Evaluator, ends: Tensor, points: int) -> list[float]:
    t = torch.linspace(0, 1, points).tolist()
    pairs = itertools.combinations((State(end) for end in ends), 2)
    return [float(barrier(evaluator.measure(a.lerp(b, each) for each in t).train_loss.numpy())) for a, b in pairs]


def judge(runs: Result, pairs: Result) -> list[Criterion]:
    """The paper's claims against the runs of one setting."""
    arrays = runs.arrays
    explained, walk = arrays["explained"], arrays["walk"].mean(1)
    criteria = [
        Criterion("variance explained by 2 components", explained[:, 1], TOP2, above=True),
        Criterion("variance explained by 10 components", _share(explained, COMPONENTS), TOP10, above=True),
        Criterion("the same of a random walk, 2 components", walk[:, 1], None, above=True),
        Criterion("the same of a random walk, 10 components", _share(walk, COMPONENTS), None, above=True),
    ]
    threshold = runs.header["configuration"]["converged"]
    first = [convergence_index(losses, threshold) for losses in arrays["losses"]]
    criteria += [
        Criterion("epochs until the training loss stays low", [_number(each) for each in first], None, above=False),
        Criterion("share of the displacement after convergence", _displacements(arrays, first), MOVEMENT, above=True),
        Criterion(
            "share of the path length after convergence", _lengths_after(arrays["steps"], first), MOVEMENT, above=True
        ),
        Criterion("chord over path length", arrays["from_start"][:, -1] / arrays["steps"].sum(1), None, above=False),
        Criterion("gradient norm at the end", arrays["curvature"][:, -1, 2], None, above=False),
        Criterion("smallest eigenvalue at the end", arrays["curvature"][:, -1, 0], None, above=False),
        Criterion("largest eigenvalue at the end", arrays["curvature"][:, -1, 1], None, above=True),
        *judge_kinks(arrays["kinks"]),
    ]
    ends = torch.from_numpy(arrays["points"][:, :, -1])  # (runs, groups, P)
    for g, group in enumerate(GROUPS):
        criteria += _across_runs(group, ends[:, g], pairs.arrays["barriers"][g])
    return criteria


def _across_runs(group: str, ends: Tensor, barriers: np.ndarray) -> list[Criterion]:
    """Claims about all runs of a group together, with an error from the jackknife over runs."""

    def over_runs(name: str, statistic: Callable[[Tensor], float], bar: float | None) -> Criterion:
        values = jackknife(len(ends), lambda chosen: statistic(ends[chosen])) if len(ends) > 3 else [math.nan]
        return Criterion(f"{name} (jackknife), by {group}", values, bar, above=False)

    return [
        over_runs(
            "variation of pairwise distances", lambda e: coefficient_of_variation(pairwise_distances(e)), VARIATION
        ),
        over_runs(
            "variation of distances from the origin", lambda e: coefficient_of_variation(e.norm(dim=1)), VARIATION
        ),
        over_runs("mean distance between solutions", lambda e: float(pairwise_distances(e).mean()), None),
        Criterion(f"barrier between solutions (pairs), by {group}", barriers, None, above=True),
    ]


def _share(explained: np.ndarray, components: int) -> np.ndarray:
    return explained[:, min(components, explained.shape[1]) - 1]


def _number(value: int | None) -> float:
    return math.nan if value is None else float(value)


def _displacements(arrays: Arrays, first: Sequence[int | None]) -> list[float]:
    """|theta_end - theta_converged| / |theta_end - theta_0|, at the kept epoch at or after convergence."""
    found = []
    for points, each in zip(arrays["points"][:, 0], first, strict=True):
        later = np.flatnonzero(arrays["epochs"][0] >= each) if each is not None else []
        at = points[later[0]] if len(later) else np.full_like(points[-1], math.nan)
        found.append(float(np.linalg.norm(points[-1] - at) / np.linalg.norm(points[-1] - points[0])))
    return found


def _lengths_after(steps: np.ndarray, first: Sequence[int | None]) -> list[float]:
    return [
        math.nan if each is None else float(row[each:].sum() / row.sum())
        for row, each in zip(steps, first, strict=True)
    ]
