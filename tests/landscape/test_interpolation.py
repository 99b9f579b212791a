import copy

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.func import functional_call
from torch.nn import functional as F

import critpoints as cp
from critpoints.errors import InvalidArgument
from critpoints.landscape.evaluation import POLICIES, Evaluator, as_state
from critpoints.landscape.interpolation import (
    barrier,
    convex_share,
    frankle_steps,
    interpolate,
    interpolate_snapshots,
    max_rise,
    pairwise_barriers,
    relative_mid_height,
)
from critpoints.landscape.networks import build
from critpoints.landscape.training import Recipe, fit

N, N_TEST = 30, 11
PLAN = (4, "M", 5)


def data(n: int = N, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(n, 1, 6, 6, generator=generator, dtype=torch.float64), torch.arange(n) % 3


def ends(batch_norm: bool) -> tuple[nn.Module, dict, dict]:
    """A small network in float64, its state before and after some training."""
    options = {"plan": PLAN, "batch_norm": batch_norm}
    model = build("vgg", (1, 6, 6), 3, seed=0, dtype=torch.float64, **options)
    before = copy.deepcopy(model.state_dict())
    fit(model, data(), Recipe(lr=0.05, momentum=0.9, batch_size=10, epochs=4), seed=0)
    return model, before, copy.deepcopy(model.state_dict())


def objective(model: nn.Module, batches: int = 1) -> cp.ModuleObjective:
    x, y = data()
    parts = list(zip(x.chunk(batches), y.chunk(batches), strict=True))
    return cp.ModuleObjective(model.eval(), F.cross_entropy, parts if batches > 1 else (x, y))


def naive(model: nn.Module, a: dict, b: dict, t: float, on: tuple, policy: str | None) -> tuple[float, float]:
    """The straightforward way: load the mean of two state dictionaries into a copy, evaluate."""
    model = copy.deepcopy(model)
    own = copy.deepcopy(model.state_dict())
    mixed = {name: (1 - t) * a[name] + t * b[name] if a[name].is_floating_point() else b[name] for name in a}
    model.load_state_dict(mixed)
    model.eval()
    if policy == "freeze":
        statistics = {name: each for name, each in own.items() if "running" in name}
        model.load_state_dict({**mixed, **statistics})
    if policy == "recalibrate":
        torch.optim.swa_utils.update_bn([data()[0]], model)
        model.eval()
    if policy == "batch":
        model.train()
    with torch.no_grad():
        outputs = model(on[0])
    return float(F.cross_entropy(outputs, on[1])), float((outputs.argmax(1) != on[1]).double().mean())


@pytest.mark.parametrize("policy", [None, *POLICIES], ids=str)
def test_a_line_equals_a_naive_loop_and_leaves_the_module_as_it_was(policy: str | None) -> None:
    model, a, b = ends(batch_norm=policy is not None)
    model.load_state_dict(a)  # "freeze" takes these statistics
    model.requires_grad_(True)
    before = copy.deepcopy(model.state_dict())
    test = data(N_TEST, seed=1)
    line = interpolate(objective(model), a, b, 7, test=test, batch_norm=policy)
    expected = [
        [*naive(model, a, b, float(t), data(), policy), *naive(model, a, b, float(t), test, policy)] for t in line.t
    ]
    found = [getattr(line.losses, name) for name in ("train_loss", "train_error", "test_loss", "test_error")]
    np.testing.assert_allclose(torch.stack(found, 1).numpy(), expected, rtol=1e-12)
    assert line.batch_norm == policy
    assert all(torch.equal(each, before[name]) for name, each in model.state_dict().items())
    assert all(each.grad is None for each in model.parameters())
    assert not model.training


def test_the_policies_differ_where_it_matters() -> None:
    model, a, b = ends(batch_norm=True)
    middle = {p: float(interpolate(objective(model), a, b, 3, batch_norm=p).losses.train_loss[1]) for p in POLICIES}
    assert len(set(middle.values())) == 4
    # a single batch of training data: its own statistics are the recalibrated ones, up to N / (N - 1) in the variance
    assert abs(middle["batch"] - middle["recalibrate"]) < 0.02 * middle["batch"]


@pytest.mark.parametrize("batches", [3, 4])
def test_batches_are_weighted_by_their_samples(batches: int) -> None:
    model, a, b = ends(batch_norm=True)
    whole = interpolate(objective(model), a, b, 5, batch_norm="interpolate").losses
    parts = interpolate(objective(model, batches), a, b, 5, batch_norm="interpolate").losses
    torch.testing.assert_close(parts.train_loss, whole.train_loss, rtol=1e-12, atol=0)
    torch.testing.assert_close(parts.train_error, whole.train_error, rtol=1e-12, atol=0)


def test_recalibration_takes_means_over_the_batches() -> None:
    model, _, b = ends(batch_norm=True)
    parts = objective(model, 3)
    reference = copy.deepcopy(model)
    reference.load_state_dict(b)
    torch.optim.swa_utils.update_bn(data()[0].chunk(3), reference)
    reference.eval()
    expected = float(F.cross_entropy(reference(data()[0]), data()[1]).detach())
    line = interpolate(parts, b, b, 2, batch_norm="recalibrate")
    np.testing.assert_allclose(line.losses.train_loss.numpy(), [expected] * 2, rtol=1e-12)


def test_a_policy_has_to_be_chosen_and_its_statistics_given() -> None:
    model, a, b = ends(batch_norm=True)
    whole = objective(model)
    with pytest.raises(InvalidArgument, match="batch_norm must be chosen"):
        interpolate(whole, a, b)
    with pytest.raises(InvalidArgument, match="batch_norm must be one of interpolate, recalibrate, batch, freeze"):
        interpolate(whole, a, b, batch_norm="train")
    flat = as_state(whole, b).theta
    with pytest.raises(InvalidArgument, match=r"pass each end as a state_dict"):
        interpolate(whole, a, flat, batch_norm="interpolate")
    with pytest.raises(InvalidArgument, match="curvature needs another batch_norm"):
        interpolate(whole, a, b, batch_norm="batch", curvature=True)
    assert interpolate(whole, flat, flat, 2, batch_norm="freeze").distance == 0


def test_a_path_between_architectures_is_refused() -> None:
    model, a, _ = ends(batch_norm=False)
    whole = objective(model)
    wider = build("vgg", (1, 6, 6), 3, seed=0, plan=(4, "M", 6), batch_norm=False).state_dict()
    deeper = build("vgg", (1, 6, 6), 3, seed=0, plan=(4, 4, "M", 5), batch_norm=False).state_dict()
    with pytest.raises(InvalidArgument, match=r"b belongs to another architecture: it has .*\(6, 4, 3, 3\) instead of"):
        interpolate(whole, a, wider)
    with pytest.raises(InvalidArgument, match=r"a belongs to another architecture"):
        interpolate(whole, deeper, a)
    with pytest.raises(InvalidArgument, match=r"b must have shape \(\d+,\), one point, got \(3,\)"):
        interpolate(whole, a, torch.zeros(3, dtype=torch.float64))
    with pytest.raises(InvalidArgument, match="has no state_dict"):
        interpolate(cp.TeacherStudent.grid(), a, a)
    with pytest.raises(InvalidArgument, match="points must be at least 2"):
        interpolate(whole, a, a, 1)


@pytest.mark.parametrize("policy", ["interpolate", "recalibrate"])
def test_curvature_along_the_path_is_that_of_the_dense_hessian(policy: str) -> None:
    model, a, b = ends(batch_norm=True)
    whole = objective(model)
    line = interpolate(whole, a, b, 5, batch_norm=policy, curvature=3, tol=1e-8)
    assert line.curvature is not None
    assert line.t_curvature.tolist() == [0.0, 0.5, 1.0]
    evaluator = Evaluator(whole, batch_norm=policy)
    start, end = as_state(whole, a), as_state(whole, b)
    middle = start.lerp(end, 0.5)
    frozen = evaluator.at(middle)
    assert isinstance(frozen, cp.ModuleObjective)
    buffers = {name: each.clone() for name, each in frozen.model.named_buffers()}

    def loss(theta: torch.Tensor) -> torch.Tensor:
        return F.cross_entropy(
            functional_call(frozen.model, {**frozen.unflatten(theta), **buffers}, data()[0]), data()[1]
        )

    dense = torch.autograd.functional.hessian(loss, middle.theta)
    values = torch.linalg.eigvalsh(dense)
    direction = F.normalize(end.theta - start.theta, dim=0)
    np.testing.assert_allclose(float(line.curvature.smallest[1]), float(values[0]), rtol=1e-6)
    np.testing.assert_allclose(float(line.curvature.largest[1]), float(values[-1]), rtol=1e-6)
    np.testing.assert_allclose(
        float(line.curvature.along[1]), float(direction @ dense @ direction), rtol=1e-8, atol=1e-12
    )


def test_kinks_on_the_way_are_counted_and_not_warned_of() -> None:
    model = nn.Sequential(nn.Linear(2, 4, dtype=torch.float64), nn.ReLU(), nn.Linear(4, 3, dtype=torch.float64))
    x, y = torch.randn(8, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64), torch.arange(8) % 3
    a = copy.deepcopy(model.state_dict())
    a["0.weight"][:] = torch.randn(4, 2, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    b = copy.deepcopy(a)
    for state, silent in ((a, 3), (b, 1)):  # a silent neuron has an input of exactly 0 on every sample
        state["0.weight"][:silent] = state["0.bias"][:silent] = 0
        state["0.bias"][silent:] = 0.3
    found = interpolate(cp.ModuleObjective(model, F.cross_entropy, (x, y)), a, b, 3, curvature=True).curvature
    assert found is not None
    assert found.kinks.tolist() == [0.75, 0.25, 0.25]


def test_students_are_interpolated_in_rows() -> None:
    problem = cp.TeacherStudent.grid()
    a, b = problem.init(width=5, seeds=range(2))
    line = interpolate(problem, a, b, 11, curvature=2)
    np.testing.assert_allclose(float(line.curvature.gradient_norm[1]), float(problem.gradient(b).norm()), rtol=1e-12)
    expected = [float(problem.loss(a + k / 10 * (b - a))) for k in range(11)]
    np.testing.assert_allclose(line.losses.train_loss.numpy(), expected, rtol=1e-12)
    assert line.losses.test_loss.isnan().all()
    assert line.curvature is not None
    np.testing.assert_allclose(
        [float(line.curvature.smallest[0]), float(line.curvature.largest[1])],
        [float(torch.linalg.eigvalsh(problem.hessian(a))[0]), float(torch.linalg.eigvalsh(problem.hessian(b))[-1])],
        rtol=1e-6,
    )
    assert line.batch_norm is None


def test_students_have_held_out_losses_of_another_objective() -> None:
    problem = cp.TeacherStudent.grid()
    a, b = problem.init(width=5, seeds=range(2))
    line = interpolate(problem, a, b, 3, test=problem)
    torch.testing.assert_close(line.losses.test_loss, line.losses.train_loss)
    with pytest.raises(InvalidArgument, match="test must be an objective of"):
        interpolate(problem, a, b, test=cp.PolynomialObjective({(2, 0): 1, (0, 2): 1}))
    with pytest.raises(InvalidArgument, match="test must be an Objective"):
        interpolate(problem, a, b, test=(a, b))


def test_snapshots_are_joined_to_the_end_of_the_run() -> None:
    model = build("fully-connected", (1, 6, 6), 3, seed=0, widths=(8,), dtype=torch.float64)
    snapshots = {}
    recipe = Recipe(lr=0.3, batch_size=10, epochs=3)

    def record(step: int, trained: nn.Module) -> None:
        if step in (0, 4, 2):
            snapshots[step] = copy.deepcopy(trained.state_dict())

    fit(model, data(), recipe, seed=0, on_step=record)
    rises = interpolate_snapshots(objective(model), snapshots, model.state_dict(), 9)
    assert rises.steps == (0, 2, 4)
    for step, rise, path in zip(rises.steps, rises.of("train_loss"), rises.paths, strict=True):
        alone = interpolate(objective(model), snapshots[step], model.state_dict(), 9)
        assert torch.equal(path.losses.train_loss, alone.losses.train_loss)
        losses = alone.losses.train_loss.tolist()
        assert rise == max(b - a for j, b in enumerate(losses) for a in losses[: j + 1])


def test_barriers_between_all_pairs_are_those_of_each_pair() -> None:
    f = cp.PolynomialObjective({(4,): 1, (2,): -2})  # a double well with minima -1 at -1 and 1, and 0 between them
    ends = [torch.tensor([each]).double() for each in (-1.0, 0.0, 1.0)]
    np.testing.assert_allclose(pairwise_barriers(f, ends, 3).numpy(), [-0.4375 + 0.5, 1.0, -0.4375 + 0.5])


@given(st.lists(st.floats(-100, 100), min_size=3, max_size=12), st.floats(0.1, 10), st.floats(-5, 5))
def test_shapes_of_profiles_scale_with_the_losses(losses: list[float], scale: float, shift: float) -> None:
    moved = [scale * each + shift for each in losses]
    for measure in (max_rise, barrier):
        np.testing.assert_allclose(measure(moved), scale * measure(losses), rtol=1e-6, atol=1e-9)
    assert max_rise(losses) >= max(0.0, losses[-1] - losses[0])


@given(st.lists(st.floats(0, 1), min_size=3, max_size=12))
def test_sums_of_squares_of_lines_are_convex_and_without_barrier(slopes: list[float]) -> None:
    t = np.linspace(-1, 1, 21)
    losses = sum(np.maximum(0, t - each) for each in slopes)
    assert convex_share(losses) == 1
    assert barrier(losses) <= 1e-12


def test_profiles_by_hand() -> None:
    np.testing.assert_array_equal(max_rise([[3, 2, 1], [1, 2, 3], [2, 0, 5]]), [0, 2, 5])
    assert relative_mid_height([4.0, 3.0, 2.0, 1.0, 0.0]) == 0.5
    assert relative_mid_height([4.0, 4.0, 4.0, 4.0, 0.0]) == 1.0
    assert relative_mid_height([4.0, 3.0, 1.0, 0.0]) == 0.5  # an even number: between the middle ones
    assert convex_share([0.0, 1.0, 0.0]) == 0.0
    assert frankle_steps(5) == (0, 1, 2, 4)
    assert frankle_steps(3000)[-3:] == (1024, 2000, 3000)
