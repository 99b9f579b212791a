"""Tunnel widths: closed forms on the wedge model, any objective, directions that never cross."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor

import critpoints as cp
from critpoints.errors import InvalidArgument
from critpoints.landscape.tunnel_width import measure_tunnel_width
from critpoints.objectives.base import Objective
from critpoints.objectives.wedges import WedgeObjective


class Cone(Objective):
    """The squared angle to the first axis, in radians."""

    dim = 5

    def loss(self, theta: Tensor) -> Tensor:
        return torch.arccos((theta[..., 0] / theta.norm(dim=-1)).clamp(-1, 1)) ** 2


def test_a_cone_has_its_own_angle_in_every_direction_and_at_every_radius() -> None:
    theta = torch.tensor([[1.0, 0, 0, 0, 0], [7.0, 0, 0, 0, 0]], dtype=torch.float64)
    found = measure_tunnel_width(Cone(), theta, math.radians(33.3) ** 2, directions=5)
    torch.testing.assert_close(found.angles, torch.full((2, 5), 33.3, dtype=torch.float64), rtol=0, atol=0.03)
    assert found.radius.tolist() == [1.0, 7.0]


def test_the_angle_of_a_wedge_through_the_origin_is_that_of_its_thickness() -> None:
    """At a point x of the wedge's middle the short coordinates of a rotated point are sin(a) |x| q_S."""
    model = WedgeObjective.random(12, 3, 1, thickness=0.3)
    theta = model.project(torch.from_numpy(np.random.default_rng(1).standard_normal((1, 12))))
    found = measure_tunnel_width(model, theta, 0.08, directions=6, seed=3)
    random = torch.from_numpy(np.random.default_rng([3, 12]).standard_normal((6, 12)))
    unit = theta / theta.norm()
    q = random - (random @ unit.T) * unit
    q = q / q.norm(dim=1, keepdim=True)
    reach = 0.3 + math.sqrt(2 * 0.08)
    expected = torch.rad2deg(torch.asin(reach / (theta.norm() * q[:, model.axes[0]].norm(dim=1))))
    torch.testing.assert_close(found.angles[0], expected, rtol=0, atol=0.03)


def test_a_direction_without_a_crossing_is_marked() -> None:
    theta = torch.tensor([[1.0, 0, 0, 0, 0]], dtype=torch.float64)
    assert measure_tunnel_width(Cone(), theta, 100.0, directions=2).angles.isnan().all()
    above = measure_tunnel_width(Cone(), torch.ones(1, 5, dtype=torch.float64), 0.1, directions=2)
    assert above.angles.isnan().all() and above.to_dict()["angles"] == [[None, None]]


def test_the_student_problem_has_tunnels_too() -> None:
    problem = cp.TeacherStudent.gaussian(20, 2, teacher_width=2)
    found = measure_tunnel_width(problem, problem.teacher[None], 0.01, directions=4)
    assert found.angles.isfinite().all() and float(found.losses) < 1e-30


def test_points_must_be_rows() -> None:
    with pytest.raises(InvalidArgument, match=r"theta must be \(S, P\), got \(5,\)"):
        measure_tunnel_width(Cone(), torch.ones(5), 0.1)
