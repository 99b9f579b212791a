"""TwoLayerObjective: closed forms against automatic differentiation and integrals; data that cannot be used."""

import math
from collections.abc import Callable

import mpmath
import numpy as np
import pytest
import torch
from mpmath import mp
from two_layer_cases import EPS, Case, all_sizes, sizes_of_terms

from critpoints.activations import ACTIVATIONS
from critpoints.errors import InvalidArgument, InvalidData
from critpoints.objectives.base import Objective
from critpoints.objectives.two_layer import TwoLayerObjective
from critpoints.testing import check_objective

TOLERANCE = 1024 * EPS  # of the sum of absolute terms, of which there are dozens
every_activation = pytest.mark.parametrize("activation", ACTIVATIONS)


def assert_close(given: torch.Tensor, expected: torch.Tensor, size: torch.Tensor) -> None:
    gap = (given - expected).abs()
    assert bool((gap <= TOLERANCE * size).all()), f"off by {float(gap.max()):.2e}"


def successive_derivatives(loss: Callable, theta: torch.Tensor, directions: list[torch.Tensor]) -> list[torch.Tensor]:
    """D L [v_1], D^2 L [v_1, v_2], ... at one student, by differentiating t -> L(theta + sum_i t_i v_i) repeatedly."""
    t = torch.zeros(len(directions), dtype=torch.float64, requires_grad=True)
    value, found = loss(theta + (t.unsqueeze(-1) * torch.stack(directions)).sum(0)), []
    for i in range(len(directions)):
        (gradient,) = torch.autograd.grad(value, t, create_graph=True)
        value = gradient[i]
        found.append(value.detach())
    return found


@every_activation
def test_loss_gradient_and_hessian_are_those_of_the_definition(activation: str) -> None:
    for case in all_sizes(activation):
        problem, theta = case.problem(), case.theta()[:1]
        size, point = sizes_of_terms(problem, theta), theta[0].clone().requires_grad_()
        (gradient,) = torch.autograd.grad(case.plain_loss(point), point)
        hessian = torch.func.hessian(case.plain_loss)(theta[0])
        v = case.directions(1)[0][:1]
        assert_close(problem.loss(theta), case.plain_loss(theta[0]), size.loss)
        assert_close(problem.gradient(theta), gradient, size.gradient)
        assert_close(problem.hessian(theta), hessian, size.hessian)
        product = (size.hessian @ v.abs().unsqueeze(-1)).squeeze(-1)
        assert_close(problem.hvp(theta, v), hessian @ v[0], product)
        second = problem.second_order(theta)
        assert_close(second.loss, case.plain_loss(theta[0]), size.loss)
        assert_close(second.gradient, gradient, size.gradient)
        assert_close(second.hessian, hessian, size.hessian)


@every_activation
def test_directional_derivatives_are_those_of_the_definition_to_fourth_order(activation: str) -> None:
    for case in all_sizes(activation):
        problem, theta, directions = case.problem(), case.theta(), case.directions(4)
        expected = successive_derivatives(case.plain_loss, theta[1], [v[1] for v in directions])
        for order in range(1, 5):
            value = problem.directional_derivative(theta, *directions[:order])[1]
            assert float((value - expected[order - 1]).abs()) <= 1e-12 * max(1.0, float(expected[order - 1].abs()))


def test_directional_derivatives_agree_with_mpmath() -> None:
    """One student, one direction, in 40 digits: independent of automatic differentiation."""
    case = Case("sigmoid", 2, 1, output_bias=True, n=9)
    problem, theta, v = case.problem(), case.theta()[:1], case.directions(1)[0][:1]
    x, y, _ = case.data()

    def loss(t: mpmath.mpf) -> mpmath.mpf:
        w1, w2, a1, a2, b = (mp.mpf(p) + t * mp.mpf(dp) for p, dp in zip(theta[0].tolist(), v[0].tolist(), strict=True))
        outputs = [b + a1 / (1 + mp.exp(-w1 * p)) + a2 / (1 + mp.exp(-w2 * p)) for p in x[:, 0].tolist()]
        return mp.fsum((f - label) ** 2 for f, label in zip(outputs, y.tolist(), strict=True)) / len(outputs)

    with mp.workdps(40):
        for order in range(1, 5):
            value = float(problem.directional_derivative(theta, *[v] * order))
            assert value == pytest.approx(float(mp.diff(loss, 0, order)), rel=TOLERANCE)


