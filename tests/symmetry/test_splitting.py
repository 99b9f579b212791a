"""Saddle lines: predicted inertia against the dense Hessian, at the minima that training finds."""

import pytest
import torch

import critpoints as cp
from critpoints.symmetry.reduction import merge_duplicates
from critpoints.symmetry.splitting import predicted_inertia, saddle_line, split, splitting_matrices

MUS = torch.cat([torch.linspace(-1, 2, 21, dtype=torch.float64), torch.tensor([0.0, 1.0], dtype=torch.float64)])


@pytest.fixture(scope="module")
def minima():
    """Distinct local minima of width-3 students, which the 4-neuron teacher leaves above zero loss."""
    problem = cp.TeacherStudent.grid()
    settled = cp.settle(problem, cp.train(problem, problem.init(3, range(24)), steps=8000).theta)
    found = {round(v.loss, 10): v.theta for v in settled.verdicts if v.kind is cp.Kind.STRICT_MINIMUM}
    assert len(found) >= 2
    return problem, list(found.values())


def test_the_predicted_inertia_is_that_of_the_dense_hessian_for_every_neuron_and_mu(minima):
    problem, points = minima
    for point in points:
        for neuron in range(3):
            line = saddle_line(problem, point, neuron, MUS)
            spectrum = cp.raw_spectrum(problem, line)
            for i, mu in enumerate(MUS.tolist()):
                predicted = predicted_inertia(problem, point, {neuron: (mu, 1 - mu)})
                computed = (int(spectrum.index[i]), int(spectrum.nullity[i]))
                assert computed == (predicted.negative, predicted.zero), (neuron, mu)


@pytest.mark.parametrize("shares", [(0.2, 0.3, 0.5), (0.7, 0.6, -0.3), (1.5, -0.2, -0.3)])
def test_splits_in_three_add_up(minima, shares):
    problem, points = minima
    for neuron in range(3):
        theta = split(problem, points[0], neuron, shares)
        spectrum = cp.raw_spectrum(problem, theta[None])
        predicted = predicted_inertia(problem, points[0], {neuron: shares})
        assert (int(spectrum.index[0]), int(spectrum.nullity[0])) == (predicted.negative, predicted.zero)


def test_a_split_point_is_classified_by_the_sign_of_y(minima):
    problem, points = minima
    for point in points:
        for neuron in range(3):
            y = torch.linalg.eigvalsh(splitting_matrices(problem, point, neuron).y)
            for mu in (0.4, 1.7):
                verdict = cp.classify(problem, saddle_line(problem, point, neuron, mu))[0]
                is_minimum = bool((y > 0).all()) if 0 < mu < 1 else bool((y < 0).all())
                assert (verdict.kind is cp.Kind.DEGENERATE_MINIMUM) == is_minimum
                assert is_minimum or (verdict.kind is cp.Kind.STRICT_SADDLE and verdict.level == 1)


def test_u_vanishes_at_a_critical_point(minima):
    problem, points = minima
    assert all(float(splitting_matrices(problem, points[0], k).u.norm()) < 1e-13 for k in range(3))


def test_merging_undoes_splitting():
    problem = cp.TeacherStudent.grid()
    point = problem.init(3, [5])[0]
    reduction = merge_duplicates(problem, split(problem, point, 1, [0.2, 1.1, -0.3]), 1e-9)
    assert reduction is not None
    assert torch.allclose(reduction.theta, point, atol=1e-15)
    assert reduction.duplicated == (1,)
    assert reduction.shares[1] == pytest.approx((0.2, 1.1, -0.3))
    assert merge_duplicates(problem, point, 1e-9) is None


def test_odd_activations_merge_antiparallel_neurons():
    problem = cp.TeacherStudent.gaussian(30, 2, activation="tanh")
    theta = torch.tensor([1.0, 0.5, -1.0, -0.5, 0.2, 0.3, 0.7, 0.3, -1.0], dtype=torch.float64)
    reduction = merge_duplicates(problem, theta, 1e-9)
    assert reduction is not None
    assert torch.allclose(problem.predict(reduction.theta), problem.predict(theta), atol=1e-15)
