import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from plane_cases import copied_state, data, naive_loss, network, objective
from torch import nn
from torch.nn import functional as F

import critpoints as cp
from critpoints.errors import InvalidArgument, SpecMismatch
from critpoints.landscape import grids
from critpoints.landscape.directions import filter_normalised, random_directions
from critpoints.landscape.grids import GridLosses
from critpoints.landscape.module_losses import Flat
from critpoints.landscape.sections import Section, evaluate_section, section_around, section_covering

WAYS = ("loop", "linear", "vmap-4", "vmap-16")
BATCHES = {"one batch": {}, "micro-batches": {"micro_batch": 7}}


def plane(problem: cp.ModuleObjective, points: int = 5) -> Section:
    theta = problem.parameters_vector()
    return section_around(theta, filter_normalised(problem, theta, random_directions(theta, seed=1)), points=points)


@pytest.mark.parametrize("batches", BATCHES)
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", ["mlp", "cnn", "cnn-bn"])
def test_every_way_gives_the_losses_of_a_plain_loop(name: str, way: str, batches: str) -> None:
    problem, held_out = objective(name, **BATCHES[batches]), data(7)
    section = plane(problem)
    policy = "freeze" if name == "cnn-bn" else None
    found = evaluate_section(problem, section, test=held_out, batch_norm=policy, way=way)
    assert found.way == way and found.train_loss.shape == (5, 5)
    for i, a in enumerate(section.axes[0].tolist()):
        for j, b in enumerate(section.axes[1].tolist()):
            theta = section.origin + a * section.directions[0] + b * section.directions[1]
            assert float(found.train_loss[i, j]) == pytest.approx(naive_loss(problem, theta, data()), rel=1e-12)
            assert float(found.test_loss[i, j]) == pytest.approx(naive_loss(problem, theta, held_out), rel=1e-12)


@pytest.mark.parametrize("policy", ["recalibrate", "batch"])
def test_statistics_of_batch_norm_are_those_of_each_point(policy: str) -> None:
    """With all data in one batch both policies are BatchNorm in train mode; recalibration differs by n / (n - 1)."""
    problem = objective("cnn-bn")
    section = plane(problem, 3)
    found = evaluate_section(problem, section, batch_norm=policy).train_loss
    model = network("cnn-bn").train()
    (x, y), norms = data(), [each for each in model.modules() if isinstance(each, nn.BatchNorm2d)]
    for k, c in enumerate(section.coefficients.tolist()):
        theta = section.origin + c[0] * section.directions[0] + c[1] * section.directions[1]
        model.load_state_dict(problem.unflatten(theta), strict=False)
        model.train()
        for layer in norms:
            layer.momentum = 1.0
        with torch.no_grad():
            outputs = model(x)
            outputs = model.eval()(x) if policy == "recalibrate" else outputs
        assert float(found.flatten()[k]) == pytest.approx(float(F.cross_entropy(outputs, y)), rel=1e-12)


@pytest.mark.parametrize("way", WAYS)
def test_the_users_model_stays_as_it_is(way: str) -> None:
    problem = objective("cnn-bn")
    before, modes = copied_state(problem.model), [each.training for each in problem.model.modules()]
    gradients = [each.requires_grad for each in problem.model.parameters()]
    evaluate_section(problem, plane(problem), batch_norm="freeze", way=way, test=data(3))
    assert all(torch.equal(before[name], each) for name, each in problem.model.state_dict().items())
    assert modes == [each.training for each in problem.model.modules()]
    assert gradients == [each.requires_grad for each in problem.model.parameters()]
    assert all(each.grad is None for each in problem.model.parameters())


