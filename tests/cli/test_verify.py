"""critpoints verify: files, folders, studies, and what it ends with."""

import json
import shutil
import sqlite3
from contextlib import closing
from hashlib import sha256
from pathlib import Path

import numpy as np
import pytest

import critpoints as cp
from critpoints.study.distinct import stored_verdicts
from critpoints.study.store import Store

GOLDEN = Path(__file__).parent.parent / "certification" / "golden"
MINIMUM = "strict_minimum_polynomial.json"


@pytest.fixture
def folder(tmp_path):
    for name in (MINIMUM, "strict_minimum_tanh.json", "global_minimum_duplicate.json"):
        shutil.copy(GOLDEN / name, tmp_path)
    return tmp_path


def changed(path, **values):
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


def test_one_file(run, folder):
    finished = run("verify", folder / MINIMUM)
    assert finished.code == 0 and finished.err == ""
    assert finished.out.startswith(f"{MINIMUM}: confirmed: strict minimum: exactly one critical point within")


def test_a_folder(run, folder):
    finished = run("verify", folder)
    assert finished.code == 0 and "3 of 3 confirmed in" in finished.out and "3 certificates to verify" in finished.err
    document = run("verify", folder, "--json").document
    assert document["schema"] == 1 and document["accepted"] and len(document["files"]) == 3
    assert {"name", "accepted", "kind", "claim", "reason", "malformed", "seconds"} == set(document["files"][0])


def test_a_false_claim_ends_with_1(run, folder):
    changed(folder / MINIMUM, kind="strict_maximum")
    finished = run("verify", folder)
    assert finished.code == 1 and "2 of 3 confirmed" in finished.out
    assert f"rejected: {MINIMUM}: a point of inertia" in finished.err
    document = run("verify", folder, "--json").document
    assert [file["accepted"] for file in document["files"]].count(False) == 1 and not document["accepted"]


def test_files_that_are_no_certificates_end_with_3(run, folder, tmp_path):
    changed(folder / MINIMUM, schema=2)
    finished = run("verify", folder / MINIMUM)
    assert finished.code == 3 and "schema is 2" in finished.err
    changed(folder / "strict_minimum_tanh.json", kind="strict_saddle")
    assert run("verify", folder).code == 1  # a claim that failed is worse
    text = tmp_path / "notes.txt"
    text.write_text("nothing")
    assert run("verify", text).code == 3


def test_nothing_to_verify_is_not_success(run, tmp_path, saddle_study):
    (tmp_path / "empty").mkdir()
    assert "holds no certificate" in (finished := run("verify", tmp_path / "empty")).error and finished.code == 3
    assert "holds no certificate" in (finished := run("verify", saddle_study)).error and finished.code == 3
    assert run("verify", tmp_path / "missing.json").code == 4
    assert run("verify").code == 2
    assert run("verify", tmp_path, "--frobnicate").code == 2


def test_arrays_are_given_as_files(run, folder):
    path = folder / "strict_minimum_tanh.json"
    document = json.loads(path.read_text())
    y = np.array(document["problem"]["labels"]["values"])
    digest = sha256(y.astype("<f8").tobytes()).hexdigest()
    document["problem"]["labels"] = {"form": "checksum", "shape": [len(y)], "sha256": digest}
    path.write_text(json.dumps(document))
    assert "was not given" in run("verify", path).err
    np.save(folder / "y.npy", y)
    assert run("verify", path, "--array", folder / "y.npy").code == 0
    (folder / "z.npy").write_text("no array")
    assert run("verify", path, "--array", folder / "z.npy").code == 3


@pytest.fixture
def certified_study(saddle_study, tmp_path):
    """A study whose four saddles have certificates, and the kinds that the study says."""
    path = tmp_path / "study.db"
    shutil.copy(saddle_study, path)
    with Store.open(path) as store:
        points = list(store.points(2))
    rows = []
    for verdict, point in zip(stored_verdicts(points), points, strict=True):
        text = cp.certify(cp.TeacherStudent.grid(), verdict).to_json()
        rows.append(("certificate", 2, point["seed"], verdict.kind.value, text))
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("DROP TABLE certificates")
        connection.execute("CREATE TABLE certificates (form, width, seed, kind, document)")
        connection.executemany("INSERT INTO certificates VALUES (?, ?, ?, ?, ?)", rows)
        connection.execute("INSERT INTO certificates VALUES ('refusal', 2, 9, 'channel', NULL)")
    return path


def test_a_study(run, certified_study):
    document = run("verify", certified_study, "--json").document
    assert document["accepted"] and len(document["files"]) == 4
    assert document["files"][0]["name"] == "certificate of width 2, seed 0"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("UPDATE certificates SET seed = 3 - seed", "another point than the study's"),
        ("UPDATE certificates SET kind = 'strict_minimum'", "the study says strict_minimum"),
        ("UPDATE certificates SET document = replace(document, 'strict_saddle', 'strict_minimum')", "has no split"),
        ("UPDATE certificates SET seed = 77", "another point than the study's"),
    ],
)
def test_certificates_that_do_not_belong_to_the_study_are_rejected(run, certified_study, change, words):
    with closing(sqlite3.connect(certified_study)) as connection, connection:
        connection.execute(change)
    finished = run("verify", certified_study)
    assert finished.code == 1 and words in finished.err
