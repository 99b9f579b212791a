"""Elementary functions for the Triton kernels, in plain operations of float64 or float32.

Nothing here calls the vendor's library: the interpreter cannot run it, and a branch-free polynomial costs less. Every
rounding is written out (``fma`` where one is meant, and the kernels are compiled without contraction), so results do
not depend on what the compiler makes of the code around them. Errors are tested against mpmath.
"""

# The language of kernels is not Python's: types are those of Triton's compiler.
# pyright: reportArgumentType=false, reportIndexIssue=false, reportCallIssue=false, reportOperatorIssue=false
# pyright: reportGeneralTypeIssues=false, reportAttributeAccessIssue=false, reportPossiblyUnboundVariable=false
# pyright: reportOptionalMemberAccess=false

from __future__ import annotations

import math

import triton
import triton.language as tl
from triton import knobs

INTERPRETED = tl.constexpr(bool(knobs.runtime.interpret))

LOG2_E = tl.constexpr(1.4426950408889634)
# 33 and 15 bits, so that products with the exponent are exact: Cody & Waite (1980)
LN2_HIGH, LN2_LOW = tl.constexpr(6.93147180369123816490e-01), tl.constexpr(1.90821492927058770002e-10)
LN2_HIGH_32, LN2_LOW_32 = tl.constexpr(0.693359375), tl.constexpr(-2.12194440054690583e-4)
ROUND, ROUND_32 = tl.constexpr(6755399441055744.0), tl.constexpr(12582912.0)  # 1.5 * 2^52, 1.5 * 2^23
LARGEST, LARGEST_32 = tl.constexpr(700.0), tl.constexpr(80.0)  # exp is taken no further than here, on either side
LARGEST_BITS = tl.constexpr(0x4085E000)  # the upper half of 700.0
# (exp(r) - 1 - r) / r^2 on |r| <= ln(2)/2, interpolated at 10 Chebyshev points in 60 digits: 2e-17 relative to exp
EXP = tl.constexpr(
    (
        2.5100375929185925e-08,
        2.762007600563138e-07,
        2.7557268480106926e-06,
        2.480152132210459e-05,
        0.00019841269863040675,
        0.001388888891719689,
        0.008333333333330065,
        0.041666666666624164,
        0.16666666666666669,
        0.5000000000000001,
    )
)
EXP_32 = tl.constexpr(tuple(1.0 / math.factorial(k) for k in range(7, 1, -1)))
ARTANH = tl.constexpr(tuple(1.0 / k for k in range(35, 1, -2)))
ERF = tl.constexpr(
    tuple(2 / math.sqrt(math.pi) * (-1) ** n / (math.factorial(n) * (2 * n + 1)) for n in range(12, -1, -1))
)
ERF_SMALL = tl.constexpr(0.5)  # below, erf by its series: 1 - erfc would cancel
# exp(x^2) erfc(x) / u with u = 4 / (x + 4), as a polynomial in 2 u - 1: the mapping of Shepherd & Laframboise (1981),
# interpolated at 25 Chebyshev points in 60 digits; the error is 1e-17
ERFC_SCALE = tl.constexpr(4.0)
ERFC = tl.constexpr(
    (
        -4.655661938721577e-11,
        1.911634740904091e-11,
        5.812034739904228e-10,
        -1.7628045869288782e-10,
        -4.552190059670119e-09,
        6.884199377085253e-11,
        3.173816546169555e-08,
        1.8600660708162918e-08,
        -2.1197057112973495e-07,
        -3.5588623601894664e-07,
        1.1737640453675742e-06,
        4.715163962929047e-06,
        -9.088324391215065e-07,
        -4.420319201788889e-05,
        -0.00011376316484544304,
        7.023971479707819e-05,
        0.0015280139133715983,
        0.006592513335173417,
        0.01909537872735127,
        0.04350273430998323,
        0.08271289696950268,
        0.13521345782830863,
        0.19330217556630927,
        0.2441371822702205,
        0.27399891525012277,
    )
)


@triton.jit
def constant(value: tl.constexpr, like):
    """A number in the dtype and shape of a tensor; a bare number would be rounded to float32 by ``tl.fma``."""
    return tl.full(like.shape, value, like.dtype)


