"""Grids of studies: every combination of learning rates, activations, teachers and data, from one TOML file."""

from __future__ import annotations

import difflib
import re
import tomllib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

from critpoints.errors import InvalidArgument, require
from critpoints.study.problems import Prepared, prepare
from critpoints.study.spec import GRID, StudySpec
from critpoints.study.teachers import SEED_STUDY_DATA, SEED_STUDY_TEACHER
from critpoints.study.units import from_ranges

_AXES = {"learning-rates": float, "activations": str, "teachers": str, "data": str}
_SINGLE = {"problem": str, "steps": int, "method": str, "refine": str, "scheme": str, "gtol": float}
_SINGLE |= {"device": str, "dtype": str}
_SEEDS = {"seeds": int, "seed-start": int}
KEYS = ("widths", *_SEEDS, *_AXES, *_SINGLE)
_RANGES = re.compile(r"\d{1,6}(-\d{1,6})?(,\d{1,6}(-\d{1,6})?)*")
_MAX_WIDTH, _MAX_SEEDS = 10_000, 10**9


@dataclass(frozen=True)
class Grid:
    """Studies that are computed together, each in a file of its own.

    Attributes:
        specs: one a combination.
        widths, seeds: of every one of them.
    """

    specs: tuple[StudySpec, ...]
    widths: tuple[int, ...]
    seeds: range

    def prepare(self) -> dict[str, Prepared]:
        """What every study needs, by the name of its file; all is checked before anything is computed."""
        prepared = [prepare(spec, self.widths, seeds=self.seeds) for spec in self.specs]
        return {f"{_slug(each.spec)}-{each.spec.hash[:8]}.db": each for each in prepared}


def load_grid(path: str | Path) -> Grid:
    """Reads the specification of a grid.

    Raises:
        InvalidArgument: no TOML, a key that is not known, or a value that cannot be.
    """
    try:
        values = tomllib.loads(Path(path).read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InvalidArgument(f"{path} is not TOML: {error}") from error
    try:
        return parse_grid(values)
    except InvalidArgument as error:
        raise InvalidArgument(f"{path}: {error}") from error


def parse_grid(values: dict[str, Any]) -> Grid:
    """The grid behind the keys of a TOML file.

    >>> grid = parse_grid({"widths": "4-5", "seeds": 10, "learning-rates": [1e-3, 1e-4], "activations": ["tanh"]})
    >>> [(spec.lr, spec.activation) for spec in grid.specs], grid.widths, len(grid.seeds)
    ([(0.001, 'tanh'), (0.0001, 'tanh')], (4, 5), 10)

    Raises:
        InvalidArgument: a key that is not known, or a value that cannot be.
    """
    _check_keys(values)
    seeds, start = (_single(values, key, int, default) for key, default in (("seeds", 1000), ("seed-start", 0)))
    require(1 <= seeds <= _MAX_SEEDS, f"seeds must be how many there are, from 1 to {_MAX_SEEDS}, got {seeds}")
    require(start >= 0, f"seed-start must be at least 0, got {start}")
    single = {key: _single(values, key, kind) for key, kind in _SINGLE.items() if key in values}
    own = single.get("problem", GRID) != GRID
    for key in ("activations", "teachers", "data"):
        require(not (own and key in values), f"{key} belong to the problem {GRID}; {single.get('problem')} has its own")
    require(
        single.get("method") != "gradient-flow" or not {"learning-rates", "steps"} & values.keys(),
        "gradient flow has no learning rates and no steps, its integrator chooses its own; leave them out",
    )
    axes = [_list(values, key, kind) for key, kind in _AXES.items()]
    specs = [_spec(single, own, *combination) for combination in product(*axes)]
    twice = next((spec for i, spec in enumerate(specs) if spec in specs[:i]), None)
    require(twice is None, "learning-rates, activations, teachers and data must name each value once")
    return Grid(tuple(specs), _widths(values["widths"]), range(start, start + seeds))


def _check_keys(values: dict[str, Any]) -> None:
    for key in values:
        if key not in KEYS:
            near = difflib.get_close_matches(key, KEYS, 1, 0.5)
            hint = f"did you mean {near[0]!r}?" if near else f"the keys are {', '.join(KEYS)}"
            raise InvalidArgument(f"there is no key {key!r}; {hint}")
    require("widths" in values, 'widths must be given, like widths = "4-6" or widths = [4, 5, 6]')


def _typed(key: str, value: Any, kind: type) -> Any:
    fits = isinstance(value, int | float if kind is float else kind) and not isinstance(value, bool)
    name = {float: "a number", int: "an integer", str: "a text"}[kind]
    require(fits, f"{key} must be {name}, got {value!r}")
    return kind(value)


def _single(values: dict[str, Any], key: str, kind: type, default: Any = None) -> Any:
    return _typed(key, values[key], kind) if key in values else default


def _list(values: dict[str, Any], key: str, kind: type) -> Sequence[Any]:
    """The values of an axis of the grid; one None where it is not given, and one value may stand without brackets."""
    if key not in values:
        return (None,)
    given = values[key] if isinstance(values[key], list) else [values[key]]
    require(len(given) > 0, f"{key} must name at least one value")
    return [_typed(key, value, kind) for value in given]


def _widths(given: Any) -> tuple[int, ...]:
    if isinstance(given, str):
        text = given.replace(" ", "")
        require(_RANGES.fullmatch(text) is not None, f'widths must be like "4-6,10" or [4, 5, 6, 10], got {given!r}')
        given = list(from_ranges(text))
    numbers: Iterable[Any] = given if isinstance(given, list) else [given]
    widths = sorted({_typed("widths", each, int) for each in numbers})
    require(
        bool(widths) and widths[0] >= 1 and widths[-1] <= _MAX_WIDTH,
        f"widths must be from 1 to {_MAX_WIDTH}, got {given}",
    )
    return tuple(widths)


def _spec(
    single: dict[str, Any], own: bool, lr: float | None, activation: str | None, teacher: str | None, data: str | None
) -> StudySpec:
    chosen = {} if lr is None else {"lr": lr}
    # what the seed study has is left out, so that the study is the one that classify makes
    teacher = None if teacher == SEED_STUDY_TEACHER else teacher
    data = None if data == SEED_STUDY_DATA else data
    activation = None if own else activation or "sigmoid"
    return StudySpec(activation=activation, teacher=teacher, data=data, **chosen, **single)


def _slug(spec: StudySpec) -> str:
    """What a person reads in the name of a file; the hash tells apart what it does not."""
    parts = [spec.activation or Path(spec.problem.rpartition(":")[0]).stem, f"lr{spec.lr:g}"]
    parts += [Path(name).stem.replace(":", "-") for name in (spec.teacher, spec.data) if name is not None]
    return "-".join(parts)
