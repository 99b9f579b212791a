"""Group elements: they compose as a group acts, and keep the function of every student they may act on."""

import math
from itertools import product

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from critpoints.errors import InvalidArgument
from critpoints.objectives.teacher_student import TeacherStudent
from critpoints.objectives.two_layer import TwoLayerObjective
from critpoints.symmetry.group import (
    GroupElement,
    apply,
    compose,
    identity,
    inverse,
    is_admissible,
    random_element,
    zero_sum_sets,
)

seeds = st.integers(0, 2**32 - 1)
widths = st.integers(1, 6)
activations = st.sampled_from(["sigmoid", "tanh", "erf", "softplus", "relu"])
booleans = st.booleans()


def make_problem(activation: str, hidden_bias: bool = False, output_bias: bool = False, d: int = 2):
    rng = np.random.default_rng(5)
    x, y = rng.standard_normal((40, d)), rng.standard_normal(40)
    return TwoLayerObjective(x, y, activation, hidden_bias=hidden_bias, output_bias=output_bias)


def random_student(problem: TwoLayerObjective, width: int, rng: np.random.Generator) -> torch.Tensor:
    """Output weights in quarters, so that sets with the sum zero are common and exact."""
    w, a = rng.standard_normal((width, problem.n_inputs)), rng.integers(-6, 7, width) / 4
    return torch.tensor([*w.ravel(), *a, *rng.standard_normal(int(problem.output_bias))], dtype=torch.float64)


@given(activations, booleans, booleans, widths, seeds)
def test_an_element_keeps_outputs_and_loss(activation, hidden_bias, output_bias, width, seed) -> None:
    problem, rng = make_problem(activation, hidden_bias, output_bias), np.random.default_rng(seed)
    theta = random_student(problem, width, rng)
    image = apply(problem, random_element(problem, theta, rng), theta)
    scale = 1 + float(theta.abs().sum()) * 10
    torch.testing.assert_close(problem.predict(image), problem.predict(theta), rtol=0, atol=1e-14 * scale)
    torch.testing.assert_close(problem.loss(image), problem.loss(theta), rtol=1e-12, atol=1e-14 * scale)


@given(activations, booleans, booleans, widths, seeds)
def test_elements_act_as_a_group(activation, hidden_bias, output_bias, width, seed) -> None:
    problem, rng = make_problem(activation, hidden_bias, output_bias), np.random.default_rng(seed)
    theta = random_student(problem, width, rng)
    first = random_element(problem, theta, rng)
    middle = apply(problem, first, theta)
    second = random_element(problem, middle, rng)
    both = compose(second, first)
    torch.testing.assert_close(
        apply(problem, both, theta), apply(problem, second, middle), rtol=0, atol=1e-14 * width * 8
    )
    torch.testing.assert_close(apply(problem, inverse(first), middle), theta, rtol=0, atol=1e-14 * width * 8)
    assert compose(first, inverse(first)) == compose(inverse(first), first) == identity(width)


@pytest.mark.parametrize("hidden_bias", [False, True])
@pytest.mark.parametrize("output_bias", [False, True])
@pytest.mark.parametrize("activation", ["sigmoid", "tanh", "softplus"])
def test_a_flip_set_is_admissible_exactly_when_it_keeps_the_function(activation, hidden_bias, output_bias) -> None:
    """Every set of neurons, against the outputs of a network written down here."""
    problem = make_problem(activation, hidden_bias, output_bias)
    rng = np.random.default_rng(2)
    theta = random_student(problem, 4, rng)
    theta[4 * problem.n_inputs : 4 * problem.n_inputs + 4] = torch.tensor([1.0, -1.0, 2.0, -3.0])
    function = {"sigmoid": torch.sigmoid, "tanh": torch.tanh, "softplus": torch.nn.functional.softplus}[activation]
    w, a = problem.split(theta)
    for flips in product([False, True], repeat=4):
        signs = torch.tensor([-1.0 if flip else 1.0 for flip in flips], dtype=torch.float64)
        change = (signs * a) @ function((signs[:, None] * w) @ problem.features.T) - a @ function(
            w @ problem.features.T
        )
        kept = float((change - change.mean() if output_bias else change).abs().max()) < 1e-12
        element = GroupElement((2, 0, 1, 3), tuple(flips[i] for i in (2, 0, 1, 3)))
        assert is_admissible(problem, element, theta) == kept, flips
        if not kept:
            with pytest.raises(InvalidArgument, match="change the function"):
                apply(problem, element, theta)


