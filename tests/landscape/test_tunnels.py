"""m-tunnels: the sheet's algebra, tunnels of the wedge model and of other objectives."""

import numpy as np
import pytest
import torch

import critpoints as cp
from critpoints.errors import InvalidArgument
from critpoints.landscape.short_directions import wedges_at
from critpoints.landscape.tunnels import Sheet, edges, fit_tunnel, interior, sheet_losses, spokes, triangle
from critpoints.objectives.wedges import WedgeObjective
from critpoints.objectives.zoo import Himmelblau


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(seed).standard_normal(shape))


@pytest.mark.parametrize("m", [2, 3, 5])
def test_barycentric_coordinates_add_up_to_one_and_lines_end_where_they_should(m: int) -> None:
    b = [spokes(m, 7), edges(m, 7), interior(m, 20, np.random.default_rng(0))]
    for each in b:
        torch.testing.assert_close(each.sum(-1), torch.ones(each.shape[:-1], dtype=torch.float64))
        assert float(each.min()) >= 0
    assert torch.equal(b[0][:, 0], torch.eye(m, dtype=torch.float64))
    torch.testing.assert_close(b[0][:, -1], torch.full((m, m), 1 / m, dtype=torch.float64))
    assert len(b[1]) == m * (m - 1) // 2


def test_the_lattice_of_a_triangle_has_its_corners_and_all_points() -> None:
    b = triangle(5)
    assert len(b) == 15
    assert {tuple(row) for row in b.tolist()} >= {(1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0)}


@pytest.mark.parametrize("m", [2, 3, 4])
def test_a_flat_sheet_is_the_simplex_and_every_sheet_passes_through_its_optima(m: int) -> None:
    optima = normal(m, 6)
    b = interior(m, 10, np.random.default_rng(1))
    torch.testing.assert_close(Sheet.flat(optima).points(b), b @ optima)
    bent = Sheet(optima, normal(m * (m - 1) // 2, 6, seed=2))
    torch.testing.assert_close(bent.points(torch.eye(m, dtype=torch.float64)), optima)


def test_a_sheet_of_two_is_the_quadratic_bezier_curve() -> None:
    a, c, b = normal(3, 4)
    t = torch.linspace(0, 1, 5, dtype=torch.float64)[:, None]
    curve = (1 - t) ** 2 * a + 2 * t * (1 - t) * c + t**2 * b
    torch.testing.assert_close(Sheet(torch.stack([a, b]), c[None]).points(torch.cat([1 - t, t], 1)), curve)


@pytest.mark.parametrize("m", [2, 3, 4])
def test_wedges_are_joined_by_sheets_below_a_quarter_of_the_flat_barrier(m: int) -> None:
    model = WedgeObjective.random(40, 4, 6, offset=1.0, thickness=0.3, disjoint=True)
    optima = torch.stack([model.project(row, w) for w, row in enumerate(2 * normal(m, 40))])
    tunnel = fit_tunnel(model, optima, lr=0.1, steps=250, samples=16)
    assert tunnel.flat_barrier > 0.2
    assert tunnel.worst < 0.25 * tunnel.flat_barrier
    assert float(tunnel.interior_losses.mean()) < 0.05 * tunnel.flat_barrier
    # what the tunnel says is what the model says
    again = model.loss(tunnel.sheet.points(spokes(m)[0]))
    torch.testing.assert_close(tunnel.spoke_losses[0], again)
    assert wedges_at(model, optima[0], 0.0)[0] == 0


def test_a_tunnel_depends_on_its_seed_alone() -> None:
    model = WedgeObjective.random(20, 2, 4, offset=1.0, disjoint=True)
    runs = [fit_tunnel(model, normal(3, 20), lr=0.05, steps=5, seed=seed).sheet.control for seed in (1, 1, 2)]
    assert torch.equal(runs[0], runs[1]) and not torch.equal(runs[0], runs[2])


def test_any_objective_has_tunnels() -> None:
    himmelblau = Himmelblau()
    minima = torch.stack([point.theta for point in himmelblau.critical_points if point.index == 0][:2])
    tunnel = fit_tunnel(himmelblau, minima, lr=0.02, steps=150)
    # in the plane no way is lower than the saddle between the two
    saddle = min(float(himmelblau.loss(p.theta)) for p in himmelblau.critical_points if p.index == 1)
    assert saddle <= tunnel.worst < tunnel.flat_worst
    problem = cp.TeacherStudent.gaussian(20, 2, teacher_width=2)
    students = problem.init(3, range(3))
    assert torch.isfinite(fit_tunnel(problem, students, lr=0.02, steps=3).spoke_losses).all()


def test_losses_over_a_sheet_have_the_shape_of_the_coordinates() -> None:
    sheet = Sheet.flat(normal(3, 8))
    assert sheet_losses(WedgeObjective([[0]], 8), sheet, spokes(3, 70)).shape == (3, 70)


def test_one_optimum_is_no_tunnel() -> None:
    with pytest.raises(InvalidArgument, match=r"optima must be \(m, P\), m >= 2, got \(1, 3\)"):
        fit_tunnel(WedgeObjective([[0]], 3), torch.zeros(1, 3), lr=0.1, steps=1)
