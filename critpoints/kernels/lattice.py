"""Lattice data: on a product of axes, exp(w.x) is a product of few exponentials.

On a 41 x 41 grid a neuron needs 82 exponentials, not 1681: exp(-z) = exp(-w_1 x_1) exp(-w_2 x_2), and, accurate where
z is small, expm1(a + b) = expm1(a) expm1(b) + expm1(a) + expm1(b). The samples are kept as runs, along which the first
coordinate stays and the second one goes up its levels; any data in the plane that fall into long runs qualify.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

SHORTEST = 8.0  # mean length of the runs for which the products pay


@dataclass(frozen=True)
class Runs:
    """The levels of each axis, sorted, and the runs (R, 4) of the samples."""

    levels: tuple[NDArray[np.float64], NDArray[np.float64]]
    runs: NDArray[np.int64]


def find_runs(x: NDArray[np.float64], block: int) -> Runs | None:
    """The runs of samples x (N, 2); None if they do not form long ones.

    A run is (first sample, length, level of the first coordinate, first level of the second one); runs end at
    multiples of ``block``.
    """
    if x.shape[1] != 2 or len(x) == 0:
        return None
    axes = (np.unique(x[:, 0]), np.unique(x[:, 1]))
    level = [np.searchsorted(axis, x[:, j]) for j, axis in enumerate(axes)]
    continues = (np.diff(level[0]) == 0) & (np.diff(level[1]) == 1) & (np.arange(1, len(x)) % block != 0)
    starts = np.concatenate([[0], np.nonzero(~continues)[0] + 1])
    if len(x) / len(starts) < SHORTEST:
        return None
    lengths = np.diff(np.concatenate([starts, [len(x)]]))
    return Runs(axes, np.stack([starts, lengths, level[0][starts], level[1][starts]], axis=1).astype(np.int64))
