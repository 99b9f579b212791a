"""Trust-region Newton whose steps are walked: no point of the straight line of a step is higher than where it began.

A plain Newton step may cross a ridge into another basin. What descends here stays in one component of the sublevel set
{L <= L(start)}, as far as the points looked at on every step tell: the polygon of its steps is a way down.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from critpoints.objectives.base import Objective
from critpoints.solvers.base import State
from critpoints.solvers.newton import TrustRegionNewton

LOOKS = 7  # points looked at within a step
ROUNDING = 1e-12  # relative: higher by less is rounding


@dataclass(frozen=True)
class MonotoneNewton(TrustRegionNewton):
    """The method for ``solvers.base.iterate``; a step that rises on its way is taken back, and the radius quartered."""

    def advance(self, objective: Objective, state: State) -> State:
        """One iteration of every row."""
        after = super().advance(objective, state)
        before, move = state["theta"], after["theta"] - state["theta"]
        rises = torch.zeros_like(state["status"], dtype=torch.bool)
        for look in range(1, LOOKS + 1):
            between = objective.loss_and_gradient(before + look / (LOOKS + 1) * move)[0]
            rises |= between > state["loss"] + ROUNDING * state["loss"].abs()
        length = move.norm(dim=-1)
        kept = {"iterations", "window_length", "window_loss", "growing"}
        for name, value in after.items():
            if name not in kept:
                chosen = rises.reshape(-1, *[1] * (value.ndim - 1))
                after[name] = torch.where(chosen, state[name], value)
        after["radius"] = torch.where(rises, 0.25 * torch.minimum(length, state["radius"]), after["radius"])
        return after
