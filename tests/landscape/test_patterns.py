"""Planes, cells and multi-point optimisation, against dense algebra, finite differences and plain loops."""

import dataclasses

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F

from critpoints.errors import InvalidArgument, InvalidData
from critpoints.landscape import cells as cells_module
from critpoints.landscape.cell_losses import DecorrelatedLoss, GreyLoss, PatternLoss
from critpoints.landscape.cells import Cells, Speed
from critpoints.landscape.networks import CentredBatchNorm2d, build
from critpoints.landscape.patterns import (
    PatternRecipe,
    fit_pattern,
    initial_vectors,
    map_pattern,
    measure_contrast,
)
from critpoints.landscape.planes import Plane, grid_coordinates, memory

N = 24


def problem(dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(N, 1, 4, 4, generator=generator, dtype=dtype), torch.arange(N) % 3


def network(kind: str = "plain", dtype: torch.dtype = torch.float64) -> nn.Module:
    if kind == "plain":
        return build("fully-connected", (1, 4, 4), 3, seed=0, widths=(6,), dtype=dtype)
    options = {"channels": (3, 4), "pool": 2, "hidden": 5, "batch_norm": kind == "batch-norm"}
    return build("pattern-cnn", (1, 4, 4), 3, seed=0, dtype=dtype, **options)


def plane_of(model: nn.Module, dimension: int = 2, seed: int = 0) -> Plane:
    vectors = initial_vectors(model, 1 + dimension, seed=seed)
    return Plane(vectors[0], vectors[1:], scale=0.3)


def outputs_by_hand(model: nn.Module, row: Tensor, x: Tensor) -> Tensor:
    named, start = {}, 0
    for name, each in model.named_parameters():
        named[name] = row[start : start + each.numel()].view(each.shape)
        start += each.numel()
    return functional_call(model, named, (x,))


@given(st.integers(1, 4), st.integers(4, 30), st.integers(0, 10**6))
@settings(max_examples=12, deadline=None)
def test_axes_are_orthogonal_equally_long_and_span_what_they_are_made_from(d: int, n: int, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    vectors = torch.randn(d, n, generator=generator, dtype=torch.float64)
    plane = Plane(torch.zeros(n), vectors, scale=0.7)
    axes = plane.axes().detach()
    gram = axes @ axes.T
    torch.testing.assert_close(gram, gram[0, 0] * torch.eye(d, dtype=torch.float64), rtol=0, atol=1e-10 * gram[0, 0])
    # Gram-Schmidt is QR with a positive diagonal
    q, r = np.linalg.qr(vectors.numpy().T)
    expected = (q * np.sign(np.diag(r))).T * np.linalg.norm(vectors[0])
    np.testing.assert_allclose(axes.numpy(), expected, rtol=1e-6, atol=1e-8)
    for dtype in (torch.float64, torch.float32):
        measured = plane.frame(dtype).measure()
        assert max(measured.largest_cosine, measured.length_deviation) < 1e-6
        assert measured.length == pytest.approx(0.7 * float(vectors[0].norm()), rel=1e-6)


def test_a_skew_frame_is_measured_as_such() -> None:
    frame = dataclasses.replace(
        plane_of(network()).frame(), steps=torch.tensor([[3.0, 0.0], [3.0, 3.0]]), origin=torch.zeros(2)
    )
    measured = frame.measure()
    assert measured.largest_cosine == pytest.approx(np.sqrt(0.5))
    assert measured.length_deviation == pytest.approx(np.sqrt(2) - 1)


def test_points_are_those_of_equation_1() -> None:
    plane = plane_of(network())
    frame, axes = plane.frame(), plane.axes()
    points = frame.points(grid_coordinates((3, 4)))
    up, right = axes[0], axes[1]
    for number, (row, column) in enumerate(np.ndindex(3, 4)):
        expected = plane.origin + 0.3 * ((row - 1) * up + (column - 1.5) * right)
        torch.testing.assert_close(points[number], expected)


def test_a_plane_needs_fitting_shapes() -> None:
    with pytest.raises(InvalidArgument, match="vectors must be"):
        Plane(torch.zeros(3), torch.zeros(2, 4))
    with pytest.raises(InvalidArgument, match="1 <= d <= P"):
        Plane(torch.zeros(2), torch.zeros(3, 2))


def test_memory_counts_parameters_and_moments() -> None:
    found = memory(10, 2, 100, itemsize=4)
    assert found == {"plane": 3 * 8 * 31, "separate": 3 * 4 * 1000, "ratio": 12000 / 744}


@pytest.mark.parametrize("kind", ["plain", "cnn", "batch-norm"])
def test_cells_are_the_network_at_their_parameters_by_loop_and_by_vmap(kind: str) -> None:
    model, (x, y) = network(kind), problem()
    before = [each.clone() for each in model.parameters()]
    frame, coordinates = plane_of(model).frame(), grid_coordinates((3, 2))
    rows = frame.points(coordinates).detach()
    reference = torch.stack([outputs_by_hand(model, row, x) for row in rows]).detach()
    loss = torch.stack([F.cross_entropy(each, y) for each in reference]).detach()
    accuracy = (reference.argmax(-1) == y).double().mean(-1)
    for strategy in ("loop", "vmap"):
        cells = Cells(model, strategy=strategy, chunk=4)
        torch.testing.assert_close(cells.outputs(frame, coordinates, x), reference)
        maps = cells.maps(frame, coordinates, (x, y), batch_size=N)
        np.testing.assert_allclose(maps.loss, loss.numpy(), rtol=1e-10)
        np.testing.assert_array_equal(maps.accuracy, accuracy.numpy())
        if kind != "batch-norm":  # whose batches are normalised each by itself
            parts = cells.maps(frame, coordinates, (x, y), batch_size=7)
            np.testing.assert_allclose(parts.loss, maps.loss, rtol=1e-10)
    assert all(torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True))


LOSSES = [
    PatternLoss(cut=1.2),
    PatternLoss(cut=1.2, white="cut-samples"),
    PatternLoss(white="unlikelihood"),
    GreyLoss(cut=1.2),
    DecorrelatedLoss(0.7),
]


@pytest.mark.parametrize("loss", LOSSES, ids=str)
@pytest.mark.parametrize("strategy", ["loop", "vmap"])
def test_steps_follow_the_gradient_of_the_whole_loss(loss, strategy: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """One plain step with every cell and sample, against autograd through equations (1) to (3) in one graph."""
    monkeypatch.setattr(torch.optim, "Adam", torch.optim.SGD)  # whose step is the gradient, not its sign
    model, (x, y) = network(), problem()
    levels = np.array([[1.0, 0.0, 1.0], [0.0, 1.0, 0.0]])
    recipe = PatternRecipe(lr=0.01, batch_size=N, steps=1, cells=(3, 3), scale=0.3)
    found = fit_pattern(model, (x, y), levels, recipe, seed=0, loss=loss, evaluation=strategy)
    vectors = initial_vectors(model, 3, seed=0)
    before = {"origin": vectors[0], "vectors": vectors[1:], "scale": torch.tensor(0.3, dtype=torch.float64)}
    leaves = {name: each.clone().requires_grad_() for name, each in before.items()}
    up, phi = leaves["vectors"]
    right = phi - (phi @ up) / (up @ up) * up
    right = up.norm() / right.norm() * right
    rows = [leaves["origin"] + leaves["scale"] * ((i - 0.5) * up + (j - 1) * right) for i, j in np.ndindex(2, 3)]
    outputs = torch.stack([outputs_by_hand(model, row, x) for row in rows])
    value = by_definition(loss, outputs, y, torch.from_numpy(levels).flatten())
    gradients = torch.autograd.grad(value, list(leaves.values()))
    assert found.losses[0] == pytest.approx(float(value.detach()), rel=1e-9)
    for name, gradient in zip(leaves, gradients, strict=True):
        moved = getattr(found.plane, name).detach() - before[name]
        torch.testing.assert_close(moved, -0.01 * gradient, rtol=1e-7, atol=1e-12)


def by_definition(loss, outputs: Tensor, y: Tensor, levels: Tensor) -> Tensor:
    """The losses of a step in which all cells are drawn, written out."""
    entropies = torch.stack([F.cross_entropy(each, y) for each in outputs])
    black, white = levels == 1, levels == 0
    if isinstance(loss, PatternLoss):
        cut = torch.stack([F.cross_entropy(each, y, reduction="none").clamp(max=loss.cut).mean() for each in outputs])
        others = torch.stack([(1 - each.softmax(-1)[range(len(y)), y]).log().mean() for each in outputs])
        found = {"cut": entropies.clamp(max=loss.cut), "cut-samples": cut, "unlikelihood": others}[loss.white]
        return entropies[black].mean() - found[white].mean()
    if isinstance(loss, GreyLoss):
        return entropies[black].square().mean() + (entropies[white] - loss.cut).square().mean()
    errors = outputs.softmax(-1) - F.one_hot(y, 3)
    pairs = [(errors[i] * errors[j]).sum(-1).mean() for i in range(6) for j in range(6) if i != j]
    return entropies.mean() + loss.strength * torch.stack(pairs).mean()


def test_the_loss_of_a_cell_in_the_white_has_no_gradient_above_the_cut() -> None:
    outputs = torch.tensor([[[0.0, 9.0]]], requires_grad=True)
    y, weights = torch.tensor([0]), torch.ones(1)
    value = PatternLoss(2.5)(outputs, y, torch.zeros(1), weights)
    assert float(value.detach()) == -2.5
    (gradient,) = torch.autograd.grad(value, outputs)
    assert not gradient.any()


def test_white_cells_that_are_sure_and_right_learn_by_unlikelihood_alone() -> None:
    y, weights = torch.tensor([0]), torch.ones(1)
    slopes = {}
    for white in ("cut", "unlikelihood"):
        outputs = torch.tensor([[[60.0, 0.0, 0.0]]], requires_grad=True)
        PatternLoss(white=white)(outputs, y, torch.zeros(1), weights).backward()
        slopes[white] = float(outputs.grad[0, 0, 0])
    assert slopes["cut"] == pytest.approx(0, abs=1e-12)
    assert slopes["unlikelihood"] == pytest.approx(1)
    with pytest.raises(InvalidArgument, match="white must be one of cut, cut-samples, unlikelihood, got 'black'"):
        PatternLoss(white="black")


def test_a_mask_is_found_on_a_line_and_on_a_plane_and_shows_in_the_maps() -> None:
    generator = torch.Generator().manual_seed(1)
    y = torch.arange(60) % 3
    x = (F.one_hot(y, 16).float() * 3 + 0.3 * torch.randn(60, 16, generator=generator)).view(60, 1, 4, 4)
    recipe = PatternRecipe(lr=0.03, batch_size=60, steps=120, cells=(6, 6))
    model = network(dtype=torch.float32)
    for mask in (np.array([1, 1, 0, 0, 1, 1]), np.eye(4)):
        found = fit_pattern(model, (x, y), mask, recipe, seed=0, evaluation="vmap")
        assert found.plane.dimension == mask.ndim
        assert found.orthogonality.largest_cosine < 1e-6
        assert found.orthogonality.length_deviation < 1e-6
        maps = map_pattern(model, found, (x, y))
        assert measure_contrast(mask, maps.accuracy).difference > 0.5
        assert map_pattern(model, found, (x, y), margin=2).loss.shape == tuple(n + 4 for n in mask.shape)
        np.testing.assert_array_equal(
            map_pattern(model, found, (x, y), margin=1).accuracy[(slice(1, -1),) * mask.ndim], maps.accuracy
        )


def test_grey_levels_lie_in_between() -> None:
    x, y = problem(torch.float32)
    levels = np.array([1.0, 0.5, 0.0])
    recipe = PatternRecipe(lr=0.03, batch_size=N, steps=150, cells=(3, 3), cut=2.0)
    model = network(dtype=torch.float32)
    found = fit_pattern(model, (x, y), levels, recipe, seed=0, evaluation="loop")
    np.testing.assert_allclose(map_pattern(model, found, (x, y)).loss, [0.0, 1.0, 2.0], atol=0.2)


def test_decorrelated_errors_cost_less_than_equal_ones() -> None:
    y, weights = torch.zeros(2, dtype=torch.int64), torch.ones(2)
    same = torch.tensor([[[0.0, 2.0], [3.0, 0.0]]]).repeat(2, 1, 1)
    other = torch.stack([same[0], same[0].flip(0)])  # wrong on the other sample
    values = [DecorrelatedLoss(1.0)(each, y, weights, weights) for each in (same, other)]
    assert float(values[1]) < float(values[0])


def test_a_pattern_depends_on_its_seed_alone() -> None:
    data, mask = problem(torch.float32), np.eye(4)
    recipe = PatternRecipe(lr=0.01, batch_size=8, steps=5, cells=(2, 3))

    def run(seed: int, model: nn.Module) -> Tensor:
        return fit_pattern(model, data, mask, recipe, seed=seed, evaluation="loop").plane.vectors

    first = run(3, network(dtype=torch.float32))
    state = torch.get_rng_state()
    other = build("fully-connected", (1, 4, 4), 3, seed=9, widths=(6,))  # what it holds does not matter
    assert torch.equal(run(3, other), first)
    assert torch.equal(torch.get_rng_state(), state)
    assert not torch.equal(run(4, other), first)


def test_interior_cells_are_not_trained() -> None:
    mask = np.zeros((6, 6))
    mask[:, 3:] = 1
    recipe = PatternRecipe(steps=1, batch_size=8, cells=(50, 50))
    found = fit_pattern(network(), problem(), mask, recipe, seed=0, evaluation="loop")
    assert found.trained[:, 2:4].all()
    assert found.trained.sum() == 12
    every = dataclasses.replace(recipe, skip_interior=False)
    assert fit_pattern(network(), problem(), mask, every, seed=0, evaluation="loop").trained.all()


def test_the_faster_evaluation_is_chosen_and_both_are_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = PatternRecipe(steps=1, batch_size=8, cells=(2, 2))
    found = fit_pattern(network(), problem(), np.eye(3), recipe, seed=0)
    assert found.speed is not None
    assert min(found.speed.loop, found.speed.vmap) > 0
    for speed, name in ((Speed(2.0, 1.0), "loop"), (Speed(1.0, 2.0), "vmap"), (Speed(1.0, 0.0), "loop")):
        monkeypatch.setattr(cells_module.Cells, "measure_speed", lambda *_, speed=speed: speed)
        assert fit_pattern(network(), problem(), np.eye(3), recipe, seed=0).evaluation == name


def test_a_network_that_vmap_cannot_take_goes_through_the_loop() -> None:
    class Branching(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear = nn.Linear(16, 3)

        def forward(self, x: Tensor) -> Tensor:
            z = self.linear(x.flatten(1))
            return z if float(z.detach().sum()) > 0 else 2 * z

    recipe = PatternRecipe(steps=1, batch_size=8, cells=(2, 2))
    found = fit_pattern(Branching(), problem(torch.float32), np.eye(3), recipe, seed=0)
    assert found.evaluation == "loop"
    assert found.speed is not None
    assert found.speed.vmap == 0


def test_centred_batch_norm_has_scales_of_mean_one_half() -> None:
    model = network("batch-norm")
    layer = next(each for each in model.modules() if isinstance(each, CentredBatchNorm2d))
    x = torch.randn(9, 3, 4, 4, dtype=torch.float64)
    reference = nn.BatchNorm2d(3, track_running_stats=False).double()
    with torch.no_grad():
        reference.weight.copy_(layer.weight + 0.5)
        torch.testing.assert_close(layer(x), reference(x))
    weights = torch.cat(
        [build("pattern-cnn", (1, 8, 8), seed=s, batch_norm=True)[1].weight.detach() for s in range(60)]
    )
    for sample in (weights, batch_norm_scales(network("batch-norm"), 150)):
        assert abs(float(sample.mean())) < 4 * 0.29 / np.sqrt(len(sample))
        assert float(sample.abs().max()) <= 0.5
        assert float(sample.std()) == pytest.approx(1 / np.sqrt(12), rel=0.1)


def batch_norm_scales(model: nn.Module, n: int) -> Tensor:
    vectors = initial_vectors(model, n, seed=0)
    sizes = [each.numel() for each in model.parameters()]
    names = [name for name, _ in model.named_parameters()]
    return vectors.split(sizes, 1)[names.index("1.weight")].flatten()


def test_initial_weights_are_xaviers() -> None:
    model = build("fully-connected", (1, 8, 8), 10, seed=0, widths=(64,))
    weights, biases = initial_vectors(model, 1, seed=0)[0].split([each.numel() for each in model.parameters()])[:2]
    assert float(weights.std()) == pytest.approx(np.sqrt(2 / 128), rel=0.05)  # 2 / (fan-in + fan-out)
    assert not biases.any()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"levels": np.full((3, 3), 2.0)}, r"levels must lie in \[0, 1\]"),
        ({"levels": np.ones((3, 3))}, "no cells to draw"),
        ({"evaluation": "pmap"}, "evaluation must be one of fastest, loop, vmap"),
        ({"model": nn.Sequential(nn.BatchNorm2d(1), nn.Flatten(), nn.Linear(16, 3))}, "keeps running statistics"),
    ],
)
def test_bad_arguments_are_refused_by_name(changes: dict, message: str) -> None:
    arguments = {"model": network(), "data": problem(), "levels": np.eye(3), "recipe": PatternRecipe(steps=1)}
    with pytest.raises(InvalidArgument, match=message):
        fit_pattern(**{**arguments, "seed": 0, **changes})


@pytest.mark.parametrize(
    "changes",
    [{"lr": 0.0}, {"batch_size": 0}, {"steps": -1}, {"cells": (0, 0)}, {"cut": 0.0}, {"scale": 0.0}, {"final_lr": 0.0}],
    ids=str,
)
def test_recipes_out_of_range_are_refused(changes: dict) -> None:
    (name,) = changes
    with pytest.raises(InvalidArgument, match=name):
        PatternRecipe(**changes)


def test_a_diverging_run_says_so() -> None:
    x, y = problem(torch.float32)
    x[0] = torch.inf
    with pytest.raises(InvalidData, match="training diverged"):
        fit_pattern(network(dtype=torch.float32), (x, y), np.eye(3), PatternRecipe(steps=2), seed=0, evaluation="loop")
    with pytest.raises(InvalidData, match="data must pair"):
        fit_pattern(network(), (x, y[:3]), np.eye(3), PatternRecipe(steps=2), seed=0)
