"""Where saddle searches start: next to trajectories and saddle lines, between minima; and what theory predicts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import torch
from torch import Tensor

from critpoints.census import same_modulo_reflection
from critpoints.errors import require
from critpoints.landscape.saddle_census import SAME_POINT, SPLIT, SaddleCensus, carried
from critpoints.objectives.two_layer import TwoLayerObjective
from critpoints.solvers.escaping import gaussian_directions
from critpoints.symmetry.canonical import align
from critpoints.symmetry.group import apply
from critpoints.symmetry.splitting import Inertia, predicted_inertia, split

BETWEEN, OUTSIDE = (0.5, 0.5), (1.5, -0.5)  # shares on the two parts of a saddle line, which differ in their inertia
PLACES = {  # on each part, where searches start beside it: from its middle to its ends, where other curvatures fade
    BETWEEN: (BETWEEN, (0.8, 0.2), (0.95, 0.05)),
    OUTSIDE: (OUTSIDE, (1.1, -0.1), (4.0, -3.0)),
}
FARTHEST, CLOSER = 1e-2, 0.1  # relative distance of the first starts from a line, and its factor from one to the next


@dataclass(frozen=True)
class PredictedSaddles:
    """The part of a saddle line on which both shares are positive, or on which one is negative.

    Attributes:
        small: (P',), the narrower critical point.
        neuron: the one that is split.
        shares: of the sample point.
        inertia: of the Hessian all along that part of the line, from ``small`` and Y.
        point: (P,), a sample point.
        source: the number of ``small`` among the points given.
    """

    small: Tensor
    neuron: int
    shares: tuple[float, float]
    inertia: Inertia
    point: Tensor
    source: int

    def to_dict(self) -> dict[str, Any]:
        """A JSON-ready dictionary."""
        inertia = [self.inertia.negative, self.inertia.zero, self.inertia.positive]
        return {"source": self.source, "neuron": self.neuron, "shares": list(self.shares), "inertia": inertia}


def predict_saddles(problem: TwoLayerObjective, points: Tensor) -> list[PredictedSaddles]:
    """The saddles among the splits in two of the critical ``points`` (K, P') of narrower students, part by part.

    Raises:
        InvalidArgument: points is no batch.
    """
    require(points.ndim == 2, f"points must have shape (K, P), got {tuple(points.shape)}")
    found = []
    for source, small in enumerate(points):
        for neuron in range(problem.width(small)):
            for shares in (BETWEEN, OUTSIDE):
                inertia = predicted_inertia(problem, small, {neuron: shares})
                if inertia.negative:
                    point = split(problem, small, neuron, shares)
                    found.append(PredictedSaddles(small, neuron, shares, inertia, point, source))
    return found


@dataclass(frozen=True)
class LineStart:
    """A start beside a saddle line.

    Attributes:
        predicted: the number of the part.
        shares: on the line.
        distance: from there, relative to the length of the point.
    """

    predicted: int
    shares: tuple[float, float]
    distance: float


def line_starts(
    problem: TwoLayerObjective, predicted: Sequence[PredictedSaddles], numbers: Sequence[int], rungs: int
) -> tuple[Tensor, list[LineStart]]:
    """Points beside parts of saddle lines, at several shares and at distances that fall geometrically: (S, P).

    Some of these saddles have curvatures down to 1e-11 and attract searches from nearby alone.

    Args:
        numbers: of the parts; directions are functions of them.
        rungs: distances, the first 1e-2 of the point's length, each a tenth of the one before.
    """
    points, starts = [], []
    for attempt in range(rungs):
        distance = FARTHEST * CLOSER**attempt
        for place in range(len(PLACES[BETWEEN])):
            shares = [PLACES[each.shares][place] for each in predicted]
            on_line = [split(problem, e.small, e.neuron, s) for e, s in zip(predicted, shares, strict=True)]
            points.append(perturb(torch.stack(on_line), distance, numbers, attempt * len(PLACES[BETWEEN]) + place))
            starts += [LineStart(n, s, distance) for n, s in zip(numbers, shares, strict=True)]
    return torch.cat(points), starts


def find_predicted(
    problem: TwoLayerObjective, predicted: Sequence[PredictedSaddles], census: SaddleCensus
) -> list[int | None]:
    """For each prediction the number of the census' entry that is it, or None."""
    wanted: dict[tuple[int, int], list[int]] = {}
    for i, entry in enumerate(census.entries):
        in_two = bool(entry.copies) and max(entry.copies) == 2 and sum(entry.copies) == len(entry.copies) + 1
        if entry.origin == SPLIT and in_two:
            wanted.setdefault((len(entry.copies), entry.verdict.index), []).append(i)
    return [_entry_of(problem, each, census, wanted) for each in predicted]


def _entry_of(
    problem: TwoLayerObjective, each: PredictedSaddles, census: SaddleCensus, wanted: dict[tuple[int, int], list[int]]
) -> int | None:
    split_in_two = (2, sum(share < 0 for share in each.shares))
    for i in wanted.get((problem.width(each.small), each.inertia.negative), []):
        entry = census.entries[i]
        assert entry.small is not None
        if same_modulo_reflection(problem, entry.small, each.small, SAME_POINT):
            neurons = tuple(zip(entry.copies, entry.negative, strict=True))
            if carried(problem, entry.small, each.small, neurons)[each.neuron] == split_in_two:
                return i
    return None


def perturb(points: Tensor, epsilon: float, seeds: Sequence[int], attempt: int = 0) -> Tensor:
    """Points (S, P), each moved by ``epsilon`` times its length in a random direction, a function of its seed alone."""
    directions = gaussian_directions(points.shape[1], seeds, attempt, normalised=True).to(points)
    return points + epsilon * points.norm(dim=-1, keepdim=True) * directions


def midpoints(problem: TwoLayerObjective, minima: Tensor, shares: Sequence[float] = (0.5,)) -> Tensor:
    """Points between every two ``minima`` (K, P), the second one aligned to the first modulo the group: (N, P)."""
    found = []
    for i, j in combinations(range(len(minima)), 2):
        element = align(problem, minima[j], minima[i]).element
        other = apply(problem, element, minima[j])
        found += [(1 - share) * minima[i] + share * other for share in shares]
    return torch.stack(found) if found else minima[:0]
