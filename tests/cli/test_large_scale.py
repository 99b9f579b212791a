"""critpoints landscape wedges, subspace, tunnels, ensembles: figures, tables, documents, exit codes, resume."""

from pathlib import Path

import pytest
from large_scale_cases import quick_wedges

from critpoints.landscape import large_scale, large_scale_summary
from critpoints.landscape.large_scale_summary import Finding


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(large_scale, "SUBJECTS", {"wedges": quick_wedges})


def test_one_command_makes_the_page_and_says_what_holds(run, tmp_path: Path) -> None:
    finished = run("landscape", "wedges", "--on", "wedges", "--seeds", 2, "--out", tmp_path, "--json")
    assert finished.code == 0, finished.err
    assert (tmp_path / "large_scale.png").stat().st_size > 50_000
    findings = finished.document["findings"]
    assert list(findings) == [f"wedges-{name}" for name in large_scale.EXPERIMENTS]
    assert {"what", "measured", "holds", "experiment"} == set(findings["wedges-paths"][0])
    begun = {path: path.stat().st_mtime_ns for path in (tmp_path / "units").iterdir()}
    again = run("landscape", "tunnels", "--on", "wedges", "--seeds", 2, "--out", tmp_path)
    assert again.code == 0 and "rank of the short axes of m wedges" in again.out
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "units").iterdir()} == begun  # nothing anew


@pytest.mark.parametrize(("command", "figure"), [("subspace", "subspaces"), ("ensembles", "ensembles")])
def test_a_part_has_its_own_figure(command: str, figure: str, run, tmp_path: Path) -> None:
    finished = run("landscape", command, "--on", "wedges", "--seeds", 2, "--out", tmp_path, "--quiet")
    assert finished.code == 0, finished.err
    assert (tmp_path / f"{figure}.png").exists()


def test_a_claim_that_fails_is_exit_code_1(run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(large_scale_summary, "summarise", lambda name, arrays: [Finding(name, "x", "1", False)])
    finished = run("landscape", "subspace", "--on", "wedges", "--seeds", 2, "--out", tmp_path)
    assert finished.code == 1
    assert "something that is claimed was not found" in finished.err


def test_a_folder_of_another_number_of_seeds_is_refused(run, tmp_path: Path) -> None:
    assert run("landscape", "ensembles", "--on", "wedges", "--seeds", 2, "--out", tmp_path).code == 0
    finished = run("landscape", "ensembles", "--on", "wedges", "--seeds", 3, "--out", tmp_path)
    assert finished.code == 3 and "another configuration (seeds differ)" in finished.err
