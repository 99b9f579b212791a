import dataclasses

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from critpoints.errors import InvalidArgument, InvalidData
from critpoints.landscape.networks import build
from critpoints.landscape.training import Recipe, fit

N = 21


def problem() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(N, 1, 6, 6, generator=generator), torch.arange(N) % 3


def network(seed: int = 0, **options) -> nn.Module:
    return build("fully-connected", (1, 6, 6), 3, seed=seed, widths=(8,), **options)


def parameters(model: nn.Module) -> torch.Tensor:
    return nn.utils.parameters_to_vector(model.parameters()).detach()


@pytest.mark.parametrize(
    "recipe",
    [Recipe(lr=0.1, batch_size=N, epochs=4, momentum=0.9, weight_decay=0.01, milestones=(2,)), Recipe(epochs=0)],
)
def test_full_batches_follow_the_textbook_recursion(recipe: Recipe) -> None:
    """v <- mu v + (g + lambda theta), theta <- theta - lr v, in float64 by hand."""
    x, y = problem()
    x = x.double()
    model = network(dtype=torch.float64)
    theta = [each.detach().clone().requires_grad_() for each in model.parameters()]
    velocity = [torch.zeros_like(each) for each in theta]
    for epoch in range(recipe.epochs):
        hidden = F.relu(F.linear(x.flatten(1), theta[0], theta[1]))
        gradients = torch.autograd.grad(F.cross_entropy(F.linear(hidden, theta[2], theta[3]), y), theta)
        rate = recipe.lr * (0.1 if epoch >= 2 else 1.0)
        for t, v, g in zip(theta, velocity, gradients, strict=True):
            v.mul_(recipe.momentum).add_(g + recipe.weight_decay * t.detach())
            t.data.sub_(rate * v)
    assert fit(model, (x, y), recipe, seed=0).steps == recipe.epochs
    torch.testing.assert_close(
        parameters(model), torch.cat([each.detach().flatten() for each in theta]), rtol=1e-10, atol=1e-12
    )


@pytest.mark.parametrize("optimiser", ["sgd", "adam"])
def test_a_run_is_a_function_of_its_seed_alone(optimiser: str) -> None:
    recipe = Recipe(optimiser=optimiser, lr=0.01, batch_size=4, epochs=2, augment=True)

    def run(seed: int) -> torch.Tensor:
        model = build("lipton-cnn", (1, 6, 6), 3, seed=0, channels=(3, 3, 3), hidden=5, paddings=(2, 1, 1))
        fit(model, problem(), recipe, seed=seed, on_step=lambda step, model: torch.rand(step + 1))
        return parameters(model)

    first = run(1)
    torch.rand(3)
    assert torch.equal(run(1), first)
    assert not torch.equal(run(2), first)


def test_the_callers_random_numbers_are_not_used_up() -> None:
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    fit(network(), problem(), Recipe(batch_size=4, epochs=1), seed=0)
    assert torch.equal(torch.rand(1), expected)


def test_callbacks_see_every_step_in_evaluation_mode() -> None:
    seen: list[tuple[str, int]] = []
    modes = set()

    def record(kind: str):
        def callback(done: int, model: nn.Module) -> None:
            seen.append((kind, done))
            modes.add(model.training)

        return callback

    model = network()
    fit(model, problem(), Recipe(batch_size=8, epochs=2), seed=0, on_step=record("step"), on_epoch=record("epoch"))
    assert [done for kind, done in seen if kind == "step"] == list(range(7))  # 3 batches an epoch, the last one smaller
    assert [done for kind, done in seen if kind == "epoch"] == [0, 1, 2]
    assert seen[-1] == ("epoch", 2)
    assert modes == {False}
    assert not model.training


def test_callbacks_change_nothing() -> None:
    model, silent = network(), network()
    recipe = Recipe(batch_size=4, epochs=2)
    fit(model, problem(), recipe, seed=0, on_step=lambda step, model: torch.rand(2))
    fit(silent, problem(), recipe, seed=0)
    assert torch.equal(parameters(model), parameters(silent))


def test_every_sample_is_seen_once_an_epoch_in_a_new_order() -> None:
    x, y = problem()
    seen: list[torch.Tensor] = []

    class Recorder(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.bias = nn.Parameter(torch.zeros(3))

        def forward(self, inputs: torch.Tensor) -> torch.Tensor:
            seen.append(inputs[:, 0, 0, 0].detach())
            return self.bias.expand(len(inputs), 3)

    fit(Recorder(), (x, y), Recipe(batch_size=8, epochs=2), seed=0)
    epochs = [torch.cat(seen[:3]), torch.cat(seen[3:])]
    assert all(torch.equal(each.sort().values, x[:, 0, 0, 0].sort().values) for each in epochs)
    assert not torch.equal(*epochs)


def test_the_learning_rate_warms_up_and_decays() -> None:
    recipe = Recipe(lr=1.0, warmup=4, milestones=(2, 3), gamma=0.5)
    assert [recipe.rate(step, 0) for step in range(5)] == [0.25, 0.5, 0.75, 1.0, 1.0]
    assert [recipe.rate(100, epoch) for epoch in range(4)] == [1.0, 1.0, 0.5, 0.25]


@pytest.mark.parametrize(
    ("field", "value"),
    [("optimiser", "lbfgs"), ("lr", 0.0), ("momentum", 1.0), ("weight_decay", -1.0), ("batch_size", 0), ("epochs", -1)],
)
def test_a_recipe_out_of_range_is_refused(field: str, value: object) -> None:
    with pytest.raises(InvalidArgument, match=field):
        dataclasses.replace(Recipe(), **{field: value})


def test_divergence_is_reported() -> None:
    with pytest.raises(InvalidData, match="diverged; lower lr"):
        fit(network(), problem(), Recipe(lr=1e30, epochs=3, batch_size=4), seed=0)


def test_data_must_pair_inputs_with_targets() -> None:
    x, y = problem()
    with pytest.raises(InvalidData, match="got 21 and 20"):
        fit(network(), (x, y[:-1]), Recipe(), seed=0)
