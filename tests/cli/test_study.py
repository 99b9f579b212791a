"""critpoints study check and salvage, on the command line."""

import shutil
from pathlib import Path

from study_cases import edit

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
