"""Compiled CPU kernels (Numba): one student per thread, its data in cache, no temporaries in memory.

Every row is computed by one thread, with the order of additions fixed in the source (``intrinsics.dot``): results are
bit-identical alone, in any batch, and on any number of threads.
"""

from __future__ import annotations

import math
from typing import Any

import numba
import numpy as np
import torch
from torch import Tensor

from critpoints.kernels.cpu_activations import fill
from critpoints.kernels.cpu_lattice import (
    CENTRED_LIMIT,
    LATTICE_LIMIT,
    SPILL,
    first_run,
    lattice_products,
    lattice_tables,
    table_size,
)
from critpoints.kernels.intrinsics import (
    centred_logistic,
    dot,
    fma,
    gradient_sums,
    logistic,
    view,
    workspace,
)
from critpoints.kernels.samples import BLOCK, LANES, Samples
from critpoints.kernels.threads import threads_for
from critpoints.kernels.types import AdamRun, Derivatives

_FAILED = 1
_NO_LATTICE = (np.zeros(0), np.zeros(0), np.zeros((0, 4), dtype=np.int64))

_function: Any = numba.njit(error_model="numpy", cache=True)
_driver: Any = numba.njit(parallel=True, error_model="numpy", cache=True)


@_function
def _axpy(a, x, n, y):
    for i in range(n):
        y[i] = fma(a, x[i], y[i])


@_function
def _scale(a, x, n, y):
    for i in range(n):
        y[i] = a * x[i]


@_function
def _combine(a, x, b, y, n, z):
    """As ``_scale`` and ``_axpy``, in one pass."""
    for i in range(n):
        z[i] = fma(b, y[i], a * x[i])


@_function
def _multiply(x, y, n):
    for i in range(n):
        x[i] = x[i] * y[i]


@_function
def _product(x, y, n, out):
    for i in range(n):
        out[i] = x[i] * y[i]


@_function
def _residual(theta, width, inputs, targets, start, n, code, centre, bias, second, lattice, tables, buffers):
    """Activations of one block and its residual e~ = f - target.

    Args:
        lattice: levels of both axes and runs (lattice.py); no runs where there is none, or none is wanted.
        tables: from ``lattice_tables``.
        buffers: from ``workspace``, in rows of BLOCK doubles: z, e~, then s of every neuron, s' of every neuron and,
            if ``second``, s'' of every neuron, else one row of scratch and one, of SPILL more, for the lattice.
    """
    d, n_samples = inputs.shape
    low_run, high_run = first_run(lattice[2], start), first_run(lattice[2], start + n)
    z, e, y = view(buffers, 0, n), view(buffers, BLOCK, n), view(targets, start, n)
    for i in range(n):
        e[i] = bias - y[i]
    for k in range(width):
        s, s1 = view(buffers, (2 + k) * BLOCK, n), view(buffers, (2 + width + k) * BLOCK, n)
        s2 = view(buffers, (2 + 2 * width + (k if second else 0)) * BLOCK, n)
        if high_run > low_run and tables[(k + 1) * table_size(lattice) - 1] > 0.0:
            exponential = view(buffers, (3 + 2 * width) * BLOCK, BLOCK)
            lattice_products(tables, k, lattice, low_run, high_run, start, n, centre != 0.0, exponential)
            if centre != 0.0:
                centred_logistic(exponential, n, s, s1)
            else:
                logistic(exponential, n, s, s1)
        else:
            x0 = view(inputs, start, n)
            if d == 2:
                _combine(theta[k * d], x0, theta[k * d + 1], view(inputs, n_samples + start, n), n, z)
            else:
                _scale(theta[k * d], x0, n, z)
                for j in range(1, d):
                    _axpy(theta[k * d + j], view(inputs, j * n_samples + start, n), n, z)
            fill(code, centre, z, n, s, s1, s2, second)
        _axpy(theta[width * d + k], s, n, e)


@_function
def _balance(theta, width, d, output_bias, reflection, shift):
    """B = k sum_j a_j + 2 b - c, the mirror images' share of the loss (see samples.py)."""
    total = -shift
    for k in range(width):
        total += reflection * theta[width * d + k]
    if output_bias:
        total += 2.0 * theta[width * (d + 1)]
    return total


