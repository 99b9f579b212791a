"""Ball arithmetic: precision, exact numbers in and out, derivatives of activations over intervals.

A ball (``flint.arb``) is an interval, midpoint +- radius; every operation returns a ball that contains all results of
the operation on members of its operands. Three facts of the library shape this package: its precision is a global of
the process, so that a process computes with balls on one thread at a time; balls do not pickle, so that decimal strings
go from process to process; and what a decimal string denotes is in general not a binary number, so that its ball has a
radius.
Source: F. Johansson, "Arb: efficient arbitrary-precision midpoint-radius interval arithmetic" (2017).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from decimal import ROUND_CEILING, ROUND_DOWN, ROUND_FLOOR, Context, Decimal
from fractions import Fraction
from threading import RLock

from flint import arb, arb_mat, ctx, fmpq

from critpoints.activations import Activation
from critpoints.errors import InvalidArgument

MAX_ORDER = 4  # of the derivatives below
DIGITS = 6  # of a bound that is written down, rounded to the safe side
_ONE_THREAD = RLock()


@contextmanager
def precision(bits: int) -> Iterator[None]:
    """Computes with ``bits`` bits inside; the precision is a global of the process, so other threads wait."""
    with _ONE_THREAD:
        before = ctx.prec
        ctx.prec = bits
        try:
            yield
        finally:
            ctx.prec = before


def ball(number: Fraction | float | int | str) -> arb:
    """The ball around an exact number: a fraction, the binary value of a float, or what a string says ("3/5", "1e-9").

    >>> ball("3/5").contains(fmpq(3, 5)), ball(0.6).contains(fmpq(3, 5)), ball(0.5).is_exact()
    (True, False, True)
    """
    if isinstance(number, float):
        return arb(number)
    exact = Fraction(number)
    return arb(fmpq(exact.numerator, exact.denominator))


def interval(centre: arb, radius: arb) -> arb:
    """All numbers within ``radius`` of a member of ``centre``."""
    return centre + arb(0, radius.abs_upper())


def vector(entries: Iterable[arb]) -> arb_mat:
    """A column."""
    column = list(entries)
    return arb_mat(len(column), 1, column)


def exact_value(x: arb) -> Fraction:
    """The value of an exact ball.

    >>> exact_value(arb("1.5"))
    Fraction(3, 2)
    """
    mantissa, exponent = x.man_exp()
    return Fraction(int(mantissa)) * Fraction(2) ** int(exponent)


def _rounded(x: arb, digits: int, rounding: str) -> str:
    value = exact_value(x)
    context = Context(prec=digits, rounding=rounding, Emin=-(10**6), Emax=10**6)
    number = context.divide(Decimal(value.numerator), Decimal(value.denominator)).normalize(context)
    return format(number, "f" if -4 <= number.adjusted() <= digits else "e")


def lower_text(x: arb, digits: int = DIGITS) -> str:
    """A decimal that no member of ``x`` falls below."""
    return _rounded(x.lower(), digits, ROUND_FLOOR)


def upper_text(x: arb, digits: int = DIGITS) -> str:
    """A decimal that no member of ``x`` exceeds."""
    return _rounded(x.upper(), digits, ROUND_CEILING)


def middle_text(x: arb, digits: int) -> str:
    """The midpoint, rounded to ``digits`` decimal digits."""
    return _rounded(x.mid(), digits, ROUND_DOWN)


def exact_text(number: Fraction) -> str:
    """An exact number as text: a decimal where it ends, else a fraction.

    >>> exact_text(Fraction(5, 4)), exact_text(Fraction(1, 3)), exact_text(Fraction(-7))
    ('1.25', '1/3', '-7')
    """
    rest, twos, fives = number.denominator, 0, 0
    while rest % 2 == 0:
        rest, twos = rest // 2, twos + 1
    while rest % 5 == 0:
        rest, fives = rest // 5, fives + 1
    places = max(twos, fives)
    if rest != 1 or places > 60:
        return str(number)
    return format(Decimal(int(number * 10**places)).scaleb(-places, Context(prec=2000)), "f")


def largest(entries: Iterable[arb]) -> arb:
    """An upper bound of the largest absolute value."""
    bound = arb(0)
    for entry in entries:
        bound = bound.max(entry.abs_upper())
    return bound


def power(x: arb, exponent: int) -> arb:
    """x^exponent by multiplication: the library's ** gives NaN for balls around 0."""
    result = arb(1)
    for _ in range(exponent):
        result = result * x
    return result


