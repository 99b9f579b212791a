"""Whether a study is sound; if not, which rows are damaged or lost, and which can still be read.

Every row carries a checksum over its table's name and all its columns, so whatever is found in the file with a checksum
that fits is a row that was stored, wherever it lies.
"""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from critpoints.errors import ForeignFile, StoreError
from critpoints.study.database import check_header, connect, errors, has_table
from critpoints.study.pages import Cell, images
from critpoints.study.records import (
    ATTEMPTS,
    CERTIFICATES,
    META,
    POINTS,
    REQUESTS,
    TABLES,
    UNITS,
    VERDICTS,
    Row,
    Table,
    Value,
)
from critpoints.study.store import STORED
from critpoints.study.units import from_ranges

Key = tuple[Value, ...]
_BY_COLUMNS = {len(table.columns) + 1: table for table in TABLES}  # the number of columns tells the tables apart
_MOST = 20  # of SQLite's own complaints
_LARGE = (POINTS, VERDICTS, CERTIFICATES)


@dataclass(frozen=True)
class Damage:
    """Something wrong in a study.

    Attributes:
        table: its name, or ``file``.
        key: of the row, its first columns at least; None where no single row is meant.
        problem: what is wrong.
    """

    table: str
    key: Key | None
    problem: str

    def __str__(self) -> str:
        table = next((each for each in TABLES if each.name == self.table), None)
        row = f" with {table.name_of(self.key)}" if table and self.key else ""
        return f"{self.table}{row}: {self.problem}"


@dataclass(frozen=True)
class Finding:
    """What a check found.

    Attributes:
        damages: empty if the study is sound.
        rows: how many rows of each table are intact.
    """

    damages: tuple[Damage, ...]
    rows: dict[str, int]

    @property
    def sound(self) -> bool:
        """Whether nothing is wrong."""
        return not self.damages

    def to_dict(self) -> dict[str, Any]:
        """A JSON-ready dictionary."""
        return {"sound": self.sound, "rows": self.rows, "damages": [asdict(each) for each in self.damages]}


@dataclass
class Contents:
    """The rows that were found in a file.

    Attributes:
        intact: the stored columns by key, for each table.
        damaged: keys of rows whose checksum does not fit, for each table.
    """

    intact: dict[str, dict[Key, tuple[Value, ...]]] = field(default_factory=lambda: {t.name: {} for t in TABLES})
    damaged: dict[str, set[Key]] = field(default_factory=lambda: {t.name: set() for t in TABLES})

    def add(self, table: Table, stored: tuple[Value, ...], *, whole: bool) -> None:
        """Sorts a row in by its checksum; of large tables only the first columns are kept unless ``whole``."""
        key = stored[: table.n_keys]
        if table.is_intact(stored):
            self.intact[table.name][key] = stored if whole or table not in _LARGE else stored[: max(3, table.n_keys)]
        elif all(isinstance(value, int | str) for value in key):
            self.damaged[table.name].add(key)

    def rows(self, table: Table) -> list[Row]:
        """The intact rows by key, decoded; not for large tables that were not kept whole."""
        return [table.unpack(stored) for _, stored in sorted(self.intact[table.name].items())]

    def counts(self) -> dict[str, int]:
        """How many rows of each table are intact."""
        return {name: len(rows) for name, rows in self.intact.items()}


def check_study(path: str | Path) -> Finding:
    """Reads every row of a study, compares checksums and counts, and names what is damaged or lost.

    Raises:
        ForeignFile: the file is no study, or one of a newer version.
        StoreError: there is no such file.
    """
    path = Path(path)
    contents, damages = _read(path)
    if not damages and not any(contents.damaged.values()):
        damages = list(lost_rows(contents))
        if not damages:
            return Finding((), contents.counts())
    contents = carve(path)
    if not any(contents.counts().values()):
        check_header(path)  # where nothing is left, it may have been something else
    damages = [*_damaged_rows(contents), *lost_rows(contents), *damages]
    return Finding(tuple(dict.fromkeys(damages)), contents.counts())


def carve(path: Path) -> Contents:
    """All rows that can be found on the pages of a study, without SQLite."""
    contents = Contents()
    for pages in images(path, frozenset(_BY_COLUMNS)):
        for cell in pages.cells():
            table = _BY_COLUMNS[len(cell.values)]
            contents.add(table, _stored(table, cell), whole=True)
    for name, keys in contents.damaged.items():
        keys -= contents.intact[name].keys()
    return contents


def _stored(table: Table, cell: Cell) -> tuple[Value, ...]:
    """The columns as SQLite gives them: it may store a real number as an integer, and an integer key as the rowid."""
    kinds = [*table.columns.values(), "BLOB"]
    values = [
        float(value) if kind == "REAL" and isinstance(value, int) else value
        for kind, value in zip(kinds, cell.values, strict=True)
    ]
    if table.n_keys == 1 and kinds[0] == "INTEGER" and values[0] is None:
        values[0] = cell.rowid
    return tuple(values)


