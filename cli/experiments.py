"""What the commands of experiments share: options, runs that resume, the files and the table that they leave."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from . import options
from .output import number, print_json, print_table, say

if TYPE_CHECKING:
    from critpoints.landscape.criteria import Criterion
    from critpoints.landscape.results import Result

SEEDS = 5


def experiment_options(names: Sequence[str]) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """What every experiment takes."""

    def decorate(command: Callable[..., Any]) -> Callable[..., Any]:
        for option in (
            click.option("--experiment", "name", type=click.Choice(names), required=True, help="Network and data."),
            click.option(
                "--data", metavar="DIR", type=click.Path(path_type=Path), help="Folder of MNIST and CIFAR-10."
            ),
            click.option(
                "--out", metavar="DIR", type=click.Path(file_okay=False, path_type=Path), help="For all results."
            ),
            click.option("--seeds", type=click.IntRange(1), default=SEEDS, show_default=True, help="Runs."),
            click.option("--epochs", type=click.IntRange(1), help="Train for another time than the setting says."),
            click.option("--workers", type=click.IntRange(1), help="Processes  [default: all processors]"),
            click.option("--quiet", is_flag=True, help="No progress display."),
            options.as_json,
        ):
            command = option(command)
        return command

    return decorate


@dataclass(frozen=True)
class Request:
    """What the options say, the same for every experiment."""

    name: str
    data: Path | None
    out: Path | None
    seeds: int
    epochs: int | None
    workers: int | None
    quiet: bool

    def folder(self, command: str) -> Path:
        """Where the results go."""
        return self.out or Path(f"critpoints-{command}-{self.name}")

    def units(self) -> list[str]:
        """The names of the runs."""
        return [f"seed-{seed}" for seed in range(self.seeds)]

    def setting(self) -> Any:
        """The named setting, trained for as long as was asked for."""
        from critpoints.landscape.settings import get_setting

        setting = get_setting(self.name)
        epochs = self.epochs or setting.recipe.epochs
        return replace(setting, recipe=replace(setting.recipe, epochs=epochs))

    def run(self, folder: Path, configuration: Mapping[str, Any], compute: Callable[[str], Any]) -> list[Result]:
        """The units that are missing, with a progress display."""
        from critpoints.landscape.results import run_units
        from critpoints.study.environment import provenance

        from .progress import Progress

        workers = self.workers or len(os.sched_getaffinity(0))
        with Progress(quiet=self.quiet, unit="runs") as progress:
            return run_units(
                folder,
                configuration,
                self.units(),
                compute,
                workers=workers,
                environment=provenance(),
                callback=progress.update,
            )


def conclude(
    name: str, folder: Path, results: dict[str, Result], criteria: list[Criterion], figure: Any, as_json: bool
) -> None:
    """Result files, figure and table."""
    from critpoints.landscape.results import Result, save_result

    from .figures import save_figure

    outcomes = [each.to_dict() for each in criteria]
    for command, result in results.items():
        save_result(folder / f"{command}.npz", Result({**result.header, "criteria": outcomes}, result.arrays))
    say(f"results {folder / next(iter(results))}.npz")
    save_figure(figure, folder, next(iter(results)))
    if as_json:
        print_json({"experiment": name, "criteria": outcomes})
        return
    rows = [
        (each.name, number(each.mean), number(_known(each.spread)), _bar(each), each.outcome.replace("measured", ""))
        for each in criteria
    ]
    print_table(name, ("what", "mean", "spread", "bar", "outcome"), rows, texts=(0, 4))


def _known(value: float) -> float | None:
    return None if value != value else value


def _bar(criterion: Criterion) -> str:
    if criterion.bar is None:
        return ""
    return f"{'>=' if criterion.above else '<='} {number(criterion.bar)}"
