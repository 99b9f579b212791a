"""Which minima the saddles of a census join: both ways down from each, its ends matched with a study's minima."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from critpoints.census import CensusEntry, take_census
from critpoints.descent import Descents, descend_from_saddles
from critpoints.landscape.saddle_census import CriticalEntry
from critpoints.merge_tree import Leaf, MergeTree, Pass, build_merge_tree
from critpoints.objectives.two_layer import TwoLayerObjective
from critpoints.solvers.base import Callback
from critpoints.verdict import Kind, Verdict, Verdicts

LEAVES = (Kind.GLOBAL_MINIMUM, Kind.STRICT_MINIMUM, Kind.DEGENERATE_MINIMUM, Kind.CHANNEL)


@dataclass(frozen=True)
class SaddleGraph:
    """A merge tree with the ways down that it rests on.

    Attributes:
        tree: its passes are proven saddles of index 1 whose two ways down end at leaves.
        descents: the ways down of every saddle given, in order.
        left_out: why a saddle is no pass, with the numbers of the saddles.
    """

    tree: MergeTree
    descents: tuple[Descents, ...]
    left_out: dict[str, list[int]]

    def to_dict(self) -> dict[str, Any]:
        """A JSON-ready dictionary."""
        return {"tree": self.tree.to_dict(), "left_out": self.left_out}


def join_minima(
    problem: TwoLayerObjective,
    verdicts: Verdicts,
    saddles: Sequence[CriticalEntry],
    *,
    method: str = "monotone",
    callback: Callback | None = None,
) -> SaddleGraph:
    """The merge tree of the minima and channels among ``verdicts``, joined by proven saddles of index 1.

    Ways down may end at minima that ``verdicts`` does not have: these become leaves too, with basin fraction 0. All
    global minima are one leaf: they are one function, and for students wider than the teacher one connected set.

    Args:
        verdicts: of a study's end points; how many of them a leaf has is its basin fraction.
        saddles: entries of a census of saddles; those that are not proven or not of index 1 are left out.
        method: of the ways down, as for ``descend_from_saddles``.
        callback: callback(ways down finished, ways down).
    """
    left_out: dict[str, list[int]] = {}
    usable = []
    for number, saddle in enumerate(saddles):
        if saddle.verdict.index != 1:
            left_out.setdefault("not of index 1", []).append(number)
        elif saddle.certificate is None:
            left_out.setdefault("not proven", []).append(number)
        else:
            usable.append(number)
    descents: tuple[Descents, ...] = ()
    if usable:
        theta = torch.stack([saddles[number].verdict.theta for number in usable])
        descents = descend_from_saddles(problem, theta, method=method, callback=callback)
    ends = [branch.end for ways in descents for branch in ways.branches]
    leaves, leaf_of = _leaves(problem, verdicts, ends)
    passes, first = [], 0
    for number, ways in zip(usable, descents, strict=True):
        reached = [leaf_of[first + i] for i in range(len(ways.branches))]
        first += len(ways.branches)
        if len(reached) != 2 or None in reached:
            left_out.setdefault("a way down ends at no minimum or channel that is decided", []).append(number)
            continue
        a, b = (int(end) for end in reached if end is not None)
        saddle = saddles[number]
        if saddle.verdict.loss < max(leaves[a].loss, leaves[b].loss):
            left_out.setdefault("not above its ends by more than rounding", []).append(number)
            continue
        passes.append(Pass(f"saddle {number}", saddle.verdict.loss, (a, b), _evidence(saddle, ways)))
    return SaddleGraph(build_merge_tree(leaves, passes), descents, left_out)


def _evidence(saddle: CriticalEntry, ways: Descents) -> dict[str, Any]:
    assert saddle.certificate is not None
    return {
        "origin": saddle.origin,
        "certificate": saddle.certificate.checksum,
        "proof": saddle.proof,
        "eigenvalue": ways.branches[0].eigenvalue,
        "descents": [
            {
                "sign": branch.sign,
                "kind": branch.end.kind.value,
                "loss": branch.end.loss,
                "length": branch.length,
                "flow": None if branch.flow is None else branch.flow.name.lower(),
            }
            for branch in ways.branches
        ],
    }


def _leaves(
    problem: TwoLayerObjective, verdicts: Verdicts, ends: Sequence[Verdict]
) -> tuple[list[Leaf], list[int | None]]:
    """The leaves, and for each end the number of its own; None where it is no decided minimum or channel."""
    n = len(verdicts)
    census = take_census(problem, Verdicts.gather([*verdicts, *ends]))
    leaves: list[Leaf] = []
    leaf_of: list[int | None] = [None] * len(ends)
    shared: int | None = None
    for entry in census.entries:
        if entry.kind not in LEAVES:
            continue
        seeds = sum(row < n for row in entry.rows)
        if entry.kind is Kind.GLOBAL_MINIMUM and shared is not None:
            number = shared
            leaves[number] = _widened(leaves[number], seeds / n)
        else:
            number = len(leaves)
            leaves.append(_leaf(entry, number, seeds / n))
            shared = number if entry.kind is Kind.GLOBAL_MINIMUM else shared
        for row in entry.rows:
            if row >= n:
                leaf_of[row - n] = number
    return leaves, leaf_of


def _leaf(entry: CensusEntry, number: int, fraction: float) -> Leaf:
    is_global = entry.kind is Kind.GLOBAL_MINIMUM
    loss = 0.0 if is_global else entry.loss
    return Leaf(f"{entry.kind.value} {number}", loss, entry.kind.value, fraction, entry.kind is Kind.CHANNEL)


def _widened(leaf: Leaf, fraction: float) -> Leaf:
    return Leaf(leaf.name, leaf.loss, leaf.kind, leaf.fraction + fraction, leaf.is_open)
