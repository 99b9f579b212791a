"""Studies of the same specification made one, and a study's file made small."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

from critpoints.errors import InvalidData, StoreError, require
from critpoints.study.damage import check_study
from critpoints.study.records import CERTIFICATES, POINTS, VERDICTS, Row, Table
from critpoints.study.store import Store


@dataclass(frozen=True)
class Merged:
    """What a merge added to the new study, and how many points were in several of the old ones."""

    points: int
    verdicts: int
    certificates: int
    repeated: int
    different: int

    def to_dict(self) -> dict[str, Any]:
        """A JSON-ready dictionary."""
        return dict(self.__dict__)


def merge_studies(paths: Sequence[str | Path], out: str | Path, *, keep_first: bool = False) -> Merged:
    """Writes the rows of several studies of one specification to a new study.

    Where two have the same point, its rows must be the same, bit for bit. Rows from other processors or other versions
    of the libraries may not be.

    Args:
        keep_first: takes the rows of the study that is named first, instead of refusing such studies.

    Raises:
        SpecMismatch: studies of different specifications.
        InvalidData: the same point with different rows.
        StoreError: a study that is damaged or cannot be opened, or ``out`` is there already.
    """
    out = Path(out)
    require(len(paths) > 0, "name at least one study to merge")
    require(not out.exists(), f"{out} is there already; give the name of a new file", StoreError)
    with Store.open(paths[0]) as first:
        spec = first.spec
    totals: dict[str, int] = dict.fromkeys(("points", "verdicts", "certificates", "repeated", "different"), 0)
    try:
        with Store.create(out, spec) as store:
            known: dict[str, dict[tuple, bytes]] = {table.name: {} for table in (POINTS, VERDICTS, CERTIFICATES)}
            for path in paths:
                with Store.open(path) as source:
                    differences = spec.differences(source.spec)
                    require(not differences, f"{path}: {'; '.join(differences)}, unlike {paths[0]}", InvalidData)
                    _Merge(store, source, known, keep_first, totals).run()
    except BaseException:
        out.unlink(missing_ok=True)  # half a merge has no use, and its sources are untouched
        raise
    return Merged(**totals)


@dataclass
class _Merge:
    """One study on its way into another; ``known`` has the checksums of what is there, by table and key."""

    store: Store
    source: Store
    known: dict[str, dict[tuple, bytes]]
    keep_first: bool
    totals: dict[str, int]

    def run(self) -> None:
        for width, seeds in self.source.requests():
            self.store.request(width, seeds)
        verdicts: dict[tuple, list[Row]] = {}
        for row in self.source.rows(VERDICTS):
            verdicts.setdefault((row["width"], row["seed"]), []).append(row)
        points = sorted(self.source.rows(POINTS), key=lambda row: row["unit"])
        grouped = {number: list(members) for number, members in groupby(points, key=lambda row: row["unit"])}
        for unit in self.source.units():
            members = grouped.get(unit["id"], [])
            new = [row for row in members if self._is_new(POINTS, row, {"unit": 0})]
            judged = [verdict for row in members for verdict in verdicts.get((row["width"], row["seed"]), [])]
            judged = [row for row in judged if self._is_new(VERDICTS, row, {})]
            self.totals["repeated"] += len(members) - len(new)
            if new or judged:
                columns = {name: unit[name] for name in ("width", "block", "environment", "seconds")}
                self.store.commit(columns, new, judged, f"merged from {self.source.path.name}")
            self.totals["points"] += len(new)
            self.totals["verdicts"] += len(judged)
        # two proofs of the same point may differ in their figures and are both right: the first one stays
        certificates = [row for row in self.source.rows(CERTIFICATES) if self._is_first(CERTIFICATES, row)]
        self.store.attach(certificates)
        self.totals["certificates"] += len(certificates)

    def _is_first(self, table: Table, row: Row) -> bool:
        known, key = self.known[table.name], _key(table, row)
        first = key not in known
        known.setdefault(key, b"")
        return first

    def _is_new(self, table: Table, row: Row, plain: Row) -> bool:
        """Whether the row is not there yet; the number of its unit, which ``plain`` puts aside, does not count."""
        known, key, checksum = self.known[table.name], _key(table, row), table.checksum({**row, **plain})
        if key not in known:
            known[key] = checksum
            return True
        if known[key] != checksum:
            require(
                self.keep_first,
                f"{self.source.path}: the row of {table.name} with {table.name_of(key)} is not the same as in the study"
                " before; they come from different processors or versions: keep the first with --keep-first",
                InvalidData,
            )
            self.totals["different"] += 1
        return False


def _key(table: Table, row: Row) -> tuple:
    return tuple(row[name] for name in table.keys)


@dataclass(frozen=True)
class Compacted:
    """The size of a file before and after, in bytes."""

    before: int
    after: int

    def to_dict(self) -> dict[str, Any]:
        """A JSON-ready dictionary."""
        return dict(self.__dict__)


def compact_study(path: str | Path) -> Compacted:
    """Writes the file of a study anew without its unused pages; a crash meanwhile leaves it as it was.

    Raises:
        StoreError: the study is damaged, or another process has it open for writing.
    """
    path = Path(path)
    found = check_study(path)
    require(found.sound, f"{path} is damaged; critpoints study check lists what, salvage saves the rest", StoreError)
    before = path.stat().st_size
    with Store.extend(path) as store:
        expected = store.content_hash()
        store.vacuum()
        require(store.content_hash() == expected, f"{path}: compacting changed its content", StoreError)
    return Compacted(before, path.stat().st_size)
