"""What the kernels exchange with their callers; the same on every device."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Derivatives:
    """Loss (S,), gradient (S, P), Hessian (S, P, P); ``absolute`` (S, P) sums the gradient's absolute terms."""

    loss: Tensor
    gradient: Tensor
    hessian: Tensor
    absolute: Tensor


@dataclass
class AdamRun:
    """The state of Adam on S rows, advanced in place: parameters, both moments (S, P), and a failure flag (S,)."""

    theta: Tensor
    first_moment: Tensor
    second_moment: Tensor
    failed: Tensor

    @classmethod
    def start(cls, theta: Tensor) -> AdamRun:
        """Zero moments at a copy of ``theta``."""
        theta = theta.detach().clone().contiguous()
        failed = torch.zeros(len(theta), dtype=torch.int64, device=theta.device)
        return cls(theta, torch.zeros_like(theta), torch.zeros_like(theta), failed)

    def step(
        self,
        loss: Tensor,
        gradient: Tensor,
        rate: float,
        bias: tuple[float, float],
        betas: tuple[float, float],
        eps: float,
    ) -> None:
        """One Adam step in place (Kingma & Ba 2015, algorithm 1); rows with a non-finite gradient stop where they are.

        Args:
            bias: the two corrections 1 - beta^t.
        """
        self.failed[~(torch.isfinite(loss) & torch.isfinite(gradient).all(-1))] = 1
        live = (self.failed == 0).unsqueeze(-1)
        first = betas[0] * self.first_moment + (1 - betas[0]) * gradient
        second = betas[1] * self.second_moment + (1 - betas[1]) * gradient * gradient
        change = rate * (first / bias[0]) / ((second / bias[1]).sqrt() + eps)
        self.first_moment.copy_(torch.where(live, first, self.first_moment))
        self.second_moment.copy_(torch.where(live, second, self.second_moment))
        self.theta.copy_(torch.where(live, self.theta - change, self.theta))
