"""Channels to infinity: which neurons diverge, which limit network they lead to, and whether descent goes there.

Two neurons w_{i,j} = w +- v/d, a_{i,j} = c/2 +- d/2 (d = a_i - a_j) compute c s(w.x) + (v.x) s'(w.x) up to a term of
order d^-2, so that L = L_inf + C/d^2 along the channel. The point itself has no minimum nearby however small its
gradient is; the limit network has one, with finite parameters. A channel is claimed only with all of: a nondegenerate
minimum of the limit network, C > 0 for every scale that diverges, the student near it in channel coordinates, and a
loss above the limit's by about C/d^2. Source: arXiv 2506.14951; parity variants and C by the project's own algebra.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import combinations

import torch
from torch import Tensor

from critpoints.curvature.dense import eigensystem, eigenvalue_noise
from critpoints.objectives.limit import LimitObjective, LimitShape
from critpoints.objectives.two_layer import TwoLayerObjective
from critpoints.solvers.refinement import refine
from critpoints.symmetry.reduction import Reduction, merge_duplicates

CLOSE = 1.2  # directions of a pair may differ by this fraction of their length where a channel is first suspected
OPPOSITE = 0.75  # and their output weights may add up to this fraction of the larger one
NEAR_ZERO = 0.3  # pre-activations' slope below which a neuron may belong to the group at zero
MAX_GUESSES = 4
WORSE = 3.0  # a guess whose limit network starts with this many times the student's loss is dropped
GRADIENT = 1e-10
DUPLICATE = 5e-3  # neurons this near count as one where a channel of a smaller student is suspected
OFFSET = 0.1  # first-order theory holds: the student this near to the limit, and its excess loss C/d^2 up to a factor
RATIO = 1.5


@dataclass(frozen=True)
class Group:
    """A guess of which neurons of a student diverge together.

    Attributes:
        pairs: (i, j, sign): w_j is close to sign * w_i, and sign * a_j to -a_i.
        at_zero: neurons whose weight vectors go to zero while their output weights diverge.
    """

    pairs: tuple[tuple[int, int, int], ...]
    at_zero: tuple[int, ...]

    def members(self) -> set[int]:
        """All diverging neurons."""
        return {k for i, j, _ in self.pairs for k in (i, j)} | set(self.at_zero)

    def shape(self, width: int, *, output_bias: bool, reflection: float | None) -> LimitShape:
        """The limit network that the group leads to."""
        flipped = any(sign < 0 for _, _, sign in self.pairs)
        constant = output_bias or (bool(reflection) and (flipped or bool(self.at_zero)))
        return LimitShape(width - len(self.members()), len(self.pairs), constant, bool(self.at_zero))


@dataclass(frozen=True)
class Channel:
    """A channel that a student lies in.

    Attributes:
        group: the diverging neurons.
        shape, limit: the limit network and its parameters at its minimum.
        limit_loss: L_inf.
        smallest_eigenvalue: of the limit network's Hessian.
        coefficients: C of every independent scale, positive: L = L_inf + sum C/d^2.
        distances: the scales d of the student.
        offset: relative distance of the student, in channel coordinates, from the limit.
        excess_ratio: (L - L_inf) / sum C/d^2, 1 far out in the channel.
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
    """Groups of neurons of ``theta`` (P,) that may diverge together."""
    w, a = (part.tolist() for part in problem.split(theta))
    reflection, m = problem.activation.reflection, len(a)
    vectors = torch.tensor(w, dtype=torch.float64)
    lengths = vectors.norm(dim=1).tolist()
    candidates = []
    for i, j in combinations(range(m), 2):
        for sign in (1, -1) if reflection is not None else (1,):
            gap = float((vectors[i] - sign * vectors[j]).norm()) / max(lengths[i], lengths[j], 1e-300)
            total = abs(a[i] + sign * a[j]) / max(abs(a[i]), abs(a[j]), 1e-300)
            if gap <= CLOSE and total <= OPPOSITE:
                candidates.append((i, j, sign))
    small = [k for k in range(m) if lengths[k] <= NEAR_ZERO] if reflection is not None else []
    zero_sets = [(), *combinations(small, 1), *combinations(small, 2)]
    pair_sets = [(), *combinations(candidates, 1), *combinations(candidates, 2)]
    found = []
    for pairs in pair_sets:
        for at_zero in zero_sets:
            group = Group(pairs, at_zero)
            members = group.members()
            if members and len(members) == 2 * len(pairs) + len(at_zero) and _balanced(group, problem):
                found.append(group)
    return found


