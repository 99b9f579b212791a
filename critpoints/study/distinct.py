"""The distinct critical points of a study: its stored points and verdicts, counted modulo symmetry."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Sequence
from typing import Any

import numpy as np
import torch

from critpoints.census import Census, take_census
from critpoints.errors import InvalidArgument
from critpoints.objectives.base import Objective
from critpoints.objectives.two_layer import TwoLayerObjective
from critpoints.study.memory import collector_paused
from critpoints.study.records import Row
from critpoints.study.store import Store
from critpoints.verdict import Evidence, Kind, Standard, Verdict, Verdicts

# What of a row of ``Store.points`` its verdict is made of, and who it is.
COLUMNS = (
    "seed",
    "kind",
    "index",
    "nullity",
    "level",
    "loss",
    "gradient_norm",
    "eigenvalues",
    "noise_floor",
    "evidence",
    "theta",
    "classifier_version",
)


def stored_verdicts(points: Iterable[Row]) -> Verdicts:
    """The verdicts of rows of ``Store.points``, all of one width."""
    points = list(points)

    def column(name: str) -> list[Any]:
        return [point[name] for point in points]

    return Verdicts(
        kind=tuple(map(Kind, column("kind"))),
        index=torch.tensor(column("index")),
        nullity=torch.tensor(column("nullity")),
        level=tuple(column("level")),
        loss=torch.tensor(column("loss"), dtype=torch.float64),
        gradient_norm=torch.tensor(column("gradient_norm"), dtype=torch.float64),
        eigenvalues=torch.from_numpy(np.stack(column("eigenvalues"))),
        noise_floor=torch.tensor(column("noise_floor"), dtype=torch.float64),
        evidence=tuple(map(_evidence, column("evidence"))),
        theta=torch.from_numpy(np.stack(column("theta"))),
    )


def _evidence(text: str) -> Evidence:
    stored = json.loads(text)
    return Evidence(stored["reason"], Standard(stored["standard"]), stored["figures"])


def stored_verdict(point: Row) -> Verdict:
    """The verdict of a row of ``Store.points``."""
    return stored_verdicts([point])[0]


def study_census(
    store: Store,
    problem: Objective,
    width: int,
    seeds: Collection[int] | None = None,
    points: Sequence[Row] | None = None,
) -> Census:
    """The census of one width; the rows of its entries are seeds.

    Args:
        points: those of the width with ``COLUMNS``, where the caller has read them already.

    Raises:
        InvalidArgument: the problem has no symmetry group to count modulo, or the study has no such points.
    """
    if not isinstance(problem, TwoLayerObjective):
        raise InvalidArgument(f"a census needs a two-layer problem, {store.spec.problem} is a {type(problem).__name__}")
    with collector_paused():
        points = list(store.points(width, seeds, COLUMNS)) if points is None else points
        if not points:
            raise InvalidArgument(f"{store.path} has no points of width {width} to count")
        return take_census(problem, stored_verdicts(points), labels=[point["seed"] for point in points])
