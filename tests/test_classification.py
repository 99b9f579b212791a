"""Verdicts: planted kinds under random rotations, the seed study's students, and what stays undecided."""

import math

import numpy as np
import pytest
import torch

import critpoints as cp
from critpoints.classification import raw_spectrum
from critpoints.objectives.base import Objective
from critpoints.objectives.zoo import MonkeySaddle


class Planted(Objective):
    """A quadratic form with given eigenvalues in a random orthonormal frame, plus quartic terms, critical at 0."""

    def __init__(self, eigenvalues, seed, quartic=0.1):
        rng = np.random.default_rng(seed)
        n = len(eigenvalues)
        self.frame = torch.from_numpy(np.linalg.qr(rng.standard_normal((n, n)))[0])
        self.eigenvalues, self.quartic, self.dim = torch.tensor(eigenvalues, dtype=torch.float64), quartic, n

    def loss(self, theta):
        z = theta @ self.frame
        return 1.0 + 0.5 * (self.eigenvalues * z**2).sum(-1) + self.quartic * (z**4).sum(-1)


def kind_of(eigenvalues, seed=0):
    problem = Planted(eigenvalues, seed)
    return cp.classify(problem, torch.zeros(problem.dim, dtype=torch.float64))[0]


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("index", range(5))
def test_a_planted_index_comes_back_after_a_random_rotation(index, seed):
    verdict = kind_of([-1.0 - k for k in range(index)] + [0.5 + k for k in range(4 - index)], seed)
    assert (verdict.index, verdict.nullity) == (index, 0)
    expected = {0: cp.Kind.STRICT_MINIMUM, 4: cp.Kind.STRICT_MAXIMUM}.get(index, cp.Kind.STRICT_SADDLE)
    assert verdict.kind is expected


def test_a_zero_eigenvalue_stays_undecided_with_its_nullity():
    verdict = kind_of([0.0, 1.0, 2.0])
    assert verdict.kind is cp.Kind.UNDECIDED
    assert verdict.nullity == 1
    assert "rounding of zero" in verdict.evidence.reason


def test_an_eigenvalue_inside_the_noise_has_no_sign():
    assert kind_of([-1e-16, 1.0, 2.0]).index == 0


def test_a_point_that_is_not_critical_is_undecided():
    problem = Planted([1.0, 2.0], 0)
    verdict = cp.classify(problem, torch.tensor([[0.1, 0.0]], dtype=torch.float64))[0]
    assert verdict.kind is cp.Kind.UNDECIDED
    assert "not a critical point" in verdict.evidence.reason


class Slope(Planted):
    """A planted form with a slope along its first axis, where nothing is critical."""

    def loss(self, theta):
        return super().loss(theta) + 1e-3 * (theta @ self.frame)[..., 0]


@pytest.mark.parametrize("seed", range(3))
def test_a_slope_within_the_kernel_of_the_hessian_is_gradient_flat(seed):
    problem = Slope([0.0, 1.0, 2.0], seed, quartic=0.0)
    verdict = cp.classify(problem, torch.zeros(3, dtype=torch.float64))[0]
    assert verdict.kind is cp.Kind.GRADIENT_FLAT
    assert verdict.evidence.figures["removable_gradient"] < 1e-10
    assert "Newton's method stalls" in verdict.evidence.reason


def test_a_slope_that_curvature_can_remove_is_not_gradient_flat():
    problem = Slope([1e-3, 1.0, 2.0], 0, quartic=0.0)
    assert cp.classify(problem, torch.zeros(3, dtype=torch.float64))[0].kind is cp.Kind.UNDECIDED


def test_a_known_minimum_makes_a_nondegenerate_minimum_global():
    problem, origin = Planted([1.0, 2.0], 0), torch.zeros(1, 2, dtype=torch.float64)
    assert cp.classify(problem, origin, known_minimum=1.0)[0].kind is cp.Kind.GLOBAL_MINIMUM
    assert cp.classify(problem, origin, known_minimum=0.9)[0].kind is cp.Kind.STRICT_MINIMUM


def test_the_teacher_and_its_embeddings_are_global():
    problem = cp.TeacherStudent.grid()
    for theta in (problem.teacher, problem.embed(5, mu=0.4), problem.embed(6, kind="zero")):
        assert cp.classify(problem, theta)[0].kind is cp.Kind.GLOBAL_MINIMUM


