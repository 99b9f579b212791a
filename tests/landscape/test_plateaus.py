"""Plateaus: constant loss, ways down that stay below, joins by hand."""

import pytest
import torch

import critpoints as cp
from critpoints.landscape.plateaus import (
    STRAIGHT,
    THERE,
    Plateau,
    aim_from_plateaus,
    descend_from_plateaus,
    find_plateaus,
)
from critpoints.landscape.saddle_census import SaddleCensus, take_saddle_census
from critpoints.landscape.saddle_graph import SaddleGraph, join_minima
from critpoints.landscape.saddle_starts import perturb, predict_saddles
from critpoints.solvers.saddle_search import search_saddles
from critpoints.symmetry.splitting import split

PROBLEM = cp.TeacherStudent.grid()


@pytest.fixture(scope="module")
def single() -> torch.Tensor:
    """A strict minimum of one neuron, (3,)."""
    verdicts = cp.settle(PROBLEM, PROBLEM.init(1, range(4))).verdicts
    return min((v for v in verdicts if v.kind is cp.Kind.STRICT_MINIMUM), key=lambda v: v.loss).theta


@pytest.fixture(scope="module")
def plateaus(single: torch.Tensor) -> list[Plateau]:
    nothing = Plateau(single[:0], float((PROBLEM.y**2).mean()), "none")
    return [Plateau(single, float(PROBLEM.loss(single)), "some"), nothing]


@pytest.fixture(scope="module")
def verdicts() -> cp.Verdicts:
    return cp.settle(PROBLEM, PROBLEM.init(2, range(10))).verdicts


def test_starts_lie_on_the_plateau_and_ends_below(plateaus: list[Plateau]) -> None:
    ways = descend_from_plateaus(PROBLEM, plateaus, 2, directions=4)
    assert {way.plateau for way in ways} == {0, 1}
    for way in ways:
        height = plateaus[way.plateau].loss
        assert float(PROBLEM.loss(way.start)) == pytest.approx(height, rel=1e-12)
        assert way.end.loss <= height * (1 + 1e-12) and (way.kind == THERE or way.end.loss < height)


def test_the_straight_way_from_nothing_is_convex_and_ends_at_its_target(
    plateaus: list[Plateau], verdicts: cp.Verdicts
) -> None:
    target = verdicts[0]
    (straight,) = [way for way in aim_from_plateaus(PROBLEM, plateaus, [target]) if way.kind == STRAIGHT]
    assert straight.end is target
    shares = torch.linspace(0, 1, 41, dtype=torch.float64).unsqueeze(-1)
    losses = PROBLEM.loss((1 - shares) * straight.start + shares * target.theta)
    assert float(losses[0]) == pytest.approx(plateaus[1].loss) and float(losses.max()) == float(losses[0])
    assert bool((losses[2:] - 2 * losses[1:-1] + losses[:-2] >= -1e-15).all())


def test_a_degenerate_minimum_lies_on_its_plateau(single: torch.Tensor, plateaus: list[Plateau]) -> None:
    between, outside = (split(PROBLEM, single, 0, shares) for shares in ((0.5, 0.5), (1.5, -0.5)))
    minima = [v for v in cp.classify(PROBLEM, torch.stack([between, outside])) if v.kind is cp.Kind.DEGENERATE_MINIMUM]
    for target in minima:
        assert THERE in {way.kind for way in aim_from_plateaus(PROBLEM, plateaus[:1], [target])}


@pytest.fixture(scope="module")
def census(single: torch.Tensor) -> SaddleCensus:
    predicted = predict_saddles(PROBLEM, single[None])
    lines = perturb(torch.stack([each.point for each in predicted]), 1e-3, range(len(predicted)))
    nothing = torch.nn.functional.pad(torch.tensor([[0.02, 0.5, 0.05, 1.2], [0.1, 0.8, 0.0, 0.7]]).double(), (0, 2))
    targets = [each.inertia.negative for each in predicted] + [2, 2]
    found = search_saddles(PROBLEM, torch.cat([lines, nothing]), index=targets, max_iterations=100)
    return take_saddle_census(PROBLEM, found, max_index=1)


@pytest.fixture(scope="module")
def graph(verdicts: cp.Verdicts, census: SaddleCensus) -> SaddleGraph:
    return join_minima(PROBLEM, verdicts, census.saddles, directions=2)


def test_plateaus_are_found_once_with_their_certificates(census: SaddleCensus) -> None:
    found = find_plateaus(PROBLEM, census.entries)
    assert [len(each.small) for each in found] == [3, 0]
    checksums = {e.certificate.checksum for e in census.entries if e.certificate is not None}
    assert {each.certificate for each in found} <= checksums
    assert [each.loss for each in found] == sorted(each.loss for each in found)


def test_everything_is_joined_and_every_pass_names_a_certificate_and_two_ways(graph: SaddleGraph) -> None:
    assert graph.joined_fraction == pytest.approx(sum(leaf.fraction for leaf in graph.tree.leaves))
    assert graph.joined_fraction > 0.5
    assert not graph.unjoined
    assert len(graph.tree.roots) == 1
    for each in graph.tree.saddles:
        assert each.evidence["certificate"] and len(each.evidence["descents"]) == 2
        assert each.loss >= max(graph.tree.leaves[end].loss for end in each.ends)


def test_without_plateaus_less_is_joined(verdicts: cp.Verdicts, census: SaddleCensus, graph: SaddleGraph) -> None:
    bare = join_minima(PROBLEM, verdicts, census.saddles, directions=0)
    assert len(bare.tree.roots) >= len(graph.tree.roots) and not bare.plateaus
    assert all(reason.startswith("no two ways down") for reason in bare.unjoined.values())
