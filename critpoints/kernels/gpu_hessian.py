"""Triton kernels for dense Hessians: one program a student and tile of its matrix.

Each of a tile's parameters evaluates the activation of its own neuron anew, so that a tile needs nothing from others;
that is dearer than sharing them, and cheap beside the products, which are taken in float64 whatever the dtype.
"""

# The language of kernels is not Python's: types are those of Triton's compiler.
# pyright: reportArgumentType=false, reportIndexIssue=false, reportCallIssue=false, reportOperatorIssue=false
# pyright: reportGeneralTypeIssues=false, reportAttributeAccessIssue=false, reportPossiblyUnboundVariable=false
# pyright: reportOptionalMemberAccess=false

from __future__ import annotations

import triton
import triton.language as tl

from critpoints.kernels.gpu_activations import activation
from critpoints.kernels.gpu_gradient import BALANCE_WEIGHT, REFLECTION, SHIFT, residuals


@triton.jit
def residual_kernel(
    theta, width, inputs, targets, weights, residual, size, n, n_parameters,
    D: tl.constexpr, CODE: tl.constexpr, CENTRED: tl.constexpr, HALVED: tl.constexpr, OUTPUT_BIAS: tl.constexpr,
    BLOCK: tl.constexpr,
):  # fmt: skip
    """Weighted residuals of every row, and the sums of their absolute terms: (S, n) each."""
    row = tl.program_id(0).to(tl.int64)
    residuals(
        theta + row * n_parameters, width, inputs, targets, weights, residual + row * n, size + row * n, n,
        D, CODE, CENTRED, HALVED, OUTPUT_BIAS, True, BLOCK,
    )  # fmt: skip


