"""Saddles of students of width 2: all come from one neuron, split or joined by a silent one, or are isolated."""

from dataclasses import replace

import pytest
import torch

import critpoints as cp
from critpoints.certification.prover import Prover
from critpoints.certification.zero_output import prove_zero_output
from critpoints.errors import NotCertified
from critpoints.landscape.saddle_census import SILENT, SPLIT, SaddleCensus, take_saddle_census, trace_origin
from critpoints.landscape.saddle_starts import find_predicted, midpoints, perturb, predict_saddles
from critpoints.solvers.saddle_search import search_saddles
from critpoints.symmetry.splitting import split

PROBLEM = cp.TeacherStudent.grid()


@pytest.fixture(scope="module")
def single() -> torch.Tensor:
    """The distinct minima of one neuron, (K, 3)."""
    settled = cp.settle(PROBLEM, PROBLEM.init(1, range(6)))
    census = cp.take_census(PROBLEM, settled.verdicts)
    return torch.stack([e.representative for e in census.entries if e.kind is cp.Kind.STRICT_MINIMUM])


@pytest.fixture(scope="module")
def census(single: torch.Tensor) -> SaddleCensus:
    theta = perturb(PROBLEM.init(2, range(24)), 0.05, range(24))
    predicted = predict_saddles(PROBLEM, single)
    lines = perturb(torch.stack([each.point for each in predicted]), 0.05, range(len(predicted)))
    targets = [-1, 1, 2] * 8 + [each.inertia.negative for each in predicted]
    found = search_saddles(PROBLEM, torch.cat([theta, lines]), index=targets, max_iterations=100)
    return take_saddle_census(PROBLEM, found, max_index=3)


def test_every_entry_is_critical_and_has_the_inertia_of_the_dense_hessian(census: SaddleCensus) -> None:
    assert {entry.origin for entry in census.entries} >= {SPLIT, SILENT}
    for entry in census.entries:
        theta = entry.verdict.theta
        assert float(PROBLEM.gradient(theta).norm()) < 1e-12
        values = torch.linalg.eigvalsh(PROBLEM.hessian(theta))
        floor = 1e-12 * float(values.abs().max())
        assert int((values < -floor).sum()) == entry.verdict.index


def test_entries_are_distinct_modulo_symmetry(census: SaddleCensus) -> None:
    parts = [(e.origin, e.copies, e.negative, len(e.silent)) for e in census.entries]
    keys = [(*part, e.verdict.index, round(e.verdict.loss, 12)) for part, e in zip(parts, census.entries, strict=True)]
    assert len(set(keys)) == len(keys)
    assert sum(entry.count for entry in census.entries) == sum(
        count for name, count in census.ends.items() if name in ("converged", "rounding")
    ) - sum(census.ends.get(name, 0) for name in ("above the largest index", "copies that cancel"))


def test_what_is_proven_agrees_with_what_was_found(census: SaddleCensus) -> None:
    proven = [entry for entry in census.entries if entry.certificate is not None]
    assert len(proven) >= 3
    for entry in proven:
        if entry.origin == SILENT:
            negative = int(entry.proof.split("inertia ")[1].split("-")[0])
        else:
            assert entry.certificate is not None
            document = entry.certificate.document
            where = document["split"] if entry.origin == SPLIT else document["critical_point"]
            negative = where["inertia"]["negative"]
        assert negative == entry.verdict.index


def test_the_saddles_that_splitting_predicts_are_found(single: torch.Tensor, census: SaddleCensus) -> None:
    predicted = predict_saddles(PROBLEM, single)
    assert predicted
    for each, number in zip(predicted, find_predicted(PROBLEM, predicted, census), strict=True):
        assert number is not None
        assert census.entries[number].verdict.loss == pytest.approx(float(PROBLEM.loss(each.small)), rel=1e-9)
        assert census.entries[number].verdict.level == PROBLEM.teacher_width - 1


def test_origins_are_traced() -> None:
    small = PROBLEM.init(2, [3])[0]
    assert trace_origin(PROBLEM, small).copies == (1, 1)  # pyright: ignore[reportOptionalMemberAccess]
    both = trace_origin(PROBLEM, split(PROBLEM, small, 1, (0.25, 0.5, 0.25)))
    assert both is not None and (both.copies, both.silent) == ((1, 3), ()) and both.worst_share == pytest.approx(0.25)
    silent = trace_origin(PROBLEM, torch.cat([small[:4], torch.tensor([9.0, 9.0]).to(small), small[4:], small[:1] * 0]))
    assert silent is not None and (silent.copies, silent.silent) == ((1, 1), (2,))
    torch.testing.assert_close(silent.small, small)


def test_a_silent_neuron_off_the_curve_is_not_proven(census: SaddleCensus) -> None:
    entry = next(e for e in census.entries if e.origin == SILENT and e.certificate is not None)
    assert entry.small is not None
    theta = entry.verdict.theta.clone()
    quiet = int(PROBLEM.split(theta)[1].abs().argmin())
    theta[2 * quiet] += 1e-3
    with pytest.raises(NotCertified, match="change its sign"):
        prove_zero_output(Prover(PROBLEM), entry.small, replace(entry.verdict, theta=theta), entry.silent)


def test_midpoints_lie_between_a_point_and_the_nearest_image_of_the_other() -> None:
    a = PROBLEM.init(3, [0])[0]
    w, out = PROBLEM.split(a)
    b = torch.cat([w[[2, 0, 1]].flatten(), out[[2, 0, 1]]]) + 1e-3
    (middle,) = midpoints(PROBLEM, torch.stack([a, b]))
    assert float((middle - a).norm()) == pytest.approx(0.5e-3 * 3, rel=1e-6)
