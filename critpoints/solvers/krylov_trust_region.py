"""Trust-region Newton without a matrix: the quadratic model is minimised exactly over a Krylov space of the gradient.

Source: Gould, Lucidi, Roma and Toint, Solving the trust-region subproblem using the Lanczos method, 1999. The basis is
orthogonalised in full, and the small problem is solved with its hard case, by ``curvature.dense``.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from critpoints.curvature.dense import TrustRegionSteps, eigensystem, trust_region_steps
from critpoints.errors import Status
from critpoints.objectives.base import Objective
from critpoints.solvers.base import State, codes
from critpoints.solvers.krylov import GradientSpace, end_rows, first_state, norms
from critpoints.solvers.newton import ACCEPT, GROW, SHRINK

POLISHED = 0.5  # factor by which a step must reduce a gradient whose loss no longer resolves progress


@dataclass(frozen=True)
class KrylovTrustRegion:
    """The method for ``solvers.base.iterate``; descends, to a minimum where the saddles on the way are strict.

    Attributes:
        gtol: gradient norm to reach.
        krylov_size: most products a step; that many vectors of length P are kept.
    """

    gtol: float = 1e-13
    krylov_size: int = 100

    def start(self, objective: Objective, theta: Tensor) -> State:
        """Evaluates the start; the first radius is a tenth of the row's length, at least 0.1."""
        state = first_state(objective, theta)
        state["radius"] = torch.clamp(0.1 * norms(theta), min=0.1)
        return end_rows(objective, state, self.gtol, torch.zeros(len(theta), dtype=torch.bool, device=theta.device))

    def advance(self, objective: Objective, state: State) -> State:
        """One step of every row."""
        state = {name: value.clone() for name, value in state.items()}
        stuck = torch.zeros_like(state["status"], dtype=torch.bool)
        for row in range(len(stuck)):
            stuck[row] = not self._advance_row(objective, state, row)
        state["iterations"] += 1
        return end_rows(objective, state, self.gtol, stuck)

    def _advance_row(self, objective: Objective, state: State, row: int) -> bool:
        """Moves one row, or shrinks its radius; False if neither helps any more."""
        theta, gradient, loss = state["theta"][row], state["gradient"][row], float(state["loss"][row])
        radius, norm = float(state["radius"][row]), float(gradient.norm())
        space = GradientSpace(objective, theta, gradient, self.krylov_size)
        found = model_minimiser(space, radius)
        coefficients = found.step[0].numpy()
        trial = theta + space.step(coefficients)
        there_loss, there = objective.loss_and_gradient(trial)
        state["evaluations"][row] += space.basis.operator.products + 1

        predicted, reduction = float(found.predicted_reduction), loss - float(there_loss)
        resolved = predicted > 16 * torch.finfo(theta.dtype).eps * abs(loss)
        if resolved:
            accept = reduction > 0 and reduction >= ACCEPT * predicted
        else:  # the loss cannot tell any more, the gradient can
            accept = float(there.norm()) <= POLISHED * norm
        if accept:
            state["theta"][row], state["loss"][row], state["gradient"][row] = trial, there_loss, there
        if resolved:
            length = float(np.linalg.norm(coefficients))
            if not accept or reduction < SHRINK * predicted:
                state["radius"][row] = 0.25 * min(length, radius)
            elif reduction > GROW * predicted and bool(found.on_boundary):
                state["radius"][row] = 2 * radius
        smallest = torch.finfo(theta.dtype).eps * (1 + float(theta.norm()))
        return accept or (resolved and float(state["radius"][row]) > smallest)

    def finish(self, state: State) -> Tensor:
        """Rows that still move when the iterations are used up."""
        return codes(Status.ITERATION_LIMIT, state["loss"])


def model_minimiser(space: GradientSpace, radius: float) -> TrustRegionSteps:
    """The minimiser of g.p + p.H.p/2 with |p| <= radius over a Krylov space, in its coefficients.

    The space grows until |(H + mu) p + g| = |C y| <= min(1/10, sqrt|g|) |g|: Gould et al., section 4.
    """
    forcing, found = min(0.1, space.length**0.5), None
    limit = torch.tensor([radius], dtype=torch.float64)

    def done() -> bool:
        nonlocal found
        size = space.basis.size
        gradient = torch.zeros(1, size, dtype=torch.float64)
        gradient[0, 0] = space.length
        system = eigensystem(torch.from_numpy(space.projected.copy())[None])
        found = trust_region_steps(gradient, system, limit)
        coupling = space.extended[size:] @ found.step[0].numpy()
        # a second vector, so that one product cannot pass for a solution at a saddle
        return size > 1 and float(np.linalg.norm(coupling)) <= forcing * space.length

    space.grow_until(done)
    assert found is not None
    return found
