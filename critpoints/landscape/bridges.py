"""Saddles between leaves that nothing joins yet: elastic bands to the nearest minima, then a search of index 1."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from critpoints.landscape.paths import find_band
from critpoints.landscape.saddle_census import CriticalEntry, take_saddle_census
from critpoints.objectives.two_layer import TwoLayerObjective
from critpoints.solvers.base import Callback
from critpoints.solvers.saddle_search import search_saddles
from critpoints.symmetry.canonical import orbit_distance

NEAREST = 4  # minima that a band goes to from each leaf
ITERATIONS = 60  # of a band: its top need not be exact
TOPS = 3  # images of a band from which searches start
SEARCH = 150  # iterations of a search
SAME = 1e-10  # relative difference of the losses of one saddle


def find_bridges(
    problem: TwoLayerObjective,
    leaves: Sequence[Tensor],
    minima: Tensor,
    known: Sequence[CriticalEntry],
    *,
    callback: Callback | None = None,
) -> list[CriticalEntry]:
    """Proven saddles of index 1 that are not ``known``, next to bands from each leaf (P,) to the nearest minima (K, P).

    The bands are aligned modulo the group. Where a saddle leads is for its two ways down to say.

    Args:
        callback: callback(bands done, bands).
    """
    tops: list[Tensor] = []
    for number, leaf in enumerate(leaves):
        nearest = sorted(range(len(minima)), key=lambda k: orbit_distance(problem, minima[k], leaf))[:NEAREST]
        for place, k in enumerate(nearest):
            band = find_band(problem, leaf, minima[k], max_iterations=ITERATIONS)
            inner = band.loss[1:-1]
            highest = inner.nan_to_num(nan=-torch.inf).argsort(descending=True)[:TOPS] + 1
            tops += [image for image in band.images[highest] if bool(torch.isfinite(image).all())]
            if callback is not None:
                callback(number * NEAREST + place + 1, len(leaves) * NEAREST)
    if not tops:
        return []
    found = search_saddles(problem, torch.stack(tops), index=1, max_iterations=SEARCH)
    census = take_saddle_census(problem, found, max_index=1)
    new = [entry for entry in census.saddles if entry.certificate is not None and entry.verdict.index == 1]
    return [entry for entry in new if not any(_same(entry, other) for other in known)]


def _same(entry: CriticalEntry, other: CriticalEntry) -> bool:
    close = abs(entry.verdict.loss - other.verdict.loss) <= SAME * other.verdict.loss
    return close and (entry.origin, entry.verdict.index) == (other.origin, other.verdict.index)
