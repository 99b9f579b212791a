"""The seed study's problem with other teachers and on other data, by names that a specification can hold."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from critpoints.errors import InvalidArgument, InvalidData, require
from critpoints.objectives.teacher_student import TeacherStudent
from critpoints.study.spec import StudySpec

SEED_STUDY_TEACHER, SEED_STUDY_DATA = "seed-study", "grid"
_TEACHERS = f"{SEED_STUDY_TEACHER}, random:NEURONS:SEED, or a .npz file with a flat array 'teacher'"
_DATA = f"{SEED_STUDY_DATA}, gaussian:N:D:SEED, or a .npz file with an array 'x' of shape (N, d)"


def teacher_student(spec: StudySpec, device: torch.device) -> TeacherStudent:
    """The problem of a specification that names an activation, a teacher and data.

    Raises:
        InvalidArgument: a name that means nothing, or a teacher that does not fit the data.
        InvalidData: a file that cannot be read, or has changed since the study was made.
    """
    activation, options = spec.activation or "sigmoid", {"dtype": getattr(torch, spec.dtype), "device": device}
    if spec.teacher is None and spec.data is None:
        return TeacherStudent.grid(activation, **options)
    checksum = files_checksum(spec)
    require(
        spec.code in (None, checksum),
        "the file of the teacher or of the data has changed since the study was made; restore it, or start another",
        InvalidData,
    )
    seed_study = TeacherStudent.grid(activation)
    x = seed_study.x if spec.data is None else _inputs(spec.data)
    if spec.teacher is not None:
        return TeacherStudent(x, _teacher(spec.teacher, x.shape[1]), activation, **options)
    require(
        x.shape[1] == 2, f"teacher {SEED_STUDY_TEACHER} has 2 inputs, data {spec.data} have {x.shape[1]}; name another"
    )
    problem = TeacherStudent(x, seed_study.teacher, activation, **options)
    problem.exact_teacher = seed_study.exact_teacher
    return problem


def files_checksum(spec: StudySpec) -> str | None:
    """SHA-256 of the files that the teacher and the data come from; None where there are none."""
    paths = [Path(name) for name in (spec.teacher, spec.data) if name is not None and name.endswith(".npz")]
    for path in paths:
        require(path.is_file(), f"there is no file {path}", InvalidData)
    return hashlib.sha256(b"".join(path.read_bytes() for path in paths)).hexdigest() if paths else None


def _inputs(name: str) -> Tensor:
    if name.endswith(".npz"):
        return _array(name, "x", 2)
    n, d, seed = _numbers(name, "gaussian", 3, f"data must be {_DATA}")
    require(n >= 1 and d >= 1, f"data {name}: there must be at least one sample and one input")
    return torch.from_numpy(np.random.default_rng(np.random.SeedSequence(seed)).standard_normal((n, d)))


def _teacher(name: str, n_inputs: int) -> Tensor:
    """Unit weight vectors and output weights +1, -1, ..., as in ``TeacherStudent.gaussian``; or those of a file."""
    if name.endswith(".npz"):
        return _array(name, "teacher", 1)
    width, seed = _numbers(name, "random", 2, f"teacher must be {_TEACHERS}")
    require(width >= 1, f"teacher {name}: there must be at least one neuron")
    w = np.random.default_rng(np.random.SeedSequence(seed)).standard_normal((width, n_inputs))
    w /= np.linalg.norm(w, axis=1, keepdims=True)
    return torch.from_numpy(np.concatenate([w.ravel(), np.where(np.arange(width) % 2 == 0, 1.0, -1.0)]))


def _numbers(name: str, word: str, count: int, expected: str) -> list[int]:
    first, *rest = name.split(":")
    if first != word or len(rest) != count or not all(each.isdigit() for each in rest):
        raise InvalidArgument(f"{expected}; got {name!r}")
    return list(map(int, rest))


def _array(path: str, name: str, ndim: int) -> Tensor:
    try:
        with np.load(path, allow_pickle=False) as file:
            array = np.asarray(file[name], dtype=np.float64)
    except FileNotFoundError:
        raise
    except Exception as error:  # zipfile and numpy each have their own exceptions for a damaged file
        raise InvalidData(f"{path}: no array {name!r} can be read from it: {error}") from error
    require(
        array.ndim == ndim and array.size > 0 and bool(np.isfinite(array).all()),
        f"{path}: {name} must have {ndim} axes and finite entries, got shape {array.shape}",
        InvalidData,
    )
    return torch.from_numpy(array)
