"""Patterns as experiments: one picture, or random masks over the filling with and without BatchNorm; they resume."""

from __future__ import annotations

import functools
import hashlib
import itertools
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from critpoints.data import Dataset, load
from critpoints.errors import require
from critpoints.landscape.filling_study import FillingStudy
from critpoints.landscape.masks import random_mask
from critpoints.landscape.pattern_settings import PatternSetting
from critpoints.landscape.patterns import EVALUATIONS, Contrast, fit_pattern, map_pattern, measure_contrast
from critpoints.landscape.results import Callback, Result, run_units, stack

FILLINGS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)  # section 4.2 of Skorokhodov and Burtsev 2019
RUNS = 5
MAPS = ("train_loss", "train_accuracy", "test_loss", "test_accuracy")

_load = functools.lru_cache(maxsize=1)(load)


@dataclass(frozen=True)
class _Unit:
    """One plane to train."""

    setting: PatternSetting
    levels: np.ndarray
    seed: int
    keep_plane: bool = True  # networks with BatchNorm have more parameters, and planes cannot be stacked then


def run_picture(
    folder: str | Path,
    setting: PatternSetting,
    levels: np.ndarray,
    *,
    seed: int = 0,
    root: str | Path | None = None,
    evaluation: str = "fastest",
    picture: str = "picture",
    environment: Mapping[str, Any] | None = None,
    callback: Callback | None = None,
) -> Result:
    """Looks for one picture in the landscape of a setting, or reads it from the folder if it has been found.

    The result holds ``levels``, ``trained`` (which cells were), the maps named in ``MAPS``, the ``losses`` of
    the steps, the plane (``origin``, ``steps``) and what was measured about it.

    Args:
        root: of the data set's files.
        picture: its name, for the header.
        callback: called with the steps done, those wanted, and the loss.

    Raises:
        InvalidArgument, InvalidData: as ``critpoints.data.load`` and ``fit_pattern``.
        SpecMismatch: the folder holds another pattern.
    """
    units = {f"seed-{seed}": _Unit(setting, np.asarray(levels), seed)}
    configuration = {**_configuration(setting, root, evaluation), "picture": picture, "levels": _digest(levels)}
    compute = functools.partial(_compute, units=units, root=root, evaluation=evaluation, callback=callback)
    (result,) = run_units(folder, configuration, list(units), compute, environment=environment)
    return result


def run_filling(
    folder: str | Path,
    setting: PatternSetting,
    *,
    fillings: Sequence[float] = FILLINGS,
    runs: int = RUNS,
    root: str | Path | None = None,
    evaluation: str = "fastest",
    workers: int = 1,
    environment: Mapping[str, Any] | None = None,
    callback: Callback | None = None,
) -> FillingStudy:
    """Random masks of every filling, each fitted with and without BatchNorm; what ``folder`` holds is kept.

    The two networks of a run get the same mask, which depends on filling and run; further runs extend a study.

    Args:
        workers: processes.
        callback: called with the planes done, those wanted, and the name of the last one.

    Raises:
        InvalidArgument: an architecture without the choice of BatchNorm, no fillings, no runs.
        SpecMismatch: the folder holds a study of another setting.
    """
    require(len(fillings) > 0, "fillings must not be empty")
    require(runs >= 1, f"runs must be at least 1, got {runs}")
    require(
        setting.architecture == "pattern-cnn",
        f"setting must have architecture pattern-cnn, which knows batch_norm, got {setting.architecture}",
    )
    units: dict[str, _Unit] = {}
    for run, filling, batch_norm in itertools.product(range(runs), fillings, (False, True)):
        mask = random_mask((setting.size, setting.size), filling, seed=1000 * run + round(100 * filling))
        name = f"run-{run}-filling-{filling:.2f}-{'with' if batch_norm else 'without'}-batch-norm"
        units[name] = _Unit(setting.with_batch_norm(batch_norm), mask, run, keep_plane=False)
    require(len(units) == 2 * runs * len(fillings), f"fillings must differ by 0.01 or more, got {list(fillings)}")
    results = run_units(
        folder,
        _configuration(setting, root, evaluation),
        list(units),
        functools.partial(_compute, units=units, root=root, evaluation=evaluation),
        workers=workers,
        environment=environment,
        callback=callback,
    )
    result = stack(results, {"fillings": fillings, "runs": runs})
    return FillingStudy(np.array(fillings, dtype=np.float64), runs, result)


