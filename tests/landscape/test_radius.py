"""Curvature along rays: known spectra, estimates against dense ones."""

import numpy as np
import pytest
import torch

from critpoints.errors import InvalidArgument
from critpoints.landscape.radius import sweep_radius
from critpoints.objectives.wedges import WedgeObjective
from critpoints.objectives.zoo import QuadraticForm


def test_a_quadratic_form_has_the_same_curvature_at_every_radius() -> None:
    form = QuadraticForm([-1.0, 2.0, 4.0], seed=1)
    found = sweep_radius(form, torch.ones(2, 3, dtype=torch.float64), [0.5, 3.0])
    assert found.traces.numpy() == pytest.approx(np.full((2, 2), 5.0))
    assert found.positivity.numpy() == pytest.approx(np.full((2, 2), 5.0 / 21**0.5))
    assert found.largest.numpy() == pytest.approx(np.full((2, 2), 4.0))
    assert found.smallest.numpy() == pytest.approx(np.full((2, 2), -1.0))


def test_a_wedge_through_the_origin_is_flat_within_its_thickness_and_rounder_further_out() -> None:
    model = WedgeObjective.random(10, 4, 1, thickness=1.0)
    theta = torch.ones(1, 10, dtype=torch.float64)
    radii = [0.5, 3.0, 10.0, 100.0]
    found = sweep_radius(model, theta, radii)
    distance = [radius * (4 / 10) ** 0.5 for radius in radii]
    expected = [0.0 if t < 1 else 1 + 3 * (1 - 1 / t) for t in distance]
    assert found.traces[:, 0].tolist() == pytest.approx(expected)
    assert float(found.positivity[0]) == 0.0
    assert found.losses[:, 0].tolist() == pytest.approx([0.5 * max(0.0, t - 1) ** 2 for t in distance])


def test_estimates_from_products_agree_with_dense_spectra() -> None:
    rng = np.random.default_rng(0)
    values = np.sort(rng.uniform(0.5, 2.0, 90))
    form = QuadraticForm(values.tolist(), seed=3)
    found = sweep_radius(form, torch.ones(1, 90, dtype=torch.float64), [2.0], products=60)
    assert float(found.traces) == pytest.approx(values.sum(), rel=0.05)
    assert float(found.frobenius_norms) == pytest.approx(np.linalg.norm(values), rel=0.1)
    assert float(found.largest) == pytest.approx(values[-1], rel=0.02)
    assert float(found.smallest) == pytest.approx(values[0], rel=0.05)


def test_a_ray_needs_a_direction_and_a_radius() -> None:
    form = QuadraticForm([1.0, 2.0])
    with pytest.raises(InvalidArgument, match="theta must not be zero"):
        sweep_radius(form, torch.zeros(1, 2), [1.0])
    with pytest.raises(InvalidArgument, match=r"radii must be positive, got \[0\.0\]"):
        sweep_radius(form, torch.ones(1, 2), [0.0])