@_function
def _poison(theta):
    """0 for finite parameters, else NaN: the clamps and selections in the activations would swallow a NaN."""
    total = 0.0
    for value in theta:
        total += 0.0 * value
    return total


@_function
def _loss_and_gradient(
    theta, width, inputs, targets, weights, code, mirror, output_bias, lattice, tables, buffers, gradient
):
    d, n_samples = inputs.shape
    p_out = width * d
    p_bias = width * (d + 1)
    bias = theta[p_bias] if output_bias and mirror[3] == 0.0 else 0.0
    gradient[:] = _poison(theta)
    loss = _poison(theta)
    if lattice[2].shape[0] > 0:
        limit = LATTICE_LIMIT if mirror[0] == 0.0 else CENTRED_LIMIT
        lattice_tables(theta, width, lattice, limit, tables)
    start = 0
    while start < n_samples:
        n = min(BLOCK, n_samples - start)
        _residual(theta, width, inputs, targets, start, n, code, mirror[0], bias, False, lattice, tables, buffers)
        z, e, q = view(buffers, 0, n), view(buffers, BLOCK, n), view(weights, start, n)
        _product(e, q, n, z)
        loss += dot(e, z, n)
        if output_bias and mirror[3] == 0.0:
            gradient[p_bias] += dot(e, q, n)
        for k in range(width):
            s, s1 = view(buffers, (2 + k) * BLOCK, n), view(buffers, (2 + width + k) * BLOCK, n)
            if d == 2:
                x0, x1 = view(inputs, start, n), view(inputs, n_samples + start, n)
                sums = gradient_sums(z, s, s1, x0, x1, n)
                gradient[p_out + k] += sums[0]
                gradient[k * d] += sums[1]
                gradient[k * d + 1] += sums[2]
            else:
                gradient[p_out + k] += dot(z, s, n)
                _multiply(s1, z, n)
                for j in range(d):
                    gradient[k * d + j] += dot(s1, view(inputs, j * n_samples + start, n), n)
        start += n
    for k in range(width):
        for j in range(d):
            gradient[k * d + j] *= theta[p_out + k]
    for p in range(len(gradient)):
        gradient[p] *= 2.0
    if mirror[3] != 0.0:
        balance = _balance(theta, width, d, output_bias, mirror[1], mirror[2])
        loss += mirror[3] * balance * balance
        for k in range(width):
            gradient[p_out + k] += 2.0 * mirror[3] * mirror[1] * balance
        if output_bias:
            gradient[p_bias] += 4.0 * mirror[3] * balance
    return loss


@_driver
def _loss_and_gradient_rows(theta, width, inputs, targets, weights, code, mirror, output_bias, lattice, loss, gradient):
    for row in numba.prange(theta.shape[0]):
        buffers = workspace((4 + 2 * width) * BLOCK + SPILL)
        tables = workspace(width * table_size(lattice) + SPILL)
        loss[row] = _loss_and_gradient(
            theta[row],
            width,
            inputs,
            targets,
            weights,
            code,
            mirror,
            output_bias,
            lattice,
            tables,
            buffers,
            gradient[row],
        )


@_function
def _finite(loss, gradient):
    total = loss
    for g in gradient:
        total += abs(g)
    return math.isfinite(total)


@_function
def _adam_step(point, mean, square, gradient, rates, betas, eps):
    """Kingma & Ba (2015), algorithm 1; rates are the learning rate and the two bias corrections."""
    for p in range(len(point)):
        g = gradient[p]
        mean[p] = betas[0] * mean[p] + (1.0 - betas[0]) * g
        square[p] = betas[1] * square[p] + (1.0 - betas[1]) * g * g
    for p in range(len(point)):
        point[p] -= rates[0] * (mean[p] / rates[1]) / (math.sqrt(square[p] / rates[2]) + eps)


