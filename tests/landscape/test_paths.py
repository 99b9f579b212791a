"""Bands between minima: the saddle of known problems, alignment modulo the group."""

import json

import pytest
import torch

import critpoints as cp
from critpoints.errors import InvalidArgument
from critpoints.landscape.paths import connect, find_band
from critpoints.objectives.zoo import Himmelblau, MuellerBrown, PlantedMorse


@pytest.mark.parametrize(
    "problem", [Himmelblau(), MuellerBrown(), PlantedMorse(5, 1, seed=2)], ids=lambda p: type(p).__name__
)
def test_bands_lead_to_known_saddles(problem) -> None:
    minima = [point.theta for point in problem.critical_points if point.index == 0]
    saddles = torch.stack([point.theta for point in problem.critical_points if point.index == 1])
    found = connect(problem, minima[0], minima[1], method="newton")
    assert found.saddle is not None and found.loss is not None
    assert float((saddles - found.saddle).norm(dim=-1).min()) < 1e-8
    assert found.ways is not None and len(found.ways.branches) == 2
    assert found.band.loss.max() >= found.loss - 1e-3 * (1 + abs(found.loss))
    json.dumps(found.to_dict())


def test_a_band_between_neighbours_connects_them() -> None:
    problem = PlantedMorse(5, 1, seed=2)
    a, b = (point.theta for point in problem.critical_points if point.index == 0)
    found = connect(problem, a, b)
    assert found.connects and found.reason == ""
    assert found.loss == pytest.approx(0.0, abs=1e-12)


def test_the_ends_of_a_students_band_are_aligned_first() -> None:
    problem = cp.TeacherStudent.grid()
    a, b = problem.init(3, [0, 1])
    w, out = problem.split(b)
    turned = torch.cat([w.flip(0).flatten(), out.flip(0)])
    one, other = (find_band(problem, a, end, images=5, max_iterations=3) for end in (b, turned))
    torch.testing.assert_close(one.images, other.images, rtol=0, atol=1e-12)


def test_bad_arguments_are_named() -> None:
    zeros = torch.zeros(2, dtype=torch.float64)
    with pytest.raises(InvalidArgument, match="images must be at least 3"):
        find_band(Himmelblau(), zeros, zeros, images=2)
    with pytest.raises(InvalidArgument, match="points"):
        find_band(Himmelblau(), zeros[None], zeros[None])
