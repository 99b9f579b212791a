"""Runs critpoints classify again and again in one process, each time with a fault at another moment.

Run by test_faults.py in a process of its own, with the shim loaded. Prints one JSON document.
"""

import ctypes
import errno
import io
import json
import os
import random
import signal
import sys
import time
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

from study_cases import point_row, verdict_row

from critpoints.study import run as study_run
from critpoints.study.damage import check_study
from critpoints.study.spec import CLASSIFIER_VERSION
from critpoints.study.store import Store
from critpoints_cli import report
from critpoints_cli.main import main

ONCE, FROM_THEN_ON, KILL, KILL_AFTER_SYNC = range(4)
WIDTH, SEEDS, BLOCK = 1, 6, 2
LIMIT = 2000  # no run has that many operations

shim = ctypes.CDLL(None)
folder = Path(sys.argv[1]).resolve()
path = folder / "study.db"
arguments = ["classify", "--width", str(WIDTH), "--seeds", str(SEEDS), "--steps", "20", "--lr", "0.01", "--quiet"]
arguments += ["--out", str(path)]


def arm(n: int, error: int = 0, mode: int = ONCE, only_syncs: bool = False) -> None:
    shim.fault_arm(str(folder).encode(), ctypes.c_long(n), error, mode, int(only_syncs))


def invent_rows(*task) -> tuple[list, list]:
    """In the place of the numerics, which have no files: rows that depend on width and seed alone."""
    unit = next(each for each in task if isinstance(each, study_run.Unit))
    points = [point_row(seed, unit.width) for seed in unit.seeds]
    return points, [verdict_row(seed, unit.width, CLASSIFIER_VERSION) for seed in unit.seeds]


def classify(acknowledge: Callable[[int], None] = lambda seed: None) -> int:
    """The exit code; ``acknowledge`` hears of every seed whose commit has returned."""
    commit = Store.commit

    def acknowledged(store, unit, points, *rest, **others):
        points = list(points)
        commit(store, unit, points, *rest, **others)
        for row in points:
            acknowledge(row["seed"])

    Store.commit = acknowledged
    try:
        with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
            return main(arguments)
    finally:
        Store.commit = commit


def in_child(action: Callable[[Callable[[int], None]], int], kill_after: tuple[int, float] | None = None):
    """Runs in a fork: its wait status, and the seeds that it acknowledged.

    ``kill_after`` so many seeds, and so many seconds, it is killed.
    """
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reader)
        os._exit(action(lambda seed: os.write(writer, b"%d\n" % seed)))
    os.close(writer)
    acknowledged = []
    with os.fdopen(reader) as lines:
        if kill_after is not None:
            seeds, seconds = kill_after
            acknowledged = [int(lines.readline()) for _ in range(seeds)]
            time.sleep(seconds)
            os.kill(child, signal.SIGKILL)
        acknowledged += [int(line) for line in lines]
    return os.waitpid(child, 0)[1], acknowledged


def clean() -> None:
    for each in folder.iterdir():
        each.unlink()


def verify(acknowledged: list[int], label: str) -> None:
    """Nothing that is there is damaged, and everything acknowledged is there."""
    if not path.exists() or (not acknowledged and not path.stat().st_size):
        assert not acknowledged, label
        return
    try:
        with Store.open(path) as store:
            there = [row["seed"] for row in store.points(WIDTH)]
    except Exception as error:
        # ended before there was a study, or a schema is being undone: nothing had been acknowledged then
        assert not acknowledged and "empty database" in str(error), (label, error)
        return
    assert set(acknowledged) <= set(there), (label, acknowledged, there)
    found = check_study(path)
    assert found.sound, (label, found.damages)


def content_hash() -> str:
    with Store.open(path) as store:
        return store.content_hash()


def resume(expected: str, label: str, computes: bool = True) -> None:
    status = in_child(classify)[0] if computes else classify()  # no kernel may run before a fork
    assert status == 0, (label, status)
    assert content_hash() == expected, label
    assert check_study(path).sound, label
    assert [each.name for each in folder.iterdir()] == [path.name], label


def uninterrupted() -> str:
    clean()
    assert in_child(classify)[0] == 0
    return content_hash()


def faults(error: int, mode: int) -> dict:
    """The n-th operation fails, n = 1, 2, 3, ..., until a run passes untouched."""
    clean()
    assert classify() == 0
    expected, codes = content_hash(), []
    for n in range(1, LIMIT):
        clean()
        acknowledged: list[int] = []
        arm(n, error, mode)
        code = classify(acknowledged.append)
        if shim.fault_seen() < n:
            assert code == 0 and content_hash() == expected
            return {"operations": n - 1, "failed": codes.count(4), "harmless": codes.count(0)}
        arm(0)
        label = f"operation {n}, {os.strerror(error)}"
        codes.append(code)
        # a fault while the finished study leaves its log costs nothing
        assert code == 4 or (code == 0 and len(acknowledged) == SEEDS), (label, code)
        verify(acknowledged, label)
        resume(expected, label, computes=False)
    raise AssertionError("no run passed untouched")


def kills(mode: int, only_syncs: bool) -> dict:
    """The process is killed at the n-th operation, n = 1, 2, 3, ..., until a run passes untouched."""
    expected = uninterrupted()
    for n in range(1, LIMIT):
        clean()

        def run_to_its_death(acknowledge, n=n) -> int:
            arm(n, 0, mode, only_syncs)
            return classify(acknowledge)

        status, acknowledged = in_child(run_to_its_death)
        assert os.waitstatus_to_exitcode(status) in (-signal.SIGKILL, 0), status
        verify(acknowledged, f"killed at operation {n}")
        resume(expected, f"killed at operation {n}")
        if status == 0:
            return {"kills": n - 1}
    raise AssertionError("no run passed untouched")


def random_kills(count: int) -> dict:
    """Killed from outside at random moments, until that has come before the end ``count`` times.

    The moments are in random units, not in a share of the whole time: on a busy machine no two runs take as long.
    """
    expected = uninterrupted()
    started = time.monotonic()
    uninterrupted()  # once more: the first may have compiled
    of_a_unit, rng = (time.monotonic() - started) * BLOCK / SEEDS, random.Random(0)
    killed, too_late, seeds = 0, 0, []
    while killed < count:
        clean()
        moment = rng.randrange(0, SEEDS, BLOCK), rng.uniform(0, of_a_unit)
        status, acknowledged = in_child(classify, moment)
        verify(acknowledged, f"kill {killed}")
        if os.waitstatus_to_exitcode(status) != -signal.SIGKILL:
            too_late += 1
            continue
        killed += 1
        seeds.append(len(acknowledged))
        resume(expected, f"kill {killed}")
    return {"killed": killed, "too_late": too_late, "acknowledged": sorted(seeds), "seconds": of_a_unit}


RUNS = {
    "faults once": lambda: faults(errno.EIO, ONCE),
    "disk full": lambda: faults(errno.ENOSPC, FROM_THEN_ON),
    "kills before syncs": lambda: kills(KILL, True),
    "kills after syncs": lambda: kills(KILL_AFTER_SYNC, True),
    "kills": lambda: kills(KILL, False),
    "random kills": lambda: random_kills(int(sys.argv[4])),
}

if __name__ == "__main__":
    study_run.BLOCK_SIZES["cpu"] = BLOCK
    if sys.argv[3] == "invented":
        study_run.compute_unit = invent_rows
        report.print_report = lambda *arguments, **options: None
    print(json.dumps(RUNS[sys.argv[2]]()))
