"""Alignment, canonical forms and orbits, against literal enumeration of the signed permutations."""

import time
from itertools import permutations, product

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from critpoints.errors import InvalidArgument
from critpoints.objectives.teacher_student import TeacherStudent
from critpoints.objectives.two_layer import TwoLayerObjective
from critpoints.symmetry import canonical
from critpoints.symmetry.canonical import (
    align,
    bucket_keys,
    canonical_form,
    group_points,
    orbit_distance,
    same_orbit,
)
from critpoints.symmetry.group import GroupElement, apply, is_admissible, random_element

seeds = st.integers(0, 2**32 - 1)
widths = st.integers(1, 6)
booleans = st.booleans()
activations = st.sampled_from(["sigmoid", "tanh", "softplus"])


def make_problem(activation: str, hidden_bias: bool = False, output_bias: bool = False) -> TwoLayerObjective:
    rng = np.random.default_rng(5)
    x, y = rng.standard_normal((40, 2)), rng.standard_normal(40)
    return TwoLayerObjective(x, y, activation, hidden_bias=hidden_bias, output_bias=output_bias)


def random_student(
    problem: TwoLayerObjective, width: int, rng: np.random.Generator, structured: bool = True
) -> torch.Tensor:
    """With structure: few distinct values, so that ties, duplicates, antipodal pairs and zero sums are common."""
    shape = (width, problem.n_inputs)
    w = rng.integers(-1, 2, shape) / 2 if structured else rng.standard_normal(shape)
    a = rng.integers(-2, 3, width) / 2
    return torch.tensor([*w.ravel(), *a, *rng.standard_normal(int(problem.output_bias))], dtype=torch.float64)


def wiggle(theta: torch.Tensor, size: float, rng: np.random.Generator) -> torch.Tensor:
    direction = torch.from_numpy(rng.standard_normal(len(theta)))
    return theta + size * direction / direction.norm()


def brute_force_distance(problem: TwoLayerObjective, p: torch.Tensor, q: torch.Tensor) -> float:
    """The minimum of |g.p - q| over all admissible signed permutations, one by one."""
    m = problem.width(p)
    elements = (GroupElement(s, f) for s in permutations(range(m)) for f in product([False, True], repeat=m))
    return min(float((apply(problem, g, p) - q).norm()) for g in elements if is_admissible(problem, g, p))


@settings(max_examples=60)
@given(activations, booleans, st.integers(1, 4), booleans, seeds)
def test_the_distance_is_the_minimum_over_all_elements(activation, hidden_bias, width, structured, seed) -> None:
    problem, rng = make_problem(activation, hidden_bias), np.random.default_rng(seed)
    p, q = (random_student(problem, width, rng, structured) for _ in range(2))
    found = align(problem, p, q)
    assert found.distance == pytest.approx(brute_force_distance(problem, p, q), abs=1e-13)
    assert found.distance == pytest.approx(float((apply(problem, found.element, p) - q).norm()), abs=1e-13)


@settings(max_examples=40)
@given(st.integers(1, 4), seeds)
def test_with_a_bias_that_reflections_shift_the_distance_keeps_its_bound(width, seed) -> None:
    problem, rng = make_problem("sigmoid", output_bias=True), np.random.default_rng(seed)
    p, q = (random_student(problem, width, rng) for _ in range(2))
    found, least = align(problem, p, q), brute_force_distance(problem, p, q)
    assert found.distance == pytest.approx(float((apply(problem, found.element, p) - q).norm()), abs=1e-13)
    assert least - 1e-13 <= found.distance <= (2 + width**0.5) * least + 1e-13


@given(activations, booleans, booleans, widths, booleans, seeds)
def test_a_planted_element_is_recovered(activation, hidden_bias, output_bias, width, structured, seed) -> None:
    problem, rng = make_problem(activation, hidden_bias, output_bias), np.random.default_rng(seed)
    p = random_student(problem, width, rng, structured)
    planted = random_element(problem, p, rng)
    q = apply(problem, planted, p)
    found = align(problem, p, q)
    assert found.distance < 1e-13 and same_orbit(problem, p, q) and same_orbit(problem, q, p)
    if not structured and bool((problem.split(p)[1] != 0).all()):
        assert found.element == planted  # no other element has this image
    nearby = wiggle(q, 3e-7, rng)
    assert orbit_distance(problem, p, nearby) <= 3e-7 * (2 + width**0.5)
    assert bucket_keys(problem, nearby)[0] in bucket_keys(problem, p)


