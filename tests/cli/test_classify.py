import os
import re
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
from imports import ROOT
from study_cases import contents

from critpoints.study.spec import StudySpec
from critpoints.study.store import Store
from critpoints.verdict import Kind

QUICK = ["--steps", "20", "--lr", "0.01"]
KIND_KEYS = {"count", "fraction", "wilson95", "median_loss", "median_smallest_eigenvalue"}
CAUSES = {"negative", "rounding", "unconverged", "saddle", "undecided"}


def test_the_json_document(run, study: Path) -> None:
    finished = run("classify", "--width", "1-2", "--seeds", 6, *QUICK, "--out", study, "--json")
    assert finished.code == 0
    document = finished.document
    assert set(document) == {"schema", "study", "spec", "widths", "complete", "content_hash", "seconds"}
    assert (document["schema"], document["study"], document["complete"]) == (1, str(study), True)
    assert StudySpec(**document["spec"]) == StudySpec(steps=20, lr=0.01)
    assert list(document["widths"]) == ["1", "2"]
    for width in document["widths"].values():
        assert set(width) == {"seeds", "kinds", "statuses", "negative_raw_eigenvalues", "loss_thresholds", "distinct"}
        assert all(0 < width["distinct"][kind] <= width["kinds"][kind]["count"] for kind in width["distinct"])
        assert width["seeds"] == 6 == sum(width["statuses"].values())
        assert sum(kind["count"] for kind in width["kinds"].values()) == 6
        assert set(width["negative_raw_eigenvalues"]) == CAUSES
        for name, kind in width["kinds"].items():
            assert Kind(name) and set(kind) == KIND_KEYS
            low, high = kind["wilson95"]
            assert 0 <= low <= kind["fraction"] <= high <= 1


def test_the_tables(run, study: Path) -> None:
    finished = run("classify", "--width", 2, "--seeds", 6, *QUICK, "--out", study)
    assert finished.code == 0
    assert "width 2, 6 seeds: kinds of point" in finished.out
    assert re.search(r"converged +6 +100.0 % +the gradient norm is at the tolerance", finished.out)
    assert re.search(
        r"of the \d negative smallest eigenvalues after Adam: "
        r"\d rounding, \d unconverged, \d saddles?, \d undecided\n",
        finished.out,
    )
    assert "width 1" not in finished.out


def test_a_finished_study_is_reported_without_computing(run, study: Path) -> None:
    before = contents(study)
    finished = run("classify", "--width", "1,2", "--seeds", 6, *QUICK, "--out", study)
    assert finished.err.splitlines() == [
        f"critpoints: study {study}",
        "critpoints: nothing to compute: all points are stored",
    ]
    assert contents(study) == before


def test_a_study_is_extended(run, study: Path, tmp_path: Path) -> None:
    extended, direct = tmp_path / "extended.db", tmp_path / "direct.db"
    shutil.copy(study, extended)
    finished = run("classify", "--width", 2, "--seed-start", 3, "--seeds", 5, *QUICK, "--out", extended, "--json")
    assert "2 of 5 points to compute" in finished.err
    assert finished.document["widths"]["2"]["seeds"] == 5
    run("classify", "--width", 1, "--seeds", 6, *QUICK, "--out", direct)
    run("classify", "--width", 2, "--seeds", 8, *QUICK, "--out", direct)
    with Store.open(extended) as first, Store.open(direct) as second:
        assert first.content_hash() == second.content_hash()


def test_without_a_name_the_study_is_named_after_its_specification(run, empty: Path) -> None:
    finished = run("classify", "--width", 1, "--seeds", 2, *QUICK)
    name = f"critpoints-{StudySpec(steps=20, lr=0.01).hash[:12]}.db"
    assert finished.err.splitlines()[0] == f"critpoints: study ./{name}"
    assert [each.name for each in empty.iterdir()] == [name]
    again = run("classify", "--width", 1, "--seeds", 2, *QUICK)
    assert "nothing to compute" in again.err and again.out == finished.out


def test_start_and_end_are_told_where_there_is_no_terminal(run, empty: Path) -> None:
    lines = run("classify", "--width", 1, "--seeds", 3, *QUICK, "--quiet", "--out", "study.db").err.splitlines()
    assert lines[:2] == ["critpoints: study ./study.db", "critpoints: 3 of 3 points to compute"]
    assert re.fullmatch(r"critpoints: 3 points in [\d.]+ s, [\d.]+ a second", lines[2])
    assert len(lines) == 3


