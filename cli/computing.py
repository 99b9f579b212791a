"""Where the units of a study are computed: options that several commands share, and the executor that they name."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import click

Command = TypeVar("Command", bound=Callable[..., Any])

_OPTIONS = (
    click.option("--processes", type=click.IntRange(1), metavar="N", help="Compute in N processes of this machine."),
    click.option(
        "--workers", type=click.IntRange(1), metavar="N", help="Compute on a local Dask cluster of N workers."
    ),
    click.option("--scheduler", metavar="ADDRESS", help="Compute on the Dask cluster at tcp://HOST:PORT."),
    click.option(
        "--timeout",
        type=click.FloatRange(min=0, min_open=True),
        default=3600.0,
        show_default=True,
        metavar="SECONDS",
        help="When a worker that has not finished its unit counts as hung.",
    ),
)


def where_to_compute(command: Command) -> Command:
    """Adds the options, which are the arguments of ``executor``."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def check_one_place(*places: object) -> None:
    """Refuses more than one of --processes, --workers and --scheduler, before anything is made."""
    if sum(place is not None for place in places) > 1:
        raise click.UsageError("give one of --processes, --workers and --scheduler")


@contextmanager
def executor(processes: int | None, workers: int | None, scheduler: str | None, timeout: float) -> Iterator[Any]:
    """The executor that the options name; None for this process."""
    if processes is not None:
        from critpoints.study.executors import ProcessExecutor

        with ProcessExecutor(processes, timeout) as where:
            yield where
    elif workers is not None or scheduler is not None:
        from critpoints.study.cluster import DaskExecutor

        with DaskExecutor(scheduler, workers=workers or 1, timeout=timeout) as where:
            yield where
    else:
        yield None
