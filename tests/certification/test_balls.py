"""Balls contain what they enclose: activations over intervals against mpmath, and bounds written as decimals."""

import random
import subprocess
import sys
from fractions import Fraction

import mpmath as mp
import pytest
from certification_oracles import ACTIVATIONS, as_mp, contains, derivative
from flint import arb
from hypothesis import given
from hypothesis import strategies as st

import critpoints as cp
from critpoints.certification.balls import (
    activation_derivatives,
    ball,
    exact_text,
    exact_value,
    lower_text,
    power,
    precision,
    upper_text,
)

smooth = pytest.mark.parametrize("name", list(ACTIVATIONS))


@smooth
def test_thin_balls_contain_the_derivatives_up_to_the_fourth(name):
    for z in ("-30.25", "-3.5", "-0.4375", "0", "0.001953125", "2.75", "17"):
        rows = activation_derivatives(cp.get_activation(name), [ball(z)], 4)
        for order, (value,) in enumerate(rows):
            assert contains(value, derivative(ACTIVATIONS[name], mp.mpf(z), order), "1e-25")
            assert value.rad() < 1e-45


@smooth
def test_wide_balls_contain_the_derivatives_at_every_point_inside(name):
    rng = random.Random(name)
    for radius in (1e-9, 1e-3, 0.5):
        for _ in range(4):
            centre = rng.uniform(-5, 5)
            rows = activation_derivatives(cp.get_activation(name), [arb(centre, radius)], 3)
            for share in (-1, rng.uniform(-1, 1), 1):
                z = mp.mpf(centre) + share * mp.mpf(radius)
                for order, (value,) in enumerate(rows):
                    assert contains(value, derivative(ACTIVATIONS[name], z, order), "1e-25")


@smooth
def test_wide_balls_are_nearly_as_narrow_as_the_range(name):
    """Where the slope does not vanish the enclosure's radius is |s^(n+1)| rho to first order."""
    radius = 1e-7
    for z in (-2.2, 0.6, 1.9):
        rows = activation_derivatives(cp.get_activation(name), [arb(z, radius)], 3)
        for order, (value,) in enumerate(rows):
            slope = abs(derivative(ACTIVATIONS[name], mp.mpf(z), order + 1))
            assert as_mp(value.rad()) <= mp.mpf(radius) * (slope * mp.mpf("1.001") + mp.mpf("1e-5"))


def test_a_kink_has_no_balls():
    with pytest.raises(cp.InvalidArgument, match="relu has no derivatives in ball arithmetic"):
        activation_derivatives(cp.get_activation("relu"), [arb(1)], 1)


def test_the_precision_is_restored_after_an_error():
    with precision(100):
        with pytest.raises(ZeroDivisionError), precision(500):
            raise ZeroDivisionError
        assert ball("1/3").rel_accuracy_bits() < 110


@given(st.fractions(), st.integers(1, 30))
def test_bounds_as_text_lie_on_the_safe_side(number, digits):
    enclosure = ball(number)
    assert Fraction(lower_text(enclosure, digits)) <= number <= Fraction(upper_text(enclosure, digits))
    assert exact_value(enclosure.lower()) <= number <= exact_value(enclosure.upper())


@given(st.fractions(max_denominator=10**12))
def test_exact_numbers_survive_as_text(number):
    assert Fraction(exact_text(number)) == number


@given(st.floats(-1, 1), st.floats(0, 1), st.integers(0, 5))
def test_powers_of_balls_around_zero_are_finite_and_contain_the_range(centre, radius, exponent):
    value = power(arb(centre, radius), exponent)
    for share in (-1, 0, 1):
        assert contains(value, (mp.mpf(centre) + share * mp.mpf(radius)) ** exponent)


@pytest.mark.parametrize("bits", ["balls.precision", "verifier_balls.working_bits"])
def test_a_thread_keeps_its_precision_while_others_compute(bits: str) -> None:
    """The library's precision is the process's: without a lock, one thread's third would have the other's digits.

    In a process of its own: the fixture of this folder holds the precision of this one.
    """
    module, _, name = bits.partition(".")
    program = f"""
import time
from concurrent.futures import ThreadPoolExecutor
from flint import arb
from critpoints.certification.{module} import {name}

def third():
    time.sleep(1e-4)  # another thread's turn
    return (arb(1) / 3).rad().str()

def thirds(digits):
    found = set()
    for _ in range(100):
        with {name}(digits):
            found.add(third())
    return found

expected = [thirds(60), thirds(200)]
assert not expected[0] & expected[1]
with ThreadPoolExecutor(2) as threads:
    assert list(threads.map(thirds, (60, 200))) == expected
"""
    subprocess.run([sys.executable, "-c", program], check=True, timeout=120)
