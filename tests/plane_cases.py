"""Small modules with data, and the straightforward way to evaluate them, for the tests of planes and curves."""

import copy

import torch
from torch import Tensor, nn
from torch.nn import functional as F

import critpoints as cp
from critpoints.landscape.networks import build

SHAPE, N = (1, 6, 6), 24
NETWORKS = {
    "mlp": ("fully-connected", {"widths": (9, 7)}),
    "cnn": ("vgg", {"plan": (5, "M", 6), "batch_norm": False}),
    "cnn-bn": ("vgg", {"plan": (5, "M", 6), "batch_norm": True}),
    "resnet-bn": ("resnet", {"width": 4, "blocks": 1, "batch_norm": True}),
    "lipton": ("lipton-cnn", {"channels": (4, 5, 6), "hidden": 7, "paddings": (2, 1, 1)}),
}


def data(seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(N, *SHAPE, generator=generator, dtype=torch.float64), torch.arange(N) % 3


def network(name: str, seed: int = 0) -> nn.Module:
    """In float64 and evaluation mode, with statistics of BatchNorm, where there are any, of the data."""
    architecture, options = NETWORKS[name]
    model = build(architecture, SHAPE, 3, seed=seed, dtype=torch.float64, **options)
    model.train()
    state = torch.get_rng_state()
    model(data()[0])
    torch.set_rng_state(state)
    return model.eval()


def objective(name: str, **options) -> cp.ModuleObjective:
    return cp.ModuleObjective(network(name), F.cross_entropy, data(), **options)


def copied_state(model: nn.Module) -> dict[str, Tensor]:
    return {name: each.clone() for name, each in model.state_dict().items()}


def naive_loss(problem: cp.ModuleObjective, theta: Tensor, on: tuple[Tensor, Tensor]) -> float:
    """load_state_dict on a copy, and a forward pass."""
    model = copy.deepcopy(problem.model)
    model.load_state_dict(problem.unflatten(theta), strict=False)
    with torch.no_grad():
        return float(F.cross_entropy(model(on[0]), on[1]))