def guesses(problem: TwoLayerObjective, theta: Tensor) -> list[Group]:
    """The most plausible groups of ``theta`` (P,): those whose limit network comes nearest to the student's loss."""
    loss = float(problem.loss(theta))
    ranked = []
    for group in _groups(problem, theta):
        start, _ = to_limit(problem, theta, group)
        there = float(LimitObjective(problem, _shape(problem, theta, group)).loss(start))
        if there <= WORSE * loss:
            ranked.append((abs(there - loss), len(ranked), group))
    return [group for _, _, group in sorted(ranked)[:MAX_GUESSES]]


def _shape(problem: TwoLayerObjective, theta: Tensor, group: Group) -> LimitShape:
    return group.shape(problem.width(theta), output_bias=problem.output_bias, reflection=problem.activation.reflection)


def _balanced(group: Group, problem: TwoLayerObjective) -> bool:
    """Whether the constants that flipped neurons leave over can cancel."""
    reflection = problem.activation.reflection
    if not reflection or problem.output_bias:
        return True
    flips = sum(sign < 0 for _, _, sign in group.pairs)
    if len(group.at_zero) == 1:
        return flips >= 1
    return flips != 1 or bool(group.at_zero)


def to_limit(problem: TwoLayerObjective, theta: Tensor, group: Group) -> tuple[Tensor, tuple[float, ...]]:
    """Limit-network parameters of a student (P,) and its scales d, one a pair and one for the group at zero."""
    w, a = problem.split(theta)
    reflection = problem.activation.reflection or 0.0
    zero = torch.zeros((), dtype=theta.dtype)
    at_zero, slope = problem.activation(zero), problem.activation.derivative(zero, 1)
    rest = [k for k in range(len(a)) if k not in group.members()]
    constant = theta[-1:].clone() if problem.output_bias else theta.new_zeros(1)
    centres, gates, c, scales = [], [], [], []
    for i, j, sign in group.pairs:
        w_j, a_j = sign * w[j], sign * a[j]
        d = a[i] - a_j
        centres.append(0.5 * (w[i] + w_j))
        gates.append(0.5 * d * (w[i] - w_j))
        c.append((a[i] + a_j).reshape(1))
        scales.append(abs(float(d)))
        if sign < 0:
            constant = constant + reflection * a[j]
    linear = theta.new_zeros(problem.n_inputs)
    for k in group.at_zero:
        constant = constant + a[k] * at_zero
        linear = linear + a[k] * slope * w[k]
    if group.at_zero:
        scales.append(_zero_scale([float(a[k]) for k in group.at_zero]))
    shape = _shape(problem, theta, group)
    parts = [w[rest].flatten(), a[rest], *centres, *gates, *c]
    parts += [constant] if shape.constant else []
    parts += [linear] if shape.linear else []
    return torch.cat(parts), tuple(scales)


def _zero_scale(a: list[float]) -> float:
    return abs(a[0] - a[1]) if len(a) == 2 else abs(a[0])


