"""Verdicts by products: planted spectra of many parameters, networks as students and as modules, and their limits."""

import math

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import critpoints as cp
from critpoints.curvature.linear_operator import MatrixOperator
from critpoints.matrix_free import judge, reevaluate
from critpoints.objectives.base import Objective


class Rotated(Objective):
    """A quadratic form of planted eigenvalues behind a reflection, with quartic terms and a slope; critical at 0."""

    def __init__(self, eigenvalues, *, quartic=0.1, slope=None, seed=0):
        self.eigenvalues = torch.as_tensor(eigenvalues, dtype=torch.float64)
        self.dim, self.quartic = len(self.eigenvalues), quartic
        self.normal = F.normalize(torch.randn(self.dim, generator=torch.Generator().manual_seed(seed)).double(), dim=0)
        self.slope = torch.zeros(self.dim, dtype=torch.float64) if slope is None else slope

    def loss(self, theta):
        z = theta - 2 * (theta @ self.normal).unsqueeze(-1) * self.normal
        return 0.5 * (self.eigenvalues * z**2).sum(-1) + self.quartic * (z**4).sum(-1) + z @ self.slope


def spectrum(negative, dim=1200):
    positive = torch.logspace(-2, 1, dim - len(negative), dtype=torch.float64)
    return torch.cat([torch.tensor(negative, dtype=torch.float64), positive])


def origin(problem):
    return torch.zeros(problem.dim, dtype=torch.float64)


@pytest.mark.parametrize("negative", [[-1.0], [-1.0, -2.0], [-0.5, -2.0, -2.0, -3.0, -4.0]])
def test_a_planted_saddle_is_shown_with_no_more_than_its_index(negative):
    problem = Rotated(spectrum(negative))
    verdict = cp.classify(problem, origin(problem))[0]
    assert verdict.kind is cp.Kind.STRICT_SADDLE
    assert verdict.index == min(len(negative), 3)  # three of six pairs come from the lower end
    truth = problem.eigenvalues.sort().values
    bounds = verdict.evidence.figures["error_bounds"]
    for value, bound in zip(verdict.eigenvalues.tolist(), bounds, strict=True):
        assert float((truth - value).abs().min()) <= bound
    assert verdict.evidence.figures["smallest_eigenvalue"] == pytest.approx(min(negative), rel=1e-4)


def test_the_index_is_estimated_within_its_uncertainty():
    problem = Rotated(spectrum([-5.0 + 0.01 * k for k in range(300)]))
    figures = cp.classify(problem, origin(problem))[0].evidence.figures
    error = figures["index_standard_error"]
    assert 0 < error < 60
    assert abs(figures["index_estimate"] - 300) <= 4 * error
    assert figures["index_at_least"] == 3


def test_a_minimum_is_never_claimed_by_products():
    problem = Rotated(spectrum([]))
    verdict = cp.classify(problem, origin(problem))[0]
    assert verdict.kind is cp.Kind.UNDECIDED and verdict.index == 0
    assert "cannot exclude" in verdict.evidence.reason


def test_an_eigenvalue_within_its_bound_is_no_witness():
    problem = Rotated(spectrum([-1e-14]))
    verdict = cp.classify(problem, origin(problem))[0]
    assert verdict.kind is cp.Kind.UNDECIDED and verdict.index == 0


def test_a_point_that_is_not_critical_says_how_far_from_it():
    problem = Rotated(spectrum([-1.0]))
    verdict = cp.classify(problem, origin(problem) + 1e-3)[0]
    assert verdict.kind is cp.Kind.UNDECIDED
    assert "not a critical point" in verdict.evidence.reason and "relative to |H|" in verdict.evidence.reason
    assert verdict.evidence.figures["flatness"] > 1e-3
    assert verdict.index == 1  # of the Hessian there


