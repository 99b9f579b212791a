import copy

import numpy as np
import pytest
import torch
from plane_cases import NETWORKS, SHAPE, copied_state, data, network, objective
from torch import nn
from torch.nn import functional as F

import critpoints as cp
from critpoints.errors import InvalidArgument, InvalidData
from critpoints.landscape import alignment
from critpoints.landscape.alignment import compare_barriers, match_weights
from critpoints.landscape.interpolation import barrier
from critpoints.landscape.networks import build
from critpoints.landscape.permutations import find_groups, permute
from critpoints.symmetry.group import apply, random_element


def planted(model: nn.Module, seed: int) -> tuple[dict, list[torch.Tensor]]:
    """The state of a model with its channels permuted at random, and the permutations."""
    groups, state = find_groups(model, data()[0]), copied_state(model)
    generator = torch.Generator().manual_seed(seed)
    orders = [torch.randperm(group.size, generator=generator) for group in groups]
    for group, order in zip(groups, orders, strict=True):
        state = permute(state, group, order)
    return state, orders


def by_hand(state: dict, orders: list[np.ndarray]) -> dict:
    """The MLP and the plain CNN written out: rows of one layer, columns of the next."""
    permuted, names = dict(state), sorted({name.rpartition(".")[0] for name in state}, key=int)
    for order, made, read in zip(orders, names, names[1:], strict=False):
        permuted[f"{made}.weight"] = permuted[f"{made}.weight"][order]
        permuted[f"{made}.bias"] = permuted[f"{made}.bias"][order]
        permuted[f"{read}.weight"] = permuted[f"{read}.weight"][:, order]
    return permuted


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("name", NETWORKS)
def test_a_planted_permutation_is_recovered_exactly(name: str, seed: int) -> None:
    problem = objective(name)
    own = copied_state(problem.model)
    state, orders = planted(problem.model, seed)
    found = match_weights(problem, own, state)
    assert found.distance_before > 1 and found.distance_after == 0
    assert torch.equal(found.state.theta, problem.parameters_vector())
    for order, p in zip(orders, found.permutations, strict=True):
        assert order[list(p)].tolist() == list(range(len(order)))
    for key, each in found.state.buffers.items():
        assert torch.equal(each, own[key])


@pytest.mark.parametrize("name", ["mlp", "cnn"])
def test_groups_are_those_that_one_writes_down(name: str) -> None:
    model = network(name)
    state, orders = planted(model, 0)
    expected = by_hand(copied_state(model), [each.numpy() for each in orders])
    assert all(torch.equal(state[key], expected[key]) for key in expected)


@pytest.mark.parametrize("name", NETWORKS)
def test_a_permuted_network_computes_the_same(name: str) -> None:
    model, (x, _) = network(name), data(9)
    other = copy.deepcopy(model)
    other.load_state_dict(planted(model, 1)[0])
    with torch.no_grad():
        torch.testing.assert_close(other(x), model(x), rtol=1e-12, atol=1e-12)
        assert not torch.equal(next(other.parameters()), next(model.parameters()))


@pytest.mark.parametrize("name", ["mlp", "cnn-bn"])
def test_noise_on_a_planted_permutation_is_no_obstacle(name: str) -> None:
    problem = objective(name)
    state, orders = planted(problem.model, 2)
    generator = torch.Generator().manual_seed(0)
    noisy = {
        k: v + 0.02 * torch.randn(v.shape, dtype=v.dtype, generator=generator) if k.endswith(("weight", "bias")) else v
        for k, v in state.items()
    }
    found = match_weights(problem, copied_state(problem.model), noisy)
    assert [order[list(p)].tolist() for order, p in zip(orders, found.permutations, strict=True)] == [
        list(range(len(order))) for order in orders
    ]


@pytest.mark.parametrize("name", ["mlp", "resnet-bn"])
def test_alignment_of_strangers_lowers_the_distance_and_keeps_the_function(name: str) -> None:
    problem, stranger = objective(name), copied_state(network(name, seed=5))
    before = copied_state(problem.model)
    found = match_weights(problem, problem.model.state_dict(), stranger)
    assert found.distance_after < found.distance_before
    own, image = network(name, seed=5), network(name)
    image.load_state_dict({**problem.unflatten(found.state.theta), **found.state.buffers}, strict=False)
    with torch.no_grad():
        torch.testing.assert_close(image(data(4)[0]), own(data(4)[0]), rtol=1e-11, atol=1e-11)
    assert all(torch.equal(before[key], each) for key, each in problem.model.state_dict().items())
    assert found.function_change < 1e-12 and not found.exact