def coefficients(problem: TwoLayerObjective, objective: LimitObjective, limit: Tensor) -> tuple[list[float], float]:
    """C of each pair at a limit point (P,), and that of the unit at zero (0 without one): L = L_inf + C/d^2.

    For a pair C = 2 scale E[e ((c/2) (v.x)^2 s'' + (1/6) (v.x)^3 s''')] at its centre; for one neuron at zero, or two
    at +-w, C = (scale/3) E[e (b.x)^3] s'''(0) / s'(0)^3.
    """
    p = objective.parts(limit)
    x, s = problem.features, problem.activation
    weighted = 2 * problem.scale * problem.sample_weight * (objective.predict(limit) - problem.y)
    z, gated = p.centre @ x.T, p.gate @ x.T
    terms = 0.5 * p.c.unsqueeze(-1) * gated**2 * s.derivative(z, 2) + gated**3 / 6 * s.derivative(z, 3)
    pairs = (weighted * terms).sum(-1).tolist()
    if not objective.shape.linear:
        return pairs, 0.0
    zero = torch.zeros((), dtype=limit.dtype)
    factor = float(s.derivative(zero, 3) / s.derivative(zero, 1) ** 3) / 6
    return pairs, factor * float((weighted * (x @ p.linear) ** 3).sum())


def _zero_pair_is_stable(problem: TwoLayerObjective, objective: LimitObjective, limit: Tensor) -> bool:
    """Whether Z = s'''(0) E[e (b.x) x x^T] > 0: the two neurons at +-w then stay antipodal under descent."""
    x, p = problem.features, objective.parts(limit)
    zero = torch.zeros((), dtype=limit.dtype)
    weighted = problem.sample_weight * (objective.predict(limit) - problem.y) * (x @ p.linear)
    matrix = float(problem.activation.derivative(zero, 3)) * (x.T * weighted) @ x
    return bool(torch.linalg.eigvalsh(matrix)[0] > 0)


def _scale_coefficients(group: Group, pairs: list[float], at_zero: float, scales: tuple[float, ...]) -> list[float]:
    """C of each independent scale: pairs whose constants must cancel, and a neuron at zero, diverge together."""
    tied = [k for k, (_, _, sign) in enumerate(group.pairs) if sign < 0]
    single_zero = len(group.at_zero) == 1
    if len(tied) + single_zero < 2 and not (single_zero and tied):
        return pairs + ([at_zero] if group.at_zero else [])
    # d_k = r_k d with the first tied scale d: sum C_k / d_k^2 = (sum C_k / r_k^2) / d^2
    base = scales[tied[0]]
    joint = sum(pairs[k] * (base / scales[k]) ** 2 for k in tied)
    if single_zero:
        joint += at_zero * (base / scales[-1]) ** 2
    free = [pairs[k] for k in range(len(pairs)) if k not in tied]
    return [joint, *free] + ([at_zero] if group.at_zero and not single_zero else [])


@dataclass(frozen=True)
class Refusal:
    """Why a guess is not a channel."""

    group: Group
    reason: str


def _judge(
    problem: TwoLayerObjective, objective: LimitObjective, theta: Tensor, group: Group, start: Tensor, end: Tensor,
    scales: tuple[float, ...], critical: bool, values: Tensor,
) -> Channel | Refusal:  # fmt: skip
    floor = float(eigenvalue_noise(values.unsqueeze(0))[0])
    loss, limit_loss = (
        float(problem.second_order(theta[None]).loss[0]),
        float(objective.second_order(end[None]).loss[0]),
    )
    if not critical:
        return Refusal(group, "the limit network did not converge")
    if float(values[0]) <= floor:
        return Refusal(
            group, f"the limit network's smallest eigenvalue is {float(values[0]):.1e}: not a strict minimum"
        )
    pairs, at_zero = coefficients(problem, objective, end)
    independent = _scale_coefficients(group, pairs, at_zero, scales)
    if min(independent) <= 0:
        return Refusal(group, f"C = {min(independent):.1e} is not positive: the end of the channel repels descent")
    if len(group.at_zero) == 2 and not _zero_pair_is_stable(problem, objective, end):
        return Refusal(group, "the two neurons at zero do not stay antipodal")
    offset = float((start - end).norm()) / (1 + float(end.norm()))
    predicted = sum(c / d**2 for c, d in zip([*pairs, at_zero], scales, strict=False))
    ratio = (loss - limit_loss) / predicted
    channel = Channel(
        group, objective.shape, end, limit_loss, float(values[0]), tuple(independent), scales, offset, ratio
    )
    if loss <= limit_loss:
        return Refusal(group, "the loss is already below the limit's")
    if offset > OFFSET or not 1 / RATIO <= ratio <= RATIO:
        return Refusal(group, f"too far from the limit: offset {offset:.2g}, excess loss {ratio:.2g} times C/d^2")
    return channel


