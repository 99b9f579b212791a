"""What the kernels exchange with their callers; the same on every device."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Derivatives:
    """Loss (S,), gradient (S, P), Hessian (S, P, P) and ``absolute`` (S, P), the sum of the gradient's absolute terms."""

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
