"""The kernels in plain torch: the reference for the compiled ones, and the path for other devices and dtypes."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from critpoints.kernels.samples import Samples
from critpoints.kernels.types import AdamRun, Derivatives


@dataclass(frozen=True)
class _Forward:
    """One forward pass: weights (S, m, d), output weights (S, m), pre-activations z (S, m, n), residual e~ (S, n)."""

    w: Tensor
    a: Tensor
    z: Tensor
    s: Tensor
    residual: Tensor
    balance: Tensor


def _forward(samples: Samples, theta: Tensor) -> _Forward:
    d = samples.inputs.shape[0]
    m = samples.width(theta.shape[-1])
    w, a = theta[:, : m * d].reshape(-1, m, d), theta[:, m * d : m * (d + 1)]
    z = w @ samples.inputs
    # the centred sigmoid as a tanh: s - 1/2 would cancel for small weights
    s = 0.5 * torch.tanh(0.5 * z) if samples.centre == 0.5 else samples.activation(z) - samples.centre
    residual = (a.unsqueeze(-1) * s).sum(1) - samples.targets
    balance = samples.reflection * a.sum(-1) - samples.shift
    if samples.output_bias and samples.halved:
        balance = balance + 2 * theta[:, -1]
    elif samples.output_bias:
        residual = residual + theta[:, -1:]
    return _Forward(w, a, z, s, residual, balance)


def loss(samples: Samples, theta: Tensor) -> Tensor:
    """Loss (S,), differentiable by autograd to any order."""
    f = _forward(samples, theta)
    return (samples.weights * f.residual**2).sum(-1) + samples.balance_weight * f.balance**2


def _balance_jacobian(samples: Samples, theta: Tensor) -> Tensor:
    """dB/dtheta (P,), the same for every row."""
    d = samples.inputs.shape[0]
    m = samples.width(theta.shape[-1])
    row = theta.new_zeros(theta.shape[-1])
    row[m * d : m * (d + 1)] = samples.reflection
    if samples.output_bias:
        row[-1] = 2.0
    return row


def _jacobian(samples: Samples, theta: Tensor, f: _Forward, slope: Tensor) -> Tensor:
    """d f / d theta of each sample, (S, P, n)."""
    inner = (f.a.unsqueeze(-1) * slope).unsqueeze(2) * samples.inputs
    parts = [inner.flatten(1, 2), f.s]
    if samples.output_bias:
        ones = torch.zeros_like if samples.halved else torch.ones_like
        parts.append(ones(f.residual).unsqueeze(1))
    return torch.cat(parts, 1)


def loss_and_gradient(samples: Samples, theta: Tensor) -> tuple[Tensor, Tensor]:
    """Loss (S,) and gradient (S, P) of the rows of ``theta`` (S, P)."""
    f = _forward(samples, theta)
    weighted = samples.weights * f.residual
    slope = samples.activation.derivative(f.z, 1)
    value = (weighted * f.residual).sum(-1) + samples.balance_weight * f.balance**2
    inner = 2 * f.a.unsqueeze(-1) * ((weighted.unsqueeze(1) * slope) @ samples.inputs.T)
    parts = [inner.flatten(1), 2 * (weighted.unsqueeze(1) * f.s).sum(-1)]
    if samples.output_bias:
        total = torch.zeros_like(value) if samples.halved else 2 * weighted.sum(-1)
        parts.append(total.unsqueeze(-1))
    gradient = torch.cat(parts, 1)
    if samples.halved:
        factor = 2 * samples.balance_weight * f.balance.unsqueeze(-1)
        gradient = gradient + factor * _balance_jacobian(samples, theta)
    return value, gradient


def derivatives(samples: Samples, theta: Tensor) -> Derivatives:
    """Loss, gradient, dense Hessian and the gradient's sum of absolute terms."""
    value, gradient = loss_and_gradient(samples, theta)
    f = _forward(samples, theta)
    d, m = samples.inputs.shape[0], f.a.shape[1]
    slope, bend = (samples.activation.derivative(f.z, n) for n in (1, 2))
    jacobian = _jacobian(samples, theta, f, slope)
    hessian = 2 * (samples.weights * jacobian) @ jacobian.mT
    weighted = samples.weights * f.residual
    inner = 2 * torch.einsum("sk,skn,in,jn->skij", f.a, weighted.unsqueeze(1) * bend, samples.inputs, samples.inputs)
    cross = 2 * (weighted.unsqueeze(1) * slope) @ samples.inputs.T
    for k in range(m):
        block = slice(k * d, (k + 1) * d)
        hessian[:, block, block] += inner[:, k]
        hessian[:, block, m * d + k] += cross[:, k]
        hessian[:, m * d + k, block] += cross[:, k]
    row = _balance_jacobian(samples, theta)
    if samples.halved:
        hessian = hessian + 2 * samples.balance_weight * torch.outer(row, row)
    size = (f.a.unsqueeze(-1) * f.s).abs().sum(1) + samples.targets.abs()
    if samples.output_bias and not samples.halved:
        size = size + theta[:, -1:].abs()
    absolute = 2 * (jacobian.abs() * (samples.weights * size).unsqueeze(1)).sum(-1)
    if samples.halved:
        terms = (row * theta).abs().sum(-1, keepdim=True) + abs(samples.shift)
        absolute = absolute + 2 * samples.balance_weight * row * terms
    return Derivatives(value, gradient, 0.5 * (hessian + hessian.mT), absolute)


def adam(samples: Samples, run: AdamRun, schedule: Tensor, betas: tuple[float, float], eps: float) -> None:
    """Advances ``run`` in place by ``len(schedule)`` steps; rows that turn non-finite stop where they are."""
    for rate, *bias in schedule.tolist():
        run.step(*loss_and_gradient(samples, run.theta), rate, (bias[0], bias[1]), betas, eps)
