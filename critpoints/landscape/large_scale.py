"""The large-scale structure of loss landscapes: every experiment of seed study 001 on any subject, unit by unit.

Fort and Jastrzebski (arXiv 1906.04724). Each experiment is one function of a ``Subject``, so the wedge model and a
network go through the same code; it gives arrays by name, which ``critpoints.landscape.results`` stores.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from critpoints.errors import InvalidData, require
from critpoints.landscape.ensembles import EnsembleComparison, compare_ensembles
from critpoints.landscape.interpolation import interpolate
from critpoints.landscape.network_subject import network_subject
from critpoints.landscape.radius import sweep_radius
from critpoints.landscape.results import Arrays, Result, run_units
from critpoints.landscape.short_directions import (
    descend_to_loss,
    grow_with_m,
    measure_short_directions,
    shared_short_directions,
    smallest_common_cut,
    wedges_at,
)
from critpoints.landscape.subjects import Subject, student_subject, wedge_subject
from critpoints.landscape.subspaces import (
    PlaneLosses,
    cut_plane_through,
    optimise_in_subspaces,
    random_basis,
    section_distances,
)
from critpoints.landscape.tunnel_width import measure_tunnel_width
from critpoints.landscape.tunnels import Tunnel, fit_tunnel, sheet_losses, triangle
from critpoints.objectives.wedges import WedgeObjective

Experiment = Callable[[Subject, int], Mapping[str, Any]]
SUBJECTS: Mapping[str, Callable[[], Subject]] = {
    "wedges": wedge_subject,
    "digits": network_subject,
    "student": student_subject,
}
VERSION = 2  # of what the experiments do and of the subjects' settings: results of another are not resumed
MAX_M = 5  # optima that a tunnel joins at most
CURVATURE_K = 150  # eigenvalues at the upper end of a spectrum


def _starts(subject: Subject, seeds: int) -> Tensor:
    return torch.stack([subject.initial(seed) for seed in range(seeds)])


def measure_paths(subject: Subject, seeds: int) -> Arrays:
    """Straight lines from initial points to their optima, and between all pairs of distinct optima."""
    optima = [subject.optimise(seed).theta for seed in range(seeds)]
    down = [_line(subject, subject.initial(seed), end) for seed, end in enumerate(optima)]
    pairs = [(a, b) for a, b in itertools.combinations(optima, 2) if subject.distinct(a, b[None])]
    between = [_line(subject, a, b) for a, b in pairs]
    return {"to_optimum": np.stack(down), "between": np.stack(between)}


def _line(subject: Subject, a: Tensor, b: Tensor) -> np.ndarray:
    return interpolate(subject.objective, a, b, 41).losses.train_loss.numpy()


def measure_subspaces(subject: Subject, seeds: int) -> Arrays:
    """Losses reached in random sections; on the model also the exact distance from each section to a wedge."""
    count = min(seeds, 3)
    starts = _starts(subject, count)
    found = optimise_in_subspaces(
        subject.objective,
        starts,
        subject.dims,
        seeds=range(count),
        lr=subject.section_lr,
        steps=subject.section_steps,
    )
    arrays = {
        "dims": np.array(found.dims),
        "losses": found.losses.numpy(),
        "start_losses": found.start_losses.numpy(),
        "low": np.array(10 * subject.low),
        "threshold": np.array(found.threshold(10 * subject.low) or 0),
    }
    if isinstance(subject.objective, WedgeObjective):
        dims = np.arange(1, 2 * subject.objective.short + 1)
        arrays |= {"exact_dims": dims, "exact_distances": _exact_distances(subject.objective, starts, dims)}
    return arrays


def _exact_distances(model: WedgeObjective, starts: Tensor, dims: np.ndarray) -> np.ndarray:
    """The distance from each section to the nearest wedge's middle by least squares, (len(dims), S)."""
    bases = [random_basis(starts.shape[1], int(dims[-1]), seed) for seed in range(len(starts))]
    rows = [
        [float(section_distances(model, start, basis[:, :d]).min()) for start, basis in zip(starts, bases, strict=True)]
        for d in dims
    ]
    return np.array(rows)


def measure_planes(subject: Subject, seeds: int) -> Arrays:
    """Planar cuts: through the origin, an optimum and a random direction from the origin, and through three optima."""
    optima = subject.optima(3)
    length = float(optima[0].norm())
    away = length * random_basis(optima.shape[1], 1, 0)[:, 0].to(optima)
    radial = cut_plane_through(subject.objective, torch.stack([0 * away, optima[0], away]), margin=0.6, points=31)
    through = cut_plane_through(subject.objective, optima, points=31)
    return {**_plane_arrays("radial", radial), **_plane_arrays("through", through)}