@given(activations, booleans, booleans, widths, booleans, seeds)
def test_the_canonical_form_is_one_point_of_the_orbit(
    activation, hidden_bias, output_bias, width, structured, seed
) -> None:
    problem, rng = make_problem(activation, hidden_bias, output_bias), np.random.default_rng(seed)
    p = random_student(problem, width, rng, structured)
    q = wiggle(apply(problem, random_element(problem, p, rng), p), 1e-14, rng)
    form = canonical_form(problem, p)
    assert same_orbit(problem, p, form, tol=1e-12)
    torch.testing.assert_close(canonical_form(problem, q), form, rtol=0, atol=1e-12)
    torch.testing.assert_close(canonical_form(problem, form), form, rtol=0, atol=1e-12)


def test_a_canonical_form_reads_from_the_largest_output_weight() -> None:
    problem = make_problem("tanh")
    theta = torch.tensor([3.0, 4.0, 1.0, 2.0, 0.0, -5.0, -1.0, 2.0, 0.0], dtype=torch.float64)
    expected = torch.tensor([1.0, 2.0, -3.0, -4.0, 0.0, 5.0, 2.0, 1.0, 0.0], dtype=torch.float64)
    assert torch.equal(canonical_form(problem, theta) + 0.0, expected)


@pytest.mark.parametrize("activation", ["sigmoid", "tanh", "softplus"])
def test_planted_orbits_are_found_and_distinct_points_never_merge(activation) -> None:
    problem, rng = make_problem(activation), np.random.default_rng(0)
    orbits = [random_student(problem, 5, rng, structured=False) for _ in range(40)]
    # neighbours that differ in one parameter by little more than the tolerance, and mirror images that change f
    orbits += [orbits[i] + 2e-5 * torch.nn.functional.one_hot(torch.tensor(i), 15) for i in range(15)]
    labels = torch.from_numpy(rng.integers(0, len(orbits), 1000))
    points = [
        wiggle(apply(problem, random_element(problem, orbits[i], rng), orbits[i]), 4e-7, rng) for i in labels.tolist()
    ]
    start = time.process_time()
    found = group_points(problem, torch.stack(points))
    assert time.process_time() - start < 2.0
    pairs = set(zip(labels.tolist(), found.tolist(), strict=True))
    assert len(pairs) == len(set(labels.tolist())) == len(set(found.tolist()))


def test_the_partition_does_not_depend_on_the_order_of_the_rows() -> None:
    problem, rng = make_problem("tanh"), np.random.default_rng(0)
    base = random_student(problem, 3, rng, structured=False)
    chain = torch.stack([base + 0.8e-6 * i * torch.eye(9, dtype=torch.float64)[0] for i in (0, 1, 2, 5, 6, 9)])
    for order in permutations(range(6)):
        labels = group_points(problem, chain[list(order)])
        parts = {tuple(sorted(order[i] for i in range(6) if labels[i] == label)) for label in set(labels.tolist())}
        assert parts == {(0, 1, 2), (3, 4), (5,)}
        assert labels[0] == 0


@pytest.mark.parametrize("seed", range(5))
def test_a_long_chain_of_neighbours_is_one_orbit_in_any_order(seed: int) -> None:
    """Unions of unions: the points are joined in an order that makes deep trees."""
    problem = make_problem("softplus")
    base = torch.tensor([0.3, -0.2, 1.1, 0.4, 2.0, -1.0], dtype=torch.float64)
    step = torch.zeros_like(base)
    step[0] = 0.9e-6
    chain = torch.stack([base + k * step for k in range(60)])
    order = torch.from_numpy(np.random.default_rng(seed).permutation(60))
    assert set(group_points(problem, chain[order], 1e-6).tolist()) == {0}


