"""Frankle 2020: straight lines from states along a training run to its end, for several seeds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from critpoints.data import Dataset, load
from critpoints.landscape.criteria import Criterion, judge_kinks
from critpoints.landscape.curvature import measure_curvature
from critpoints.landscape.evaluation import Evaluator, as_state
from critpoints.landscape.interpolation import (
    Interpolation,
    convex_share,
    frankle_steps,
    interpolate,
    interpolate_snapshots,
    max_rise,
    relative_mid_height,
)
from critpoints.landscape.results import Arrays, Result
from critpoints.landscape.settings import Setting
from critpoints.landscape.training import fit
from critpoints.objectives.module import ModuleObjective

QUANTITIES = ("train_loss", "train_error", "test_loss", "test_error")
NO_BATCH_NORM = "none"  # in names of arrays
MAX_RISE, MLP_MID_HEIGHT, CNN_MID_HEIGHT = 0.02, 0.25, 0.6


@dataclass(frozen=True)
class InterpolationExperiment:
    """What is measured on each of the runs of a setting.

    Attributes:
        points: on the line from initialisation, both ends included, as in the paper.
        later_points: on the lines from all iterations; the paper has 100 on each.
        policies: for BatchNorm, where the network has it.
        curvature_points, curvature_samples: on the line from initialisation, on so many training samples; 0 for none.
        micro_batch: samples evaluated at a time.
    """

    setting: Setting
    points: int = 100
    later_points: int = 21
    policies: tuple[str, ...] = ("interpolate", "recalibrate")
    curvature_points: int = 9
    curvature_samples: int = 128
    micro_batch: int = 512

    def configuration(self, dataset: Dataset) -> dict[str, Any]:
        """Everything that the results depend on."""
        own = {name: each for name, each in asdict(self).items() if name != "setting"}
        return {"experiment": "interpolation", "setting": self.setting.to_dict(), "data": dataset.checksum, **own}


def compute(unit: str, *, experiment: InterpolationExperiment, root: str | Path | None = None) -> Arrays:
    """One run, "seed-3" say, and all its lines.

    Returns:
        ``t`` (n,) and ``first-POLICY`` (n, 4), the line from initialisation, in the order of ``QUANTITIES``; ``steps``
        (T,), ``t_later`` (k,) and ``losses-POLICY`` (T, k, 4), those from all iterations; ``t_curvature`` (m,),
        ``curvature-POLICY`` (m, 4): smallest and largest eigenvalue, gradient norm, curvature along the line, and
        ``kinks-POLICY`` (m,), see ``PathCurvature``.
    """
    seed = int(unit.rpartition("-")[2])
    dataset = load(experiment.setting.dataset, root)
    model = experiment.setting.network(dataset, seed)
    recipe = experiment.setting.recipe
    total = recipe.epochs * recipe.steps_per_epoch(len(dataset.train_y))
    wanted = set(frankle_steps(total)) - {total}  # the line from the end to itself has no length
    snapshots: dict[int, dict[str, Tensor]] = {}

    def keep(step: int, trained: nn.Module) -> None:
        if step in wanted:
            snapshots[step] = {name: each.clone() for name, each in trained.state_dict().items()}

    fit(model, dataset.train, recipe, seed=seed, on_step=keep)
    objective = ModuleObjective(model, F.cross_entropy, dataset.train, micro_batch=experiment.micro_batch)
    arrays: Arrays = {"steps": np.array(sorted(snapshots))}
    has_norm = any("running_mean" in name for name in model.state_dict())
    for policy in experiment.policies if has_norm else (None,):
        options: dict[str, Any] = {"test": dataset.test, "batch_norm": policy}
        name, end = policy or NO_BATCH_NORM, model.state_dict()
        first = interpolate(objective, snapshots[0], end, experiment.points, **options)
        rises = interpolate_snapshots(objective, snapshots, end, experiment.later_points, **options)
        arrays |= {"t": first.t.numpy(), "t_later": rises.paths[0].t.numpy(), f"first-{name}": _table(first)}
        arrays[f"losses-{name}"] = np.stack([_table(path) for path in rises.paths])
        if experiment.curvature_points:
            arrays |= _curvature(experiment, objective, snapshots[0], model.state_dict(), policy)
    return arrays


def _table(line: Interpolation) -> np.ndarray:
    return torch.stack([getattr(line.losses, name) for name in QUANTITIES], -1).numpy()


def _curvature(experiment: InterpolationExperiment, objective: Any, a: Any, b: Any, policy: str | None) -> Arrays:
    x, y = (each[: experiment.curvature_samples] for each in objective.batches.first().content)
    evaluator = Evaluator(objective.replace(data=(x, y)), batch_norm=policy)
    start, end = as_state(objective, a), as_state(objective, b)
    t = torch.linspace(0, 1, experiment.curvature_points, dtype=torch.float64)
    states = (start.lerp(end, each) for each in t.tolist())
    found = measure_curvature(evaluator, states, direction=end.theta - start.theta, tol=1e-2)
    table = torch.stack([found.smallest, found.largest, found.gradient_norm, found.along], -1)
    name = policy or NO_BATCH_NORM
    return {"t_curvature": t.numpy(), f"curvature-{name}": table.numpy(), f"kinks-{name}": found.kinks.numpy()}


def policies_of(result: Result) -> list[str]:
    """The policies whose losses a result holds."""
    return [name.partition("-")[2] for name in result.arrays if name.startswith("losses-")]


def judge(result: Result) -> list[Criterion]:
    """The paper's claims against the runs of one setting, each measured once a seed."""
    setting = result.header["configuration"]["setting"]
    fully_connected = setting["architecture"] == "fully-connected"
    criteria = []
    for policy in policies_of(result):
        suffix = "" if policy == NO_BATCH_NORM else f", BatchNorm {policy}"
        for column, name in ((0, "train"), (2, "test")):
            first = result.arrays[f"first-{policy}"][..., column]  # (seeds, n)
            mid = relative_mid_height(first)
            rises = max_rise(result.arrays[f"losses-{policy}"][..., column])  # (seeds, T)
            bar: float | None = None
            if policy == NO_BATCH_NORM:
                bar = MLP_MID_HEIGHT if fully_connected else CNN_MID_HEIGHT
            criteria += [
                Criterion(
                    f"relative mid height from initialisation, {name} loss{suffix}", mid, bar, not fully_connected
                ),
                Criterion(
                    f"largest rise from any iteration, {name} loss{suffix}",
                    rises.max(1),
                    MAX_RISE if fully_connected else None,
                    above=False,
                ),
            ]
            criteria += _measured(first, name, suffix)
        if (shares := result.arrays.get(f"kinks-{policy}")) is not None:
            criteria += judge_kinks(shares, suffix)
    return criteria


def _measured(first: np.ndarray, name: str, suffix: str) -> Sequence[Criterion]:
    """What the paper reports without a number that could be a bar."""
    return [
        Criterion(f"rise from initialisation, {name} loss{suffix}", max_rise(first), None, above=False),
        Criterion(f"convex share from initialisation, {name} loss{suffix}", convex_share(first), None, above=True),
        Criterion(f"{name} loss at the end{suffix}", first[:, -1], None, above=False),
    ]