def test_most_students_are_decided_and_rows_do_not_depend_on_the_batch(trained):
    problem, theta = trained
    whole = cp.settle(problem, theta)
    kinds = whole.verdicts.kind
    assert kinds.count(cp.Kind.UNDECIDED) <= 3
    assert cp.Kind.GLOBAL_MINIMUM in kinds
    for row in (0, 5):
        alone = cp.settle(problem, theta[row : row + 1])
        assert torch.equal(alone.refinement.theta[0], whole.refinement.theta[row])
        assert alone.verdicts[0].to_dict() == whole.verdicts[row].to_dict()


def test_a_global_minimum_is_decided_by_algebra_not_by_its_loss(trained):
    problem, theta = trained
    for verdict in cp.settle(problem, theta).verdicts:
        if verdict.kind is cp.Kind.GLOBAL_MINIMUM:
            snapped = torch.tensor(verdict.evidence.figures["snapped_theta"], dtype=torch.float64)
            assert float(problem.loss(snapped)) < 1e-28
            assert float((snapped - verdict.theta).norm()) == pytest.approx(verdict.evidence.figures["distance"])


def test_a_student_with_unknown_teacher_gets_a_strict_minimum_not_a_global_one():
    known = cp.TeacherStudent.gaussian(40, 2, teacher_width=2, activation="tanh")
    unknown = cp.TwoLayerObjective(known.x, known.y, "tanh")
    assert cp.classify(known, known.teacher)[0].kind is cp.Kind.GLOBAL_MINIMUM
    assert cp.classify(unknown, known.teacher)[0].kind is cp.Kind.STRICT_MINIMUM
    assert cp.classify(unknown, known.teacher, known_minimum=0.0)[0].kind is cp.Kind.GLOBAL_MINIMUM


def test_negative_raw_eigenvalues_are_explained(trained):
    problem, theta = trained
    raw = raw_spectrum(problem, theta)
    causes = cp.negative_eigenvalue_causes(raw, cp.settle(problem, theta).verdicts)
    assert sum(causes.values()) == int((raw.eigenvalues[:, 0] < 0).sum())


def test_a_non_finite_row_is_undecided_and_alone(trained):
    problem, theta = trained
    theta = theta[:2].clone()
    theta[0, 0] = math.nan
    verdicts = cp.classify(problem, theta)
    assert verdicts[0].kind is cp.Kind.UNDECIDED
    assert verdicts[1].to_dict() == cp.classify(problem, theta[1:])[0].to_dict()


def test_verdicts_support_len_indexing_and_iteration(trained):
    problem, theta = trained
    verdicts = cp.classify(problem, theta[:3])
    assert len(verdicts) == 3
    assert [v.loss for v in verdicts] == [verdicts[i].loss for i in range(3)]
    assert sum(verdicts.counts().values()) == 3


class Quartic(Objective):
    """sign * x^4 + y^2 / 2, degenerate at 0 however small the eigenvalue looks nearby."""

    dim = 2

    def __init__(self, sign):
        self.sign = sign

    def loss(self, theta):
        return 1.0 + self.sign * theta[..., 0] ** 4 + 0.5 * theta[..., 1] ** 2


@pytest.mark.parametrize("sign", [1, -1])
def test_a_quartic_valley_is_neither_a_strict_minimum_nor_a_strict_saddle(sign):
    verdict = cp.classify(Quartic(sign), torch.tensor([[1e-6, 0.0]], dtype=torch.float64))[0]
    assert verdict.nullity == 0  # the eigenvalue, 1.2e-11 in size, is beyond its rounding error
    assert verdict.gradient_norm < 1e-17
    assert verdict.kind is cp.Kind.UNDECIDED
    assert "decisive curvature" in verdict.evidence.reason


@pytest.mark.parametrize("radius", [1e-6, 1e-7, 1e-8])
def test_next_to_a_monkey_saddle_no_curvature_is_vouched_for(radius):
    """Newton's method ends at such points, where eigenvalues +-6 r are far beyond rounding; the saddle has none."""
    angle = torch.linspace(0, 2 * math.pi, 25, dtype=torch.float64)
    theta = radius * torch.stack([angle.cos(), angle.sin()], -1)
    assert set(cp.classify(MonkeySaddle(), theta).kind) == {cp.Kind.UNDECIDED}
