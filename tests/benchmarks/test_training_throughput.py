"""benchmarks/training_throughput.py: turns, ratios, what is absent, and the refusal to compare unlike things."""

import importlib
import json
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
TINY = ["--students", "3", "--width", "2", "--rounds", "2", "--threads", "1", "--seconds", "0.001"]
OWN = ["critpoints", "critpoints-mirror", "critpoints-again"]


@pytest.fixture
def load(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return importlib.import_module


@pytest.fixture
def benchmark(load: Any) -> ModuleType:
    return load("training_throughput")


@pytest.fixture
def measuring(load: Any) -> ModuleType:
    return load("_measure")


def run(*arguments: str, program: list[str] | None = None, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, *(program or [str(BENCHMARKS / "training_throughput.py")]), *TINY, *arguments]
    return subprocess.run(command, env={**os.environ, **environment}, capture_output=True, text=True, timeout=600)


def measured(finished: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    assert finished.returncode == 0, finished.stderr
    return json.loads(finished.stdout)


class Recorder:
    """A contestant that writes down its turns."""

    description = ""

    def __init__(self, name: str, diary: list[tuple[str, int]]) -> None:
        self.name, self.diary = name, diary

    def reset(self) -> None:
        self.diary.append((self.name, 0))

    def advance(self, steps: int) -> None:
        self.diary.append((self.name, steps))


def test_the_document_has_a_row_for_every_contestant() -> None:
    document = measured(run("--json", "--rivals", "vmap,vmap-chunked,bmm", "--no-first-calls"))
    assert document["schema"] == 1
    assert document["settings"]["students"] == 3
    assert document["settings"]["samples"] == 1681
    assert document["machine"]["threads"] == 1
    assert document["machine"]["versions"]["torch"].startswith(torch.__version__.partition("+")[0])
    rows = {row["name"]: row for row in document["contestants"]}
    assert set(rows) == {*OWN, "vmap", "vmap-chunked", "bmm"}
    for row in rows.values():
        assert row["status"] == "measured"
        assert row["steps_per_round"] >= 1
        assert row["largest_loss_difference"] <= document["agreement"]["tolerance"] == 1e-10
        for key in ("ms_per_step", "ratio", "ratio_to_mirror"):
            assert 0 < row[key]["min"] <= row[key]["median"] <= row[key]["max"]
    assert rows["critpoints"]["ratio"] == {"median": 1, "min": 1, "max": 1}


def test_a_rival_that_is_not_installed_is_reported_as_absent(tmp_path: Path) -> None:
    (tmp_path / "jax.py").write_text("raise ImportError('no such luck')\n", encoding="utf-8")
    options = ["--rivals", "jax,jax-chunked", "--no-first-calls"]
    document = measured(run("--json", *options, PYTHONPATH=str(tmp_path)))
    absent = [row for row in document["contestants"] if row["status"] == "absent"]
    assert [row["name"] for row in absent] == ["jax", "jax-chunked"]
    assert all("no such luck" in row["reason"] for row in absent)
    for_people = run(*options, PYTHONPATH=str(tmp_path)).stdout
    assert "jax: absent, jax is not installed: no such luck" in for_people


def test_a_rival_that_computes_something_else_stops_the_report() -> None:
    program = (
        f"import sys; sys.path.insert(0, {str(BENCHMARKS)!r})\n"
        "import rivals, training_throughput\n"
        "rivals.Bmm.gradient = lambda self: self.theta.clone()\n"
        "sys.exit(training_throughput.main())"
    )
    finished = run("--json", "--rivals", "bmm", "--no-first-calls", program=["-c", program])
    assert finished.returncode == 1
    assert finished.stdout == ""
    assert "refusing to report: losses differ from those of critpoints: bmm by" in finished.stderr


@pytest.mark.slow
def test_first_calls_are_timed_with_an_empty_and_a_filled_folder() -> None:
    document = measured(run("--json", "--rivals", "none"))
    (first,) = (row["first_call_seconds"] for row in document["contestants"] if "first_call_seconds" in row)
    assert 0 < first["warm"] < first["cold"]  # the cold one compiles for seconds


@pytest.mark.slow
def test_all_rivals_agree_and_are_measured() -> None:
    pytest.importorskip("jax")
    document = measured(run("--json"))
    assert {row["status"] for row in document["contestants"]} == {"measured"}
    assert len(document["contestants"]) == len(OWN) + 6


@pytest.mark.parametrize("wrong", [1 + 1e-6, float("nan")])
def test_losses_that_differ_are_a_disagreement(benchmark: ModuleType, wrong: float) -> None:
    task = benchmark.make_task(students=2, width=2)
    theta = task.theta0
    assert benchmark.largest_differences(task, {"critpoints": theta, "rival": theta.clone()})["rival"] == 0
    with pytest.raises(benchmark._measure.Disagreement, match="rival by"):
        benchmark.largest_differences(task, {"critpoints": theta, "rival": theta * wrong})


def test_the_names_of_the_rivals_are_those_of_the_module(benchmark: ModuleType, load: Any) -> None:
    assert tuple(load("rivals").RIVALS) == benchmark.RIVALS


@pytest.mark.parametrize("arguments", [["--rivals", "vmap,tortoise"], ["--students", "0"], ["--threads", "100000"]])
def test_wrong_options_are_usage_errors(benchmark: ModuleType, arguments: list[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        benchmark.parse(arguments)
    assert stopped.value.code == 2


def test_contestants_take_turns_and_one_step_of_each_is_not_counted(measuring: ModuleType) -> None:
    diary: list[tuple[str, int]] = []
    contestants = [Recorder("hare", diary), Recorder("tortoise", diary)]
    times = measuring.race(contestants, {"hare": 7, "tortoise": 2}, rounds=2)
    assert diary == 2 * [("hare", 0), ("hare", 1), ("hare", 7), ("tortoise", 0), ("tortoise", 1), ("tortoise", 2)]
    assert [len(values) for values in times.values()] == [2, 2]


@pytest.mark.parametrize(("step", "expected"), [(0.001, 500), (0.3, 2), (3.0, 1)])
def test_a_turn_has_the_steps_that_fill_its_time(
    measuring: ModuleType, monkeypatch: pytest.MonkeyPatch, step: float, expected: int
) -> None:
    monkeypatch.setattr(measuring, "seconds_for", lambda contestant, steps: steps * step)
    assert measuring.calibrate(Recorder("hare", []), seconds=0.5) == expected


def test_ratios_are_taken_pair_by_pair(measuring: ModuleType) -> None:
    # the second round was three times slower for both, which leaves the ratios alone
    assert measuring.ratios([4.0, 12.0, 5.0], [2.0, 6.0, 2.0]) == {"median": 2.0, "min": 2.0, "max": 2.5}
