"""The table of activations against mpmath: derivatives, bounds, parity; and the compiled activations likewise."""

import math
from collections.abc import Callable
from functools import cache
from itertools import pairwise

import mpmath
import numpy as np
import pytest
import sympy
import torch
from mpmath import mp

from critpoints.activations import ACTIVATIONS, MAX_ORDER, Activation, get_activation
from critpoints.errors import InvalidArgument
from critpoints.kernels import cpu_activations

EPS = float(np.finfo(np.float64).eps)
ORDERS = range(MAX_ORDER + 1)
SMOOTH = [a for a in ACTIVATIONS.values() if a.smooth]
every_activation = pytest.mark.parametrize("activation", ACTIVATIONS.values(), ids=lambda a: a.name)
every_smooth_activation = pytest.mark.parametrize("activation", SMOOTH, ids=lambda a: a.name)

# Definitions, differentiated symbolically: nothing is shared with the table.
Z = sympy.Symbol("z", real=True)
LOGISTIC = 1 / (1 + sympy.exp(-Z))
DEFINITIONS = {
    "sigmoid": LOGISTIC,
    "tanh": sympy.tanh(Z),
    "erf": sympy.erf(Z),
    "softplus": sympy.log(1 + sympy.exp(Z)),
    "softplus_sigmoid": sympy.log(1 + sympy.exp(Z)) + LOGISTIC.subs(Z, 4 * Z),
    "silu": Z * LOGISTIC,
    "gelu": Z * sympy.erfc(-Z / sympy.sqrt(2)) / 2,
    "relu": sympy.Piecewise((Z, Z > 0), (0, True)),
}

# Both tails, the neighbourhood of zero, and points between that are no round numbers.
POINTS = np.unique(
    np.concatenate([np.linspace(-30, 30, 25), np.linspace(-4.1, 4.3, 28), [1e-9, -1e-9, 1e-4, -1e-4, 0.0]])
)


@cache
def definition(name: str, order: int) -> Callable[[mpmath.mpf], mpmath.mpf]:
    return sympy.lambdify(Z, sympy.diff(DEFINITIONS[name], Z, order), "mpmath")


@cache
def exact(name: str, order: int, z: float) -> mpmath.mpf:
    """The derivative to 30 digits at least: up to 200 of the 300 are lost in the left tail of gelu."""
    with mp.workdps(300):
        return mp.mpf(definition(name, order)(mp.mpf(z)))


def condition(name: str, order: int, z: float) -> mpmath.mpf:
    """What relative errors of size 1 in the derivative and in z (near zero: absolute ones) come to together."""
    return abs(exact(name, order, z)) + max(abs(z), 1) * abs(exact(name, order + 1, z))


def errors_in_ulp(name: str, order: int, points: np.ndarray, values: np.ndarray, floor: float) -> list[float]:
    """Errors in units of eps times the condition; absolute errors below ``floor`` (underflow) count as none."""
    found = []
    for z, value in zip(points.tolist(), values.tolist(), strict=True):
        error = abs(mp.mpf(value) - exact(name, order, z))
        found.append(0.0 if error <= floor else float(error / (EPS * condition(name, order, z))))
    return found


@pytest.mark.parametrize("order", ORDERS)
@every_activation
def test_derivatives_agree_with_mpmath_in_both_tails(activation: Activation, order: int) -> None:
    values = activation.derivative(torch.from_numpy(POINTS), order).numpy()
    errors = errors_in_ulp(activation.name, order, POINTS, values, floor=float(np.finfo(np.float64).tiny))
    assert max(errors) <= 8, f"{max(errors):.1f} eps at z = {POINTS[int(np.argmax(errors))]}"


@every_activation
def test_compiled_activations_agree_with_mpmath_in_both_tails(activation: Activation) -> None:
    value, higher = cpu_activations.evaluate(activation.code, POINTS)
    for order, values in enumerate((value, *higher)):
        errors = errors_in_ulp(activation.name, order, POINTS, values, floor=1e-300)  # exp stops at exp(-700)
        assert max(errors) <= 8, f"order {order}: {max(errors):.1f} eps at z = {POINTS[int(np.argmax(errors))]}"


def test_the_compiled_centred_sigmoid_keeps_its_relative_accuracy_near_zero() -> None:
    value, (slope, bend) = cpu_activations.evaluate(ACTIVATIONS["sigmoid"].code, POINTS, 0.5)
    for z, got in zip(POINTS.tolist(), value.tolist(), strict=True):
        wanted = mp.tanh(mp.mpf(z) / 2) / 2  # s - 1/2
        assert abs(got - wanted) <= 8 * EPS * abs(wanted)
    for order, values in ((1, slope), (2, bend)):
        assert max(errors_in_ulp("sigmoid", order, POINTS, values, floor=1e-300)) <= 8


