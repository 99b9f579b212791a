"""critpoints report: a study as one HTML page."""

from __future__ import annotations

from pathlib import Path

import click

from critpoints.study.memory import collector_paused

from . import options
from .output import say


@click.command("report", short_help="Write a study as one HTML page.")
@options.study
@click.option(
    "-o",
    "--output",
    metavar="FILE",
    type=click.Path(dir_okay=False, path_type=Path),
    help="The file to write  [default: the study's name with .html]",
)
@click.option(
    "--saddles",
    "searches",
    metavar="DIR",
    multiple=True,
    type=click.Path(file_okay=False, path_type=Path),
    help="The folder of a search by ``critpoints saddles``, to show too; may be repeated.",
)
@options.threads
@collector_paused()
def html_report(study: Path, output: Path | None, searches: tuple[Path, ...]) -> None:
    """Write a report on a study: one HTML page that needs no network.

    It shows the kinds of point by width, every distinct point with a drawing, loss against smallest eigenvalue with
    the details of each point, and the time it took.
    """
    from critpoints.report.page import write_report
    from critpoints.study.saddle_document import read_saddles
    from critpoints.study.store import Store

    output = study.with_suffix(".html") if output is None else output
    documents = [read_saddles(folder) for folder in searches]
    with Store.open(study) as store:
        write_report(store, output, saddles=documents)
    say(f"wrote {output}")
