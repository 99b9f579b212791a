"""critpoints landscape section and curve: planes through solutions, and paths between them."""

from __future__ import annotations

import os
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from . import options
from .experiments import Request, conclude, experiment_options
from .output import number, print_json, print_table, say

if TYPE_CHECKING:
    from critpoints.landscape.results import Result
    from critpoints.landscape.section_experiment import SectionExperiment

_NETWORKS = (
    *("digits-300-100", "digits-vgg", "digits-vgg-bn", "digits-resnet", "digits-resnet-bn", "digits-lipton"),
    *("mnist-300-100", "mnist-lipton", "cifar10-vgg16", "cifar10-resnet20"),
)
_STUDENTS = ("student-saddle", "student-trajectory")
_PLANES = ("filter", "random", "pca", "hessian", "minima")
_LABELS = {
    "filter": ("1st filter-normalised random direction", "2nd filter-normalised random direction"),
    "random": ("1st random direction, unit: norm of the weights", "2nd random direction, same unit"),
    "pca": ("1st principal component", "2nd principal component"),
    "hessian": ("eigenvector $\\lambda$ = {0:.3g}", "eigenvector $\\lambda$ = {1:.3g}"),
    "minima": ("from solution 1 towards 2", "orthogonal, towards solution 3"),
}


@click.command(short_help="The loss on a plane through solutions.")
@click.option(
    "--experiment", "name", type=click.Choice((*_NETWORKS, *_STUDENTS)), required=True, help="What is trained."
)
@click.option(
    "--plane",
    type=click.Choice(_PLANES),
    default="filter",
    show_default=True,
    help="For networks: random directions, filter-normalised or not; principal components; eigenvectors; 3 solutions.",
)
@click.option("--points", type=click.IntRange(3, 2001), default=51, show_default=True, help="Along each direction.")
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Of training and directions.")
@click.option("--epochs", type=click.IntRange(1), help="Train for another time than the setting says.")
@click.option(
    "--batch-norm",
    type=click.Choice(["recalibrate", "freeze", "batch"]),
    default="recalibrate",
    show_default=True,
    help="What becomes of BatchNorm's statistics on the plane.",
)
@click.option("--data", metavar="DIR", type=click.Path(path_type=Path), help="Folder of MNIST and CIFAR-10.")
@click.option("--out", metavar="DIR", type=click.Path(file_okay=False, path_type=Path), help="For all results.")
@click.option("--workers", type=click.IntRange(1), help="Processes  [default: all processors]")
@click.option("--quiet", is_flag=True, help="No progress display.")
@options.as_json
def section(
    *,
    name: str,
    plane: str,
    points: int,
    seed: int,
    epochs: int | None,
    batch_norm: str,
    data: Path | None,
    out: Path | None,
    workers: int | None,
    quiet: bool,
    as_json: bool,
) -> None:
    """Evaluate the training and test loss on a plane, and draw in the trajectory with its true losses.

    student-saddle is the plane of a saddle's negative direction and its stiffest one, student-trajectory that of the
    principal components of a student's way. Points are stored block by block in --out, where a later call resumes.
    """
    from critpoints.landscape.results import save_result
    from critpoints.landscape.section_experiment import SectionExperiment, run
    from critpoints.plots.sections import loss_plane
    from critpoints.study.environment import provenance

    from .figures import save_figure
    from .progress import Progress

    is_student = name in _STUDENTS
    plane = {"student-saddle": "hessian", "student-trajectory": "pca"}.get(name, plane)
    setting = None if is_student else _setting(name, epochs)
    experiment = SectionExperiment(name, setting, plane, points, seed, batch_norm=batch_norm)
    folder = out or Path(f"critpoints-section-{name}" if is_student else f"critpoints-section-{name}-{plane}")
    with Progress(quiet=quiet, unit="blocks of points") as progress:
        result = run(
            experiment,
            folder,
            root=data,
            workers=1 if is_student else workers or len(os.sched_getaffinity(0)),
            environment=provenance(),
            callback=progress.update,
        )
    save_result(folder / "section.npz", result)
    say(f"results {folder}/section.npz")
    x, y = (label.format(*result.arrays["eigenvalues"]) for label in _LABELS[plane])
    title = f"{name}, seed {seed}" + ("" if is_student else f": {plane} plane")
    save_figure(loss_plane(result, labels=(x, y), title=title, connected=plane != "minima"), folder, "section")
    _summarise(experiment, result, as_json)


def _setting(name: str, epochs: int | None) -> Any:
    from critpoints.landscape.settings import get_setting

    setting = get_setting(name)
    return replace(setting, recipe=replace(setting.recipe, epochs=epochs or setting.recipe.epochs))


def _summarise(experiment: SectionExperiment, result: Result, as_json: bool) -> None:
    """The lowest and highest loss, and how far the marked points lie from the plane."""
    import numpy as np

    arrays = result.arrays
    rows: list[tuple[str, float]] = []
    for surface, what in (("train_loss", "training loss"), ("test_loss", "test loss")):
        finite = arrays[surface][np.isfinite(arrays[surface])]
        if finite.size:
            rows += [(f"lowest {what} on the plane", finite.min()), (f"highest {what} on the plane", finite.max())]
    gap = np.abs(arrays["marks-train_loss"] - arrays["marks-projected_train_loss"]).max()
    rows += [
        ("points of the plane that are not finite", float((~np.isfinite(arrays["train_loss"])).sum())),
        ("marked points", float(len(arrays["marks-distances"]))),
        ("largest distance of one from the plane", arrays["marks-distances"].max()),
        ("largest difference of its training loss from that of its projection", gap),
        *((f"eigenvalue {i + 1}", value) for i, value in enumerate(arrays["eigenvalues"])),
    ]
    evaluated = {"way": result.header["way"], "batch_norm": result.header["batch_norm"]}
    if as_json:
        print_json({"experiment": experiment.name, "plane": experiment.plane, **evaluated, "found": dict(rows)})
        return
    print_table(f"{experiment.name}, {experiment.plane}", ("what", "value"), [(what, number(v)) for what, v in rows])
    policy = f", BatchNorm: {evaluated['batch_norm']}" if evaluated["batch_norm"] else ""
    print(f"evaluated by {evaluated['way']}{policy}")


@click.command(short_help="Lines, aligned lines and trained curves between solutions.")
@experiment_options(("student", *(name for name in _NETWORKS if "lipton" not in name)))
def curve(*, as_json: bool, **given: Any) -> None:
    """Join pairs of solutions by a straight line, by one after alignment, and by trained curves.

    Alignment permutes the channels of the second network (for students: by their exact symmetry group), which leaves
    its function unchanged; Bezier curves and polygonal chains with one bend are trained for a low mean loss.
    """
    from critpoints.data import load
    from critpoints.landscape.curve_experiment import STUDENT, CurveExperiment, compute, judge
    from critpoints.landscape.results import stack
    from critpoints.plots.curves import joining_paths

    request = Request(**given)
    setting = None if request.name == STUDENT else request.setting()
    experiment = CurveExperiment(request.name, setting)
    dataset = None if setting is None else load(setting.dataset, request.data)
    folder = request.folder("curve")
    configuration = experiment.configuration(dataset)
    pairs = request.run(folder, configuration, partial(compute, experiment=experiment, root=request.data))
    result = stack(pairs, {"experiment": request.name})
    title = f"{request.name}: paths between two solutions, mean of {request.seeds} pairs, bands over all"
    figure = joining_paths(result, title=title)
    conclude(request.name, folder, {"curve": result}, judge(result), figure, as_json)
