"""The architectures of the papers on loss landscapes, for images of any size, with and without BatchNorm."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from critpoints.errors import require

Shape = tuple[int, int, int]

POOL = "M"  # an entry of a VGG plan: maximum over 2 x 2
VGG16_PLAN = (64, 64, POOL, 128, 128, POOL, 256, 256, 256, POOL, 512, 512, 512, POOL, 512, 512, 512)
LIPTON_PARAMETERS = 819_557
INITIALISATIONS = ("openlth", "torch")


def fully_connected(shape: Shape, n_classes: int, *, widths: Sequence[int] = (300, 100)) -> nn.Module:
    """Hidden layers of ``widths`` ReLUs; 300-100 is LeNet-300-100 of LeCun et al. 1998."""
    sizes = [math.prod(shape), *widths]
    layers: list[nn.Module] = [nn.Flatten()]
    for n_inputs, n_outputs in itertools.pairwise(sizes):
        layers += [nn.Linear(n_inputs, n_outputs), nn.ReLU()]
    return nn.Sequential(*layers, nn.Linear(sizes[-1], n_classes))


def vgg(shape: Shape, n_classes: int, *, plan: Sequence[int | str] = VGG16_PLAN, batch_norm: bool = True) -> nn.Module:
    """3 x 3 convolutions as listed in ``plan``, a mean over what is left, one linear layer.

    The default is VGG-16 for 32 x 32 images as in OpenLTH (models/cifar_vgg.py), which Frankle 2020 uses.
    """
    layers: list[nn.Module] = []
    n_inputs = shape[0]
    for each in plan:
        if isinstance(each, str):
            layers.append(nn.MaxPool2d(2))
            continue
        layers += [nn.Conv2d(n_inputs, each, 3, padding=1), _norm(each, batch_norm), nn.ReLU()]
        n_inputs = each
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(n_inputs, n_classes))


def _norm(n_channels: int, batch_norm: bool) -> nn.Module:
    return nn.BatchNorm2d(n_channels) if batch_norm else nn.Identity()


class ResidualBlock(nn.Module):
    """Two 3 x 3 convolutions and a shortcut, projected by 1 x 1 where the size changes (He et al. 2016, option B)."""

    def __init__(self, n_inputs: int, n_outputs: int, stride: int, batch_norm: bool) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(n_inputs, n_outputs, 3, stride, 1, bias=not batch_norm)
        self.norm1 = _norm(n_outputs, batch_norm)
        self.conv2 = nn.Conv2d(n_outputs, n_outputs, 3, 1, 1, bias=not batch_norm)
        self.norm2 = _norm(n_outputs, batch_norm)
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or n_inputs != n_outputs:
            self.shortcut = nn.Sequential(
                nn.Conv2d(n_inputs, n_outputs, 1, stride, bias=False), _norm(n_outputs, batch_norm)
            )

    def forward(self, x: Tensor) -> Tensor:
        """(N, n_inputs, H, W) -> (N, n_outputs, H / stride, W / stride)."""
        y = self.norm2(self.conv2(F.relu(self.norm1(self.conv1(x)))))
        return F.relu(y + self.shortcut(x))


def resnet(shape: Shape, n_classes: int, *, blocks: int = 3, width: int = 16, batch_norm: bool = True) -> nn.Module:
    """Three stages of ``blocks`` residual blocks, of 1, 2 and 4 times ``width`` channels; 3 and 16 give ResNet-20."""
    layers: list[nn.Module] = [
        nn.Conv2d(shape[0], width, 3, padding=1, bias=not batch_norm),
        _norm(width, batch_norm),
        nn.ReLU(),
    ]
    n_inputs = width
    for stage in range(3):
        for number in range(blocks):
            stride = 2 if stage > 0 and number == 0 else 1
            layers.append(ResidualBlock(n_inputs, width << stage, stride, batch_norm))
            n_inputs = width << stage
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(n_inputs, n_classes))


def lipton_cnn(
    shape: Shape,
    n_classes: int,
    *,
    channels: Sequence[int] = (32, 64, 128),
    hidden: int = 625,
    paddings: Sequence[int] = (2, 0, 0),
    dropout: Sequence[float] = (0.2, 0.5),
) -> nn.Module:
    """Three 3 x 3 convolutions with pooling and dropout, a hidden layer: Lipton 2016.

    The paper gives the number of parameters alone, 819,557. A network that was much copied at the time
    (github.com/Newmu/Theano-Tutorials, 5_convolutional_net.py) has exactly as many once biases are added: a full
    convolution, pooling that keeps odd borders, 32-64-128 channels and 625 hidden units. So we take it for the one.

    Args:
        dropout: probabilities after the convolutions, and after the hidden layer.
    """
    layers: list[nn.Module] = []
    n_inputs = shape[0]
    for n_outputs, padding in zip(channels, paddings, strict=True):
        layers += [nn.Conv2d(n_inputs, n_outputs, 3, padding=padding), nn.ReLU(), nn.MaxPool2d(2, ceil_mode=True)]
        layers.append(nn.Dropout(dropout[0]))
        n_inputs = n_outputs
    with torch.no_grad():
        n_features = nn.Sequential(*layers, nn.Flatten())(torch.zeros(1, *shape)).shape[1]
    head = (nn.Linear(n_features, hidden), nn.ReLU(), nn.Dropout(dropout[1]), nn.Linear(hidden, n_classes))
    return nn.Sequential(*layers, nn.Flatten(), *head)


class CentredBatchNorm2d(nn.BatchNorm2d):
    """BatchNorm by the statistics of the batch whose scale is ``weight + 1/2``, so that ``weight`` has mean 0.

    Gram-Schmidt among parameter vectors would otherwise make scales negative (Skorokhodov and Burtsev 2019,
    appendix C). Networks on a plane have no statistics of their own to run along.
    """

    def __init__(self, n_channels: int) -> None:
        super().__init__(n_channels, track_running_stats=False)

    def forward(self, input: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, C, H, W)."""
        return F.batch_norm(input, None, None, self.weight + 0.5, self.bias, training=True, eps=self.eps)


