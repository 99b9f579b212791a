"""Refinement by trust-region Newton: accuracy, descent, statuses, row independence."""

import math

import pytest
import torch

import critpoints as cp
from critpoints.errors import Status
from critpoints.objectives.base import Objective


class Quartic(Objective):
    """sum_i c_i x_i^2 / 2 + x_0^4: a saddle at 0 for c_0 < 0, minima at x_0 = +-sqrt(-c_0) / 2."""

    def __init__(self, coefficients):
        self.coefficients = torch.tensor(coefficients, dtype=torch.float64)
        self.dim = len(coefficients)

    def loss(self, theta):
        return 0.5 * (self.coefficients * theta**2).sum(-1) + theta[..., 0] ** 4


class Ramp(Objective):
    """A loss that falls for ever, as in a channel: 1 + 1e-4 / x^2."""

    dim = 1

    def loss(self, theta):
        return 1 + 1e-4 / theta[..., 0] ** 2


def test_refined_students_reach_rounding_or_run_off(trained):
    problem, theta = trained
    refined = cp.refine(problem, theta)
    for row, status in enumerate(refined.status):
        if status.is_critical:
            assert float(refined.gradient_norm[row]) <= max(1e-13, float(refined.gradient_noise[row]))
        else:
            assert status in (Status.GROWING_NORM, Status.VALLEY, Status.ITERATION_LIMIT)
    assert sum(status.is_critical for status in refined.status) >= len(theta) // 2


def test_the_loss_of_no_row_rises(trained):
    problem, theta = trained
    before = problem.second_order(theta).loss
    assert bool((cp.refine(problem, theta).loss <= before).all())


def test_rows_are_the_same_alone_and_in_a_batch(trained):
    problem, theta = trained
    whole = cp.refine(problem, theta, max_iterations=40)
    for row in (0, 3):
        alone = cp.refine(problem, theta[row : row + 1], max_iterations=40)
        assert torch.equal(whole.theta[row], alone.theta[0])
        assert torch.equal(whole.loss[row], alone.loss[0])


def test_a_saddle_is_left_downhill_unless_the_gradient_is_zero():
    objective = Quartic([-1.0, 2.0])
    refined = cp.refine(objective, torch.tensor([[1e-3, 0.5], [0.0, 0.0]], dtype=torch.float64))
    assert float(refined.theta[0, 0]) == pytest.approx(0.5, abs=1e-12)
    assert refined.loss[0] == pytest.approx(-1 / 16, abs=1e-14)
    assert torch.equal(refined.theta[1], torch.zeros(2, dtype=torch.float64))  # critical already: left alone


def test_a_row_that_runs_off_to_infinity_says_so():
    refined = cp.refine(Ramp(), torch.tensor([[1.0]], dtype=torch.float64), gtol=1e-300)
    assert refined.status[0] is Status.GROWING_NORM
    assert float(refined.theta[0, 0]) > 10


def test_a_non_finite_row_is_marked_and_its_neighbours_are_untouched(trained):
    problem, theta = trained
    theta = theta[:3].clone()
    alone = cp.refine(problem, theta[2:], max_iterations=20)
    theta[1, 0] = math.nan
    refined = cp.refine(problem, theta, max_iterations=20)
    assert refined.status[1] is Status.NON_FINITE
    assert torch.equal(refined.theta[2], alone.theta[0])


@pytest.mark.parametrize("options", [{"gtol": 0.0}, {"method": "bfgs"}, {"max_iterations": 0}])
def test_bad_options_name_the_argument(trained, options):
    problem, theta = trained
    with pytest.raises(cp.InvalidArgument, match=next(iter(options))):
        cp.refine(problem, theta, **options)


def test_slsqp_descends_and_reports_its_reason(trained):
    problem, theta = trained
    before = problem.second_order(theta[:3]).loss
    refined = cp.refine(problem, theta[:3], method="slsqp")
    assert bool((refined.loss <= before).all())
    assert all(status is not Status.RUNNING for status in refined.status)
    assert bool((refined.evaluations >= refined.iterations).all())
