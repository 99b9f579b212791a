"""Saddle search: batched eigenvector following towards a chosen index, and Newton's method on the gradient's norm.

With a target index k the quadratic model is maximised over the k lowest eigenvectors and minimised over the others, in
a trust region: the lowest k eigenvalues and the gradient's components along them change sign, and the exact
trust-region step of that model is taken, the hard case included. Only a critical point of index k attracts these steps.
Source: C. J. Cerjan and W. H. Miller, J. Chem. Phys. 75 (1981) 2800; J. Baker, J. Comput. Chem. 7 (1986) 385.

Without a target, |g + H p|^2 is minimised in the trust region, which leads to a critical point of any index or to a
gradient-flat point, where H g = 0 (Frye et al., arXiv 2003.10397). The matrix-free form is ``newton_mr``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numba
import numpy as np
import torch
from torch import Tensor

from critpoints.curvature.dense import (
    Eigensystem,
    TrustRegionSteps,
    eigensystem,
    eigenvalue_noise,
    newton_steps,
    row_norm,
    trust_region_steps,
)
from critpoints.curvature.flatness import gradient_flatness
from critpoints.errors import STATUS_CODES, Status, require
from critpoints.kernels.threads import threads_for
from critpoints.objectives.base import Objective
from critpoints.solvers.base import RUNNING, Callback, State, codes, iterate, statuses, to_plain

ANY = -1  # as a target: no index in particular
ACCEPT, SHRINK, GROW = 0.9, 0.75, 0.25  # error of the model: Nocedal & Wright, algorithm 4.1, for 1 - ratio
RESOLVED = 64 * torch.finfo(torch.float64).eps  # relative: smaller changes of the loss are its rounding
FARTHEST = 30.0  # |theta| beyond this multiple of 1 + |start| is on its way to infinity
SHORT = 1e-6  # relative length of the Newton step next to a critical point
FLAT = 1e-3  # |Hg| / (|H| |g|) up to which a stalled gradient counts as in the kernel of the Hessian
POLISH_STEPS = 6
MAX_ITERATIONS = 300
TINY = torch.finfo(torch.float64).tiny


@dataclass(frozen=True)
class SaddleSearch:
    """The method for ``solvers.base.iterate``.

    Attributes:
        targets: (S,) int64, the index to search for in each row; ``ANY`` for none in particular.
        gtol: gradient norm to reach; a gradient below its own rounding error also counts as reached.
    """

    targets: Tensor
    gtol: float = 1e-13

    def start(self, objective: Objective, theta: Tensor) -> State:
        """Evaluates the start; the first radius is a tenth of the row's length, at least 0.1."""
        here = objective.second_order(theta)
        zeros = torch.zeros(len(theta), dtype=torch.int64, device=theta.device)
        length = row_norm(theta)
        state = {
            "theta": theta.clone(),
            "loss": here.loss,
            "gradient": here.gradient,
            "hessian": here.hessian,
            "noise": here.gradient_noise,
            "radius": torch.clamp(0.1 * length, min=0.1),
            "farthest": FARTHEST * (1 + length),
            "target": self.targets.to(theta.device).clone(),
            "status": zeros.clone(),
            "iterations": zeros.clone(),
            "polished": zeros.clone(),
        }
        return state

    def advance(self, objective: Objective, state: State) -> State:
        """One step of every row: of the modified model, or undamped next to a critical point."""
        state, gradient = dict(state), state["gradient"]
        norm, system = row_norm(gradient), eigensystem(state["hessian"])
        noise = eigenvalue_noise(system.values)
        newton = newton_steps(gradient, system, noise)
        reached = norm <= torch.clamp(state["noise"], min=self.gtol)
        polish = reached & (row_norm(newton) <= SHORT * (1 + row_norm(state["theta"])))
        trial = _model_steps(state, system, noise)
        step = torch.where(polish.unsqueeze(-1), newton, trial.step)
        there = objective.second_order(state["theta"] + step)
        new_norm = row_norm(there.gradient)
        change = _products(state["hessian"], step)
        # With a target no function falls: a step is judged by how far the model misses the change of the loss, relative
        # to what its modes gain, near the end that of the gradient. Without one, by the fall of the gradient's norm.
        gain = trial.predicted_reduction.clamp(min=TINY)
        quadratic = _dot(gradient, step) + 0.5 * _dot(change, step)
        missed = (there.loss - state["loss"] - quadratic).abs() / gain
        lost = row_norm(there.gradient - gradient - change) / (norm + row_norm(change)).clamp(min=TINY)
        resolved = gain > RESOLVED * torch.maximum(state["loss"].abs(), there.loss.abs())
        error = torch.where(resolved, missed, lost)
        shortfall = 1 - 0.5 * (norm**2 - new_norm**2) / gain
        error = torch.where(state["target"] == ANY, shortfall, error)
        accept = torch.where(polish, new_norm < norm, error <= ACCEPT)
        accept &= torch.isfinite(there.loss) & torch.isfinite(new_norm)
        new = {"theta": state["theta"] + step, "loss": there.loss, "gradient": there.gradient}
        new |= {"hessian": there.hessian, "noise": there.gradient_noise}
        for name, value in new.items():
            state[name] = torch.where(accept.reshape(-1, *[1] * (value.ndim - 1)), value, state[name])
        shrink, grow = ~accept | (error > SHRINK), accept & (error <= GROW) & trial.on_boundary
        reduced = 0.25 * torch.minimum(row_norm(step), state["radius"])
        radius = torch.where(shrink, reduced, torch.where(grow, 2 * state["radius"], state["radius"]))
        state["radius"] = torch.where(polish, state["radius"], radius)
        state["iterations"] = state["iterations"] + 1
        state["polished"] = state["polished"] + polish.long()
        settled = polish & (~accept | (new_norm > 0.5 * norm) | (state["polished"] >= POLISH_STEPS))
        return self._judge(state, settled)

    def _judge(self, state: State, settled: Tensor) -> State:
        norm, length, status = row_norm(state["gradient"]), row_norm(state["theta"]), state["status"]
        stuck = state["radius"] <= 1e-13 * (1 + length)
        flat = torch.zeros_like(stuck)
        if bool(stuck.any()):
            flat = stuck & self._is_flat(state)
        for rows, reason in (
            (settled & (norm <= self.gtol), Status.CONVERGED),
            (settled, Status.ROUNDING),
            (length > state["farthest"], Status.GROWING_NORM),
            (flat, Status.GRADIENT_FLAT),
            (stuck, Status.STALLED),
        ):
            status = torch.where(rows & (status == RUNNING), STATUS_CODES[reason], status)
        return state | {"status": status}

    def _is_flat(self, state: State) -> Tensor:
        """Whether the gradient is resolved and nearly in the kernel of the Hessian, as in ``newton_mr``."""
        floor = torch.clamp(state["noise"], min=self.gtol)
        ratio = gradient_flatness(state["gradient"], eigensystem(state["hessian"]), floor).ratio
        return (row_norm(state["gradient"]) > floor) & (ratio <= FLAT)

    def finish(self, state: State) -> Tensor:
        """Rows that still move when the iterations are used up."""
        return codes(Status.ITERATION_LIMIT, state["loss"])


