import copy
import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from plane_cases import copied_state, data, network, objective
from torch.nn import functional as F

import critpoints as cp
from critpoints.errors import InvalidArgument, InvalidData
from critpoints.landscape.curves import KINDS, Curve, connect


class Ring(cp.Objective):
    """Zero on the unit circle, one in its middle: the straight line between opposite points crosses a hill."""

    dim = 2

    def loss(self, theta: torch.Tensor) -> torch.Tensor:
        return (theta.square().sum(-1) - 1).square()


A, B = torch.tensor([-1.0, 0.0]).double(), torch.tensor([1.0, 0.1]).double()


def de_casteljau(controls: np.ndarray, t: float) -> np.ndarray:
    while len(controls) > 1:
        controls = (1 - t) * controls[:-1] + t * controls[1:]
    return controls[0]


@given(st.integers(0, 2**16), st.integers(1, 5))
def test_curves_are_what_textbooks_say(seed: int, degree: int) -> None:
    controls = np.random.default_rng(seed).standard_normal((degree + 1, 3))
    t = np.random.default_rng(seed + 1).random(4)
    bezier, polygon = (Curve(kind, torch.from_numpy(controls)).at(torch.from_numpy(t)).numpy() for kind in KINDS)
    knots = np.linspace(0, 1, degree + 1)
    np.testing.assert_allclose(bezier, [de_casteljau(controls, each) for each in t], atol=1e-12)
    np.testing.assert_allclose(polygon, np.stack([np.interp(t, knots, c) for c in controls.T], -1), atol=1e-12)


@pytest.mark.parametrize("kind", KINDS)
def test_the_ends_are_met_exactly_and_a_straight_curve_has_its_chords_length(kind: str) -> None:
    found = connect(Ring(), A, B, kind=kind, bends=3, steps=0)
    ends = found.curve.at(torch.tensor([0.0, 1.0]))
    assert torch.equal(ends, torch.stack([A, B]))
    assert found.length == pytest.approx(found.chord, rel=1e-12) == pytest.approx(math.hypot(2, 0.1))
    straight = Ring().loss(torch.lerp(A, B, found.t.unsqueeze(-1)))
    torch.testing.assert_close(found.losses.train_loss, straight)


@pytest.mark.parametrize("kind", KINDS)
def test_training_goes_around_a_hill(kind: str) -> None:
    found = connect(Ring(), A, B, kind=kind, bends=3, steps=400, lr=0.05, samples=8)
    before = connect(Ring(), A, B, kind=kind, bends=3, steps=0)
    assert float(before.losses.train_loss.max()) > 0.9
    assert float(found.losses.train_loss.max()) < 0.05
    assert float(found.training_losses[-50:].mean()) < 0.1 * float(found.training_losses[:5].mean())
    assert torch.equal(found.curve.controls[[0, -1]], torch.stack([A, B]))


@pytest.mark.parametrize("kind", KINDS)
def test_the_first_step_follows_the_gradient_of_the_mean_loss(kind: str) -> None:
    """Adam's first step has the size lr against the sign of the gradient, here by autograd through the curve."""
    problem = cp.TeacherStudent.gaussian(10, 2, seed=0)
    a, b = problem.init(3, [0, 1])
    found = connect(problem, a, b, kind=kind, bends=2, steps=1, lr=1e-3, samples=4, seed=7)
    start = connect(problem, a, b, kind=kind, bends=2, steps=0).curve
    t = (torch.arange(4) + torch.rand(4, dtype=torch.float64, generator=torch.Generator().manual_seed(7))) / 4
    controls = start.controls.clone().requires_grad_()
    problem.loss(Curve(kind, controls).at(t)).mean().backward()
    assert controls.grad is not None
    moved = found.curve.controls - start.controls
    expected = -controls.grad[1:-1].sign() * moved[1:-1].abs().max()
    big = controls.grad[1:-1].abs() > 1e-5  # beside Adam's eps of 1e-8
    assert big.sum() > 10
    torch.testing.assert_close(moved[1:-1][big], expected[big], rtol=1e-2, atol=0)


