"""The merge tree against brute force: barriers are minimal over all paths of saddles."""

import itertools
import json
import math
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from critpoints.errors import InvalidArgument
from critpoints.merge_tree import Leaf, MergeTree, Pass, build_merge_tree


@st.composite
def landscapes(draw) -> tuple[list[Leaf], list[Pass]]:
    n = draw(st.integers(1, 6))
    leaves = [Leaf(f"m{i}", draw(st.floats(0, 1)), "strict_minimum", 1 / n) for i in range(n)]
    ends = draw(st.lists(st.tuples(st.integers(0, n - 1), st.integers(0, n - 1)), max_size=10))
    passes = [Pass(f"s{i}", draw(st.floats(1, 2)), pair) for i, pair in enumerate(ends)]
    return leaves, passes


def brute_force_barrier(leaves: list[Leaf], passes: list[Pass], a: int, b: int) -> float:
    """The least over paths of the highest saddle on it (Floyd and Warshall, with maxima for sums)."""
    n = len(leaves)
    height = [[leaves[i].loss if i == j else math.inf for j in range(n)] for i in range(n)]
    for each in passes:
        i, j = each.ends
        if i != j:
            height[i][j] = height[j][i] = min(height[i][j], each.loss)
    for k, i, j in itertools.product(range(n), repeat=3):
        height[i][j] = min(height[i][j], max(height[i][k], height[k][j]))
    return height[a][b]


@given(landscapes())
def test_barriers_are_those_of_brute_force(landscape: tuple[list[Leaf], list[Pass]]) -> None:
    leaves, passes = landscape
    tree = build_merge_tree(leaves, passes)
    for a, b in itertools.combinations(range(len(leaves)), 2):
        assert tree.barrier(a, b) == brute_force_barrier(leaves, passes, a, b)


@given(landscapes())
def test_every_saddle_joins_or_closes_a_loop_and_heights_rise(landscape: tuple[list[Leaf], list[Pass]]) -> None:
    leaves, passes = landscape
    tree = build_merge_tree(leaves, passes)
    assert sorted([merge.saddle for merge in tree.merges] + list(tree.loops)) == list(range(len(passes)))
    assert len(tree.roots) == len(leaves) - len(tree.merges)
    assert [merge.loss for merge in tree.merges] == sorted(merge.loss for merge in tree.merges)
    for merge in tree.merges:
        assert all(tree.loss(child) <= merge.loss for child in merge.children)
    children = [child for merge in tree.merges for child in merge.children]
    assert len(children) == len(set(children))


@given(landscapes())
def test_a_tree_survives_json(landscape: tuple[list[Leaf], list[Pass]]) -> None:
    tree = build_merge_tree(*landscape)
    assert MergeTree.from_dict(json.loads(json.dumps(tree.to_dict()))) == tree


@given(landscapes(), st.randoms(use_true_random=False))
def test_the_order_of_the_saddles_does_not_matter(landscape: tuple[list[Leaf], list[Pass]], random) -> None:
    leaves, passes = landscape
    shuffled = random.sample(passes, len(passes))
    one, other = build_merge_tree(leaves, passes), build_merge_tree(leaves, shuffled)
    assert [(m.loss, m.leaves) for m in one.merges if _alone(one, m.loss)] == [
        (m.loss, m.leaves) for m in other.merges if _alone(other, m.loss)
    ]


def _alone(tree: MergeTree, loss: float) -> bool:
    return sum(saddle.loss == loss for saddle in tree.saddles) == 1


def test_graphml_and_json_carry_the_whole_tree() -> None:
    leaves = [Leaf("a", 0.0, "global_minimum", 0.6), Leaf("b", 0.1, "channel", 0.4, is_open=True)]
    tree = build_merge_tree(leaves, [Pass("s", 0.5, (0, 1), {"certificate": "abc"})])
    document = json.loads(json.dumps(tree.to_dict()))
    assert document["saddles"][0]["evidence"] == {"certificate": "abc"}
    assert document["merges"][0]["leaves"] == [0, 1]
    space = "{http://graphml.graphdrawing.org/xmlns}"
    root = ElementTree.fromstring(tree.to_graphml())
    nodes, edges = root.findall(f".//{space}node"), root.findall(f".//{space}edge")
    assert [node.get("id") for node in nodes] == ["n0", "n1", "n2"]
    assert {(edge.get("source"), edge.get("target")) for edge in edges} == {("n0", "n2"), ("n1", "n2")}
    values = {data.get("key"): data.text for data in nodes[1]}
    assert values == {"loss": "0.1", "kind": "channel", "name": "b", "fraction": "0.4"}


@pytest.mark.parametrize(
    ("saddle", "complaint"),
    [
        (Pass("s", 1.0, (0, 2)), "must lead to leaves 0 .. 1"),
        (Pass("s", 0.05, (0, 1)), "not below its ends"),
        (Pass("s", math.inf, (0, 1)), "must be finite"),
        (Pass("s", math.nan, (0, 1)), "must be finite"),
    ],
)
def test_impossible_saddles_are_refused(saddle: Pass, complaint: str) -> None:
    with pytest.raises(InvalidArgument, match=complaint):
        build_merge_tree([Leaf("a", 0.0, "strict_minimum"), Leaf("b", 0.1, "strict_minimum")], [saddle])
