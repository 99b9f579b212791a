"""critpoints landscape wedges, subspace, tunnels, ensembles: the large-scale structure, on model and networks."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from . import options
from .exit_codes import ExitCode
from .output import print_json, print_table, say

if TYPE_CHECKING:
    from critpoints.landscape.large_scale_summary import Finding
    from critpoints.landscape.results import Result

SUBJECTS = ("wedges", "digits", "student")
PAGE = "large_scale"


def _shared(function: Callable[..., Any]) -> Callable[..., Any]:
    """The options of all four commands."""
    for add in (
        options.as_json,
        click.option("--quiet", is_flag=True, help="Show no progress."),
        click.option(
            "--workers", type=click.IntRange(1), default=1, show_default=True, help="Processes, of one thread."
        ),
        click.option("--seeds", type=click.IntRange(2), default=5, show_default=True, help="Runs of each kind."),
        click.option(
            "--on",
            "subjects",
            multiple=True,
            type=click.Choice(SUBJECTS),
            default=("wedges", "digits"),
            show_default=True,
            help="The wedge model, a network on the digits, the teacher-student problem; may be repeated.",
        ),
        click.option(
            "--out",
            required=True,
            metavar="DIR",
            type=click.Path(file_okay=False, path_type=Path),
            help="Folder of results and figure; what it holds is not computed again.",
        ),
    ):
        function = add(function)
    return function


@click.command(short_help="All of the large-scale structure, model and network on one page.")
@_shared
def wedges(**settings: Any) -> int:
    """Run every experiment of Fort and Jastrzebski on the wedge model and on a network, and draw them side by side.

    The exit code is 1 if something that is claimed was not found.
    """
    return _run(None, **settings)


@click.command(short_help="Optimise inside random affine sections.")
@_shared
def subspace(**settings: Any) -> int:
    """Optimise inside random affine sections of growing dimension, and find the threshold."""
    return _run(("subspaces",), **settings)


@click.command(short_help="Low-loss sheets through several optima, and how wide tunnels are.")
@_shared
def tunnels(**settings: Any) -> int:
    """Fit sheets of low loss through 2 to 5 optima; measure the width of tunnels against the knobs of training."""
    return _run(("tunnels", "widths"), **settings)


@click.command(short_help="Averages of weights against averages of predictions.")
@_shared
def ensembles(**settings: Any) -> int:
    """Compare stochastic weight averaging with fast geometric ensembling, within one wedge and across several."""
    return _run(("ensembles",), **settings)


def _run(
    experiments: tuple[str, ...] | None,
    *,
    out: Path,
    subjects: tuple[str, ...],
    seeds: int,
    workers: int,
    quiet: bool,
    as_json: bool,
) -> int:
    from critpoints.landscape.large_scale import EXPERIMENTS, run_large_scale
    from critpoints.landscape.large_scale_summary import summarise
    from critpoints.study.environment import provenance

    from .figures import check_folder
    from .progress import Progress

    check_folder(out)
    chosen, subjects = experiments or tuple(EXPERIMENTS), tuple(dict.fromkeys(subjects))
    with Progress(quiet=quiet, unit="experiments") as progress:
        results = run_large_scale(
            out,
            subjects=subjects,
            experiments=chosen,
            seeds=seeds,
            workers=workers,
            environment=provenance(),
            callback=progress.update,
        )
    _save_page(results, subjects, chosen, seeds, out, experiments[0] if experiments else PAGE)
    found = {unit: summarise(unit.partition("-")[2], result.arrays) for unit, result in results.items()}
    if as_json:
        seconds = {unit: float(result.arrays["cpu_seconds"]) for unit, result in results.items()}
        findings = {unit: [each.to_dict() for each in lines] for unit, lines in found.items()}
        print_json({"out": str(out), "seeds": seeds, "findings": findings, "cpu_seconds": seconds})
    else:
        _print(results, found, subjects)
    missed = any(each.holds is False for lines in found.values() for each in lines)
    return ExitCode.FAILED if missed else ExitCode.DONE


def _save_page(
    results: dict[str, Result],
    subjects: tuple[str, ...],
    experiments: tuple[str, ...],
    seeds: int,
    out: Path,
    name: str,
) -> None:
    from critpoints.plots.large_scale import large_scale_page

    from .figures import save_figure

    titles = {"wedges": "wedge model", "digits": "network on digits", "student": "student problem"}
    by_subject = {
        titles[subject]: {name: results[f"{subject}-{name}"].arrays for name in experiments} for subject in subjects
    }
    figure = large_scale_page(by_subject, title=f"The large-scale structure of loss landscapes ({seeds} seeds)")
    save_figure(figure, out, name)


def _print(results: dict[str, Result], found: dict[str, list[Finding]], subjects: tuple[str, ...]) -> None:
    words = {None: "", True: "yes", False: "no"}
    for subject in subjects:
        units = [unit for unit in found if unit.partition("-")[0] == subject]
        rows = [
            (each.experiment, each.what, each.measured, words[each.holds]) for unit in units for each in found[unit]
        ]
        seconds = sum(float(results[unit].arrays["cpu_seconds"]) for unit in units)
        print_table(
            f"{subject}: {seconds:.0f} CPU seconds", ("experiment", "what", "measured", "holds"), rows, texts=(0, 1, 2)
        )
    if any(each.holds is False for lines in found.values() for each in lines):
        say("something that is claimed was not found: see the column 'holds'")