def test_a_negative_curvature_that_changes_within_reach_is_no_saddle():
    values = spectrum([-1e-9])
    problem = Rotated(values, quartic=1e3, slope=1e-12 * (values < 0).double())
    verdict = cp.classify(problem, origin(problem))[0]
    assert verdict.kind is cp.Kind.UNDECIDED
    assert verdict.gradient_norm <= 1e-11


def test_a_weakly_curved_direction_keeps_a_saddle_undecided():
    """A gradient of 1e-12 along a curvature of 1e-10: the nearest critical point may be far away, or not exist."""
    values = spectrum([-1.0])
    values[1] = 1e-10
    slope = torch.zeros_like(values)
    slope[1] = 1e-12
    verdict = cp.classify(Rotated(values, slope=slope, quartic=0.0), torch.zeros(1200, dtype=torch.float64))[0]
    assert verdict.kind is cp.Kind.UNDECIDED and "Newton step" in verdict.evidence.reason


@pytest.mark.parametrize(("curvature", "kind"), [(0.0, cp.Kind.GRADIENT_FLAT), (1e-6, cp.Kind.UNDECIDED)])
def test_a_slope_in_the_kernel_is_gradient_flat_and_one_along_a_weak_curvature_is_not(curvature, kind):
    values = spectrum([-1.0])
    values[1] = curvature
    slope = torch.zeros_like(values)
    slope[1] = 1e-3
    problem = Rotated(values, quartic=0.0, slope=slope)
    verdict = cp.classify(problem, origin(problem))[0]
    assert verdict.kind is kind
    assert verdict.evidence.figures["flatness"] < 1e-3


def test_rows_that_are_not_finite_are_marked_and_others_untouched():
    problem = Rotated(spectrum([-1.0]))
    theta = torch.stack([origin(problem), torch.full((1200,), math.inf, dtype=torch.float64)])
    both = cp.classify(problem, theta)
    assert both.kind == (cp.Kind.STRICT_SADDLE, cp.Kind.UNDECIDED)
    assert "not finite" in both[1].evidence.reason
    assert both[0].to_dict() == cp.classify(problem, theta[0])[0].to_dict()


@pytest.mark.parametrize("error", [1e-1, 1e-3, 1e-6])
def test_reevaluated_bounds_hold_for_inexact_vectors(error):
    generator = torch.Generator().manual_seed(0)
    truth = torch.cat([torch.tensor([-2.0, -2.0, -1.0]), torch.linspace(0.1, 5, 57)]).double()
    frame = torch.linalg.qr(torch.randn(60, 60, generator=generator, dtype=torch.float64)).Q
    vectors = frame[:, [0, 1, 2, 59]] + error * torch.randn(60, 4, generator=generator, dtype=torch.float64) / 60**0.5
    ends = reevaluate(MatrixOperator(frame * truth @ frame.mT), vectors)
    for value, bound in zip(ends.values, ends.bounds, strict=True):
        assert float((truth - value).abs().min()) <= float(bound)
    assert ends.index <= 3
    assert ends.index == 3 or error > 1e-2


class Student(nn.Module):
    """sum_k a_k s(w_k . x), as anybody would write it."""

    def __init__(self, inputs, width):
        super().__init__()
        self.hidden, self.out = nn.Linear(inputs, width, bias=False), nn.Linear(width, 1, bias=False)

    def forward(self, x):
        return self.out(torch.sigmoid(self.hidden(x))).squeeze(-1)


@pytest.fixture(scope="module")
def students():
    """Two neurons on the grid, fitted to four: as a student without teacher, as a module; and points of each kind."""
    grid = cp.TeacherStudent.grid()
    student = cp.TwoLayerObjective(grid.x, grid.y, "sigmoid")
    module = cp.ModuleObjective(Student(2, 2).double(), nn.MSELoss(), (grid.x, grid.y))
    start = torch.tensor([[1.0, 0.5, -0.5, 1.5, 0.5, 0.5]], dtype=torch.float64)
    low = cp.refine(student, start).theta[0]
    w1, w2, a = cp.refine(student, start[:, [0, 1, 4]]).theta[0].tolist()
    # a neuron split into two copies is critical for every share, on one side of [0, 1] a saddle or within
    splits = [[w1, w2, w1, w2, share * a, (1 - share) * a] for share in (0.3, 1.5)]
    points = torch.stack([low, *torch.tensor(splits, dtype=torch.float64), start[0], low + 1e-5])
    return student, module, points


