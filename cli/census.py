"""critpoints census: the distinct critical points of a study, modulo symmetry."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from critpoints.study.memory import collector_paused

from . import options
from .output import number, percent, print_json, print_table, say

if TYPE_CHECKING:
    from critpoints.census import Census, CensusEntry
    from critpoints.study.records import Row
    from critpoints.study.store import Store

MOST = 12  # entries a width in the report of classify; the census command prints all


@click.command(short_help="Count the distinct critical points of a study.")
@options.study
@options.one_width
@options.threads
@options.figures
@options.as_json
@collector_paused()
def census(study: Path, width: int | None, figures: Path | None, as_json: bool) -> None:
    """Count the distinct critical points of a study modulo symmetry: kind, type, loss, how many seeds ended there."""
    from critpoints.study.distinct import COLUMNS, study_census
    from critpoints.study.problems import resolve_problem
    from critpoints.study.status import failed_seeds
    from critpoints.study.store import Store

    from .figures import check_folder, save_census_figures

    if figures is not None:
        check_folder(figures)
    with Store.open(study) as store:
        problem = resolve_problem(store.spec)
        failures = failed_seeds(store)
        for failure in failures:
            say(str(failure))
        widths = [each for each in store.widths() if store.count(each)] if width is None else [width]
        found, certified = {}, {}
        for each in widths:
            points = list(store.points(each, columns=COLUMNS))
            found[each] = study_census(store, problem, each, points=points)
            certified[each] = certified_seeds(store, each, points)
        if figures is not None:
            for each, counted in found.items():
                save_census_figures(problem, each, counted, figures)
        if as_json:
            documents = {str(each): _document(c, certified[each]) for each, c in found.items()}
            lost = [asdict(failure) for failure in failures]
            print_json({"study": str(store.path), "widths": documents, "failures": lost})
            return
        for each, counted in found.items():
            print_census(each, counted, certified=certified[each])


def certified_seeds(store: Store, width: int, points: Iterable[Row] | None = None) -> set[int] | None:
    """Seeds with a certificate or a tie to one; None where nothing has been certified.

    ``points`` are those of the width, where they have been read already.
    """
    from critpoints.study.attached import attached

    found = attached(store, width, points)
    return found.certified if found.rows else None


def _document(counted: Census, certified: Collection[int] | None) -> dict[str, Any]:
    document = counted.to_dict()
    if certified is not None:
        for entry in document["entries"]:
            entry["certified"] = sum(seed in certified for seed in entry["rows"])
    return document


def print_census(
    width: int, counted: Census, most: int | None = None, certified: Collection[int] | None = None
) -> None:
    """The table of a census; with ``most`` the most frequent entries alone, and how many are left out.

    With ``certified``, the seeds that have certificates, also how many of each entry do.
    """
    entries = counted.entries
    if most is not None and len(entries) > most:
        frequent = sorted(entries, key=lambda entry: -entry.count)[:most]
        entries = tuple(entry for entry in entries if entry in frequent)
    title = f"width {width}: {len(counted.entries)} distinct end points modulo symmetry"
    columns = ["kind", "type", "loss", "smallest", "seeds", "95 % interval", "one seed"]
    rows = [_cells(entry) for entry in entries]
    if certified is not None:
        columns.append("certified")
        rows = [
            (*row, str(sum(seed in certified for seed in entry.rows))) for row, entry in zip(rows, entries, strict=True)
        ]
    print_table(title, columns, rows, texts=(0, 1))
    left = len(counted.entries) - len(entries)
    if left:
        print(f"and {left} less frequent ones; critpoints census lists them all")


def _cells(entry: CensusEntry) -> tuple[str, ...]:
    index = f" of index {entry.index}" if entry.kind.value.endswith("saddle") else ""
    level = f", level {entry.level}" if entry.level is not None else ""
    return (
        f"{entry.kind.value.replace('_', ' ')}{index}{level}",
        entry.type,
        f"{entry.loss:.6e}",
        number(entry.smallest_eigenvalue),
        str(entry.count),
        f"{100 * entry.wilson95[0]:.1f} - {percent(entry.wilson95[1])}",
        str(entry.rows[0]),
    )


def distinct_counts(counted: Census) -> dict[str, Any]:
    """How many distinct points there are of each kind."""
    counts: dict[str, int] = {}
    for entry in counted.entries:
        counts[entry.kind.value] = counts.get(entry.kind.value, 0) + 1
    return counts
