"""Saddle search on problems whose critical points are all known: all are found, and nothing else is."""

import math

import pytest
import torch

import critpoints as cp
from critpoints.errors import InvalidArgument, Status
from critpoints.objectives.base import Objective
from critpoints.objectives.polynomial import PolynomialObjective
from critpoints.objectives.zoo import Himmelblau, MonkeySaddle, MuellerBrown, PlantedMorse, QuadraticForm, Rosenbrock
from critpoints.objectives.zoo_networks import DeepLinear, QuadraticXor, StratifiedObjective
from critpoints.solvers.saddle_search import search_saddles

SAME = 1e-6


def uniform(dim: int, low: float, high: float, starts: int, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return low + (high - low) * torch.rand(starts, dim, generator=generator, dtype=torch.float64)


ISOLATED = {  # problem, half a side of the box of starts, starts; the box stands around the planted point or the origin
    "MuellerBrown": (MuellerBrown(), 1.2, 40),
    "Himmelblau": (Himmelblau(), 5.0, 100),
    "Rosenbrock, d = 2": (Rosenbrock(2), 2.0, 10),
    "QuadraticForm": (QuadraticForm([-2.0, -0.5, 1.0, 3.0], seed=1), 3.0, 10),
    "PlantedMorse, 3 of 6": (PlantedMorse(6, 3, seed=3), 1.5, 400),
    "PlantedMorse, 2 of 20": (PlantedMorse(20, 2, seed=2), 1.0, 100),
}


LARGE = {
    "Rosenbrock, d = 3": (Rosenbrock(3), 1.5, 40),
    "QuadraticForm, negative": (QuadraticForm([-1.0, -2.0], seed=3), 2.0, 5),
    "PlantedMorse, 5 of 5": (PlantedMorse(5, 5, seed=5), 2.5, 10_000),
    "PlantedMorse, 4 of 12": (PlantedMorse(12, 4, seed=8), 1.8, 3000),
    "PlantedMorse, 0 of 30": (PlantedMorse(30, 0, seed=9), 1.0, 20),
}
ISOLATED_OR_LARGE = [*ISOLATED, *(pytest.param(name, marks=pytest.mark.slow) for name in LARGE)]


@pytest.mark.parametrize("name", ISOLATED_OR_LARGE)
def test_every_known_critical_point_is_found_with_its_index_and_none_is_invented(name: str) -> None:
    problem, half, starts = (ISOLATED | LARGE)[name]
    found = search_saddles(problem, uniform(problem.dim, -half, half, starts) + getattr(problem, "centre", 0.0))
    known = torch.stack([point.theta for point in problem.critical_points])
    index = torch.tensor([point.index for point in problem.critical_points])
    distance, nearest = (found.theta[found.critical][:, None] - known[None]).norm(dim=-1).min(-1)
    assert float(distance.max()) <= SAME
    assert torch.equal(found.index[found.critical], index[nearest])
    assert set(nearest.tolist()) == set(range(len(known)))


STRATIFIED = {
    "DeepLinear, 2-1-2": (DeepLinear([2.0, 1.0], [1]), 60),
    "DeepLinear, 2-3-2": (DeepLinear([2.0, 1.0], [3]), 120),
    "DeepLinear, 3-2-3": (DeepLinear([3.0, 2.0, 1.0], [2], seed=1), 250),
    "QuadraticXor, 2": (QuadraticXor(2), 200),
}


WIDE = {
    "DeepLinear, 3-3-3": (DeepLinear([3.0, 2.0, 1.0], [3], seed=2), 600),
    "QuadraticXor, 3": (QuadraticXor(3), 600),
}
STRATIFIED_OR_WIDE = [*STRATIFIED, *(pytest.param(name, marks=pytest.mark.slow) for name in WIDE)]


def levels(problem: StratifiedObjective, found: cp.FoundPoints) -> set[tuple[float, int]]:
    """(loss, index) of the critical points found, the loss that of the nearest stratum.

    Every critical value must be that of a stratum. The index counts where classification vouches for the curvature:
    where strata meet the Hessian is more singular, and searches end next to such points only.
    """
    losses = torch.tensor([stratum.loss for stratum in problem.strata], dtype=torch.float64)
    value = found.loss[found.critical]
    gap, nearest = (value[:, None] - losses[None]).abs().min(-1)
    assert float(gap.max()) <= 1e-9, "a critical value that is none"
    verdicts = cp.classify(problem, found.theta[found.critical])
    reached = {
        (problem.strata[s].loss, verdict.index)
        for s, verdict in zip(nearest.tolist(), verdicts, strict=True)
        if verdict.kind is cp.Kind.STRICT_SADDLE or verdict.index == 0
    }
    return reached


@pytest.mark.parametrize("name", STRATIFIED_OR_WIDE)
def test_every_stratum_is_found_by_value_and_index_and_none_is_invented(name: str) -> None:
    problem, starts = (STRATIFIED | WIDE)[name]
    assert problem.dim is not None
    found = search_saddles(problem, uniform(problem.dim, -2.0, 2.0, starts))
    assert levels(problem, found) == {(stratum.loss, stratum.index) for stratum in problem.strata}


def test_deeper_linear_networks_have_the_same_levels() -> None:
    """Their index varies below full rank, and the origin is a critical point where the Hessian vanishes."""
    problem = DeepLinear([2.0, 1.0], [2, 2])
    found = search_saddles(problem, uniform(12, -1.5, 1.5, 150))
    full = {(stratum.loss, stratum.index) for stratum in problem.strata if stratum.index is not None}
    reached = levels(problem, found)
    assert full <= reached
    assert {loss for loss, _ in reached} <= {stratum.loss for stratum in problem.strata}


def test_the_monkey_saddle_is_found_and_left_undecided() -> None:
    problem = MonkeySaddle()
    found = search_saddles(problem, uniform(2, -1.0, 1.0, 10))
    assert bool(found.critical.all()) and float(found.theta.norm(dim=-1).max()) < 1e-5
    assert set(cp.classify(problem, found.theta).kind) == {cp.Kind.UNDECIDED}


@pytest.mark.parametrize("target", range(4))
def test_only_critical_points_of_the_target_index_attract(target: int) -> None:
    problem = PlantedMorse(6, 3, seed=4)
    points = torch.stack([point.theta for point in problem.critical_points])
    generator = torch.Generator().manual_seed(1)
    near = points + 0.02 * torch.randn(points.shape, generator=generator, dtype=torch.float64)
    found = search_saddles(problem, near, index=target)
    own = torch.tensor([point.index == target for point in problem.critical_points])
    assert bool(found.critical[own].all())
    assert float((found.theta[own] - points[own]).norm(dim=-1).max()) < SAME
    assert set(found.index[found.critical].tolist()) == {target}


def test_gradient_flat_points_are_no_critical_points() -> None:
    """x^3/3 + x + y^2 has no critical point; where its slope is least, the gradient is in the kernel of the Hessian."""
    problem = PolynomialObjective({(3, 0): "1/3", (1, 0): 1, (0, 2): 1})
    found = search_saddles(problem, torch.tensor([[0.7, 0.1], [-0.4, 2.0]], dtype=torch.float64))
    assert found.status == (Status.GRADIENT_FLAT, Status.GRADIENT_FLAT)
    assert not bool(found.critical.any())
    assert float(found.theta.abs().max()) < 1e-3


class Flipped(Objective):
    """-|x|^2 / 2 with a NaN beyond 1."""

    dim = 1

    def loss(self, theta):
        return torch.where(theta[..., 0].abs() > 1, torch.nan, -0.5 * theta[..., 0] ** 2)


def test_rows_are_the_same_alone_and_in_a_batch_and_a_bad_one_is_marked() -> None:
    problem = cp.TeacherStudent.grid()
    theta = problem.init(3, range(4))
    theta[2, 0] = math.nan
    targets = [1, -1, 0, 2]
    whole = search_saddles(problem, theta, index=targets, max_iterations=15)
    assert whole.status[2] is Status.NON_FINITE
    for row in (0, 1, 3):
        alone = search_saddles(problem, theta[row : row + 1], index=targets[row], max_iterations=15)
        assert torch.equal(whole.theta[row], alone.theta[0])
        assert whole.status[row] is alone.status[0]
    assert search_saddles(Flipped(), torch.tensor([[2.0]], dtype=torch.float64)).status == (Status.NON_FINITE,)


def test_a_row_that_runs_off_to_infinity_says_so() -> None:
    problem = PolynomialObjective({(2, 0): 1, (0, 2): -1, (1, 1): 3})  # one saddle, no maximum
    found = search_saddles(problem, torch.tensor([[1.0, 0.5]], dtype=torch.float64), index=2)
    assert found.status == (Status.GROWING_NORM,)


@pytest.mark.parametrize(
    "options", [{"index": 7}, {"index": [1, 1]}, {"index": -2}, {"gtol": 0.0}, {"max_iterations": 0}]
)
def test_bad_options_name_the_argument(options: dict) -> None:
    with pytest.raises(InvalidArgument, match=next(iter(options))):
        search_saddles(Himmelblau(), torch.zeros(1, 2, dtype=torch.float64), **options)
