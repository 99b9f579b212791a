"""Balls for the independent verifier: precision, derivatives of activations, inertia.

Written apart from the prover's, on purpose: the only code in common is the library. A ball (flint.arb) is an interval,
midpoint +- radius, and every operation on balls encloses its results (F. Johansson, "Arb", 2017).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from fractions import Fraction
from threading import RLock

from flint import arb, arb_mat, ctx, fmpq

from critpoints.certification.verifier_format import Rejected

Box = Sequence[arb]
Inertia = tuple[int, int, int]  # negative, zero, positive
MAX_BITS = 4096
BOX_BITS = 128  # of Hessians over boxes and their inverses: two words, which the library handles fastest
CENTRE_BITS = 192  # of the gradient at the centre, at first
_ONE_THREAD = RLock()


@contextmanager
def working_bits(bits: int) -> Iterator[None]:
    """Computes with ``bits`` bits inside; the library's precision is a global of the process, so other threads wait."""
    with _ONE_THREAD:
        before, ctx.prec = ctx.prec, bits
        try:
            yield
        finally:
            ctx.prec = before


def enclose(number: Fraction | int) -> arb:
    """The ball around a rational number."""
    return arb(fmpq(number.numerator, number.denominator))


def box_around(centre: Sequence[Fraction], radius: Fraction) -> list[arb]:
    """All theta with |theta_i - centre_i| <= radius."""
    spread = arb(0, enclose(radius).abs_upper())
    return [enclose(c) + spread for c in centre]


def column(entries: Sequence[arb]) -> arb_mat:
    """A matrix of one column."""
    return arb_mat(len(entries), 1, entries)


# s, s', .., s^(n) of the two functions that all activations are made of
def _logistic(z: arb, n: int) -> list[arb]:
    e = (-z).exp()
    s = 1 / (1 + e)
    u = e * s * s  # s' = s (1 - s)
    if n < 2:
        return [s, u][: n + 1]
    t = (e - 1) * s  # 1 - 2 s, so that u' = u t and t' = -2 u
    b = u * t
    rows = [s, u, b, u * (1 - 6 * u)]
    if n > 3:
        v = u * u
        rows += [b * (1 - 12 * u), u * (1 - 30 * u + 120 * v), b * (1 - 60 * u + 360 * v)]
    return rows[: n + 1]


def _normal_distribution(z: arb, n: int) -> list[arb]:
    rows = [(-z / arb(2).sqrt()).erfc() / 2, (-z * z / 2).exp() / (2 * arb.pi()).sqrt()]
    for k in range(2, n + 1):  # from phi' = -z phi, by Leibniz
        rows.append(-z * rows[k - 1] - (k - 2) * (rows[k - 2] if k > 2 else 0))
    return rows[: n + 1]


MAX_ORDER = 6


def _times_z(z: arb, rows: list[arb]) -> list[arb]:
    """Derivatives of z s(z) from those of s."""
    return [z * row + (k * rows[k - 1] if k else 0) for k, row in enumerate(rows)]


def _softplus(z: arb, n: int) -> list[arb]:
    return [z.exp().log1p(), *_logistic(z, n - 1)] if n else [z.exp().log1p()]


def _erf(z: arb, n: int) -> list[arb]:
    root, rows = arb(2).sqrt(), _normal_distribution(arb(2).sqrt() * z, n)
    return [2 * rows[0] - 1, *(2 * power(root, k) * rows[k] for k in range(1, n + 1))]


def _tanh(z: arb, n: int) -> list[arb]:
    rows = _logistic(2 * z, n)
    return [2 * rows[0] - 1, *(2 ** (k + 1) * rows[k] for k in range(1, n + 1))]


def _softplus_sigmoid(z: arb, n: int) -> list[arb]:
    return [p + 4**k * s for k, (p, s) in enumerate(zip(_softplus(z, n), _logistic(4 * z, n), strict=True))]


_ACTIVATIONS: dict[str, Callable[[arb, int], list[arb]]] = {
    "sigmoid": _logistic,
    "tanh": _tanh,
    "erf": _erf,
    "softplus": _softplus,
    "softplus_sigmoid": _softplus_sigmoid,
    "silu": lambda z, n: _times_z(z, _logistic(z, n)),
    "gelu": lambda z, n: _times_z(z, _normal_distribution(z, n)),
}


def power(x: arb, exponent: int) -> arb:
    """x^exponent by multiplication; the library's ** gives NaN for balls around 0."""
    result = arb(1)
    for _ in range(exponent):
        result = result * x
    return result


def derivatives(activation: str, z: arb, n: int) -> list[arb]:
    """Enclosures of s, .., s^(n) over ``z``, n < MAX_ORDER.

    Over a wide ball by the mean value theorem, from the top downwards: s^(k)(Z) is in s^(k)(mid) + s^(k+1)(Z) (Z - mid)
    with the enclosure of s^(k+1)(Z) just found.
    """
    formula, radius = _ACTIVATIONS[activation], z.rad()
    if radius < arb(2) ** -(ctx.prec // 2):
        return formula(z, n)
    rows, enclosure, deviation = formula(z.mid(), n), formula(z, n + 1)[n + 1], arb(0, radius)
    for k in range(n, -1, -1):
        enclosure = rows[k] + enclosure * deviation
        rows[k] = enclosure
    return rows


def inertia(matrix: arb_mat) -> Inertia:
    """The inertia that all symmetric matrices in ``matrix`` share, by elimination with pivots of size 1 and 2.

    With S the pivot's block, A = [[S, B^T], [B, C]] is congruent to S and C - B S^{-1} B^T (Sylvester's law); a block
    of size 2 with negative determinant has one eigenvalue of each sign (J. R. Bunch and B. N. Parlett, 1971).

    Raises:
        Rejected: a pivot's ball contains zero.
    """
    rows, left = matrix.tolist(), list(range(matrix.nrows()))
    negative = positive = 0
    while left:
        size = {(i, j): float(abs(rows[i][j]).mid()) for i in left for j in left if i <= j}
        best = max(size, key=lambda pair: size[pair])
        k = max(left, key=lambda i: size[i, i])
        if best[0] == best[1] or size[k, k] > 0.6 * size[best]:
            pivot = rows[k][k]
            if pivot.contains(0) or not pivot.is_finite():
                raise Rejected(f"a pivot of the elimination, {pivot.str(3)}, may be zero")
            positive, negative = positive + int(pivot > 0), negative + int(pivot < 0)
            left.remove(k)
            block = [(k, k, 1 / pivot)]
        else:
            i, j = best
            determinant = rows[i][i] * rows[j][j] - rows[i][j] * rows[i][j]
            if not determinant < 0:
                raise Rejected(f"a determinant in the elimination, {determinant.str(3)}, may not be negative")
            positive, negative = positive + 1, negative + 1
            left = [k for k in left if k not in best]
            other = -rows[i][j] / determinant
            block = [
                (i, i, rows[j][j] / determinant),
                (j, j, rows[i][i] / determinant),
                (i, j, other),
                (j, i, other),
            ]
        for r in left:
            for c in left:
                rows[r][c] = rows[r][c] - sum((rows[r][i] * s * rows[j][c] for i, j, s in block), arb(0))
    return negative, 0, positive
