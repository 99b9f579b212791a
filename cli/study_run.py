"""critpoints study run and status: a grid of studies from one TOML file, and how far it is."""

from __future__ import annotations

import shlex
from collections.abc import Iterable
from datetime import datetime
from pathlib import Path
from time import time
from typing import TYPE_CHECKING, Any

import click

from . import options
from .computing import check_one_place, executor, where_to_compute
from .exit_codes import ExitCode
from .interruption import Interrupted
from .output import number, print_json, print_table, say, say_failures

if TYPE_CHECKING:
    from critpoints.study.grid import Grid
    from critpoints.study.problems import Prepared
    from critpoints.study.scheduling import Failure
    from critpoints.study.status import StudyStatus

    from .progress import Progress


@click.command(short_help="Compute a grid of studies.")
@click.argument("spec", metavar="SPEC.toml", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--out", metavar="DIR", type=click.Path(file_okay=False, path_type=Path), help="Folder of the studies.")
@where_to_compute
@click.option("--quiet", is_flag=True, help="No progress bar.")
@options.threads
@click.pass_context
def run(
    context: click.Context,
    spec: Path,
    out: Path | None,
    processes: int | None,
    workers: int | None,
    scheduler: str | None,
    timeout: float,
    quiet: bool,
) -> ExitCode:
    """Compute every combination of the values in SPEC.toml, each as a study of its own in the folder DIR.

    \b
    widths = "4-6,10"                # or [4, 5, 6, 10]; the only key that must be there
    seeds = 1000                     # how many, from seed-start = 0
    learning-rates = [1e-4, 1e-3]
    activations = ["sigmoid", "tanh"]
    teachers = ["seed-study", "random:3:0", "teacher.npz"]
    data = ["grid", "gaussian:500:2:0", "inputs.npz"]

    Also steps, method, refine, scheme, gtol, device, dtype, and problem = "file.py:function" in the place of
    activations, teachers and data. The same command again resumes what is unfinished. Workers that die or hang have
    their unit tried again up to 3 times. Without --out the folder is named after SPEC. Ends with 5 if units failed.
    How to start workers on other machines, and on Slurm: python -m pydoc critpoints.study.cluster.
    """  # noqa: D301 - \b is click's mark for lines that stay as they are
    from critpoints.study.grid import load_grid
    from critpoints.study.store import Store

    from .progress import Progress

    check_one_place(processes, workers, scheduler)
    grid = load_grid(spec)
    studies = grid.prepare()
    folder = spec.with_suffix("") if out is None else out
    folder.mkdir(parents=True, exist_ok=True)
    say(f"{len(studies)} {'study' if len(studies) == 1 else 'studies'} in {folder}")
    for name, prepared in studies.items():  # so that status knows of all from the beginning
        with Store.create(folder / name, prepared.spec) as store:
            for width in grid.widths:
                store.request(width, grid.seeds)
    try:
        with executor(processes, workers, scheduler, timeout) as where, Progress(quiet=quiet) as progress:
            failures = _run_all(grid, studies, folder, where, progress)
    except Interrupted:
        say("interrupted; what is done is stored")
        say(f"resume with: {shlex.join(['critpoints', *context.obj])}")
        raise
    return say_failures(failures)


def _run_all(grid: Grid, studies: dict[str, Prepared], folder: Path, where: Any, progress: Progress) -> list[Failure]:
    from critpoints.study.run import run_study
    from critpoints.study.store import Store

    failures, each = [], len(grid.widths) * len(grid.seeds)
    for n, (name, prepared) in enumerate(studies.items()):

        def update(done: float, total: int, message: str, n: int = n, name: str = name) -> None:
            progress.update(n * each + done, len(studies) * each, f"{name}: {message}")

        with Store.create(folder / name, prepared.spec) as store:
            failures += run_study(
                store,
                grid.widths,
                grid.seeds,
                problem=prepared.problem,
                initial=prepared.initial,
                executor=where,
                callback=update,
            )
    return failures


@click.command(short_help="Say how far studies are.")
@click.argument("paths", metavar="STUDY.db|DIR...", nargs=-1, required=True, type=click.Path(path_type=Path))
@options.as_json
def status(paths: tuple[Path, ...], as_json: bool) -> ExitCode:
    """Say how far studies are, how fast they go and how long they will still take, also while they run.

    Ends with 5 if points are missing.
    """
    from critpoints.study.status import study_status
    from critpoints.study.store import Store

    found: dict[Path, StudyStatus] = {}
    for path in _studies(paths):
        with Store.open(path) as store:
            found[path] = study_status(store)
    remaining = [each.remaining for each in found.values()]
    together = None if None in remaining else sum(filter(None, remaining))
    missing = sum(each.missing for each in found.values())
    if as_json:
        studies = {str(path): each.to_dict() for path, each in found.items()}
        print_json({"studies": studies, "missing": missing, "remaining": together})
    else:
        _print_table(found)
        if missing:
            print(f"{missing} points are missing; {duration(together)} left at this rate")
        else:
            print("complete")
    return ExitCode.INCOMPLETE if missing else ExitCode.DONE


def _studies(paths: Iterable[Path]) -> list[Path]:
    from critpoints.errors import InvalidArgument

    found = []
    for path in paths:
        inside = sorted(path.glob("*.db")) if path.is_dir() else [path]
        if not inside:
            raise InvalidArgument(f"{path} is a folder without studies; critpoints study run --out {path} makes them")
        found += inside
    return found


def _print_table(found: dict[Path, StudyStatus]) -> None:
    rows = []
    for path, each in found.items():
        for n, width in enumerate(each.widths):
            rows.append(
                (
                    path.name if n == 0 else "",
                    str(width.width),
                    f"{width.stored}/{width.stored + width.missing}",
                    str(width.failed or "-"),
                    number(width.seconds_per_point),
                    number(each.rate and 60 * each.rate) if n == 0 else "",
                    duration(each.remaining) if n == 0 else "",
                    _ago(each.last_stored) if n == 0 else "",
                )
            )
    columns = ("study", "width", "points", "failed", "s a point", "points/min", "left", "last stored")
    print_table("", columns, rows)
    for path, each in found.items():
        if each.retried:
            print(f"{path.name}: {each.retried} units were tried again after their worker was lost")
        for failure in each.failures:
            print(f"{path.name}: {failure}")


def duration(seconds: float | None) -> str:
    """A duration in two units.

    >>> duration(59), duration(3725), duration(400_000), duration(None)
    ('59 s', '1 h 2 min', '4 d 15 h', 'unknown')
    """
    if seconds is None:
        return "unknown"
    for size, unit, smaller, name in ((86400, "d", 3600, "h"), (3600, "h", 60, "min"), (60, "min", 1, "s")):
        if seconds >= size:
            return f"{int(seconds // size)} {unit} {int(seconds % size // smaller)} {name}"
    return f"{seconds:.0f} s"


def _ago(moment: float | None) -> str:
    if moment is None:
        return "-"
    past = time() - moment
    return f"{duration(past)} ago" if past < 86400 else f"{datetime.fromtimestamp(moment):%Y-%m-%d %H:%M}"