def test_the_seed_studys_teacher_has_six_flip_sets() -> None:
    literal = [f for f in product([0, 1], repeat=4) if f[0] - f[1] + f[2] - f[3] == 0]
    found = zero_sum_sets(np.array([1.0, -1.0, 1.0, -1.0]), 1e-12)
    assert len(found) == 6 and sorted(map(tuple, found.astype(int).tolist())) == literal
    problem, rng = TeacherStudent.grid(), np.random.default_rng(0)
    drawn = [random_element(problem, problem.teacher, rng) for _ in range(200)]
    assert len({compose(inverse(GroupElement(e.permutation, (False,) * 4)), e).flips for e in drawn}) == 6
    assert len({e.permutation for e in drawn}) == math.factorial(4)


def test_random_elements_of_a_wide_student_flip_too() -> None:
    problem, rng = make_problem("sigmoid"), np.random.default_rng(0)
    theta = random_student(problem, 40, rng)
    drawn = [random_element(problem, theta, rng) for _ in range(5)]
    assert all(any(element.flips) for element in drawn)
    images = torch.stack([apply(problem, element, theta) for element in drawn])
    torch.testing.assert_close(problem.predict(images), problem.predict(theta).expand(5, -1), rtol=0, atol=1e-12)


def test_a_batch_is_acted_on_row_by_row() -> None:
    problem, rng = make_problem("tanh", True, True), np.random.default_rng(0)
    thetas = torch.stack([random_student(problem, 3, rng) for _ in range(4)])
    element = random_element(problem, thetas[0], rng)
    assert torch.equal(apply(problem, element, thetas), torch.stack([apply(problem, element, t) for t in thetas]))


def test_a_zero_sum_flip_is_a_symmetry_of_the_function_but_not_of_the_loss_around_it() -> None:
    """What the module says of the sigmoid: it keeps zero-loss points critical, other points only in value."""
    problem = TeacherStudent.grid()
    flip = GroupElement((0, 1, 2, 3), (True, True, False, False))
    image = apply(problem, flip, problem.teacher)
    assert float(problem.loss(image)) < 1e-30 and float(problem.gradient(image).norm()) < 1e-14
    spectra = torch.linalg.eigvalsh(problem.hessian(torch.stack([problem.teacher, image])))
    assert float((spectra[0] - spectra[1]).abs().max()) > 1e-2
    elsewhere = torch.cat([torch.linspace(-1, 2, 8, dtype=torch.float64), problem.teacher[8:]])
    for lopsided in (False, True):  # on the symmetric grid the mean residual is zero, as the output weights sum to A*
        x = problem.x + 0.5 if lopsided else problem.x
        here = TeacherStudent(x, problem.teacher)
        rows = torch.stack([elsewhere, apply(here, flip, elsewhere)])
        norms = here.gradient(rows).norm(dim=-1)
        assert float((here.loss(rows)[0] - here.loss(rows)[1]).abs()) < 1e-14
        assert (float((norms[0] - norms[1]).abs()) > 1e-3) == lopsided


@pytest.mark.parametrize(
    ("permutation", "flips"), [((0, 0), (False, False)), ((0, 2), (False, True)), ((0, 1), (True,))]
)
def test_what_is_no_element_is_refused(permutation, flips) -> None:
    with pytest.raises(InvalidArgument):
        GroupElement(permutation, flips)


def test_an_element_of_another_width_is_refused() -> None:
    problem = TeacherStudent.grid()
    with pytest.raises(InvalidArgument, match="3 neurons, theta has 4"):
        apply(problem, identity(3), problem.teacher)
    with pytest.raises(InvalidArgument, match="one width, got 3 and 4"):
        compose(identity(3), identity(4))
