"""From a point to a verdict: rules applied in order of strength, each with its evidence."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from critpoints.curvature.dense import eigensystem, eigenvalue_noise, newton_steps, row_norm
from critpoints.errors import Status, require
from critpoints.objectives.base import Objective
from critpoints.solvers.refinement import Refinement
from critpoints.verdict import Evidence, Kind, Verdict, Verdicts

CRITICAL = 1e-11  # gradient norm of a refined point; a point above it and above its rounding is not critical
STEP = 1e-3  # a Newton step longer than this fraction of the point is no polishing: nothing is isolated there


@dataclass(frozen=True)
class Spectrum:
    """Second-order data of points, whether critical or not.

    Attributes:
        eigenvalues: (S, P), ascending.
        noise_floor: (S,), the rounding error of an eigenvalue.
        index, nullity: (S,), eigenvalues below minus the floor, and within it.
        loss, gradient_norm, gradient_noise: (S,).
        newton_step: (S,), length of the undamped Newton step from the point.
    """

    eigenvalues: Tensor
    noise_floor: Tensor
    index: Tensor
    nullity: Tensor
    loss: Tensor
    gradient_norm: Tensor
    gradient_noise: Tensor
    newton_step: Tensor


def raw_spectrum(problem: Objective, theta: Tensor) -> Spectrum:
    """The spectrum of the Hessian at every row of ``theta`` (S, P), and the noise that its signs must beat."""
    here = problem.second_order(problem.validate(theta).detach())
    system = eigensystem(here.hessian)
    floor = eigenvalue_noise(system.values)
    values = system.values
    return Spectrum(
        eigenvalues=values,
        noise_floor=floor,
        index=(values < -floor.unsqueeze(-1)).sum(-1),
        nullity=(values.abs() <= floor.unsqueeze(-1)).sum(-1),
        loss=here.loss,
        gradient_norm=row_norm(here.gradient),
        gradient_noise=here.gradient_noise,
        newton_step=row_norm(newton_steps(here.gradient, system, floor)),
    )


def negative_eigenvalue_causes(raw: Spectrum, verdicts: Verdicts) -> dict[str, int]:
    """Why smallest eigenvalues after training are negative: the seed study's question, counted.

    ``rounding``: within the noise floor. ``saddle``: the refined point is a saddle. ``undecided``: the refined point
    has no kind. ``unconverged``: everything else, since the refined point has no negative eigenvalue.
    """
    causes = {"rounding": 0, "unconverged": 0, "saddle": 0, "undecided": 0}
    for row, verdict in enumerate(verdicts):
        if not float(raw.eigenvalues[row, 0]) < 0:
            continue
        if float(raw.eigenvalues[row, 0]) >= -float(raw.noise_floor[row]):
            causes["rounding"] += 1
        elif verdict.kind in (Kind.STRICT_SADDLE, Kind.DEGENERATE_SADDLE):
            causes["saddle"] += 1
        elif verdict.kind is Kind.UNDECIDED:
            causes["undecided"] += 1
        else:
            causes["unconverged"] += 1
    return causes


def classify(
    problem: Objective,
    theta: Tensor,
    *,
    refinement: Refinement | None = None,
    known_minimum: float | None = None,
) -> Verdicts:
    """Says what every row of ``theta`` (S, P), or (P,), is.

    The rules ask for a gradient at its rounding error and decide by the signs of the spectrum beyond its noise floor.
    A point is a minimum or a saddle only if a Newton step from it is short; whatever float64 cannot decide is
    ``undecided``, with the reason.

    Args:
        problem: any objective with a dense Hessian.
        refinement: how the points were reached; its statuses go into the reasons.
        known_minimum: the optimal loss, where it is known; a point within rounding of it is not called a strict
            (non-global) minimum.

    Raises:
        InvalidArgument: parameters that do not fit the problem.
    """
    theta = problem.validate(torch.atleast_2d(torch.as_tensor(theta))).detach()
    require(theta.ndim == 2, f"theta must have shape (S, P), got {tuple(theta.shape)}")
    spectrum = raw_spectrum(problem, theta)
    status = refinement.status if refinement is not None else (None,) * len(theta)
    return Verdicts.gather([_judge(theta, spectrum, row, status[row], known_minimum) for row in range(len(theta))])


def _figures(spectrum: Spectrum, row: int, status: Status | None) -> dict[str, float | str]:
    figures: dict[str, float | str] = {
        "gradient_noise": float(spectrum.gradient_noise[row]),
        "newton_step": float(spectrum.newton_step[row]),
        "smallest_eigenvalue": float(spectrum.eigenvalues[row, 0]),
        "largest_eigenvalue": float(spectrum.eigenvalues[row, -1]),
    }
    return figures | ({"refinement": status.name.lower()} if status is not None else {})


def _judge(theta: Tensor, spectrum: Spectrum, row: int, status: Status | None, known: float | None) -> Verdict:
    kind, reason = _kind(theta[row], spectrum, row, status, known)
    return Verdict(
        kind=kind,
        index=int(spectrum.index[row]),
        nullity=int(spectrum.nullity[row]),
        level=None,
        loss=float(spectrum.loss[row]),
        gradient_norm=float(spectrum.gradient_norm[row]),
        eigenvalues=spectrum.eigenvalues[row],
        noise_floor=float(spectrum.noise_floor[row]),
        evidence=Evidence(reason, figures=_figures(spectrum, row, status)),
        theta=theta[row],
    )


def _kind(
    theta: Tensor, spectrum: Spectrum, row: int, status: Status | None, known: float | None
) -> tuple[Kind, str]:
    norm, noise = float(spectrum.gradient_norm[row]), float(spectrum.gradient_noise[row])
    index, nullity = int(spectrum.index[row]), int(spectrum.nullity[row])
    if not (norm < float("inf") and bool(torch.isfinite(spectrum.eigenvalues[row]).all())):
        return Kind.UNDECIDED, "the loss, gradient or Hessian is not finite"
    if norm > max(CRITICAL, noise):
        said = f"; the refinement says: {status.value}" if status is not None else ""
        return Kind.UNDECIDED, f"not a critical point: gradient norm {norm:.1e}, its rounding error {noise:.1e}{said}"
    if index == len(spectrum.eigenvalues[row]):
        return Kind.STRICT_MAXIMUM, f"gradient norm {norm:.1e} and all {index} eigenvalues negative beyond rounding"
    if index > 0:
        lowest = float(spectrum.eigenvalues[row, 0])
        return Kind.STRICT_SADDLE, f"gradient norm {norm:.1e} and {index} negative eigenvalues, the lowest {lowest:.2e}"
    if nullity > 0:
        return Kind.UNDECIDED, f"{nullity} eigenvalues within rounding of zero: second order does not decide"
    if float(spectrum.newton_step[row]) > STEP * (1 + float(theta.norm())):
        return Kind.UNDECIDED, "the Newton step is not short: a channel or a nearly singular valley, not a minimum"
    loss = float(spectrum.loss[row])
    if known is not None and loss - known <= 1e-20 + 1e-12 * abs(known):
        return Kind.UNDECIDED, f"the loss {loss:.1e} is within rounding of the optimum: not shown to be global"
    lowest = float(spectrum.eigenvalues[row, 0])
    return Kind.STRICT_MINIMUM, f"gradient norm {norm:.1e}, smallest eigenvalue {lowest:.2e}, short Newton step"
