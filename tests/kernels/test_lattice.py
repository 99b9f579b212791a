"""Lattice data: the runs are found, and products of exponentials give the reference's losses and gradients."""

import numpy as np
import pytest
import torch

from critpoints import TwoLayerObjective
from critpoints.kernels import cpu, reference
from critpoints.kernels.lattice import find_runs
from critpoints.kernels.samples import BLOCK


def lattice(n, m, *, seed=0, spacing=0.25):
    """An n x m grid around zero, with labels that have no symmetry."""
    axes = [spacing * (torch.arange(k, dtype=torch.float64) - k // 2) for k in (n, m)]
    x = torch.cartesian_prod(*axes)
    return x, torch.from_numpy(np.random.default_rng(seed).standard_normal(len(x)))


def agrees_with_the_reference(problem, theta):
    loss, gradient = cpu.loss_and_gradient(problem.samples, theta)
    expected = reference.derivatives(problem.samples, theta)
    assert torch.allclose(loss, expected.loss, rtol=1e-13, atol=0)
    assert bool(((gradient - expected.gradient).abs() <= 1e-12 * expected.absolute).all())


@pytest.mark.parametrize("shape", [(41, 41), (9, 60), (33, 12), (100, 8), (3, 432)])
def test_runs_cover_the_samples_in_order_and_name_their_coordinates(shape):
    x, _ = lattice(*shape)
    found = find_runs(x.numpy(), BLOCK)
    assert found is not None
    levels, runs = found.levels, found.runs
    rebuilt = [(levels[0][level], levels[1][low + i]) for _, length, level, low in runs.tolist() for i in range(length)]
    assert np.array_equal(np.array(rebuilt), x.numpy())
    ends = runs[:, 0] + runs[:, 1]
    assert np.array_equal(runs[1:, 0], ends[:-1])
    assert np.array_equal(runs[:, 0] // BLOCK, (ends - 1) // BLOCK)


@pytest.mark.parametrize(
    "x",
    [np.random.default_rng(0).standard_normal((50, 2)), np.zeros((4, 3)), np.stack([np.arange(60.0)] * 2, axis=1),
     lattice(40, 5)[0].numpy()],
    ids=["scattered", "three inputs", "a diagonal", "short runs"],
)  # fmt: skip
def test_other_data_are_no_lattice(x):
    assert find_runs(x, BLOCK) is None


@pytest.mark.parametrize("mirror", [True, False])
@pytest.mark.parametrize("shape", [(41, 41), (9, 60), (33, 12), (13, 40)])
@pytest.mark.parametrize("scale", [1e-7, 1e-2, 1.0, 30.0, 1e3])
def test_losses_and_gradients_are_the_references_at_every_size_of_weights(shape, mirror, scale):
    x, y = lattice(*shape)
    if mirror:
        y = y - y.flip(0)  # y(-x) = -y(x)
        x = x - x.mean(0)
    problem = TwoLayerObjective(x, y, "sigmoid", mirror=mirror)
    assert problem.samples.halved == mirror
    assert len(problem.samples.runs) > 0
    theta = scale * torch.randn(5, 12, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    agrees_with_the_reference(problem, theta)


def test_a_neuron_out_of_range_leaves_the_others_on_the_lattice():
    x, y = lattice(41, 41)
    problem = TwoLayerObjective(x, y, "sigmoid", output_bias=True, sample_weight=torch.rand(len(x)).double())
    theta = torch.tensor([[900.0, -700.0, 0.3, 0.1, -1.0, 0.5, 1.0, -2.0, 0.5, 0.2]], dtype=torch.float64)
    agrees_with_the_reference(problem, theta)


def test_a_subset_of_a_grid_in_long_runs_is_one_too():
    x, y = lattice(41, 41)
    keep = (x[:, 0] ** 2 + x[:, 1] ** 2) <= 16  # a disc: runs of different lengths that begin anywhere
    problem = TwoLayerObjective(x[keep], y[keep], "sigmoid")
    assert len(problem.samples.runs) > 0
    theta = torch.randn(4, 9, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    agrees_with_the_reference(problem, theta)


def test_non_finite_weights_stay_non_finite():
    x, y = lattice(41, 41)
    problem = TwoLayerObjective(x, y, "sigmoid")
    for bad in (float("nan"), float("inf")):
        theta = torch.tensor([[bad, 0.1, 1.0], [0.2, 0.1, 1.0]], dtype=torch.float64)
        loss, _ = cpu.loss_and_gradient(problem.samples, theta)
        assert not bool(torch.isfinite(loss[0]))
        assert torch.equal(loss[1:], cpu.loss_and_gradient(problem.samples, theta[1:])[0])
