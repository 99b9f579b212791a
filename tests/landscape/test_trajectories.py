import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from critpoints.errors import InvalidArgument, InvalidData
from critpoints.landscape.trajectories import (
    PrincipalComponents,
    coefficient_of_variation,
    convergence_index,
    find_principal_components,
    measure_lengths,
    pairwise_distances,
    random_walk_shares,
    stream_principal_components,
)


def walk(n_points: int, dimension: int, seed: int = 0) -> torch.Tensor:
    steps = np.random.default_rng(seed).standard_normal((n_points, dimension)) * np.linspace(3, 0.1, n_points)[:, None]
    return torch.from_numpy(steps.cumsum(0) + 100)


def assert_equal_to_svd(found: PrincipalComponents, points: torch.Tensor, k: int) -> None:
    """NumPy's singular value decomposition of the centred points, to 1e-6."""
    centred = points.numpy() - points.numpy().mean(0)
    u, s, vt = np.linalg.svd(centred, full_matrices=False)
    variances = s[: len(points) - 1] ** 2 / (len(points) - 1)
    np.testing.assert_allclose(
        found.variances[: len(variances)].numpy(), variances, rtol=1e-6, atol=1e-6 * variances[0]
    )
    np.testing.assert_allclose(
        found.explained[: len(variances)].numpy(), variances.cumsum() / variances.sum(), rtol=1e-6
    )
    signs = np.sign((vt[:k] * found.components.numpy()).sum(1))
    np.testing.assert_allclose(found.components.numpy(), signs[:, None] * vt[:k], atol=1e-6)
    coordinates = u[:, :k] * s[:k] * signs
    np.testing.assert_allclose(found.coordinates.numpy(), coordinates, atol=1e-6 * s[0])
    outside = np.linalg.norm(centred - coordinates @ (signs[:, None] * vt[:k]), axis=1)
    np.testing.assert_allclose(found.residuals.numpy(), outside, atol=1e-6 * s[0])


@pytest.mark.parametrize(("n_points", "dimension", "k"), [(2, 5, 1), (7, 40, 2), (7, 40, 6), (30, 500, 2), (9, 4, 3)])
def test_components_are_those_of_the_singular_value_decomposition(n_points: int, dimension: int, k: int) -> None:
    points = walk(n_points, dimension)
    assert_equal_to_svd(find_principal_components(points, k), points, k)


@pytest.mark.parametrize("block", [1, 4, 5, 100])
def test_streamed_components_are_the_same(block: int) -> None:
    points = walk(13, 60)
    assert_equal_to_svd(
        stream_principal_components(lambda i: points[i].float(), 13, 3, block=block), points.float().double(), 3
    )


def test_streaming_holds_two_blocks_at_a_time() -> None:
    points, reads = walk(12, 10), []

    def read(i: int) -> torch.Tensor:
        reads.append(i)
        return points[i]

    stream_principal_components(read, 12, 2, block=4)
    gram = (4 + 8) + (4 + 4) + 4  # each block, and with it those after it
    assert len(reads) == 12 + gram + 12  # the mean before, the components after


def test_coordinates_are_projections() -> None:
    points = walk(8, 30)
    found = find_principal_components(points, 3)
    torch.testing.assert_close(found.project(points), found.coordinates, atol=1e-9, rtol=1e-9)
    torch.testing.assert_close(found.components @ found.components.T, torch.eye(3).double(), atol=1e-12, rtol=0)
    rebuilt = found.mean + found.coordinates @ found.components
    torch.testing.assert_close((points - rebuilt).norm(dim=1), found.residuals, atol=1e-8, rtol=1e-8)


def test_points_on_a_line_need_one_component_and_give_orthonormal_ones_anyway() -> None:
    points = torch.linspace(0, 1, 6).double()[:, None] * torch.tensor([1.0, 2.0, 2.0, 0.0]).double()
    found = find_principal_components(points, 2)
    np.testing.assert_allclose(found.explained.numpy(), np.ones(5), rtol=1e-12)
    torch.testing.assert_close(found.components @ found.components.T, torch.eye(2).double(), atol=1e-6, rtol=0)
    assert float(found.residuals.max()) < 1e-6


