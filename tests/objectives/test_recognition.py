"""Modules that are two-layer networks are recognised by what they compute, others are not."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import critpoints as cp
from critpoints.objectives.recognition import recognise_two_layer

X = torch.randn(23, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
Y = torch.randn(23, generator=torch.Generator().manual_seed(2), dtype=torch.float64)


class Columns(nn.Module):
    """Weights of a neuron in a column, the output weights first."""

    def __init__(self):
        super().__init__()
        self.out = nn.Parameter(torch.randn(4, dtype=torch.float64))
        self.bias = nn.Parameter(torch.randn(4, dtype=torch.float64))
        self.hidden = nn.Parameter(torch.randn(3, 4, dtype=torch.float64))

    def forward(self, x):
        return torch.erf(x @ self.hidden + self.bias) @ self.out


class Scaled(nn.Module):
    """Not one of the table: its outputs are divided."""

    def __init__(self):
        super().__init__()
        self.hidden, self.out = nn.Linear(3, 4), nn.Linear(4, 1)

    def forward(self, x):
        return self.out(torch.tanh(self.hidden(x))).squeeze(-1) / 4


def perceptron(activation: nn.Module, hidden_bias: bool, output_bias: bool, width: int = 4) -> nn.Module:
    layers = nn.Linear(3, width, bias=hidden_bias), activation, nn.Linear(width, 1, bias=output_bias)
    return nn.Sequential(*layers).double()


@pytest.mark.parametrize("width", (1, 3, 4))
@pytest.mark.parametrize("biases", ((False, False), (True, False), (False, True), (True, True)))
@pytest.mark.parametrize("activation", (nn.Sigmoid(), nn.Tanh(), nn.SiLU(), nn.GELU()))
def test_a_sequential_network_is_recognised_with_its_biases(activation, biases, width):
    module = cp.ModuleObjective(perceptron(activation, *biases, width), nn.MSELoss(), (X, Y[:, None]))
    found = recognise_two_layer(module)
    assert found is not None
    assert (found.objective.hidden_bias, found.objective.output_bias) == biases
    assert sorted(found.order.tolist()) == list(range(module.dim))
    theta = 0.7 * torch.randn(module.dim, dtype=torch.float64)
    assert torch.allclose(found.objective.loss(theta[found.order]), module.loss(theta), rtol=1e-12)
    gradient = module.gradient(theta)
    assert torch.allclose(found.objective.gradient(theta[found.order]), gradient[found.order], rtol=1e-10, atol=1e-13)


def test_any_layout_any_batches_and_a_sum_are_recognised():
    batches = [(X[:10], Y[:10]), (X[10:], Y[10:])]
    module = cp.ModuleObjective(Columns(), nn.MSELoss(reduction="sum"), batches)
    found = recognise_two_layer(module)
    assert found is not None and found.objective.activation.name == "erf"
    assert found.objective.scale == pytest.approx(len(X))
    theta = torch.randn(module.dim, dtype=torch.float64)
    assert torch.allclose(found.objective.loss(theta[found.order]), module.loss(theta), rtol=1e-12)


@pytest.mark.parametrize(
    "module",
    (
        pytest.param(cp.ModuleObjective(Scaled().double(), nn.MSELoss(), (X, Y)), id="outputs divided"),
        pytest.param(cp.ModuleObjective(perceptron(nn.ReLU(), True, True), nn.MSELoss(), (X, Y[:, None])), id="kinks"),
        pytest.param(
            cp.ModuleObjective(perceptron(nn.Tanh(), True, True), nn.HuberLoss(delta=5.0), (X, Y[:, None])),
            id="a square near zero only",
        ),
        pytest.param(
            cp.ModuleObjective(
                nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2)).double(), nn.MSELoss(), (X, X[:, :2])
            ),
            id="two outputs",
        ),
        pytest.param(
            cp.ModuleObjective(
                nn.Sequential(nn.Linear(3, 3), nn.Tanh(), nn.Tanh(), nn.Linear(3, 1)).double(),
                nn.MSELoss(),
                (X, Y[:, None]),
            ),
            id="two activations",
        ),
    ),
)
def test_other_networks_are_not(module):
    assert recognise_two_layer(module) is None


def test_a_frozen_layer_is_something_else():
    model = perceptron(nn.Tanh(), False, False)
    model[0].weight.requires_grad_(False)
    assert recognise_two_layer(cp.ModuleObjective(model, nn.MSELoss(), (X, Y[:, None]))) is None
