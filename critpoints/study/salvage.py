"""Saves the intact rows of a damaged study in a new file; the damaged one is only read."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from critpoints.errors import StoreError, require
from critpoints.study.damage import Contents, carve, known_points, requested_points
from critpoints.study.database import check_header
from critpoints.study.records import CERTIFICATES, META, POINTS, REQUESTS, UNITS, VERDICTS, Row
from critpoints.study.spec import StudySpec
from critpoints.study.store import Store
from critpoints.study.units import from_ranges, to_ranges


@dataclass(frozen=True)
class Salvaged:
    """What was saved.

    Attributes:
        points, certificates: how many.
        incomplete: points or verdicts that were left behind, since they are not whole without one another.
    """

    points: int
    certificates: int
    incomplete: int

    def to_dict(self) -> dict[str, Any]:
        """A JSON-ready dictionary."""
        return dict(self.__dict__)


def salvage_study(path: str | Path, out: str | Path, like: str | Path | None = None) -> Salvaged:
    """Writes every intact row of the study at ``path`` to a new study at ``out``.

    A point without its verdicts is left behind, as is a verdict without its point: resuming computes them again, to
    the same bits as before.

    Args:
        like: a study of the same specification, where the damaged one has lost its own.

    Raises:
        StoreError: nothing to save, no specification, or ``out`` is there already.
    """
    path, out = Path(path), Path(out)
    require(not out.exists(), f"{out} is there already; give the name of a new file", StoreError)
    require(path.is_file(), f"{path}: there is no file here", StoreError)
    contents = carve(path)
    if not any(contents.counts().values()):
        check_header(path)  # says so where it is a file of others
        raise StoreError(f"{path}: no row of it can be read")
    with Store.create(out, _specification(path, contents, like)) as store:
        return _save(store, contents)


def _specification(path: Path, contents: Contents, like: str | Path | None) -> StudySpec:
    if ("spec",) in contents.intact[META.name]:
        return StudySpec.from_json(META.unpack(contents.intact[META.name][("spec",)])["value"])
    if like is None:
        raise StoreError(f"{path} has lost its specification; name a study of the same specification with --like")
    with Store.open(like) as store:
        return store.spec


def _save(store: Store, contents: Contents) -> Salvaged:
    verdicts: dict[tuple, list[Row]] = {}
    for row in contents.rows(VERDICTS):
        verdicts.setdefault((row["width"], row["seed"]), []).append(row)
    points = contents.rows(POINTS)
    whole = [row for row in points if (row["width"], row["seed"]) in verdicts]
    keys = {(row["width"], row["seed"]) for row in whole}
    for row in contents.rows(REQUESTS):
        store.request(row["width"], range(row["first_seed"], row["first_seed"] + row["seeds"]))
    # where a request is lost, what was computed for it still stays wanted
    unasked = cast("set[tuple[int, int]]", (known_points(contents) | keys) - requested_points(contents))
    for width in sorted({width for width, _ in unasked}):
        for part in to_ranges(seed for other, seed in unasked if other == width).split(","):
            seeds = list(from_ranges(part))
            store.request(width, range(seeds[0], seeds[-1] + 1))
    units = {row["id"]: row for row in contents.rows(UNITS)}
    for number in sorted({row["unit"] for row in whole}):
        members = [row for row in whole if row["unit"] == number]
        unit = units.get(number, {"block": 0, "environment": "{}", "seconds": 0.0})  # its own row is lost
        columns = {"width": members[0]["width"], **{name: unit[name] for name in ("block", "environment", "seconds")}}
        judged = [verdict for row in members for verdict in verdicts[row["width"], row["seed"]]]
        store.commit(columns, members, judged)
    certificates = [row for row in contents.rows(CERTIFICATES) if (row["width"], row["seed"]) in keys]
    store.attach(certificates)
    incomplete = len(points) - len(whole) + len(verdicts.keys() - keys)
    return Salvaged(len(whole), len(certificates), incomplete)
