"""Short directions: ranks on the wedge model, eigenvalue counts, points brought to one loss."""

import numpy as np
import pytest
import torch

from critpoints.errors import InvalidArgument
from critpoints.landscape.short_directions import (
    descend_to_loss,
    grow_with_m,
    measure_short_directions,
    shared_short_directions,
    smallest_common_cut,
    wedges_at,
)
from critpoints.objectives.wedges import WedgeObjective
from critpoints.objectives.zoo import QuadraticForm, Rosenbrock


@pytest.mark.parametrize("rotated", [False, True])
@pytest.mark.parametrize("m", range(1, 7))
def test_m_disjoint_wedges_share_m_s_short_directions(m: int, rotated: bool) -> None:
    model = WedgeObjective.random(100, 7, 6, offset=1.0, disjoint=True, rotated=rotated, seed=m)
    assert shared_short_directions(model, range(m)) == m * 7


def test_axes_that_two_wedges_share_count_once() -> None:
    model = WedgeObjective([[0, 1, 2], [1, 2, 3], [4, 5, 6]], 9)
    assert shared_short_directions(model, [0, 1]) == 4
    assert shared_short_directions(model, [0, 1, 2]) == 7


def test_the_rank_is_the_codimension_of_the_intersection() -> None:
    """An oracle without ranks: how many random long directions a point can move in and stay in all of the wedges."""
    model = WedgeObjective.random(20, 4, 3, offset=1.0, disjoint=True, rotated=True)
    theta = torch.from_numpy(np.random.default_rng(0).standard_normal(20))
    for w in (0, 1):
        theta = model.project(theta, w)
    assert wedges_at(model, theta, 1e-20) == [0, 1]
    both = torch.cat([model.short_directions(0), model.short_directions(1)], 1)
    free = int((torch.linalg.eigvalsh(both @ both.T) < 1e-10).sum())
    assert 20 - free == shared_short_directions(model, [0, 1]) == 8


def test_at_a_point_of_one_thin_wedge_the_hessian_counts_its_short_directions() -> None:
    model = WedgeObjective.random(30, 5, 2, offset=1.0, rotated=True)
    theta = model.project(torch.ones(30, dtype=torch.float64), 0)
    found = measure_short_directions(model, theta, k=10)
    assert found.count(0.5) == 5 and found.count(-1.0) is None
    assert found.trace == pytest.approx(5.0)
    assert found.loss == pytest.approx(0.0, abs=1e-20)


def test_counts_are_those_of_the_known_spectrum() -> None:
    values = [-1.0, 0.1, 0.3, 1.0, 2.0, 5.0]
    form = QuadraticForm(values, seed=2)
    found = measure_short_directions(form, form.centre, k=4)
    assert [found.count(cut) for cut in (0.5, 1.5, 6.0, 0.2)] == [3, 2, 0, None]


def test_a_common_cut_is_the_smallest_with_complete_counts() -> None:
    forms = [QuadraticForm([0.0, 0.5, 1.0, 4.0], seed=1), QuadraticForm([0.0, 0.001, 2.0, 100.0], seed=2)]
    found = [measure_short_directions(form, form.centre, k=3) for form in forms]
    cut = smallest_common_cut(found)
    assert cut == pytest.approx(0.5, rel=1e-3)
    assert all(each.count(cut) is not None for each in found)
    assert found[0].count(0.99 * cut) is None
    flat = [measure_short_directions(form, form.centre, k=4) for form in forms]
    assert smallest_common_cut(flat) == pytest.approx(0.1, rel=1e-3)  # all of the spectra are known


def test_growth_is_beyond_the_spread_of_single_optima_and_has_no_falls() -> None:
    m = np.array([1, 1, 1, 2, 3, 4])
    assert grow_with_m(m, np.array([9, 10, 11, 20, 30, 40]))
    assert not grow_with_m(m, np.array([9, 10, 11, 12, 30, 40]))  # 12 is within two standard deviations
    assert not grow_with_m(m, np.array([9, 10, 11, 30, 20, 40]))


@pytest.mark.parametrize("loss", [1.0, 0.01])
def test_a_descent_ends_at_the_loss_asked_for(loss: float) -> None:
    start = torch.tensor([-1.2, 1.0], dtype=torch.float64)
    end = descend_to_loss(Rosenbrock(), start, loss, max_steps=20_000)
    assert float(Rosenbrock().loss(end)) == pytest.approx(loss, rel=0.011)


def test_a_descent_does_not_climb() -> None:
    with pytest.raises(InvalidArgument, match=r"loss must be at most that at theta, 24\.2, got 100"):
        descend_to_loss(Rosenbrock(), torch.tensor([-1.2, 1.0], dtype=torch.float64), 100.0)