def test_a_curve_depends_on_its_seed_alone() -> None:
    problem, ends = objective("mlp"), [network("mlp", seed).state_dict() for seed in (1, 2)]
    options = {"steps": 5, "batch_size": 8, "points": 3}
    first = connect(problem, *ends, seed=1, **options)
    torch.rand(3)
    assert torch.equal(connect(problem, *ends, seed=1, **options).curve.controls, first.curve.controls)
    assert not torch.equal(connect(problem, *ends, seed=2, **options).curve.controls, first.curve.controls)


def test_minibatches_of_all_samples_are_the_whole_data() -> None:
    problem, ends = objective("mlp"), [network("mlp", seed).state_dict() for seed in (1, 2)]
    x, y = data()
    loader = cp.ModuleObjective(network("mlp"), F.cross_entropy, [(x, y)])
    whole = connect(problem, *ends, steps=6, points=3).training_losses
    torch.testing.assert_close(connect(problem, *ends, steps=6, batch_size=len(y), points=3).training_losses, whole)
    torch.testing.assert_close(connect(loader, *ends, steps=6, points=3).training_losses, whole)


def test_batch_norm_trains_on_statistics_of_batches_and_the_model_stays_as_it_is() -> None:
    problem = objective("cnn-bn")
    ends = [copied_state(network("cnn-bn", seed)) for seed in (1, 2)]
    before, modes = copied_state(problem.model), [each.training for each in problem.model.modules()]
    found = connect(problem, *ends, steps=4, points=3, batch_norm="recalibrate", test=data(1), samples=1, seed=3)
    assert all(torch.equal(before[name], each) for name, each in problem.model.state_dict().items())
    assert modes == [each.training for each in problem.model.modules()]
    model, t = copy.deepcopy(problem.model).train(), torch.rand(1, dtype=torch.float64, generator=rng(3))
    straight = torch.lerp(*(flat(problem, end) for end in ends), float(t))
    model.load_state_dict(problem.unflatten(straight), strict=False)
    with torch.no_grad():
        expected = float(F.cross_entropy(model(data()[0]), data()[1]))
    assert float(found.training_losses[0]) == pytest.approx(expected, rel=1e-10)
    assert found.batch_norm == "recalibrate" and bool(torch.isfinite(found.losses.test_error).all())


def rng(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def flat(problem: cp.ModuleObjective, state: dict) -> torch.Tensor:
    return torch.cat([state[name].flatten() for name in problem.parameter_names])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"kind": "spline"}, "kind must be one of bezier, polygon"),
        ({"bends": 0}, "bends must be at least 1"),
        ({"samples": 0}, "samples must be at least 1"),
        ({"steps": -1}, "steps must not be negative"),
        ({"lr": math.nan}, "lr must be a positive number"),
        ({"points": 1}, "points must be at least 2"),
        ({"batch_size": 4}, "only a module's data can be taken apart"),
        ({"batch_norm": "interpolate"}, "a curve has no statistics"),
        ({"b": A}, "must be different points"),
        ({"b": torch.zeros(3).double()}, "b must have shape"),
    ],
    ids=str,
)
def test_what_does_not_fit_is_named(change: dict, message: str) -> None:
    arguments = {"a": A, "b": B} | change
    with pytest.raises(InvalidArgument, match=message):
        connect(Ring(), **arguments)


def test_ends_of_another_architecture_and_losses_that_explode_are_refused() -> None:
    with pytest.raises(InvalidArgument, match="a belongs to another architecture"):
        connect(objective("mlp"), network("cnn").state_dict(), network("mlp").state_dict())
    students = cp.TeacherStudent.gaussian(10, 2, seed=0)
    with pytest.raises(InvalidArgument, match="b must have 9 parameters"):
        connect(students, students.init(3, [0])[0], students.init(4, [0])[0])

    class Cliff(Ring):
        def loss(self, theta: torch.Tensor) -> torch.Tensor:
            return theta[..., 0].log()

    with pytest.raises(InvalidData, match="lower lr"):
        connect(Cliff(), A, B, steps=3)
