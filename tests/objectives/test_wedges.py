"""The wedge model: closed forms against automatic differentiation and finite differences, distances by brute force."""

import math
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from critpoints.curvature.operator import HessianOperator
from critpoints.errors import InvalidArgument
from critpoints.objectives.wedges import WedgeObjective
from critpoints.testing import check_objective

CASES: dict[str, WedgeObjective] = {
    "one wedge": WedgeObjective.random(6, 2, 1, offset=1.0),
    "thick": WedgeObjective.random(6, 2, 3, offset=1.0, thickness=0.3, seed=1),
    "disjoint and rotated": WedgeObjective.random(9, 3, 3, offset=2.0, thickness=0.1, disjoint=True, rotated=True),
    "overlapping and rotated": WedgeObjective.random(8, 3, 5, offset=0.5, rotated=True, seed=2),
    "one short axis": WedgeObjective.random(4, 1, 2, offset=1.0, thickness=0.2, disjoint=True, seed=3),
    "all axes short: points": WedgeObjective.random(3, 3, 4, offset=1.0, thickness=0.1, seed=4),
}
every_case = pytest.mark.parametrize("model", CASES.values(), ids=CASES.keys())


def points(model: WedgeObjective, count: int = 6, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return 1.5 * torch.randn(count, model.dim or 0, generator=generator, dtype=torch.float64)


def by_hand(model: WedgeObjective, theta: Tensor) -> float:
    """The loss of one point, straight from the formula, in plain Python."""
    rotation = torch.eye(len(theta), dtype=torch.float64) if model.rotation is None else model.rotation
    x = [sum(float(rotation[i, j] * theta[i]) for i in range(len(theta))) for j in range(len(theta))]
    distances = [
        math.sqrt(sum((x[axis] - offset) ** 2 for axis, offset in zip(axes, offsets, strict=True)))
        for axes, offsets in zip(model.axes.tolist(), model.offsets.tolist(), strict=True)
    ]
    return 0.5 * max(0.0, min(distances) - model.thickness) ** 2


@every_case
def test_derivatives_agree_with_automatic_and_finite_differences_and_rows_keep_their_bits(
    model: WedgeObjective,
) -> None:
    report = check_objective(model, points(model, seed=2), batch_rtol=0.0)  # away from kinks
    assert report.skipped == () and report.batch_dependent == ()


@every_case
def test_the_loss_is_that_of_the_formula(model: WedgeObjective) -> None:
    theta = points(model, 20)
    expected = torch.tensor([by_hand(model, row) for row in theta], dtype=torch.float64)
    torch.testing.assert_close(model.loss(theta), expected, rtol=1e-12, atol=1e-14)


@every_case
def test_the_hessian_operator_takes_the_closed_form(model: WedgeObjective) -> None:
    (theta,) = points(model, 1)
    operator = HessianOperator(model, theta)
    assert operator.strategy == "closed form"
    dense = operator.matmat(torch.eye(model.dim or 0, dtype=torch.float64))
    oracle = torch.autograd.functional.hessian(model.loss, theta)
    torch.testing.assert_close(dense, oracle, rtol=1e-11, atol=1e-12)


@every_case
def test_points_on_a_wedge_have_loss_zero_and_no_gradient(model: WedgeObjective) -> None:
    theta = points(model)
    for wedge in range(len(model.axes)):
        on = model.project(theta, wedge)
        assert float(model.loss(on).max()) < 1e-30
        assert float(model.distances(on)[:, wedge].max()) < 1e-14
    nearest = model.project(theta)
    torch.testing.assert_close((nearest - theta).norm(dim=-1), model.distances(theta).amin(-1))


def test_the_hessian_outside_a_thick_wedge_has_the_predicted_eigenvalues() -> None:
    model = WedgeObjective.random(7, 3, 1, offset=1.0, thickness=0.25, rotated=True, seed=5)
    (theta,) = points(model, 1)
    across = 1 - 0.25 / float(model.distances(theta))
    expected = torch.tensor([0.0] * 4 + [across] * 2 + [1.0], dtype=torch.float64)
    torch.testing.assert_close(torch.linalg.eigvalsh(model.hessian(theta)), expected, rtol=1e-12, atol=1e-12)


def test_inside_a_thick_wedge_all_derivatives_vanish() -> None:
    model = WedgeObjective.random(7, 3, 2, offset=1.0, thickness=0.5, rotated=True, seed=6)
    theta = model.project(points(model), 1) + 0.4 * model.short_directions(1)[:, 0]
    loss, gradient = model.loss_and_gradient(theta)
    assert not loss.any() and not gradient.any() and not model.hessian(theta).any()


def test_in_the_middle_of_a_thin_wedge_the_hessian_is_the_identity_on_its_short_directions() -> None:
    model = WedgeObjective.random(7, 3, 2, offset=1.0, rotated=True, seed=7)
    short = model.short_directions(1)
    (hessian,) = model.hessian(model.project(points(model, 1), 1))
    torch.testing.assert_close(hessian, short @ short.mT, rtol=1e-12, atol=1e-12)


@given(st.integers(0, 10_000))
def test_a_rotation_of_parameters_and_model_together_changes_nothing(seed: int) -> None:
    plain = WedgeObjective.random(6, 2, 3, offset=1.0, thickness=0.2, seed=seed)
    turned = WedgeObjective.random(6, 2, 3, offset=1.0, thickness=0.2, rotated=True, seed=seed)
    x = points(plain, seed=seed)
    theta = turned.parameters(x)
    torch.testing.assert_close(turned.loss(theta), plain.loss(x), rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(turned.gradient(theta), turned.parameters(plain.gradient(x)), rtol=1e-10, atol=1e-12)


@given(st.integers(0, 10_000))
def test_moving_in_the_long_directions_of_a_wedge_leaves_its_distance(seed: int) -> None:
    model = WedgeObjective.random(8, 3, 2, offset=1.0, rotated=True, seed=seed)
    theta, step = points(model, 2, seed)
    short = model.short_directions(0)
    moved = theta + 10 * (step - short @ (short.mT @ step))
    torch.testing.assert_close(model.distances(moved)[0], model.distances(theta)[0], rtol=1e-10, atol=1e-12)


def test_a_row_that_is_not_finite_is_marked_and_leaves_its_neighbours() -> None:
    model = WedgeObjective([[0], [1]], 4, offsets=[[1.0], [2.0]], thickness=0.1)
    theta = torch.ones(3, 4, dtype=torch.float64) * 3
    theta[1, 3] = torch.inf  # on an axis that no wedge looks at
    loss, gradient = model.loss_and_gradient(theta)
    assert loss.isnan().tolist() == [False, True, False]
    assert gradient.isnan().any(-1).tolist() == [False, True, False]
    assert model.loss(theta).isnan().tolist() == [False, True, False]


def test_disjoint_wedges_share_no_axis_and_offsets_have_the_length_asked_for() -> None:
    model = WedgeObjective.random(30, 5, 6, offset=2.5, disjoint=True, seed=8)
    assert model.axes.unique().numel() == 30
    torch.testing.assert_close(model.offsets.norm(dim=-1), torch.full((6,), 2.5, dtype=torch.float64))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"axes": [0, 1], "dim": 3}, r"axes must have shape \(W, s\)"),
        ({"axes": [[0, 3]], "dim": 3}, "axes must be from 0 to dim - 1 = 2, got 0 to 3"),
        ({"axes": [[0, 1], [1, 1]], "dim": 3}, "repeated in rows 1"),
        ({"axes": [[0]], "dim": 3, "thickness": -1.0}, "thickness must be a finite number of at least 0, got -1"),
        ({"axes": [[0]], "dim": 3, "offsets": [0.0]}, r"offsets must have the shape of axes, \(1, 1\), got \(1,\)"),
        ({"axes": [[0]], "dim": 2, "rotation": torch.ones(2, 2)}, "rotation must be orthogonal"),
    ],
)
def test_unusable_wedges_are_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidArgument, match=message):
        WedgeObjective(**arguments)


def test_disjoint_wedges_need_room() -> None:
    with pytest.raises(InvalidArgument, match=r"need wedges \* short <= dim, got 3 \* 4 > 10"):
        WedgeObjective.random(10, 4, 3, disjoint=True)