@triton.jit
def polynomial(x, coefficients: tl.constexpr, COUNT: tl.constexpr):
    """Horner's rule, the highest power's coefficient first; their COUNT, which the interpreter cannot ask for."""
    p = constant(coefficients[0], x)
    for i in tl.static_range(1, COUNT):
        p = tl.fma(p, x, constant(coefficients[i], x))
    return p


@triton.jit
def divide(a, b):
    """The correctly rounded quotient."""
    if a.dtype == tl.float64:
        return a / b
    else:
        return tl.div_rn(a, b)


@triton.jit
def root(x):
    """The correctly rounded square root."""
    if x.dtype == tl.float64:
        return tl.sqrt(x)
    else:
        return tl.sqrt_rn(x)


@triton.jit
def refined_reciprocal(x, y):
    """1/x from an approximation y to 20 bits: with h = 1 - x y, 1/x = y (1 + h + h^2) up to h^3."""
    h = tl.fma(-x, y, constant(1.0, x))
    return tl.fma(y, tl.fma(h, h, h), y)


@triton.jit
def reciprocal(x):
    """1/x to an ulp or so, for x well inside the range of normal numbers."""
    if INTERPRETED:
        return 1.0 / x
    elif x.dtype == tl.float64:
        seed = tl.inline_asm_elementwise(
            "rcp.approx.ftz.f64 $0, $1;", "=d,d", [x], dtype=tl.float64, is_pure=True, pack=1
        )
        return refined_reciprocal(x, seed)
    else:
        return tl.div_rn(constant(1.0, x), x)


@triton.jit
def exp_parts(u):
    """(2^n, q) with exp(u) = 2^n (1 + q); u beyond +-``LARGEST`` is taken there."""
    if u.dtype == tl.float64:
        bits = u.to(tl.int64, bitcast=True)
        # compared as integers, beside the floating-point units, which are what the kernels wait for
        beyond = ((bits >> 32).to(tl.int32) & 0x7FFFFFFF) > LARGEST_BITS
        u = tl.where(beyond, tl.where(bits < 0, constant(-LARGEST, u), constant(LARGEST, u)), u)
        t = tl.fma(u, constant(LOG2_E, u), constant(ROUND, u))
        n = t - ROUND
        r = tl.fma(n, constant(-LN2_LOW, u), tl.fma(n, constant(-LN2_HIGH, u), u))
        p = polynomial(r, EXP, 10)
        power = ((t.to(tl.int64, bitcast=True) << 52) + 0x3FF0000000000000).to(tl.float64, bitcast=True)
    else:
        u = tl.minimum(tl.maximum(u, -LARGEST_32), LARGEST_32)
        t = tl.fma(u, constant(LOG2_E, u), constant(ROUND_32, u))
        n = t - ROUND_32
        r = tl.fma(n, constant(-LN2_LOW_32, u), tl.fma(n, constant(-LN2_HIGH_32, u), u))
        p = polynomial(r, EXP_32, 6)
        power = ((t.to(tl.int32, bitcast=True) << 23) + 0x3F800000).to(tl.float32, bitcast=True)
    return power, tl.fma(r * r, p, r)


@triton.jit
def exp(u):
    """The exponential of u."""
    power, q = exp_parts(u)
    return tl.fma(power, q, power)


@triton.jit
def log1p_unit(e):
    """log(1 + e) for 0 <= e <= 1, as 2 artanh(e / (2 + e))."""
    h = e * reciprocal(2.0 + e)
    s = h * h
    return 2.0 * tl.fma(h * s, polynomial(s, ARTANH, 17), h)


@triton.jit
def erfc_positive(x):
    """erfc(x) for x >= 0."""
    square = x * x
    lost = tl.fma(x, x, -square)
    u = reciprocal(x + ERFC_SCALE) * ERFC_SCALE
    tail = u * polynomial(2.0 * u - 1.0, ERFC, 25)
    return exp(-square) * tl.fma(-lost, tail, tail)


@triton.jit
def erfc(x):
    """The complementary error function of x."""
    tail = erfc_positive(tl.abs(x))
    return tl.where(x < 0, 2.0 - tail, tail)


@triton.jit
def erf(x):
    """The error function of x."""
    far = 1.0 - erfc_positive(tl.abs(x))
    near = x * polynomial(x * x, ERF, 13)
    return tl.where(tl.abs(x) < ERF_SMALL, near, tl.where(x < 0, -far, far))
