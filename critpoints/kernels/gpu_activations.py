"""Activations for the Triton kernels: s - centre, s' and s'' of a tile of pre-activations, without branches."""

# The language of kernels is not Python's: types are those of Triton's compiler.
# pyright: reportArgumentType=false, reportIndexIssue=false, reportCallIssue=false, reportOperatorIssue=false
# pyright: reportGeneralTypeIssues=false, reportAttributeAccessIssue=false, reportPossiblyUnboundVariable=false
# pyright: reportOptionalMemberAccess=false

from __future__ import annotations

import math

import triton
import triton.language as tl

from critpoints.kernels.gpu_arithmetic import (
    constant,
    erf,
    erfc,
    exp,
    exp_parts,
    log1p_unit,
    reciprocal,
)

TWO_OVER_SQRT_PI = tl.constexpr(2 / math.sqrt(math.pi))
ONE_OVER_SQRT_2 = tl.constexpr(1 / math.sqrt(2))
ONE_OVER_SQRT_2PI = tl.constexpr(1 / math.sqrt(2 * math.pi))


@triton.jit
def sigmoid_parts(z):
    """(s, s', s'', s - 1/2) of the sigmoid; no part cancels in either tail or near 0."""
    power, q = exp_parts(-z)
    e = tl.fma(power, q, power)
    less_one = tl.fma(power, q, power - 1.0)  # expm1(-z)
    r = reciprocal(1.0 + e)
    slope = e * r * r
    odd = less_one * r  # 1 - 2 s
    return r, slope, slope * odd, -0.5 * odd


@triton.jit
def softplus(z):
    """log(1 + exp(z))."""
    e = exp(-tl.abs(z))
    return log1p_unit(e) + tl.maximum(z, 0.0)


@triton.jit
def activation(z, CODE: tl.constexpr, CENTRED: tl.constexpr):
    """(s - centre, s', s'') of the activation with this code; what is not used costs nothing.

    Args:
        CODE: ``Activation.code``.
        CENTRED: whether the sigmoid is taken less 1/2, for halved data.
    """
    if CODE == 0:
        s, s1, s2, centred = sigmoid_parts(z)
        if CENTRED:
            s = centred
    elif CODE == 1:  # tanh z = 2 sigmoid(2 z) - 1
        _, s1, s2, centred = sigmoid_parts(2.0 * z)
        s, s1, s2 = 2.0 * centred, 4.0 * s1, 8.0 * s2
    elif CODE == 2:
        s, s1 = erf(z), exp(-z * z) * TWO_OVER_SQRT_PI
        s2 = -2.0 * z * s1
    elif CODE == 3:
        s1, s2, _, _ = sigmoid_parts(z)
        s = softplus(z)
    elif CODE == 4:
        soft1, soft2, _, _ = sigmoid_parts(z)
        steep, steep1, steep2, _ = sigmoid_parts(4.0 * z)
        s = softplus(z) + steep
        s1 = tl.fma(constant(4.0, z), steep1, soft1)
        s2 = tl.fma(constant(16.0, z), steep2, soft2)
    elif CODE == 5:
        sigma, sigma1, sigma2, _ = sigmoid_parts(z)
        s, s1, s2 = z * sigma, tl.fma(z, sigma1, sigma), tl.fma(z, sigma2, 2.0 * sigma1)
    elif CODE == 6:
        cdf = 0.5 * erfc(z * -ONE_OVER_SQRT_2)
        density = exp(-0.5 * z * z) * ONE_OVER_SQRT_2PI
        s, s1 = z * cdf, tl.fma(z, density, cdf)
        s2 = density * tl.fma(-z, z, constant(2.0, z))
    else:
        s, s2 = tl.maximum(z, 0.0), tl.zeros_like(z)
        s1 = tl.where(z > 0, constant(1.0, z), s2)
    return s, s1, s2
