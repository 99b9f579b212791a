"""Saddles of students of width 2: all come from one neuron, split or joined by a silent one, or are isolated."""

import pytest
import torch

import critpoints as cp
from critpoints.landscape.origins import trace_origin
from critpoints.landscape.saddle_census import LINE_END, PAIRS, SILENT, SPLIT, SaddleCensus, take_saddle_census
from critpoints.landscape.saddle_starts import (
    BETWEEN,
    OUTSIDE,
    PLACES,
    find_predicted,
    line_starts,
    midpoints,
    perturb,
    predict_saddles,
)
from critpoints.solvers.saddle_search import search_saddles
from critpoints.symmetry.merging import biased
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
        assert entry.certificate is not None
        document = entry.certificate.document
        section = {SILENT: "zero_output", SPLIT: "split", PAIRS: "split"}.get(entry.origin, "critical_point")
        assert document[section]["inertia"]["negative"] == entry.verdict.index


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


def test_every_saddle_is_proven_or_its_singularity_is_named(census: SaddleCensus) -> None:
    for entry in census.entries:
        assert entry.certificate is not None or entry.origin == LINE_END, entry.proof


def test_parents_are_the_narrower_students(single: torch.Tensor, census: SaddleCensus) -> None:
    lowest = sorted(float(PROBLEM.loss(point)) for point in single)
    for entry in census.entries:
        if entry.origin in (SPLIT, SILENT) and len(entry.copies) == 1:
            assert entry.parent is not None and (entry.parent.width, entry.parent.constant) == (1, False)
            assert min(abs(entry.parent.loss - loss) for loss in lowest) < 1e-9 or entry.parent.kind != "strict_minimum"
            assert entry.parent.loss == pytest.approx(entry.verdict.loss, rel=1e-9)


def test_antipodal_pairs_come_from_a_student_with_an_output_bias() -> None:
    narrow = biased(PROBLEM)
    small = torch.tensor([0.7, 0.2, -0.4, 0.9, 1.5, -0.8, 0.25], dtype=torch.float64)
    w, a, b = small[:4].reshape(2, 2), small[4:6], small[6]
    outputs = torch.stack([0.4 * a[0], a[1] + b + 0.6 * a[0], -0.6 * a[0], b + 0.6 * a[0]])
    theta = torch.cat([w[0], w[1], -w[0], -w[1], outputs])
    torch.testing.assert_close(PROBLEM.predict(theta), narrow.predict(small))
    origin = trace_origin(PROBLEM, theta)
    assert origin is not None and origin.induced.constant
    torch.testing.assert_close(origin.small, small)
    shares = [(each.of, each.sign) for each in origin.induced.members]
    assert shares == [(0, 1), (1, 1), (0, -1), (1, -1)]
    assert origin.induced.members[0].share == pytest.approx(0.4)
    one_pair = torch.cat([w[0], w[1], -w[0], outputs[:3]])
    assert trace_origin(PROBLEM, one_pair).induced.constant is False  # pyright: ignore[reportOptionalMemberAccess]


def test_without_output_weights_there_is_no_narrower_student() -> None:
    origin = trace_origin(PROBLEM, torch.cat([torch.ones(6), torch.zeros(3)]).double())
    assert origin is not None and (origin.induced.width, origin.silent, len(origin.small)) == (0, (0, 1, 2), 0)


def test_starts_stand_at_their_distances_from_the_parts_of_lines(single: torch.Tensor) -> None:
    predicted = predict_saddles(PROBLEM, single)
    points, starts = line_starts(PROBLEM, predicted, range(len(predicted)), 3)
    assert len(points) == len(starts) == 3 * 3 * len(predicted)
    for point, start in zip(points, starts, strict=True):
        each = predicted[start.predicted]
        assert start.shares in PLACES[BETWEEN if min(each.shares) > 0 else OUTSIDE]
        on_line = split(PROBLEM, each.small, each.neuron, start.shares)
        assert float((point - on_line).norm()) == pytest.approx(start.distance * float(on_line.norm()))
    assert sorted({start.distance for start in starts}) == pytest.approx([1e-4, 1e-3, 1e-2])


def test_midpoints_lie_between_a_point_and_the_nearest_image_of_the_other() -> None:
    a = PROBLEM.init(3, [0])[0]
    w, out = PROBLEM.split(a)
    b = torch.cat([w[[2, 0, 1]].flatten(), out[[2, 0, 1]]]) + 1e-3
    (middle,) = midpoints(PROBLEM, torch.stack([a, b]))
    assert float((middle - a).norm()) == pytest.approx(0.5e-3 * 3, rel=1e-6)