@_driver
def _adam_rows(
    theta,
    first,
    second,
    width,
    inputs,
    targets,
    weights,
    code,
    mirror,
    output_bias,
    lattice,
    schedule,
    betas,
    eps,
    failed,
):
    """Adam steps on every row, in place; schedule (steps, 3): learning rate and the two bias corrections."""
    n_parameters = theta.shape[1]
    for row in numba.prange(theta.shape[0]):
        buffers = workspace((4 + 2 * width) * BLOCK + SPILL)
        tables = workspace(width * table_size(lattice) + SPILL)
        gradient = np.empty(n_parameters)
        point = theta[row].copy()
        mean, square = view(first, row * n_parameters, n_parameters), view(second, row * n_parameters, n_parameters)
        step = 0
        while step < schedule.shape[0] and failed[row] == 0:
            loss = _loss_and_gradient(
                point, width, inputs, targets, weights, code, mirror, output_bias, lattice, tables, buffers, gradient
            )
            if not _finite(loss, gradient):
                failed[row] = _FAILED
                break
            _adam_step(point, mean, square, gradient, schedule[step], betas, eps)
            step += 1
        theta[row] = point


@_function
def _second_order(
    theta,
    width,
    inputs,
    targets,
    weights,
    code,
    mirror,
    output_bias,
    lattice,
    buffers,
    jacobian,
    gradient,
    hessian,
    noise,
):
    """Loss, gradient, Hessian and the sum of the gradient's absolute terms (into ``noise``) of one row."""
    d, n_samples = inputs.shape
    n_parameters = len(gradient)
    p_out = width * d
    p_bias = width * (d + 1)
    full_bias = output_bias and mirror[3] == 0.0
    bias = theta[p_bias] if full_bias else 0.0
    n_rows = p_bias + (1 if full_bias else 0)
    gradient[:] = _poison(theta)
    hessian[:] = _poison(theta)
    noise[:] = 0.0
    loss = _poison(theta)
    start = 0
    while start < n_samples:
        n = min(BLOCK, n_samples - start)
        _residual(theta, width, inputs, targets, start, n, code, mirror[0], bias, True, lattice, buffers, buffers)
        z, e = view(buffers, 0, n), view(buffers, BLOCK, n)
        size, weighted = view(buffers, (2 + 3 * width) * BLOCK, n), view(buffers, (3 + 3 * width) * BLOCK, n)
        y, q = view(targets, start, n), view(weights, start, n)
        for i in range(n):
            size[i] = abs(y[i]) + abs(bias)
        for k in range(width):
            a, s = theta[p_out + k], view(buffers, (2 + k) * BLOCK, n)
            s1 = view(buffers, (2 + width + k) * BLOCK, n)
            for i in range(n):
                size[i] = fma(abs(a), abs(s[i]), size[i])
            for j in range(d):
                x, row = view(inputs, j * n_samples + start, n), view(jacobian, (k * d + j) * BLOCK, n)
                for i in range(n):
                    row[i] = a * s1[i] * x[i]
            row = view(jacobian, (p_out + k) * BLOCK, n)
            for i in range(n):
                row[i] = s[i]
        _multiply(size, q, n)
        if full_bias:
            row = view(jacobian, p_bias * BLOCK, n)
            for i in range(n):
                row[i] = 1.0
        _product(e, q, n, z)
        loss += dot(e, z, n)
        for p in range(n_rows):
            row = view(jacobian, p * BLOCK, n)
            gradient[p] += dot(z, row, n)
            for i in range(n):
                weighted[i] = abs(row[i])
            noise[p] += dot(size, weighted, n)
            _product(row, q, n, weighted)
            for r in range(p + 1):
                hessian[p, r] += dot(weighted, view(jacobian, r * BLOCK, n), n)
        for k in range(width):
            s1 = view(buffers, (2 + width + k) * BLOCK, n)
            s2 = view(buffers, (2 + 2 * width + k) * BLOCK, n)
            for j in range(d):
                _product(z, view(inputs, j * n_samples + start, n), n, weighted)
                hessian[p_out + k, k * d + j] += dot(weighted, s1, n)
                _multiply(weighted, s2, n)
                for r in range(j + 1):
                    x = view(inputs, r * n_samples + start, n)
                    hessian[k * d + j, k * d + r] += theta[p_out + k] * dot(weighted, x, n)
        start += n
    for p in range(n_parameters):
        gradient[p] *= 2.0
        noise[p] *= 2.0
        for r in range(p + 1):
            hessian[p, r] *= 2.0
    if mirror[3] != 0.0:
        balance = _balance(theta, width, d, output_bias, mirror[1], mirror[2])
        loss += mirror[3] * balance * balance
        terms = abs(mirror[2])
        for p in range(p_out, n_parameters):
            terms += abs((mirror[1] if p < p_bias else 2.0) * theta[p])
        for p in range(p_out, n_parameters):
            weight_p = mirror[1] if p < p_bias else 2.0
            gradient[p] += 2.0 * mirror[3] * weight_p * balance
            noise[p] += 2.0 * mirror[3] * weight_p * terms
            for r in range(p_out, p + 1):
                hessian[p, r] += 2.0 * mirror[3] * weight_p * (mirror[1] if r < p_bias else 2.0)
    for p in range(n_parameters):
        for r in range(p):
            hessian[r, p] = hessian[p, r]
    return loss


