"""The students of the main study, with the tools for networks."""

import numpy as np
import torch

import critpoints as cp
from critpoints.landscape.interpolation import barrier, interpolate
from critpoints.landscape.trajectories import find_principal_components, measure_lengths

PROBLEM = cp.TeacherStudent.grid()


def test_two_global_minima_that_are_permuted_copies_have_a_barrier_until_they_are_aligned() -> None:
    a = PROBLEM.teacher
    w, v = PROBLEM.split(a)
    order = torch.tensor([2, 0, 3, 1])
    b = torch.cat([w[order].reshape(-1), v[order]])
    assert float(PROBLEM.loss(b)) < 1e-25
    line = interpolate(PROBLEM, a, b, 51, curvature=3)
    assert barrier(line.losses.train_loss.numpy()) > 0.01
    assert line.curvature is not None
    assert float(line.curvature.smallest[1]) < 0 < float(line.curvature.largest[1])
    back = torch.argsort(order)
    w, v = PROBLEM.split(b)
    aligned = torch.cat([w[back].reshape(-1), v[back]])
    assert barrier(interpolate(PROBLEM, a, aligned, 51).losses.train_loss.numpy()) < 1e-25


def test_the_path_of_a_student_has_principal_components() -> None:
    trained = cp.train(PROBLEM, PROBLEM.init(width=5, seeds=range(1)), lr=1e-2, steps=200, record=20)
    assert trained.trajectory is not None
    path = trained.trajectory[:, 0]
    found = find_principal_components(path, 2)
    centred = path.numpy() - path.numpy().mean(0)
    shares = np.cumsum(np.linalg.svd(centred, compute_uv=False) ** 2)
    np.testing.assert_allclose(float(found.explained[1]), shares[1] / shares[-1], rtol=1e-9)
    assert 0 < measure_lengths(path).straightness <= 1
