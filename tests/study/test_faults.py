"""Writes that fail and processes that are killed at every moment: nothing acknowledged is lost, nothing is damaged.

The fast ones store invented rows, the slow ones what the numerics compute.
"""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).parent.parent / "faults"


@pytest.fixture(scope="session")
def shim(tmp_path_factory: pytest.TempPathFactory) -> Path:
    compiler = shutil.which("cc")
    if compiler is None or sys.platform != "linux":
        pytest.skip("needs a C compiler, and LD_PRELOAD")
    library = tmp_path_factory.mktemp("shim") / "shim.so"
    source = str(FOLDER / "shim.c")
    subprocess.run([compiler, "-shared", "-fPIC", "-O2", "-Wall", "-o", library, source, "-ldl"], check=True)
    return library


@pytest.fixture
def drive(shim: Path, tmp_path: Path):
    def run(name: str, rows: str, *more: str) -> dict:
        finished = subprocess.run(
            [sys.executable, str(FOLDER / "driver.py"), str(tmp_path), name, rows, *more],
            env=os.environ | {"LD_PRELOAD": str(shim)},
            capture_output=True,
            text=True,
        )
        assert finished.returncode == 0, finished.stderr
        print(name, rows, finished.stdout)
        return json.loads(finished.stdout)

    return run


def test_an_operation_that_fails_loses_nothing_and_ends_with_4(drive) -> None:
    found = drive("faults once", "invented")
    assert found["failed"] > 50 and found["operations"] == found["failed"] + found["harmless"]


def test_a_kill_at_every_commit_boundary_loses_nothing(drive) -> None:
    assert drive("kills before syncs", "invented")["kills"] > 10


@pytest.mark.slow
@pytest.mark.parametrize("name", ["faults once", "disk full"])
def test_operations_that_fail_while_a_study_is_computed(drive, name: str) -> None:
    assert drive(name, "computed")["failed"] > 50


@pytest.mark.slow
@pytest.mark.parametrize("name", ["kills", "kills after syncs"])
def test_kills_at_every_operation(drive, name: str) -> None:
    assert drive(name, "computed")["kills"] > 10


@pytest.mark.slow
def test_kills_at_random_instants(drive) -> None:
    found = drive("random kills", "computed", "50")
    assert found["killed"] == 50
    assert len(set(found["acknowledged"])) > 2, "they should fall before, between and after the commits"