@given(seed=st.integers(0, 1000), scale=st.floats(0.1, 10))
@settings(max_examples=20)
def test_explained_variance_survives_rotations_shifts_and_scales(seed: int, scale: float) -> None:
    points = walk(6, 5, seed)
    q = torch.linalg.qr(torch.from_numpy(np.random.default_rng(seed).standard_normal((5, 5))))[0]
    moved = find_principal_components(scale * points @ q + 7)
    torch.testing.assert_close(moved.explained, find_principal_components(points).explained, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize(
    ("points", "k", "message"),
    [
        (torch.zeros(3, 4), 2, "all the same"),
        (torch.zeros(1, 4), 1, "at least 2"),
        (torch.randn(3, 4), 3, "k must be from 1 to 2"),
        (torch.randn(3, 4), 0, "k must be from 1 to 2"),
        (torch.zeros(4), 1, r"shape \(T, P\)"),
        (torch.tensor([[0.0, 1.0], [torch.nan, 0.0]]), 1, "finite"),
    ],
)
def test_points_without_components_are_refused(points: torch.Tensor, k: int, message: str) -> None:
    with pytest.raises((InvalidArgument, InvalidData), match=message):
        find_principal_components(points, k)


def test_random_walks_explain_what_theory_says() -> None:
    """6 / (pi k)^2 for the k-th component in high dimension (Antognini and Sohl-Dickstein 2018)."""
    shares = random_walk_shares(200, 1_000_000, walks=3)
    expected = np.cumsum(6 / (np.pi * np.arange(1, 11)) ** 2)
    np.testing.assert_allclose(shares[:, :10].mean(0).numpy(), expected, atol=0.01)


def test_random_walks_from_a_wishart_matrix_are_those_of_points() -> None:
    n_points, dimension, walks = 6, 9, 400
    generator = np.random.default_rng(1)
    direct = []
    for _ in range(walks):
        points = np.vstack([np.zeros(dimension), generator.standard_normal((n_points - 1, dimension)).cumsum(0)])
        direct.append(find_principal_components(torch.from_numpy(points)).explained[: n_points - 1])
    drawn = random_walk_shares(n_points, dimension, walks=walks)
    reference = torch.stack(direct)
    error = (reference.std(0) ** 2 / walks + drawn.std(0) ** 2 / walks).sqrt()
    assert bool(((drawn.mean(0) - reference.mean(0)).abs()[:-1] < 4 * error[:-1]).all())
    np.testing.assert_allclose(drawn[:, -1].numpy(), 1.0)


def test_random_walks_are_a_function_of_their_seed() -> None:
    assert torch.equal(random_walk_shares(5, 10, walks=3, seed=1), random_walk_shares(5, 10, walks=3, seed=1))
    with pytest.raises(InvalidArgument, match="dimension must be at least 4"):
        random_walk_shares(5, 3)


def test_lengths_of_a_known_path() -> None:
    square = measure_lengths(torch.tensor([[1.0, 0.0], [1.0, 1.0], [0.0, 1.0], [0.0, 0.0]]))
    assert square.straightness == pytest.approx(1 / 3)
    assert square.moved_after(1) == pytest.approx(2 / 3)
    assert square.moved_after(0) == 1.0
    assert measure_lengths(torch.tensor([[0.0], [1.0], [3.0]])).straightness == 1.0


def test_distances_between_all_pairs() -> None:
    points = torch.tensor([[0.0, 0.0], [3.0, 4.0], [0.0, 4.0]])
    assert pairwise_distances(points).tolist() == [5.0, 4.0, 3.0]
    assert coefficient_of_variation(torch.full((4,), 2.5)) == 0.0
    corners = torch.eye(5)  # a simplex: all pairs equally far apart
    assert coefficient_of_variation(pairwise_distances(corners)) < 1e-12
    far = points.double() + 1e8  # differences first, squares then
    torch.testing.assert_close(pairwise_distances(far), pairwise_distances(points.double()), rtol=1e-6, atol=0)


def test_convergence_has_to_last() -> None:
    assert convergence_index([0.1, 0.1], 0.2) == 0
    assert convergence_index([0.1, 0.3], 0.2) is None
    assert convergence_index([0.5, np.nan, 0.1], 0.2) == 2
