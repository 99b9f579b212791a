"""The census: planted copies of one point are one, distinct ones stay apart, channels are counted by their end."""

import itertools

import numpy as np
import pytest
import torch

import critpoints as cp
from critpoints.census import _by_function, _limit_outputs, is_odd
from critpoints.objectives.limit import LimitObjective, LimitShape
from critpoints.symmetry.group import apply, random_element


@pytest.fixture(scope="module")
def settled(trained):
    problem, theta = trained
    return problem, cp.settle(problem, theta).verdicts


def test_every_decided_row_is_in_exactly_one_entry(settled):
    problem, verdicts = settled
    census = cp.take_census(problem, verdicts)
    rows = sorted(row for entry in census.entries for row in entry.rows)
    assert rows == [row for row, kind in enumerate(verdicts.kind) if kind is not cp.Kind.UNDECIDED]
    assert census.total == len(verdicts)


def test_permuted_copies_of_the_points_add_no_entries(settled):
    problem, verdicts = settled
    rng = np.random.default_rng(0)
    copies = torch.stack([apply(problem, random_element(problem, v.theta, rng), v.theta) for v in verdicts])
    doubled = cp.Verdicts.gather([*verdicts, *cp.classify(problem, copies)])
    once, twice = cp.take_census(problem, verdicts), cp.take_census(problem, doubled)
    isolated = cp.Kind.STRICT_MINIMUM
    assert [2 * e.count for e in once.entries if e.kind is isolated] == [
        e.count for e in twice.entries if e.kind is isolated
    ]


def test_the_reflection_of_all_neurons_is_divided_out_on_odd_data(settled):
    problem, verdicts = settled
    minima = [v for v in verdicts if v.kind is cp.Kind.STRICT_MINIMUM]
    mirrored = cp.classify(problem, torch.stack([-v.theta for v in minima]))
    both = cp.take_census(problem, cp.Verdicts.gather([*minima, *mirrored]))
    assert len(both.entries) == len(cp.take_census(problem, cp.Verdicts.gather(minima)).entries)


def test_points_of_different_loss_are_different_entries(settled):
    problem, verdicts = settled
    for entry in cp.take_census(problem, verdicts).entries:
        if entry.kind is cp.Kind.STRICT_MINIMUM:
            losses = [verdicts[row].loss for row in entry.rows]
            assert max(losses) - min(losses) < 1e-15


def test_labels_name_the_rows(settled):
    problem, verdicts = settled
    census = cp.take_census(problem, verdicts, labels=[100 + row for row in range(len(verdicts))])
    assert all(row >= 100 for entry in census.entries for row in entry.rows)


@pytest.mark.parametrize("shape", [LimitShape(1, 1, True, True, (1, -1)), LimitShape(2, 1, False, False)])
def test_half_of_mirrored_data_tells_limit_networks_apart_as_all_of_them_do(trained, shape: LimitShape) -> None:
    problem, _ = trained
    limit = LimitObjective(problem, shape)
    ends = np.random.default_rng(0).standard_normal((5, limit.dim or 0))
    figures = {row: {"limit_shape": shape.__dict__, "limit_theta": ends[row].tolist()} for row in range(5)}
    assert is_odd(problem)
    known_by = _limit_outputs(problem, [3, 0, 1, 4, 2], figures)
    outputs = limit.predict(torch.from_numpy(ends[[3, 0, 1, 4, 2]]))
    mean = (outputs * problem.sample_weight).sum(-1, keepdim=True)
    everything = torch.cat([mean.abs(), outputs - mean], -1).numpy()
    for row, other in itertools.combinations(range(5), 2):
        apart, expected = (np.abs(of[row] - of[other]).max() for of in (known_by, everything))
        assert apart == pytest.approx(expected, rel=1e-12)


def test_ends_of_channels_are_told_apart_by_their_functions(trained) -> None:
    """More ends than the room first made for them, each found again by a student a little off."""
    problem, _ = trained
    rng = np.random.default_rng(0)
    shape = {"ordinary": 1, "pairs": 1, "triples": [], "constant": False, "linear": False}
    ends = rng.standard_normal((40, 8))
    rows = rng.permutation(np.repeat(np.arange(40), 3))
    figures = {
        row: {"limit_shape": shape, "limit_theta": (ends[end] + 1e-9 * rng.standard_normal(8)).tolist()}
        for row, end in enumerate(rows)
    }
    groups = _by_function(problem, list(figures), figures)
    assert sorted(map(tuple, groups)) == sorted(tuple(np.flatnonzero(rows == end)) for end in range(40))
