"""refine: from the end of training to a critical point, to the accuracy of float64."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import Tensor

from critpoints.curvature.dense import row_norm
from critpoints.errors import InvalidArgument, Status, require
from critpoints.objectives.base import Objective
from critpoints.solvers.base import Callback, Method, iterate, statuses, to_plain
from critpoints.solvers.krylov import norms
from critpoints.solvers.krylov_trust_region import KrylovTrustRegion
from critpoints.solvers.newton import TrustRegionNewton
from critpoints.solvers.newton_mr import NewtonMR

DEFAULT_ITERATIONS = {"newton": 500, "slsqp": 2000, "newton-mr": 200, "newton-krylov": 500}
DENSE_LIMIT = 1000  # parameters up to which "newton" forms Hessians


@dataclass(frozen=True)
class Refinement:
    """Refined points and how they were reached.

    Attributes:
        theta: (S, P).
        loss: (S,), never above the loss at the start, except by ``newton-mr``.
        gradient_norm: (S,).
        gradient_noise: (S,), the rounding error of the gradient sum: no smaller norm can be told from zero. The
            matrix-free methods measure it where a row ends, by moving every parameter by its last bit.
        iterations, evaluations: (S,), iterations and evaluations of the objective; a Hessian-vector product counts one.
        status: why each row stopped.
    """

    theta: Tensor
    loss: Tensor
    gradient_norm: Tensor
    gradient_noise: Tensor
    iterations: Tensor
    evaluations: Tensor
    status: tuple[Status, ...]

    def to_dict(self) -> dict[str, Any]:
        """A JSON-ready dictionary."""
        return to_plain(self)


def refine(
    problem: Objective,
    theta: Tensor,
    *,
    method: str = "newton",
    gtol: float = 1e-13,
    max_iterations: int | None = None,
    patience: int = 3,
    callback: Callback | None = None,
) -> Refinement:
    """Refines every row of ``theta`` (S, P) to a critical point; the loss of no row rises, except by ``newton-mr``.

    Args:
        method: ``newton`` (batched trust region on the dense Hessian, for more than 1000 parameters
            ``newton-krylov``); ``newton-krylov`` (trust region by Hessian-vector products); ``newton-mr`` (decreases
            the gradient's norm by Hessian-vector products, towards a critical point of any kind, saddles too); or
            ``slsqp`` (SciPy, one row at a time, as in the seed study).
        gtol: gradient norm to reach; rows that reach the rounding error of their gradient first have status ROUNDING.
        max_iterations: 500 for the trust regions, 200 for Newton-MR, 2000 for SLSQP.
        patience: for Newton: how many windows of 50 iterations, in each of which the parameters grow while the loss
            hardly falls, end a row with status GROWING_NORM.
        callback: callback(rows finished, rows).

    Raises:
        InvalidArgument: an unknown method, a tolerance that is not positive, parameters that do not fit.
    """
    require(gtol > 0, f"gtol must be positive, got {gtol}")
    if method not in DEFAULT_ITERATIONS:
        raise InvalidArgument(f"method must be one of {', '.join(DEFAULT_ITERATIONS)}, got {method!r}")
    limit = DEFAULT_ITERATIONS[method] if max_iterations is None else max_iterations
    require(limit >= 1, f"max_iterations must be at least 1, got {limit}")
    theta = problem.validate(theta).detach()
    require(theta.ndim == 2, f"theta must have shape (S, P), got {tuple(theta.shape)}")
    if method == "newton" and theta.shape[1] > DENSE_LIMIT:
        method = "newton-krylov"
    if method == "slsqp":
        from critpoints.solvers.slsqp import minimise_rows

        state = minimise_rows(problem, theta, gtol=gtol, max_iterations=limit, callback=callback)
    else:
        methods: dict[str, Method] = {
            "newton": TrustRegionNewton(gtol, patience),
            "newton-krylov": KrylovTrustRegion(gtol),
            "newton-mr": NewtonMR(gtol),
        }
        state = iterate(methods[method], problem, theta, max_iterations=limit, callback=callback)
    return Refinement(
        theta=state["theta"],
        loss=state["loss"],
        gradient_norm=row_norm(state["gradient"]) if method in ("newton", "slsqp") else norms(state["gradient"]),
        gradient_noise=state["noise"],
        iterations=state["iterations"],
        evaluations=state.get("evaluations", state["iterations"] + 1),
        status=statuses(state["status"]),
    )
