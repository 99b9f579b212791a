"""The trust-region subproblem against brute force, eigensystems against LAPACK, row independence."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import minimize_scalar

from critpoints.curvature.dense import (
    eigensystem,
    eigensystem_on_device,
    eigenvalue_noise,
    newton_steps,
    row_norm,
    trust_region_steps,
)


def symmetric(eigenvalues, seed):
    rng = np.random.default_rng(seed)
    q, _ = np.linalg.qr(rng.standard_normal((len(eigenvalues), len(eigenvalues))))
    matrix = q @ np.diag(eigenvalues) @ q.T
    return torch.from_numpy(0.5 * (matrix + matrix.T)), torch.from_numpy(q)


def steps(matrix, gradient, radius):
    system = eigensystem(matrix[None])
    return trust_region_steps(gradient[None], system, torch.tensor([radius], dtype=torch.float64))


def model(matrix, gradient, step):
    return float(gradient @ step + 0.5 * step @ matrix @ step)


def least_on_circle(matrix, gradient, radius):
    """The model's minimum over a disc in the plane, by a fine scan of the circle and the interior point."""

    def on_circle(angle):
        return model(matrix, gradient, radius * torch.tensor([np.cos(angle), np.sin(angle)]))

    angles = np.linspace(0, 2 * np.pi, 721)
    best = min(angles, key=on_circle)
    value = minimize_scalar(
        on_circle, bounds=(best - 0.01, best + 0.01), method="bounded", options={"xatol": 1e-12}
    ).fun
    inside = torch.linalg.lstsq(matrix, -gradient.unsqueeze(-1)).solution.squeeze(-1)
    if float(inside.norm()) <= radius and float(torch.linalg.eigvalsh(matrix)[0]) > 0:
        value = min(value, model(matrix, gradient, inside))
    return value


@given(
    st.tuples(st.floats(-2, 2), st.floats(-2, 2)),
    st.tuples(st.floats(-1, 1), st.floats(-1, 1)),
    st.floats(0.05, 3),
    st.integers(0, 10),
)
def test_the_step_is_the_global_minimiser_of_the_model_in_the_disc(eigenvalues, gradient, radius, seed):
    matrix, _ = symmetric(eigenvalues, seed)
    gradient = torch.tensor(gradient, dtype=torch.float64)
    found = steps(matrix, gradient, radius)
    value = model(matrix, gradient, found.step[0])
    assert float(found.step[0].norm()) <= radius * (1 + 1e-9)
    assert value <= least_on_circle(matrix, gradient, radius) + 1e-8
    assert float(found.predicted_reduction[0]) == pytest.approx(-value, abs=1e-12)


def test_the_hard_case_leaves_along_the_lowest_eigenvector():
    matrix, q = symmetric([-1.0, 2.0, 3.0], 3)
    gradient = 0.1 * q[:, 1]  # no component along the lowest eigenvector
    found = steps(matrix, gradient, 1.0)
    # by hand: mu = 1, p = -0.1/3 along the second vector, the rest of the radius along the first
    expected = model(matrix, gradient, -0.1 / 3 * q[:, 1] + np.sqrt(1 - (0.1 / 3) ** 2) * q[:, 0])
    assert model(matrix, gradient, found.step[0]) == pytest.approx(expected, abs=1e-12)
    assert bool(found.on_boundary[0])


def test_newton_steps_leave_out_eigenvalues_within_the_cutoff():
    matrix, q = symmetric([1e-18, 0.5, -2.0], 1)
    gradient = q @ torch.tensor([1.0, 1.0, 1.0], dtype=torch.float64)
    step = newton_steps(gradient[None], eigensystem(matrix[None]), torch.tensor([1e-12], dtype=torch.float64))[0]
    assert torch.allclose(q.T @ step, torch.tensor([0.0, -2.0, 0.5], dtype=torch.float64), atol=1e-12)


def test_a_non_finite_matrix_leaves_its_neighbours_alone():
    matrices = torch.stack([symmetric([1.0, 2.0], s)[0] for s in range(3)])
    alone = eigensystem(matrices[2:]).values
    matrices[1, 0, 0] = torch.nan
    values = eigensystem(matrices).values
    assert bool(torch.isnan(values[1]).all())
    assert torch.equal(values[2:], alone)


def test_rows_do_not_depend_on_their_batch():
    generator = torch.Generator().manual_seed(0)
    rows = torch.randn(200, 17, generator=generator, dtype=torch.float64)
    assert torch.equal(row_norm(rows)[7:8], row_norm(rows[7:8]))
    matrices = rows[:, :, None] * rows[:, None, :]
    whole, alone = eigensystem(matrices), eigensystem(matrices[7:8])
    assert torch.equal(whole.values[7], alone.values[0])
    assert torch.equal(whole.vectors[7], alone.vectors[0])


def test_the_noise_floor_bounds_the_error_of_planted_eigenvalues():
    planted = np.concatenate([[0.0, 0.0, -1e-3], np.logspace(-8, 1, 12)])
    for seed in range(20):
        values = eigensystem(symmetric(planted, seed)[0][None]).values
        error = np.abs(values[0].numpy() - np.sort(planted)).max()
        assert error <= float(eigenvalue_noise(values)[0])


def test_the_solver_for_other_devices_agrees_and_keeps_rows_apart():
    """Run on the CPU here: a batch of one, and a bad matrix among good ones, as on a GPU."""
    matrices = torch.stack([symmetric(np.linspace(-1, 2, 6) * scale, scale)[0] for scale in (1, 2, 3)])
    expected = eigensystem(matrices)
    bad = torch.cat([matrices, torch.full_like(matrices[:1], torch.nan), matrices[:1] * torch.inf])
    system = eigensystem_on_device(bad)
    assert torch.isnan(system.values[3:]).all() and torch.isnan(system.vectors[3:]).all()
    assert float((system.values[:3] - expected.values).abs().max()) <= 1e-13
    residual = matrices @ system.vectors[:3] - system.vectors[:3] * system.values[:3].unsqueeze(-2)
    assert float(residual.abs().max()) <= 1e-13
    for row in range(3):
        alone = eigensystem_on_device(matrices[row : row + 1])
        assert torch.equal(alone.values[0], system.values[row])
        assert torch.equal(alone.vectors[0], system.vectors[row])
