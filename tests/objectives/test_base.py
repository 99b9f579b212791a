"""What Objective derives from a loss: against closed forms, also where a derivative vanishes identically."""

import pytest
import torch
from two_layer_cases import EPS

from critpoints.errors import InvalidArgument
from critpoints.objectives.base import Objective
from critpoints.objectives.zoo import PlantedMorse, QuadraticForm
from critpoints.testing import check_objective


class Affine(Objective):
    dim = 3

    def loss(self, theta: torch.Tensor) -> torch.Tensor:
        return self.validate(theta) @ torch.tensor([1.0, -2.0, 0.5], dtype=self.dtype)


class Partial(Objective):
    """The last parameter has no effect."""

    dim = 3

    def loss(self, theta: torch.Tensor) -> torch.Tensor:
        x, y, _ = self.validate(theta).unbind(-1)
        return x**2 * y


def test_inherited_derivatives_equal_closed_forms() -> None:
    for problem in (QuadraticForm([-1.0, 2.0, 3.0], seed=4), PlantedMorse(5, 2, seed=4)):
        theta, v = torch.randn(2, 4, problem.dim, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
        hessian = problem.hessian(theta)
        torch.testing.assert_close(Objective.hessian(problem, theta), hessian, rtol=1e-13, atol=1e-13)
        product = (hessian @ v.unsqueeze(-1)).squeeze(-1)
        torch.testing.assert_close(Objective.hvp(problem, theta, v), product, rtol=1e-13, atol=1e-13)


def test_an_affine_loss_has_a_constant_gradient_and_no_curvature() -> None:
    theta = torch.randn(4, 3, dtype=torch.float64)
    assert Affine().gradient(theta).tolist() == [[1.0, -2.0, 0.5]] * 4
    assert float(Affine().hessian(theta).abs().max()) == 0
    assert float(Affine().hvp(theta, theta).abs().max()) == 0
    check_objective(Affine())


def test_a_parameter_without_effect_has_zero_derivatives() -> None:
    theta = torch.tensor([[2.0, 3.0, 5.0]], dtype=torch.float64)
    assert Partial().gradient(theta).tolist() == [[12.0, 4.0, 0.0]]
    assert Partial().hessian(theta).tolist() == [[[6.0, 4.0, 0.0], [4.0, 0.0, 0.0], [0.0, 0.0, 0.0]]]


def test_results_carry_no_graph_and_leave_grad_alone() -> None:
    theta = torch.randn(2, 3, dtype=torch.float64, requires_grad=True)
    loss, gradient = Partial().loss_and_gradient(theta)
    results = (loss, gradient, Partial().hvp(theta, theta), Partial().hessian(theta))
    assert not any(result.requires_grad for result in results)
    assert theta.grad is None


def test_parameters_are_converted_to_the_dtype_of_the_objective() -> None:
    assert Partial().gradient(torch.ones(3, dtype=torch.float32)).dtype == torch.float64


def test_the_inherited_gradient_noise_is_the_size_of_the_rounding() -> None:
    """At critical points rounded to float64 the gradient is rounding alone; the noise knows it to a small factor."""
    for seed in range(5):
        problem = PlantedMorse(6, 2, seed)
        points = torch.stack([point.theta for point in problem.critical_points])
        second = problem.second_order(points)
        assert bool((second.gradient.norm(dim=-1) <= second.gradient_noise).all())
        size = torch.linalg.matrix_norm(second.hessian, 2) * points.norm(dim=-1)
        assert bool((second.gradient_noise <= 64 * EPS * size).all())


@pytest.mark.parametrize(
    ("theta", "complaint"),
    [
        (torch.zeros(2, 4), r"3 parameters in its last axis, got shape \(2, 4\)"),
        (torch.zeros(3, dtype=torch.int32), "floating-point tensor, got torch.int32"),
        (torch.tensor(0.0), "got a scalar"),
    ],
)
def test_parameters_that_do_not_fit_are_refused(theta: torch.Tensor, complaint: str) -> None:
    with pytest.raises(InvalidArgument, match=complaint):
        Partial().loss_and_gradient(theta)


def test_an_objective_without_a_loss_says_so() -> None:
    with pytest.raises(NotImplementedError, match="must define loss"):
        Objective().loss(torch.zeros(1))
