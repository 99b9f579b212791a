"""Channels to infinity: whether a student lies in one, and whether descent follows it.

A point in a channel is no minimum and has none nearby, however small its gradient is; the limit network (limits.py)
has one, with finite parameters. A channel is claimed only with all of: a nondegenerate minimum of the limit network,
C > 0 for every scale that diverges, the student near it in channel coordinates, and a loss above the limit's by about
C/d^p. Source: arXiv 2506.14951.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import combinations, product
from typing import Any

import torch
from torch import Tensor

from critpoints.curvature.dense import eigensystem, eigenvalue_noise, row_norm
from critpoints.curvature.steadiness import is_steady
from critpoints.objectives.limit import LimitObjective, LimitShape
from critpoints.objectives.two_layer import TwoLayerObjective
from critpoints.solvers.refinement import refine
from critpoints.symmetry.limits import (
    Group,
    LimitPoint,
    coefficients,
    independent_coefficients,
    to_limit,
    zero_unit_stability,
)
from critpoints.symmetry.reduction import Reduction, merge_duplicates

CLOSE = 1.2  # directions of a pair may differ by this fraction of their length where a channel is first suspected
OPPOSITE = 0.75  # and the output weights may add up to this fraction of the largest one
NEAR_ZERO = 0.3  # pre-activations' slope below which a neuron may belong to the group at zero
MAX_CLUSTERS = 3
MAX_GUESSES = 6
WIDE = 10  # students of more neurons have millions of choices: their nearest pairs are combined, and no triples
MAX_PAIRS, MAX_SMALL = 10, 3
WORSE = 3.0  # a guess whose limit network starts with this many times the student's loss is dropped
GRADIENT = 1e-13
DUPLICATE = 5e-3  # neurons this near count as one where a channel of a smaller student is suspected
OFFSET = 0.1  # first-order theory holds: the student this near to the limit, and its excess loss C/d^p up to a factor
RATIO = 1.5


@dataclass(frozen=True)
class Channel:
    """A channel that a student lies in.

    Attributes:
        group: the diverging neurons.
        shape, limit: the limit network and its parameters at its minimum.
        limit_loss: L_inf.
        smallest_eigenvalue: of the limit network's Hessian.
        coefficients: C of every independent scale, positive: L = L_inf + sum C/d^p.
        distances: the scales d of the student: of every pair, every triple, the group at zero.
        offset: relative distance of the student, in channel coordinates, from the limit.
        excess_ratio: (L - L_inf) / sum C/d^p, 1 far out in the channel.
        reduction: where the channel is that of a smaller student some of whose neurons are split.
    """

    group: Group
    shape: LimitShape
    limit: Tensor
    limit_loss: float
    smallest_eigenvalue: float
    coefficients: tuple[float, ...]
    distances: tuple[float, ...]
    offset: float
    excess_ratio: float
    reduction: Reduction | None = None


def _groups(problem: TwoLayerObjective, theta: Tensor) -> list[Group]:
    """Groups of neurons of ``theta`` (P,) that may diverge together: clusters of two or three, and some at zero."""
    w, a = problem.split(theta)
    m, has_parity = len(a), problem.activation.reflection is not None
    signs = (1, -1) if has_parity else (1,)
    pairs = [(i, j, s) for i, j in combinations(range(m), 2) for s in signs if _may_diverge(w, a, (i, j), (1, s))]
    triples = [
        (i, j, k, s, t)
        for i, j, k in combinations(range(m if m <= WIDE else 0), 3)
        for s, t in product(signs, signs)
        if _may_diverge(w, a, (i, j, k), (1, s, t))
    ]
    small = [k for k in range(m) if float(w[k].norm()) <= NEAR_ZERO] if has_parity else []
    if m > WIDE:
        pairs = sorted(pairs, key=lambda pair: float((w[pair[0]] - pair[2] * w[pair[1]]).norm()))[:MAX_PAIRS]
        small = sorted(small, key=lambda k: float(w[k].norm()))[:MAX_SMALL]
    at_zero = [(), *combinations(small, 1), *combinations(small, 2)]
    clusters = [(set(pair[:2]), pair) for pair in pairs] + [(set(triple[:3]), triple) for triple in triples]
    found = []
    for chosen in _disjoint(clusters, MAX_CLUSTERS):
        pair_part = tuple(c for c in chosen if len(c) == 3)
        triple_part = tuple(c for c in chosen if len(c) == 5)
        for zero in at_zero:
            group = Group(pair_part, zero, triple_part)
            size = 2 * len(pair_part) + 3 * len(triple_part) + len(zero)
            if 0 < len(group.members) == size and group.is_balanced(problem):
                found.append(group)
    return found


def _disjoint(clusters: list[tuple[set[int], Any]], most: int) -> list[tuple[Any, ...]]:
    """All choices of up to ``most`` clusters without a common neuron, the empty one first."""
    found: list[tuple[Any, ...]] = [()]
    if most:
        for n, (members, cluster) in enumerate(clusters):
            rest = [(others, c) for others, c in clusters[n + 1 :] if not others & members]
            found += [(cluster, *more) for more in _disjoint(rest, most - 1)]
    return found


def _may_diverge(w: Tensor, a: Tensor, neurons: tuple[int, ...], signs: tuple[int, ...]) -> bool:
    """Whether oriented weight vectors are close enough and output weights nearly cancel."""
    orientation = torch.tensor(signs, dtype=w.dtype)
    vectors, weights = w[list(neurons)] * orientation.unsqueeze(-1), a[list(neurons)] * orientation
    gap = torch.cdist(vectors, vectors).max() / vectors.norm(dim=1).max().clamp(min=1e-300)
    total = weights.sum().abs() / weights.abs().max().clamp(min=1e-300)
    return bool(gap <= CLOSE) and bool(total <= OPPOSITE)


def guesses(problem: TwoLayerObjective, theta: Tensor) -> list[tuple[Group, LimitPoint]]:
    """The most plausible groups of ``theta`` (P,): those whose limit network comes nearest to the student's loss."""
    loss = float(problem.loss(theta))
    ranked = []
    for group in _groups(problem, theta):
        start = to_limit(problem, theta, group)
        there = float(LimitObjective(problem, start.shape).loss(start.theta))
        if there <= WORSE * loss:
            ranked.append((abs(there - loss), len(ranked), group, start))
    return [(group, start) for _, _, group, start in sorted(ranked, key=lambda guess: guess[:2])[:MAX_GUESSES]]


