"""The study file: one SQLite database, append-only, with a checksum on every row.

The contract: what ``commit`` has returned from is on disk and survives a crash of the process or the machine; a unit is
there as a whole or not at all; a row that comes back is the row that was stored, or its damage is reported by name.
"""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from time import time
from types import TracebackType

from critpoints.errors import SpecMismatch, StoreError
from critpoints.study.database import (
    check_header,
    connect,
    errors,
    has_table,
    is_empty,
    migrate,
    on_network,
    write_schema,
)
from critpoints.study.records import ATTEMPTS, CERTIFICATES, META, POINTS, REQUESTS, UNITS, VERDICTS, Row, Table
from critpoints.study.spec import StudySpec
from critpoints.study.units import Unit, to_ranges

_LATEST = "SELECT max(classifier_version) FROM verdicts AS v WHERE v.width = points.width AND v.seed = points.seed"
_JOINED = (
    f"SELECT {POINTS.quoted}, {VERDICTS.quoted} FROM points LEFT JOIN verdicts ON verdicts.width = points.width"
    f" AND verdicts.seed = points.seed AND verdicts.classifier_version = ({_LATEST})"
    " WHERE points.width = ? ORDER BY points.seed"
)

# outcomes of an attempt at a unit
STORED, RETRIED, FAILED = "stored", "tried again", "failed"


