"""The rows of a study: columns, checksums, vectors as bytes."""

from __future__ import annotations

import hashlib
import json
import math
import struct
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

import numpy as np

from critpoints.errors import StoreError

Row = dict[str, Any]
Value = int | float | str | bytes | None


_VECTOR = np.dtype("<f8")


def _encoded(value: Value) -> bytes:
    """A value as bytes that no other value has: a letter for the type, then the length where it varies."""
    for kind, encode in _ENCODERS.items():
        if isinstance(value, kind):
            return encode(value)
    raise TypeError(f"no column holds a {type(value).__name__}")


def _encoded_text(value: str) -> bytes:
    data = value.encode("utf-8", "surrogateescape")
    return b"s%d;%b" % (len(data), data)


class _Encoders(dict[type, Callable[[Any], bytes]]):
    """By type, functions of C where there are any: a study is read a hundred thousand rows at a time."""

    def __missing__(self, kind: type) -> Callable[[Any], bytes]:
        return _encoded


_ENCODERS = _Encoders(
    {
        float: partial(struct.Struct("<sd").pack, b"f"),
        int: b"i%d;".__mod__,
        bytes: lambda value: b"b%d;%b" % (len(value), value),
        str: _encoded_text,
        type(None): lambda value: b"n",
    }
)


def _to_column(kind: str, value: Any) -> Value:
    """What SQLite will give back for ``value``: it turns NaN into NULL and -0.0 into 0.0 on its own."""
    if value is None or kind == "TEXT":
        return value
    if kind == "BLOB":
        return np.ascontiguousarray(value, dtype="<f8").tobytes()
    if kind == "INTEGER":
        return int(value)
    return None if math.isnan(value) else float(value) + 0.0


@dataclass(frozen=True)
class Table:
    """A table: the SQL types of its columns by name, the first ``n_keys`` of which are the primary key.

    A BLOB is a float64 vector, little-endian; NULL in a REAL column stands for NaN. Every row ends with a checksum
    over the table's name and all columns.
    """

    name: str
    columns: Mapping[str, str]
    n_keys: int

    @property
    def keys(self) -> list[str]:
        """The columns of the primary key."""
        return list(self.columns)[: self.n_keys]

    @property
    def quoted(self) -> str:
        """The columns and the checksum, as SQL lists them (one of them is called index)."""
        return ", ".join(f'{self.name}."{column}"' for column in (*self.columns, "checksum"))

    @property
    def create(self) -> str:
        """The statement that creates the table."""
        body = ", ".join(f'"{column}" {kind}' for column, kind in self.columns.items())
        return f"CREATE TABLE {self.name} ({body}, checksum BLOB NOT NULL, PRIMARY KEY ({', '.join(self.keys)}))"

    @property
    def insert(self) -> str:
        """The statement that inserts what ``encode`` returns."""
        return f"INSERT INTO {self.name} VALUES ({', '.join('?' * (len(self.columns) + 1))})"

    def _digest(self, values: list[Value]) -> bytes:
        return hashlib.blake2b(
            b"".join([_ENCODERS[type(value)](value) for value in (self.name, *values)]), digest_size=16
        ).digest()

    def encode(self, row: Mapping[str, Any]) -> list[Value]:
        """The columns of a row as they are stored, with the checksum."""
        values = [_to_column(kind, row[column]) for column, kind in self.columns.items()]
        return [*values, self._digest(values)]

    def checksum(self, row: Mapping[str, Any]) -> bytes:
        """The checksum of a row, over what ``encode`` returns for it."""
        return self._digest(self.encode(row)[:-1])

    def is_intact(self, stored: Sequence[Value]) -> bool:
        """Whether the checksum, which comes last, fits the columns before it."""
        return stored[-1] == self._digest(list(stored[:-1]))

    def name_of(self, values: Iterable[Value]) -> str:
        """How a row is called in messages: the columns of its key with their values."""
        return ", ".join(f"{name} {value!r}" for name, value in zip(self.keys, values, strict=False))

    def decode(self, stored: list[Value], where: str, columns: Iterable[str] | None = None) -> Row:
        """The row behind stored columns, or those of its ``columns`` that the table has; the checksum is over all.

        Raises:
            StoreError: the checksum does not fit: the row is damaged.
        """
        if not self.is_intact(stored):
            raise StoreError(
                f"{where}: the row of {self.name} with {self.name_of(stored)} is damaged (its checksum does not fit); "
                "critpoints study salvage saves the others in a new file, where classify computes it again"
            )
        return self.unpack(stored, columns)

    def unpack(self, stored: Sequence[Value], columns: Iterable[str] | None = None) -> Row:
        """The row behind stored columns whose checksum has been compared; see ``decode``."""
        wanted, vectors, numbers = self._layout(None if columns is None else tuple(columns))
        row: Row = {column: stored[place] for column, place in wanted}
        for column in vectors:
            if isinstance(row[column], bytes):
                row[column] = np.frombuffer(row[column], _VECTOR).astype(np.float64)
        if None in stored:
            row |= {column: math.nan for column in numbers if row[column] is None}
        return row

    def _layout(self, columns: tuple[str, ...] | None) -> tuple[list[tuple[str, int]], list[str], list[str]]:
        """The table's columns among these, with their places; those that are vectors; those that are REAL."""
        if (found := self._layouts.get(columns)) is None:
            wanted = [(name, i) for i, name in enumerate(self.columns) if columns is None or name in columns]
            of_kind = [[name for name, _ in wanted if self.columns[name] == kind] for kind in ("BLOB", "REAL")]
            found = self._layouts[columns] = wanted, of_kind[0], of_kind[1]
        return found

    @cached_property
    def _layouts(self) -> dict[tuple[str, ...] | None, tuple[list[tuple[str, int]], list[str], list[str]]]:
        return {}


