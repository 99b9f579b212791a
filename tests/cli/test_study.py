"""critpoints study: grids, their status, interruptions, and the care of files, on the command line."""

import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from study_cases import edit

from critpoints.study import run as study_run
from critpoints.study.store import Store


def test_check_and_salvage(run, study: Path, tmp_path: Path) -> None:
    path = Path(shutil.copy(study, tmp_path / "study.db"))
    found = run("study", "check", path)
    assert found.code == 0 and found.out.startswith("sound: ")
    edit(path, "UPDATE points SET loss = loss + 1 WHERE width = 2 AND seed = 3")
    found = run("study", "check", path)
    assert found.code == 1 and "points with width 2, seed 3: damaged" in found.out
    assert "critpoints study salvage" in found.err
    document = run("study", "check", path, "--json").document
    assert not document["sound"] and document["damages"][0]["key"] == [2, 3]

    new = tmp_path / "new.db"
    saved = run("study", "salvage", path, "-o", new)
    assert saved.code == 0 and "saved 11 points" in saved.out
    arguments = ("--width", "1,2", "--seeds", 6, "--steps", 20, "--lr", 0.01, "--out", new)
    assert "1 of 12 points to compute" in run("classify", *arguments).err
    with Store.open(new) as store, Store.open(study) as uninterrupted:
        assert store.content_hash() == uninterrupted.content_hash()


def test_files_that_are_no_studies(run, tmp_path: Path) -> None:
    (tmp_path / "diary.txt").write_text("Dear diary")
    for arguments in (("check", tmp_path / "diary.txt"), ("check", tmp_path / "nothing.db")):
        assert run("study", *arguments).code == 4
    assert run("study", "salvage", tmp_path / "diary.txt", "-o", tmp_path / "new.db").code == 4
    assert not (tmp_path / "new.db").exists()


SPEC = 'widths = "1-2"\nseeds = 4\nsteps = 20\nlearning-rates = [1e-2, 3e-2]\n'


@pytest.fixture
def spec(empty: Path) -> Path:
    (empty / "spec.toml").write_text(SPEC)
    return empty / "spec.toml"


def hashes(folder: Path) -> list[str]:
    found = []
    for path in sorted(folder.glob("*.db")):
        with Store.open(path) as store:
            found.append(store.content_hash())
    return found


def test_a_grid_runs_and_its_status_is_told(run, spec: Path) -> None:
    finished = run("study", "run", spec.name)
    assert finished.code == 0, finished.err
    assert "2 studies in spec" in finished.err and "16 of 16 points to compute" in finished.err
    names = sorted(path.name for path in Path("spec").iterdir())
    assert [name[: name.rfind("-")] for name in names] == ["sigmoid-lr0.01", "sigmoid-lr0.03"]
    again = run("study", "run", spec.name, "--quiet")
    assert again.code == 0 and "nothing to compute" in again.err

    shown = run("study", "status", "spec")
    assert shown.code == 0 and "complete" in shown.out and "4/4" in shown.out
    spec.write_text(SPEC.replace("seeds = 4", "seeds = 6"))
    classify = ("classify", "--width", 1, "--seeds", 6, "--steps", 20, "--lr", 0.01, "--out", f"spec/{names[0]}")
    assert "2 of 6 points to compute" in run(*classify).err  # a grid's study is a study as any other
    document = run("study", "status", f"spec/{names[0]}", "--json").document
    (of_study,) = document["studies"].values()
    assert document["missing"] == 0 and [width["stored"] for width in of_study["widths"]] == [6, 4]
    assert of_study["rate"] > 0 and of_study["remaining"] == 0


def test_mistakes_in_a_specification(run, spec: Path) -> None:
    spec.write_text("widths = 4\nsteeps = 3\n")
    finished = run("study", "run", spec.name)
    assert finished.code == 2 and "'steeps'; did you mean 'steps'?" in finished.error
    assert [each.name for each in Path().iterdir()] == ["spec.toml"]
    assert run("study", "run", spec.name, "--workers", 2, "--processes", 2).code == 2
    assert run("study", "status", "nowhere.db").code == 4
    assert run("study", "status", ".").code == 2


