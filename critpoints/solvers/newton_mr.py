"""Newton-MR: steps of least residual |H p + g| that decrease the gradient's norm, towards a critical point of any kind.

Source: Roosta, Liu, Xu and Mahoney, Newton-MR: inexact Newton method with minimum residual sub-problem solver, 2022.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from critpoints.errors import Status
from critpoints.objectives.base import Objective
from critpoints.solvers.base import State, codes
from critpoints.solvers.krylov import GradientSpace, end_rows, first_state

ARMIJO = 1e-4
SHORTEST = 1e-8  # part of the step below which the line search gives up
EXHAUSTED = 1e-8  # |Hr| / (|H| |r|) at which no more of the residual r can be removed: Choi, Paige, Saunders, 2011
FLAT = 1e-3  # |Hg| / (|H| |g|) up to which a stalled gradient counts as in the Hessian's kernel


@dataclass(frozen=True)
class NewtonMR:
    """The method for ``solvers.base.iterate``; products of the Hessian only.

    Attributes:
        gtol: gradient norm to reach.
        krylov_size: most products a step; that many vectors of length P are kept.
    """

    gtol: float = 1e-13
    krylov_size: int = 100

    def start(self, objective: Objective, theta: Tensor) -> State:
        """Evaluates the start."""
        stuck = torch.zeros(len(theta), dtype=torch.bool, device=theta.device)
        return end_rows(objective, first_state(objective, theta), self.gtol, stuck)

    def advance(self, objective: Objective, state: State) -> State:
        """One step of every row."""
        state = {name: value.clone() for name, value in state.items()}
        stuck = torch.zeros_like(state["status"], dtype=torch.bool)
        flatness = torch.ones_like(state["loss"])
        for row in range(len(stuck)):
            flatness[row], accepted = self._advance_row(objective, state, row)
            stuck[row] = not accepted
        state["iterations"] += 1
        flat = (stuck & (flatness <= FLAT), Status.GRADIENT_FLAT)
        return end_rows(objective, state, self.gtol, stuck, [flat])

    def _advance_row(self, objective: Objective, state: State, row: int) -> tuple[float, bool]:
        """Moves one row; returns |Hg| / (|H| |g|) and whether the gradient's norm fell enough."""
        theta, gradient = state["theta"][row], state["gradient"][row]
        space = GradientSpace(objective, theta, gradient, self.krylov_size)
        coefficients = least_residual(space)
        step = space.step(coefficients)
        norm, first = space.length, space.extended[:, 0]
        state["evaluations"][row] += space.basis.operator.products
        slope = 2 * norm * float(coefficients @ first[: len(coefficients)])  # of |g|^2 along the step: 2 <p, Hg>
        fraction = 1.0
        while slope < 0 and fraction >= SHORTEST:
            trial = theta + fraction * step
            loss, there = objective.loss_and_gradient(trial)
            state["evaluations"][row] += 1
            if float(there.double().norm()) ** 2 <= norm**2 + ARMIJO * fraction * slope:
                state["theta"][row], state["loss"][row], state["gradient"][row] = trial, loss, there
                return 1.0, True
            fraction *= 0.5
        return float(np.linalg.norm(first)) / max(space.basis.norm, 1e-300), False

    def finish(self, state: State) -> Tensor:
        """Rows that still move when the iterations are used up."""
        return codes(Status.ITERATION_LIMIT, state["loss"])


def least_residual(space: GradientSpace) -> np.ndarray:
    """Coefficients of the p of least |H p + g| in a Krylov space grown until that is small, or least possible.

    The forcing term min(1/10, sqrt|g|) makes the convergence superlinear (Eisenstat and Walker, 1996).
    """
    forcing, found, before = min(0.1, space.length**0.5), np.zeros(0), np.zeros(0)

    def done() -> bool:
        nonlocal found, before
        matrix = space.extended
        # the residual of the space before lies within this one: H times it is known now, and 0 at a least one
        if len(before) and _reducible(matrix, before) <= EXHAUSTED * space.basis.norm:
            return True
        target = np.zeros(len(matrix))
        target[0] = -space.length
        found = np.linalg.lstsq(matrix, target, rcond=None)[0]
        before = (matrix @ found - target)[: space.basis.size + 1]
        return space.basis.broke_down or float(np.linalg.norm(before)) <= forcing * space.length

    space.grow_until(done)
    return found


def _reducible(matrix: np.ndarray, residual: np.ndarray) -> float:
    """|Hr| / |r| of a residual in the space."""
    return float(np.linalg.norm(matrix[:, : len(residual)] @ residual) / max(np.linalg.norm(residual), 1e-300))