@dataclass(frozen=True)
class Refusal:
    """Why a guess is not a channel."""

    group: Group
    reason: str


def _judge(
    problem: TwoLayerObjective, theta: Tensor, group: Group, start: LimitPoint, end: Tensor, critical: bool
) -> Channel | Refusal:
    objective = LimitObjective(problem, start.shape)
    there = objective.second_order(end[None])
    system = eigensystem(there.hessian)
    values = system.values
    if not critical:
        return Refusal(group, "the limit network did not converge")
    smallest = float(values[0, 0])
    if smallest <= float(eigenvalue_noise(values)[0]):
        return Refusal(group, f"the limit network's smallest eigenvalue is {smallest:.1e}: not a strict minimum")
    if not bool(is_steady(objective, end[None], system, row_norm(there.gradient) + there.gradient_noise)):
        return Refusal(group, "the limit network's weakest curvature is not steady: not shown to be a strict minimum")
    each = coefficients(problem, objective, end)
    independent = independent_coefficients(problem, group, each)
    if min(independent) <= 0:
        return Refusal(group, f"C = {min(independent):.1e} is not positive: the end of the channel repels descent")
    if len(group.at_zero) == 2 and zero_unit_stability(problem, objective, end) <= 0:
        return Refusal(group, "the two neurons at zero do not stay antipodal")
    loss, limit_loss = float(problem.second_order(theta[None]).loss[0]), float(there.loss[0])
    if loss <= limit_loss:
        return Refusal(group, "the loss is already below the limit's")
    offset = float((start.theta - end).norm()) / (1 + float(end.norm()))
    ratio = (loss - limit_loss) / sum(c / d**p for c, d, p in zip(each, start.scales, group.powers, strict=True))
    if offset > OFFSET or not 1 / RATIO <= ratio <= RATIO:
        return Refusal(group, f"too far from the limit: offset {offset:.2g}, excess loss {ratio:.2g} times C/d^p")
    return Channel(group, start.shape, end, limit_loss, smallest, tuple(independent), start.scales, offset, ratio)


Outcome = Channel | list[Refusal]


