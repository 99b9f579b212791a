"""What a report shows of a study: read once, width by width."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch

from critpoints.census import Census, take_census
from critpoints.errors import CritpointsError
from critpoints.objectives.base import Objective
from critpoints.objectives.two_layer import TwoLayerObjective
from critpoints.study import distinct
from critpoints.study.attached import Attached, attached
from critpoints.study.problems import resolve_problem
from critpoints.study.records import Row
from critpoints.study.spec import GRID, StudySpec
from critpoints.study.status import FailedSeeds, failed_seeds
from critpoints.study.store import Store
from critpoints.study.summary import summarise_points, unfinished

# What of a point the report keeps; the rest is checked by the store and let go.
COLUMNS = (*distinct.COLUMNS, "status", "smallest_eigenvalue", "trained_smallest_eigenvalue", "negative_cause")


@dataclass(frozen=True)
class WidthContents:
    """What there is of one width.

    Attributes:
        points: rows of ``Store.points``, the columns ``COLUMNS`` of them, by seed.
        reasons: of the verdicts, a sentence a point.
        summary: as ``summarise`` gives it.
        census: the distinct points; None where the problem has no symmetry group to count modulo.
        certificates: what is attached to the points.
    """

    width: int
    points: Sequence[Row]
    reasons: Sequence[str]
    summary: dict[str, Any]
    census: Census | None
    certificates: Attached


@dataclass(frozen=True)
class Contents:
    """What there is of a study.

    Attributes:
        name: of its file.
        problem: the objective; None where it cannot be had here.
        remarks: what is missing, and why, in sentences.
        units: what was computed when, rows of ``Store.units``.
        missing: how many points are wanted and not there.
        failures: those of them whose units failed, and why.
    """

    name: str
    spec: StudySpec
    problem: Objective | None
    widths: tuple[WidthContents, ...]
    remarks: tuple[str, ...]
    units: Sequence[Row]
    missing: int
    failures: tuple[FailedSeeds, ...]


def read_contents(store: Store) -> Contents:
    """Reads a study for its report.

    Raises:
        StoreError: a row is damaged.
    """
    problem, remarks = _problem(store.spec)
    widths = tuple(_read_widths(store, problem))
    if not widths:
        remarks.append("The study has no points yet.")
    missing, _ = unfinished(store)
    return Contents(
        store.path.name, store.spec, problem, widths, tuple(remarks), store.units(), missing, failed_seeds(store)
    )


def _problem(spec: StudySpec) -> tuple[Objective | None, list[str]]:
    """The objective, where it can be had; without it the report has no census and no drawings."""
    try:
        problem = resolve_problem(replace(spec, device="cpu") if spec.problem == GRID else spec)
    except CritpointsError as error:
        return None, [f"The distinct points are not counted and not drawn: {error}."]
    if isinstance(problem, TwoLayerObjective):
        return problem.to("cpu"), []
    name = type(problem).__name__
    return problem, [f"Distinct points are counted for two-layer networks; {spec.problem} is a {name}."]


def _read_widths(store: Store, problem: Objective | None) -> Iterator[WidthContents]:
    for width in store.widths():
        points = list(store.points(width, columns=COLUMNS))
        if not points:
            continue
        verdicts = distinct.stored_verdicts(points)
        census = None
        if isinstance(problem, TwoLayerObjective):
            census = take_census(problem, verdicts, labels=[point["seed"] for point in points])
        yield WidthContents(
            width,
            points,
            [evidence.reason for evidence in verdicts.evidence],
            summarise_points(points),
            census,
            attached(store, width, points),
        )


def students(contents: WidthContents) -> torch.Tensor:
    """The points of a census' entries, (entries, P)."""
    assert contents.census is not None
    return torch.stack([entry.representative for entry in contents.census.entries])
