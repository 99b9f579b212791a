"""Losses of the cells of a plane, from the outputs of their networks: masks, grey levels, decorrelated ensembles."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor
from torch.nn import functional as F

from critpoints.errors import require
from critpoints.landscape.cells import cross_entropies, unlikelihoods

WHITE_LOSSES = ("cut", "cut-samples", "unlikelihood")
CUT = 2.5  # of the cross-entropy of white cells: Skorokhodov and Burtsev 2019, appendix B


class CellLoss(Protocol):
    """A loss of cells, from their outputs.

    Called with outputs (n, B, C), targets (B,), levels (n,) from 0, white, to 1, black, and weights (n,), 1 over the
    number of cells of its colour in the step; returns a scalar. Unless ``coupled``, it is a sum over the cells, which
    are then evaluated a few at a time; a coupled loss costs one more forward pass.
    """

    @property
    def coupled(self) -> bool:
        """Whether it is no sum over the cells."""
        ...

    def __call__(self, outputs: Tensor, y: Tensor, levels: Tensor, weights: Tensor) -> Tensor:
        """The loss, a scalar."""
        ...


@dataclass(frozen=True)
class PatternLoss:
    """Eq. (3): the mean cross-entropy of black cells minus that of white ones, where it is below ``cut``.

    Attributes:
        cut: otherwise it is too easy to have a very large cross-entropy everywhere (appendix B).
        white: of white cells; "cut", the paper's: minus the mean cross-entropy of the batch, cut.
            "cut-samples", ours: each sample's is cut. The mean passes the cut when few samples are wrong by far; so
            this shows better in maps of the accuracy.
            "unlikelihood", ours: the mean of -log(1 - p) instead, p the probability of the right class, without any
            cut. The gradient of minus a cross-entropy vanishes where the network is sure and right, so that a small
            white part that has once gone black stays so; this one's does not, and it vanishes where p does.
            Known as such from language models (Welleck et al., arXiv 1908.04319).
    """

    cut: float = CUT
    white: str = "cut"
    coupled: bool = False

    def __post_init__(self) -> None:
        require(self.white in WHITE_LOSSES, f"white must be one of {', '.join(WHITE_LOSSES)}, got {self.white!r}")

    def __call__(self, outputs: Tensor, y: Tensor, levels: Tensor, weights: Tensor) -> Tensor:
        """See ``CellLoss``."""
        entropies = cross_entropies(outputs, y)
        if self.white == "unlikelihood":
            white = unlikelihoods(outputs, y)
        elif self.white == "cut-samples":
            white = -cross_entropies(outputs, y, self.cut)
        else:
            white = -entropies.clamp(max=self.cut)
        return (weights * torch.where(levels > 0.5, entropies, white)).sum()


@dataclass(frozen=True)
class GreyLoss:
    """The squared distance of each cell's cross-entropy from (1 - level) ``cut``: grey cells lie in between. Ours."""

    cut: float = CUT
    coupled: bool = False

    def __call__(self, outputs: Tensor, y: Tensor, levels: Tensor, weights: Tensor) -> Tensor:
        """See ``CellLoss``."""
        return (weights * (cross_entropies(outputs, y) - (1 - levels) * self.cut).square()).sum()


@dataclass(frozen=True)
class DecorrelatedLoss:
    """Mean cross-entropy plus ``strength`` times the mean product of the errors of two cells, for ensembles.

    Errors are p - onehot(y). Decorrelated errors make a better ensemble: Rosen 1996, eq. (4), for squared errors; the
    authors of the patterns suggest it. Colours do not matter.
    """

    strength: float = 1.0
    coupled: bool = True

    def __call__(self, outputs: Tensor, y: Tensor, levels: Tensor, weights: Tensor) -> Tensor:
        """See ``CellLoss``."""
        n, batch, n_classes = outputs.shape
        errors = (outputs.softmax(-1) - F.one_hot(y, n_classes)).flatten(1)
        products = errors @ errors.T / batch
        between = (products.sum() - products.diagonal().sum()) / max(n * (n - 1), 1)
        return cross_entropies(outputs, y).mean() + self.strength * between
