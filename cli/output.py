"""What the commands print: tables and JSON on standard output, everything else on standard error."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from .exit_codes import ExitCode

if TYPE_CHECKING:
    from critpoints.study.scheduling import Failure

SCHEMA = 1  # of every JSON document
_NARROW = 110  # columns of a table that is not printed on a terminal


def say(text: str) -> None:
    """One line for the reader, on standard error."""
    print(f"critpoints: {text}", file=sys.stderr, flush=True)


def say_failures(failures: Sequence[Failure]) -> ExitCode:
    """One line for each unit that could not be computed; the exit code that this means."""
    for failure in failures:
        say(f"{failure.unit} failed: {' '.join(failure.reason.split())}")
    if failures:
        say("the same command tries these again")
    return ExitCode.INCOMPLETE if failures else ExitCode.DONE


def print_json(document: Mapping[str, Any]) -> None:
    """The one JSON document of a command."""
    from critpoints.study.records import plain

    print(json.dumps({"schema": SCHEMA, **plain(document)}, indent=2, allow_nan=False))


def print_table(
    title: str, columns: Sequence[str], rows: Iterable[Sequence[str]], *, texts: Sequence[int] = (0,)
) -> None:
    """A table; the columns numbered in ``texts`` are set flush left, the others flush right."""
    from rich.box import SIMPLE
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(title=Text(title) if title else None, title_justify="left", box=SIMPLE, pad_edge=False)
    for number, name in enumerate(columns):
        table.add_column(name, justify="left" if number in texts else "right")
    for row in rows:
        table.add_row(*map(Text, row))
    width = None if sys.stdout.isatty() or "COLUMNS" in os.environ else _NARROW
    Console(width=width, highlight=False).print(table)


def number(value: float | None, digits: int = 3) -> str:
    """A number in few digits; a dash for none."""
    return "-" if value is None else f"{value:.{digits}g}"


def percent(fraction: float) -> str:
    """A fraction in per cent."""
    return f"{100 * fraction:.1f} %"
