"""What the matrix-free solvers share: states of rows, the Krylov space of a gradient, the gradient's rounding error."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from critpoints.curvature.krylov import KrylovBasis
from critpoints.curvature.operator import HessianOperator
from critpoints.errors import STATUS_CODES, Status
from critpoints.objectives.base import Objective
from critpoints.solvers.base import RUNNING, State

GROWTH = 1.2  # solving the small problem at every size would cost more than products do


class GradientSpace:
    """The Krylov space of a Hessian and a gradient g, grown until a subproblem posed in it is solved.

    In its basis V, with V^T g = |g| e_1: H V y = V T y + F C y, so that every quadratic subproblem over p = V y is a
    small dense one, at one product for each dimension.
    """

    def __init__(self, objective: Objective, theta: Tensor, gradient: Tensor, size: int, seed: int = 0) -> None:
        self.basis = KrylovBasis(HessianOperator(objective, theta, probe=False), size + 1, torch.float64, seed)
        self.size = min(size, len(theta))
        self.length = float(gradient.double().norm())
        self.basis.add(gradient.double().unsqueeze(0))

    @property
    def projected(self) -> np.ndarray:
        """T, (m, m)."""
        return self.basis.projected[: self.basis.size, : self.basis.size]

    @property
    def extended(self) -> np.ndarray:
        """T above C, (m + pending, m)."""
        return self.basis.projected[: self.basis.size + self.basis.pending, : self.basis.size]

    def grow_until(self, done: Callable[[], bool]) -> None:
        """Multiplies one vector after the other until ``done()``, asked at sizes 1.2 times apart, or full."""
        asked = 0
        while self.basis.pending and self.basis.size < self.size:
            self.basis.expand(1)
            last = self.basis.size == self.size or not self.basis.pending or self.basis.broke_down
            if self.basis.size >= GROWTH * asked or last:
                asked = self.basis.size
                if done():
                    return

    def step(self, coefficients: np.ndarray) -> Tensor:
        """V y, (P,), for coefficients of the first vectors or all."""
        padded = np.pad(coefficients, (0, self.basis.size - len(coefficients)))
        return self.basis.vectors(padded[:, None]).squeeze(1).to(self.basis.operator.dtype)


def first_state(objective: Objective, theta: Tensor) -> State:
    """The state of rows (S, P) at the start: the loss and gradient there, nothing counted but that evaluation."""
    loss, gradient = objective.loss_and_gradient(theta)
    zeros = torch.zeros(len(theta), dtype=torch.int64, device=theta.device)
    state = {"theta": theta.clone(), "loss": loss, "gradient": gradient, "noise": torch.zeros_like(loss)}
    return state | {"status": zeros.clone(), "iterations": zeros.clone(), "evaluations": zeros + 1}


def end_rows(
    objective: Objective, state: State, gtol: float, stuck: Tensor, reasons: Sequence[tuple[Tensor, Status]] = ()
) -> State:
    """The state with the status of running rows that have reached ``gtol`` or are stuck, and their gradients' noise.

    Args:
        stuck: (S,), rows that found no acceptable step.
        reasons: why rows are stuck, where there is more to say than that they have stalled.
    """
    norm, status = norms(state["gradient"]), state["status"]
    reached = norm <= gtol
    noise = state["noise"].clone()
    ended = torch.nonzero(reached | stuck).squeeze(-1)
    if len(ended):
        noise[ended] = measured_gradient_noise(objective, state["theta"][ended], state["gradient"][ended])
    told = [(reached, Status.CONVERGED), (stuck & (norm <= noise), Status.ROUNDING), *reasons, (stuck, Status.STALLED)]
    for rows, reason in told:
        status = torch.where(rows & (status == RUNNING), STATUS_CODES[reason], status)
    return state | {"status": status, "noise": noise}


def norms(rows: Tensor) -> Tensor:
    """Euclidean norms of rows (S, P), each on its own: the same whatever the batch."""
    return torch.stack([row.norm() for row in rows]) if len(rows) else rows.new_zeros(0)


def measured_gradient_noise(objective: Objective, theta: Tensor, gradient: Tensor) -> Tensor:
    """(S,): how far the gradient moves when every parameter moves by its last bit, the larger of two tries.

    That is the error of a gradient computed backward stably, whatever the objective does inside.
    """
    generator = torch.Generator().manual_seed(0)
    noise = torch.zeros(len(theta), dtype=theta.dtype, device=theta.device)
    for _ in range(2):
        signs = 2.0 * torch.randint(0, 2, theta.shape[-1:], generator=generator).to(theta) - 1.0
        moved = objective.gradient(theta * (1 + 2 * torch.finfo(theta.dtype).eps * signs))
        noise = torch.maximum(noise, norms(moved - gradient))
    return noise
