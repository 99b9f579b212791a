"""Activations for the compiled CPU kernels: value, first and second derivative of a block of pre-activations.

A call of the C library's exp for every element would cost more than everything else together, and would keep the
compiler from using vector instructions. So exp is written out: range reduction to |r| <= ln(2)/2, a polynomial, and
the exponent put in as bits. Every function here is a plain loop that vectorises. Errors are tested against mpmath.
"""

from __future__ import annotations

import math
from typing import Any

import numba
import numpy as np

from critpoints.kernels.intrinsics import as_bits, as_float, fma

LOG2_E = 1.4426950408889634
LN2_HIGH = 6.93147180369123816490e-01  # 33 bits, so that n * LN2_HIGH is exact: Cody & Waite (1980)
LN2_LOW = 1.90821492927058770002e-10
ROUND = 6755399441055744.0  # 1.5 * 2^52: adding it rounds to an integer, held in the low bits
EXP_FLOOR = -700.0  # below, exp is taken at the floor: 1e-304
E2, E3, E4, E5, E6, E7, E8, E9, E10, E11, E12, E13 = (1.0 / math.factorial(k) for k in range(2, 14))
TWO_OVER_SQRT_PI = 2 / math.sqrt(math.pi)
ONE_OVER_SQRT_2 = 1 / math.sqrt(2)
ONE_OVER_SQRT_2PI = 1 / math.sqrt(2 * math.pi)

_inline: Any = numba.njit(inline="always", error_model="numpy")
_block: Any = numba.njit(error_model="numpy", cache=True)


@_inline
def exp_parts(u):
    """(2^n, q) with exp(u) = 2^n (1 + q), for u <= 700."""
    u = u if u > EXP_FLOOR else EXP_FLOOR
    t = fma(u, LOG2_E, ROUND)
    n = t - ROUND
    r = fma(n, -LN2_LOW, fma(n, -LN2_HIGH, u))
    # by pairs, not one term at a time: a third of the steps that wait for one another (Estrin 1960)
    r2 = r * r
    r4 = r2 * r2
    low = fma(fma(E5, r, E4), r2, fma(E3, r, E2))
    middle = fma(fma(E9, r, E8), r2, fma(E7, r, E6))
    high = fma(fma(E13, r, E12), r2, fma(E11, r, E10))
    p = fma(fma(high, r4, middle), r4, low)
    return as_float((as_bits(t) << 52) + 0x3FF0000000000000), fma(r2, p, r)


@_inline
def exp_negative(u):
    """exp(u) for u <= 0."""
    power, q = exp_parts(u)
    return fma(power, q, power)


@_inline
def log1p_unit(e):
    """log(1 + e) for 0 <= e <= 1, as 2 artanh(e / (2 + e))."""
    h = e / (2.0 + e)
    s = h * h
    p = fma(s, 1 / 35, 1 / 33)
    p = fma(p, s, 1 / 31)
    p = fma(p, s, 1 / 29)
    p = fma(p, s, 1 / 27)
    p = fma(p, s, 1 / 25)
    p = fma(p, s, 1 / 23)
    p = fma(p, s, 1 / 21)
    p = fma(p, s, 1 / 19)
    p = fma(p, s, 1 / 17)
    p = fma(p, s, 1 / 15)
    p = fma(p, s, 1 / 13)
    p = fma(p, s, 1 / 11)
    p = fma(p, s, 1 / 9)
    p = fma(p, s, 1 / 7)
    p = fma(p, s, 1 / 5)
    p = fma(p, s, 1 / 3)
    return 2.0 * fma(h * s, p, h)


@_inline
def sigmoid_parts(z):
    """(s, s', s'') of the sigmoid, without cancellation in either tail."""
    power, q = exp_parts(-abs(z))
    e = fma(power, q, power)
    r = 1.0 / (1.0 + e)
    slope = e * r * r
    less = e * r
    odd = -fma(power, q, power - 1.0) * r  # (1 - e) / (1 + e), accurate near 0
    s = less if z < 0 else r
    return s, slope, slope * (odd if z < 0 else -odd)


@_block
def _sigmoid(z, n, s, s1, s2):
    for i in range(n):
        s[i], s1[i], s2[i] = sigmoid_parts(z[i])


@_block
def _sigmoid_first(z, n, s, s1):
    for i in range(n):
        power, q = exp_parts(-abs(z[i]))
        e = fma(power, q, power)
        r = 1.0 / (1.0 + e)
        less = e * r
        s1[i] = less * r
        s[i] = less if z[i] < 0 else r


