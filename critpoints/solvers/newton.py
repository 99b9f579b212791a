"""Batched trust-region Newton on the dense Hessian: descends to a critical point, then polishes it.

Two phases a row. Descent: exact trust-region steps (the hard case included), accepted only if the loss falls. Polish:
once the loss can no longer resolve progress, undamped Newton steps are accepted as long as they reduce the gradient,
which takes the gradient to its own rounding error.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from critpoints.curvature.dense import (
    eigensystem,
    eigenvalue_noise,
    newton_steps,
    row_norm,
    trust_region_steps,
)
from critpoints.errors import STATUS_CODES, Status
from critpoints.objectives.base import Objective
from critpoints.solvers.base import RUNNING, State

EPS = torch.finfo(torch.float64).eps
ACCEPT = 1e-4  # least ratio of actual to predicted reduction: Nocedal & Wright, algorithm 4.1 with eta = 1e-4
GROW, SHRINK = 0.75, 0.25
POLISH_STEPS = 12
WINDOW = 50  # iterations between two looks at the length of theta
GROWTH = 1.05  # theta longer by this factor in a window in which the loss hardly falls: it runs off to infinity
HARDLY = 1e-3


@dataclass(frozen=True)
class TrustRegionNewton:
    """The method for ``solvers.base.iterate``.

    Attributes:
        gtol: gradient norm to reach; a gradient below its own rounding error also counts as reached.
        patience: windows of growing parameters in a row after which a row ends with status GROWING_NORM.
    """

    gtol: float = 1e-13
    patience: int = 3

    def start(self, objective: Objective, theta: Tensor) -> State:
        """Evaluates the start; the first radius is a tenth of the row's length, at least 0.1."""
        here = objective.second_order(theta)
        zeros = torch.zeros(len(theta), dtype=torch.int64, device=theta.device)
        length = row_norm(theta)
        return {
            "theta": theta.clone(),
            "loss": here.loss,
            "gradient": here.gradient,
            "hessian": here.hessian,
            "noise": here.gradient_noise,
            "radius": torch.clamp(0.1 * length, min=0.1),
            "start_loss": here.loss.clone(),
            "status": zeros.clone(),
            "iterations": zeros.clone(),
            "window_length": length.clone(),
            "window_loss": here.loss.clone(),
            "growing": zeros.clone(),
            "polished": zeros.clone(),
        }

    def advance(self, objective: Objective, state: State) -> State:
        """One trust-region iteration, or one polishing step where the gradient is already small."""
        state = dict(state)
        norm = row_norm(state["gradient"])
        system = eigensystem(state["hessian"])
        trial = trust_region_steps(state["gradient"], system, state["radius"])
        newton = newton_steps(state["gradient"], system, eigenvalue_noise(system.values))
        # The loss resolves reductions down to its own rounding, a few eps of its value.
        unresolved = trial.predicted_reduction <= 16 * EPS * state["loss"].abs()
        polish = unresolved | (norm <= self._target(state))
        near = row_norm(newton) <= 1e-2 * (1 + row_norm(state["theta"]))
        step = torch.where((polish & near).unsqueeze(-1), newton, trial.step)
        there = objective.second_order(state["theta"] + step)
        new_norm = row_norm(there.gradient)

        finite = torch.isfinite(there.loss) & torch.isfinite(new_norm)
        reduction = state["loss"] - there.loss
        ratio = reduction / trial.predicted_reduction.clamp(min=torch.finfo(torch.float64).tiny)
        descends = (reduction > 0) & (ratio >= ACCEPT)
        smaller = (new_norm < norm) & (there.loss <= state["start_loss"]) & near
        level = reduction.abs() <= 64 * EPS * state["loss"].abs() + EPS * EPS
        accept = finite & torch.where(polish, smaller & (level | descends), descends)
        return self._update(state, step, there, norm, new_norm, accept, polish, ratio, trial.on_boundary)

    def _target(self, state: State) -> Tensor:
        return torch.clamp(state["noise"], min=self.gtol)

    def _update(self, state, step, there, norm, new_norm, accept, polish, ratio, on_boundary) -> State:
        step_length = row_norm(step)
        new = {"theta": state["theta"] + step, "loss": there.loss, "gradient": there.gradient}
        new |= {"hessian": there.hessian, "noise": there.gradient_noise}
        for name, value in new.items():
            chosen = accept.reshape(-1, *[1] * (value.ndim - 1))
            state[name] = torch.where(chosen, value, state[name])
        shrink = ~accept | (ratio < SHRINK)
        grow = accept & (ratio > GROW) & on_boundary
        radius = torch.where(shrink, 0.25 * torch.minimum(step_length, state["radius"]), state["radius"])
        state["radius"] = torch.where(polish, state["radius"], torch.where(grow, 2 * state["radius"], radius))
        state["iterations"] = state["iterations"] + 1
        state["polished"] = state["polished"] + (polish & accept).long()
        settled = polish & (~accept | (new_norm > 0.5 * norm) | (state["polished"] >= POLISH_STEPS))
        return self._judge(state, settled, polish & ~accept)

    def _watch(self, state: State, length: Tensor) -> None:
        """Counts, once a window, the windows in a row in which theta grew while the loss hardly fell."""
        look = state["iterations"] % WINDOW == 0
        flat = state["window_loss"] - state["loss"] <= HARDLY * state["loss"]
        grew = flat & (length >= GROWTH * state["window_length"])
        count = torch.where(grew, state["growing"] + 1, torch.zeros_like(state["growing"]))
        state["growing"] = torch.where(look, count, state["growing"])
        state["window_length"] = torch.where(look, length, state["window_length"])
        state["window_loss"] = torch.where(look, state["loss"], state["window_loss"])

    def _judge(self, state: State, settled: Tensor, refused: Tensor) -> State:
        norm, length = row_norm(state["gradient"]), row_norm(state["theta"])
        status = state["status"]

        def mark(rows: Tensor, reason: Status) -> None:
            nonlocal status
            status = torch.where(rows & (status == RUNNING), STATUS_CODES[reason], status)

        mark(settled & (norm <= self.gtol), Status.CONVERGED)
        mark(settled & (norm <= state["noise"]), Status.ROUNDING)
        self._watch(state, length)
        mark(state["growing"] >= self.patience, Status.GROWING_NORM)
        # Neither the loss nor the gradient can be improved: shrink the radius until a step would be nil.
        state["radius"] = torch.where(refused, 0.25 * state["radius"], state["radius"])
        stuck = state["radius"] <= 1e-14 * (1 + length)
        mark(stuck & (state["growing"] > 0), Status.GROWING_NORM)
        mark(stuck, Status.VALLEY)
        return state | {"status": status}

    def finish(self, state: State) -> Tensor:
        """Rows that still move when the iterations are used up."""
        system = eigensystem(state["hessian"])
        singular = system.values.abs().amin(-1) <= 1e-6 * system.values.abs().amax(-1)
        fallback = torch.where(singular, STATUS_CODES[Status.VALLEY], STATUS_CODES[Status.ITERATION_LIMIT])
        return torch.where(state["growing"] > 0, STATUS_CODES[Status.GROWING_NORM], fallback)
