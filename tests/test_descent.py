"""Where saddles lead: planted double wells, SciPy's own gradient flow, splits of a single neuron."""

import json
import math

import numpy as np
import pytest
import torch
from scipy.integrate import solve_ivp
from study_cases import saddles

import critpoints as cp
from critpoints.descent import _below, walk_down
from critpoints.errors import InvalidArgument
from critpoints.objectives.base import Objective
from critpoints.objectives.zoo import MuellerBrown
from critpoints.solvers.base import iterate
from critpoints.solvers.escaping import escape_directions
from critpoints.solvers.monotone_newton import MonotoneNewton
from critpoints.symmetry.splitting import saddle_line, splitting_matrices


class DoubleWell(Objective):
    """(x^2 - 1)^2 / 4 + y^2 / 2: a saddle at the origin (loss 1/4), minima at (+-1, 0) (loss 0)."""

    dim = 2

    def loss(self, theta):
        return 0.25 * (theta[..., 0] ** 2 - 1) ** 2 + 0.5 * theta[..., 1] ** 2


def descents(problem, theta, **options):
    (result,) = cp.descend_from_saddles(problem, theta[None], **options)
    return result


@pytest.mark.parametrize("method", ["flow", "monotone", "newton"])
def test_the_two_sides_of_a_double_well(method):
    result = descents(DoubleWell(), torch.zeros(2, dtype=torch.float64), method=method)
    assert [branch.sign for branch in result.branches] == [1, -1]
    assert [float(branch.end.theta[0]) for branch in result.branches] == pytest.approx([1.0, -1.0], abs=1e-12)
    assert all(branch.end.kind is cp.Kind.STRICT_MINIMUM for branch in result.branches)
    assert result.branches[0].direction.tolist() == [1.0, 0.0]
    assert result.branches[0].eigenvalue == pytest.approx(-1.0)
    assert result.saddle.index == 1 and result.reason == ""
    assert (result.branches[0].flow is None) == (method != "flow")
    json.dumps(result.to_dict())


def test_the_flow_ends_where_scipys_does():
    problem = MuellerBrown()
    for point in problem.critical_points:
        if point.index != 1:
            continue
        result = descents(problem, point.theta, epsilon=1e-3)
        for branch in result.branches:
            field = lambda _, y: -problem.gradient(torch.from_numpy(y)).numpy()  # noqa: E731
            flow = solve_ivp(field, (0, 1.0), branch.start.numpy(), method="LSODA", rtol=1e-10, atol=1e-12)
            assert np.linalg.norm(flow.y[:, -1] - branch.end.theta.numpy()) < 1e-6
            known = [each.theta for each in problem.critical_points if each.index == 0]
            assert min(float((branch.end.theta - minimum).norm()) for minimum in known) < 1e-6
            assert branch.end.loss < float(problem.loss(point.theta))


@pytest.fixture(scope="module")
def grid():
    return cp.TeacherStudent.grid()


@pytest.fixture(scope="module")
def single(grid):
    return cp.refine(grid, grid.init(1, [0])).theta[0]


def test_symmetry_induced_saddles_lead_to_lower_points_along_the_dense_eigenvector(grid, single):
    points = torch.from_numpy(saddles())
    for point, result in zip(points, cp.descend_from_saddles(grid, points, method="newton"), strict=True):
        assert result.saddle.kind is cp.Kind.STRICT_SADDLE
        assert (result.saddle.level, len(result.branches)) == (
            3,
            2,
        )  # the teacher has 4 neurons, the point effectively 1
        values, vectors = np.linalg.eigh(grid.hessian(point).numpy())
        for branch in result.branches:
            assert branch.eigenvalue == pytest.approx(values[0], rel=1e-9)
            assert abs(branch.direction.numpy() @ vectors[:, 0]) == pytest.approx(1.0, abs=1e-9)
            assert branch.end.loss < float(grid.loss(branch.start)) < result.saddle.loss
        assert float(result.branches[0].direction @ result.branches[0].direction) == pytest.approx(1.0)


def test_the_escape_direction_of_a_split_is_the_eigenvector_of_y(grid, single):
    """Y acts on (1 - mu) v in one copy and -mu v in the other, which leaves a w + a' w' alone."""
    y_values, y_vectors = np.linalg.eigh(splitting_matrices(grid, single, 0).y.numpy())
    for mu in (0.5, 1.5):
        point = saddle_line(grid, single, 0, torch.tensor([mu]))[0]
        found = escape_directions(grid, point[None])
        v = y_vectors[:, 0 if mu * (1 - mu) > 0 else -1]
        assert y_values[0] * mu * (1 - mu) < 0 or y_values[-1] * mu * (1 - mu) < 0
        predicted = np.concatenate([(1 - mu) * v, -mu * v, [0.0, 0.0]])
        cosine = abs(found.vectors[0, 0].numpy() @ predicted) / np.linalg.norm(predicted)
        assert cosine == pytest.approx(1.0, abs=1e-9 if mu == 0.5 else 0.1)


def test_the_flow_and_newton_agree_on_a_symmetric_saddle(grid):
    point = torch.from_numpy(saddles())[1]
    ends = [descents(grid, point, method=method).branches for method in ("flow", "newton")]
    for flow, newton in zip(*ends, strict=True):
        assert flow.steps > 0 and newton.steps == 0
        assert float((flow.end.theta - newton.end.theta).norm()) < 1e-6