def contrasts(result: Result) -> dict[str, Contrast]:
    """Of a result of ``run_picture``, on the training and the test data."""
    levels = result.arrays["levels"]
    margin = (len(result.arrays["test_accuracy"]) - len(levels)) // 2
    inner = (slice(margin, margin + len(levels)),) * levels.ndim
    return {part: measure_contrast(levels, result.arrays[f"{part}_accuracy"][inner]) for part in ("train", "test")}


def _configuration(setting: PatternSetting, root: str | Path | None, evaluation: str) -> dict[str, Any]:
    require(evaluation in EVALUATIONS, f"evaluation must be one of {', '.join(EVALUATIONS)}, got {evaluation!r}")
    dataset = _load(setting.dataset, root)  # before any compute: the files may be missing
    return {"setting": setting.to_dict(), "data": dataset.checksum, "evaluation": evaluation}


def _digest(levels: np.ndarray) -> str:
    values = np.ascontiguousarray(levels, dtype="<f8")
    return hashlib.sha256(repr(values.shape).encode() + values.tobytes()).hexdigest()


def _compute(
    name: str,
    *,
    units: Mapping[str, _Unit],
    root: str | Path | None,
    evaluation: str,
    callback: Callback | None = None,
) -> dict[str, np.ndarray]:
    """The arrays of one plane."""
    unit = units[name]
    setting, dataset = unit.setting, _load(unit.setting.dataset, root)
    start = time.process_time()
    pattern = fit_pattern(
        setting.network(dataset),
        dataset.train,
        unit.levels,
        setting.recipe,
        seed=unit.seed,
        evaluation=evaluation,
        callback=callback,
    )
    fitted = time.process_time()
    maps: dict[str, np.ndarray] = {}
    for part, data in _mapped(dataset, setting.map_samples).items():
        found = map_pattern(
            setting.network(dataset), pattern, data, batch_size=setting.recipe.batch_size, margin=setting.margin
        )
        maps |= {f"{part}_loss": found.loss, f"{part}_accuracy": found.accuracy}
    orthogonality, speed = pattern.orthogonality, pattern.speed
    measured = {
        "largest_cosine": orthogonality.largest_cosine,
        "length_deviation": orthogonality.length_deviation,
        "cell_distance": orthogonality.length,
        "scale": float(pattern.plane.scale),
        "memory_plane": pattern.memory["plane"],
        "memory_separate": pattern.memory["separate"],
        "cells_per_second_loop": np.nan if speed is None else speed.loop,
        "cells_per_second_vmap": np.nan if speed is None else speed.vmap,
        "cpu_seconds_fit": fitted - start,
        "cpu_seconds_maps": time.process_time() - fitted,
    }
    frame = {"origin": pattern.frame.origin.cpu().numpy(), "steps": pattern.frame.steps.cpu().numpy()}
    return {
        "levels": np.asarray(unit.levels, dtype=np.float64),
        "trained": pattern.trained,
        **maps,
        "losses": pattern.losses,
        **(frame if unit.keep_plane else {}),
        "evaluation": np.array(pattern.evaluation),
        **{key: np.array(value) for key, value in measured.items()},
    }


def _mapped(dataset: Dataset, samples: int) -> dict[str, tuple[Any, Any]]:
    """The first images of each part, in their order."""
    return {part: (x[:samples], y[:samples]) for part, (x, y) in (("train", dataset.train), ("test", dataset.test))}
