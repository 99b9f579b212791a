from pathlib import Path

import numpy as np
import pytest
import torch
from study_cases import QUICK, contents, saddles

from critpoints.classification import classify
from critpoints.errors import InvalidArgument
from critpoints.objectives.teacher_student import TeacherStudent
from critpoints.solvers.training import train
from critpoints.study import run
from critpoints.study.initial import Initial
from critpoints.study.memory import is_out_of_memory
from critpoints.study.run import run_study
from critpoints.study.spec import StudySpec
from critpoints.study.store import Store

WIDTHS = (1, 2)


def compute(path: Path, seeds: range, widths: tuple[int, ...] = WIDTHS, spec: StudySpec = QUICK, **options) -> str:
    """The content hash of the study at path, extended by these seeds."""
    with Store.create(path, spec) as store:
        run_study(store, widths, seeds, **options)
        return store.content_hash()


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("study") / "whole.db"
    compute(path, range(10))
    return path


@pytest.fixture(scope="module")
def whole_hash(whole: Path) -> str:
    with Store.open(whole) as store:
        return store.content_hash()


def test_a_row_is_what_the_library_computes(whole: Path) -> None:
    problem = TeacherStudent.grid()
    with Store.open(whole) as store:
        row = list(store.points(2))[7]
    trained = train(problem, problem.init(2, [7]), steps=20, lr=1e-2)
    assert row["trained_theta"].tobytes() == trained.theta[0].numpy().tobytes()
    assert row["loss"] <= row["trained_loss"]
    verdict = classify(problem, torch.from_numpy(row["theta"]))[0]
    assert (row["kind"], row["index"], row["nullity"]) == (verdict.kind, verdict.index, verdict.nullity)
    assert row["eigenvalues"].tobytes() == verdict.eigenvalues.numpy().tobytes()


