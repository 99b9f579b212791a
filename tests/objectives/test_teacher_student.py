"""TeacherStudent: the known figures of the seed study's problem, initial students, zero-loss embeddings."""

import math

import pytest
import torch
from two_layer_cases import EPS

from critpoints.activations import ACTIVATIONS
from critpoints.errors import InvalidArgument
from critpoints.objectives.teacher_student import INIT_SCHEMES, TeacherStudent


@pytest.fixture(scope="module")
def grid() -> TeacherStudent:
    return TeacherStudent.grid()


def test_the_grid_problem_has_its_known_figures(grid: TeacherStudent) -> None:
    assert tuple(grid.x.shape) == (1681, 2)
    assert float((grid.y**2).mean()) == pytest.approx(0.1291476449312254, rel=8 * EPS)
    assert float(grid.y.abs().max()) == pytest.approx(0.582834113234648, rel=8 * EPS)
    assert {tuple(point) for point in grid.x.tolist()} == {
        (i / 4, j / 4) for i in range(-20, 21) for j in range(-20, 21)
    }


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_the_teacher_is_a_critical_point_of_loss_zero(activation: str) -> None:
    for problem in (
        TeacherStudent.grid(activation),
        TeacherStudent.gaussian(50, 3, activation=activation, hidden_bias=True, output_bias=True, seed=3),
    ):
        second = problem.second_order(problem.teacher.unsqueeze(0))
        assert float(second.loss) <= (64 * EPS) ** 2
        assert float(second.gradient.norm()) <= 64 * EPS
        assert float(torch.linalg.eigvalsh(second.hessian).min()) >= -1e-10


@pytest.mark.parametrize("scheme", INIT_SCHEMES)
def test_a_student_depends_on_its_width_and_seed_alone(grid: TeacherStudent, scheme: str) -> None:
    together = grid.init(5, range(20), scheme)
    assert torch.equal(grid.init(5, [17], scheme)[0], together[17])
    assert torch.equal(grid.init(5, [19, 3, 3], scheme), together[[19, 3, 3]])
    other = TeacherStudent.gaussian(10, 2, teacher_width=2)  # other data and teacher, same inputs
    assert torch.equal(other.init(5, range(20), scheme), together)
    assert len({tuple(row) for row in together.tolist()}) == 20
    assert not torch.isin(grid.init(4, range(20), scheme), together).any()


# scheme: the standard deviations of hidden and output weights at width 200, d = 2
SCALES = {
    "xavier_uniform": (math.sqrt(2 / 202), math.sqrt(2 / 201)),
    "xavier_normal": (math.sqrt(2 / 202), math.sqrt(2 / 201)),
    "normal": (1.0, 1.0),
}


@pytest.mark.parametrize("scheme", INIT_SCHEMES)
def test_initial_weights_have_the_scale_of_their_scheme(grid: TeacherStudent, scheme: str) -> None:
    w, a = grid.split(grid.init(200, range(50), scheme))
    for weights, deviation in zip((w, a), SCALES[scheme], strict=True):
        error = deviation / math.sqrt(weights.numel())  # of the mean; the deviation's is smaller
        assert abs(float(weights.mean())) <= 5 * error
        assert abs(float(weights.std()) - deviation) <= 5 * error
        if scheme == "xavier_uniform":
            assert 0.99 < float(weights.abs().max()) / (math.sqrt(3) * deviation) <= 1


def test_initial_biases_are_zero() -> None:
    problem = TeacherStudent.gaussian(10, 2, hidden_bias=True, output_bias=True)
    theta = problem.init(3, range(4))
    w, a = problem.split(theta)
    assert float(w[..., -1].abs().max()) == 0
    assert float(theta[:, -1].abs().max()) == 0
    assert float(w[..., :-1].abs().min()) > 0
    assert float(a.abs().min()) > 0


@pytest.mark.parametrize(
    ("width", "seeds", "scheme", "complaint"),
    [
        (0, [1], "normal", "width must be an integer of at least 1"),
        (3, [], "normal", "at least one seed"),
        (3, [4, -1], "normal", "nonnegative, got -1"),
        (3, [1], "he", "one of xavier_uniform, xavier_normal, normal, got 'he'"),
    ],
)
def test_impossible_students_are_refused(grid: TeacherStudent, width: int, seeds, scheme: str, complaint: str) -> None:
    with pytest.raises(InvalidArgument, match=complaint):
        grid.init(width, seeds, scheme)


@pytest.mark.parametrize("kind", ["duplicate", "zero"])
@pytest.mark.parametrize("neuron", [0, 3])
@pytest.mark.parametrize("extra", [0, 1, 3])
@pytest.mark.parametrize("biases", [False, True])
def test_the_teacher_in_a_wider_student_has_loss_zero(kind: str, neuron: int, extra: int, biases: bool) -> None:
    problem = TeacherStudent.gaussian(40, 3, hidden_bias=biases, output_bias=biases, activation="tanh", seed=5)
    theta = problem.embed(4 + extra, kind=kind, neuron=neuron, mu=0.3)
    assert theta.shape == (problem.n_parameters(4 + extra),)
    loss, gradient = problem.loss_and_gradient(theta)
    assert float(loss) <= (64 * EPS) ** 2
    assert float(gradient.norm()) <= 64 * EPS
    w, a = problem.split(theta)
    if extra == 0:
        assert torch.equal(theta, problem.teacher)
    elif kind == "duplicate":
        copies = (w == w[neuron]).all(-1)
        assert int(copies.sum()) == 1 + extra
        assert float(a[neuron]) == 0.3 * float(problem.split(problem.teacher)[1][neuron])
    else:
        assert a[4:].tolist() == [0.0] * extra


@pytest.mark.parametrize(
    ("settings", "complaint"),
    [
        ({"width": 3}, "at least the teacher's, 4, got 3"),
        ({"width": 5, "neuron": 4}, "from 0 to 3, got 4"),
        ({"width": 5, "kind": "split"}, "duplicate or zero, got 'split'"),
    ],
)
def test_impossible_embeddings_are_refused(grid: TeacherStudent, settings: dict, complaint: str) -> None:
    with pytest.raises(InvalidArgument, match=complaint):
        grid.embed(**settings)


def test_gaussian_problems_are_made_by_their_seed() -> None:
    one, same, other = (TeacherStudent.gaussian(20, 3, seed=seed) for seed in (1, 1, 2))
    assert torch.equal(one.x, same.x)
    assert torch.equal(one.teacher, same.teacher)
    assert not torch.isin(one.x, other.x).any()
    w, a = one.split(one.teacher)
    assert a.tolist() == [1, -1, 1, -1]
    torch.testing.assert_close(w.norm(dim=-1), torch.ones(4, dtype=w.dtype))


@pytest.mark.parametrize("settings", [{"n": 0, "d": 1}, {"n": 1, "d": 0}, {"n": 1, "d": 1, "teacher_width": 0}])
def test_empty_gaussian_problems_are_refused(settings: dict) -> None:
    with pytest.raises(InvalidArgument, match="must be at least 1, got 0"):
        TeacherStudent.gaussian(**settings)


@pytest.mark.parametrize(
    ("teacher", "complaint"),
    [
        (torch.zeros(4), r"m \* 3 parameters"),
        (torch.zeros(2, 3), "one flat vector"),
        (torch.tensor([1.0, math.nan, 1.0]), "finite parameters"),
    ],
)
def test_unusable_teachers_are_refused(teacher: torch.Tensor, complaint: str) -> None:
    with pytest.raises(InvalidArgument, match=complaint):
        TeacherStudent(torch.zeros(5, 2), teacher)
