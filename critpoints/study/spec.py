"""What a study computes: everything that decides the bits of a row, except its width and its seed."""

from __future__ import annotations

import hashlib
import json
import math
from dataclasses import asdict, dataclass, fields
from typing import Any

from critpoints.errors import InvalidArgument, StoreError, require

NUMERICS_VERSION = 2  # raised when a change of the numerics changes the bits of a row
CLASSIFIER_VERSION = 2  # raised when a change of the rules changes verdicts; the points stay

GRID = "grid"
METHODS = ("adam", "gradient-flow")
REFINEMENTS = ("newton", "slsqp")
DEVICES = ("cpu", "cuda")
DTYPES = ("float64", "float32")
_LATER_FIELDS = ("teacher", "data")


@dataclass(frozen=True)
class StudySpec:
    """The specification of a study; two studies with the same hash hold the same rows.

    Widths and seeds are no part of it, so that a study can be extended.

    Attributes:
        problem: ``grid``, the seed study's problem, or ``package.module:function`` or ``file.py:function``.
        activation: of teacher and students of the grid problem; None for a problem that brings its own.
        method, lr, steps: of training; gradient flow uses neither learning rate nor steps.
        scheme: of the initial students.
        refine, gtol: of the refinement.
        device, dtype: of the computation.
        init: checksum of the initial students where they come from a file, else None.
        code: checksum of the source file of a problem that is not ``grid``, or of the files of teacher and data;
            None where there are none.
        teacher, data: of the grid problem, names as in ``teachers.py``; None for those of the seed study.
        numerics_version: of the code that computes.

    Raises:
        InvalidArgument: a value that no study can have.

    >>> spec = StudySpec(steps=500)
    >>> StudySpec.from_json(spec.to_json()) == spec, len(spec.hash)
    (True, 64)
    """

    problem: str = GRID
    activation: str | None = "sigmoid"
    method: str = "adam"
    lr: float = 1e-4
    steps: int = 30_000
    scheme: str = "xavier_uniform"
    refine: str = "newton"
    gtol: float = 1e-13
    device: str = "cpu"
    dtype: str = "float64"
    init: str | None = None
    code: str | None = None
    teacher: str | None = None
    data: str | None = None
    numerics_version: int = NUMERICS_VERSION

    def __post_init__(self) -> None:
        choices = {"method": METHODS, "refine": REFINEMENTS, "device": DEVICES, "dtype": DTYPES}
        for name, allowed in choices.items():
            value = getattr(self, name)
            require(value in allowed, f"{name} must be one of {', '.join(allowed)}, got {value!r}")
        for name in ("lr", "gtol"):
            value = float(getattr(self, name))
            require(math.isfinite(value) and value > 0, f"{name} must be a positive number, got {value}")
            object.__setattr__(self, name, value)  # 1 and 1.0 are the same learning rate, and must hash alike
        require(
            isinstance(self.steps, int) and self.steps >= 0, f"steps must be an integer of at least 0, got {self.steps}"
        )

    def to_json(self) -> str:
        """Canonical JSON: sorted keys, no spaces."""
        values = asdict(self)
        for name in _LATER_FIELDS:  # the hash of a study that was made before there were any stays what it was
            if values[name] is None:
                del values[name]
        return json.dumps(values, sort_keys=True, separators=(",", ":"), allow_nan=False)

    def to_dict(self) -> dict[str, Any]:
        """A JSON-ready dictionary."""
        return asdict(self)

    @classmethod
    def from_json(cls, text: str) -> StudySpec:
        """The specification that ``to_json`` wrote.

        Raises:
            StoreError: fields that this version does not know, or values that it does not accept.
        """
        values = json.loads(text)
        unknown = sorted(set(values) - {field.name for field in fields(cls)})
        if unknown:
            raise StoreError(f"the study's specification has unknown fields: {', '.join(unknown)}; upgrade critpoints")
        try:
            return cls(**values)
        except InvalidArgument as error:
            raise StoreError(f"the study's specification cannot be read: {error}") from error

    @property
    def hash(self) -> str:
        """SHA-256 of the canonical JSON, in hexadecimal."""
        return hashlib.sha256(self.to_json().encode()).hexdigest()

    def differences(self, other: StudySpec) -> list[str]:
        """What differs in ``other``, one phrase a field."""
        mine, theirs = asdict(self), asdict(other)
        return [f"{name} is {mine[name]!r}, not {theirs[name]!r}" for name in mine if mine[name] != theirs[name]]
