"""critpoints saddles: the document, resuming, certificates that an independent program confirms, errors."""

import json
from hashlib import sha256
from pathlib import Path

import pytest

from critpoints_cli.main import main

OPTIONS = ("--width", 2, "--seeds", 6, "--steps", 50, "--snapshots", 1, "--tries", 3, "--iterations", 80)


@pytest.fixture(scope="module")
def folder(study: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a finished search in it, "s"."""
    folder = tmp_path_factory.mktemp("search")
    command = ("saddles", *OPTIONS, "--study", study, "--method", "newton", "--out", folder / "s", "--quiet")
    assert main([str(each) for each in command]) == 0
    return folder


def test_a_search_is_reported_stored_and_resumed(run, study: Path, folder: Path) -> None:
    command = ("saddles", *OPTIONS, "--study", study, "--method", "newton", "--out", folder / "s")
    finished = run(*command, "--figures", folder / "figures", "--json")
    assert finished.code == 0, finished.err
    document = finished.document
    assert (document["schema"], document["width"]) == (1, 2)
    assert document["searches"] == sum(document["ends"].values()) - sum(
        document["ends"].get(name, 0) for name in ("above the largest index", "copies that cancel")
    )
    assert any(entry["verdict"]["kind"] == "strict_saddle" for entry in document["entries"])
    assert all(entry["count"] == sum(entry["starts"].values()) for entry in document["entries"])
    assert document["predicted"] and all(line["entry"] is not None for line in document["predicted"])
    assert all(0 < line["ended_there"] <= line["searches"] and line["farthest"] for line in document["predicted"])
    split = [entry for entry in document["entries"] if entry["origin"] == "split"]
    assert split and all(entry["parent"]["width"] == 1 and "+" in entry["split_type"] for entry in split)
    names = {path.name for path in (folder / "figures").iterdir()}
    assert names == {"index_against_loss-width-2.png", "merge_tree-width-2.png"}
    tree = json.loads((folder / "s" / "merge_tree.json").read_text(encoding="utf-8"))["tree"]
    assert all(each["evidence"]["certificate"] and len(each["evidence"]["descents"]) == 2 for each in tree["saddles"])
    certificates = {sha256(path.read_bytes()).hexdigest() for path in (folder / "s" / "certificates").iterdir()}
    assert {each["evidence"]["certificate"] for each in tree["saddles"]} <= certificates
    assert len(tree["roots"]) == 1, "the plateau of f = 0 joins what nothing else does"
    assert (folder / "s" / "merge_tree.graphml").read_text(encoding="utf-8").startswith("<?xml")
    units = sorted(path.name for path in (folder / "s").glob("*.npz"))
    (folder / "s" / units[0]).unlink()  # as if it had been interrupted there
    again = run(*command, "--json").document
    assert again["entries"] == document["entries"] and again["tree"] == document["tree"]
    page = folder / "page.html"
    assert run("report", study, "--saddles", folder / "s", "-o", page).code == 0
    text = page.read_text(encoding="utf-8")
    assert text.count('<img src="data:image/png;base64,') == 2 and "Saddles and the merge tree" in text
    missing = run("report", study, "--saddles", folder, "-o", page)
    assert missing.code == 3 and "saddles.json" in missing.error
    printed = run(*command, "--no-tree").out
    assert "distinct saddles" in printed and "1: strict" in printed


def test_the_certificates_are_confirmed_by_the_verifier(run, folder: Path) -> None:
    assert len(list((folder / "s" / "certificates").iterdir())) >= 2
    assert run("verify", folder / "s" / "certificates").code == 0


def test_another_plan_and_damage_are_refused(run, study: Path, folder: Path) -> None:
    command = ("saddles", *OPTIONS, "--study", study, "--no-tree", "--out", folder / "s")
    other = run(*command, "--epsilon", 0.2)
    assert other.code == 3 and "another plan" in other.error
    unit = next((folder / "s").glob("*.npz"))
    whole = unit.read_bytes()
    unit.write_bytes(whole[: len(whole) // 2])
    damaged = run(*command)
    assert damaged.code == 4 and "is damaged" in damaged.err
    unit.write_bytes(whole)
    lines, other = folder / "s" / "line-00000.npz", folder / "s" / "nothing-00000.npz"
    whole = lines.read_bytes()
    lines.write_bytes(other.read_bytes())  # as if other lines had been predicted
    mixed = run(*command)
    assert mixed.code == 4 and "remove it to search anew" in mixed.err
    lines.write_bytes(whole)


def test_bad_numbers_are_refused(run, study: Path, empty: Path) -> None:
    finished = run("saddles", "--width", 2, "--study", study, "--epsilon", 2, "--out", "s")
    assert finished.code == 2 and "epsilon" in finished.error
    assert not (empty / "s").exists()
