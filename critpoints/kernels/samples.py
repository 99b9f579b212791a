"""Samples: the data of a two-layer objective in the form that every kernel reads.

Mirrored data. Let s(-z) = k - s(z) (sigmoid: k = 1; odd activations: k = 0), let the data be symmetric under
x -> -x with equal weights, and let the labels obey y(-x) = c - y(x). With the residual e(x) and
B = k sum_j a_j + 2 b - c (b the output bias) the residual of the mirror image is B - e(x). Centring, with
e~(x) = sum_j a_j (s(w_j.x) - k/2) - (y - c/2), gives e(x) = e~(x) + B/2 and e(-x)^2 + e(x)^2 = 2 e~(x)^2 + B^2/2, so

    sum_i q_i e_i^2 = sum over one half of (2 q_i) e~_i^2  +  (sum_i q_i) B^2 / 4.

Half of the data with doubled weights, plus one quadratic in the output weights: exact, at half the price.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from critpoints.activations import Activation
from critpoints.kernels.lattice import find_runs

BLOCK = 432  # samples that the compiled kernels take at a time: a width-5 student then fits a 48 KiB first-level cache
LANES = 16  # the compiled kernels read the samples in groups of this size; the padding has weight zero


@dataclass(frozen=True)
class Samples:
    """Prepared data: loss(theta) = sum_i weights_i e~_i^2 + balance_weight * B^2 (see the module's docstring).

    Attributes:
        inputs: (d, n), one row per input dimension, padded with zeros to a multiple of ``LANES``.
        targets: (n,), y - c/2 when halved.
        weights: (n,), normalised, times the objective's scale; zero on the padding.
        activation: the activation of the hidden layer.
        output_bias: whether the last parameter is an output bias.
        centre: what is subtracted from every activation (k/2 when halved, else 0).
        reflection, shift: k and c.
        balance_weight: the factor of B^2, 0 when not halved.
        count: samples that the data stand for, before halving.
        levels, runs: the lattice that the samples lie on (lattice.py); empty if they do not.
    """

    inputs: Tensor
    targets: Tensor
    weights: Tensor
    activation: Activation
    output_bias: bool
    centre: float
    reflection: float
    shift: float
    balance_weight: float
    count: int
    levels: tuple[Tensor, Tensor]
    runs: Tensor

    @property
    def halved(self) -> bool:
        """Whether only one half of mirrored data is kept."""
        return self.balance_weight > 0

    def width(self, n_parameters: int) -> int:
        """The number of hidden neurons of a student with ``n_parameters`` parameters."""
        return (n_parameters - int(self.output_bias)) // (self.inputs.shape[0] + 1)

    def to(self, device: torch.device | str, dtype: torch.dtype | None = None) -> Samples:
        """The same samples on another device or in another dtype."""
        moved = {k: getattr(self, k).to(device, dtype) for k in ("inputs", "targets", "weights")}
        return Samples(**{**self.__dict__, **moved})


def prepare(
    x: Tensor,
    y: Tensor,
    q: Tensor,
    activation: Activation,
    *,
    output_bias: bool = False,
    mirror: bool = True,
) -> Samples:
    """Prepares inputs x (N, d), targets y (N,) and weights q (N,) for the kernels; halves mirrored data.

    Args:
        mirror: look for the mirror symmetry; False keeps the full data.
    """
    centre = reflection = shift = balance_weight = 0.0
    count = x.shape[0]
    half = _find_mirror(x, y, q) if mirror and activation.reflection is not None else None
    if half is not None:
        keep, targets, weights, shift = half
        reflection = float(activation.reflection or 0.0)
        centre = 0.5 * reflection
        balance_weight = 0.25 * float(q.sum())
        x = x[torch.from_numpy(keep)]
        y, q = torch.from_numpy(targets).to(y), torch.from_numpy(weights).to(q)
    padding = -x.shape[0] % LANES
    lattice = find_runs(x.detach().cpu().numpy().astype(np.float64), BLOCK)
    levels, runs = (torch.zeros(0), torch.zeros(0)), torch.zeros((0, 4), dtype=torch.int64)
    if lattice is not None:
        levels = (torch.from_numpy(lattice.levels[0]), torch.from_numpy(lattice.levels[1]))
        runs = torch.from_numpy(lattice.runs)
    return Samples(
        inputs=torch.nn.functional.pad(x, (0, 0, 0, padding)).T.contiguous(),
        targets=torch.nn.functional.pad(y, (0, padding)),
        weights=torch.nn.functional.pad(q, (0, padding)),
        activation=activation,
        output_bias=output_bias,
        centre=centre,
        reflection=reflection,
        shift=shift,
        balance_weight=balance_weight,
        count=count,
        levels=levels,
        runs=runs,
    )


def _find_mirror(
    x: Tensor, y: Tensor, q: Tensor
) -> tuple[NDArray[np.intp], NDArray[np.float64], NDArray[np.float64], float] | None:
    """Indices of one half, its centred targets, its doubled weights and c; None if the data are not mirrored.

    A label pair may miss y(-x) + y(x) = c by the rounding of its own evaluation, a few units in the last place.
    """
    points, labels, weights = (t.detach().cpu().numpy().astype(np.float64) for t in (x, y, q))
    points = points + 0.0  # no negative zeros, which would sort apart
    order = np.lexsort(points.T[::-1])
    mirrored = order[::-1]  # -x sorts in the reverse order of x
    if not np.array_equal(points[order], -points[mirrored]):
        return None
    if len(np.unique(points[order], axis=0)) != len(points) or not np.array_equal(weights[order], weights[mirrored]):
        return None
    sums = labels[order] + labels[mirrored]
    shift = float(np.median(sums))
    scale = max(1.0, float(np.abs(labels).max()))
    if np.abs(sums - shift).max() > 8 * np.finfo(np.float64).eps * scale:
        return None
    n_half = (len(points) + 1) // 2
    first, second = order[:n_half], mirrored[:n_half]
    targets = 0.5 * (labels[first] - labels[second])
    doubled = np.where(first == second, weights[first], 2 * weights[first])  # the origin is its own image
    return first, targets, doubled, shift