def _plane_arrays(name: str, plane: PlaneLosses) -> Arrays:
    return {f"{name}_{key}": getattr(plane, key).numpy() for key in ("x", "y", "losses", "marks")}


def measure_widths(subject: Subject, seeds: int) -> Arrays:
    """Tunnel widths at matched training loss for each value of each knob; NaN where that loss is not reached."""
    arrays: Arrays = {"cut": np.array(subject.cut), "low": np.array(subject.low)}
    for knob, values in subject.knobs.items():
        table = np.array([[_width(subject, seed, knob, value) for seed in range(seeds)] for value in values])
        arrays |= {
            f"{knob}/values": np.array(values),
            f"{knob}/angles": table[:, :, 0],
            f"{knob}/radii": table[:, :, 1],
        }
    return arrays


def _width(subject: Subject, seed: int, knob: str, value: float) -> tuple[float, float]:
    """The mean angle and the distance from the origin of one optimum."""
    try:
        found = subject.optimise(seed, **{knob: value})
    except InvalidData:
        return np.nan, np.nan
    width = measure_tunnel_width(found.objective, found.theta[None], subject.cut, points=31)
    return float(width.mean), float(width.radius)


def measure_tunnels(subject: Subject, seeds: int) -> Arrays:
    """m-tunnels for m = 2 to 5: losses on spokes, edges and inside; the triangle map for m = 3; curvature at centres.

    The short directions at the centres: on the model those of the wedges that a centre lies on, beside the rank for m
    wedges, m up to 6; elsewhere the eigenvalues of the Hessian above a cut, for m = 1 at single optima.
    """
    optima = subject.optima(MAX_M)
    tunnels = {m: _fit(subject, optima[:m]) for m in range(2, MAX_M + 1)}
    names = ("worst", "flat_worst", "flat_barrier")
    arrays: Arrays = {name: np.array([getattr(each, name) for each in tunnels.values()]) for name in names}
    arrays["m"] = np.array(list(tunnels))
    for m, tunnel in tunnels.items():
        arrays |= {f"{name}-{m}": each for name, each in _tunnel_arrays(tunnel).items()}
    arrays |= _triangle_maps(subject, tunnels[3])
    if isinstance(subject.objective, WedgeObjective):
        centre_wedges = [len(wedges_at(subject.objective, each.sheet.centre, subject.low)) for each in tunnels.values()]
        return arrays | {"centre_wedges": np.array(centre_wedges), **_ranks(subject.objective)}
    return arrays | _curvature_of_centres(subject, optima, tunnels)


def _fit(subject: Subject, optima: Tensor) -> Tunnel:
    return fit_tunnel(subject.objective, optima, lr=subject.tunnel_lr, steps=subject.tunnel_steps)


def _tunnel_arrays(tunnel: Tunnel) -> Arrays:
    names = ("spoke_losses", "flat_spoke_losses", "edge_losses", "flat_edge_losses", "interior_losses")
    return {name: getattr(tunnel, name).numpy() for name in names}


def _triangle_maps(subject: Subject, tunnel: Tunnel) -> Arrays:
    b = triangle(25)
    flat = type(tunnel.sheet).flat(tunnel.sheet.optima)
    return {
        "triangle": b.numpy(),
        "triangle_losses": sheet_losses(subject.objective, tunnel.sheet, b).numpy(),
        "triangle_flat_losses": sheet_losses(subject.objective, flat, b).numpy(),
    }


def _ranks(model: WedgeObjective) -> Arrays:
    m = np.arange(1, min(6, len(model.axes)) + 1)
    ranks = [shared_short_directions(model, range(count)) for count in m]
    return {"rank_m": m, "ranks": np.array(ranks), "short": np.array(model.short)}


def _curvature_of_centres(subject: Subject, optima: Tensor, tunnels: Mapping[int, Tunnel]) -> Arrays:
    """Upper ends of spectra at one loss, the lowest of all: of every optimum (m = 1), and of every sheet's centre.

    Of the centres also as they were found: their loss rises with m, and curvature with the loss.
    """
    objective = subject.objective
    centres = torch.stack([each.sheet.centre for each in tunnels.values()])
    points = torch.cat([optima, centres])
    matched = float(objective.loss(points).min())
    found = [measure_short_directions(objective, descend_to_loss(objective, p, matched), CURVATURE_K) for p in points]
    before = [measure_short_directions(objective, p, CURVATURE_K) for p in centres]
    cut = smallest_common_cut(found + before)
    m = np.array([1] * len(optima) + list(tunnels))
    counts = np.array([each.count(cut) for each in found])
    return {
        "curvature_m": m,
        "eigenvalues": np.stack([each.eigenvalues.numpy() for each in found]),
        "traces": np.array([each.trace for each in found]),
        "trace_errors": np.array([each.trace_error for each in found]),
        "curvature_losses": np.array([each.loss for each in found]),
        "short_cut": np.array(cut),
        "short_counts": counts,
        "short_grow": np.array(grow_with_m(m, counts)),
        "centre_losses": np.array([each.loss for each in before]),
        "centre_counts": np.array([each.count(cut) for each in before]),
    }


