"""critpoints export: a study for other programs."""

from __future__ import annotations

from pathlib import Path

import click

from . import options
from .output import say


@click.command(short_help="Write a study as CSV, NPZ or Parquet.")
@options.study
@click.option("--format", required=True, metavar="NAME", help="csv, npz or parquet.")
@click.option(
    "-o",
    "--output",
    metavar="FILE",
    type=click.Path(dir_okay=False, path_type=Path),
    help="The file to write  [default: the study's name with the format's ending]",
)
def export(study: Path, format: str, output: Path | None) -> None:
    """Write all points of a study, every column, with the latest verdict."""
    from critpoints.study.export import export_study
    from critpoints.study.store import Store

    output = study.with_suffix(f".{format}") if output is None else output
    with Store.open(study) as store:
        export_study(store, output, format)
    say(f"wrote {output}")
