import numpy as np
import pytest
import torch
from plane_cases import network, objective

import critpoints as cp
from critpoints.errors import InvalidArgument
from critpoints.landscape.directions import (
    directions_through,
    filter_normalised,
    hessian_directions,
    random_directions,
)


@pytest.mark.parametrize("name", ["mlp", "cnn-bn"])
def test_filters_are_scaled_as_li_et_al_define(name: str) -> None:
    """d_ij <- d_ij / |d_ij| |theta_ij| by loops over layers and filters; parameters with one axis stay fixed."""
    problem = objective(name)
    theta = problem.parameters_vector()
    drawn = random_directions(theta, 2, seed=3)
    found = filter_normalised(problem, theta, drawn)
    for row, direction in zip(found, drawn, strict=True):
        position = 0
        for parameter in network(name).parameters():
            block = slice(position, position + parameter.numel())
            position += parameter.numel()
            if parameter.ndim == 1:
                assert not row[block].any()
                continue
            expected = np.empty(parameter.shape)
            raw = direction[block].reshape(parameter.shape).numpy()
            for j, weights in enumerate(parameter.detach().numpy()):
                expected[j] = raw[j] / np.sqrt((raw[j] ** 2).sum()) * np.sqrt((weights**2).sum())
            np.testing.assert_allclose(row[block].numpy(), expected.ravel(), rtol=1e-12)
        assert position == problem.dim


def test_a_neuron_is_a_filter_of_a_student() -> None:
    problem = cp.TeacherStudent.grid()
    theta = problem.init(3, [0])[0]
    (found,) = filter_normalised(problem, theta, random_directions(theta, 1, seed=0))
    for part in (slice(0, 2), slice(2, 4), slice(4, 6), slice(6, 9)):
        assert float(found[part].norm()) == pytest.approx(float(theta[part].norm()), rel=1e-12)


def test_filters_of_norm_zero_stay_zero() -> None:
    problem = cp.TeacherStudent.grid()
    theta, direction = problem.init(2, [0]), torch.ones(1, 6, dtype=torch.float64)
    theta[0, :2], direction[0, 2:4] = 0.0, 0.0
    found = filter_normalised(problem, theta[0], direction)
    assert torch.isfinite(found).all() and not found[0, :4].any() and found[0, 4:].all()


def test_random_directions_depend_on_their_seed_alone() -> None:
    theta = torch.zeros(50, dtype=torch.float64)
    first = random_directions(theta, 3, seed=1)
    torch.testing.assert_close(first.norm(dim=1), torch.ones(3, dtype=torch.float64))
    assert torch.equal(first, random_directions(theta + 1, 3, seed=1))
    assert not torch.equal(first, random_directions(theta, 3, seed=2))


def test_eigenvectors_are_those_of_the_dense_hessian() -> None:
    problem = cp.TeacherStudent.grid()
    theta = problem.init(2, [4])[0]
    directions, pairs = hessian_directions(problem, theta, 2, "BE")
    values, vectors = np.linalg.eigh(torch.func.hessian(problem.loss)(theta).numpy())
    np.testing.assert_allclose(pairs.values.numpy(), values[[0, -1]], rtol=1e-9)
    overlap = np.abs(directions.numpy() @ vectors[:, [0, -1]])
    np.testing.assert_allclose(overlap, np.eye(2), atol=1e-9)
    assert all(row[row.abs().argmax()] > 0 for row in directions)


def test_directions_through_points_span_their_differences() -> None:
    points = torch.randn(3, 20, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    basis = directions_through(points)
    torch.testing.assert_close(basis @ basis.T, torch.eye(2, dtype=torch.float64))
    away = points - points[0]
    torch.testing.assert_close(away @ basis.T @ basis, away)
    assert float(basis[0] @ away[1]) == pytest.approx(float(away[1].norm()))
    with pytest.raises(InvalidArgument, match="must not lie on one line"):
        directions_through(torch.stack([points[0], points[1], 2 * points[1] - points[0]]))