META = Table("meta", {"key": "TEXT", "value": "TEXT"}, 1)
REQUESTS = Table("requests", {"width": "INTEGER", "first_seed": "INTEGER", "seeds": "INTEGER"}, 3)
UNITS = Table(
    "units",
    {
        "id": "INTEGER",
        "width": "INTEGER",
        "block": "INTEGER",
        "points": "INTEGER",
        "verdicts": "INTEGER",
        "environment": "TEXT",
        "seconds": "REAL",
    },
    1,
)
POINTS = Table(
    "points",
    {
        "width": "INTEGER",
        "seed": "INTEGER",
        "unit": "INTEGER",
        "training_status": "TEXT",
        "trained_theta": "BLOB",
        "trained_loss": "REAL",
        "trained_gradient_norm": "REAL",
        "trained_smallest_eigenvalue": "REAL",
        "raw_eigenvalues": "BLOB",
        "raw_index": "INTEGER",
        "raw_nullity": "INTEGER",
        "raw_noise_floor": "REAL",
        "status": "TEXT",
        "theta": "BLOB",
        "loss": "REAL",
        "gradient_norm": "REAL",
        "gradient_noise": "REAL",
        "iterations": "INTEGER",
        "evaluations": "INTEGER",
        "eigenvalues": "BLOB",
    },
    2,
)
VERDICTS = Table(
    "verdicts",
    {
        "width": "INTEGER",
        "seed": "INTEGER",
        "classifier_version": "INTEGER",
        "kind": "TEXT",
        "index": "INTEGER",
        "nullity": "INTEGER",
        "level": "INTEGER",
        "noise_floor": "REAL",
        "smallest_eigenvalue": "REAL",
        "standard": "TEXT",
        "evidence": "TEXT",
        "negative_cause": "TEXT",
    },
    3,
)
CERTIFICATES = Table(
    "certificates",
    {
        "width": "INTEGER",
        "seed": "INTEGER",
        "classifier_version": "INTEGER",
        "prover_version": "INTEGER",
        "form": "TEXT",
        "kind": "TEXT",
        "tied_to": "INTEGER",
        "sha256": "TEXT",
        "document": "TEXT",
        "reason": "TEXT",
        "seconds": "REAL",
    },
    5,
)
ATTEMPTS = Table(  # what became of a unit each time that it was computed, and when
    "attempts",
    {
        "id": "INTEGER",
        "width": "INTEGER",
        "block": "INTEGER",
        "seeds": "TEXT",
        "outcome": "TEXT",
        "reason": "TEXT",
        "worker": "TEXT",
        "finished": "REAL",
        "seconds": "REAL",
    },
    1,
)
TABLES = (META, REQUESTS, UNITS, POINTS, VERDICTS, CERTIFICATES, ATTEMPTS)


def plain(value: Any) -> Any:
    """A value made of what JSON has: arrays and tensors become lists, numbers that are not finite None."""
    if isinstance(value, Mapping):
        return {str(key): plain(each) for key, each in value.items()}
    if hasattr(value, "tolist"):
        return plain(value.tolist())
    if isinstance(value, list | tuple):
        return [plain(each) for each in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value if value is None or isinstance(value, bool | int | str) else str(value)


def to_json(value: Any, **options: Any) -> str:
    """Strict JSON of anything that ``plain`` understands."""
    return json.dumps(plain(value), allow_nan=False, ensure_ascii=False, **options)
