"""From the name of a problem to the objective, and from a file to its initial students."""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import sys
import traceback
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType
from typing import Any

import torch

from critpoints.errors import CritpointsError, InvalidArgument, InvalidData, require
from critpoints.kernels.devices import resolve_device
from critpoints.matrix_free import needs_products
from critpoints.objectives.base import Objective
from critpoints.objectives.module import ModuleObjective
from critpoints.objectives.teacher_student import INIT_SCHEMES
from critpoints.study.initial import Initial, load_initial, n_parameters
from critpoints.study.spec import GRID, StudySpec
from critpoints.study.teachers import files_checksum, teacher_student
from critpoints.testing import ObjectiveCheckFailed, check_objective


def resolve_problem(spec: StudySpec, device: str | None = None) -> Objective:
    """The objective that a specification names.

    Args:
        device: the one of several GPUs to compute on, ``cuda:1`` or the like; its number is no part of a study.

    Raises:
        InvalidArgument: an unknown name, activation or scheme, or a function that returns no objective for the device.
        DeviceUnavailable: the device is not there.
        InvalidData: the source of the problem is not the one that the study was made with.
    """
    place = resolve_device(device or spec.device)
    require(place.type == spec.device, f"device {place} was asked for, the study is computed on {spec.device}")
    require(spec.scheme in INIT_SCHEMES, f"scheme must be one of {', '.join(INIT_SCHEMES)}, got {spec.scheme!r}")
    dtype = getattr(torch, spec.dtype)
    if spec.problem == GRID:
        return teacher_student(spec, place)
    function, code = load_function(spec.problem)
    require(
        spec.code in (None, code),
        f"the source of {spec.problem} has changed since the study was made; restore it, or start another study",
        InvalidData,
    )
    with failures_of(spec.problem):
        problem = function()
    _require_supported(spec.problem, problem)
    there = (str(torch.device(problem.device).type), problem.dtype)
    require(
        there == (spec.device, dtype),
        f"problem {spec.problem} is {there[1]} on {there[0]}, the study is {dtype} on {spec.device}; make them agree",
    )
    return problem


def _require_supported(name: str, problem: Any) -> None:
    """Refuses what a study cannot train, refine and classify in batches."""
    if not isinstance(problem, Objective):
        raise InvalidArgument(f"problem {name} must return an Objective, it returned {type(problem).__name__}")
    if isinstance(problem, ModuleObjective):
        raise InvalidArgument(
            f"problem {name} is a ModuleObjective: a study trains many students at once, which a module cannot; "
            f"look at its points with critpoints spectrum {name}, or with critpoints.classify in Python"
        )


@contextmanager
def failures_of(name: str) -> Iterator[None]:
    """Turns whatever the code of a user's problem raises into an error that says where.

    Raises:
        InvalidArgument: it raised something that critpoints does not raise on purpose.
    """
    try:
        yield
    except (CritpointsError, OSError):
        raise
    except Exception as error:
        place = traceback.extract_tb(error.__traceback__)[-1]
        where = f"{Path(place.filename).name}, line {place.lineno}"
        raise InvalidArgument(f"problem {name} failed: {type(error).__name__}: {error} ({where})") from error


def load_function(name: str) -> tuple[Callable[[], Any], str]:
    """The function behind ``package.module:function`` or ``file.py:function``, and the checksum of its source file.

    Raises:
        InvalidArgument: there is no such file, module or function, or importing it fails.
    """
    home, colon, attribute = name.rpartition(":")
    if not colon or not home or not attribute:
        raise InvalidArgument(f"problem must be {GRID}, package.module:function or file.py:function, got {name!r}")
    is_file = home.endswith(".py")
    # a script imports what lies beside it, a module is looked for in the current folder as well
    folder = str(Path(home).resolve().parent if is_file else Path.cwd())
    if folder not in sys.path:
        sys.path.insert(0, folder)
    with failures_of(name):
        module = _load_file(home) if is_file else _load_module(home)
    function = getattr(module, attribute, None)
    if not callable(function):
        raise InvalidArgument(f"problem {name}: {home} has no function {attribute!r}")
    source = getattr(module, "__file__", None)
    return function, hashlib.sha256(Path(source).read_bytes() if source else b"").hexdigest()