@_driver
def _second_order_rows(
    theta, width, inputs, targets, weights, code, mirror, output_bias, lattice, loss, gradient, hessian, noise
):
    for row in numba.prange(theta.shape[0]):
        buffers = workspace((4 + 3 * width) * BLOCK)
        jacobian = workspace(theta.shape[1] * BLOCK)
        loss[row] = _second_order(
            theta[row], width, inputs, targets, weights, code, mirror, output_bias, lattice, buffers, jacobian,
            gradient[row], hessian[row], noise[row],
        )  # fmt: skip


def _arguments(samples: Samples, theta: np.ndarray, *, first_order: bool) -> tuple:
    """What every driver takes after its rows; the lattice serves the sigmoid's first derivatives."""
    use_lattice = first_order and samples.activation.code == 0 and len(samples.runs) > 0
    lattice = (*(axis.numpy() for axis in samples.levels), samples.runs.numpy()) if use_lattice else _NO_LATTICE
    return (
        samples.width(theta.shape[1]),
        samples.inputs.numpy(),
        samples.targets.numpy(),
        samples.weights.numpy(),
        samples.activation.code,
        np.array([samples.centre, samples.reflection, samples.shift, samples.balance_weight]),
        samples.output_bias,
        lattice,
    )


def loss_and_gradient(samples: Samples, theta: Tensor) -> tuple[Tensor, Tensor]:
    """Loss (S,) and gradient (S, P) of the rows of ``theta`` (S, P)."""
    rows = theta.detach().contiguous().numpy()
    loss, gradient = np.empty(len(rows)), np.empty_like(rows)
    with threads_for(len(rows)):
        _loss_and_gradient_rows(rows, *_arguments(samples, rows, first_order=True), loss, gradient)
    return torch.from_numpy(loss), torch.from_numpy(gradient)


def derivatives(samples: Samples, theta: Tensor) -> Derivatives:
    """Loss, gradient, dense Hessian and the gradient's sum of absolute terms."""
    rows = theta.detach().contiguous().numpy()
    n_rows, n_parameters = rows.shape
    loss, gradient, absolute = np.empty(n_rows), np.empty_like(rows), np.empty_like(rows)
    hessian = np.empty((n_rows, n_parameters, n_parameters))
    with threads_for(n_rows):
        _second_order_rows(rows, *_arguments(samples, rows, first_order=False), loss, gradient, hessian, absolute)
    return Derivatives(*(torch.from_numpy(a) for a in (loss, gradient, hessian, absolute)))


def adam(samples: Samples, run: AdamRun, schedule: Tensor, betas: tuple[float, float], eps: float) -> None:
    """Advances ``run`` in place by ``len(schedule)`` steps; rows that turn non-finite stop where they are."""
    state = (run.theta.numpy(), run.first_moment.numpy(), run.second_moment.numpy())
    arguments = _arguments(samples, state[0], first_order=True)
    _adam_rows(*state, *arguments, schedule.numpy(), np.array(betas), eps, run.failed.numpy())


assert BLOCK % LANES == 0
