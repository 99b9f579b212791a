"""critpoints show: the tables of a study again, or everything about one point."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from . import options
from .exit_codes import ExitCode
from .output import print_json, print_table, say

if TYPE_CHECKING:
    from critpoints.study.records import Row
    from critpoints.study.store import Store


@click.command(short_help="Show the tables of a study, or one point.")
@options.study
@click.option("--seed", type=click.IntRange(0), metavar="N", help="Show every column of this point.")
@options.one_width
@options.as_json
def show(study: Path, seed: int | None, width: int | None, as_json: bool) -> ExitCode:
    """Show the tables of a study, or with --seed every column of one point.

    Ends with 5 if points are missing that classify was asked for.
    """
    from critpoints.study.problems import resolve_problem
    from critpoints.study.store import Store
    from critpoints.study.summary import unfinished

    from .report import print_report

    with Store.open(study) as store:
        if seed is not None:
            _print_point(store, find_point(store, seed, width), as_json)
            return ExitCode.DONE
        widths = None if width is None else [only_width(store, width)]
        seconds = sum(unit["seconds"] for unit in store.units())
        problem = resolve_problem(store.spec)
        print_report(store, as_json=as_json, seconds=seconds, widths=widths, problem=problem)
        missing, wanted = unfinished(store)
        if missing:
            say(f"incomplete: {missing} of {wanted} points are missing; the classify command of before resumes")
        return ExitCode.INCOMPLETE if missing else ExitCode.DONE


def only_width(store: Store, width: int | None) -> int:
    """The width asked for, or the study's only one.

    Raises:
        InvalidArgument: the study does not have it, or has several and none was named.
    """
    from critpoints.errors import InvalidArgument

    widths = store.widths()
    listed = ", ".join(map(str, widths)) or "none"
    if width is None and len(widths) != 1:
        raise InvalidArgument(f"width must be one of those in the study ({listed}); give --width")
    if width is not None and width not in widths:
        raise InvalidArgument(f"width {width} is not in the study, which has {listed}")
    return widths[0] if width is None else width


def find_point(store: Store, seed: int, width: int | None) -> Row:
    """The point of this seed.

    Raises:
        InvalidArgument: the study does not have it.
    """
    from critpoints.errors import InvalidArgument

    width = only_width(store, width)
    for point in store.points(width, (seed,)):
        return point
    raise InvalidArgument(
        f"seed {seed} of width {width} is not in {store.path}; classify --seed-start {seed} computes it"
    )


def _print_point(store: Store, point: Row, as_json: bool) -> None:
    import json

    if as_json:
        print_json({"study": str(store.path), "point": point | {"evidence": json.loads(point["evidence"])}})
        return
    title = f"width {point['width']}, seed {point['seed']}"
    print_table(title, ("column", "value"), [(name, _shown(value)) for name, value in point.items()], texts=(0, 1))


def _shown(value: Any) -> str:
    if hasattr(value, "tolist"):
        return " ".join(f"{number:.6g}" for number in value.tolist())
    return "-" if value is None else str(value)