def test_a_student_and_its_module_get_the_same_verdicts(students):
    student, module, points = students
    assert torch.allclose(student.loss(points), module.loss(points), rtol=1e-13)
    one, other = cp.classify(student, points), cp.classify(module, points)
    assert other.kind == one.kind
    assert torch.equal(other.index, one.index) and torch.equal(other.nullity, one.nullity)
    assert one.kind[0] is cp.Kind.STRICT_MINIMUM
    assert cp.Kind.STRICT_SADDLE in one.kind[1:3]
    for verdict in (*one[3:], *other[3:]):
        assert verdict.kind is cp.Kind.UNDECIDED and "not a critical point" in verdict.evidence.reason
    for known in (float(one.loss[0]), 0.0):
        kinds = {cp.classify(each, points[0], known_minimum=known).kind[0] for each in (student, module)}
        assert kinds == {cp.Kind.GLOBAL_MINIMUM if known else cp.Kind.STRICT_MINIMUM}


def test_a_module_has_the_symmetries_and_channels_of_its_student():
    grid = cp.TeacherStudent.grid()
    student = cp.TwoLayerObjective(grid.x, grid.y, "sigmoid")
    module = cp.ModuleObjective(Student(2, 4).double(), nn.MSELoss(), (grid.x, grid.y))
    trained = cp.train(student, grid.init(4, [0, 2, 12]), steps=10000)
    settled = cp.settle(student, trained.theta)
    one, other = settled.verdicts, cp.classify(module, settled.refinement.theta)
    assert one.kind == (cp.Kind.CHANNEL, cp.Kind.STRICT_MINIMUM, cp.Kind.DEGENERATE_MINIMUM)
    assert other.kind == one.kind and torch.equal(other.theta, settled.refinement.theta)
    for left, right in zip(one, other, strict=True):
        assert right.loss == pytest.approx(left.loss, rel=1e-10)
        assert right.evidence.figures.keys() >= left.evidence.figures.keys() - {"refinement"}


def test_products_agree_with_hessians_on_a_student_as_far_as_they_claim(students):
    _, module, points = students
    for row, dense in enumerate(cp.classify(module, points)):
        found = judge(module, points[row])
        assert found.kind in (dense.kind, cp.Kind.UNDECIDED)
        assert found.index <= dense.index
        assert found.gradient_norm == pytest.approx(dense.gradient_norm, rel=1e-12, abs=1e-14)
    saddle = cp.classify(module, points).kind.index(cp.Kind.STRICT_SADDLE)
    assert judge(module, points[saddle]).kind is cp.Kind.STRICT_SADDLE


def test_a_module_in_float32_is_judged_in_float64(students):
    student, _, points = students
    model = Student(2, 2)
    single = cp.ModuleObjective(model, nn.MSELoss(), (student.x.float(), student.y.float()))
    rounded = cp.ModuleObjective(
        model, nn.MSELoss(), (student.x.float().double(), student.y.float().double()), dtype=torch.float64
    )
    there = cp.refine(rounded, points[:1]).theta
    assert cp.classify(single, there).kind == (cp.Kind.STRICT_MINIMUM,)
    assert cp.classify(single, there.float()).kind == (cp.Kind.UNDECIDED,)  # rounding the point leaves a gradient
    saddle = judge(single, there[0])
    assert saddle.eigenvalues.dtype == torch.float64 and saddle.gradient_norm <= 1e-13


