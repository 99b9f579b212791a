"""The zoo: every listed point is critical, with the index and kind it claims; lists are complete where they say so."""

import math
from collections import Counter

import mpmath
import pytest
import torch
from two_layer_cases import EPS

from critpoints.errors import InvalidArgument
from critpoints.objectives.zoo import (
    Himmelblau,
    KnownObjective,
    MonkeySaddle,
    MuellerBrown,
    PlantedMorse,
    QuadraticForm,
    Rosenbrock,
)
from critpoints.testing import check_objective
from critpoints.verdict import Kind

ZOO = {
    "Rosenbrock, d = 2": Rosenbrock(),
    "Rosenbrock, d = 3": Rosenbrock(3),
    "Rosenbrock, d = 7": Rosenbrock(7),
    "Himmelblau": Himmelblau(),
    "MuellerBrown": MuellerBrown(),
    "MonkeySaddle": MonkeySaddle(),
    "QuadraticForm, indefinite": QuadraticForm([-2.0, -0.5, 1.0, 3.0], seed=1),
    "QuadraticForm, singular": QuadraticForm([0.0, 1.0, 2.0], seed=2),
    "QuadraticForm, negative": QuadraticForm([-1.0, -2.0], seed=3),
    **{f"PlantedMorse, index {index}": PlantedMorse(6, index, seed=index) for index in range(7)},
    "PlantedMorse, index 8": PlantedMorse(12, 8, seed=8),
}
EXACT = "donot_use_mm_for_euclid_dist"  # the default loses half of the digits
every_problem = pytest.mark.parametrize("problem", ZOO.values(), ids=ZOO.keys())


@every_problem
def test_the_objective_is_sound_and_its_rows_keep_their_bits(problem: KnownObjective) -> None:
    report = check_objective(problem, batch_rtol=0.0)
    assert report.batch_dependent == ()
    assert report.skipped == ()


@every_problem
def test_listed_points_are_critical_to_the_rounding_of_theta(problem: KnownObjective) -> None:
    for theta, _, _ in problem.critical_points:
        second = problem.second_order(theta.unsqueeze(0))
        # theta is off by half an ulp, which the Hessian turns into a gradient; the loss's own rounding comes on top
        size = torch.linalg.matrix_norm(second.hessian, 2) * theta.norm()
        assert float(second.gradient.norm()) <= 8 * EPS * float(size)


@every_problem
def test_listed_points_have_the_index_and_kind_they_claim(problem: KnownObjective) -> None:
    for theta, index, kind in problem.critical_points:
        eigenvalues = torch.linalg.eigvalsh(problem.hessian(theta))
        noise = 64 * EPS * float(eigenvalues.abs().max())
        negative, zero = int((eigenvalues < -noise).sum()), int((eigenvalues.abs() <= noise).sum())
        assert negative == index
        loss = float(problem.loss(theta))
        lowest = loss - problem.known_minimum <= 1e-12 * max(1.0, abs(loss))
        assert lowest == (kind is Kind.GLOBAL_MINIMUM)
        if kind is not Kind.GLOBAL_MINIMUM:
            named = {0: Kind.STRICT_MINIMUM, problem.dim: Kind.STRICT_MAXIMUM}.get(negative, Kind.STRICT_SADDLE)
            assert kind is (named if zero == 0 else Kind.DEGENERATE_SADDLE)


@every_problem
def test_no_point_is_listed_twice(problem: KnownObjective) -> None:
    points = torch.stack([point.theta for point in problem.critical_points])
    distances = torch.cdist(points, points, compute_mode=EXACT) + torch.eye(len(points), dtype=points.dtype)
    assert float(distances.min()) > 0.1


# MuellerBrown is not coercive: one of its Gaussians grows without bound, the others end at 0
COERCIVE = [problem for name, problem in ZOO.items() if math.isfinite(problem.known_minimum) and name != "MuellerBrown"]


@pytest.mark.parametrize("problem", [p for p in COERCIVE if p.complete], ids=lambda p: f"{type(p).__name__}, {p.dim}")
def test_complete_lists_obey_the_morse_relation(problem: KnownObjective) -> None:
    """A coercive function with nondegenerate critical points has alternating sum of (-1)^index equal to 1."""
    assert sum((-1) ** point.index for point in problem.critical_points) == 1


def test_the_planar_problems_have_as_many_points_of_each_kind_as_the_literature_says() -> None:
    counts = {
        name: Counter(str(point.kind) for point in ZOO[name].critical_points) for name in ("Himmelblau", "MuellerBrown")
    }
    assert counts["Himmelblau"] == {"global_minimum": 4, "strict_saddle": 4, "strict_maximum": 1}
    assert counts["MuellerBrown"] == {"global_minimum": 1, "strict_minimum": 2, "strict_saddle": 2}


