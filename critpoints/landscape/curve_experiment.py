"""Pairs of trained networks (or global minima of the seed study) joined by lines, aligned lines and trained curves."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from critpoints.data import Dataset, load
from critpoints.errors import InvalidData, require
from critpoints.landscape.alignment import compare_barriers
from critpoints.landscape.criteria import Criterion
from critpoints.landscape.curves import KINDS, connect
from critpoints.landscape.evaluation import Losses
from critpoints.landscape.interpolation import barrier
from critpoints.landscape.results import Arrays, Result
from critpoints.landscape.settings import Setting
from critpoints.landscape.training import fit
from critpoints.objectives.base import Objective
from critpoints.objectives.module import ModuleObjective
from critpoints.objectives.teacher_student import TeacherStudent
from critpoints.solvers.refinement import refine
from critpoints.solvers.training import train

STUDENT = "student"
LINES = ("line", "aligned line")
PATHS = (*LINES, *KINDS)
QUANTITIES = ("train_loss", "train_error", "test_loss", "test_error")
ZERO_LOSS = 1e-20  # below it a refined student of the seed study is at a global minimum
STUDENT_WIDTH, CANDIDATES = 4, 32


@dataclass(frozen=True)
class CurveExperiment:
    """What joins the two ends of each pair.

    Attributes:
        name: of the setting, or ``STUDENT``.
        setting: None for students.
        points: along each path.
        bends, steps, lr, samples, batch_size: of the curves, see ``connect``.
        batch_norm: policy along all paths, where there is BatchNorm.
    """

    name: str
    setting: Setting | None
    points: int = 31
    bends: int = 1
    steps: int = 400
    lr: float = 0.01
    samples: int = 1
    batch_size: int = 128
    batch_norm: str = "recalibrate"

    def configuration(self, dataset: Dataset | None) -> dict[str, Any]:
        """Everything that the results depend on."""
        setting = None if self.setting is None else self.setting.to_dict()
        checksum = None if dataset is None else dataset.checksum
        return {"experiment": "curve", **asdict(self), "setting": setting, "data": checksum}


def compute(unit: str, *, experiment: CurveExperiment, root: str | Path | None = None) -> Arrays:
    """One pair, "seed-3" say: networks of seeds 6 and 7.

    Returns:
        ``t`` (n,), ``losses`` (4, n, 4) by ``PATHS`` and ``QUANTITIES``, ``distances`` (2,) before and after alignment,
        ``function_change``, ``lengths`` (2,) of the curves relative to their chord, ``training`` (2, steps).
    """
    pair = int(unit.rpartition("-")[2])
    if experiment.setting is None:
        objective, ends, options = _students(pair)
        batch_size = None
    else:
        objective, ends, options = _networks(experiment, experiment.setting, pair, root)
        batch_size = experiment.batch_size
    lines = compare_barriers(objective, *ends, points=experiment.points, **options)
    curves = [
        connect(
            objective,
            *ends,
            kind=kind,
            bends=experiment.bends,
            steps=experiment.steps,
            lr=experiment.lr,
            samples=experiment.samples,
            batch_size=batch_size,
            seed=pair,
            points=experiment.points,
            **options,
        )
        for kind in KINDS
    ]
    measured = [lines.before.losses, lines.after.losses, *(curve.losses for curve in curves)]
    return {
        "t": lines.before.t.numpy(),
        "losses": np.stack([_table(each) for each in measured]),
        "distances": np.array([lines.alignment.distance_before, lines.alignment.distance_after]),
        "function_change": np.array(lines.alignment.function_change),
        "lengths": np.array([curve.length / curve.chord for curve in curves]),
        "training": np.stack([curve.training_losses.numpy() for curve in curves]),
    }


def _table(losses: Losses) -> np.ndarray:
    return torch.stack([getattr(losses, name) for name in QUANTITIES], -1).numpy()


def _networks(
    experiment: CurveExperiment, setting: Setting, pair: int, root: str | Path | None
) -> tuple[Objective, list[Mapping[str, Tensor]], dict[str, Any]]:
    dataset = load(setting.dataset, root)
    ends: list[Mapping[str, Tensor]] = []
    first, second = (setting.network(dataset, seed) for seed in (2 * pair, 2 * pair + 1))
    for number, model in enumerate((first, second)):
        fit(model, dataset.train, setting.recipe, seed=2 * pair + number)
        ends.append(model.state_dict())
    norms = any("running_mean" in name for name in ends[0])
    options = {"test": dataset.test, "batch_norm": experiment.batch_norm if norms else None}
    return ModuleObjective(second, F.cross_entropy, dataset.train), ends, options


def _students(pair: int) -> tuple[Objective, list[Tensor], dict[str, Any]]:
    """Two global minima of the seed study, which differ by an element of the symmetry group."""
    problem = TeacherStudent.grid()
    seeds = range(CANDIDATES * pair, CANDIDATES * (pair + 1))
    found = refine(problem, train(problem, problem.init(STUDENT_WIDTH, seeds), steps=20_000, lr=1e-3).theta)
    minima = found.theta[found.loss < ZERO_LOSS]
    require(len(minima) >= 2, f"seeds {seeds} end at {len(minima)} global minima, two are needed", InvalidData)
    return problem, list(minima[:2]), {}


def judge(result: Result) -> list[Criterion]:
    """The barriers of all paths, and whether alignment and training lower them; each measured once a pair."""
    columns = [name for name in ("train_loss", "test_loss") if np.isfinite(_column(result, name)).all()]
    criteria = []
    for name in columns:
        heights = barrier(_column(result, name))  # (pairs, paths)
        of = name.replace("_", " ")
        criteria += [
            Criterion(f"barrier of the {path}, {of}", heights[:, number].tolist(), None, above=True)
            for number, path in enumerate(PATHS)
        ]
        criteria += [
            Criterion(
                f"barrier that {what} removes, {of}", (heights[:, 0] - heights[:, number]).tolist(), 0.0, above=True
            )
            for number, what in enumerate(("", "alignment", "a Bezier curve", "a polygonal chain"))
            if number
        ]
    distances = result.arrays["distances"]
    ratio = (distances[:, 1] / distances[:, 0]).tolist()
    criteria.append(Criterion("distance of the ends after alignment, of that before", ratio, None, above=False))
    change = result.arrays["function_change"].tolist()
    criteria.append(Criterion("change of the function by alignment, relative", change, None, above=False))
    return criteria


def _column(result: Result, name: str) -> np.ndarray:
    """(pairs, paths, n)."""
    return result.arrays["losses"][..., QUANTITIES.index(name)]
