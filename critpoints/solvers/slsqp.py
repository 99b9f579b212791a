"""Refinement by SciPy's SLSQP, one row at a time, as in the seed study."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import minimize
from torch import Tensor

from critpoints.curvature.dense import row_norm
from critpoints.errors import STATUS_CODES, Status
from critpoints.objectives.base import Objective
from critpoints.solvers.base import Callback, State

_LOSS_CHANGED = 1e-18  # SLSQP's ftol is absolute; below this no loss of the study can still fall
_LIMIT_REACHED = 9  # SLSQP's exit mode at its iteration limit


def minimise_rows(
    objective: Objective, theta: Tensor, *, gtol: float, max_iterations: int, callback: Callback | None = None
) -> State:
    """Minimises every row of ``theta`` (S, P); a row that SLSQP makes worse, or non-finite, keeps its start."""

    def value_and_gradient(point: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        loss, gradient = objective.loss_and_gradient(torch.from_numpy(point.copy())[None])
        return float(loss[0]), gradient[0].cpu().numpy()

    ends, outcomes = theta.clone(), []
    start_loss, start_gradient = objective.loss_and_gradient(theta)
    usable = torch.isfinite(start_loss) & torch.isfinite(start_gradient).all(-1)
    for row, start in enumerate(theta):
        if not bool(usable[row]):
            outcomes.append((0, 0, Status.NON_FINITE))
            continue
        result = minimize(
            value_and_gradient,
            start.cpu().numpy().astype(np.float64),
            jac=True,
            method="SLSQP",
            options={"ftol": _LOSS_CHANGED, "maxiter": max_iterations},
        )
        if np.isfinite(result.x).all() and result.fun <= float(start_loss[row]):
            ends[row] = torch.from_numpy(result.x).to(ends)
        reason = {0: Status.LOSS_TOLERANCE, _LIMIT_REACHED: Status.ITERATION_LIMIT}
        outcomes.append((result.nit, result.nfev, reason.get(result.status, Status.SOLVER_FAILED)))
        if callback is not None:
            callback(row + 1, len(theta))
    here = objective.second_order(ends)
    norm = row_norm(here.gradient)
    # The compiled sums differ from the batch's by rounding alone; report what the objective says of the end point.
    worse = usable & (here.loss > start_loss)
    ends = torch.where(worse.unsqueeze(-1), theta, ends)
    if bool(worse.any()):
        here = objective.second_order(ends)
        norm = row_norm(here.gradient)
    status = [
        STATUS_CODES[_status(reason, float(n), float(noise), gtol)]
        for (_, _, reason), n, noise in zip(outcomes, norm, here.gradient_noise, strict=True)
    ]
    return {
        "theta": ends,
        "loss": here.loss,
        "gradient": here.gradient,
        "noise": here.gradient_noise,
        "iterations": torch.tensor([n for n, _, _ in outcomes], dtype=torch.int64),
        "evaluations": torch.tensor([n for _, n, _ in outcomes], dtype=torch.int64),
        "status": torch.tensor(status, dtype=torch.int64),
    }


def _status(reason: Status, norm: float, noise: float, gtol: float) -> Status:
    if reason is Status.NON_FINITE:
        return reason
    if norm <= gtol:
        return Status.CONVERGED
    return Status.ROUNDING if norm <= noise else reason