def measure_ensembles(subject: Subject, seeds: int) -> Arrays:
    """SWA against FGE: of the members that a cyclic learning rate collects from one optimum, and of several optima."""
    optima = subject.optima(seeds)
    within = [compare_ensembles(subject.judge, subject.cycle(each, seed)) for seed, each in enumerate(optima)]
    count = len(within[0].member_losses)
    groups = [subject.optima(min(count, 4), first=100 * (seed + 1)) for seed in range(seeds)]
    across = [compare_ensembles(subject.judge, each) for each in groups]
    return {
        **_ensemble_arrays("within", within),
        **_ensemble_arrays("across", across),
        "form": np.array(within[0].form),
    }


def _ensemble_arrays(name: str, found: Sequence[EnsembleComparison]) -> Arrays:
    arrays: Arrays = {
        f"{name}_member_losses": np.array([float(each.member_losses.mean()) for each in found]),
        f"{name}_swa_losses": np.array([each.swa_loss for each in found]),
        f"{name}_fge_losses": np.array([each.fge_loss for each in found]),
        f"{name}_spreads": np.array([each.spread for each in found]),
    }
    if found[0].member_accuracies is not None:
        arrays |= {
            f"{name}_member_accuracies": np.array([float(each.member_accuracies.mean()) for each in found]),  # pyright: ignore[reportOptionalMemberAccess]
            f"{name}_swa_accuracies": np.array([each.swa_accuracy for each in found], float),
            f"{name}_fge_accuracies": np.array([each.fge_accuracy for each in found], float),
        }
    return arrays


def measure_radius(subject: Subject, seeds: int) -> Arrays:
    """Curvature against the distance from the origin, along the rays through initial points."""
    sweep = sweep_radius(subject.objective, _starts(subject, min(seeds, 3)), subject.radii)
    names = ("losses", "traces", "frobenius_norms", "largest", "smallest", "positivity", "ray_radii")
    return {"radii": np.array(sweep.radii), **{name: getattr(sweep, name).numpy() for name in names}}


EXPERIMENTS: Mapping[str, Experiment] = {
    "paths": measure_paths,
    "subspaces": measure_subspaces,
    "planes": measure_planes,
    "widths": measure_widths,
    "tunnels": measure_tunnels,
    "ensembles": measure_ensembles,
    "radius": measure_radius,
}


def compute_unit(unit: str, *, seeds: int) -> Arrays:
    """The arrays of one unit, "digits-tunnels" for example, and the CPU seconds that it took."""
    name, _, experiment = unit.partition("-")
    start = time.process_time()
    arrays = dict(EXPERIMENTS[experiment](SUBJECTS[name](), seeds))
    return {**arrays, "cpu_seconds": np.array(time.process_time() - start)}


def run_large_scale(
    folder: str | Path,
    *,
    subjects: Sequence[str] = ("wedges", "digits"),
    experiments: Sequence[str] = tuple(EXPERIMENTS),
    seeds: int = 5,
    workers: int = 1,
    environment: Mapping[str, Any] | None = None,
    callback: Callable[[float, int, str], None] | None = None,
) -> dict[str, Result]:
    """Runs experiments on subjects; what ``folder`` holds already is not computed again.

    Args:
        subjects: from ``SUBJECTS``.
        experiments: from ``EXPERIMENTS``.
        seeds: runs of each kind; those that are dear take fewer, and say so by the shapes of their arrays.
        workers, environment, callback: see ``run_units``.

    Returns:
        The result of each unit, by its name: the subject, a hyphen, the experiment.
    """
    for kind, given, known in (("subjects", subjects, SUBJECTS), ("experiments", experiments, EXPERIMENTS)):
        unknown = [each for each in given if each not in known]
        require(
            bool(given) and not unknown, f"{kind} must be from {', '.join(known)}, got {', '.join(given) or 'none'}"
        )
    require(seeds >= 2, f"seeds must be at least 2, got {seeds}")
    units = [f"{subject}-{experiment}" for experiment in experiments for subject in subjects]
    compute = partial(compute_unit, seeds=seeds)
    configuration = {"experiment": "large-scale structure", "version": VERSION, "seeds": seeds}
    options: dict[str, Any] = {"workers": workers, "environment": environment, "callback": callback}
    found = run_units(folder, configuration, units, compute, **options)
    return dict(zip(units, found, strict=True))