_driver: Any = numba.njit(parallel=True, error_model="numpy", cache=True)


@_driver
def _modify_rows(gradient, values, vectors, target, noise, gradient_noise, new_gradient, new_values, new_vectors):
    """The model to minimise, of every row, with its eigenvalues in ascending order."""
    n_rows, n = gradient.shape
    for row in numba.prange(n_rows):
        along, curvature = np.zeros(n), np.zeros(n)
        for j in range(n):
            for i in range(n):
                along[i] += vectors[row, j, i] * gradient[row, j]
        for i in range(n):
            value = values[row, i]
            # a mode without curvature or slope beyond rounding is left alone: noise over noise is no step
            if abs(value) <= noise[row] and abs(along[i]) <= gradient_noise[row]:
                along[i] = 0.0
            factor = value if target[row] < 0 else (-1.0 if i < target[row] else 1.0)
            along[i], curvature[i] = factor * along[i], factor * value
        order = np.argsort(curvature)
        for k in range(n):
            i = order[k]
            new_values[row, k] = curvature[i]
            for j in range(n):
                new_vectors[row, j, k] = vectors[row, j, i]
                new_gradient[row, j] += vectors[row, j, i] * along[i]


def _model_steps(state: State, system: Eigensystem, noise: Tensor) -> TrustRegionSteps:
    """Minimisers, within the radii, of the model with its lowest modes turned upside down, or of |g + H p|^2 / 2."""
    tensors = (state["gradient"], system.values, system.vectors, state["target"], noise, state["noise"])
    arrays = [t.detach().cpu().numpy() for t in tensors]
    model = [np.zeros_like(arrays[0]), np.empty_like(arrays[1]), np.empty_like(arrays[2])]
    with threads_for(len(model[0])):
        _modify_rows(*arrays, *model)
    gradient, values, vectors = (torch.from_numpy(a).to(state["gradient"].device) for a in model)
    return trust_region_steps(gradient, Eigensystem(values, vectors), state["radius"])


