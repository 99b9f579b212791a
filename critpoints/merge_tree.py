"""The merge tree of a landscape: minima joined at the lowest known saddle between them, by union-find.

Sublevel sets {L <= h} grow with h; a saddle of index 1 at height h joins the components that its two ways down lead to.
Taken in the order of their heights, saddles that join two components are the tree's inner nodes; the others close
loops. Only known saddles count: every height is an upper bound of the true one. Source: O. M. Becker and M. Karplus,
J. Chem. Phys. 106 (1997) 1495; D. J. Wales, "Energy Landscapes" (2003).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any
from xml.etree import ElementTree

from critpoints.errors import require


@dataclass(frozen=True)
class Leaf:
    """A minimum, or the end of a channel.

    Attributes:
        name: unique.
        loss: of the minimum; of a channel the limit, which is not attained.
        kind: for the reader.
        fraction: of the basin: how many of the seeds ended there.
        is_open: a channel.
    """

    name: str
    loss: float
    kind: str
    fraction: float = 0.0
    is_open: bool = False


@dataclass(frozen=True)
class Pass:
    """A saddle and the leaves that its ways down lead to.

    Attributes:
        name: of the saddle.
        loss: its height.
        ends: numbers of two leaves.
        evidence: what the edge is backed by.
    """

    name: str
    loss: float
    ends: tuple[int, int]
    evidence: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Merge:
    """An inner node: ``saddle`` (a number of a pass) joins two nodes at its height; leaves are numbered first."""

    saddle: int
    loss: float
    children: tuple[int, int]
    leaves: tuple[int, ...]


@dataclass(frozen=True)
class MergeTree:
    """A forest, one tree if everything known is joined.

    Attributes:
        leaves: as given.
        saddles: as given.
        merges: inner nodes, lowest first; node number len(leaves) + i.
        roots: nodes without a parent.
        loops: saddles that join what is joined already, or lead to one leaf on both sides.
    """

    leaves: tuple[Leaf, ...]
    saddles: tuple[Pass, ...]
    merges: tuple[Merge, ...]
    roots: tuple[int, ...]
    loops: tuple[int, ...]

    def loss(self, node: int) -> float:
        """The height of a node."""
        return self.leaves[node].loss if node < len(self.leaves) else self.merges[node - len(self.leaves)].loss

    def barrier(self, i: int, j: int) -> float:
        """The lowest known height at which leaves i and j are joined; infinity if they are not."""
        heights = (merge.loss for merge in self.merges if i in merge.leaves and j in merge.leaves)
        return self.leaves[i].loss if i == j else next(heights, math.inf)

    def to_dict(self) -> dict[str, Any]:
        """A JSON-ready dictionary."""
        return {
            "leaves": [leaf.__dict__ for leaf in self.leaves],
            "saddles": [each.__dict__ | {"ends": list(each.ends)} for each in self.saddles],
            "merges": [m.__dict__ | {"children": list(m.children), "leaves": list(m.leaves)} for m in self.merges],
            "roots": list(self.roots),
            "loops": list(self.loops),
        }

    @classmethod
    def from_dict(cls, document: dict[str, Any]) -> MergeTree:
        """The tree of what ``to_dict`` gives."""
        return cls(
            leaves=tuple(Leaf(**each) for each in document["leaves"]),
            saddles=tuple(Pass(**each | {"ends": tuple(each["ends"])}) for each in document["saddles"]),
            merges=tuple(
                Merge(**each | {"children": tuple(each["children"]), "leaves": tuple(each["leaves"])})
                for each in document["merges"]
            ),
            roots=tuple(document["roots"]),
            loops=tuple(document["loops"]),
        )

    def to_graphml(self) -> str:
        """The tree as GraphML: a node for every leaf and merge, an edge from each child to its parent."""
        root = ElementTree.Element("graphml", xmlns="http://graphml.graphdrawing.org/xmlns")
        keys = {"loss": "double", "kind": "string", "name": "string", "fraction": "double"}
        for key, kind in keys.items():
            names = {"id": key, "for": "node", "attr.name": key, "attr.type": kind}
            ElementTree.SubElement(root, "key", names)
        graph = ElementTree.SubElement(root, "graph", id="merge_tree", edgedefault="directed")

        def node(number: int, **values: object) -> None:
            element = ElementTree.SubElement(graph, "node", id=f"n{number}")
            for key, value in values.items():
                ElementTree.SubElement(element, "data", key=key).text = str(value)

        for number, leaf in enumerate(self.leaves):
            node(number, loss=repr(leaf.loss), kind=leaf.kind, name=leaf.name, fraction=repr(leaf.fraction))
        for number, merge in enumerate(self.merges, len(self.leaves)):
            node(number, loss=repr(merge.loss), kind="saddle", name=self.saddles[merge.saddle].name)
        for number, merge in enumerate(self.merges, len(self.leaves)):
            for child in merge.children:
                ElementTree.SubElement(graph, "edge", source=f"n{child}", target=f"n{number}")
        return ElementTree.tostring(root, encoding="unicode", xml_declaration=True)


def build_merge_tree(leaves: Sequence[Leaf], saddles: Sequence[Pass]) -> MergeTree:
    """Joins leaves by union-find over the saddles in the order of their heights.

    Raises:
        InvalidArgument: a saddle that names no leaf, a height that is not finite, or one below a leaf it leads to.

    >>> wells = [Leaf("a", 0.0, "minimum"), Leaf("b", 1.0, "minimum"), Leaf("c", 0.5, "channel", is_open=True)]
    >>> tree = build_merge_tree(wells, [Pass("high", 3.0, (0, 2)), Pass("low", 2.0, (0, 1)), Pass("loop", 4.0, (1, 2))])
    >>> [(m.loss, m.leaves) for m in tree.merges], tree.loops, tree.barrier(1, 2)
    ([(2.0, (0, 1)), (3.0, (0, 1, 2))], (2,), 3.0)
    """
    for saddle in saddles:
        require(
            all(0 <= end < len(leaves) for end in saddle.ends),
            f"saddle {saddle.name} must lead to leaves 0 .. {len(leaves) - 1}, got {saddle.ends}",
        )
        highest = max(leaves[end].loss for end in saddle.ends)
        require(
            highest <= saddle.loss < math.inf,
            f"saddle {saddle.name} must be finite and not below its ends at {highest}, got {saddle.loss}",
        )
    parent, node = list(range(len(leaves))), list(range(len(leaves)))
    members = [[i] for i in range(len(leaves))]

    def root(i: int) -> int:
        while parent[i] != i:
            parent[i] = parent[parent[i]]  # halves the way: the targets of one assignment would be set in turn
            i = parent[i]
        return i

    merges, loops = [], []
    for number in sorted(range(len(saddles)), key=lambda s: (saddles[s].loss, s)):
        i, j = (root(end) for end in saddles[number].ends)
        if i == j:
            loops.append(number)
            continue
        i, j = min(i, j), max(i, j)
        children = (node[i], node[j])
        parent[j], node[i] = i, len(leaves) + len(merges)
        members[i] = sorted(members[i] + members[j])
        merges.append(Merge(number, saddles[number].loss, children, tuple(members[i])))
    roots = tuple(node[i] for i in range(len(leaves)) if root(i) == i)
    return MergeTree(tuple(leaves), tuple(saddles), tuple(merges), roots, tuple(sorted(loops)))
