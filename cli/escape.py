"""critpoints escape: leave the saddles of a study, and see where the loss ends."""

from __future__ import annotations

from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

import click

from . import options
from .output import number, print_json, print_table, say

if TYPE_CHECKING:
    from critpoints.study.records import Row
    from critpoints.study.store import Store

EPSILONS = tuple(10 ** (k / 2) for k in range(-8, 1))  # of the sweep: 1e-4 to 1, two a decade
MAX_ROWS = 30  # of a table; the JSON document has them all


@click.command(short_help="Perturb saddles and refine again.")
@options.study
@click.option("--width", type=click.IntRange(1), metavar="N", help="One width  [default: all of the study's]")
@click.option(
    "--from",
    "origin",
    type=click.Choice(["refined", "trained"]),
    default="refined",
    show_default=True,
    help="Start at the refined saddles, or where training ended with a negative smallest eigenvalue.",
)
@click.option(
    "--method", default="negative-curvature", show_default=True, metavar="NAME", help="Or perturbation, a Gaussian."
)
@click.option("--epsilon", type=float, default=0.1, show_default=True, help="Size of the perturbation.")
@click.option("--normalised/--no-normalised", default=True, help="Epsilon is the Gaussian's length, not its deviation.")
@click.option(
    "--tries", type=click.IntRange(1), default=10, show_default=True, help="Perturbations of a point at most."
)
@click.option("--sweep", is_flag=True, help="Perturb by log-spaced sizes from 1e-4 to 1, and draw the figure.")
@options.threads
@options.figures
@options.as_json
def escape(
    study: Path,
    *,
    width: int | None,
    origin: str,
    sweep: bool,
    figures: Path | None,
    as_json: bool,
    normalised: bool,
    **settings: Any,
) -> None:
    """Perturb the points of a study that have a negative smallest eigenvalue, refine, and compare before and after.

    A refined point counts as negative if its smallest eigenvalue lies below its noise floor. With --sweep the
    figure is written to the folder of --figures, or to the current one.
    """
    from critpoints.study.problems import resolve_problem
    from critpoints.study.store import Store

    from .show import only_width

    documents = {}
    with Store.open(study) as store:
        widths = store.widths() if width is None else [only_width(store, width)]
        _check(settings)
        negative = {each: _negative_points(store, each, origin) for each in widths}
        problem = resolve_problem(store.spec)
        for each, points in negative.items():
            theta, seeds = _starts(points, origin), [point["seed"] for point in points]
            if not points:
                say(f"width {each}: no {origin} point has a negative smallest eigenvalue")
            elif sweep:
                result = _sweep(problem, theta, seeds, normalised, store.spec.refine)
                documents[str(each)] = {"seeds": seeds, **result.to_dict()}
                _save_sweep(result, each, figures or Path())
            else:
                documents[str(each)] = {
                    "seeds": seeds,
                    **_escape(problem, theta, seeds, normalised, store.spec.refine, settings).to_dict(),
                }
    if as_json:
        print_json({"study": str(study), "from": origin, "sweep": sweep, "widths": documents})
        return
    for name, document in documents.items():
        (_print_sweep if sweep else _print_escape)(name, document)


def _check(settings: dict[str, Any]) -> None:
    """What the library would refuse too, but only once there are points to perturb."""
    from critpoints.errors import InvalidArgument
    from critpoints.solvers.escaping import METHODS

    if settings["method"] not in METHODS:
        raise InvalidArgument(f"method must be one of {', '.join(METHODS)}, got {settings['method']!r}")
    if not 0 < settings["epsilon"] < float("inf"):
        raise InvalidArgument(f"epsilon must be a positive number, got {settings['epsilon']}")


def _negative_points(store: Store, width: int, origin: str) -> list[Row]:
    if origin == "trained":
        return [point for point in store.points(width) if point["trained_smallest_eigenvalue"] < 0]
    return [point for point in store.points(width) if point["smallest_eigenvalue"] < -point["noise_floor"]]


def _starts(points: list[Row], origin: str) -> Any:
    import numpy as np
    import torch

    column = "theta" if origin == "refined" else "trained_theta"
    return torch.from_numpy(np.array([point[column] for point in points]))


def _escape(problem: Any, theta: Any, seeds: list[int], normalised: bool, refine: str, settings: dict[str, Any]) -> Any:
    import critpoints as cp

    return cp.escape(problem, theta, seeds=seeds, normalised=normalised, refine_method=refine, **settings)


def _sweep(problem: Any, theta: Any, seeds: list[int], normalised: bool, refine: str) -> Any:
    import critpoints as cp

    return cp.sweep_epsilon(problem, theta, EPSILONS, seeds=seeds, normalised=normalised, refine_method=refine)


def _save_sweep(result: Any, width: int, folder: Path) -> None:
    from critpoints.plots.escape import epsilon_sweep

    from .figures import save_figure

    title = f"width {width}, {len(result.loss_before)} points"
    save_figure(epsilon_sweep(result, title=title), folder, f"epsilon_sweep-width-{width}")


def _print_escape(width: str, found: dict[str, Any]) -> None:
    names = ("seeds", "loss_before", "loss", "smallest_eigenvalue_before", "smallest_eigenvalue", "perturbations")
    columns = zip(*(found[name] for name in names), found["status"], strict=True)
    rows = [
        (str(seed), *(number(value, 6) for value in values), str(count), status.replace("_", " "))
        for seed, *values, count, status in columns
    ]
    title = f"width {width}: {sum(found['escaped'])} of {len(rows)} points escaped by {found['method']}"
    header = ("seed", "loss before", "loss after", "eigenvalue before", "eigenvalue after", "perturbations", "status")
    print_table(title, header, rows[:MAX_ROWS], texts=(6,))
    if len(rows) > MAX_ROWS:
        print(f"and {len(rows) - MAX_ROWS} more points, which --json lists")


def _print_sweep(width: str, found: dict[str, Any]) -> None:
    before, rows = found["loss_before"], []
    for epsilon, perturbed, refined, smallest in zip(
        found["epsilons"], found["loss_perturbed"], found["loss_refined"], found["smallest_eigenvalue"], strict=True
    ):
        lower = sum(after < start for after, start in zip(refined, before, strict=True))
        rows.append((*map(number, (epsilon, median(perturbed), median(refined), median(smallest))), str(lower)))
    title = f"width {width}: {len(before)} points, median loss before {number(median(before))}"
    header = ("epsilon", "median loss perturbed", "median loss refined", "median smallest eigenvalue", "lower loss")
    print_table(title, header, rows, texts=())
