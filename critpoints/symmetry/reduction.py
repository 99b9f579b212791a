"""Reduction: a student with duplicated neurons is a smaller student whose neurons were split."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from critpoints.objectives.two_layer import TwoLayerObjective


@dataclass(frozen=True)
class Reduction:
    """The smaller student behind a point with duplicates.

    Attributes:
        theta: (P_r,), the merged parameters.
        groups: for each neuron of the smaller student the neurons of the larger one that it stands for.
        shares: the fractions mu of its output weight that they carry, in the same order; they add up to 1.
        spread: largest distance between weight vectors that were merged.
    """

    theta: Tensor
    groups: tuple[tuple[int, ...], ...]
    shares: tuple[tuple[float, ...], ...]
    spread: float

    @property
    def duplicated(self) -> tuple[int, ...]:
        """The neurons of the smaller student that stand for more than one."""
        return tuple(k for k, group in enumerate(self.groups) if len(group) > 1)


def merge_duplicates(problem: TwoLayerObjective, theta: Tensor, tol: float) -> Reduction | None:
    """Merges neurons of ``theta`` (P,) whose weight vectors agree within ``tol``; None if there are none.

    Odd activations also merge antiparallel neurons; for the sigmoid those leave a constant over and are kept apart.
    The merged weight vector is the mean weighted with the output weights, which keeps the function to second order.
    Groups whose output weights nearly cancel are no duplicates of a smaller network and give None.
    """
    w, a = problem.split(theta)
    signs = (1, -1) if problem.activation.reflection == 0 else (1,)
    groups: list[list[tuple[int, int]]] = []
    for k in range(len(a)):
        for group in groups:
            first = group[0][0]
            sign = min(signs, key=lambda s: float((w[k] - s * w[first]).norm()))
            if float((w[k] - sign * w[first]).norm()) <= tol:
                group.append((k, sign))
                break
        else:
            groups.append([(k, 1)])
    if len(groups) == len(a):
        return None
    centres, totals, shares, spread = [], [], [], 0.0
    for group in groups:
        oriented = torch.stack([sign * w[k] for k, sign in group])
        weights = torch.stack([sign * a[k] for k, sign in group])
        total = weights.sum()
        if len(group) > 1 and abs(float(total)) <= 1e-3 * float(weights.abs().max()):
            return None
        fractions = weights / total if len(group) > 1 else torch.ones_like(weights)
        centres.append((fractions.unsqueeze(-1) * oriented).sum(0))
        totals.append(total)
        shares.append(tuple(fractions.tolist()))
        spread = max(spread, float((oriented - oriented[0]).norm(dim=-1).max()))
    bias = theta[-1:] if problem.output_bias else theta[:0]
    merged = torch.cat([torch.stack(centres).flatten(), torch.stack(totals), bias])
    return Reduction(merged, tuple(tuple(k for k, _ in group) for group in groups), tuple(shares), spread)