def test_a_wrong_permutation_would_be_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    problem = objective("mlp")
    monkeypatch.setattr(alignment, "find_groups", lambda *a: [group_of_rows_alone()])
    with pytest.raises(InvalidData, match="computes another function"):
        match_weights(problem, problem.model.state_dict(), planted(problem.model, 0)[0])


def group_of_rows_alone():
    from critpoints.landscape.permutations import Group, Slot

    return Group(9, (Slot("1.weight", 0), Slot("1.bias", 0)))


@pytest.mark.parametrize("activation", ["sigmoid", "tanh", "softplus"])
@pytest.mark.parametrize("seed", range(3))
def test_students_are_aligned_by_their_exact_group(activation: str, seed: int) -> None:
    problem = cp.TeacherStudent.grid(activation)
    theta = problem.embed(6)
    image = apply(problem, random_element(problem, theta, np.random.default_rng(seed)), theta)
    found = compare_barriers(problem, theta, image, points=11)
    assert found.alignment.distance_after == pytest.approx(0, abs=1e-12)
    assert barrier(found.after.losses.train_loss) < 1e-25
    assert found.alignment.exact and found.alignment.function_change < 1e-12
    if found.alignment.distance_before > 0.1:
        assert barrier(found.before.losses.train_loss) > 1e-4
    document = found.to_dict()
    assert document["train_barrier_before"] == float(barrier(found.before.losses.train_loss))


def test_both_barriers_of_a_planted_permutation() -> None:
    problem = objective("cnn-bn")
    found = compare_barriers(
        problem, problem.model.state_dict(), planted(problem.model, 0)[0], points=5, batch_norm="recalibrate"
    )
    assert barrier(found.after.losses.train_loss) == pytest.approx(0, abs=1e-12)
    assert barrier(found.before.losses.train_loss) > 1e-3


class Doubled(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(36, 5), nn.Linear(5, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.b(self.b(self.a(x.flatten(1))).relu())


class Branches(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x if x.sum() > 0 else -x


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (build("lstm", SHAPE, 3, seed=0, dtype=torch.float64), "calls transpose"),
        (Doubled().double(), "'b' runs more than once"),
        (nn.Sequential(nn.Conv2d(1, 4, 3), nn.GroupNorm(2, 4), nn.Flatten()).double(), "is a GroupNorm"),
        (nn.Sequential(nn.Conv2d(1, 4, 3), nn.Conv2d(4, 4, 3, groups=2), nn.Flatten()).double(), "is a Conv2d"),
        (nn.Sequential(nn.Linear(6, 5), nn.Flatten(), nn.Linear(30, 3)).double(), "'0' is a Linear"),
        (nn.Sequential(Branches(), nn.Flatten(), nn.Linear(36, 3)).double(), "cannot be traced"),
    ],
    ids=["lstm", "twice", "group norm", "groups", "linear on images", "branches"],
)
def test_channels_that_cannot_be_followed_are_named(model: nn.Module, message: str) -> None:
    with pytest.raises(InvalidArgument, match=message):
        find_groups(model, data()[0])


def test_what_does_not_fit_is_named() -> None:
    problem = objective("cnn-bn")
    state = problem.model.state_dict()
    with pytest.raises(InvalidArgument, match="b must bring the statistics of BatchNorm"):
        match_weights(problem, state, problem.parameters_vector())
    with pytest.raises(InvalidArgument, match="b belongs to another architecture"):
        match_weights(problem, state, network("cnn").state_dict())
    polynomial = cp.PolynomialObjective({(2, 0): 1, (0, 2): 1})
    with pytest.raises(InvalidArgument, match="no symmetry of a PolynomialObjective is known"):
        match_weights(polynomial, torch.zeros(2).double(), torch.ones(2).double())
    closure = cp.ModuleObjective(
        network("mlp"), lambda model, batch: F.cross_entropy(model(batch[0]), batch[1]), data(), closure=True
    )
    with pytest.raises(InvalidArgument, match=r"must have a loss_fn"):
        match_weights(closure, network("mlp").state_dict(), network("mlp").state_dict())
    frozen = network("mlp")
    frozen[1].bias.requires_grad_(False)
    with pytest.raises(InvalidArgument, match=r"'1\.bias' is frozen or tied"):
        own = cp.ModuleObjective(frozen, F.cross_entropy, data())
        match_weights(own, own.parameters_vector(), own.parameters_vector())