class Store:
    """An open study. Use ``create`` to write one and ``open`` to read one, both as context managers.

    Attributes:
        path: the file.
        spec: what the study computes.
    """

    def __init__(self, path: Path, connection: sqlite3.Connection, spec: StudySpec, *, writable: bool) -> None:
        self.path, self.spec, self._connection, self._writable = path, spec, connection, writable

    @classmethod
    def create(cls, path: str | Path, spec: StudySpec) -> Store:
        """Opens the study at ``path`` for writing; makes a new one where there is no file.

        Raises:
            ForeignFile: the file is no study, or one of a newer version.
            SpecMismatch: the study has another specification.
            StoreError: the file cannot be opened, or is damaged.
        """
        path = Path(path)
        check_header(path)
        if not path.absolute().parent.is_dir():
            raise StoreError(f"{path}: the folder {path.absolute().parent} does not exist; make it first")
        with errors(path):
            connection = connect(path, "rwc")
        try:
            with errors(path):
                if is_empty(connection, path):
                    write_schema(connection, spec)
                store = cls._checked(path, connection, writable=True)
                if differences := store.spec.differences(spec):
                    raise SpecMismatch(
                        f"{path} is a study with another specification: in it {'; '.join(differences)}; "
                        "ask for the same, or give another file"
                    )
                migrate(connection)
                connection.execute(f"PRAGMA journal_mode={'DELETE' if on_network(path) else 'WAL'}")
                connection.execute("PRAGMA synchronous=FULL")
        except BaseException:
            connection.close()
            raise
        return store

    @classmethod
    def open(cls, path: str | Path) -> Store:
        """Opens the study at ``path`` for reading.

        Raises:
            ForeignFile: the file is no study, or one of a newer version.
            StoreError: there is no such file, it cannot be opened, or it is damaged.
        """
        path = Path(path)
        if not check_header(path):
            raise StoreError(f"{path}: there is no study here; make one with critpoints classify --out {path}")
        # whoever left a rollback journal was ended while it wrote: only a connection that may write undoes that
        interrupted = path.with_name(f"{path.name}-journal").exists()
        with errors(path):
            connection = connect(path, "rw" if interrupted else "ro")
            try:
                if is_empty(connection, path):
                    raise StoreError(f"{path} is an empty database; make the study again with critpoints classify")
                return cls._checked(path, connection, writable=False)
            except BaseException:
                connection.close()
                raise

    @classmethod
    def extend(cls, path: str | Path) -> Store:
        """Opens the study at ``path``, which must be there, for writing.

        Raises:
            ForeignFile, StoreError: as for ``open`` and ``create``.
        """
        with cls.open(path) as store:
            spec = store.spec
        return cls.create(path, spec)

    @classmethod
    def _checked(cls, path: Path, connection: sqlite3.Connection, *, writable: bool) -> Store:
        """The store, once its structure is sound and its specification is the one that was written."""
        (verdict,) = connection.execute("PRAGMA integrity_check(1)").fetchone()
        if verdict != "ok":
            raise StoreError(
                f"{path} is damaged ({verdict}); critpoints study check lists what, study salvage saves the rest"
            )
        rows = connection.execute(f"SELECT {META.quoted} FROM meta").fetchall()
        meta = {row["key"]: row["value"] for row in (META.decode(list(each), str(path)) for each in rows)}
        if "spec" not in meta:
            raise StoreError(f"{path} is damaged: it has no specification")
        return cls(path, connection, StudySpec.from_json(meta["spec"]), writable=writable)

    def __enter__(self) -> Store:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Leaves the write-ahead log, so that the study is one file again, and closes it."""
        if self._writable:
            with suppress(sqlite3.Error):  # somebody else has it open: the last one to close does this
                self._connection.execute("PRAGMA busy_timeout=500")
                self._connection.execute("PRAGMA journal_mode=DELETE")
        self._connection.close()

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        with errors(self.path):
            self._roll_back()  # a rollback of before may have failed as well
            try:
                self._connection.execute("BEGIN IMMEDIATE")
                yield self._connection
                self._connection.execute("COMMIT")
            finally:
                self._roll_back()

    def _roll_back(self) -> None:
        if self._connection.in_transaction:
            self._connection.execute("ROLLBACK")

    def request(self, width: int, seeds: range) -> None:
        """Notes that these seeds are wanted, so that an unfinished study can be told from a finished one."""
        row = {"width": width, "first_seed": seeds.start, "seeds": len(seeds)}
        with self._transaction() as connection:
            connection.execute(REQUESTS.insert.replace("INSERT", "INSERT OR IGNORE"), REQUESTS.encode(row))

    def commit(self, unit: Row, points: Iterable[Row], verdicts: Iterable[Row], worker: str = "") -> None:
        """Stores a unit with its points and verdicts, in one transaction.

        Args:
            unit: the columns of ``UNITS`` without id and the two counts.
            worker: who computed it.

        Raises:
            StoreError: one of them is there already, or they cannot be written.
        """
        points, verdicts = list(points), list(verdicts)
        seeds = tuple(row["seed"] for row in points or verdicts)
        with self._transaction() as connection:
            identity = {"id": self._next(UNITS), "points": len(points), "verdicts": len(verdicts)}
            connection.execute(UNITS.insert, UNITS.encode({**unit, **identity}))
            connection.executemany(POINTS.insert, [POINTS.encode({**row, "unit": identity["id"]}) for row in points])
            connection.executemany(VERDICTS.insert, [VERDICTS.encode(row) for row in verdicts])
            self._note(Unit(unit["width"], unit["block"], seeds), STORED, None, worker, unit["seconds"])

    def note(self, unit: Unit, outcome: str, reason: str, worker: str, seconds: float) -> None:
        """Stores that a unit could not be computed.

        Args:
            outcome: ``RETRIED`` or ``FAILED``.
        """
        with self._transaction():
            self._note(unit, outcome, reason, worker, seconds)

    def _note(self, unit: Unit, outcome: str, reason: str | None, worker: str, seconds: float) -> None:
        row = {
            "id": self._next(ATTEMPTS),
            "width": unit.width,
            "block": unit.block,
            "seeds": to_ranges(unit.seeds),
            "outcome": outcome,
            "reason": reason,
            "worker": worker,
            "finished": time(),
            "seconds": seconds,
        }
        self._connection.execute(ATTEMPTS.insert, ATTEMPTS.encode(row))

    def _next(self, table: Table) -> int:
        (last,) = self._connection.execute(f"SELECT max(id) FROM {table.name}").fetchone()
        return (last or 0) + 1

    def vacuum(self) -> None:
        """Writes the file anew without its unused pages, in one transaction of SQLite's own."""
        with errors(self.path):
            self._connection.execute("VACUUM")

    def widths(self) -> list[int]:
        """The widths that have points or are wanted, in ascending order."""
        query = "SELECT width FROM points UNION SELECT width FROM requests ORDER BY 1"
        with errors(self.path):
            return [width for (width,) in self._connection.execute(query)]

    def missing(self, width: int, seeds: Iterable[int]) -> list[int]:
        """Those of ``seeds`` that have no point."""
        return self._absent("SELECT seed FROM points WHERE width = ?", (width,), seeds)

    def unjudged(self, width: int, seeds: Iterable[int], classifier_version: int) -> list[int]:
        """Those of ``seeds`` that have no verdict by this version of the classifier."""
        query = "SELECT seed FROM verdicts WHERE width = ? AND classifier_version = ?"
        return self._absent(query, (width, classifier_version), seeds)

    def _absent(self, query: str, values: tuple[int, ...], seeds: Iterable[int]) -> list[int]:
        with errors(self.path):
            present = {seed for (seed,) in self._connection.execute(query, values)}
        return [seed for seed in seeds if seed not in present]

    def points(
        self, width: int, seeds: Collection[int] | None = None, columns: Iterable[str] | None = None
    ) -> Iterator[Row]:
        """The points of a width, each with its latest verdict, by seed; vectors are NumPy arrays.

        Args:
            columns: those that are wanted, all by default; every row is checked as a whole.

        Raises:
            StoreError: a row is damaged, or has lost its verdict.
        """
        split, path, columns = len(POINTS.columns) + 1, str(self.path), None if columns is None else tuple(columns)
        seed = list(POINTS.columns).index("seed")
        with errors(self.path):
            for row in self._connection.execute(_JOINED, (width,)):
                point = POINTS.decode(list(row[:split]), path, columns)
                if seeds is not None and row[seed] not in seeds:
                    continue
                if row[-1] is None:
                    raise StoreError(f"{path}: width {width}, seed {row[seed]} has no verdict; run classify again")
                yield point | VERDICTS.decode(list(row[split:]), path, columns)

    def certificates(self, width: int) -> list[Row]:
        """The certificates, ties and refusals that are attached to the points of a width, by seed.

        Raises:
            StoreError: a row is damaged.
        """
        return list(self.rows(CERTIFICATES, width))

    def attach(self, rows: Iterable[Row]) -> None:
        """Stores certificates, ties and refusals, columns as in ``CERTIFICATES``, in one transaction.

        Raises:
            StoreError: one of them is there already, or they cannot be written.
        """
        with self._transaction() as connection:
            connection.executemany(CERTIFICATES.insert, [CERTIFICATES.encode(row) for row in rows])

    def trained(self, width: int, seeds: Collection[int]) -> list[Row]:
        """The points alone, without verdicts, by seed."""
        return [row for row in self.rows(POINTS, width) if row["seed"] in seeds]

    def units(self) -> list[Row]:
        """What was computed when, in the order of the commits."""
        return list(self.rows(UNITS))

    def requests(self) -> list[tuple[int, range]]:
        """The widths and seeds that were asked for."""
        return [
            (row["width"], range(row["first_seed"], row["first_seed"] + row["seeds"])) for row in self.rows(REQUESTS)
        ]

    def attempts(self) -> list[Row]:
        """What became of the units each time that they were computed, in that order."""
        return list(self.rows(ATTEMPTS))

    def count(self, width: int) -> int:
        """How many points there are of a width."""
        with errors(self.path):
            (count,) = self._connection.execute("SELECT count(*) FROM points WHERE width = ?", (width,)).fetchone()
        return count

    def rows(self, table: Table, width: int | None = None) -> Iterator[Row]:
        """The rows of a table by key, none where an older schema does not have it.

        Raises:
            StoreError: a row is damaged.
        """
        condition, values = ("", ()) if width is None else (" WHERE width = ?", (width,))
        query = f"SELECT {table.quoted} FROM {table.name}{condition} ORDER BY {', '.join(table.keys)}"
        with errors(self.path):
            if has_table(self._connection, table):
                for row in self._connection.execute(query, values):
                    yield table.decode(list(row), str(self.path))

    def content_hash(self) -> str:
        """SHA-256 over the specification and all points and verdicts, whenever and in whatever units they were made."""
        digest = hashlib.sha256(self.spec.to_json().encode())
        for table in (POINTS, VERDICTS):
            for row in self.rows(table):
                digest.update(table.checksum({**row, "unit": 0}))
        return digest.hexdigest()