@pytest.mark.parametrize("output_bias", [False, True])
@pytest.mark.parametrize("activation", ["sigmoid", "tanh", "softplus"])
def test_the_partition_is_that_of_comparing_every_pair(activation, output_bias) -> None:
    """Also where mirror images are admissible or not by little, and neighbourhoods are of all sizes."""
    problem, rng = make_problem(activation, output_bias=output_bias), np.random.default_rng(1)
    for trial in range(12):
        base = random_student(problem, 3, rng, structured=trial % 2 == 0)
        size = 10.0 ** rng.uniform(-9, -5.7)
        points = []
        for _ in range(14):
            point = base.clone()
            point[8] += -point[6:9].sum() + rng.choice([0.0, 1.7e-6, 1.75e-6, 2.5e-6, 4e-6])  # sqrt(3) tol = 1.73e-6
            mirrored = rng.random() < 0.5
            point[:9] *= -1 if mirrored else 1
            points.append(wiggle(apply(problem, random_element(problem, point, rng), point), size, rng))
        expected = list(range(len(points)))
        for i, j in permutations(range(len(points)), 2):
            if i < j and same_orbit(problem, points[i], points[j]):
                expected = [expected[i] if label == expected[j] else label for label in expected]
        found = group_points(problem, torch.stack(points)).tolist()
        assert len(set(zip(expected, found, strict=True))) == len(set(expected)) == len(set(found)), trial


def test_many_copies_of_few_points_take_few_comparisons(monkeypatch: pytest.MonkeyPatch) -> None:
    """Twins that are mirror images of each other, not admissible by little, fall into the same cells."""
    problem, rng, counted = make_problem("sigmoid"), np.random.default_rng(2), []
    base = random_student(problem, 4, rng, structured=False)
    base[-1] += -base[-4:].sum() + 2.4e-6
    points = torch.stack([wiggle(base if i % 2 else -base, 1e-10, rng) for i in range(400)])
    original = canonical._align
    monkeypatch.setattr(canonical, "_align", lambda *args: (counted.append(1), original(*args))[1])
    assert len(set(group_points(problem, points).tolist())) == 2
    assert len(counted) <= 3 * len(points)


def test_an_inadmissible_mirror_image_is_another_orbit() -> None:
    problem = make_problem("sigmoid")
    p = torch.tensor([1.0, 2.0, 3.0, -1.0, 0.5, 1.0, 1.0, -2.0, 0.75], dtype=torch.float64)
    q = p.clone()
    q[:2], q[6] = -p[:2], -p[6]
    assert not same_orbit(problem, p, q)
    assert len(set(group_points(problem, torch.stack([p, q])).tolist())) == 2
    assert same_orbit(make_problem("tanh"), p, q)


def test_a_zero_type_neuron_with_other_weights_is_another_point() -> None:
    problem = TeacherStudent.grid()
    p, q = problem.embed(5, kind="zero", neuron=0), problem.embed(5, kind="zero", neuron=1)
    torch.testing.assert_close(problem.predict(p), problem.predict(q))
    assert not same_orbit(problem, p, q)


def test_wide_students_align() -> None:
    problem, rng = make_problem("sigmoid"), np.random.default_rng(0)
    p = random_student(problem, 60, rng, structured=False)
    assert orbit_distance(problem, p, apply(problem, random_element(problem, p, rng), p)) < 1e-12
    other = random_student(problem, 60, rng, structured=False)
    assert 0.1 < orbit_distance(problem, p, other) <= float((p - other).norm())


def test_a_row_that_is_not_finite_has_no_orbit() -> None:
    problem = TeacherStudent.grid()
    rows = problem.init(4, range(3))
    rows[1, 0] = torch.nan
    assert group_points(problem, rows).tolist() == [0, -1, 1]
    assert group_points(problem, rows[:0]).tolist() == []
    with pytest.raises(InvalidArgument, match="finite"):
        align(problem, rows[0], rows[1])


def test_points_of_two_widths_are_refused() -> None:
    problem = TeacherStudent.grid()
    with pytest.raises(InvalidArgument, match="4 and 5 neurons"):
        align(problem, problem.teacher, problem.embed(5))
    with pytest.raises(InvalidArgument, match="one flat vector"):
        align(problem, problem.init(4, range(2)), problem.teacher)
    with pytest.raises(InvalidArgument, match=r"\(S, P\)"):
        group_points(problem, problem.teacher)