def test_present_parameters_are_the_default():
    torch.manual_seed(0)
    objective = cp.ModuleObjective(
        Student(2, 2).double(), nn.MSELoss(), (torch.randn(9, 2).double(), torch.randn(9).double())
    )
    assert torch.equal(cp.classify(objective).theta[0], objective.parameters_vector())
    with pytest.raises(cp.InvalidArgument, match="theta must be given"):
        cp.classify(Rotated([1.0, 2.0]))


def test_a_loss_that_knows_one_dtype_only_is_refused_by_name():
    weight = torch.tensor([1.0, 2.0])
    data = (torch.randn(6, 3), torch.arange(6) % 2)
    objective = cp.ModuleObjective(nn.Linear(3, 2), lambda z, y: F.cross_entropy(z, y, weight=weight), data)
    with pytest.raises(cp.InvalidData, match=r"cannot be evaluated in torch\.float64"):
        cp.classify(objective)


class Kinked(nn.Module):
    """(a - 1)^2 + b^2 - max(b, 0) / 2: at (1, 0) automatic differentiation sees a minimum, and there is none."""

    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Parameter(torch.ones(1).double()), nn.Parameter(torch.zeros(1).double())

    def forward(self):
        return ((self.a - 1) ** 2 + self.b**2 - 0.5 * torch.relu(self.b)).sum()


def test_a_kink_decides_nothing():
    objective = cp.ModuleObjective(Kinked(), lambda model, _: model(), closure=True)
    verdict = cp.classify(objective)[0]
    assert verdict.gradient_norm == 0 and verdict.eigenvalues.tolist() == [2.0, 2.0]
    assert verdict.kind is cp.Kind.UNDECIDED and "ReLU inputs are exactly 0" in verdict.evidence.reason


@pytest.mark.parametrize("method", ["newton-mr", "newton-krylov", "newton"])
def test_a_small_network_is_refined_by_every_method(method):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(2, 4), nn.Tanh(), nn.Linear(4, 1)).double()
        x = torch.randn(40, 2, dtype=torch.float64)
    y = torch.sin(2 * x[:, :1]) * x[:, 1:]
    # the penalty makes critical points isolated, and minima strict
    objective = cp.ModuleObjective(
        model,
        lambda net, batch: F.mse_loss(net(batch[0]), batch[1]) + 1e-2 * sum(p.square().sum() for p in net.parameters()),
        (x, y),
        closure=True,
    )
    theta = objective.parameters_vector()
    refined = cp.refine(objective, theta[None], method=method, gtol=1e-12)
    assert refined.status[0].is_critical
    assert float(objective.gradient(refined.theta).norm()) < 1e-8
    assert torch.equal(objective.parameters_vector(), theta)  # the module is only read
    verdict = cp.classify(objective, refined.theta, refinement=refined)[0]
    dense = torch.linalg.eigvalsh(torch.func.hessian(objective.loss)(refined.theta[0]))
    expected = cp.Kind.STRICT_SADDLE if float(dense[0]) < 0 else cp.Kind.STRICT_MINIMUM
    assert verdict.kind is expected and verdict.index == int((dense < 0).sum())


def test_a_saddle_of_a_wide_network_is_shown_by_products():
    """All weights zero is critical for a tanh network without biases: there -2 mean(y x) couples the two layers."""
    x = torch.randn(30, 20, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    y = x[:, :1] ** 3
    model = nn.Sequential(nn.Linear(20, 60, bias=False), nn.Tanh(), nn.Linear(60, 1, bias=False)).double()
    objective = cp.ModuleObjective(model, nn.MSELoss(), (x, y))
    verdict = cp.classify(objective, torch.zeros(objective.dim, dtype=torch.float64))[0]
    coupling = float((2 * (y * x).mean(0)).norm())
    assert verdict.kind is cp.Kind.STRICT_SADDLE
    assert verdict.eigenvalues[0] == pytest.approx(-coupling, rel=1e-9)
    assert verdict.evidence.figures["index_estimate"] == pytest.approx(
        60, abs=5 * verdict.evidence.figures["index_standard_error"]
    )