def test_a_degenerate_point_of_a_saddle_line_is_left_along_the_line_first(grid, single):
    for mu in (0.0, 1.0):
        point = saddle_line(grid, single, 0, torch.tensor([mu]))[0]
        assert np.linalg.eigvalsh(grid.hessian(point).numpy())[0] > -1e-10, "there is no negative curvature"
        result = descents(grid, point, method="newton")
        assert result.branches and result.reason == ""
        assert {branch.shift for branch in result.branches} <= {0.1, -0.1}
        assert all(branch.end.loss < result.saddle.loss - 1e-8 for branch in result.branches)


def test_an_antiparallel_copy_without_weight_is_left_along_the_line(grid):
    problem = cp.TeacherStudent.gaussian(40, 2, teacher_width=3, activation="tanh")
    small = cp.refine(problem, problem.init(1, [2])).theta[0]
    w, a = problem.split(small)
    point = torch.cat([w[0], -w[0], a, torch.zeros(1, dtype=torch.float64)])
    result = descents(problem, point, method="newton")
    assert all(branch.end.loss < float(problem.loss(small)) for branch in result.branches) and result.branches


def test_minima_and_points_that_are_not_critical_lead_nowhere(grid, single):
    at_minimum = descents(DoubleWell(), torch.tensor([1.0, 0.0], dtype=torch.float64))
    assert at_minimum.branches == () and "no direction leads down" in at_minimum.reason
    elsewhere = descents(grid, grid.init(2, [0])[0])
    assert elsewhere.branches == () and "not a critical point" in elsewhere.reason
    missing = descents(DoubleWell(), torch.full((2,), torch.nan, dtype=torch.float64))
    assert missing.branches == () and missing.reason


def test_as_many_directions_as_the_index_allows():
    class Hill(Objective):
        dim = 3

        def loss(self, theta):
            return ((theta**2 - 1) ** 2 * torch.tensor([1.0, 2.0, 3.0], dtype=theta.dtype)).sum(-1)

    result = descents(Hill(), torch.tensor([0.0, 0.0, 1.0], dtype=torch.float64), directions=3, method="newton")
    assert [branch.eigenvalue for branch in result.branches] == pytest.approx([-8.0, -8.0, -4.0, -4.0])
    assert [branch.sign for branch in result.branches] == [1, -1, 1, -1]


@pytest.mark.parametrize(
    ("options", "name"),
    [
        ({"directions": 0}, "directions"),
        ({"epsilon": 0.0}, "epsilon"),
        ({"epsilon": np.inf}, "epsilon"),
        ({"method": "jump"}, "method"),
    ],
)
def test_bad_options_name_the_argument(options, name):
    with pytest.raises(InvalidArgument, match=name):
        descents(DoubleWell(), torch.zeros(2, dtype=torch.float64), **options)


def test_the_sign_and_the_count_of_escape_directions():
    found = escape_directions(DoubleWell(), torch.tensor([[0.0, 0.0], [1.0, 0.0]], dtype=torch.float64), count=2)
    assert found.index.tolist() == [1, 0]
    assert found.values[0].tolist() == pytest.approx([-1.0, 1.0])
    assert bool((found.vectors.amax(-1) == found.vectors.abs().amax(-1)).all())
    with pytest.raises(InvalidArgument, match="count"):
        escape_directions(DoubleWell(), torch.zeros(1, 2, dtype=torch.float64), count=3)


class Ridge(Objective):
    """(x^2 - 1)^2 (x - 3)^2 + (x - 1)^2 / 20: three wells in a row; a Newton step may jump from one to the next."""

    dim = 1

    def loss(self, theta):
        x = theta[..., 0]
        return (x**2 - 1) ** 2 * (x - 3) ** 2 / 9 + (x - 1) ** 2 / 20


def test_monotone_newton_never_rises_on_its_way():
    """From every start it ends where the gradient flow ends, in the well that it starts in."""
    start = torch.linspace(-1.6, 3.6, 40, dtype=torch.float64).unsqueeze(-1)
    ends = iterate(MonotoneNewton(), Ridge(), start, max_iterations=200)["theta"][:, 0]
    grid = torch.linspace(-2, 4, 6001, dtype=torch.float64)
    loss = Ridge().loss(grid.unsqueeze(-1))
    tops = grid[1:-1][(loss[1:-1] > loss[:-2]) & (loss[1:-1] > loss[2:])]
    assert len(tops) == 2
    basin = lambda x: (x[:, None] > tops).sum(-1)  # noqa: E731
    assert torch.equal(basin(ends), basin(start[:, 0]))


def test_a_refined_end_behind_a_ridge_is_undecided() -> None:
    """-cos x: from one well a straight line to the next one crosses a maximum that is higher than the start."""

    class Waves(Objective):
        dim = 1

        def loss(self, theta):
            return -torch.cos(theta[..., 0])

    start, far, near = (torch.tensor([[x]], dtype=torch.float64) for x in (1.0, 2 * math.pi, 0.0))
    walked = torch.tensor([[0.2]], dtype=torch.float64)
    for end, kind in ((far, cp.Kind.UNDECIDED), (near, cp.Kind.STRICT_MINIMUM)):
        verdicts = cp.classify(Waves(), end)
        assert verdicts.kind == (cp.Kind.STRICT_MINIMUM,)
        assert _below(Waves(), start, walked, verdicts).kind == (kind,)
    assert walk_down(Waves(), start).kind == (cp.Kind.STRICT_MINIMUM,)
