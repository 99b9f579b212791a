"""Units in processes and on a Dask cluster: the same study as a serial one, also where workers die, hang or fail."""

import os
import signal
import threading
import time
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import tasks
import workers
from study_cases import QUICK

from critpoints.errors import InvalidArgument
from critpoints.study import run
from critpoints.study.damage import check_study
from critpoints.study.executors import ProcessExecutor, SerialExecutor, WorkerLost
from critpoints.study.initial import Initial
from critpoints.study.run import run_study
from critpoints.study.spec import StudySpec
from critpoints.study.store import Store
from critpoints.study.units import Unit

WIDTHS, SEEDS = (1, 2), range(6)


def compute(path: Path, executor=None, spec: StudySpec = QUICK, **options) -> tuple[str, list, list]:
    """Content hash, failures and attempts of a study."""
    with Store.create(path, spec) as store:
        failures = run_study(store, WIDTHS, SEEDS, executor=executor, **options)
        return store.content_hash(), failures, store.attempts()


@pytest.fixture(scope="module")
def serial(tmp_path_factory: pytest.TempPathFactory) -> str:
    content, failures, _ = compute(tmp_path_factory.mktemp("serial") / "study.db")
    assert not failures
    return content


@pytest.fixture
def asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of the files that ask workers to misbehave; units of two seeds."""
    folder = tmp_path / "asked"
    folder.mkdir()
    monkeypatch.setenv(workers.VARIABLE, str(folder))
    monkeypatch.setenv("PYTHONPATH", str(Path(workers.__file__).parent), prepend=os.pathsep)
    monkeypatch.setattr(run, "compute_elsewhere", workers.misbehave)
    monkeypatch.setitem(run.BLOCK_SIZES, "cpu", 2)
    return folder


def test_tasks_in_processes_cost_nobody_else_when_they_fail() -> None:
    with ProcessExecutor(1, timeout=60) as executor:
        assert executor.submit(tasks.square, 3).result() == 9
        with pytest.raises(ZeroDivisionError):
            executor.submit(tasks.divide_by_zero).result()
        with pytest.raises(WorkerLost, match="the worker died: exit code 7"):
            executor.submit(tasks.die).result()
        executor.timeout = 0.5
        with pytest.raises(WorkerLost, match=r"hung: no result within 0\.5 s"):
            executor.submit(tasks.fall_asleep).result()
        executor.timeout = 60
        assert executor.submit(tasks.square, 4).result() == 16


def test_shutting_down_does_not_wait_for_what_is_cancelled() -> None:
    executor = ProcessExecutor(1)
    futures = [executor.submit(tasks.fall_asleep) for _ in range(3)]
    while not executor._all:
        time.sleep(0.01)
    executor.shutdown(cancel_futures=True)
    assert all(future.done() for future in futures)
    assert not executor._all[0].process.is_alive()


class Unlucky(SerialExecutor):
    """Loses the worker of a unit as often as ``losses`` says; ``tries`` are those of a cluster that tries again."""

    def __init__(self, losses: dict[tuple[int, int], int], tries: int = 1) -> None:
        self.losses, self.tries = losses, tries

    def submit(self, fn, /, *args, **kwargs):
        unit = args[1]
        key = (unit.width, unit.seeds[0])
        if self.losses.get(key, 0):
            self.losses[key] -= 1
            lost = Future()
            lost.set_exception(WorkerLost("the worker died", self.tries))
            return lost
        return super().submit(fn, *args, **kwargs)


def test_a_unit_is_tried_again_three_times(tmp_path: Path, asked: Path, serial: str) -> None:
    content, failures, attempts = compute(tmp_path / "a.db", Unlucky({(1, 2): 3, (2, 0): 1}))
    assert (content, failures) == (serial, [])
    outcomes = [(each["width"], each["seeds"], each["outcome"]) for each in attempts]
    assert outcomes.count((1, "2-3", "tried again")) == 3 and outcomes.count((2, "0-1", "tried again")) == 1
    content, failures, attempts = compute(tmp_path / "b.db", Unlucky({(1, 2): 4}))
    assert [(str(each.unit), each.reason) for each in failures] == [("width 1, seeds 2-3", "the worker died")]
    assert [each["outcome"] for each in attempts].count("tried again") == 3
    with Store.open(tmp_path / "b.db") as store:
        assert store.missing(1, SEEDS) == [2, 3] and store.missing(2, SEEDS) == []
    assert compute(tmp_path / "b.db", Unlucky({}))[:2] == (serial, [])


def test_what_a_cluster_tried_itself_counts(tmp_path: Path, asked: Path) -> None:
    _, failures, attempts = compute(tmp_path / "study.db", Unlucky({(1, 2): 1}, tries=4))
    assert len(failures) == 1 and "tried again" not in [each["outcome"] for each in attempts]


@pytest.mark.slow
def test_processes_that_crash_hang_and_raise_leave_the_same_study(tmp_path: Path, asked: Path, serial: str) -> None:
    (asked / "1-2").write_text("crash\ncrash\ncrash")  # is tried three times more
    (asked / "2-0").write_text("raise")
    (asked / "2-4").write_text("\n".join(["crash"] * 4))  # once too often
    path = tmp_path / "study.db"
    with ProcessExecutor(2, timeout=300) as executor:
        content, failures, attempts = compute(path, executor)
    reasons = {(each.unit.width, each.unit.seeds): each.reason for each in failures}
    assert reasons == {
        (2, (0, 1)): "ZeroDivisionError: as 2-0 asked for",
        (2, (4, 5)): "the worker died: killed by SIGKILL",
    }
    outcomes = [(each["width"], each["seeds"], each["outcome"]) for each in attempts]
    assert outcomes.count((1, "2-3", "tried again")) == outcomes.count((2, "4-5", "tried again")) == 3
    assert outcomes.count((2, "4-5", "failed")) == outcomes.count((2, "0-1", "failed")) == 1
    assert outcomes.count((1, "2-3", "stored")) == 1 and len({each["worker"] for each in attempts}) > 1
    assert content != serial and check_study(path).sound
    with ThreadPoolExecutor(2) as threads:  # any executor will do; and failed units are tried again
        assert compute(path, threads)[:2] == (serial, [])


def test_an_executor_that_does_not_say_how_many_workers_it_has(tmp_path: Path, serial: str) -> None:
    with ThreadPoolExecutor(1) as threads:
        assert compute(tmp_path / "study.db", threads)[0] == serial


def test_a_worker_gets_the_initial_students_of_its_unit_alone() -> None:
    students = np.arange(30.0).reshape(10, 3)
    initial = Initial({1: students}, "checksum")
    part = initial.of(Unit(1, 0, (4, 7)))
    assert part.checksum == "checksum" and part.students is not None
    assert {seed: row.tolist() for seed, row in part.students[1].items()} == {  # type: ignore[union-attr]
        4: students[4].tolist(),
        7: students[7].tolist(),
    }


def test_a_scheduler_that_does_not_answer_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    cluster = pytest.importorskip("critpoints.study.cluster")
    pytest.importorskip("distributed")
    monkeypatch.setattr(cluster, "_CONNECTING", 0.5)
    with pytest.raises(InvalidArgument, match=r"scheduler tcp://127\.0\.0\.1:9 does not answer"):
        cluster.DaskExecutor("tcp://127.0.0.1:9")


@pytest.mark.slow
def test_a_cluster_of_three_workers_gives_the_same_study(tmp_path: Path, asked: Path, serial: str) -> None:
    """Without faults; with a worker killed from outside in the middle; with one that crashes and one that hangs."""
    pytest.importorskip("distributed")
    from critpoints.study.cluster import DaskExecutor

    with DaskExecutor(workers=3, timeout=60) as executor:
        assert executor.workers == 3
        content, failures, attempts = compute(tmp_path / "plain.db", executor)
        assert (content, failures) == (serial, []) and len({each["worker"] for each in attempts}) > 1

        def kill_the_hanging_one() -> None:
            while not (computing := {w for w, keys in executor._client.processing().items() if keys}):
                time.sleep(0.01)
            worker = sorted(computing)[0]
            killed.append(executor._client.run(os.getpid, workers=[worker])[worker])
            os.kill(killed[0], signal.SIGKILL)

        killed: list[int] = []
        (asked / "1-0").write_text("hang")
        killer = threading.Thread(target=kill_the_hanging_one)
        killer.start()
        content, failures, attempts = compute(tmp_path / "killed.db", executor)
        killer.join()
        assert killed and (content, failures) == (serial, [])
        assert any("worker" in (each["reason"] or "") for each in attempts)

        (asked / "1-2").write_text("crash")
        (asked / "2-4").write_text("\n".join(["crash"] * 4))
        content, failures, attempts = compute(tmp_path / "crashes.db", executor)
        assert [str(each.unit) for each in failures] == ["width 2, seeds 4-5"]
        again = [(each["width"], each["seeds"]) for each in attempts if each["outcome"] == "tried again"]
        # a unit that waits for its turn on a worker that dies counts as tried there: Dask cannot tell
        assert again.count((2, "4-5")) == 3 and again.count((1, "2-3")) >= 1
        assert compute(tmp_path / "crashes.db", executor)[:2] == (serial, [])


def test_local_workers_take_the_gpus_in_turn_and_a_new_one_the_lost_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("distributed")
    from critpoints.study import cluster

    monkeypatch.setattr(cluster, "visible_gpus", lambda: ["3", "5"])
    with cluster.DaskExecutor(workers=3) as executor:
        first = executor.submit(os.getenv, "CUDA_VISIBLE_DEVICES").result(60)
        everywhere = executor._client.run(os.getenv, "CUDA_VISIBLE_DEVICES")
        assert first in ("3", "5") and sorted(everywhere.values()) == ["3", "3", "5"]
        executor._client.restart_workers(sorted(everywhere), timeout=60)
        again = executor._client.run(os.getenv, "CUDA_VISIBLE_DEVICES")
        assert sorted(again.values()) == ["3", "3", "5"]


def test_gpus_are_those_that_the_user_made_visible(monkeypatch: pytest.MonkeyPatch) -> None:
    cluster = pytest.importorskip("critpoints.study.cluster")
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert cluster.visible_gpus() == ["0", "1"]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "6,GPU-a")
    assert cluster.visible_gpus() == ["6", "GPU-a"]
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    assert cluster.visible_gpus() == []