@pytest.mark.parametrize("length", [1, 7, 16, 33])
@every_activation
def test_compiled_activations_do_not_depend_on_the_length_of_the_block(activation: Activation, length: int) -> None:
    z = np.random.default_rng(length).uniform(-20, 20, length)
    value, higher = cpu_activations.evaluate(activation.code, z)
    for i in range(length):
        one, one_higher = cpu_activations.evaluate(activation.code, z[i : i + 1])
        assert one[0] == value[i]
        assert np.array_equal(one_higher[:, 0], higher[:, i])


def supremum(name: str, order: int) -> tuple[float, float]:
    """Largest |s^(n)| in 30 digits and where: the best of a grid, refined by golden sections in its two cells."""

    def size(z: mpmath.mpf) -> mpmath.mpf:
        return abs(exact(name, order, z))

    grid = [mp.mpf(k) / 8 for k in range(-96, 97)]
    best = max(range(len(grid)), key=lambda k: size(grid[k]))
    low, high = grid[max(best - 1, 0)], grid[min(best + 1, len(grid) - 1)]
    ratio = (mp.sqrt(5) - 1) / 2
    for _ in range(60):
        left, right = high - ratio * (high - low), low + ratio * (high - low)
        low, high = (low, right) if size(left) > size(right) else (left, high)
    top = (low + high) / 2
    return float(size(top)), float(top)


BOUNDED = [(a, n) for a in SMOOTH for n in ORDERS if math.isfinite(a.sup[n])]


@pytest.mark.parametrize(("activation", "order"), BOUNDED, ids=lambda each: getattr(each, "name", each))
def test_bounds_lie_above_the_suprema_but_not_far(activation: Activation, order: int) -> None:
    top, where = supremum(activation.name, order)
    assert activation.sup[order] >= top, f"attained at z = {where}"
    limits = (-40.0, 40.0)  # a supremum may be a limit: 1 for the sigmoid
    highest = max(top, *(float(abs(exact(activation.name, order, z))) for z in limits))
    assert highest <= activation.sup[order] <= highest * (1 + 1e-6)


def test_missing_bounds_are_missing_for_a_reason() -> None:
    unbounded = {(a.name, n) for a in ACTIVATIONS.values() for n in ORDERS if math.isinf(a.sup[n])}
    growing = {(a.name, 0) for a in ACTIVATIONS.values() if float(a(torch.tensor(1e6))) > 1e5}
    assert unbounded == growing | {("relu", n) for n in (2, 3, 4)}  # which are not functions at 0
    assert ACTIVATIONS["relu"].sup[1] == 1.0


@every_activation
def test_reflection_is_the_constant_of_the_parity(activation: Activation) -> None:
    z = torch.from_numpy(POINTS)
    sums = activation(z) + activation(-z)
    if activation.reflection is None:
        assert float(sums.max() - sums.min()) > 1
        return
    assert float((sums - activation.reflection).abs().max()) <= 2 * EPS
    for order in range(1, MAX_ORDER + 1):
        sign = -1 if order % 2 == 0 else 1
        assert torch.equal(activation.derivative(-z, order), sign * activation.derivative(z, order))


@every_smooth_activation
def test_each_order_is_the_automatic_derivative_of_the_one_below(activation: Activation) -> None:
    z = torch.linspace(-5.05, 5.15, 41, dtype=torch.float64)
    values = activation.derivatives(z, MAX_ORDER)
    for order, (below, above) in enumerate(pairwise(values)):
        point = z.clone().requires_grad_()
        (automatic,) = torch.autograd.grad(activation.derivative(point, order).sum(), point)
        torch.testing.assert_close(
            above, automatic, rtol=0, atol=64 * EPS * float(below.abs().max() + above.abs().max())
        )


@every_activation
def test_dtype_and_shape_are_kept(activation: Activation) -> None:
    z = torch.linspace(-2, 2, 6, dtype=torch.float32).reshape(2, 3)
    for order in ORDERS:
        narrow = activation.derivative(z, order)
        assert narrow.dtype == torch.float32
        wide = activation.derivative(z.double(), order)
        torch.testing.assert_close(narrow.double(), wide, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("order", [-1, 5])
@every_activation
def test_other_orders_are_refused(activation: Activation, order: int) -> None:
    with pytest.raises(InvalidArgument, match="0 to 4"):
        activation.derivative(torch.zeros(1), order)


def test_the_table_is_consistent() -> None:
    assert sorted(a.code for a in ACTIVATIONS.values()) == list(range(len(ACTIVATIONS)))
    assert all(get_activation(name) is a and a.name == name for name, a in ACTIVATIONS.items())
    assert get_activation(ACTIVATIONS["erf"]) is ACTIVATIONS["erf"]
    with pytest.raises(InvalidArgument, match=r"one of sigmoid, .*got 'sine'"):
        get_activation("sine")
