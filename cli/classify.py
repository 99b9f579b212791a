"""critpoints classify: train, refine and classify students, into a study that can be resumed and extended."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from . import options
from .computing import check_one_place, executor, where_to_compute
from .exit_codes import ExitCode
from .interruption import Interrupted
from .output import say, say_failures

if TYPE_CHECKING:
    from critpoints.study.spec import StudySpec


@click.command(short_help="Train, refine and classify students.")
@click.option(
    "--width", "widths", type=options.Widths(), required=True, help="Widths: 5, or 4,5,6, or 4-7, or 4-10,45."
)
@click.option("--seeds", type=click.IntRange(1, 10**9), default=1000, show_default=True, help="How many seeds.")
@click.option("--seed-start", type=click.IntRange(0, 2**62), default=0, show_default=True, help="The first seed.")
@click.option("--steps", type=int, help="Adam steps  [default: 30000]")
@click.option("--lr", type=float, help="Learning rate of Adam  [default: 0.0001]")
@click.option("--method", default="adam", show_default=True, metavar="NAME", help="Training: adam or gradient-flow.")
@click.option("--refine", default="newton", show_default=True, metavar="NAME", help="Refinement: newton or slsqp.")
@click.option("--device", default="cpu", show_default=True, metavar="NAME", help="cpu, cuda, or auto.")
@click.option("--activation", metavar="NAME", help="Of teacher and students  [default: sigmoid]")
@click.option("--problem", default="grid", show_default=True, help="grid, package.module:function or file.py:function.")
@click.option("--scheme", default="xavier_uniform", show_default=True, metavar="NAME", help="Of the initial students.")
@click.option(
    "--init-from",
    metavar="FILE",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Initial students from a .npz or .safetensors file: array width_N, row i for seed i.",
)
@click.option("--out", metavar="STUDY.db", type=click.Path(path_type=Path), help="The study's file.")
@where_to_compute
@click.option("--quiet", is_flag=True, help="No progress bar.")
@options.threads
@options.figures
@options.as_json
@click.pass_context
def classify(
    context: click.Context,
    *,
    widths: tuple[int, ...],
    seeds: int,
    seed_start: int,
    init_from: Path | None,
    out: Path | None,
    processes: int | None,
    workers: int | None,
    scheduler: str | None,
    timeout: float,
    quiet: bool,
    figures: Path | None,
    as_json: bool,
    **choices: Any,
) -> ExitCode:
    """Train students of the given widths, refine them to critical points and say what each one is.

    Everything is stored in one SQLite file. The same command again resumes an unfinished study and reports a
    finished one without computing; more seeds or other widths extend it. Without --out the file is
    ./critpoints-<hash of the specification>.db. Workers compute the same bits as this process would; one that dies or
    hangs has its unit tried again up to 3 times.
    """
    check_one_place(processes, workers, scheduler)
    wanted = range(seed_start, seed_start + seeds)
    spec = _specification(**choices)

    from critpoints.study.problems import prepare
    from critpoints.study.run import run_study
    from critpoints.study.store import Store

    from .figures import check_folder, save_study_figures
    from .progress import Progress
    from .report import print_report

    prepared = prepare(spec, widths, seeds=wanted, init_from=init_from)
    if figures is not None:
        check_folder(figures)
    path = out or Path(f"critpoints-{prepared.spec.hash[:12]}.db")
    with Store.create(path, prepared.spec) as store:
        say(f"study {path if path.is_absolute() else f'./{path}'}")
        try:
            with executor(processes, workers, scheduler, timeout) as where, Progress(quiet=quiet) as progress:
                failures = run_study(
                    store,
                    widths,
                    wanted,
                    problem=prepared.problem,
                    initial=prepared.initial,
                    executor=where,
                    callback=progress.update,
                )
        except Interrupted:
            missing = sum(len(store.missing(width, wanted)) for width in widths)
            say(f"interrupted with {missing} of {len(widths) * seeds} points missing; what is done is stored")
            say(f"resume with: {shlex.join(['critpoints', *context.obj])}")
            raise
        if figures is not None:
            save_study_figures(store, prepared, widths, wanted, figures)
        print_report(
            store, as_json=as_json, seconds=progress.seconds, widths=widths, seeds=wanted, problem=prepared.problem
        )
    return say_failures(failures)


def _specification(*, steps: int | None, lr: float | None, activation: str | None, **choices: Any) -> StudySpec:
    from critpoints.errors import require
    from critpoints.kernels.devices import AUTO, resolve_device
    from critpoints.study.spec import GRID, StudySpec

    if choices["device"] == AUTO:  # a study says where its rows were computed
        choices["device"] = resolve_device(AUTO).type
    given = {name: value for name, value in (("steps", steps), ("lr", lr)) if value is not None}
    require(
        choices["method"] != "gradient-flow" or not given,
        f"{' and '.join(given)}: gradient flow has none, its integrator chooses its own steps; leave it out",
    )
    if activation is None and choices["problem"] == GRID:
        activation = "sigmoid"
    return StudySpec(activation=activation, **given, **choices)
