"""Counts against literal enumeration, and expanded students against the function of the small one."""

import math
from itertools import combinations_with_replacement, product

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from critpoints.errors import InvalidArgument
from critpoints.objectives.teacher_student import TeacherStudent
from critpoints.objectives.two_layer import TwoLayerObjective
from critpoints.symmetry.expansion import (
    IsolatedMinima,
    count_isolated_minima,
    count_subspaces_G,
    count_subspaces_T,
    expand,
)


def set_partitions(items: list[int]):
    """All partitions of a list into unordered, nonempty groups."""
    if not items:
        yield []
        return
    for partition in set_partitions(items[1:]):
        yield [[items[0]], *partition]
        for i, group in enumerate(partition):
            yield [*partition[:i], [items[0], *group], *partition[i + 1 :]]


def enumerate_subspaces(r: int, m: int) -> tuple[int, int]:
    """Without and with zero-type groups: the ways to call each of m neurons a copy of one of r, or of zero type."""
    without, with_groups = 0, 0
    for labels in product(range(r + 1), repeat=m):  # r stands for zero type
        if set(range(r)) <= set(labels):
            partitions = sum(1 for _ in set_partitions([j for j in range(m) if labels[j] == r]))
            without += r not in labels
            with_groups += partitions
    return without, with_groups


@pytest.mark.parametrize(("r", "m"), [(r, m) for m in range(1, 7) for r in range(1, m + 2)])
def test_subspaces_are_as_many_as_an_enumeration_finds(r, m) -> None:
    assert (count_subspaces_G(r, m), count_subspaces_T(r, m)) == enumerate_subspaces(r, m)


def test_the_published_counts() -> None:
    assert [count_subspaces_G(r, 5) for r in (1, 2, 3, 4)] == [1, 30, 150, 240]
    assert (count_subspaces_T(1, 2), count_subspaces_T(2, 3), count_subspaces_T(4, 5)) == (3, 12, 360)


def test_counts_are_exact_beyond_float64() -> None:
    assert (
        count_subspaces_G(40, 40) == count_subspaces_T(40, 40) == int(torch.arange(1, 41).numpy().astype(object).prod())
    )
    assert count_subspaces_G(2, 100) == 2**100 - 2


def enumerate_isolated(a, m, reflection, hidden_bias, output_bias) -> int:
    """Puts each of m neurons on +w_i or -w_i of the teacher or at w = 0, solves for the output weights, one by one.

    A point is isolated if the equations have one solution, no output weight in it is zero (its w would be free) and no
    neuron at w = 0 can move along a hidden bias. Neurons elsewhere are never isolated: their line can turn.
    """
    r = len(a)
    signs = (1, -1) if reflection is not None else (1,)
    places = [(i, sign) for i in range(r) for sign in signs] + [(None, 0)]
    # Equations: the signed sum on every line; the output at the centre, k/2 sum b (+ output bias, one more unknown).
    count = 0
    for choice in combinations_with_replacement(places, m):
        orders = math.factorial(m) // math.prod(math.factorial(choice.count(place)) for place in places)
        lines = [[sign if i == line else 0 for i, sign in choice] for line in range(r)]
        if reflection is None:  # s(0) is a constant of its own
            centre, value = [float(i is None) for i, _ in choice], 0.0
        else:
            centre, value = [reflection / 2] * m, reflection / 2 * sum(a)
        system = np.array([[*row, 0.0] for row in lines] + [[*centre, 1.0]] + [[0.0] * m + [float(not output_bias)]])
        target = np.array([*a, value, 0.0])
        solution, _, rank, _ = np.linalg.lstsq(system, target, rcond=None)
        exact = np.abs(system @ solution - target).max() < 1e-9
        moves = hidden_bias and any(i is None for i, _ in choice)
        count += orders * bool(exact and rank == m + 1 and (np.abs(solution[:m]) > 1e-9).all() and not moves)
    return count


@pytest.mark.parametrize("a", [(1.0,), (1.0, -1.0), (2.0, 3.0), (1.0, 2.0, -3.0), (1.0, -1.0, 1.0, -1.0)])
@pytest.mark.parametrize("extra", [0, 1, 2])
@pytest.mark.parametrize(
    ("reflection", "hidden_bias", "output_bias"),
    [(1.0, False, False), (1.0, True, False), (1.0, False, True), (0.0, False, False), (None, False, False)],
)
def test_isolated_minima_are_as_many_as_an_enumeration_finds(a, extra, reflection, hidden_bias, output_bias) -> None:
    m = len(a) + extra
    found = count_isolated_minima(a, m, reflection=reflection, hidden_bias=hidden_bias, output_bias=output_bias)
    assert found.total == enumerate_isolated(a, m, reflection, hidden_bias, output_bias)


def test_isolated_minima_of_the_seed_studys_teacher() -> None:
    a = [1.0, -1.0, 1.0, -1.0]
    assert count_isolated_minima(a, 4) == IsolatedMinima(reflected=24 * 6)
    assert count_isolated_minima(a, 5) == IsolatedMinima(constant_neuron=120 * 10, antipodal_pair=120 * 8)
    assert count_isolated_minima(a, 6).total == count_isolated_minima(a, 3).total == 0