@_block
def _sigmoid_centred(z, n, s, s1):
    for i in range(n):
        v = z[i]
        power, q = exp_parts(-abs(v))
        e = fma(power, q, power)
        r = 1.0 / (1.0 + e)
        half = -0.5 * fma(power, q, power - 1.0) * r  # |s - 1/2| = tanh(|z|/2)/2 by expm1: accurate near 0
        s1[i] = e * r * r
        s[i] = math.copysign(half, v)


@_block
def _tanh(z, n, s, s1, s2):
    for i in range(n):
        power, q = exp_parts(-2.0 * abs(z[i]))
        e = fma(power, q, power)
        r = 1.0 / (1.0 + e)
        t = fma(power, q, power - 1.0) * r
        s[i] = t if z[i] < 0 else -t
        s1[i] = 4.0 * e * r * r
        s2[i] = -2.0 * s[i] * s1[i]


@_block
def _erf(z, n, s, s1, s2):
    for i in range(n):
        s[i] = math.erf(z[i])
    for i in range(n):
        s1[i] = TWO_OVER_SQRT_PI * exp_negative(-z[i] * z[i])
        s2[i] = -2.0 * z[i] * s1[i]


@_block
def _softplus(z, n, s, s1, s2):
    for i in range(n):
        s1[i], s2[i], _ = sigmoid_parts(z[i])
        e = exp_negative(-abs(z[i]))
        s[i] = log1p_unit(e) + (0.0 if z[i] < 0 else z[i])


@_block
def _softplus_sigmoid(z, n, s, s1, s2):
    for i in range(n):
        soft, soft1, _ = sigmoid_parts(z[i])
        steep, steep1, steep2 = sigmoid_parts(4.0 * z[i])
        e = exp_negative(-abs(z[i]))
        s[i] = log1p_unit(e) + (0.0 if z[i] < 0 else z[i]) + steep
        s1[i] = fma(4.0, steep1, soft)
        s2[i] = fma(16.0, steep2, soft1)


@_block
def _silu(z, n, s, s1, s2):
    for i in range(n):
        sigma, sigma1, sigma2 = sigmoid_parts(z[i])
        s[i] = z[i] * sigma
        s1[i] = fma(z[i], sigma1, sigma)
        s2[i] = fma(z[i], sigma2, 2.0 * sigma1)


@_block
def _gelu(z, n, s, s1, s2):
    for i in range(n):
        s[i] = 0.5 * math.erfc(-z[i] * ONE_OVER_SQRT_2)
    for i in range(n):
        density = ONE_OVER_SQRT_2PI * exp_negative(-0.5 * z[i] * z[i])
        s1[i] = fma(z[i], density, s[i])
        s[i] = z[i] * s[i]
        s2[i] = density * fma(-z[i], z[i], 2.0)


@_block
def _relu(z, n, s, s1, s2):
    for i in range(n):
        s[i] = z[i] if z[i] > 0 else 0.0
        s1[i] = 1.0 if z[i] > 0 else 0.0
        s2[i] = 0.0


@_block
def fill(code, centre, z, n, s, s1, s2, second):
    """Fills s - centre, s' and s'' of the first ``n`` entries; s'' is scratch unless ``second``.

    Args:
        code: ``Activation.code``.
        centre: 0.5 for the centred sigmoid of halved data, else 0.
    """
    if code == 0 and centre == 0.5:
        _sigmoid_centred(z, n, s, s1)
        if second:
            for i in range(n):
                s2[i] = -2.0 * s[i] * s1[i]
    elif code == 0 and not second:
        _sigmoid_first(z, n, s, s1)
    elif code == 0:
        _sigmoid(z, n, s, s1, s2)
    elif code == 1:
        _tanh(z, n, s, s1, s2)
    elif code == 2:
        _erf(z, n, s, s1, s2)
    elif code == 3:
        _softplus(z, n, s, s1, s2)
    elif code == 4:
        _softplus_sigmoid(z, n, s, s1, s2)
    elif code == 5:
        _silu(z, n, s, s1, s2)
    elif code == 6:
        _gelu(z, n, s, s1, s2)
    else:
        _relu(z, n, s, s1, s2)


def evaluate(code: int, z: np.ndarray, centre: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
    """s - centre (first) and the stacked (s', s'') of a 1-D array; for tests and diagnostics."""
    z = np.ascontiguousarray(z, dtype=np.float64)
    s, s1, s2 = np.empty_like(z), np.empty_like(z), np.empty_like(z)
    fill(code, centre, z, len(z), s, s1, s2, True)
    return s, np.stack([s1, s2])