def _search(problem: TwoLayerObjective, theta: Tensor) -> list[Outcome]:
    """Tries the guesses of every row of ``theta`` (S, P), the most plausible first, all rows of a shape together."""
    pending = {row: guesses(problem, point) for row, point in enumerate(theta)}
    results: list[Outcome] = [[] for _ in theta]
    for attempt in range(MAX_GUESSES):
        tasks: dict[LimitShape, list[int]] = {}
        for row, tried in pending.items():
            if attempt < len(tried) and isinstance(results[row], list):
                tasks.setdefault(tried[attempt][1].shape, []).append(row)
        for shape, rows in tasks.items():
            starts = torch.stack([pending[row][attempt][1].theta for row in rows])
            ends = refine(LimitObjective(problem, shape), starts, gtol=GRADIENT, max_iterations=100)
            for i, row in enumerate(rows):
                outcome = _judge(problem, theta[row], *pending[row][attempt], ends.theta[i], ends.status[i].is_critical)
                refusals = results[row]
                assert isinstance(refusals, list)
                if isinstance(outcome, Channel):
                    results[row] = outcome
                else:
                    refusals.append(outcome)
    return results


def _split_is_stable(problem: TwoLayerObjective, channel: Channel, reduction: Reduction) -> bool:
    """Whether descent keeps the split neurons together: the sign of Y (splitting.py) at the end of the channel.

    For a diverging neuron k of a pair, Y = a_k E[e s''(w.x) x x^T] + .. grows with d across v, with the sign of a_k;
    along v its leading order vanishes at a critical limit network, and the next order is 3 C / 2 > 0. For a neuron at
    zero, where s'' is linear, Y is a positive multiple of Z (limits.py). Copies of a triple's neurons are not decided.
    """
    objective = LimitObjective(problem, channel.shape)
    p = objective.parts(channel.limit)
    x, s = problem.features, problem.activation
    weighted = problem.scale * problem.sample_weight * (objective.predict(channel.limit) - problem.y)
    a = problem.split(reduction.theta)[1]
    group = channel.group
    rest = [k for k in range(len(a)) if k not in group.members]
    for k in reduction.duplicated:
        positive = sum(share > 0 for share in reduction.shares[k])
        if k in rest:
            row = rest.index(k)
            y = (x.T * (weighted * p.a[row] * s.derivative(x @ p.w[row], 2))) @ x
            values = torch.linalg.eigvalsh(y if positive == len(reduction.shares[k]) else -y)
            if float(values[0]) <= 0 or positive not in (1, len(reduction.shares[k])):
                return False
            continue
        if positive < len(reduction.shares[k]):
            return False
        if k in group.at_zero:
            if zero_unit_stability(problem, objective, channel.limit) <= 0:
                return False
            continue
        row = next((r for r, (i, j, _) in enumerate(group.pairs) if k in (i, j)), None)
        if row is None:
            return False
        _, j, sign = group.pairs[row]
        bend = (x.T * (weighted * s.derivative(x @ p.centre[row], 2))) @ x
        across = torch.linalg.svd(p.gate[row][None]).Vh[1:]
        orientation = sign if k == j else 1
        if len(across) and float(torch.linalg.eigvalsh(orientation * a[k].sign() * across @ bend @ across.T)[0]) <= 0:
            return False
    return True


def find_channels(problem: TwoLayerObjective, theta: Tensor) -> list[Outcome]:
    """For each row of ``theta`` (S, P): the channel it lies in, or what speaks against every guess.

    Rows with duplicated neurons are also looked at as smaller students whose neurons were split.
    """
    theta = problem.validate(theta).detach()
    results = _search(problem, theta)
    merged: dict[int, list[tuple[int, Reduction]]] = {}
    for row, result in enumerate(results):
        reduction = None if isinstance(result, Channel) else merge_duplicates(problem, theta[row], DUPLICATE)
        if reduction is not None:
            merged.setdefault(len(reduction.theta), []).append((row, reduction))
    for cases in merged.values():
        for (row, reduction), found in zip(
            cases, _search(problem, torch.stack([r.theta for _, r in cases])), strict=True
        ):
            refusals = results[row]
            assert isinstance(refusals, list)
            if not isinstance(found, Channel):
                refusals += found
            elif _split_is_stable(problem, found, reduction):
                results[row] = replace(found, reduction=reduction)
            else:
                refusals.append(Refusal(found.group, "the copies of a split neuron are not shown to stay together"))
    return results
