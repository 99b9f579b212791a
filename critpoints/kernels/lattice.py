"""Lattice data: on a product of axes, exp(w.x) is a product of few exponentials.

On a 41 x 41 grid a neuron needs 82 exponentials, not 1681: exp(-z) = exp(-w_1 x_1) exp(-w_2 x_2), and, accurate where
z is small, expm1(a + b) = expm1(a) expm1(b) + expm1(a) + expm1(b). The samples are kept as runs, along which the first
coordinate stays and the second one goes up its levels; any data in the plane that fall into long runs qualify.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

SHORTEST = 8.0  # mean length of the runs for which the products pay


def find_runs(x: NDArray[np.float64], block: int) -> tuple[NDArray[np.float64], NDArray[np.int64]] | None:
    """Levels (2, L) and runs (R, 4) of samples x (N, 2); None if they do not form long runs.

    A run is (first sample, length, level of the first coordinate, first level of the second one); runs end at
    multiples of ``block``. The levels of an axis are sorted and padded with zeros.
    """
    if x.shape[1] != 2 or len(x) == 0:
        return None
    axes = [np.unique(x[:, j]) for j in range(2)]
    longest = max(len(axis) for axis in axes)
    if longest > block:
        return None
    level = [np.searchsorted(axis, x[:, j]) for j, axis in enumerate(axes)]
    continues = (np.diff(level[0]) == 0) & (np.diff(level[1]) == 1) & (np.arange(1, len(x)) % block != 0)
    starts = np.concatenate([[0], np.nonzero(~continues)[0] + 1])
    if len(x) / len(starts) < SHORTEST:
        return None
    lengths = np.diff(np.concatenate([starts, [len(x)]]))
    levels = np.zeros((2, longest))
    for j, axis in enumerate(axes):
        levels[j, : len(axis)] = axis
    return levels, np.stack([starts, lengths, level[0][starts], level[1][starts]], axis=1).astype(np.int64)
