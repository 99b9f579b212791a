"""Ctrl-C and SIGTERM: what is committed stays, the rest is computed by the command that is printed."""

import os
import re
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from critpoints.study import run as study_run
from critpoints.study.store import Store
from critpoints_cli.main import main

CLASSIFY = ["classify", "--width", "1,2", "--seeds", "6", "--steps", "20", "--lr", "0.01", "--out", "a study.db"]


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_the_run_and_the_printed_command_resumes_it(
    run, empty: Path, study: Path, monkeypatch: pytest.MonkeyPatch, number: signal.Signals, code: int
) -> None:
    monkeypatch.setitem(study_run.BLOCK_SIZES, "cpu", 2)
    compute_unit, units = study_run.compute_unit, []

    def interrupted_in_the_fourth(*arguments):
        rows = compute_unit(*arguments)
        units.append(arguments)
        if len(units) == 4:
            os.kill(os.getpid(), number)
            time.sleep(10)  # the signal comes before this is over
        return rows

    monkeypatch.setattr(study_run, "compute_unit", interrupted_in_the_fourth)
    finished = run(*CLASSIFY)
    assert finished.code == code
    assert finished.out == ""
    assert [each.name for each in empty.iterdir()] == ["a study.db"]
    assert "interrupted with 6 of 12 points missing" in finished.err
    command = re.search(r"resume with: (.*)", finished.err)
    assert command and shlex.split(command[1]) == ["critpoints", *CLASSIFY]

    shown = run("show", "a study.db")
    assert shown.code == 5 and "6 of 12 points are missing" in shown.err
    resumed = run(*shlex.split(command[1])[1:])
    assert resumed.code == 0 and "6 of 12 points to compute" in resumed.err
    with Store.open("a study.db") as store, Store.open(study) as uninterrupted:
        assert store.content_hash() == uninterrupted.content_hash()
    assert run("show", "a study.db").code == 0


def test_handlers_are_put_back(run) -> None:
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    run("--version")
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before


def test_a_killed_run_resumes_to_the_same_study(empty: Path, study: Path) -> None:
    """SIGKILL in the middle of a process of its own."""
    program = (
        "from critpoints.study import run\nrun.BLOCK_SIZES['cpu'] = 1\n"
        f"from critpoints_cli.main import main\nmain({CLASSIFY})"
    )
    with subprocess.Popen([sys.executable, "-c", program], cwd=empty, stderr=subprocess.DEVNULL) as process:
        path = empty / "a study.db"
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline and not (path.exists() and stored(path) >= 2):
            time.sleep(0.005)
        process.send_signal(signal.SIGKILL)
    assert main(CLASSIFY) == 0
    with Store.open(path) as store, Store.open(study) as uninterrupted:
        assert store.content_hash() == uninterrupted.content_hash()
    assert [each.name for each in empty.iterdir()] == ["a study.db"]


def stored(path: Path) -> int:
    """Units in a study that another process may be creating this moment."""
    try:
        with Store.open(path) as store:
            return len(store.units())
    except Exception:
        return 0
