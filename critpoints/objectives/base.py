"""Objective: a loss as a function of a flat parameter vector, batched over rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor

from critpoints.errors import InvalidArgument, require
from critpoints.kernels.types import AdamRun
from critpoints.objectives.precision import full_precision


@dataclass(frozen=True)
class SecondOrder:
    """Loss, gradient and Hessian at one batch of points.

    Attributes:
        loss: (S,).
        gradient: (S, P).
        hessian: (S, P, P), exactly symmetric.
        gradient_noise: (S,), how large the norm of the gradient's own rounding error may be, below which a gradient is
            indistinguishable from zero: a bound where the objective knows its sums, else an estimate.
    """

    loss: Tensor
    gradient: Tensor
    hessian: Tensor
    gradient_noise: Tensor


class Objective:
    """A loss L(theta) on rows of parameters; the base class of everything that critpoints studies.

    A subclass sets ``dim`` and defines ``loss``; gradient, Hessian-vector product and dense Hessian follow by
    automatic differentiation and may be overridden by closed forms, which ``critpoints.testing.check_objective``
    compares. ``theta`` has shape (*b, P) with any leading batch shape; row i of every result depends on row i of
    ``theta`` alone.

    Attributes:
        dim: P, or None when several sizes are admissible (a two-layer objective fits students of every width).
        dtype, device: of the data, and so of every result.
    """

    dim: int | None = None
    dtype: torch.dtype = torch.float64
    device: torch.device = torch.device("cpu")

    def loss(self, theta: Tensor) -> Tensor:
        """The loss of each row: (*b, P) -> (*b)."""
        raise NotImplementedError(f"{type(self).__name__} must define loss(theta) -> (*b)")

    def validate(self, theta: Tensor) -> Tensor:
        """Checks and converts parameters; returns them in the objective's dtype and on its device.

        Raises:
            InvalidArgument: the last axis does not fit, or the dtype is not a floating one.
        """
        theta = torch.as_tensor(theta)
        require(theta.is_floating_point(), f"theta must be a floating-point tensor, got {theta.dtype}")
        require(theta.ndim >= 1, "theta must have shape (*b, P), got a scalar")
        require(
            self.dim is None or theta.shape[-1] == self.dim,
            f"theta must have {self.dim} parameters in its last axis, got shape {tuple(theta.shape)}",
        )
        return theta.to(dtype=self.dtype, device=self.device)

    def to(self, device: torch.device | str) -> Self:
        """The same objective on another device; itself if it is there already.

        Raises:
            InvalidArgument: this kind of objective cannot be moved.
        """
        if torch.device(device) == self.device:
            return self
        raise InvalidArgument(
            f"a {type(self).__name__} on {self.device} cannot be moved to {device}; make it on that device"
        )

    def loss_and_gradient(self, theta: Tensor) -> tuple[Tensor, Tensor]:
        """Loss (*b) and gradient (*b, P)."""
        with torch.enable_grad(), full_precision(self.dtype):
            point = self.validate(theta).detach().requires_grad_()
            loss = self.loss(point)
            (gradient,) = torch.autograd.grad(loss.sum(), point)
        return loss.detach(), gradient

    def gradient(self, theta: Tensor) -> Tensor:
        """Gradient of each row: (*b, P)."""
        return self.loss_and_gradient(theta)[1]

    def hvp(self, theta: Tensor, v: Tensor) -> Tensor:
        """Hessian-vector products, row by row: (*b, P), (*b, P) -> (*b, P)."""
        with torch.enable_grad(), full_precision(self.dtype):
            point = self.validate(theta).detach().requires_grad_()
            (gradient,) = torch.autograd.grad(self.loss(point).sum(), point, create_graph=True)
            if not gradient.requires_grad:  # an affine loss
                return torch.zeros_like(point)
            (product,) = torch.autograd.grad(gradient, point, self.validate(v).expand_as(gradient), allow_unused=True)
        return torch.zeros_like(point) if product is None else product

    def hessian(self, theta: Tensor) -> Tensor:
        """Dense Hessian of each row: (*b, P, P), symmetrised."""
        with torch.enable_grad(), full_precision(self.dtype):
            point = self.validate(theta).detach().requires_grad_()
            (gradient,) = torch.autograd.grad(self.loss(point).sum(), point, create_graph=True)
            columns = []
            for p in range(point.shape[-1]):
                column = None
                if gradient.requires_grad:
                    (column,) = torch.autograd.grad(gradient[..., p].sum(), point, retain_graph=True, allow_unused=True)
                columns.append(torch.zeros_like(point) if column is None else column)
        hessian = torch.stack(columns, dim=-1)
        return 0.5 * (hessian + hessian.mT)

    def second_order(self, theta: Tensor) -> SecondOrder:
        """Loss, gradient, Hessian and the gradient's rounding error of a (S, P) batch, in one call."""
        theta = self.validate(theta)
        loss, gradient = self.loss_and_gradient(theta)
        hessian = self.hessian(theta)
        # The rounding of theta to first order, times 8 for that of the loss' own terms, whose sizes are not known.
        eps = 8 * torch.finfo(self.dtype).eps
        noise = eps * (hessian.abs() * theta.abs().unsqueeze(-2)).sum(-1).norm(dim=-1)
        return SecondOrder(loss, gradient, hessian, noise + eps * gradient.abs().amax(-1))

    def advance_adam(self, run: AdamRun, schedule: Tensor, betas: tuple[float, float], eps: float) -> None:
        """Adam steps on every row of ``run``, in place.

        Args:
            schedule: (steps, 3): learning rate and the two bias corrections 1 - beta^t of each step.
        """
        for rate, *bias in schedule.tolist():
            run.step(*self.loss_and_gradient(run.theta), rate, (bias[0], bias[1]), betas, eps)

    def advance_adam_together(
        self, runs: Sequence[AdamRun], schedule: Tensor, betas: tuple[float, float], eps: float
    ) -> None:
        """The same steps on several runs, which may be of several widths."""
        for run in runs:
            self.advance_adam(run, schedule, betas, eps)

    def descend(self, theta: Tensor, rate: float, steps: int) -> tuple[Tensor, Tensor, Tensor]:
        """Gradient descent, theta <- theta - rate * grad L: parameters (*b, P), loss and gradient after ``steps``."""
        theta = self.validate(theta).detach()
        loss, gradient = self.loss_and_gradient(theta)
        for _ in range(steps):
            theta = theta - rate * gradient
            loss, gradient = self.loss_and_gradient(theta)
        return theta, loss, gradient
