"""show, explain, export, escape and doctor."""

import csv
import json
import re
from pathlib import Path

import numpy as np
import pytest

from critpoints.study import selftest
from critpoints.study.records import POINTS, VERDICTS
from critpoints.study.store import Store
from critpoints_cli import escape

COLUMNS = {*POINTS.columns, *VERDICTS.columns}


def test_show_repeats_the_report(run, study: Path) -> None:
    reported = run("classify", "--width", "1,2", "--seeds", 6, "--steps", 20, "--lr", 0.01, "--out", study)
    shown = run("show", study)
    assert (shown.code, shown.out, shown.err) == (0, reported.out, "")
    document = run("show", study, "--json").document
    assert (document["schema"], list(document["widths"]), document["complete"]) == (1, ["1", "2"], True)
    assert document["seconds"] > 0
    assert list(run("show", study, "--width", 2, "--json").document["widths"]) == ["2"]


def test_show_one_point(run, study: Path) -> None:
    table = run("show", study, "--seed", 4, "--width", 2).out
    assert all(re.search(rf"^ ?{column} ", table, re.MULTILINE) for column in COLUMNS)
    document = run("show", study, "--seed", 4, "--width", 2, "--json").document
    point = document["point"]
    assert document["schema"] == 1 and set(point) == COLUMNS
    with Store.open(study) as store:
        (expected,) = store.points(2, [4])
    assert point["theta"] == expected["theta"].tolist()
    assert point["evidence"] == json.loads(expected["evidence"])


def test_explain(run, study: Path) -> None:
    finished = run("explain", study, "--seed", 4, "--width", 2)
    with Store.open(study) as store:
        (point,) = store.points(2, [4])
    text = " ".join(finished.out.split())
    assert finished.code == 0
    assert text.startswith("Seed 4 at width 2 is ")
    assert json.loads(point["evidence"])["reason"] in text
    assert "Adam ended at loss" in text and "Refinement (trust-region Newton" in text


def test_explain_needs_no_width_where_there_is_one(run, saddle_study: Path) -> None:
    assert "is a strict saddle" in " ".join(run("explain", saddle_study, "--seed", 1).out.split())


@pytest.mark.parametrize("format", ["csv", "npz", "parquet"])
def test_export(run, study: Path, empty: Path, format: str) -> None:
    if format == "parquet":
        pytest.importorskip("pyarrow")
    finished = run("export", study, "--format", format, "-o", f"points.{format}")
    assert finished.code == 0
    assert finished.err == f"critpoints: wrote points.{format}\n"
    if format == "csv":
        with open("points.csv", newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
        assert len(rows) == 12 and set(rows[0]) == COLUMNS


def test_escape(run, saddle_study: Path) -> None:
    finished = run("escape", saddle_study, "--json")
    assert finished.code == 0, finished.err
    found = finished.document["widths"]["2"]
    assert found["seeds"] == [0, 1, 2, 3]
    assert np.all(np.array(found["loss"]) < np.array(found["loss_before"]))
    assert np.all(np.array(found["smallest_eigenvalue_before"]) < 0)
    assert found["escaped"] == [True] * 4
    assert "4 of 4 points escaped by negative-curvature" in run("escape", saddle_study, "--width", 2).out


@pytest.mark.parametrize("origin", ["refined", "trained"])
def test_escape_by_perturbation(run, saddle_study: Path, origin: str) -> None:
    arguments = ["--method", "perturbation", "--epsilon", 0.05, "--no-normalised", "--tries", 3, "--from", origin]
    document = run("escape", saddle_study, *arguments, "--json").document
    found = document["widths"]["2"]
    assert (document["from"], found["method"], found["epsilon"], found["normalised"]) == (
        origin,
        "perturbation",
        0.05,
        False,
    )
    assert max(found["perturbations"]) <= 3


def test_a_study_without_saddles_has_nothing_to_escape_from(run, study: Path) -> None:
    finished = run("escape", study, "--json")
    assert finished.code == 0
    assert finished.document["widths"] == {}
    assert "width 1: no refined point has a negative smallest eigenvalue" in finished.err


def test_a_sweep_of_sizes(run, saddle_study: Path, empty: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert (min(escape.EPSILONS), max(escape.EPSILONS)) == (1e-4, 1)
    monkeypatch.setattr(escape, "EPSILONS", (1e-2, 1e-1))
    finished = run("escape", saddle_study, "--sweep", "--figures", "figures")
    assert finished.code == 0, finished.err
    assert "width 2: 4 points" in finished.out
    assert len(re.findall(r"^ *0\.01 |^ *0\.1 ", finished.out, re.MULTILINE)) == 2
    assert (empty / "figures" / "epsilon_sweep-width-2.png").read_bytes().startswith(b"\x89PNG")
    assert [each.name for each in empty.iterdir()] == ["figures"]
    found = run("escape", saddle_study, "--sweep", "--json").document["widths"]["2"]
    assert found["epsilons"] == [1e-2, 1e-1]
    assert np.shape(found["loss_refined"]) == (2, 4)
    assert {each.name for each in empty.iterdir()} == {"figures", "epsilon_sweep-width-2.png"}


def test_doctor(run) -> None:
    finished = run("doctor")
    assert finished.code == 0 and "FAILED" not in finished.out
    document = run("doctor", "--json").document
    assert document["schema"] == 1 and document["ok"] is True
    assert {"versions", "cpu", "threads", "gpu", "checks"} < document.keys()
    assert all(check["ok"] for check in document["checks"]) and len(document["checks"]) >= 6


def test_doctor_finds_an_illness(run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(selftest, "LARGEST", 0.5828341132346)
    finished = run("doctor", "--json")
    assert finished.code == 1
    assert [check["name"] for check in finished.document["checks"] if not check["ok"]] == [
        "labels of the seed study: largest"
    ]


def test_the_census_lists_every_distinct_point_with_its_seeds(run, study: Path) -> None:
    run("classify", "--width", 2, "--seeds", 6, "--steps", 20, "--lr", 0.01, "--out", study)
    listed = run("census", study, "--json").document["widths"]["2"]
    assert listed["total"] == 6
    assert sum(entry["count"] for entry in listed["entries"]) <= 6
    assert all(entry["rows"] and set(entry["rows"]) <= set(range(6)) for entry in listed["entries"])
    printed = run("census", study)
    assert f"{len(listed['entries'])} distinct end points" in printed.out