def test_figures(run, study: Path, tmp_path: Path) -> None:
    folder = tmp_path / "some" / "figures"
    finished = run("classify", "--width", "1,2", "--seeds", 6, *QUICK, "--out", study, "--figures", folder, "--json")
    assert finished.code == 0 and finished.document
    written = {each.name for each in folder.iterdir()}
    assert written >= {
        f"{name}-width-{width}.png"
        for name in ("smallest_eigenvalue_against_loss", "smallest_eigenvalue_histogram")
        for width in (1, 2)
    }
    assert any(name.startswith("neurons_over_teacher-width-2-") for name in written)
    assert all((folder / name).read_bytes().startswith(b"\x89PNG") for name in written)
    assert set(re.findall(r"figure (.*)", finished.err)) == {str(folder / name) for name in written}


def test_slsqp_gradient_flow_and_another_activation(run, empty: Path) -> None:
    arguments = ["--method", "gradient-flow", "--refine", "slsqp", "--activation", "tanh"]
    finished = run("classify", "--width", 1, "--seeds", 1, *arguments)
    assert finished.code == 0, finished.err
    assert "after gradient flow" in finished.out


def test_a_problem_of_ones_own(run, empty: Path) -> None:
    (empty / "mine.py").write_text("import critpoints as cp\ndef line(): return cp.TeacherStudent.gaussian(9, 1)\n")
    arguments = ("--width", 1, "--seeds", 2, *QUICK, "--out", "study.db", "--figures", ".", "--json")
    finished = run("classify", "--problem", "mine.py:line", *arguments)
    assert finished.code == 0, finished.err
    assert finished.document["spec"]["problem"] == "mine.py:line"
    (empty / "mine.py").write_text("import critpoints as cp\ndef line(): return cp.TeacherStudent.gaussian(8, 1)\n")
    changed = run("classify", "--problem", "mine.py:line", *arguments)
    assert changed.code == 3 and "code is" in changed.error


def test_threads_are_set_before_the_numerics_are_imported(empty: Path) -> None:
    program = (
        "from critpoints_cli.main import main\n"
        f"code = main(['classify', '--threads', '3', '--width', '1', '--seeds', '1', *{QUICK}, '--out', 'study.db'])\n"
        "import numba, torch\n"
        "assert (code, torch.get_num_threads()) == (0, 3), (code, torch.get_num_threads())\n"
        "assert numba.config.NUMBA_NUM_THREADS == 3\n"
    )
    finished = subprocess.run([sys.executable, "-c", program], cwd=empty, capture_output=True, text=True)
    assert finished.returncode == 0, finished.stderr


def test_a_bare_checkout_will_do() -> None:
    finished = subprocess.run([sys.executable, "-m", "cli", "--version"], cwd=ROOT, capture_output=True, text=True)
    assert finished.returncode == 0
    assert finished.stdout.startswith("critpoints, version ")


@pytest.mark.parametrize(
    "command", ["classify", "show", "census", "explain", "escape", "follow", "saddle-line", "export", "doctor"]
)
def test_every_command_has_help(run, command: str) -> None:
    finished = run(command, "--help")
    assert finished.code == 0
    assert finished.out.startswith(f"Usage: critpoints {command}")


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_device_auto_without_a_gpu_is_a_study_on_the_cpu(run, study: Path) -> None:
    finished = run("classify", "--width", 2, "--seeds", 2, *QUICK, "--device", "auto", "--out", study, "--json")
    assert finished.code == 0
    assert finished.document["spec"]["device"] == "cpu"
    assert run("classify", "--width", 2, "--seeds", 2, *QUICK, "--out", study).code == 0  # the same study


def content_hash(path: Path) -> str:
    with Store.open(path) as store:
        return store.content_hash()


@pytest.mark.parametrize(
    "where",
    [
        pytest.param(("--processes", 2), marks=pytest.mark.slow),
        pytest.param(("--workers", 2), marks=pytest.mark.slow),
        ("--processes", 1),
    ],
    ids=lambda where: " ".join(map(str, where)),
)
def test_workers_compute_the_same_study(run, study: Path, empty: Path, where: tuple, monkeypatch) -> None:
    threads = where == ("--processes", 1)
    if threads:  # processes take their time to start
        monkeypatch.setattr("critpoints.study.executors.ProcessExecutor", lambda n, timeout: ThreadPoolExecutor(n))
    finished = run("classify", "--width", "1,2", "--seeds", 6, *QUICK, *where, "--timeout", 300, "--out", "study.db")
    assert finished.code == 0, finished.err
    assert content_hash(Path("study.db")) == content_hash(study)
    with Store.open("study.db") as store:
        here = str(os.getpid())
        assert all(each["worker"].endswith(f":{here}") == threads for each in store.attempts())


def test_one_place_to_compute(run, empty: Path) -> None:
    finished = run("classify", "--width", 1, "--workers", 2, "--scheduler", "tcp://127.0.0.1:9")
    assert finished.code == 2 and "one of --processes, --workers and --scheduler" in finished.error
    assert not list(Path().iterdir())