def _load_file(path: str) -> ModuleType:
    if not Path(path).is_file():
        raise InvalidArgument(f"problem: there is no file {path}")
    description = importlib.util.spec_from_file_location(Path(path).stem, path)
    if description is None or description.loader is None:
        raise InvalidArgument(f"problem: {path} cannot be imported")
    module = importlib.util.module_from_spec(description)
    sys.modules.setdefault(description.name, module)  # dataclasses and pickle look there
    description.loader.exec_module(module)
    return module


def _load_module(name: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{name}.".startswith(f"{error.name}."):
            raise  # it is there, and what it imports is not
        raise InvalidArgument(f"problem: there is no module {name}: {error}") from error


@dataclass(frozen=True)
class Prepared:
    """Everything that a study needs before it may begin; the specification is complete, checksums included."""

    spec: StudySpec
    problem: Objective
    initial: Initial


def prepare(
    spec: StudySpec, widths: Iterable[int], *, seeds: range | None = None, init_from: str | Path | None = None
) -> Prepared:
    """Checks all that can be checked before anything is computed or written.

    Args:
        seeds: those wanted, where the initial students come from a file.
        init_from: a .npz or .safetensors file of initial students, see ``load_initial``.

    Raises:
        InvalidArgument, InvalidData, DeviceUnavailable: as ``resolve_problem`` and ``load_initial``.
        ObjectiveCheckFailed: a problem of the user's own is no proper objective.
    """
    widths = list(widths)
    if spec.problem != GRID:
        require(spec.activation is None, f"activation belongs to the problem {GRID}; {spec.problem} brings its own")
        require(spec.teacher is spec.data is None, f"teacher and data belong to {GRID}; {spec.problem} brings its own")
        spec = replace(spec, code=load_function(spec.problem)[1])
    else:
        spec = replace(spec, code=files_checksum(spec))
    problem = resolve_problem(spec)
    for width in widths:
        require(n_parameters(problem, width) > 0, f"problem {spec.problem} must say how many parameters it has (dim)")
    initial = Initial() if init_from is None else load_initial(init_from, problem, widths)
    if initial.students is None and not hasattr(problem, "init"):
        raise InvalidArgument(
            f"problem {spec.problem} has no init(width, seeds, scheme); give initial points in a file"
        )
    for width, students in (initial.students or {}).items():
        if seeds is not None and seeds.stop > len(students):
            raise InvalidData(
                f"init-from {init_from} has {len(students)} rows of width {width}, one a seed; "
                f"seeds up to {seeds.stop - 1} were asked for"
            )
    if spec.problem != GRID:
        _try_out(spec, problem, initial, widths)
    return Prepared(replace(spec, init=initial.checksum), problem, initial)


def _try_out(spec: StudySpec, problem: Objective, initial: Initial, widths: list[int]) -> None:
    """Checks a problem of the user's own at its first students, before anything is computed for all of them."""
    name = spec.problem
    for width in widths:
        size = n_parameters(problem, width)
        seeds = (0, 1 if initial.students is None else min(1, len(initial.students[width]) - 1))
        with failures_of(f"{name}: init(width, seeds, scheme)"):
            rows = initial.rows(problem, width, seeds, spec.scheme)
        require(
            isinstance(rows, torch.Tensor) and tuple(rows.shape) == (2, size) and bool(torch.isfinite(rows).all()),
            f"problem {name}: init(width, seeds, scheme) must return finite rows, one a seed, of shape (2, {size}) for "
            f"width {width} and two seeds; got {tuple(rows.shape) if isinstance(rows, torch.Tensor) else rows!r}",
        )
        require(
            not needs_products(problem, rows),
            f"problem {name} has {size} parameters and no hessian of its own: a study needs dense Hessians; define "
            f"hessian(theta) or look at single points with critpoints spectrum {name}",
        )
        if width == widths[0]:
            smooth = getattr(getattr(problem, "activation", None), "smooth", True)
            try:
                with failures_of(name):
                    check_objective(problem, rows, smooth=smooth)
            except ObjectiveCheckFailed as error:
                raise ObjectiveCheckFailed(f"problem {name}: {error}") from error