def test_units_that_fail_end_with_5(run, spec: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    compute_unit = study_run.compute_unit

    def fails_at_width_2(spec, problem, unit, *rest):
        if unit.width == 2:
            raise ZeroDivisionError("by design")
        return compute_unit(spec, problem, unit, *rest)

    monkeypatch.setattr(study_run, "compute_unit", fails_at_width_2)
    finished = run("study", "run", spec.name)
    assert finished.code == 5
    reason = "width 2, seeds 0-3 failed: ZeroDivisionError: by design"
    assert finished.err.count(reason) == 2
    shown = run("study", "status", "spec")
    assert shown.code == 5 and shown.out.count(f": {reason}\n") == 2 and "8 points are missing" in shown.out
    for path in sorted(Path("spec").iterdir()):
        assert reason in run("census", path).err
        assert run("census", path, "--json").document["failures"] == [
            {"width": 2, "seeds": "0-3", "reason": "ZeroDivisionError: by design"}
        ]
        assert run("report", path, "-o", "report.html").code == 0
        page = Path("report.html").read_text(encoding="utf-8")
        assert "4 of the points that were asked for are missing" in page
        assert f"<li>{reason}</li>" in page
    monkeypatch.setattr(study_run, "compute_unit", compute_unit)
    assert run("study", "run", spec.name).code == 0
    assert "failed" not in run("study", "status", "spec").out.replace("failed  ", "")


def test_merge_and_compact(run, study: Path, tmp_path: Path) -> None:
    for name, start in (("a.db", 0), ("b.db", 3)):
        arguments = ("--width", "1,2", "--seed-start", start, "--seeds", 3, "--steps", 20, "--lr", 0.01)
        assert run("classify", *arguments, "--out", tmp_path / name).code == 0
    merged = run("study", "merge", tmp_path / "a.db", tmp_path / "b.db", "-o", tmp_path / "out.db")
    assert merged.code == 0 and "merged 12 points of 2 studies" in merged.out
    with Store.open(tmp_path / "out.db") as store, Store.open(study) as at_once:
        assert store.content_hash() == at_once.content_hash()
    assert run("study", "compact", tmp_path / "out.db").code == 0
    assert run("study", "merge", tmp_path / "a.db", "-o", tmp_path / "out.db").code == 4


INTERRUPTED = """
import os, signal, sys
from critpoints.study import run
run.BLOCK_SIZES["cpu"] = 1
from critpoints_cli.main import main
sys.exit(main(["study", "run", "spec.toml", *sys.argv[1:]]))
"""


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("where", [(), ("--processes", "2"), ("--workers", "2")], ids=["serial", "processes", "dask"])
def test_a_signal_ends_a_run_and_the_printed_command_resumes_it(
    run, spec: Path, number: signal.Signals, where: tuple[str, ...]
) -> None:
    """A process of its own in a session of its own: Ctrl-C on a terminal reaches all of its processes."""
    spec.write_text('widths = "1-2"\nseeds = 40\nsteps = 2000\nlearning-rates = 1e-2\n')
    command = [sys.executable, "-c", INTERRUPTED, *where]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, start_new_session=True) as process:
        while run("study", "status", "spec", "--json").code != 5 or not stored("spec"):
            assert process.poll() is None
            time.sleep(0.05)
        os.killpg(process.pid, number)
        assert process.stderr is not None
        message = process.stderr.read()
    assert process.returncode == {signal.SIGINT: 130, signal.SIGTERM: 143}[number]
    command = re.search(r"resume with: (.*)", message)
    assert command and shlex.split(command[1]) == ["critpoints", "study", "run", "spec.toml", *where]
    assert "Traceback" not in message
    assert not [each.name for each in Path("spec").iterdir() if not each.name.endswith(".db")]
    assert run("study", "run", "spec.toml").code == 0
    assert run("study", "run", "spec.toml", "--out", "uninterrupted").code == 0
    assert hashes(Path("spec")) == hashes(Path("uninterrupted"))


def stored(folder: str) -> int:
    total = 0
    for path in Path(folder).glob("*.db"):
        with Store.open(path) as store:
            total += len(store.units())
    return total


@pytest.mark.slow
def test_a_second_ctrl_c_ends_at_once(empty: Path) -> None:
    program = (
        "import os, signal, time\nfrom critpoints_cli import main as cli\n"
        "from critpoints_cli.interruption import interruptible, Interrupted\n"
        "with interruptible():\n"
        "    try:\n        print('ready', flush=True); time.sleep(60)\n"
        "    except Interrupted:\n        print('cleaning up', flush=True); time.sleep(60)\n"
    )
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None and process.stdout.readline() == "ready\n"
        process.send_signal(signal.SIGINT)
        assert process.stdout.readline() == "cleaning up\n"
        process.send_signal(signal.SIGINT)
        assert process.wait(10) == -signal.SIGINT
