"""Triton kernels for loss, gradient and whole runs of Adam: one program a student, which reads its own row alone.

A program's sums are taken in an order that its width, the number of samples and the constants below fix: a row has
the same bits alone, in any batch, and beside students of other widths. Narrow students keep the activations of a
block of samples and all running sums in registers; wide ones pass over the samples once for the residuals and once
more for each neuron. In float32 the running sums are compensated (Kahan 1965) and added up in float64.
"""

# The language of kernels is not Python's: types are those of Triton's compiler.
# pyright: reportArgumentType=false, reportIndexIssue=false, reportCallIssue=false, reportOperatorIssue=false
# pyright: reportGeneralTypeIssues=false, reportAttributeAccessIssue=false, reportPossiblyUnboundVariable=false
# pyright: reportOptionalMemberAccess=false

from __future__ import annotations

import triton
import triton.language as tl

from critpoints.kernels.gpu_activations import activation
from critpoints.kernels.gpu_arithmetic import divide, root

# places in the vector of constants
REFLECTION, SHIFT, BALANCE_WEIGHT, BETA1, BETA2, EPS = (tl.constexpr(i) for i in range(6))


@triton.jit
def add_product(total, lost, a, b):
    """total + a b; in float32 with what was lost so far, to be subtracted."""
    if total.dtype == tl.float64:
        return tl.fma(a, b, total), lost
    else:
        term = tl.fma(a, b, -lost)
        larger = total + term
        return larger, (larger - total) - term


@triton.jit
def collect(total, lost):
    """The sum over a block's lanes, in float64."""
    if total.dtype == tl.float64:
        return tl.sum(total, axis=0)
    else:
        return tl.sum(total.to(tl.float64) - lost.to(tl.float64), axis=0)


@triton.jit
def lanes(BLOCK: tl.constexpr, DTYPE: tl.constexpr):
    """Zeros: (a running sum a lane, what it has lost); the latter is no register in float64."""
    return tl.zeros([BLOCK], DTYPE), tl.zeros([BLOCK], DTYPE)


@triton.jit
def balance(theta, width, constants, D: tl.constexpr, WIDTH_PAD: tl.constexpr, OUTPUT_BIAS: tl.constexpr):
    """B = k sum_j a_j + 2 b - c of halved data (see samples.py)."""
    k = tl.arange(0, WIDTH_PAD)
    a = tl.load(theta + width * D + k, mask=k < width, other=0.0).to(tl.float64)
    total = tl.load(constants + REFLECTION) * tl.sum(a, axis=0) - tl.load(constants + SHIFT)
    if OUTPUT_BIAS:
        total += 2.0 * tl.load(theta + width * (D + 1)).to(tl.float64)
    return total


@triton.jit
def poison(theta, n_parameters, P_PAD: tl.constexpr):
    """0 for finite parameters, else NaN: clamps and selections would swallow a NaN."""
    p = tl.arange(0, P_PAD)
    values = tl.load(theta + p, mask=p < n_parameters, other=0.0).to(tl.float64)
    return tl.sum(0.0 * values, axis=0)


@triton.jit
def pre_activation(weights, x, D: tl.constexpr):
    """w . x of a block of samples, from tuples of D scalars and D blocks."""
    z = weights[0] * x[0]
    for j in tl.static_range(1, D):
        z = tl.fma(weights[j] + tl.zeros_like(z), x[j], z)
    return z


@triton.jit
def load_inputs(inputs, i, n, D: tl.constexpr):
    """The D blocks of inputs of samples i."""
    x = ()
    for j in tl.static_range(D):
        x = x + (tl.load(inputs + j * n + i),)
    return x


@triton.jit
def load_weights(theta, k, inside, D: tl.constexpr):
    """The D hidden weights of neuron k as scalars; zeros where it does not exist."""
    w = ()
    for j in tl.static_range(D):
        w = w + (tl.load(theta + k * D + j, mask=inside, other=0.0),)
    return w


