"""critpoints study: run grids of studies, watch them, check, save, merge and compact their files."""

from __future__ import annotations

from pathlib import Path

import click

from . import options
from .exit_codes import ExitCode
from .output import print_json, say
from .study_run import run, status

_MOST = 50  # damages that are listed; --json lists all

new_file = click.option(
    "-o",
    "--output",
    "out",
    required=True,
    metavar="NEW.db",
    type=click.Path(dir_okay=False, path_type=Path),
    help="The new study.",
)


@click.group(short_help="Run grids of studies; check, salvage, merge, compact.")
def study() -> None:
    """Run grids of studies, watch them, and take care of their files."""


study.add_command(run)
study.add_command(status)


@study.command(short_help="Check every row of a study.")
@options.study
@options.as_json
def check(study: Path, as_json: bool) -> ExitCode:
    """Read every row of a study, compare all checksums, and name each row that is damaged or lost.

    Ends with 1 if anything is wrong; salvage saves the rest.
    """
    from critpoints.study.damage import check_study

    found = check_study(study)
    if as_json:
        print_json({"study": str(study), **found.to_dict()})
    else:
        for damage in found.damages[:_MOST]:
            print(damage)
        if len(found.damages) > _MOST:
            print(f"and {len(found.damages) - _MOST} more; --json lists all")
        rows = ", ".join(f"{count} {table}" for table, count in found.rows.items() if count)
        print(f"{'sound' if found.sound else 'DAMAGED'}: {rows or 'no rows'} intact")
    if not found.sound:
        say(f"damaged; save what is intact with: critpoints study salvage {study} -o NEW.db")
    return ExitCode.DONE if found.sound else ExitCode.FAILED


@study.command(short_help="Save the intact rows of a damaged study.")
@options.study
@new_file
@click.option(
    "--like",
    metavar="OTHER.db",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="A study of the same specification, if this one has lost it.",
)
@options.as_json
def salvage(study: Path, out: Path, like: Path | None, as_json: bool) -> None:
    """Write every intact row of a damaged study to a new one; the damaged file is only read.

    The command that made the study then computes what is missing, with --out NEW.db.
    """
    from critpoints.study.salvage import salvage_study

    saved = salvage_study(study, out, like)
    if as_json:
        print_json({"study": str(out), **saved.to_dict()})
    else:
        print(f"saved {saved.points} points and {saved.certificates} certificates in {out}")
        if saved.incomplete:
            print(f"left behind {saved.incomplete} rows whose other half is lost")


@study.command(short_help="Make several studies of one specification one.")
@click.argument("studies", metavar="STUDY.db...", nargs=-1, required=True, type=click.Path(path_type=Path))
@new_file
@click.option("--keep-first", is_flag=True, help="Where two studies differ in a row, take that of the first.")
@options.as_json
def merge(studies: tuple[Path, ...], out: Path, keep_first: bool, as_json: bool) -> None:
    """Write the rows of several studies of one specification to a new one; the old ones stay as they are."""
    from critpoints.study.merging import merge_studies

    merged = merge_studies(studies, out, keep_first=keep_first)
    if as_json:
        print_json({"study": str(out), **merged.to_dict()})
    else:
        print(f"merged {merged.points} points of {len(studies)} studies in {out}; {merged.repeated} were in several")
        if merged.different:
            print(f"{merged.different} rows differed: those of the study named first were kept")


@study.command(short_help="Make the file of a study small.")
@options.study
@options.as_json
def compact(study: Path, as_json: bool) -> None:
    """Check a study and write its file anew without unused pages; a crash meanwhile leaves it as it was."""
    from critpoints.study.merging import compact_study

    found = compact_study(study)
    if as_json:
        print_json({"study": str(study), **found.to_dict()})
    else:
        print(f"{found.before / 1e6:.2f} MB before, {found.after / 1e6:.2f} MB after")