@pytest.mark.parametrize("size", [1, 3, 100])
def test_rows_do_not_depend_on_the_unit(
    tmp_path: Path, whole_hash: str, size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(run.BLOCK_SIZES, "cpu", size)
    if size == 1:  # ten units a width take a while
        assert compute(tmp_path / "a.db", range(4), (2,)) == compute_again(tmp_path, monkeypatch)
    else:
        assert compute(tmp_path / "study.db", range(10)) == whole_hash


def compute_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setitem(run.BLOCK_SIZES, "cpu", 100)
    return compute(tmp_path / "b.db", range(4), (2,))


def test_units_are_aligned(tmp_path: Path, small_blocks: None) -> None:
    with Store.create(tmp_path / "study.db", QUICK) as store:
        run_study(store, [1], range(3, 9))
        assert [(unit["block"], unit["points"]) for unit in store.units()] == [(0, 1), (1, 4), (2, 1)]


def test_an_extended_study_equals_one_computed_at_once(tmp_path: Path, whole_hash: str, small_blocks: None) -> None:
    path = tmp_path / "study.db"
    compute(path, range(5, 7), (2,))
    compute(path, range(3), (1,))
    compute(path, range(6))
    assert compute(path, range(10)) == whole_hash


class Ended(BaseException):
    pass


@pytest.mark.parametrize("calls", [1, 2, 10, 19, 20, 60, 120])
def test_an_interrupted_study_equals_an_uninterrupted_one(
    tmp_path: Path, whole_hash: str, small_blocks: None, calls: int
) -> None:
    path, messages = tmp_path / "study.db", []

    def interrupt(done: float, total: int, message: str) -> None:
        messages.append(message)
        if len(messages) == calls:
            raise Ended

    with pytest.raises(Ended):
        compute(path, range(10), callback=interrupt)
    stored = contents(path)
    units = [message for message in messages if message.endswith("stored")]
    assert len(stored) == sum(2 if "8-9" in message else 4 for message in units)
    assert compute(path, range(10)) == whole_hash
    kept = {(row["width"], row["seed"]): row["unit"] for row in stored}
    assert kept.items() <= {(row["width"], row["seed"]): row["unit"] for row in contents(path)}.items()


def test_a_finished_study_is_not_computed_again(whole: Path) -> None:
    before = contents(whole)
    with Store.create(whole, QUICK) as store:
        run_study(store, WIDTHS, range(10), callback=lambda *_: pytest.fail("it computes"))
    assert contents(whole) == before


def test_progress_rises_to_the_total(tmp_path: Path, small_blocks: None) -> None:
    progress = []
    compute(tmp_path / "study.db", range(6), (1,), callback=lambda *each: progress.append(each))
    done = [each[0] for each in progress]
    assert done == sorted(done) and (done[0], done[-1]) == (0, 6)
    assert {each[1] for each in progress} == {6}


def test_new_rules_judge_old_points_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "study.db"
    compute(path, range(3), (1,))
    before = contents(path)
    now = run.CLASSIFIER_VERSION
    monkeypatch.setattr(run, "CLASSIFIER_VERSION", now + 1)
    compute(path, range(3), (1,))
    after = contents(path)
    assert [row.pop("classifier_version") for row in after] == [str(now + 1)] * 3
    assert [row.pop("classifier_version") for row in before] == [str(now)] * 3
    assert after == before


def test_rows_that_diverge_are_stored_as_such(tmp_path: Path) -> None:
    path = tmp_path / "study.db"
    students = np.array([[1.0, 0.5, 1.0], [1.0, 1.0, 1e200], [0.5, 0.5, 1.0]])
    spec = StudySpec(steps=20, lr=1e-2, init="these")
    with Store.create(path, spec) as store:
        run_study(store, [1], range(3), initial=Initial({1: students}, "these"))
        rows = list(store.points(1))
    assert [row["status"] for row in rows] == ["converged", "non_finite", "converged"]
    assert rows[1]["kind"] == "undecided" and not np.isfinite(rows[1]["loss"])


def test_initial_students_must_be_those_of_the_specification(tmp_path: Path) -> None:
    with Store.create(tmp_path / "study.db", QUICK) as store, pytest.raises(InvalidArgument, match="initial"):
        run_study(store, [2], range(4), initial=Initial({2: saddles()}, "of another file"))


# --- out of memory


MEMORY_ERRORS = [
    MemoryError("Unable to allocate 8 TiB"),
    RuntimeError("[enforce fail at alloc_cpu.cpp:121] DefaultCPUAllocator: can't allocate memory: you tried 8 bytes"),
    RuntimeError("CUDA out of memory. Tried to allocate 20.00 GiB"),
]


def with_memory_for(most: int, error: Exception, sizes: list[int]):
    compute_unit = run.compute_unit

    def limited(spec, problem, unit, *rest):
        sizes.append(len(unit.seeds))
        if len(unit.seeds) > most:
            raise error
        return compute_unit(spec, problem, unit, *rest)

    return limited


@pytest.mark.parametrize("error", MEMORY_ERRORS, ids=["numpy", "torch", "cuda"])
def test_how_libraries_say_that_the_memory_is_full(error: Exception) -> None:
    assert is_out_of_memory(error)
    assert not is_out_of_memory(ValueError("out of memory"))


def test_a_unit_that_does_not_fit_is_halved_without_a_change(
    tmp_path: Path, whole_hash: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes: list[int] = []
    monkeypatch.setattr(run, "compute_unit", with_memory_for(3, MEMORY_ERRORS[1], sizes))
    assert compute(tmp_path / "study.db", range(10)) == whole_hash
    assert sizes == [10, 5, 2, 3, 2, 3] * 2
    with Store.open(tmp_path / "study.db") as store:
        assert [unit["points"] for unit in store.units()] == [10, 10]


def test_a_seed_that_does_not_fit_alone_fails_and_the_study_goes_on(
    tmp_path: Path, small_blocks: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    compute_unit = run.compute_unit

    def limited(spec, problem, unit, *rest):
        if 5 in unit.seeds:
            raise MemoryError("full")
        return compute_unit(spec, problem, unit, *rest)

    monkeypatch.setattr(run, "compute_unit", limited)
    with Store.create(tmp_path / "study.db", QUICK) as store:
        (failure,) = run_study(store, [1], range(10))
        assert "seed 5 of width 1 alone does not fit: full" in failure.reason
        assert store.missing(1, range(10)) == [4, 5, 6, 7]
        (note,) = [attempt for attempt in store.attempts() if attempt["outcome"] == "failed"]
        assert note["seeds"] == "4-7"


def test_other_errors_are_not_taken_for_a_full_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []
    monkeypatch.setattr(run, "compute_unit", with_memory_for(0, RuntimeError("shapes do not match"), sizes))
    with Store.create(tmp_path / "study.db", QUICK) as store:
        (failure,) = run_study(store, [1], range(10))
    assert (sizes, failure.reason) == ([10], "RuntimeError: shapes do not match")


def test_a_study_on_a_gpu_refines_there_and_is_judged_on_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """The GPU's part replaced by the CPU's own refinement: the same kinds, and the loss never higher."""
    problem, unit = TeacherStudent.grid(), run.Unit(2, 0, (0, 1, 2, 3))
    plain, verdicts = run.compute_unit(QUICK, problem, unit, Initial())
    monkeypatch.setattr(run, "_refined_on_gpu", lambda spec, problem, theta: run.refine(problem, theta).theta)
    twice, again = run.compute_unit(QUICK, problem, unit, Initial())
    assert [row["kind"] for row in again] == [row["kind"] for row in verdicts]
    for first, second in zip(plain, twice, strict=True):
        assert np.array_equal(first["trained_theta"], second["trained_theta"])
        assert second["loss"] <= first["loss"] * (1 + 1e-9) + 1e-25


def test_the_cpu_does_not_refine_twice() -> None:
    theta = torch.zeros(1, 6, dtype=torch.float64)
    assert run._refined_on_gpu(QUICK, TeacherStudent.grid(), theta) is theta