def test_directional_derivatives_do_not_depend_on_the_order_of_the_directions() -> None:
    case = Case("silu", 4, 3, hidden_bias=True, output_bias=True)
    problem, theta, (u, v, w, z) = case.problem(), case.theta(), case.directions(4)
    one, other = (problem.directional_derivative(theta, *each) for each in ((u, v, w, z), (z, v, u, w)))
    torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("count", [0, 5])
def test_only_one_to_four_directions_are_taken(count: int) -> None:
    case = Case("tanh")
    with pytest.raises(InvalidArgument, match=f"one to four directions, got {count}"):
        case.problem().directional_derivative(case.theta(), *[case.theta()] * count)


@every_activation
def test_what_any_objective_must_satisfy(activation: str) -> None:
    """Finite differences, shapes, independence of rows and the like."""
    for case in list(all_sizes(activation))[::6]:
        report = check_objective(case.problem(), case.theta(), smooth=ACTIVATIONS[activation].smooth)
        assert set(report.batch_dependent) <= {"loss", "hvp"}  # the compiled kernels keep their bits


def test_mirrored_data_and_float32_satisfy_it_too() -> None:
    check_objective(Case("sigmoid", mirrored=True, output_bias=True).problem())
    check_objective(Case("tanh", mirrored=True).problem())
    check_objective(Case("gelu", dtype=torch.float32).problem())


def test_float32_results_are_those_of_float64_to_its_accuracy() -> None:
    wide, narrow = Case("erf", 4, 2), Case("erf", 4, 2, dtype=torch.float32)
    given, expected = (
        narrow.problem().second_order(narrow.theta()),
        wide.problem().second_order(narrow.theta().double()),
    )
    for name in ("loss", "gradient", "hessian"):
        assert getattr(given, name).dtype == torch.float32
        torch.testing.assert_close(getattr(given, name).double(), getattr(expected, name), rtol=1e-4, atol=1e-5)
    assert bool(((given.gradient - expected.gradient).norm(dim=-1) <= 2 * given.gradient_noise).all())


@every_activation
def test_weights_count_as_repetitions(activation: str) -> None:
    case, repeats = Case(activation, 3, 2, output_bias=True), torch.tensor([1, 3, 2, 5] * 10)
    x, y, _ = case.data()
    weighted = TwoLayerObjective(x, y, activation, sample_weight=repeats, output_bias=True)
    repeated = TwoLayerObjective(
        x.repeat_interleave(repeats, 0), y.repeat_interleave(repeats), activation, output_bias=True
    )
    theta, (u, v) = case.theta(), case.directions(2)
    size = sizes_of_terms(weighted, theta)
    assert_close(weighted.loss(theta), repeated.loss(theta), size.loss)
    assert_close(weighted.gradient(theta), repeated.gradient(theta), size.gradient)
    assert_close(weighted.hessian(theta), repeated.hessian(theta), size.hessian)
    torch.testing.assert_close(weighted.hvp(theta, v), repeated.hvp(theta, v), rtol=1e-12, atol=1e-12)
    third = [problem.directional_derivative(theta, u, v, v) for problem in (weighted, repeated)]
    torch.testing.assert_close(*third, rtol=1e-12, atol=1e-12)


def legendre() -> tuple[np.ndarray, np.ndarray, Callable]:
    """Nodes and weights on [-3, 3], and the density of that measure."""
    nodes, weights = np.polynomial.legendre.leggauss(60)
    return 3 * nodes, weights, lambda x: mp.mpf(1) / 6 if abs(x) <= 3 else mp.zero


def hermite() -> tuple[np.ndarray, np.ndarray, Callable]:
    nodes, weights = np.polynomial.hermite_e.hermegauss(120)
    return nodes, weights, mp.npdf


@pytest.mark.parametrize("rule", [legendre, hermite])
def test_nodes_of_a_quadrature_rule_give_the_population_loss(rule: Callable) -> None:
    nodes, weights, density = rule()
    x = torch.from_numpy(nodes).unsqueeze(-1)
    problem = TwoLayerObjective(x, torch.sin(x[:, 0]), "sigmoid", sample_weight=weights)
    theta = torch.tensor([[0.8, -0.5, 1.5, -0.7]], dtype=torch.float64)

    def residual(p: mpmath.mpf) -> mpmath.mpf:
        return mp.mpf(1.5) / (1 + mp.exp(-mp.mpf(0.8) * p)) - mp.mpf(0.7) / (1 + mp.exp(p / 2)) - mp.sin(p)

    def integral(f: Callable) -> float:
        ends = [-3, 0, 3] if rule is legendre else [-14, -4, 0, 4, 14]
        return float(mp.quad(lambda p: density(p) * f(p), ends))

    loss, gradient = problem.loss_and_gradient(theta)
    assert float(loss) == pytest.approx(integral(lambda p: residual(p) ** 2), rel=1e-11)
    slope = integral(lambda p: 2 * residual(p) / (1 + mp.exp(-mp.mpf(0.8) * p)))
    assert float(gradient[0, 2]) == pytest.approx(slope, rel=1e-11)