def _dot(left: Tensor, right: Tensor) -> Tensor:
    """Row by row, (S,), summed in one order."""
    total = torch.zeros_like(left[:, 0])
    for j in range(left.shape[1]):
        total = total + left[:, j] * right[:, j]
    return total


def _products(matrices: Tensor, vectors: Tensor) -> Tensor:
    """H p, (S, P), summed column by column, so that no row depends on others."""
    product = torch.zeros_like(vectors)
    for j in range(vectors.shape[1]):
        product = product + matrices[:, :, j] * vectors[:, j : j + 1]
    return product


@dataclass(frozen=True)
class FoundPoints:
    """Where searches ended.

    Attributes:
        theta: (S, P).
        loss, gradient_norm, gradient_noise: (S,).
        target: (S,), the index searched for, -1 for any.
        index, nullity: (S,), eigenvalues below minus their rounding error, and within it.
        iterations: (S,).
        status: why each search stopped; CONVERGED and ROUNDING at critical points, GRADIENT_FLAT at points where the
            gradient is not zero and Newton's method stalls.
    """

    theta: Tensor
    loss: Tensor
    gradient_norm: Tensor
    gradient_noise: Tensor
    target: Tensor
    index: Tensor
    nullity: Tensor
    iterations: Tensor
    status: tuple[Status, ...]

    @property
    def critical(self) -> Tensor:
        """(S,), which rows ended at a critical point, as far as float64 can tell."""
        return torch.tensor([status.is_critical for status in self.status], dtype=torch.bool)

    def to_dict(self) -> dict[str, Any]:
        """A JSON-ready dictionary."""
        return to_plain(self)


def search_saddles(
    problem: Objective,
    theta: Tensor,
    *,
    index: int | Sequence[int] | Tensor | None = None,
    gtol: float = 1e-13,
    max_iterations: int = MAX_ITERATIONS,
    callback: Callback | None = None,
) -> FoundPoints:
    """Searches for a critical point from every row of ``theta`` (S, P), of a chosen index or of any.

    Args:
        index: the target index, one for all rows or one a row; None, or -1 in a row, for any.
        gtol: gradient norm to reach; rows that reach the rounding error of their gradient first have status ROUNDING.
        callback: callback(rows finished, rows).

    Raises:
        InvalidArgument: an index outside 0 .. P, a tolerance that is not positive, parameters that do not fit.

    >>> from critpoints.objectives.zoo import MuellerBrown
    >>> start = torch.tensor([[0.1, 0.4]], dtype=torch.float64)
    >>> [search_saddles(MuellerBrown(), start, index=k).theta.round(decimals=4).tolist() for k in (0, 1)]
    [[[-0.05, 0.4667]], [[0.2125, 0.293]]]
    """
    theta = problem.validate(theta).detach()
    require(theta.ndim == 2, f"theta must have shape (S, P), got {tuple(theta.shape)}")
    require(gtol > 0, f"gtol must be positive, got {gtol}")
    require(max_iterations >= 1, f"max_iterations must be at least 1, got {max_iterations}")
    wanted = torch.as_tensor(ANY if index is None else index, dtype=torch.int64)
    require(
        wanted.ndim == 0 or wanted.shape == theta.shape[:1],
        f"index must be one number or one a row, {len(theta)}, got shape {tuple(wanted.shape)}",
    )
    targets = wanted.expand(len(theta)).clone()
    fits = ((targets >= ANY) & (targets <= theta.shape[1])).all()
    require(bool(fits), f"index must be from 0 to {theta.shape[1]}, or -1 for any, got {index}")
    state = iterate(SaddleSearch(targets, gtol), problem, theta, max_iterations=max_iterations, callback=callback)
    values = eigensystem(state["hessian"]).values
    floor = eigenvalue_noise(values).unsqueeze(-1)
    return FoundPoints(
        theta=state["theta"],
        loss=state["loss"],
        gradient_norm=row_norm(state["gradient"]),
        gradient_noise=state["noise"],
        target=state["target"],
        index=(values < -floor).sum(-1),
        nullity=(values.abs() <= floor).sum(-1),
        iterations=state["iterations"],
        status=statuses(state["status"]),
    )
