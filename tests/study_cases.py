"""Small studies, and rows for stores that no study computed."""

import sqlite3
from pathlib import Path

import numpy as np

from critpoints.study.spec import StudySpec
from critpoints.study.store import Store

QUICK = StudySpec(steps=20, lr=1e-2)  # narrow students converge in some 20 Newton steps from there
UNIT = {"width": 2, "block": 0, "environment": "{}", "seconds": 1.5}


def point_row(seed: int, width: int = 2) -> dict:
    """A row of the points with values that are hard to keep: NaN, both infinities, -0.0, the smallest double."""
    rng = np.random.default_rng(seed)
    hard = np.array([np.nan, np.inf, -np.inf, -0.0, 5e-324, 0.1])
    return {
        "width": width,
        "seed": seed,
        "training_status": "running",
        "trained_theta": hard,
        "trained_loss": 0.1,
        "trained_gradient_norm": float("inf"),
        "trained_smallest_eigenvalue": -1.0 - seed,
        "raw_eigenvalues": rng.standard_normal(3 * width),
        "raw_index": 1,
        "raw_nullity": 0,
        "raw_noise_floor": 5e-324,
        "status": "converged",
        "theta": rng.standard_normal(3 * width),
        "loss": float("nan") if seed % 2 else 0.25,
        "gradient_norm": -0.0,
        "gradient_noise": 1e-17,
        "iterations": 12,
        "evaluations": 13,
        "eigenvalues": rng.standard_normal(3 * width),
    }


def verdict_row(seed: int, width: int = 2, version: int = 1) -> dict:
    return {
        "width": width,
        "seed": seed,
        "classifier_version": version,
        "kind": "strict_saddle" if seed % 3 else "strict_minimum",
        "index": 1,
        "nullity": 0,
        "level": None if seed % 2 else 1,
        "noise_floor": 1e-14,
        "smallest_eigenvalue": -0.5,
        "standard": "numerical",
        "evidence": '{"figures":{},"reason":"größer als null","standard":"numerical"}',
        "negative_cause": "saddle",
    }


def fill(store: Store, seeds: range, width: int = 2) -> None:
    """Commits invented rows."""
    unit = UNIT | {"width": width}
    store.commit(unit, [point_row(s, width) for s in seeds], [verdict_row(s, width) for s in seeds])


def invented_study(path: Path, seeds: range = range(8)) -> Path:
    with Store.create(path, QUICK) as store:
        fill(store, seeds)
    return path


def edit(path: Path, statement: str, *values: object) -> None:
    """Changes a study behind the back of the store."""
    connection = sqlite3.connect(path)
    with connection:
        connection.execute(statement, values)
    connection.close()


def contents(path: Path) -> list[dict]:
    """All points of a study, vectors as bytes, so that they can be compared."""
    with Store.open(path) as store:
        rows = [row for width in store.widths() for row in store.points(width)]
    return [{k: v.tobytes() if isinstance(v, np.ndarray) else repr(v) for k, v in row.items()} for row in rows]


def saddles() -> np.ndarray:
    """Four strict saddles of width 2 on the grid, (4, 6): the best single neuron, split in four proportions."""
    import torch  # a process that only stores does not need it

    from critpoints.objectives.teacher_student import TeacherStudent
    from critpoints.solvers.refinement import refine

    problem = TeacherStudent.grid()
    w, a = problem.split(refine(problem, problem.init(1, [0])).theta[0])
    proportions = (0.3, 0.5, -0.5, 1.5)
    return torch.stack([torch.cat([w[0], w[0], mu * a, (1 - mu) * a]) for mu in proportions]).numpy()
