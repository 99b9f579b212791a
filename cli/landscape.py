"""critpoints landscape: experiments on paths, trajectories and the large-scale structure, one command each."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from .experiments import Request, conclude, experiment_options
from .landscape_patterns import patterns
from .large_scale import ensembles, subspace, tunnels, wedges
from .sections import curve, section

if TYPE_CHECKING:
    from critpoints.landscape.results import Result

_INTERPOLATIONS = (
    *(
        "digits-300-100",
        "digits-vgg",
        "digits-vgg-warm",
        "digits-vgg6",
        "digits-vgg6-torch",
        "digits-vgg-bn",
        "digits-resnet",
        "digits-resnet-bn",
    ),
    *("mnist-300-100", "cifar10-vgg16", "cifar10-resnet20"),
)
_TRAJECTORIES = ("digits-lipton", "digits-mlp", "digits-lstm", "mnist-lipton")


@click.group(short_help="Experiments on loss landscapes: paths, trajectories, wedges.")
def landscape() -> None:
    """Repeat the experiments of papers on loss landscapes.

    Every command trains networks, stores what it measures run by run in --out, where a later call resumes, and leaves
    a result file (.npz), a figure and a table that says which claims were reproduced: the mean over the runs has to
    lie beyond its bar by two standard errors.
    """


@landscape.command(short_help="Straight lines from training states to the end (Frankle 2020).")
@experiment_options(_INTERPOLATIONS)
def interpolate(*, as_json: bool, **given: Any) -> None:
    """Walk in straight lines from the states along a training run to its end.

    Loss and error on training and test data at 100 points from initialisation, at 21 from iterations 1, 2, 4, ...; for
    both policies where the network has BatchNorm; and the extreme eigenvalues of the Hessian on the first line.
    """
    from critpoints.data import load
    from critpoints.landscape.interpolation_experiment import InterpolationExperiment, compute, judge
    from critpoints.landscape.results import stack
    from critpoints.plots.interpolation import interpolation_lines

    request = Request(**given)
    experiment = InterpolationExperiment(request.setting())
    dataset = load(experiment.setting.dataset, request.data)
    folder = request.folder("interpolate")
    runs = request.run(
        folder, experiment.configuration(dataset), partial(compute, experiment=experiment, root=request.data)
    )
    result = stack(runs, {"experiment": request.name})
    criteria = judge(result)
    title = f"{request.name}: linear interpolation, mean of {request.seeds} runs, bands from the lowest to the highest"
    conclude(request.name, folder, {"interpolate": result}, criteria, interpolation_lines(result, title=title), as_json)


@landscape.command(short_help="Training runs as paths through weight space (Lipton 2016).")
@experiment_options(_TRAJECTORIES)
def trajectory(*, as_json: bool, **given: Any) -> None:
    """Follow training runs through weight space: other initialisations, other shuffles, clones of one run.

    Principal components of the paths beside those of random walks, distances, barriers between the solutions, and the
    Hessian's extreme eigenvalues along the way.
    """
    from critpoints.data import load
    from critpoints.landscape.results import stack
    from critpoints.landscape.trajectory_experiment import TrajectoryExperiment, compare, compute, judge
    from critpoints.plots.trajectories import trajectory_planes

    request = Request(**given)
    if request.seeds < 2:
        raise click.BadParameter("distances between runs take at least 2", param_hint="--seeds")
    experiment = TrajectoryExperiment(request.setting())
    dataset = load(experiment.setting.dataset, request.data)
    folder = request.folder("trajectory")
    configuration = experiment.configuration(dataset)
    runs = request.run(folder, configuration, partial(compute, experiment=experiment, root=request.data))
    result, pairs = stack(runs, {"experiment": request.name}), _compare(runs, compare, experiment, request.data)
    criteria = judge(result, pairs)
    title = f"{request.name}: paths through weight space, {request.seeds} runs of each kind"
    figure = trajectory_planes(result, pairs, title=title)
    conclude(request.name, folder, {"trajectory": result, "pairs": pairs}, criteria, figure, as_json)


def _compare(runs: list[Result], compare: Callable[..., Any], experiment: Any, root: Path | None) -> Result:
    from critpoints.landscape.results import Result

    arrays = compare("pairs", results=runs, experiment=experiment, root=root)
    return Result({**runs[0].header, "unit": "pairs"}, arrays)


for _command in (section, curve, wedges, subspace, tunnels, ensembles, patterns):
    landscape.add_command(_command)
