"""critpoints spectrum: extreme eigenvalues, spectral density and verdict of a user's own network."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from . import options
from .exit_codes import ExitCode
from .output import number, print_json, print_table, say

if TYPE_CHECKING:
    from torch import Tensor

    from critpoints.curvature.density import SpectralDensity
    from critpoints.curvature.lanczos import Eigenpairs
    from critpoints.curvature.operator import HessianOperator
    from critpoints.objectives.base import Objective
    from critpoints.verdict import Verdict

    from .progress import Spinner

PROBES, STEPS = 8, 64  # of the density


@dataclass(frozen=True)
class _Findings:
    """What one run of the command found."""

    hessian: HessianOperator
    pairs: Eigenpairs
    density: SpectralDensity | None
    verdict: Verdict
    products: int


@click.command(short_help="Eigenvalues and verdict of your own network.")
@click.argument("source", metavar="FILE.py:FUNCTION")
@click.option("--k", type=click.IntRange(1, 10_000), default=10, show_default=True, help="How many eigenvalues.")
@click.option(
    "--which",
    type=click.Choice(["LA", "SA", "LM", "BE"], case_sensitive=False),
    default="BE",
    show_default=True,
    help="Largest, smallest, largest in magnitude, or from both ends.",
)
@click.option("--tol", type=float, default=1e-6, show_default=True, help="Residual of a pair, relative to its value.")
@click.option("--density", "with_density", is_flag=True, help="Estimate the density of all eigenvalues.")
@click.option("--seed", type=click.IntRange(0, 2**62), default=0, show_default=True, help="Seed of random vectors.")
@click.option("--quiet", is_flag=True, help="No progress display.")
@options.threads
@options.figures
@options.as_json
def spectrum(
    *,
    source: str,
    k: int,
    which: str,
    tol: float,
    with_density: bool,
    seed: int,
    quiet: bool,
    figures: Path | None,
    as_json: bool,
) -> int:
    """Find the extreme eigenvalues of a Hessian, with error bounds, and say what kind of point it is.

    The function, in a file or in package.module:function, takes no arguments and returns a ModuleObjective, or another
    Objective together with a point: (objective, theta). --figures draws the spectral density. The exit code is 5 if
    some eigenvalues have not converged.
    """
    from .figures import check_folder, save_figure
    from .progress import Spinner

    objective, theta = _load(source)
    if figures is not None:
        check_folder(figures)
    with Spinner(quiet=quiet) as spinner:
        found = _find(objective, theta, spinner, k, which, tol, with_density or figures is not None, seed)
    if figures is not None and found.density is not None:
        from critpoints.plots.density import spectral_density_curve

        title = f"{source}, {found.verdict.kind.value.replace('_', ' ')}"
        save_figure(
            spectral_density_curve(found.density, eigenvalues=found.pairs.values, title=title),
            figures,
            "spectral_density",
        )
    if as_json:
        print_json(_document(source, found))
    else:
        _print(source, found)
    return ExitCode.DONE if bool(found.pairs.converged.all()) else ExitCode.INCOMPLETE


def _load(source: str) -> tuple[Objective, Tensor]:
    """The objective and the point that a user's function returns."""
    import torch

    from critpoints.errors import InvalidArgument
    from critpoints.objectives.base import Objective
    from critpoints.objectives.module import ModuleObjective
    from critpoints.study.problems import failures_of, load_function

    function = load_function(source)[0]
    with failures_of(source):
        made = function()
    objective, theta = made if isinstance(made, tuple) and len(made) == 2 else (made, None)
    if not isinstance(objective, Objective):
        raise InvalidArgument(f"{source} must return an Objective, it returned {type(objective).__name__}")
    if theta is None and isinstance(objective, ModuleObjective):
        theta = objective.parameters_vector()
    if theta is None:
        raise InvalidArgument(
            f"{source} must return (objective, theta): a {type(objective).__name__} has no parameters"
        )
    return objective, torch.as_tensor(theta)


def _find(
    objective: Objective,
    theta: Tensor,
    spinner: Spinner,
    k: int,
    which: str,
    tol: float,
    with_density: bool,
    seed: int,
) -> _Findings:
    from critpoints.classification import classify
    from critpoints.curvature.density import spectral_density
    from critpoints.curvature.lanczos import eigsh
    from critpoints.curvature.operator import HessianOperator
    from critpoints.matrix_free import judge, needs_products

    spinner.update("preparing Hessian-vector products")
    hessian = HessianOperator(objective, theta)
    k = min(k, hessian.dim)

    def report(converged: int, products: int) -> None:
        spinner.update(f"eigenvalues: {converged} of {k} converged, {products} products")

    pairs = eigsh(hessian, k, which, tol=tol, seed=seed, callback=report)
    density = None
    if with_density:
        spinner.update(f"density: {PROBES * STEPS} products")
        density = spectral_density(hessian, PROBES, STEPS, seed=seed)
    products = hessian.products
    spinner.update("verdict")
    if needs_products(objective, hessian.theta):
        counts = density.inertia() if density is not None else None
        vectors = pairs.vectors if which == "BE" and k > 1 else None  # the verdict needs both ends
        verdict = judge(objective, theta, vectors=vectors, counts=counts, seed=seed)
    else:
        verdict = classify(objective, theta)[0]
    return _Findings(hessian, pairs, density, verdict, products)


def _document(source: str, found: _Findings) -> dict[str, Any]:
    verdict = {name: value for name, value in found.verdict.to_dict().items() if name not in ("theta", "eigenvalues")}
    return {
        "source": source,
        "parameters": found.hessian.dim,
        "dtype": str(found.hessian.dtype).removeprefix("torch."),
        "device": str(found.hessian.device),
        "products": found.products,
        "eigenpairs": found.pairs.to_dict(),
        "density": found.density.to_dict() if found.density is not None else None,
        "verdict": verdict,
    }


def _print(source: str, found: _Findings) -> None:
    hessian, pairs, verdict = found.hessian, found.pairs, found.verdict
    dtype = str(hessian.dtype).removeprefix("torch.")
    print(f"{source}: {hessian.dim} parameters, {dtype} on {hessian.device}")
    columns = (pairs.values, pairs.residuals, pairs.error_bounds, pairs.converged)
    rows = [
        (f"{value:.8g}", number(residual, 2), number(bound, 2), "yes" if converged else "no")
        for value, residual, bound, converged in zip(*(each.tolist() for each in columns), strict=True)
    ]
    print_table("", ("eigenvalue", "residual", "error at most", "converged"), rows, texts=(3,))
    print(f"{found.products} Hessian-vector products ({hessian.strategy}), {pairs.method}")
    if found.density is not None:
        counts = found.density.inertia()
        numbers = zip(("negative", "near zero", "positive"), _counts(counts), strict=True)
        print(f"about {', '.join(f'{each} {name}' for name, each in numbers)}; near zero: up to {counts.threshold:.2g}")
    print(f"loss {verdict.loss:.6g}, gradient norm {verdict.gradient_norm:.3g}")
    print(f"verdict: {verdict.kind.value.replace('_', ' ')}: {verdict.evidence.reason}")
    if not bool(pairs.converged.all()):
        say("some eigenvalues have not converged; their bounds hold, a larger --tol asks for less")


def _counts(counts: Any) -> list[str]:
    estimates = (counts.negative, counts.near_zero, counts.positive)
    return [f"{value:.0f} ± {error:.0f}" for value, error in zip(estimates, counts.standard_errors, strict=True)]