@triton.jit
def rows_of_tile(
    theta, p, width, inputs, i, n,
    D: tl.constexpr, CODE: tl.constexpr, CENTRED: tl.constexpr, HALVED: tl.constexpr, OUTPUT_BIAS: tl.constexpr,
):  # fmt: skip
    """For parameters p and samples i, (p, i) each: df/dp, s' x_j, a s'' x_j and x_j, the last three 0 for outer p."""
    hidden, outer = p < width * D, (p >= width * D) & (p < width * (D + 1))
    neuron = tl.where(hidden, p // D, tl.where(outer, p - width * D, 0))
    a = tl.load(theta + width * D + neuron)[:, None]
    z = tl.load(theta + neuron * D)[:, None] * tl.load(inputs + i)[None, :]
    for j in tl.static_range(1, D):
        w = tl.load(theta + neuron * D + j)[:, None] + tl.zeros_like(z)
        z = tl.fma(w, tl.load(inputs + j * n + i)[None, :] + tl.zeros_like(z), z)
    s, s1, s2 = activation(z, CODE, CENTRED)
    x = tl.load(inputs + (p % D)[:, None] * n + i[None, :], mask=hidden[:, None], other=0.0)
    slope = s1 * x
    one = tl.zeros_like(z)
    if OUTPUT_BIAS and not HALVED:
        one = tl.where((p == width * (D + 1))[:, None], one + 1.0, one)
    jacobian = tl.where(hidden[:, None], a * slope, tl.where(outer[:, None], s, one))
    wide = tl.float64
    return jacobian.to(wide), slope.to(wide), (a * s2 * x).to(wide), x.to(wide)


@triton.jit
def balance_row(p, outer, width, reflection):
    """dB/dtheta of halved data: k for an output weight, 2 for the output bias."""
    weight = tl.zeros_like(p).to(tl.float64)
    weight = tl.where((p >= outer) & (p < outer + width), reflection + weight, weight)
    return tl.where(p == outer + width, 2.0 + weight, weight)


@triton.jit
def hessian_kernel(
    theta, width, inputs, weights, residual, size, constants, n, n_parameters, hessian, absolute,
    D: tl.constexpr, CODE: tl.constexpr, CENTRED: tl.constexpr, HALVED: tl.constexpr, OUTPUT_BIAS: tl.constexpr,
    WIDTH_PAD: tl.constexpr, TILE: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """One tile of the Hessian of one row, and in the first column of tiles the gradient's sums of absolute terms."""
    row = tl.program_id(0).to(tl.int64)
    theta, residual, size = theta + row * n_parameters, residual + row * n, size + row * n
    down, across = tl.program_id(1) * TILE + tl.arange(0, TILE), tl.program_id(2) * TILE + tl.arange(0, TILE)
    # parameters beyond the last are evaluated as the last, and not stored
    p, r = tl.minimum(down, n_parameters - 1), tl.minimum(across, n_parameters - 1)
    products, bends = tl.zeros([TILE, TILE], tl.float64), tl.zeros([TILE, TILE], tl.float64)
    slopes_p, slopes_r = tl.zeros([TILE], tl.float64), tl.zeros([TILE], tl.float64)
    terms = tl.zeros([TILE], tl.float64)
    for start in range(0, n, BLOCK):
        i = start + tl.arange(0, BLOCK)
        q, e = tl.load(weights + i).to(tl.float64)[None, :], tl.load(residual + i).to(tl.float64)[None, :]
        jacobian_p, slope_p, bend_p, _ = rows_of_tile(
            theta, p, width, inputs, i, n, D, CODE, CENTRED, HALVED, OUTPUT_BIAS
        )
        jacobian_r, slope_r, _, x_r = rows_of_tile(theta, r, width, inputs, i, n, D, CODE, CENTRED, HALVED, OUTPUT_BIAS)
        products += tl.dot(q * jacobian_p, tl.trans(jacobian_r), input_precision="ieee", out_dtype=tl.float64)
        bends += tl.dot(e * bend_p, tl.trans(x_r), input_precision="ieee", out_dtype=tl.float64)
        slopes_p += tl.sum(e * slope_p, axis=1)
        slopes_r += tl.sum(e * slope_r, axis=1)
        terms += tl.sum(tl.abs(jacobian_p) * tl.load(size + i).to(tl.float64)[None, :], axis=1)
    outer = width * D
    neuron_p, neuron_r = tl.where(p < outer, p // D, p - outer), tl.where(r < outer, r // D, r - outer)
    hidden_p, hidden_r = (p < outer)[:, None], (r < outer)[None, :]
    same = neuron_p[:, None] == neuron_r[None, :]
    # D2 f is block diagonal over the neurons: a s'' x x^T, and s' x beside it
    second = tl.where(hidden_p & hidden_r, bends, 0.0)
    second += tl.where(hidden_p & (hidden_r == 0), slopes_p[:, None] + tl.zeros_like(second), 0.0)
    second += tl.where((hidden_p == 0) & hidden_r, slopes_r[None, :] + tl.zeros_like(second), 0.0)
    value = 2.0 * (products + tl.where(same, second, 0.0))
    terms = 2.0 * terms
    if HALVED:
        weight, reflection = tl.load(constants + BALANCE_WEIGHT), tl.load(constants + REFLECTION)
        row_p, row_r = balance_row(p, outer, width, reflection), balance_row(r, outer, width, reflection)
        value += 2.0 * weight * (row_p[:, None] * row_r[None, :])
        k = tl.arange(0, WIDTH_PAD)
        a = tl.load(theta + outer + k, mask=k < width, other=0.0).to(tl.float64)
        sizes = reflection * tl.sum(tl.abs(a), axis=0) + tl.abs(tl.load(constants + SHIFT))
        if OUTPUT_BIAS:
            sizes += 2.0 * tl.abs(tl.load(theta + outer + width).to(tl.float64))
        terms += 2.0 * weight * row_p * sizes
    place = hessian + row * n_parameters * n_parameters + down[:, None] * n_parameters + across[None, :]
    inside = (down < n_parameters)[:, None] & (across < n_parameters)[None, :]
    tl.store(place, value.to(hessian.dtype.element_ty), mask=inside)
    if tl.program_id(2) == 0:
        tl.store(absolute + row * n_parameters + down, terms.to(absolute.dtype.element_ty), mask=down < n_parameters)