def himmelblau_gradient(x: mpmath.mpf, y: mpmath.mpf) -> list[mpmath.mpf]:
    return [4 * x * (x**2 + y - 11) + 2 * (x + y**2 - 7), 2 * (x**2 + y - 11) + 4 * y * (x + y**2 - 7)]


def mueller_brown_gradient(x: mpmath.mpf, y: mpmath.mpf) -> list[mpmath.mpf]:
    rows = ["-200 -1 0 -10 1 0", "-100 -1 0 -10 0 0.5", "-170 -6.5 11 -6.5 -0.5 1.5", "15 0.7 0.6 0.7 -1 1"]
    total = [mpmath.mpf(0), mpmath.mpf(0)]
    for row in rows:
        height, a, b, c, x0, y0 = map(mpmath.mpf, row.split())
        dx, dy = x - x0, y - y0
        value = height * mpmath.exp(a * dx**2 + b * dx * dy + c * dy**2)
        total = [total[0] + value * (2 * a * dx + b * dy), total[1] + value * (b * dx + 2 * c * dy)]
    return total


@pytest.mark.parametrize(
    ("problem", "gradient"), [(Himmelblau(), himmelblau_gradient), (MuellerBrown(), mueller_brown_gradient)]
)
def test_the_planar_points_are_roots_of_the_gradient_in_30_digits(problem: KnownObjective, gradient) -> None:
    with mpmath.workdps(30):
        for theta, _, _ in problem.critical_points:
            root = mpmath.findroot(gradient, theta.tolist())
            assert max(abs(root[k] - mpmath.mpf(float(theta[k]))) for k in range(2)) <= 4 * EPS


def test_every_root_of_himmelblaus_gradient_is_listed() -> None:
    """Newton's method from a fine grid of starts finds the listed points and no other."""
    problem = Himmelblau()
    axis = torch.linspace(-6, 6, 49, dtype=torch.float64)
    theta = torch.cartesian_prod(axis, axis)
    for _ in range(60):
        theta = theta - torch.linalg.solve(problem.hessian(theta), problem.gradient(theta))
    theta = theta[problem.gradient(theta).norm(dim=-1) < 1e-10]
    listed = torch.stack([point.theta for point in problem.critical_points])
    distance, nearest = torch.cdist(theta, listed, compute_mode=EXACT).min(-1)
    assert float(distance.max()) < 1e-9
    assert set(nearest.tolist()) == set(range(9))


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("index", range(5))
def test_a_planted_point_comes_back_with_its_index_after_a_random_rotation(index: int, seed: int) -> None:
    problem = PlantedMorse(4, index, seed)
    planted = problem.critical_points[0]
    assert torch.equal(planted.theta, problem.centre)
    assert planted.index == index
    eigenvalues = torch.linalg.eigvalsh(problem.hessian(problem.centre))
    torch.testing.assert_close(eigenvalues, problem.eigenvalues.sort().values, rtol=1e-13, atol=1e-13)
    identity = torch.eye(4, dtype=torch.float64)
    torch.testing.assert_close(problem.rotation @ problem.rotation.T, identity, rtol=0, atol=16 * EPS)
    assert float((problem.rotation - identity).abs().max()) > 0.1
    assert Counter(point.index for point in problem.critical_points) == {
        k: math.comb(index, k) * 2 ** (index - k) for k in range(index + 1)
    }


def test_seeds_make_the_rotated_problems() -> None:
    one, same, other = (PlantedMorse(5, 2, seed) for seed in (7, 7, 8))
    theta = torch.ones(5, dtype=torch.float64)
    assert torch.equal(one.hessian(theta), same.hessian(theta))
    assert not torch.equal(one.hessian(theta), other.hessian(theta))


def test_a_quadratic_form_has_the_spectrum_it_was_given() -> None:
    given = torch.tensor([3.0, -1.0, 0.0, 1e-6], dtype=torch.float64)
    form = QuadraticForm(given.tolist(), seed=5)
    eigenvalues = torch.linalg.eigvalsh(form.hessian(torch.zeros(2, 4)))
    torch.testing.assert_close(eigenvalues, given.sort().values.expand(2, 4), rtol=0, atol=16 * EPS)
    assert not form.complete


@pytest.mark.parametrize(
    ("make", "complaint"),
    [
        (lambda: Rosenbrock(1), "d must be at least 2, got 1"),
        (lambda: PlantedMorse(3, 4), "index must be from 0 to dim = 3, got 4"),
        (lambda: PlantedMorse(3, -1), "index must be from 0 to dim = 3, got -1"),
        (lambda: PlantedMorse(0, 0), "dim must be at least 1, got 0"),
        (lambda: QuadraticForm([]), "dim must be at least 1, got 0"),
        (lambda: QuadraticForm([1.0], seed=-1), "seed must be nonnegative, got -1"),
        (lambda: QuadraticForm([math.nan]), "eigenvalues must be finite"),
    ],
)
def test_impossible_problems_are_refused(make, complaint: str) -> None:
    with pytest.raises(InvalidArgument, match=complaint):
        make()
