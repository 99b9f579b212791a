"""Global minima by algebra: planted members of the teacher's class are recognised, near misses are not."""

import pytest
import torch

import critpoints as cp
from critpoints.symmetry.matching import match_teacher

GRID = cp.TeacherStudent.grid()
W = GRID.split(GRID.teacher)[0]
A = GRID.split(GRID.teacher)[1]


def student(w, a):
    return torch.cat([torch.as_tensor(w, dtype=torch.float64).flatten(), torch.as_tensor(a, dtype=torch.float64)])


def wider(w_new, a_new, a=A, w=W):
    return student(torch.cat([w, torch.as_tensor(w_new, dtype=torch.float64)]), [*a.tolist(), *a_new])


FLIPPED_FIRST = W * torch.tensor([[-1.0], [1.0], [1.0], [1.0]])  # with a = (-1, -1, 1, -1), short of a constant of 1
SHORT = torch.tensor([-1.0, -1.0, 1.0, -1.0])

PLANTED = {
    ("plain",): GRID.teacher,
    ("duplicate",): GRID.embed(6, neuron=1, mu=0.3),
    ("zero output weight",): GRID.embed(5, kind="zero"),
    ("flipped set",): student(torch.cat([-W[:2], W[2:]]), [-1.0, 1.0, 1.0, -1.0]),
    ("constant neuron", "flipped set"): wider([[0.0, 0.0]], [2.0], SHORT, FLIPPED_FIRST),
    ("zero-sum cluster",): wider([[1.3, 0.2], [1.3, 0.2]], [0.7, -0.7]),
    ("antipodal pair", "flipped set"): wider([[1.3, 0.2], [-1.3, -0.2]], [1.0, 1.0], SHORT, FLIPPED_FIRST),
}


@pytest.mark.parametrize("types", PLANTED, ids=" and ".join)
def test_a_planted_member_of_the_class_is_recognised_with_its_type(types):
    theta = PLANTED[types]
    generator = torch.Generator().manual_seed(1)
    assert float(GRID.loss(theta)) < 1e-30
    off = theta + 1e-9 * torch.randn(theta.shape, generator=generator, dtype=torch.float64)
    (match,) = match_teacher(GRID, off[None])
    assert match is not None
    assert match.types == types
    assert match.distance < 1e-7
    assert float(GRID.loss(match.theta)) < 1e-29
    assert match.residual < 1e-12


NEAR_MISSES = {
    "a flipped set with nonzero sum": student(torch.cat([-W[:1], W[1:]]), [-1.0, -1.0, 1.0, -1.0]),
    "a missing teacher neuron": student(W[:3], A[:3]),
    "a duplicate whose shares do not add up": wider(W[:1], [0.5]),
    "a lone extra neuron": wider([[1.3, 0.2]], [0.4]),
    "a constant that nothing pays for": wider([[0.0, 0.0]], [0.3]),
}


@pytest.mark.parametrize("theta", NEAR_MISSES.values(), ids=NEAR_MISSES)
def test_near_misses_are_not_matched_or_only_from_afar(theta):
    assert float(GRID.loss(theta)) > 1e-6
    (match,) = match_teacher(GRID, theta[None])
    assert match is None or match.distance > 1e-2


def test_the_constant_neuron_is_isolated_and_the_duplicate_is_not():
    constant, duplicate = match_teacher(
        GRID, torch.stack([PLANTED[("constant neuron", "flipped set")], GRID.embed(5, mu=0.3)])
    )
    assert constant is not None and duplicate is not None
    assert constant.nullity == 0
    assert duplicate.nullity == 3  # the line mu, and a quartic direction for each input


@pytest.mark.parametrize("activation", ["tanh", "softplus"])
def test_other_activations_with_biases_are_matched(activation):
    problem = cp.TeacherStudent.gaussian(60, 3, activation=activation, hidden_bias=True, output_bias=True)
    w, a = problem.split(problem.teacher)
    order = torch.tensor([2, 0, 3, 1])
    theta = torch.cat([w[order].flatten(), a[order], problem.teacher[-1:]])
    (match,) = match_teacher(problem, theta[None])
    assert match is not None and match.types == ("plain",) and match.distance < 1e-14