def pattern_cnn(
    shape: Shape,
    n_classes: int,
    *,
    channels: Sequence[int] = (8, 32, 64),
    pool: int = 4,
    hidden: int = 128,
    batch_norm: bool = False,
) -> nn.Module:
    """3 x 3 convolutions, a mean over ``pool`` x ``pool`` parts, a hidden layer: Skorokhodov and Burtsev 2019, app. B.

    8-32-64 channels for pictures, 8-8-32-32-64-64 for the study of BatchNorm. Convolutions keep the size of the
    image, as in the authors' code (github.com/universome/loss-patterns).
    """
    layers: list[nn.Module] = []
    n_inputs = shape[0]
    for each in channels:
        norm = CentredBatchNorm2d(each) if batch_norm else nn.Identity()
        layers += [nn.Conv2d(n_inputs, each, 3, padding=1), norm, nn.ReLU()]
        n_inputs = each
    n_features = n_inputs * pool**2
    head = (nn.Linear(n_features, hidden), nn.ReLU(), nn.Linear(hidden, n_classes))
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(pool), nn.Flatten(), *head)


class RowLSTM(nn.Module):
    """An LSTM that reads an image row by row; its last state is classified."""

    def __init__(self, shape: Shape, n_classes: int, *, hidden: int = 64) -> None:
        super().__init__()
        channels, _, width = shape
        self.lstm = nn.LSTM(channels * width, hidden, batch_first=True)
        self.head = nn.Linear(hidden, n_classes)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, n_classes)."""
        rows = x.transpose(1, 2).flatten(2)
        return self.head(self.lstm(rows)[0][:, -1])


ARCHITECTURES: Mapping[str, Callable[..., nn.Module]] = {
    "fully-connected": fully_connected,
    "vgg": vgg,
    "resnet": resnet,
    "lipton-cnn": lipton_cnn,
    "pattern-cnn": pattern_cnn,
    "lstm": RowLSTM,
}


def build(
    architecture: str,
    shape: Shape,
    n_classes: int = 10,
    *,
    seed: int,
    dtype: torch.dtype = torch.float32,
    initialisation: str = "openlth",
    **options: Any,
) -> nn.Module:
    """A network with random weights that depend on the seed alone, in train mode.

    Args:
        architecture: a key of ``ARCHITECTURES``.
        shape: channels, height and width of an image.
        initialisation: "openlth": weights of linear and convolutional layers are normal with variance 2 / fan-in, the
            scales of BatchNorm uniform in (0, 1), as by default in OpenLTH, which Frankle 2020 uses; biases and the
            LSTM keep torch's. "torch": torch's own, uniform weights with variance 1 / (3 fan-in), scales 1.
        options: of the architecture.

    >>> sum(p.numel() for p in build("lipton-cnn", (1, 28, 28), seed=0).parameters())
    819557
    """
    require(
        architecture in ARCHITECTURES, f"architecture must be one of {', '.join(ARCHITECTURES)}, got {architecture!r}"
    )
    require(
        initialisation in INITIALISATIONS,
        f"initialisation must be one of {', '.join(INITIALISATIONS)}, got {initialisation!r}",
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = ARCHITECTURES[architecture](shape, n_classes, **options)
        for module in model.modules() if initialisation == "openlth" else ():
            if isinstance(module, nn.Linear | nn.Conv2d):
                nn.init.kaiming_normal_(module.weight)
            elif isinstance(module, nn.BatchNorm2d):
                low = -0.5 if isinstance(module, CentredBatchNorm2d) else 0.0
                nn.init.uniform_(module.weight, low, low + 1)
    return model.to(dtype)