def _read(path: Path) -> tuple[Contents, list[Damage]]:
    """The rows as SQLite reads them, and its complaints."""
    contents = Contents()
    try:
        if not check_header(path):
            raise StoreError(f"{path}: there is no study here")
    except ForeignFile as error:
        if "newer" in str(error):
            raise
        return contents, [Damage("file", None, "its header is not that of a study")]
    damages = list(_cut(path))
    try:
        with errors(path):
            connection = connect(path, "ro")
            try:
                complaints = [text for (text,) in connection.execute(f"PRAGMA integrity_check({_MOST})")]
                damages += [Damage("file", None, text) for text in complaints if text != "ok"]
                for table in TABLES:
                    damages += _read_table(connection, table, contents)
            finally:
                connection.close()
    except StoreError as error:
        damages.append(Damage("file", None, str(error.__cause__)))
    return contents, damages


def _cut(path: Path) -> Iterator[Damage]:
    """Whether the file is shorter than its header says; while there is a log, it may be."""
    with path.open("rb") as file:
        header = file.read(100)
    if len(header) < 100 or path.with_name(f"{path.name}-wal").exists():
        return
    size, pages = int.from_bytes(header[16:18], "big"), int.from_bytes(header[28:32], "big")
    there = path.stat().st_size
    if size >= 512 and there < size * pages:
        yield Damage("file", None, f"it ends after {there} bytes, its header says {pages} pages of {size}")


def _read_table(connection: sqlite3.Connection, table: Table, contents: Contents) -> Iterator[Damage]:
    try:
        if has_table(connection, table):
            for stored in connection.execute(f"SELECT {table.quoted} FROM {table.name} NOT INDEXED"):
                contents.add(table, stored, whole=False)
    except (sqlite3.Error, UnicodeDecodeError) as error:
        yield Damage(table.name, None, f"cannot be read to its end: {error}")


def _damaged_rows(contents: Contents) -> Iterator[Damage]:
    for name, keys in contents.damaged.items():
        for key in sorted(keys, key=repr):
            yield Damage(name, key, "damaged, its checksum does not fit")


def lost_rows(contents: Contents) -> Iterator[Damage]:
    """The rows that must have been there: the intact ones refer to them, or count them."""
    intact = contents.intact
    if ("spec",) not in intact[META.name]:
        yield Damage(META.name, ("spec",), "lost: what the study computes")
    units = {row["id"]: row for row in contents.rows(UNITS)}
    attempts = contents.rows(ATTEMPTS)
    of_unit = Counter(stored[2] for stored in intact[POINTS.name].values())
    for table, ids in ((UNITS, {*units, *of_unit}), (ATTEMPTS, {row["id"] for row in attempts})):
        for number in range(1, max(map(int, ids), default=0) + 1):
            if (number,) not in intact[table.name]:
                yield Damage(table.name, (number,), "lost")
    expected = known_points(contents)
    lost = sorted(expected - intact[POINTS.name].keys())
    short = sum(row["points"] for row in units.values()) - sum(of_unit[number] for number in units)
    if short > len(lost):
        # a study of the first schema does not say which seeds a unit has; those asked for may be the same number
        candidates = sorted(requested_points(contents) - intact[POINTS.name].keys())
        if len(candidates) == short:
            lost = candidates
        else:
            yield Damage(POINTS.name, None, f"{short} are lost, by the counts of the units")
    for key in lost:
        yield Damage(POINTS.name, key, "lost")
    judged = {key[:2] for key in intact[VERDICTS.name]}
    unjudged = sorted({*expected, *lost, *intact[POINTS.name]} - judged)
    for key in unjudged:
        yield Damage(VERDICTS.name, key, "lost")
    short = sum(row["verdicts"] for row in units.values()) - len(intact[VERDICTS.name])
    if short > len(unjudged):
        yield Damage(VERDICTS.name, None, f"{short} are lost, by the counts of the units")


def known_points(contents: Contents) -> set[Key]:
    """Points that were stored once, as far as other rows than their own say so."""
    stored = (row for row in contents.rows(ATTEMPTS) if row["outcome"] == STORED)
    known: set[Key] = {(row["width"], seed) for row in stored for seed in from_ranges(row["seeds"])}
    known.update(key[:2] for table in (VERDICTS, CERTIFICATES) for key in contents.intact[table.name])
    return known


def requested_points(contents: Contents) -> set[Key]:
    """Points that were asked for."""
    return {
        (row["width"], seed)
        for row in contents.rows(REQUESTS)
        for seed in range(row["first_seed"], row["first_seed"] + row["seeds"])
    }
