"""critpoints report."""

from pathlib import Path


def test_the_report_lies_beside_the_study(run, study: Path) -> None:
    finished = run("report", study)
    page = study.with_suffix(".html")
    assert (finished.code, finished.out, finished.err) == (0, "", f"critpoints: wrote {page}\n")
    assert page.read_text(encoding="utf-8").startswith("<!DOCTYPE html>")
    page.unlink()


def test_the_report_goes_where_it_is_sent(run, study: Path, empty: Path) -> None:
    assert run("report", study, "-o", "page.html").code == 0
    assert [each.name for each in empty.iterdir()] == ["page.html"]


def test_unusable_reports_are_refused(run, study: Path, empty: Path) -> None:
    assert run("report", "nothing.db").code == 4
    assert run("report", study, "-o", study).code == 2
    assert run("report", study, "-o", "nowhere/page.html").code == 4
    assert list(empty.iterdir()) == []


def test_a_wrong_problem_is_refused_before_a_study_is_made(run, empty: Path) -> None:
    (empty / "mine.py").write_text("def f(): raise ValueError('not mine')")
    finished = run("classify", "--width", 1, "--seeds", 2, "--problem", "mine.py:f")
    assert finished.code == 2 and "mine.py:f failed: ValueError: not mine (mine.py, line 1)" in finished.error
    assert [each.name for each in empty.iterdir() if each.suffix == ".db"] == []