Outcome = Channel | list[Refusal]


def _search(problem: TwoLayerObjective, theta: Tensor) -> list[Outcome]:
    """Tries the guesses of every row of ``theta`` (S, P), the most plausible first, all rows of a shape together."""
    pending = {row: guesses(problem, point) for row, point in enumerate(theta)}
    results: list[Outcome] = [[] for _ in theta]
    for attempt in range(MAX_GUESSES):
        tasks: dict[LimitShape, list[int]] = {}
        for row, groups in pending.items():
            if attempt < len(groups) and isinstance(results[row], list):
                tasks.setdefault(_shape(problem, theta, groups[attempt]), []).append(row)
        for shape, rows in tasks.items():
            objective = LimitObjective(problem, shape)
            starts = [to_limit(problem, theta[row], pending[row][attempt]) for row in rows]
            ends = refine(objective, torch.stack([start for start, _ in starts]), gtol=GRADIENT, max_iterations=100)
            values = eigensystem(objective.second_order(ends.theta).hessian).values
            for i, row in enumerate(rows):
                start, scales = starts[i]
                verdict = _judge(
                    problem, objective, theta[row], pending[row][attempt], start, ends.theta[i], scales,
                    ends.status[i].is_critical, values[i],
                )  # fmt: skip
                if isinstance(verdict, Channel):
                    results[row] = verdict
                else:
                    refusals = results[row]
                    assert isinstance(refusals, list)
                    refusals.append(verdict)
    return results


def _split_is_stable(problem: TwoLayerObjective, channel: Channel, reduction: Reduction) -> bool:
    """Whether descent keeps the split neurons together: the sign of Y (splitting.py) at the end of the channel.

    For a diverging neuron k of a pair, Y = a_k E[e s''(w.x) x x^T] + .. grows with d across v, with the sign of a_k;
    along v its leading order vanishes at a critical limit network, and the next order is 3 C / 2 > 0.
    """
    objective = LimitObjective(problem, channel.shape)
    p = objective.parts(channel.limit)
    x, s = problem.features, problem.activation
    weighted = problem.scale * problem.sample_weight * (objective.predict(channel.limit) - problem.y)
    a = problem.split(reduction.theta)[1]
    rest = [k for k in range(len(a)) if k not in channel.group.members()]
    for k in reduction.duplicated:
        positive = sum(share > 0 for share in reduction.shares[k])
        if k in rest:
            row = rest.index(k)
            y = (x.T * (weighted * p.a[row] * s.derivative(x @ p.w[row], 2))) @ x
            values = torch.linalg.eigvalsh(y if positive == len(reduction.shares[k]) else -y)
            if float(values[0]) <= 0 or positive not in (1, len(reduction.shares[k])):
                return False
            continue
        row = next((r for r, (i, j, _) in enumerate(channel.group.pairs) if k in (i, j)), None)
        if row is None or positive < len(reduction.shares[k]):
            return False
        _, j, sign = channel.group.pairs[row]
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
                refusals.append(
                    Refusal(found.group, "a duplicated neuron is not kept together: a saddle of the channel")
                )
    return results
