"""Saddles between leaves that nothing joins."""

import pytest
import torch

import critpoints as cp
from critpoints.landscape.bridges import find_bridges
from critpoints.landscape.saddle_census import CriticalEntry
from critpoints.landscape.saddle_graph import join_minima

PROBLEM = cp.TeacherStudent.grid()


@pytest.fixture(scope="module")
def verdicts() -> cp.Verdicts:
    return cp.settle(PROBLEM, PROBLEM.init(3, range(6))).verdicts


@pytest.fixture(scope="module")
def bridges(verdicts: cp.Verdicts) -> list[CriticalEntry]:
    strict = [each.theta for each in verdicts if each.kind is cp.Kind.STRICT_MINIMUM]
    ends = [each.theta for each in verdicts if each.kind is cp.Kind.CHANNEL]
    return find_bridges(PROBLEM, ends[:2] or strict[:2], torch.stack(strict), [])


def test_bridges_are_proven_saddles_of_index_1(bridges: list[CriticalEntry]) -> None:
    assert bridges
    for each in bridges:
        values = torch.linalg.eigvalsh(PROBLEM.hessian(each.verdict.theta))
        assert each.certificate is not None and each.is_saddle
        assert int((values < -1e-12 * float(values.abs().max())).sum()) == 1
        assert float(PROBLEM.gradient(each.verdict.theta).norm()) < 1e-12


def test_known_saddles_are_no_bridges(verdicts: cp.Verdicts, bridges: list[CriticalEntry]) -> None:
    strict = [each.theta for each in verdicts if each.kind is cp.Kind.STRICT_MINIMUM]
    ends = [each.theta for each in verdicts if each.kind is cp.Kind.CHANNEL]
    assert find_bridges(PROBLEM, ends[:2] or strict[:2], torch.stack(strict), bridges) == []


def test_bridges_join_more_than_nothing(verdicts: cp.Verdicts) -> None:
    bare = join_minima(PROBLEM, verdicts, [], directions=0, bridge=False)
    graph = join_minima(PROBLEM, verdicts, [], directions=0)
    assert len(bare.tree.merges) == 0 and graph.bridges
    assert len(graph.tree.saddles) == len(graph.bridges) - sum(map(len, graph.left_out.values()))
    certificates = {each.certificate.checksum for each in graph.bridges if each.certificate is not None}
    assert {each.evidence["certificate"] for each in graph.tree.saddles} <= certificates
