"""Which minima the saddles of a census join: ways down from each, their ends matched with a study's minima.

Two things join minima at a height. A proven saddle of index 1, by its two ways down; and a plateau (plateaus.py)
through proven saddles of any index, on which the loss is constant, by two of the ways down from it. Between leaves that
neither joins, bands look for further saddles (bridges.py); what is left is aimed at from the plateaus.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from critpoints.census import Census, CensusEntry, take_census
from critpoints.descent import Branch, Descents, descend_from_saddles
from critpoints.landscape.bridges import find_bridges
from critpoints.landscape.plateaus import (
    AIMED,
    LINE,
    SILENT,
    STRAIGHT,
    THERE,
    Plateau,
    WayDown,
    aim_from_plateaus,
    descend_from_plateaus,
    find_plateaus,
)
from critpoints.landscape.saddle_census import CriticalEntry
from critpoints.merge_tree import Leaf, MergeTree, Pass, build_merge_tree
from critpoints.objectives.two_layer import TwoLayerObjective
from critpoints.solvers.base import Callback
from critpoints.verdict import Kind, Verdict, Verdicts

LEAVES = (Kind.GLOBAL_MINIMUM, Kind.STRICT_MINIMUM, Kind.DEGENERATE_MINIMUM, Kind.CHANNEL)
DIRECTIONS = 24  # students with silent neurons on each plateau
LEVEL = 1e-9  # relative: a degenerate minimum lies on the plateau of its narrower student, to rounding


@dataclass(frozen=True)
class SaddleGraph:
    """A merge tree with the ways down that it rests on.

    Attributes:
        tree: its passes are proven saddles of index 1, and plateaus through proven saddles, with two ways down each
            that end at leaves.
        descents: the ways down of every saddle of index 1, in order.
        bridges: saddles of index 1 found between leaves that nothing joined; they are numbered after those given.
        plateaus: as found.
        ways: down from them.
        left_out: why a saddle is no pass, with the numbers of the saddles.
        unjoined: leaves that nothing joins to the largest tree, and why.
    """

    tree: MergeTree
    descents: tuple[Descents, ...]
    bridges: tuple[CriticalEntry, ...]
    plateaus: tuple[Plateau, ...]
    ways: tuple[WayDown, ...]
    left_out: dict[str, list[int]]
    unjoined: dict[int, str]

    @property
    def joined_fraction(self) -> float:
        """The fraction of the seeds at the leaves of the tree that holds most of them."""
        return sum(self.tree.leaves[leaf].fraction for leaf in largest_tree(self.tree))

    def to_dict(self) -> dict[str, Any]:
        """A JSON-ready dictionary."""
        plateaus = [
            {
                "loss": each.loss,
                "certificate": each.certificate,
                "small": each.small.tolist(),
                "ways_down": sum(way.plateau == number for way in self.ways),
            }
            for number, each in enumerate(self.plateaus)
        ]
        return {
            "tree": self.tree.to_dict(),
            "plateaus": plateaus,
            "left_out": self.left_out,
            "unjoined": [{"leaf": leaf, "reason": reason} for leaf, reason in self.unjoined.items()],
            "joined_fraction": self.joined_fraction,
        }


def largest_tree(tree: MergeTree) -> tuple[int, ...]:
    """The leaves of the tree that holds most of the seeds."""
    n = len(tree.leaves)
    groups = [tree.merges[root - n].leaves if root >= n else (root,) for root in tree.roots]
    return max(groups, key=lambda leaves: sum(tree.leaves[leaf].fraction for leaf in leaves), default=())


def join_minima(
    problem: TwoLayerObjective,
    verdicts: Verdicts,
    saddles: Sequence[CriticalEntry],
    *,
    method: str = "monotone",
    directions: int = DIRECTIONS,
    bridge: bool = True,
    callback: Callback | None = None,
) -> SaddleGraph:
    """The merge tree of the minima and channels among ``verdicts``, joined by proven saddles and their plateaus.

    Ways down from a saddle may end at minima that ``verdicts`` does not have: these become leaves too, with basin
    fraction 0. All global minima are one leaf: they are one function, and for students wider than the teacher one
    connected set.

    Args:
        verdicts: of a study's end points; how many of them a leaf has is its basin fraction.
        saddles: entries of a census of saddles; those that are not proven are left out.
        method: of the ways down, as for ``descend_from_saddles``.
        directions: as for ``descend_from_plateaus``; 0 for no plateaus.
        bridge: look for saddles between leaves that nothing joins.
        callback: callback(ways down finished, ways down).
    """
    known = _descend(problem, saddles, range(len(saddles)), method, callback)
    plateaus = find_plateaus(problem, saddles) if directions else []
    options: dict[str, Any] = {"directions": directions, "method": method, "callback": callback}
    ways = descend_from_plateaus(problem, plateaus, problem.width(verdicts.theta), **options) if plateaus else []
    tree, left_out, ends = _assemble(problem, verdicts, saddles, known, plateaus, ways)
    bridges: list[CriticalEntry] = []
    minima = [end.theta for end in ends if end.kind in (Kind.GLOBAL_MINIMUM, Kind.STRICT_MINIMUM)]
    if bridge and minima and (alone := _outside(tree)):
        alone = [ends[leaf].theta for leaf in alone]
        bridges = find_bridges(problem, alone, torch.stack(minima), saddles, callback=callback)
        saddles = [*saddles, *bridges]
        numbers = range(len(saddles) - len(bridges), len(saddles))
        known |= _descend(problem, saddles, numbers, method, callback)
        tree, left_out, ends = _assemble(problem, verdicts, saddles, known, plateaus, ways)
    if plateaus and (alone := _outside(tree)):
        ways = ways + aim_from_plateaus(problem, plateaus, [ends[leaf] for leaf in alone], callback=callback)
        tree, left_out, _ = _assemble(problem, verdicts, saddles, known, plateaus, ways)
    descents, unjoined = tuple(known.values()), _unjoined(tree, plateaus)
    return SaddleGraph(tree, descents, tuple(bridges), tuple(plateaus), tuple(ways), left_out, unjoined)


def _descend(
    problem: TwoLayerObjective,
    saddles: Sequence[CriticalEntry],
    numbers: Iterable[int],
    method: str,
    callback: Callback | None,
) -> dict[int, Descents]:
    """The ways down from the proven saddles of index 1 among these."""
    usable = [k for k in numbers if saddles[k].certificate is not None and saddles[k].verdict.index == 1]
    if not usable:
        return {}
    theta = torch.stack([saddles[number].verdict.theta for number in usable])
    found = descend_from_saddles(problem, theta, method=method, callback=callback)
    return dict(zip(usable, found, strict=True))


def _assemble(
    problem: TwoLayerObjective,
    verdicts: Verdicts,
    saddles: Sequence[CriticalEntry],
    known: Mapping[int, Descents],
    plateaus: Sequence[Plateau],
    ways: Sequence[WayDown],
) -> tuple[MergeTree, dict[str, list[int]], list[Verdict]]:
    """The tree, the saddles that are no passes, and for each leaf a point that is it."""
    left_out: dict[str, list[int]] = {}
    branches = [branch for each in known.values() for branch in each.branches]
    leaves, points, leaf_of = _leaves(problem, verdicts, [b.end for b in branches], [way.end for way in ways])
    passes, first = [], 0
    for number, saddle in enumerate(saddles):
        if saddle.certificate is None:
            left_out.setdefault("not proven", []).append(number)
        elif number not in known and saddle.small is None:
            left_out.setdefault("not of index 1", []).append(number)
        elif number in known:
            each = known[number]
            reached = leaf_of[first : first + len(each.branches)]
            first += len(each.branches)
            ends = [end for end in reached if end is not None]
            if len(ends) != 2 or len(reached) != 2:
                left_out.setdefault("a way down ends at no minimum or channel that is decided", []).append(number)
            elif saddle.verdict.loss < max(leaves[end].loss for end in ends):
                left_out.setdefault("not above its ends by more than rounding", []).append(number)
            else:
                evidence = _evidence(saddle, each.branches)
                passes.append(Pass(f"saddle {number}", saddle.verdict.loss, (ends[0], ends[1]), evidence))
    for number, plateau in enumerate(plateaus):
        reached = [(way, leaf) for way, leaf in zip(ways, leaf_of[first:], strict=True) if way.plateau == number]
        passes += _plateau_passes(number, plateau, reached, leaves)
    return build_merge_tree(leaves, passes), left_out, points


def _evidence(saddle: CriticalEntry, branches: Sequence[Branch]) -> dict[str, Any]:
    assert saddle.certificate is not None
    return {
        "origin": saddle.origin,
        "certificate": saddle.certificate.checksum,
        "proof": saddle.proof,
        "eigenvalue": branches[0].eigenvalue,
        "descents": [
            {
                "sign": branch.sign,
                "kind": branch.end.kind.value,
                "loss": branch.end.loss,
                "length": branch.length,
                "flow": None if branch.flow is None else branch.flow.name.lower(),
            }
            for branch in branches
        ],
    }


def _plateau_passes(
    number: int, plateau: Plateau, reached: Sequence[tuple[WayDown, int | None]], leaves: Sequence[Leaf]
) -> list[Pass]:
    """The leaves below a plateau, each joined to the first one; a way down from a saddle line is preferred."""
    best: dict[int, WayDown] = {}
    counts = Counter(leaf for _, leaf in reached)
    order = (THERE, LINE, SILENT, AIMED, STRAIGHT)
    for way, leaf in sorted(reached, key=lambda each: order.index(each[0].kind)):
        if leaf is not None and leaves[leaf].loss <= plateau.loss * (1 + LEVEL):
            best.setdefault(leaf, way)
    if not best:
        return []
    first = min(best)
    passes = []
    for leaf in sorted(best):
        if leaf == first:
            continue
        pair = (first, leaf)
        evidence = {
            "origin": "plateau",
            "certificate": plateau.certificate,
            "descents": [
                {
                    "from": best[end].kind,
                    "kind": best[end].end.kind.value,
                    "loss": best[end].end.loss,
                    "length": float((best[end].end.theta - best[end].start).norm()),
                    "ways": counts[end],
                }
                for end in pair
            ],
        }
        height = max(plateau.loss, leaves[first].loss, leaves[leaf].loss)
        passes.append(Pass(f"plateau {number}", height, pair, evidence))
    return passes


def _outside(tree: MergeTree) -> list[int]:
    joined = set(largest_tree(tree))
    return [leaf for leaf in range(len(tree.leaves)) if leaf not in joined]


def _unjoined(tree: MergeTree, plateaus: Sequence[Plateau]) -> dict[int, str]:
    reasons = {}
    for leaf in _outside(tree):
        above = sum(plateau.loss > tree.leaves[leaf].loss for plateau in plateaus)
        reasons[leaf] = (
            f"no two ways down, from a proven saddle of index 1 or from one of the {above} known plateaus above it,"
            " lead to it and to the largest tree"
        )
    return reasons


def _leaves(
    problem: TwoLayerObjective, verdicts: Verdicts, ends: Sequence[Verdict], below: Sequence[Verdict]
) -> tuple[list[Leaf], list[Verdict], list[int | None]]:
    """The leaves, a point of each, and for each of ``ends`` and ``below`` the number of its own, None if it has none.

    What is no decided minimum or channel has none, nor has what ways down from plateaus alone lead to.
    """
    n, every = len(verdicts), [*verdicts, *ends, *below]
    census: Census = take_census(problem, Verdicts.gather(every))
    leaves: list[Leaf] = []
    points: list[Verdict] = []
    leaf_of: list[int | None] = [None] * (len(ends) + len(below))
    shared: int | None = None
    for entry in census.entries:
        if entry.kind not in LEAVES or min(entry.rows) >= n + len(ends):
            continue
        seeds = sum(row < n for row in entry.rows)
        if entry.kind is Kind.GLOBAL_MINIMUM and shared is not None:
            number = shared
            leaves[number] = _widened(leaves[number], seeds / n)
        else:
            number = len(leaves)
            leaves.append(_leaf(entry, number, seeds / n))
            points.append(every[min(entry.rows)])
            shared = number if entry.kind is Kind.GLOBAL_MINIMUM else shared
        for row in entry.rows:
            if row >= n:
                leaf_of[row - n] = number
    return leaves, points, leaf_of


def _leaf(entry: CensusEntry, number: int, fraction: float) -> Leaf:
    is_global = entry.kind is Kind.GLOBAL_MINIMUM
    loss = 0.0 if is_global else entry.loss
    return Leaf(f"{entry.kind.value} {number}", loss, entry.kind.value, fraction, entry.kind is Kind.CHANNEL)


def _widened(leaf: Leaf, fraction: float) -> Leaf:
    return Leaf(leaf.name, leaf.loss, leaf.kind, leaf.fraction + fraction, leaf.is_open)
