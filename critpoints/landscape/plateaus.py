"""Plateaus: the connected sets of students that compute what a narrower critical point computes, and what lies below.

A neuron of output weight zero may have any weights, and copies of one neuron may share its output weight in any way:
the loss stays L(theta*). From (mu, 1 - mu) a student gets to mu = 1, moves the weights of the copy that is silent there
to those of any other neuron, and goes on along that one's line. So all splits of theta* and theta* with silent neurons
are one connected set, up to the order of the neurons, at the height L(theta*), and whatever descent reaches from any of
its points is joined there. The embeddings: K. Fukumizu and S. Amari (2000), B. Simsek et al. (arXiv 2105.12221).

The highest plateau is that of the student without neurons, f = 0: any weights, no output weights. The loss is convex in
the output weights, so that it nowhere exceeds that height on the straight way from there to any student below it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations, islice

import torch
from torch import Tensor

from critpoints.census import same_modulo_reflection
from critpoints.descent import descend_from_saddles, walk_down
from critpoints.errors import require
from critpoints.landscape.saddle_census import SAME_POINT, CriticalEntry
from critpoints.objectives.two_layer import TwoLayerObjective
from critpoints.solvers.base import Callback
from critpoints.solvers.escaping import gaussian_directions
from critpoints.symmetry.splitting import split
from critpoints.verdict import Kind, Verdict

SHARES = (0.5, 0.9, 1.1, 2.0)  # mu on a line: between its ends, and beyond
LINE, SILENT, AIMED = "line", "silent neuron", "silent neuron with weights of the leaf"
THERE, STRAIGHT = "none, it lies on the plateau", "straight, from f = 0"
SUBSETS = 5  # sets of a leaf's neurons whose weights are tried from each plateau


@dataclass(frozen=True)
class Plateau:
    """The set, by the critical point of a narrower student.

    Attributes:
        small: (P',).
        loss: its height.
        certificate: checksum of the certificate of a saddle on it, which contains the proof about ``small``.
    """

    small: Tensor
    loss: float
    certificate: str


@dataclass(frozen=True)
class WayDown:
    """A descent from a plateau.

    Attributes:
        plateau: its number.
        start: (P,), on the plateau.
        kind: ``LINE``: down from a strict saddle on a saddle line; ``SILENT``: along the gradient; ``THERE``: the start
            is a degenerate minimum; ``AIMED``: as ``SILENT``, with weights of a given end; ``STRAIGHT``: along a line.
        end: the verdict on the end point.
    """

    plateau: int
    start: Tensor
    kind: str
    end: Verdict


def find_plateaus(problem: TwoLayerObjective, entries: Sequence[CriticalEntry]) -> list[Plateau]:
    """The distinct plateaus that the proven saddles among ``entries`` lie on, the lowest first."""
    found: list[Plateau] = []
    for entry in sorted(entries, key=lambda entry: entry.verdict.loss):
        if entry.certificate is None or entry.small is None or entry.parent is None or entry.parent.constant:
            continue
        if not entry.is_saddle:
            continue
        known = (each for each in found if each.small.shape == entry.small.shape)
        if not any(_same(problem, each.small, entry.small) for each in known):
            found.append(Plateau(entry.small, entry.verdict.loss, entry.certificate.checksum))
    return found


def _same(problem: TwoLayerObjective, small: Tensor, other: Tensor) -> bool:
    return not len(small) or same_modulo_reflection(problem, small, other, SAME_POINT)


def descend_from_plateaus(
    problem: TwoLayerObjective,
    plateaus: Sequence[Plateau],
    width: int,
    *,
    directions: int = 24,
    method: str = "monotone",
    callback: Callback | None = None,
) -> list[WayDown]:
    """Where descent leads from students of ``width`` on plateaus.

    It starts from several places on each saddle line, on both sides, and from silent neurons of random weights. Where a
    saddle line has a part that is a degenerate minimum, that lies on the plateau, and there is no way to go.

    Args:
        directions: students with silent neurons, for each plateau.
        method: of the ways down from saddles, as for ``descend_from_saddles``.
        callback: callback(ways down finished, ways down), of each of the two kinds.

    Raises:
        InvalidArgument: a plateau of no narrower width.
    """
    lines: list[tuple[int, Tensor]] = []
    silent: list[tuple[int, Tensor]] = []
    for number, plateau in enumerate(plateaus):
        narrow = problem.width(plateau.small) if len(plateau.small) else 0
        require(narrow < width, f"a plateau of width {narrow} is none among students of width {width}")
        if narrow == width - 1 and narrow:
            for neuron in range(narrow):
                lines += [(number, split(problem, plateau.small, neuron, (mu, 1 - mu))) for mu in SHARES]
        silent += [(number, point) for point in _with_silent(problem, plateau.small, width - narrow, directions)]
    found: list[WayDown] = []
    if lines:
        points = torch.stack([point for _, point in lines])
        ways = descend_from_saddles(problem, points, directions=2, method=method, callback=callback)
        for (number, start), each in zip(lines, ways, strict=True):
            found += [WayDown(number, start, LINE, branch.end) for branch in each.branches]
            if each.saddle.kind is Kind.DEGENERATE_MINIMUM:
                found.append(WayDown(number, start, THERE, each.saddle))
    if silent:
        points = torch.stack([point for _, point in silent])
        ends = walk_down(problem, _step_down(problem, points), callback=callback)
        found += [WayDown(number, start, SILENT, end) for (number, start), end in zip(silent, ends, strict=True)]
    return found


def aim_from_plateaus(
    problem: TwoLayerObjective,
    plateaus: Sequence[Plateau],
    targets: Sequence[Verdict],
    *,
    callback: Callback | None = None,
) -> list[WayDown]:
    """Ways down from plateaus above each target, from silent neurons with the weights of some of its neurons.

    They may end elsewhere. From the plateau of f = 0 the way is straight, and ends at the target. A degenerate minimum
    lies on the plateau of the student that it is a split of.
    """
    starts: list[tuple[int, Tensor]] = []
    found: list[WayDown] = []
    for target in targets:
        w, a = problem.split(target.theta)
        reduced = torch.tensor(target.evidence.figures.get("reduced_theta", []), dtype=w.dtype)
        for number, plateau in enumerate(plateaus):
            if len(reduced) and reduced.shape == plateau.small.shape and _same(problem, reduced, plateau.small):
                found.append(WayDown(number, target.theta, THERE, target))
                continue
            if plateau.loss <= target.loss:
                continue
            if not len(plateau.small):
                found.append(WayDown(number, torch.cat([w.flatten(), torch.zeros_like(a)]), STRAIGHT, target))
                continue
            extra = len(a) - problem.width(plateau.small)
            for rows in islice(combinations(range(len(a)), extra), SUBSETS):
                starts.append((number, _insert(problem, plateau.small, w[list(rows)])))
    if starts:
        points = torch.stack([point for _, point in starts])
        ends = walk_down(problem, _step_down(problem, points), callback=callback)
        found += [WayDown(number, start, AIMED, end) for (number, start), end in zip(starts, ends, strict=True)]
    return found


def _with_silent(problem: TwoLayerObjective, small: Tensor, extra: int, count: int) -> list[Tensor]:
    """``small`` with silent neurons, their weights Gaussian of the size of its own."""
    d = problem.n_inputs
    own = small[: (d * (len(small) - int(problem.output_bias))) // (d + 1)]
    size = float(own.square().mean().sqrt()) if len(own) else 1.0
    weights = size * gaussian_directions(extra * d, range(count), extra, normalised=False).to(small)
    return [_insert(problem, small, row.reshape(extra, d)) for row in weights]


def _insert(problem: TwoLayerObjective, small: Tensor, weights: Tensor) -> Tensor:
    """``small`` with silent neurons of these weights (K, d)."""
    body = small[: len(small) - int(problem.output_bias)]
    at = len(body) - len(body) // (problem.n_inputs + 1)
    return torch.cat([body[:at], weights.flatten(), body[at:], weights.new_zeros(len(weights)), small[len(body) :]])


def _step_down(problem: TwoLayerObjective, points: Tensor) -> Tensor:
    """The lowest points of the lines along the gradient, which is that of the output weights: the loss is quadratic."""
    here = problem.second_order(points)
    gradient = here.gradient
    curvature = ((here.hessian * gradient.unsqueeze(-2)).sum(-1) * gradient).sum(-1)
    length = gradient.square().sum(-1) / curvature.clamp(min=torch.finfo(points.dtype).tiny)
    return points - length.unsqueeze(-1) * gradient
