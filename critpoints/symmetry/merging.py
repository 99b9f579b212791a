"""Merging two neurons of a student into one, in all ways that nearly keep its function, and refining the result.

Neurons of one orientation merge into a student of the next narrower width. For a sigmoid without output bias a pair
(w, a), (-w, a') leaves the constant k a' over, s(-z) = k - s(z), and merges into a narrower student with a constant.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations

import torch
from torch import Tensor

from critpoints.errors import Status
from critpoints.objectives.two_layer import TwoLayerObjective
from critpoints.solvers.refinement import refine
from critpoints.symmetry.group import flips_are_free

MAX_STARTS = 48  # merged students of one row and one family that are refined, those with the lowest loss
ITERATIONS = 200  # a merged student that needs more is on its way along a channel or a valley
LONGEST = 20.0  # weight vectors beyond this multiple of the longest one are not tried: opposite weights extrapolate


@dataclass(frozen=True)
class Family:
    """One way to merge.

    Attributes:
        objective: of the narrower students.
        signs: w_i and sign * w_j merge.
        antipodal: the pair leaves a constant, which the narrower students have as their output bias.
    """

    objective: TwoLayerObjective
    signs: tuple[int, ...]
    antipodal: bool


def biased(problem: TwoLayerObjective) -> TwoLayerObjective:
    """The same data for students with an output bias."""
    return TwoLayerObjective(
        problem.x,
        problem.y,
        problem.activation,
        sample_weight=problem.sample_weight,
        scale=problem.scale,
        hidden_bias=problem.hidden_bias,
        output_bias=True,
        mirror=problem.mirror,
        dtype=problem.dtype,
        device=problem.device,
    )


def families(problem: TwoLayerObjective) -> list[Family]:
    """The ways to merge neurons of the students of ``problem``, one or two."""
    reflection = problem.activation.reflection
    same = Family(problem, (1, -1) if flips_are_free(problem) else (1,), antipodal=False)
    if not reflection or problem.output_bias:
        return [same]
    return [same, Family(biased(problem), (-1,), antipodal=True)]


def merged_students(problem: TwoLayerObjective, family: Family, theta: Tensor) -> list[Tensor]:
    """Merged students: each pair at either of its weight vectors, at their middle and at their weighted mean."""
    w, a = problem.split(theta)
    reflection, longest = problem.activation.reflection or 0.0, float(w.norm(dim=-1).max())
    bias = theta[-1:] if problem.output_bias else theta.new_zeros(1)
    found = []
    for i, j in combinations(range(len(a)), 2):
        rest = [k for k in range(len(a)) if k not in (i, j)]
        for sign in family.signs:
            w_j, a_j = sign * w[j], sign * a[j]
            total = a[i] + a_j
            # to second order the weighted mean keeps the function; nothing does where the weights cancel
            for centre in (w[i], w_j, 0.5 * (w[i] + w_j), (a[i] * w[i] + a_j * w_j) / total):
                if float(centre.norm()) <= LONGEST * longest:
                    constant = bias + reflection * a[j] if sign < 0 else bias
                    parts = [w[rest].flatten(), centre, a[rest], total[None]]
                    found.append(torch.cat([*parts, constant] if family.objective.output_bias else parts))
    losses = family.objective.loss_and_gradient(torch.stack(found))[0].tolist()
    return [found[k] for k in sorted(range(len(found)), key=losses.__getitem__)[:MAX_STARTS]]


def refine_merged(family: Family, starts: list[list[Tensor]]) -> list[tuple[int, Tensor, float, Status]]:
    """The end of every start, refined in one batch: its row, its parameters, its loss, why it stopped."""
    rows = [row for row, each in enumerate(starts) for _ in each]
    if not rows:
        return []
    ends = refine(family.objective, torch.stack([s for each in starts for s in each]), max_iterations=ITERATIONS)
    return list(zip(rows, ends.theta, ends.loss.tolist(), ends.status, strict=True))