def test_scale_multiplies_everything() -> None:
    case = Case("softplus", 3, 2, weighted=True)
    one, half, theta, v = case.problem(), case.problem(scale=0.5), case.theta(), case.directions(1)[0]
    for result in ("loss", "gradient", "hessian"):
        torch.testing.assert_close(getattr(half, result)(theta), 0.5 * getattr(one, result)(theta), rtol=1e-14, atol=0)
    torch.testing.assert_close(half.hvp(theta, v), 0.5 * one.hvp(theta, v), rtol=1e-14, atol=0)
    torch.testing.assert_close(half.second_order(theta).gradient_noise, 0.5 * one.second_order(theta).gradient_noise)


def test_a_hidden_bias_is_an_input_that_is_always_one() -> None:
    case = Case("tanh", 3, 2, hidden_bias=True)
    x, y, _ = case.data()
    augmented = TwoLayerObjective(torch.nn.functional.pad(x, (0, 1), value=1.0), y, "tanh")
    theta = case.theta()
    assert torch.equal(augmented.hessian(theta), case.problem().hessian(theta))
    new = torch.randn(5, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    predicted = case.problem().predict(theta, new)
    assert torch.equal(predicted, augmented.predict(theta, torch.nn.functional.pad(new, (0, 1), value=1.0)))
    assert torch.equal(case.problem().predict(theta, x), case.problem().predict(theta))


def test_the_flat_layout_is_hidden_weights_then_output_weights_then_bias() -> None:
    problem = TwoLayerObjective([[1.0, 2.0, 3.0]], [0.0], "relu", hidden_bias=True, output_bias=True)
    theta = torch.arange(1.0, 12.0, dtype=torch.float64)  # two neurons: 4 + 4 weights, 2 outputs, 1 bias
    w, a = problem.split(theta)
    assert w.tolist() == [[1, 2, 3, 4], [5, 6, 7, 8]]
    assert a.tolist() == [9, 10]
    assert float(problem.predict(theta)) == 9 * (1 + 4 + 9 + 4) + 10 * (5 + 12 + 21 + 8) + 11
    assert (problem.n_parameters(2), problem.width(theta)) == (11, 2)


@pytest.mark.parametrize("mirrored", [False, True])
@pytest.mark.parametrize("activation", ["sigmoid", "tanh"])
def test_gradient_noise_bounds_the_rounding_of_the_gradient(activation: str, mirrored: bool) -> None:
    """Against extended precision, also where terms cancel: small hidden weights, output weights that sum to zero."""
    if np.finfo(np.longdouble).eps > EPS / 1000:
        pytest.skip("this platform has no extended precision")
    for seed in range(60):
        case = Case(activation, 4, 2, output_bias=seed % 2 == 0, mirrored=mirrored, seed=seed)
        problem, theta = case.problem(), case.theta()
        theta[:, :8] *= (1.0, 1e-3, 1e-8)[seed % 3]
        theta[:, 8:11] *= (1.0, 1e4)[seed % 5 == 0]
        theta[:, 11] = -theta[:, 8:11].sum(1)
        second = problem.second_order(theta)
        error = (second.gradient.numpy().astype(np.longdouble) - extended_gradient(problem, theta)).astype(float)
        assert bool((torch.from_numpy(error).norm(dim=-1) <= second.gradient_noise).all())
        assert bool((second.gradient_noise <= TOLERANCE * sizes_of_terms(problem, theta).gradient.norm(dim=-1)).all())


def extended_gradient(problem: TwoLayerObjective, theta: torch.Tensor) -> np.ndarray:
    x, y, q = (t.numpy().astype(np.longdouble) for t in (problem.features, problem.y, problem.sample_weight))
    rows = []
    for row in theta.numpy().astype(np.longdouble):
        w, a, bias = row[:8].reshape(4, 2), row[8:12], row[12:]
        s = np.tanh(x @ w.T) if problem.activation.name == "tanh" else 1 / (1 + np.exp(-x @ w.T))
        slope = 1 - s**2 if problem.activation.name == "tanh" else s * (1 - s)
        e = 2 * q * (s @ a + bias.sum() - y)
        rows.append(np.concatenate([((slope * a * e[:, None]).T @ x).ravel(), s.T @ e, [e.sum()][: len(bias)]]))
    return np.stack(rows)


X, Y = [[1.0, 2.0], [3.0, 4.0]], [0.5, -0.5]


@pytest.mark.parametrize(
    ("x", "y", "weight", "complaint"),
    [
        ([[1.0, 2.0], [3.0]], Y, None, "x must be a rectangular array"),
        ("digits", Y, None, "x must be a rectangular array"),
        ([[1.0, math.nan], [3.0, 4.0]], Y, None, "x has 1 entries that are NaN"),
        (X, [math.inf, -math.inf], None, "y has 2 entries that are NaN or infinite"),
        (torch.tensor(X, dtype=torch.float16), Y, None, "x has dtype torch.float16"),
        (X, torch.tensor(Y, dtype=torch.bfloat16), None, "y has dtype torch.bfloat16"),
        (X, torch.tensor([True, False]), None, "y has dtype torch.bool"),
        (torch.tensor(X) + 1j, Y, None, "x has dtype torch.complex64"),
        ([1.0, 2.0], Y, None, r"x must have 2 axes, got shape \(2,\)"),
        (X, [Y], None, r"y must have 1 axes, got shape \(1, 2\)"),
        (X, [0.5], None, r"got \(2, 2\) and \(1,\)"),
        (torch.zeros(0, 2), torch.zeros(0), None, r"at least 1; got \(0, 2\)"),
        (torch.zeros(2, 0), Y, None, r"at least 1; got \(2, 0\)"),
        (X, Y, [1.0], "sample_weight must be 2 nonnegative"),
        (X, Y, [1.0, -1.0], "sample_weight must be 2 nonnegative"),
        (X, Y, [0.0, 0.0], "with a positive sum"),
        (X, Y, [1.0, math.nan], "sample_weight has 1 entries that are NaN"),
    ],
)
def test_unusable_data_are_refused_with_a_reason(x, y, weight, complaint: str) -> None:
    with pytest.raises(InvalidData, match=complaint):
        TwoLayerObjective(x, y, "sigmoid", sample_weight=weight)


@pytest.mark.parametrize(
    ("settings", "complaint"),
    [
        ({"dtype": torch.float16}, "dtype must be torch.float64 or torch.float32"),
        ({"scale": 0.0}, "scale must be positive"),
        ({"activation": "sine"}, "activation must be one of"),
    ],
)
def test_unusable_settings_are_refused_with_a_reason(settings: dict, complaint: str) -> None:
    with pytest.raises(InvalidArgument, match=complaint):
        TwoLayerObjective(X, Y, **{"activation": "sigmoid", **settings})


@pytest.mark.parametrize("method", ["loss", "gradient", "loss_and_gradient", "hessian", "second_order", "predict"])
@pytest.mark.parametrize(
    ("theta", "complaint"),
    [
        (torch.zeros(1, 5), r"m \* 3 \+ 1 \(output bias\) parameters .* got shape \(1, 5\)"),
        (torch.zeros(1, 1), r"m \* 3 \+ 1 \(output bias\) parameters"),
        (torch.zeros(1, 4, dtype=torch.int64), "floating-point tensor, got torch.int64"),
        (torch.tensor(1.0), "got a scalar"),
    ],
)
def test_students_of_no_width_are_refused(method: str, theta: torch.Tensor, complaint: str) -> None:
    with pytest.raises(InvalidArgument, match=complaint):
        getattr(TwoLayerObjective(X, Y, "sigmoid", output_bias=True), method)(theta)


@pytest.mark.parametrize("width", [0, -1, 2.0])
def test_a_width_is_a_positive_integer(width) -> None:
    with pytest.raises(InvalidArgument, match="width must be an integer of at least 1"):
        TwoLayerObjective(X, Y, "sigmoid").n_parameters(width)


def test_closed_forms_equal_the_inherited_ones_on_any_batch_shape() -> None:
    case = Case("softplus_sigmoid", 3, 2, hidden_bias=True, rows=6)
    problem, theta, v = case.problem(), case.theta().reshape(2, 3, -1), case.directions(1)[0].reshape(2, 3, -1)
    close = {"rtol": 1e-11, "atol": 1e-11}
    for closed, inherited in zip(
        problem.loss_and_gradient(theta), Objective.loss_and_gradient(problem, theta), strict=True
    ):
        torch.testing.assert_close(closed, inherited, **close)
    torch.testing.assert_close(problem.hessian(theta), Objective.hessian(problem, theta), **close)
    torch.testing.assert_close(problem.hvp(theta, v), Objective.hvp(problem, theta, v), **close)
    assert problem.directional_derivative(theta, v, v, v).shape == (2, 3)
