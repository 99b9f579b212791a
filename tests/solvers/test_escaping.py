"""Escape from planted saddles, and the epsilon sweep."""

import pytest
import torch

import critpoints as cp
from critpoints.objectives.base import Objective
from critpoints.solvers.escaping import gaussian_directions


class DoubleWell(Objective):
    """(x^2 - 1)^2 / 4 + y^2 / 2: a saddle of index 1 at the origin (loss 1/4), minima at (+-1, 0) (loss 0)."""

    dim = 2

    def loss(self, theta):
        return 0.25 * (theta[..., 0] ** 2 - 1) ** 2 + 0.5 * theta[..., 1] ** 2


SADDLE = torch.zeros(1, 2, dtype=torch.float64)


@pytest.mark.parametrize("method", ["negative-curvature", "perturbation"])
def test_a_planted_saddle_is_left_for_a_minimum(method):
    result = cp.escape(DoubleWell(), SADDLE, method=method)
    assert float(result.smallest_eigenvalue_before[0]) == pytest.approx(-1.0)
    assert float(result.smallest_eigenvalue[0]) == pytest.approx(1.0)  # the weaker of 2 and 1
    assert abs(float(result.theta[0, 0])) == pytest.approx(1.0, abs=1e-12)
    assert (float(result.loss_before[0]), int(result.perturbations[0])) == (0.25, 1)
    assert bool(result.escaped[0])


def test_a_minimum_is_returned_as_it_came():
    minimum = torch.tensor([[1.0, 0.0]], dtype=torch.float64)
    result = cp.escape(DoubleWell(), minimum)
    assert torch.equal(result.theta, minimum)
    assert int(result.perturbations[0]) == 0


def test_the_gaussian_depends_on_seed_and_attempt_alone():
    both = gaussian_directions(7, [3, 5], 2, normalised=True)
    assert torch.equal(both[1], gaussian_directions(7, [5], 2, normalised=True)[0])
    assert not torch.equal(both[1], gaussian_directions(7, [5], 3, normalised=True)[0])
    assert torch.allclose(both.norm(dim=1), torch.ones(2, dtype=torch.float64))


def test_the_sweep_shows_the_transition_at_a_saddle_and_none_at_a_minimum():
    points = torch.tensor([[0.0, 0.0], [1.0, 0.0]], dtype=torch.float64)
    sweep = cp.sweep_epsilon(DoubleWell(), points, [0.0, 1e-6, 1e-2])
    assert sweep.loss_refined[:, 0].tolist() == pytest.approx([0.25, 0.0, 0.0], abs=1e-12)
    assert sweep.loss_refined[:, 1].tolist() == pytest.approx([0.0, 0.0, 0.0], abs=1e-12)
    assert bool((sweep.loss_perturbed[2, 1] > 0).all())
    assert sweep.loss_before.tolist() == [0.25, 0.0]


@pytest.mark.parametrize(
    ("options", "name"),
    [
        ({"method": "jump"}, "method"),
        ({"epsilon": 0.0}, "epsilon"),
        ({"tries": 0}, "tries"),
        ({"seeds": [1, 2]}, "seeds"),
    ],
)
def test_bad_options_name_the_argument(options, name):
    with pytest.raises(cp.InvalidArgument, match=name):
        cp.escape(DoubleWell(), SADDLE, **options)