def test_both_ways_to_pay_for_a_flip_have_loss_zero() -> None:
    """A constant neuron with twice the sum of the flipped; an antipodal pair with that sum added to both."""
    problem = TeacherStudent.grid()
    w, a = problem.split(problem.teacher)
    flipped = torch.tensor([-1.0, 1.0, -1.0, 1.0], dtype=torch.float64)
    constant = torch.cat([(flipped[:, None] * w).flatten(), torch.zeros(2), flipped * a, torch.tensor([4.0])])
    sign = torch.tensor([-1.0, 1.0, 1.0, 1.0], dtype=torch.float64)
    pair = torch.cat([(sign[:, None] * w).flatten(), -w[1], torch.tensor([-1.0, 0.0, 1.0, -1.0, 1.0])])
    assert float(problem.loss(constant)) < 1e-28
    assert float(problem.loss(pair)) < 1e-28  # here a_2 + 1 = 0: a zero-type neuron, which the count leaves out
    pair = torch.cat([w[0], w[1], -w[2], w[3], -w[1], torch.tensor([1.0, 0.0, -1.0, -1.0, 1.0])])
    assert float(problem.loss(pair)) < 1e-28
    pair = torch.cat([-w[0], w[1], -w[2], w[3], -w[1], torch.tensor([-1.0, 1.0, -1.0, -1.0, 2.0])])
    assert float(problem.loss(pair)) < 1e-28  # both nonzero: isolated


def test_an_output_weight_of_zero_is_refused() -> None:
    with pytest.raises(InvalidArgument, match="nonzero"):
        count_isolated_minima([1.0, 0.0], 2)


@given(
    st.sampled_from(["sigmoid", "tanh", "softplus", "relu"]),
    st.booleans(),
    st.booleans(),
    st.integers(1, 4),
    st.integers(0, 4),
    st.integers(0, 2**32 - 1),
)
def test_expansion_keeps_outputs_and_loss(activation, hidden_bias, output_bias, r, extra, seed) -> None:
    rng = np.random.default_rng(seed)
    x, y = rng.standard_normal((30, 2)), rng.standard_normal(30)
    problem = TwoLayerObjective(x, y, activation, hidden_bias=hidden_bias, output_bias=output_bias)
    theta = torch.from_numpy(rng.standard_normal(problem.n_parameters(r)))
    wide = expand(problem, theta, r + extra, rng)
    assert wide.shape == (problem.n_parameters(r + extra),)
    torch.testing.assert_close(problem.predict(wide), problem.predict(theta), rtol=0, atol=1e-13 * (r + extra) * 10)
    torch.testing.assert_close(problem.loss(wide), problem.loss(theta), rtol=1e-11, atol=1e-13)


def test_every_subspace_is_reached() -> None:
    """Which neurons share their incoming weights, and with which neuron of the small network: T(2, 4) patterns."""
    problem, rng = TeacherStudent.grid(), np.random.default_rng(0)
    theta = torch.tensor([1.0, 2.0, 3.0, 4.0, 1.0, -1.0], dtype=torch.float64)
    seen = set()
    for _ in range(3000):
        w = problem.split(expand(problem, theta, 4, rng))[0].tolist()
        small = [[1.0, 2.0], [3.0, 4.0]]
        seen.add(tuple(-1 - small.index(row) if row in small else w.index(row) for row in w))
    assert len(seen) == count_subspaces_T(2, 4)


def test_a_chosen_subspace_has_its_copies_and_groups() -> None:
    problem, rng = TeacherStudent.grid(), np.random.default_rng(0)
    wide = expand(problem, problem.teacher, 9, rng, copies=[2, 1, 1, 3], zero_groups=[2])
    w, a = problem.split(wide)
    rows, which, counts = torch.unique(w, dim=0, return_inverse=True, return_counts=True)
    teacher_w, teacher_a = problem.split(problem.teacher)
    sums = torch.zeros(len(rows), dtype=torch.float64).index_add(0, which, a)
    for i, copies in enumerate([2, 1, 1, 3]):
        (row,) = torch.nonzero((rows == teacher_w[i]).all(-1)).flatten().tolist()
        assert counts[row] == copies and float(sums[row]) == pytest.approx(float(teacher_a[i]), abs=1e-14)
    assert sorted(counts.tolist()) == [1, 1, 2, 2, 3]
    assert float(problem.loss(wide)) < 1e-28


def test_copies_of_a_critical_point_are_critical() -> None:
    problem, rng = TeacherStudent.grid(), np.random.default_rng(0)
    wide = expand(problem, problem.teacher, 8, rng, copies=[2, 2, 2, 2])
    assert float(problem.gradient(wide).norm()) < 1e-13


@pytest.mark.parametrize(
    ("width", "sizes", "message"),
    [
        (3, {}, "at least that of theta, 4"),
        (6, {"copies": [1, 1, 1, 2]}, "sum to 6"),
        (5, {"copies": [1, 1, 1, 0], "zero_groups": [2]}, "at least 1"),
        (5, {"zero_groups": [2]}, "sum to 5"),
    ],
)
def test_sizes_that_do_not_fit_are_refused(width, sizes, message) -> None:
    problem = TeacherStudent.grid()
    with pytest.raises(InvalidArgument, match=message):
        expand(problem, problem.teacher, width, np.random.default_rng(0), **sizes)