@triton.jit
def narrow(
    theta, gradient, width, inputs, targets, weights, constants, n, poisoned, balanced,
    WIDTH: tl.constexpr, EXACT: tl.constexpr, D: tl.constexpr, CODE: tl.constexpr, CENTRED: tl.constexpr,
    HALVED: tl.constexpr, OUTPUT_BIAS: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """The loss of a student of at most WIDTH neurons; writes the gradient. EXACT: it has just as many."""
    DTYPE: tl.constexpr = theta.dtype.element_ty
    w, a = (), ()
    sums, lost = (), ()
    for unit in tl.static_range(WIDTH):
        w = w + (load_weights(theta, unit, EXACT or unit < width, D),)
        a = a + (tl.load(theta + width * D + unit, mask=EXACT or unit < width, other=0.0),)
        for _part in tl.static_range(D + 1):
            zero, nothing = lanes(BLOCK, DTYPE)
            sums, lost = sums + (zero,), lost + (nothing,)
    loss, loss_lost = lanes(BLOCK, DTYPE)
    total, total_lost = lanes(BLOCK, DTYPE)
    bias = tl.zeros([1], DTYPE)
    if OUTPUT_BIAS and not HALVED:
        bias += tl.load(theta + width * (D + 1))
    for start in range(0, n, BLOCK):
        i = start + tl.arange(0, BLOCK)
        x = load_inputs(inputs, i, n, D)
        q = tl.load(weights + i)
        e = bias - tl.load(targets + i)
        s, slope = (), ()
        for k in tl.static_range(WIDTH):
            value, derivative, _ = activation(pre_activation(w[k], x, D), CODE, CENTRED)
            s, slope = s + (value,), slope + (derivative,)
            e = tl.fma(a[k] + tl.zeros_like(e), value, e)
        weighted = e * q
        loss, loss_lost = add_product(loss, loss_lost, e, weighted)
        if OUTPUT_BIAS and not HALVED:
            total, total_lost = add_product(total, total_lost, e, q)
        new, new_lost = (), ()
        for k in tl.static_range(WIDTH):
            pair = add_product(sums[k * (D + 1)], lost[k * (D + 1)], weighted, s[k])
            new, new_lost = new + (pair[0],), new_lost + (pair[1],)
            inner = weighted * slope[k]
            for j in tl.static_range(D):
                pair = add_product(sums[k * (D + 1) + 1 + j], lost[k * (D + 1) + 1 + j], inner, x[j])
                new, new_lost = new + (pair[0],), new_lost + (pair[1],)
        sums, lost = new, new_lost
    for unit in tl.static_range(WIDTH):
        inside = EXACT or unit < width
        by_outer = 2.0 * collect(sums[unit * (D + 1)], lost[unit * (D + 1)]) + poisoned
        if HALVED:
            by_outer += 2.0 * tl.load(constants + BALANCE_WEIGHT) * tl.load(constants + REFLECTION) * balanced
        tl.store(gradient + width * D + unit, by_outer.to(DTYPE), mask=inside)
        factor = 2.0 * a[unit].to(tl.float64)
        for axis in tl.static_range(D):
            by_inner = factor * collect(sums[unit * (D + 1) + 1 + axis], lost[unit * (D + 1) + 1 + axis]) + poisoned
            tl.store(gradient + unit * D + axis, by_inner.to(DTYPE), mask=inside)
    return collect(loss, loss_lost), collect(total, total_lost)


@triton.jit
def residuals(
    theta, width, inputs, targets, weights, residual, size, n,
    D: tl.constexpr, CODE: tl.constexpr, CENTRED: tl.constexpr, HALVED: tl.constexpr, OUTPUT_BIAS: tl.constexpr,
    SIZES: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Writes q e~ of all samples and, with SIZES, q times the sum of its absolute terms; the loss and sum of q e~."""
    DTYPE: tl.constexpr = theta.dtype.element_ty
    loss, loss_lost = lanes(BLOCK, DTYPE)
    total, total_lost = lanes(BLOCK, DTYPE)
    bias = tl.zeros([1], DTYPE)
    if OUTPUT_BIAS and not HALVED:
        bias += tl.load(theta + width * (D + 1))
    for start in range(0, n, BLOCK):
        i = start + tl.arange(0, BLOCK)
        x = load_inputs(inputs, i, n, D)
        y, q = tl.load(targets + i), tl.load(weights + i)
        e, terms = bias - y, tl.abs(bias) + tl.abs(y)
        for k in range(width):
            s, _, _ = activation(pre_activation(load_weights(theta, k, True, D), x, D), CODE, CENTRED)
            a = tl.load(theta + width * D + k) + tl.zeros_like(e)
            e = tl.fma(a, s, e)
            terms = tl.fma(tl.abs(a), tl.abs(s), terms)
        weighted = e * q
        loss, loss_lost = add_product(loss, loss_lost, e, weighted)
        if OUTPUT_BIAS and not HALVED:
            total, total_lost = add_product(total, total_lost, e, q)
        tl.store(residual + i, weighted)
        if SIZES:
            tl.store(size + i, terms * q)
    return collect(loss, loss_lost), collect(total, total_lost)


@triton.jit
def wide(
    theta, gradient, width, inputs, targets, weights, residual, constants, n, poisoned, balanced,
    D: tl.constexpr, CODE: tl.constexpr, CENTRED: tl.constexpr, HALVED: tl.constexpr, OUTPUT_BIAS: tl.constexpr,
    BLOCK: tl.constexpr,
):  # fmt: skip
    """The loss of a student of any width; writes the gradient."""
    DTYPE: tl.constexpr = theta.dtype.element_ty
    loss, total = residuals(
        theta, width, inputs, targets, weights, residual, residual, n,
        D, CODE, CENTRED, HALVED, OUTPUT_BIAS, False, BLOCK,
    )  # fmt: skip
    tl.debug_barrier()
    for k in range(width):
        w, a = load_weights(theta, k, True, D), tl.load(theta + width * D + k)
        outer, outer_lost = lanes(BLOCK, DTYPE)
        sums, lost = (), ()
        for _part in tl.static_range(D):
            zero, nothing = lanes(BLOCK, DTYPE)
            sums, lost = sums + (zero,), lost + (nothing,)
        for start in range(0, n, BLOCK):
            i = start + tl.arange(0, BLOCK)
            x, weighted = load_inputs(inputs, i, n, D), tl.load(residual + i)
            s, slope, _ = activation(pre_activation(w, x, D), CODE, CENTRED)
            outer, outer_lost = add_product(outer, outer_lost, weighted, s)
            inner = weighted * slope
            new, new_lost = (), ()
            for j in tl.static_range(D):
                pair = add_product(sums[j], lost[j], inner, x[j])
                new, new_lost = new + (pair[0],), new_lost + (pair[1],)
            sums, lost = new, new_lost
        derivative = 2.0 * collect(outer, outer_lost) + poisoned
        if HALVED:
            derivative += 2.0 * tl.load(constants + BALANCE_WEIGHT) * tl.load(constants + REFLECTION) * balanced
        tl.store(gradient + width * D + k, derivative.to(DTYPE))
        for j in tl.static_range(D):
            derivative = 2.0 * a.to(tl.float64) * collect(sums[j], lost[j]) + poisoned
            tl.store(gradient + k * D + j, derivative.to(DTYPE))
    return loss, total


@triton.jit
def evaluate(
    theta, gradient, width, inputs, targets, weights, residual, constants, n,
    WIDTH: tl.constexpr, EXACT: tl.constexpr, D: tl.constexpr, CODE: tl.constexpr, CENTRED: tl.constexpr,
    HALVED: tl.constexpr, OUTPUT_BIAS: tl.constexpr, BLOCK: tl.constexpr, WIDTH_PAD: tl.constexpr,
    P_PAD: tl.constexpr,
):  # fmt: skip
    """The loss of one student, in float64; writes its gradient. WIDTH 0: by the passes for wide students."""
    DTYPE: tl.constexpr = theta.dtype.element_ty
    n_parameters = width * (D + 1) + (1 if OUTPUT_BIAS else 0)
    poisoned = poison(theta, n_parameters, P_PAD)
    balanced = poisoned
    if HALVED:
        balanced = balance(theta, width, constants, D, WIDTH_PAD, OUTPUT_BIAS)
    if WIDTH > 0:
        loss, total = narrow(
            theta, gradient, width, inputs, targets, weights, constants, n, poisoned, balanced,
            WIDTH, EXACT, D, CODE, CENTRED, HALVED, OUTPUT_BIAS, BLOCK,
        )  # fmt: skip
    else:
        loss, total = wide(
            theta, gradient, width, inputs, targets, weights, residual, constants, n, poisoned, balanced,
            D, CODE, CENTRED, HALVED, OUTPUT_BIAS, BLOCK,
        )  # fmt: skip
    loss += poisoned
    if HALVED:
        loss += tl.load(constants + BALANCE_WEIGHT) * balanced * balanced
        total = 2.0 * tl.load(constants + BALANCE_WEIGHT) * balanced
    if OUTPUT_BIAS:
        tl.store(gradient + width * (D + 1), (2.0 * total + poisoned).to(DTYPE))
    return loss


@triton.jit
def gradient_kernel(
    theta, gradient, losses, offsets, widths, inputs, targets, weights, residual, constants, n,
    WIDTH: tl.constexpr, EXACT: tl.constexpr, D: tl.constexpr, CODE: tl.constexpr, CENTRED: tl.constexpr,
    HALVED: tl.constexpr, OUTPUT_BIAS: tl.constexpr, BLOCK: tl.constexpr, WIDTH_PAD: tl.constexpr,
    P_PAD: tl.constexpr,
):  # fmt: skip
    """Loss and gradient of every row; rows lie one after the other, from ``offsets`` on, with ``widths`` neurons."""
    row = tl.program_id(0)
    offset = tl.load(offsets + row)
    width = WIDTH if EXACT else tl.load(widths + row)
    loss = evaluate(
        theta + offset, gradient + offset, width, inputs, targets, weights, residual + row.to(tl.int64) * n, constants,
        n, WIDTH, EXACT, D, CODE, CENTRED, HALVED, OUTPUT_BIAS, BLOCK, WIDTH_PAD, P_PAD,
    )  # fmt: skip
    tl.store(losses + row, loss.to(losses.dtype.element_ty))


@triton.jit
def adam_kernel(
    theta, first, second, gradient, failed, offsets, widths, inputs, targets, weights, residual, constants, n,
    schedule, n_steps,
    WIDTH: tl.constexpr, EXACT: tl.constexpr, D: tl.constexpr, CODE: tl.constexpr, CENTRED: tl.constexpr,
    HALVED: tl.constexpr, OUTPUT_BIAS: tl.constexpr, BLOCK: tl.constexpr, WIDTH_PAD: tl.constexpr,
    P_PAD: tl.constexpr,
):  # fmt: skip
    """``n_steps`` of Adam on every row, in place; a row that turns non-finite keeps its last point and is flagged.

    Source: Kingma & Ba (2015), algorithm 1. ``schedule`` holds the learning rate and both bias corrections of each
    step. Both moments stay in registers; the point goes through memory, for every thread to read all of it.
    """
    row = tl.program_id(0)
    offset = tl.load(offsets + row)
    width = WIDTH if EXACT else tl.load(widths + row)
    p = tl.arange(0, P_PAD)
    mask = p < width * (D + 1) + (1 if OUTPUT_BIAS else 0)
    DTYPE: tl.constexpr = theta.dtype.element_ty
    point = tl.load(theta + offset + p, mask=mask, other=0.0)
    mean = tl.load(first + offset + p, mask=mask, other=0.0)
    square = tl.load(second + offset + p, mask=mask, other=0.0)
    beta1, beta2 = tl.load(constants + BETA1).to(DTYPE), tl.load(constants + BETA2).to(DTYPE)
    rest1, rest2 = (1.0 - tl.load(constants + BETA1)).to(DTYPE), (1.0 - tl.load(constants + BETA2)).to(DTYPE)
    eps = tl.load(constants + EPS).to(DTYPE)
    step = 0
    if tl.load(failed + row) != 0:
        step = n_steps
    while step < n_steps:
        loss = evaluate(
            theta + offset, gradient + offset, width, inputs, targets, weights, residual + row.to(tl.int64) * n,
            constants, n, WIDTH, EXACT, D, CODE, CENTRED, HALVED, OUTPUT_BIAS, BLOCK, WIDTH_PAD, P_PAD,
        )  # fmt: skip
        tl.debug_barrier()
        g = tl.load(gradient + offset + p, mask=mask, other=0.0)
        size = tl.abs(loss) + tl.sum(tl.abs(g).to(tl.float64), axis=0)
        if size < float("inf"):  # which NaN is not either
            rate = tl.load(schedule + 3 * step).to(DTYPE)
            correction1 = tl.load(schedule + 3 * step + 1).to(DTYPE)
            correction2 = tl.load(schedule + 3 * step + 2).to(DTYPE)
            mean = beta1 * mean + rest1 * g
            square = beta2 * square + rest2 * g * g
            scale = root(divide(square, correction2 + tl.zeros_like(square))) + eps
            point = point - divide(rate * divide(mean, correction1 + tl.zeros_like(mean)), scale)
            tl.store(theta + offset + p, point, mask=mask)
            step += 1
        else:
            tl.store(failed + row, 1)
            step = n_steps
        tl.debug_barrier()
    tl.store(first + offset + p, mean, mask=mask)
    tl.store(second + offset + p, square, mask=mask)
