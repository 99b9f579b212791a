"""Affine sections: the section as an objective, the threshold of the wedge model, optimisation inside."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

import critpoints as cp
from critpoints.errors import InvalidArgument
from critpoints.landscape.subspaces import (
    SectionObjective,
    SubspaceStudy,
    cut_plane,
    cut_plane_through,
    optimise_in_subspaces,
    random_basis,
    section_distances,
)
from critpoints.objectives.base import Objective
from critpoints.objectives.wedges import WedgeObjective
from critpoints.objectives.zoo import PlantedMorse, QuadraticForm
from critpoints.testing import check_objective


def network_objective() -> cp.ModuleObjective:
    torch.manual_seed(0)
    x, y = torch.randn(40, 4, dtype=torch.float64), torch.randint(0, 3, (40,))
    model = nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 3)).double()
    return cp.ModuleObjective(model, nn.functional.cross_entropy, (x, y))


def student() -> cp.TeacherStudent:
    return cp.TeacherStudent.gaussian(30, 2, teacher_width=2)


OBJECTIVES = {
    "wedges": (WedgeObjective.random(43, 6, 4, offset=1.0, thickness=0.1, rotated=True), 43),
    "network": (network_objective(), 43),
    "student": (student(), 30),
}
every_objective = pytest.mark.parametrize(("objective", "size"), OBJECTIVES.values(), ids=OBJECTIVES.keys())


@every_objective
def test_a_section_is_a_sound_objective_whose_rows_do_not_depend_on_the_batch(objective: Objective, size: int) -> None:
    origin = torch.from_numpy(np.random.default_rng(1).standard_normal(size))
    section = SectionObjective(objective, origin, random_basis(size, 3, 2))
    report = check_objective(
        section, 0.5 * torch.randn(4, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(4))
    )
    assert report.n_parameters == 3
    z = torch.zeros(2, 3, dtype=torch.float64)
    torch.testing.assert_close(section.loss(z)[0], objective.loss(origin))


def test_the_hessian_of_a_section_is_that_of_the_objective_between_its_basis() -> None:
    form = QuadraticForm([-2.0, 0.5, 1.0, 3.0, 7.0], seed=1)
    basis = random_basis(5, 2, 3) * torch.tensor([1.0, 2.0], dtype=torch.float64)
    section = SectionObjective(form, torch.ones(5, dtype=torch.float64), basis)
    expected = basis.T @ form.hessian(torch.ones(5, dtype=torch.float64)) @ basis
    torch.testing.assert_close(section.hessian(torch.zeros(2, dtype=torch.float64)), expected, rtol=1e-12, atol=1e-12)


@given(st.integers(2, 40), st.integers(0, 1000))
def test_random_bases_are_orthonormal_and_nested(dim: int, seed: int) -> None:
    large = random_basis(dim, dim, seed)
    torch.testing.assert_close(large.T @ large, torch.eye(dim, dtype=torch.float64), rtol=0, atol=1e-12)
    d = dim // 2
    torch.testing.assert_close(random_basis(dim, d, seed), large[:, :d], rtol=0, atol=1e-12)


@given(st.integers(1, 12), st.integers(0, 1000))
def test_a_random_section_meets_a_wedge_from_d_equal_to_s_on_and_not_before(short: int, seed: int) -> None:
    model = WedgeObjective.random(30, short, 4, offset=1.0, rotated=True, seed=seed)
    origin = torch.from_numpy(np.random.default_rng(seed).standard_normal(30))
    for d in range(1, short + 3):
        distances = section_distances(model, origin, random_basis(30, d, seed))
        if d < short:
            assert float(distances.min()) > 1e-6
        else:
            assert float(distances.max()) < 1e-8


def test_the_distance_by_least_squares_is_the_lowest_that_a_minimiser_finds() -> None:
    model = WedgeObjective.random(12, 5, 1, offset=1.0, seed=3)
    origin, basis = torch.ones(12, dtype=torch.float64), random_basis(12, 3, 4)
    section = SectionObjective(model, origin, basis)
    # one wedge and no thickness: a convex quadratic, whose minimum one Newton step finds
    z = torch.zeros(3, dtype=torch.float64)
    z = z - torch.linalg.solve(section.hessian(z), section.gradient(z))
    found = (2 * section.loss(z)).sqrt()
    torch.testing.assert_close(section_distances(model, origin, basis)[0], found, rtol=1e-10, atol=0)


def test_optimisation_inside_sections_fails_below_s_and_succeeds_well_above() -> None:
    model = WedgeObjective.random(60, 6, 4, offset=1.0, disjoint=True)
    origins = torch.from_numpy(np.random.default_rng(0).standard_normal((2, 60)))
    study = optimise_in_subspaces(model, origins, [18, 3, 6], seeds=[0, 1], lr=0.1, steps=300)
    assert study.dims == (3, 6, 18)
    exact = section_distances(model, origins[0], random_basis(60, 3, 0)).min()
    assert float(study.losses[0, 0]) >= 0.5 * float(exact) ** 2 - 1e-9 > 1e-3
    assert float(study.losses[2].max()) < 1e-6
    torch.testing.assert_close(study.start_losses, model.loss(origins))


@every_objective
def test_optimisation_in_the_whole_space_lowers_every_kind_of_objective(objective: Objective, size: int) -> None:
    origins = torch.from_numpy(np.random.default_rng(5).standard_normal((2, size)))
    study = optimise_in_subspaces(objective, origins, [2, size], seeds=[0, 1], lr=0.05, steps=150)
    assert bool((study.losses <= study.start_losses + 1e-12).all())
    assert float((study.losses[1] / study.start_losses).max()) < 0.5


def test_a_section_depends_on_its_seed_alone() -> None:
    problem = PlantedMorse(8, 2, seed=1)
    origins = torch.from_numpy(np.random.default_rng(0).standard_normal((3, 8)))
    together = optimise_in_subspaces(problem, origins, [2, 5], seeds=[0, 1, 2], lr=0.05, steps=30)
    alone = optimise_in_subspaces(problem, origins[1:2], [2, 5], seeds=[1], lr=0.05, steps=30)
    assert torch.equal(together.losses[:, 1], alone.losses[:, 0])


def test_the_threshold_is_the_first_dimension_after_which_half_of_the_sections_succeed() -> None:
    losses = torch.tensor([[1.0, 1.0], [0.0, 1.0], [1.0, 1.0], [0.0, 1.0], [0.0, 0.0]])
    study = SubspaceStudy((1, 2, 3, 4, 5), (0, 1), losses, torch.ones(2))
    assert study.threshold(0.5) == 4
    assert study.threshold(-1.0) is None
    assert study.threshold(2.0) == 1


def test_a_plane_through_three_points_passes_through_them_in_orthonormal_coordinates() -> None:
    problem = PlantedMorse(8, 2, seed=1)
    three = torch.from_numpy(np.random.default_rng(0).standard_normal((3, 8)))
    plane = cut_plane_through(problem, three, points=9)
    distances = torch.cdist(plane.marks, plane.marks)
    torch.testing.assert_close(distances, torch.cdist(three, three), rtol=1e-10, atol=1e-10)
    assert plane.losses.shape == (9, 9)
    basis = torch.linalg.qr((three[1:] - three[0]).T).Q
    at = three[0] + basis @ torch.stack([plane.x[2], plane.y[7]])
    torch.testing.assert_close(plane.losses[7, 2], problem.loss(at))


def test_a_random_plane_has_the_loss_of_its_origin_in_the_middle() -> None:
    problem = PlantedMorse(8, 2, seed=1)
    origin = torch.ones(8, dtype=torch.float64)
    plane = cut_plane(problem, origin, random_basis(8, 2, 0), extent=2.0, points=5)
    torch.testing.assert_close(plane.losses[2, 2], problem.loss(origin))


def test_bad_arguments_are_named() -> None:
    model = WedgeObjective([[0]], 3)
    with pytest.raises(InvalidArgument, match=r"basis must have shape \(3, d\), got \(2, 2\)"):
        SectionObjective(model, torch.zeros(3), torch.zeros(2, 2))
    with pytest.raises(InvalidArgument, match="d must be from 1 to dim = 3, got 4"):
        random_basis(3, 4, 0)
    with pytest.raises(InvalidArgument, match="three must not lie on a line"):
        cut_plane_through(model, torch.tensor([[0.0, 0, 0], [1, 1, 1], [2, 2, 2]]))
    with pytest.raises(InvalidArgument, match=r"origins must be \(1, P\), got \(2, 3\)"):
        optimise_in_subspaces(model, torch.zeros(2, 3), [1], seeds=[0], lr=0.1, steps=1)
