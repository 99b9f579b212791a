"""Deep linear networks and quadratic XOR: examples of every stratum are critical, with the loss and index claimed."""

import itertools
import math

import pytest
import torch

from critpoints.errors import InvalidArgument
from critpoints.objectives.zoo_networks import DeepLinear, QuadraticXor, StratifiedObjective
from critpoints.testing import check_objective

PROBLEMS = {
    "2-1-2": DeepLinear([2.0, 1.0], [1]),
    "3-2-3": DeepLinear([3.0, 2.0, 1.0], [2], seed=1),
    "3-4-3": DeepLinear([3.0, 2.0, 1.0], [4], seed=2),
    "2-2-3-2": DeepLinear([2.0, 1.0], [2, 3], seed=3),
    "XOR, 1": QuadraticXor(1),
    "XOR, 2": QuadraticXor(2),
    "XOR, 4": QuadraticXor(4),
}
every_problem = pytest.mark.parametrize("problem", PROBLEMS.values(), ids=PROBLEMS)


@every_problem
def test_the_objective_is_sound(problem: StratifiedObjective) -> None:
    assert check_objective(problem, batch_rtol=0.0).skipped == ()


@every_problem
def test_examples_are_critical_with_the_loss_and_index_they_claim(problem: StratifiedObjective) -> None:
    for stratum in problem.strata:
        here = problem.second_order(stratum.example[None])
        assert float(here.gradient.norm()) < 1e-13
        assert float(here.loss) == pytest.approx(stratum.loss, abs=1e-12)
        values = torch.linalg.eigvalsh(here.hessian[0])
        if stratum.index is not None:
            assert int((values < -1e-9).sum()) == stratum.index


@pytest.mark.parametrize(("n", "hidden"), [(3, [2]), (4, [3]), (3, [2, 3]), (2, [5])])
def test_a_deep_linear_network_has_binomially_many_levels(n: int, hidden: list[int]) -> None:
    sigma = [2.0**k for k in range(n)]
    problem = DeepLinear(sigma, hidden)
    assert len(problem.strata) == sum(math.comb(n, r) for r in range(min(n, *hidden) + 1))
    trace = sum(s**2 for s in sigma)
    sets = itertools.chain.from_iterable(itertools.combinations(sigma, r) for r in range(min(n, *hidden) + 1))
    expected = sorted(trace - sum(s**2 for s in each) for each in sets)
    assert sorted(stratum.loss for stratum in problem.strata) == pytest.approx(expected)


def test_the_index_is_the_same_all_over_a_stratum() -> None:
    """Moved by W_2 -> W_2 G, W_1 -> G^-1 W_1, which keeps the loss but is no isometry."""
    problem = DeepLinear([3.0, 2.0, 1.0], [2], seed=1)
    mix = torch.tensor([[1.0, 0.7], [-0.3, 2.0]], dtype=torch.float64)
    for stratum in problem.strata:
        first, second = problem.layers(stratum.example)
        moved = torch.cat([(torch.linalg.inv(mix) @ first).flatten(), (second @ mix).flatten()])
        values = torch.linalg.eigvalsh(problem.hessian(moved))
        assert float(problem.gradient(moved).norm()) < 1e-12
        assert int((values < -1e-9).sum()) == stratum.index


def test_quadratic_xor_is_the_mean_squared_error_over_the_four_inputs() -> None:
    generator = torch.Generator().manual_seed(0)
    theta = torch.randn(5, 9, generator=generator, dtype=torch.float64)
    x = torch.tensor(list(itertools.product([1.0, -1.0], repeat=2)), dtype=torch.float64)
    w, a = theta[:, :6].unflatten(-1, (3, 2)), theta[:, 6:]
    output = (a[:, :, None] * (w @ x.T) ** 2).sum(1)
    expected = ((output - x[:, 0] * x[:, 1]) ** 2).mean(-1)
    torch.testing.assert_close(QuadraticXor(3).loss(theta), expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(
    ("make", "complaint"),
    [
        (lambda: DeepLinear([1.0, 1.0], [1]), "singular_values must differ"),
        (lambda: DeepLinear([1.0, -1.0], [1]), "singular_values must be positive"),
        (lambda: DeepLinear([1.0], []), "hidden must be one or more widths"),
        (lambda: QuadraticXor(0), "width must be at least 1, got 0"),
    ],
)
def test_impossible_networks_are_refused(make, complaint: str) -> None:
    with pytest.raises(InvalidArgument, match=complaint):
        make()
