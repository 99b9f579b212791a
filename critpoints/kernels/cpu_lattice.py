"""The compiled kernels' exponentials on lattice data (lattice.py): tables of few, products along the runs."""

from __future__ import annotations

from typing import Any

import numba

from critpoints.kernels.cpu_activations import exp_parts
from critpoints.kernels.intrinsics import add_run, fma, scale_run, scale_run_less_one, view

SPILL = 16  # doubles that scale_run and add_run may write or read too many, and a bit
LATTICE_LIMIT = 150.0  # |w_j x_j| beyond which products of lattice exponentials could overflow in ``logistic``
CENTRED_LIMIT = 30.0  # and beyond which exp(-z) = 1 + expm1(-z) could have lost all its digits at every sample

_function: Any = numba.njit(error_model="numpy", cache=True)


@_function
def lattice_exponentials(w, levels, n_levels, limit, out):
    """exp(-w x) and then expm1(-w x) at the levels of one axis, into ``out``; whether all are in range."""
    largest = 0.0
    for i in range(n_levels):
        largest = max(largest, abs(w * levels[i]))
    if not largest <= limit:
        return False
    for i in range(n_levels):
        power, q = exp_parts(-w * levels[i])
        out[i] = fma(power, q, power)
        out[n_levels + i] = fma(power, q, power - 1.0)
    return True


@_function
def table_size(lattice):
    """Doubles of one neuron's tables: exp and expm1 at the levels of both axes, and a flag."""
    return 2 * (len(lattice[0]) + len(lattice[1])) + 1


@_function
def lattice_tables(theta, width, lattice, limit, tables):
    """For each neuron exp(-w_j x_j) and expm1(-w_j x_j) at the levels of both axes, then 1 if they are in range."""
    size, n_first = table_size(lattice), len(lattice[0])
    for k in range(width):
        first = view(tables, k * size, 2 * n_first)
        second = view(tables, k * size + 2 * n_first, 2 * len(lattice[1]))
        usable = lattice_exponentials(theta[2 * k], lattice[0], n_first, limit, first)
        usable = lattice_exponentials(theta[2 * k + 1], lattice[1], len(lattice[1]), limit, second) and usable
        tables[(k + 1) * size - 1] = 1.0 if usable else 0.0


@_function
def first_run(runs, start):
    """The number of runs that begin before sample ``start``."""
    r = 0
    while r < runs.shape[0] and runs[r, 0] < start:
        r += 1
    return r


@_function
def lattice_products(tables, k, lattice, low_run, high_run, start, n, centred, out):
    """exp(-z), or expm1(-z) if ``centred``, of neuron k on one block of samples; ``out`` needs room for 8 more."""
    base, n_first, n_second = k * table_size(lattice), len(lattice[0]), len(lattice[1])
    runs, end = lattice[2], start
    for r in range(low_run, high_run):
        first, length, level = runs[r, 0] - start, runs[r, 1], runs[r, 2]
        at = base + 2 * n_first + runs[r, 3]
        run = view(out, first, length)
        a, am = tables[base + level], tables[base + n_first + level]
        if not centred:
            scale_run(a, view(tables, at, length), length, run)
        elif -0.5 <= am <= 1.0:
            add_run(am, view(tables, at + n_second, length), length, run)
        else:  # there the sum could cancel, and exp(-z) - 1 is as accurate as z
            scale_run_less_one(a, view(tables, at, length), length, run)
        end = runs[r, 0] + length
    for i in range(end - start, n):  # the padding, at x = 0
        out[i] = 0.0 if centred else 1.0
