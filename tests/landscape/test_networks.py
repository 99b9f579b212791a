import pytest
import torch
from torch import nn

from critpoints.errors import InvalidArgument
from critpoints.landscape import networks
from critpoints.landscape.networks import build


def n_parameters(model: nn.Module) -> int:
    return sum(each.numel() for each in model.parameters())


# counted by hand: sums of (inputs * kernel + 1) * outputs, plus 2 a channel of a BatchNorm
@pytest.mark.parametrize(
    ("architecture", "shape", "count"),
    [
        ("fully-connected", (1, 28, 28), 784 * 300 + 300 + 300 * 100 + 100 + 100 * 10 + 10),
        ("lipton-cnn", (1, 28, 28), networks.LIPTON_PARAMETERS),
        ("vgg", (3, 32, 32), 14_728_266),  # 14,710,464 weights of convolutions, 3 x 4224 beside them, 5130 at the end
        ("resnet", (3, 32, 32), 272_474),
    ],
)
def test_the_papers_networks_have_their_numbers_of_parameters(architecture: str, shape: tuple, count: int) -> None:
    assert n_parameters(build(architecture, shape, seed=0)) == count


@pytest.mark.parametrize(
    ("architecture", "options"),
    [
        ("fully-connected", {}),
        ("vgg", {"plan": (4, "M", 6), "batch_norm": True}),
        ("vgg", {"plan": (4, "M", 6), "batch_norm": False}),
        ("resnet", {"width": 4, "blocks": 1, "batch_norm": True}),
        ("resnet", {"width": 4, "blocks": 1, "batch_norm": False}),
        ("lipton-cnn", {"channels": (4, 5, 6), "hidden": 7, "paddings": (2, 1, 1)}),
        ("lstm", {"hidden": 8}),
    ],
    ids=str,
)
def test_digits_are_classified_and_weights_depend_on_the_seed_alone(architecture: str, options: dict) -> None:
    model = build(architecture, (1, 8, 8), 10, seed=3, dtype=torch.float64, **options)
    assert model(torch.randn(5, 1, 8, 8, dtype=torch.float64)).shape == (5, 10)
    before = torch.get_rng_state()
    torch.rand(10)
    drawn = torch.get_rng_state()
    again = build(architecture, (1, 8, 8), 10, seed=3, dtype=torch.float64, **options)
    assert torch.equal(torch.get_rng_state(), drawn)
    assert not torch.equal(before, drawn)
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), again.parameters(), strict=True))
    other = build(architecture, (1, 8, 8), 10, seed=4, dtype=torch.float64, **options)
    assert not torch.equal(next(other.parameters()), next(model.parameters()))
    has_norm = any(isinstance(each, nn.BatchNorm2d) for each in model.modules())
    assert has_norm == options.get("batch_norm", False)


def test_the_lstm_reads_rows_in_their_order() -> None:
    model = build("lstm", (1, 8, 8), seed=0, hidden=8)
    x = torch.randn(2, 1, 8, 8)
    assert not torch.allclose(model(x), model(x.flip(2)))
    late = x.clone()
    late[:, :, -1] = 0  # the last row reaches the last state
    assert not torch.allclose(model(x), model(late))


def test_an_unknown_architecture_is_refused() -> None:
    with pytest.raises(InvalidArgument, match="architecture must be one of fully-connected, vgg"):
        build("transformer", (1, 8, 8), seed=0)


def test_initialisations_have_their_scales() -> None:
    layer = lambda model: next(each for each in model.modules() if isinstance(each, nn.Linear)).weight.detach()  # noqa: E731
    torch_own, openlth = (
        layer(build("fully-connected", (1, 20, 20), seed=0, initialisation=name)) for name in ("torch", "openlth")
    )
    assert float(openlth.square().mean()) == pytest.approx(2 / 400, rel=0.03)
    assert float(torch_own.square().mean()) == pytest.approx(1 / 1200, rel=0.03)
    scales = next(m for m in build("vgg", (1, 8, 8), seed=0).modules() if isinstance(m, nn.BatchNorm2d)).weight.detach()
    assert 0 < float(scales.min()) < float(scales.max()) < 1
    with pytest.raises(InvalidArgument, match="initialisation must be one of openlth, torch"):
        build("vgg", (1, 8, 8), seed=0, initialisation="zeros")