class Detached(nn.Module):
    """The input of the second layer depends on the first one, which autograd is not told."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(36, 5), nn.Linear(5, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.second(self.first(x.flatten(1)).detach().tanh())


def test_a_way_that_computes_something_else_is_not_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    problem = cp.ModuleObjective(Detached().double(), F.cross_entropy, data())
    section = plane(problem, 17)
    grid = GridLosses(problem, Flat(section.origin, section.directions))
    tried: dict[str, float] = {}
    measured = GridLosses._measured

    def spy(self, points, way, truth, least) -> float:
        tried[way] = measured(self, points, way, truth, least)
        return tried[way]

    monkeypatch.setattr(GridLosses, "_measured", spy)
    monkeypatch.setattr(grids, "BUDGET", 1e9)
    grid.fastest(section.coefficients)
    assert tried["linear"] == np.inf and np.isfinite(tried["vmap-4"])


def test_the_fastest_way_is_the_one_with_the_least_time(monkeypatch: pytest.MonkeyPatch) -> None:
    problem = objective("mlp")
    section = plane(problem, 17)
    grid = GridLosses(problem, Flat(section.origin, section.directions))
    times = {"loop": 1.0, "linear": 0.97, "vmap-4": 0.9, "vmap-16": 0.5, "vmap-64": 0.8, "vmap-256": 0.9}
    monkeypatch.setattr(GridLosses, "_seconds", lambda self, points, way: times[way])
    monkeypatch.setattr(grids, "SLOWER", 1e9)  # real times play no part here
    monkeypatch.setattr(grids, "BUDGET", 1e9)
    assert grid.fastest(section.coefficients) == "vmap-16"
    times |= dict.fromkeys(("vmap-4", "vmap-16", "vmap-64", "vmap-256"), 2.0)
    assert grid.fastest(section.coefficients) == "loop"  # an advantage of 3 % may be chance
    assert grid.fastest(section.coefficients[: grids.FEW - 1]) == "loop"
    times |= {"linear": 0.1, "vmap-4": 0.01}
    assert grid.fastest(section.coefficients) == "vmap-4"
    monkeypatch.setattr(grids, "BUDGET", 0.0)  # spent by the plain way already
    assert grid.fastest(section.coefficients) == "loop"


def test_frozen_and_shared_parameters_are_looked_after() -> None:
    model = network("mlp")
    model[1].bias.requires_grad_(False)
    problem = cp.ModuleObjective(model, F.cross_entropy, data())
    section = plane(problem)
    losses = [evaluate_section(problem, section, way=way).train_loss for way in WAYS]
    for each in losses[1:]:
        torch.testing.assert_close(each, losses[0], rtol=1e-12, atol=0)
    theta = section.origin + section.axes[0][0] * section.directions[0] + section.axes[1][4] * section.directions[1]
    assert float(losses[0][0, 4]) == pytest.approx(naive_loss(problem, theta, data()), rel=1e-12)


@given(st.integers(0, 2**16), st.sampled_from(["rows-1", "rows-4", "rows-1024"]))
def test_any_objective_has_sections(seed: int, way: str) -> None:
    problem = cp.TeacherStudent.gaussian(8, 2, seed=seed)
    theta = problem.init(3, [seed])[0]
    section = section_around(theta, random_directions(theta, seed=seed), span=2.0, points=4)
    found = evaluate_section(problem, section, way=way).train_loss.flatten()
    rows = section.origin + section.coefficients @ section.directions
    torch.testing.assert_close(found, problem.loss(rows), rtol=1e-12, atol=1e-14)


def test_points_that_are_not_finite_leave_their_neighbours_alone() -> None:
    class Wall(cp.Objective):
        dim = 2

        def loss(self, theta: torch.Tensor) -> torch.Tensor:
            return theta[..., 0].sqrt() + theta[..., 1] ** 2

    section = section_around(torch.zeros(2).double(), torch.eye(2).double(), points=3)
    found = evaluate_section(Wall(), section).train_loss
    assert torch.isnan(found[0]).all() and found[1:].tolist() == [[1.0, 0.0, 1.0], [2.0, 1.0, 2.0]]


def test_marked_points_carry_their_true_loss_and_that_of_their_image() -> None:
    problem = cp.TeacherStudent.gaussian(8, 2, seed=0)
    points = problem.init(3, range(4))
    directions = torch.linalg.qr(torch.randn(9, 2, dtype=torch.float64))[0].T
    section = section_covering(points[0], directions, points, n=4)
    marks = evaluate_section(problem, section, marked=list(points)).marks
    assert marks is not None
    image = points[0] + (points - points[0]) @ directions.T @ directions
    torch.testing.assert_close(marks.distances, (points - image).norm(dim=1))
    torch.testing.assert_close(marks.train_loss, problem.loss(points))
    torch.testing.assert_close(marks.projected_train_loss, problem.loss(image))
    for axis, column in zip(section.axes, marks.coordinates.T, strict=True):
        assert axis[0] < column.min() and column.max() < axis[-1]


def test_projection_on_directions_that_are_not_orthogonal() -> None:
    generator = torch.Generator().manual_seed(0)
    directions, points = (torch.randn(k, 7, dtype=torch.float64, generator=generator) for k in (2, 5))
    section = Section(torch.zeros(7).double(), directions, (torch.zeros(1).double(),) * 2)
    found = section.project(points)
    truth = np.linalg.lstsq(directions.numpy().T, points.numpy().T, rcond=None)[0].T
    np.testing.assert_allclose(found.coordinates.numpy(), truth, rtol=1e-9)


def test_a_section_is_resumed_where_it_was(tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    problem = objective("mlp")
    section = plane(problem, 7)
    whole = evaluate_section(problem, section, way="linear", test=data(5))
    evaluate = GridLosses.evaluate
    calls = []

    def failing(self, coefficients, way):
        calls.append(len(coefficients))
        if len(calls) == 8:
            raise KeyboardInterrupt
        return evaluate(self, coefficients, way)

    monkeypatch.setattr(GridLosses, "evaluate", failing)
    with pytest.raises(KeyboardInterrupt):
        evaluate_section(problem, section, way="linear", test=data(5), folder=tmp_path)
    stored = sorted(each.stem for each in (tmp_path / "units").iterdir())
    assert stored[0] == "block-00" and "block-20" not in stored
    calls = [0] * 9
    found = evaluate_section(problem, section, way="linear", test=data(5), folder=tmp_path)
    assert torch.equal(found.train_loss, whole.train_loss) and torch.equal(found.test_loss, whole.test_loss)
    assert sum(calls) < 49  # what was stored was not computed again
    again = evaluate_section(problem, section, way="linear", test=data(5), folder=tmp_path)
    assert torch.equal(again.train_loss, whole.train_loss)


def test_stored_points_of_something_else_are_not_mixed_in(tmp_path) -> None:
    problem = cp.TeacherStudent.gaussian(8, 2, seed=0)
    theta = problem.init(3, [0])[0]
    section = section_around(theta, random_directions(theta, seed=0), points=3)
    evaluate_section(problem, section, folder=tmp_path)
    with pytest.raises(SpecMismatch, match="section"):
        evaluate_section(problem, section_around(theta, random_directions(theta, seed=1), points=3), folder=tmp_path)
    with pytest.raises(SpecMismatch, match="other data or another model"):
        evaluate_section(cp.TeacherStudent.gaussian(8, 2, seed=1), section, folder=tmp_path)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda o, s: evaluate_section(o, section_around(torch.zeros(5), torch.eye(5)[:2])), "another architecture"),
        (lambda o, s: evaluate_section(o, s, marked=[network("cnn").state_dict()]), r"marked\[0\] belongs to another"),
        (lambda o, s: evaluate_section(o, s, way="fast"), "way must be one of loop, linear"),
        (lambda o, s: evaluate_section(objective("cnn-bn"), plane(objective("cnn-bn"))), "batch_norm must be chosen"),
        (lambda o, s: evaluate_section(o, s, batch_norm="interpolate"), "bring no statistics"),
        (lambda o, s: section_around(s.origin, s.directions, points=1), "points must be at least 2"),
        (lambda o, s: Section(s.origin, s.directions[:1].repeat(2, 1), s.axes), "directions must be independent"),
        (lambda o, s: Section(s.origin, s.directions, s.axes[:1]), "directions must have shape"),
    ],
    ids=range(8),
)
def test_what_does_not_fit_is_named(call, message: str) -> None:
    problem = objective("mlp")
    with pytest.raises(InvalidArgument, match=message):
        call(problem, plane(problem, 3))