def norm(entries: Iterable[arb]) -> arb:
    """The Euclidean norm."""
    return sum((entry * entry for entry in entries), arb(0)).nonnegative_part().sqrt()


def _sigmoid(z: arb, orders: int) -> list[arb]:
    e = (-z).exp()
    s = 1 / (1 + e)
    slope, tilt = e * s * s, (e - 1) * s  # s (1 - s) and 1 - 2 s
    bend = slope * tilt
    return [s, slope, bend, slope * (1 - 6 * slope), bend * (1 - 12 * slope)][: orders + 1]


def _tanh(z: arb, orders: int) -> list[arb]:
    values = [2 ** (n + 1) * s for n, s in enumerate(_sigmoid(2 * z, orders))]
    return [z.tanh(), *values[1:]]


def _erf(z: arb, orders: int) -> list[arb]:
    density = 2 * (-z * z).exp() / arb.pi().sqrt()
    factors = (1, -2 * z, 4 * z * z - 2, (12 - 8 * z * z) * z)
    return [z.erf(), *(density * factor for factor in factors)][: orders + 1]


def _softplus(z: arb, orders: int) -> list[arb]:
    return [z.exp().log1p(), *_sigmoid(z, MAX_ORDER)][: orders + 1]


def _softplus_sigmoid(z: arb, orders: int) -> list[arb]:
    pairs = zip(_softplus(z, orders), _sigmoid(4 * z, orders), strict=True)
    return [soft + 4**n * steep for n, (soft, steep) in enumerate(pairs)]


def _silu(z: arb, orders: int) -> list[arb]:
    s = _sigmoid(z, orders)
    return [z * s[0], *(n * s[n - 1] + z * s[n] for n in range(1, orders + 1))]


def _gelu(z: arb, orders: int) -> list[arb]:
    square = z * z
    density = (-square / 2).exp() / (2 * arb.pi()).sqrt()
    cdf = (-z / arb(2).sqrt()).erfc() / 2
    factors = (2 - square, (square - 4) * z, (7 - square) * square - 4)
    return [z * cdf, cdf + z * density, *(density * factor for factor in factors)][: orders + 1]


_DERIVATIVES: dict[str, Callable[[arb, int], list[arb]]] = {
    "sigmoid": _sigmoid,
    "tanh": _tanh,
    "erf": _erf,
    "softplus": _softplus,
    "softplus_sigmoid": _softplus_sigmoid,
    "silu": _silu,
    "gelu": _gelu,
}


def check_smooth(activation: Activation) -> None:
    """Makes sure that the activation has ball arithmetic.

    Raises:
        InvalidArgument: it has a kink, or is not in the table.
    """
    if activation.name not in _DERIVATIVES:
        raise InvalidArgument(
            f"activation {activation.name} has no derivatives in ball arithmetic; certificates exist for "
            f"{', '.join(_DERIVATIVES)}"
        )


def activation_derivatives(activation: Activation, z: Sequence[arb], orders: int) -> list[list[arb]]:
    """Enclosures of s, s', .., s^(orders) over each ball of ``z``; one list an order.

    Thin balls go through the closed forms. Over wide ones these forget that all terms share one z, so that the
    mean-value form is used: s^(n)(Z) is in s^(n)(mid Z) + s^(n+1)(Z) (Z - mid Z), which is tight to second order; the
    fourth derivative is left as it is.

    Raises:
        InvalidArgument: the activation has a kink; more derivatives than there are.
    """
    check_smooth(activation)
    if orders > MAX_ORDER:
        raise InvalidArgument(f"orders must be at most {MAX_ORDER}, got {orders}")
    formula = _DERIVATIVES[activation.name]
    thin = arb(2) ** -(ctx.prec // 2)
    rows = []
    for each in z:
        radius = each.rad()
        if radius < thin:
            rows.append(formula(each, orders))
            continue
        deviation, over = arb(0, radius), formula(each, min(orders + 1, MAX_ORDER))
        values = zip(formula(each.mid(), orders), over[1:], strict=False)
        rows.append([value + slope * deviation for value, slope in values] + over[MAX_ORDER : orders + 1])
    return [list(column) for column in zip(*rows, strict=True)]
