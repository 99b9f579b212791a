"""Studies made one, and made small."""

from pathlib import Path

import pytest
from study_cases import QUICK, UNIT, edit, fill, invented_study, point_row, verdict_row

from critpoints.errors import InvalidData, StoreError
from critpoints.study.damage import check_study
from critpoints.study.merging import compact_study, merge_studies
from critpoints.study.spec import StudySpec
from critpoints.study.store import Store


def content_hash(path: Path) -> str:
    with Store.open(path) as store:
        return store.content_hash()


def test_a_merged_study_equals_one_computed_at_once(tmp_path: Path) -> None:
    first, second = invented_study(tmp_path / "a.db", range(6)), invented_study(tmp_path / "b.db", range(4, 9))
    with Store.extend(second) as store:
        fill(store, range(3), width=3)
        store.request(3, range(5))
        store.commit(UNIT, [], [verdict_row(4, version=2)])
    with Store.extend(first) as store:
        store.attach([certificate(2), certificate(4)])
    with Store.extend(second) as store:
        store.attach([certificate(4) | {"seconds": 9.0}, certificate(5)])
    before = first.read_bytes(), second.read_bytes()
    merged = merge_studies([first, second], tmp_path / "out.db")
    assert (merged.points, merged.repeated, merged.certificates, merged.different) == (12, 2, 3, 0)
    with Store.create(tmp_path / "whole.db", QUICK) as store:
        fill(store, range(9))
        fill(store, range(3), width=3)
        store.commit(UNIT, [], [verdict_row(4, version=2)])
    assert content_hash(tmp_path / "out.db") == content_hash(tmp_path / "whole.db")
    assert check_study(tmp_path / "out.db").sound
    with Store.open(tmp_path / "out.db") as store:
        assert store.requests() == [(3, range(5))]
        assert [row["seconds"] for row in store.certificates(2)] == [1.0, 1.0, 1.0]
    assert (first.read_bytes(), second.read_bytes()) == before


def certificate(seed: int) -> dict:
    row = {"width": 2, "seed": seed, "classifier_version": 1, "prover_version": 1, "form": "certificate", "kind": "x"}
    return row | {"tied_to": None, "sha256": "y", "document": "z", "reason": None, "seconds": 1.0}


def test_rows_that_differ_are_refused_unless_the_first_are_wanted(tmp_path: Path) -> None:
    first = invented_study(tmp_path / "a.db", range(4))
    with Store.create(tmp_path / "b.db", QUICK) as store:
        points = [point_row(seed) | {"gradient_noise": 2e-17} for seed in (3, 4)]
        store.commit(UNIT, points, [verdict_row(3), verdict_row(4)])
    with pytest.raises(InvalidData, match=r"b\.db: the row of points with width 2, seed 3 is not the same"):
        merge_studies([first, tmp_path / "b.db"], tmp_path / "out.db")
    assert not (tmp_path / "out.db").exists()
    merged = merge_studies([first, tmp_path / "b.db"], tmp_path / "out.db", keep_first=True)
    assert (merged.points, merged.repeated, merged.different) == (5, 1, 1)
    with Store.open(tmp_path / "out.db") as store:
        noise = {row["seed"]: row["gradient_noise"] for row in store.points(2)}
    assert (noise[3], noise[4]) == (1e-17, 2e-17)


def test_what_cannot_be_merged(tmp_path: Path) -> None:
    first = invented_study(tmp_path / "a.db", range(4))
    with Store.create(tmp_path / "other.db", StudySpec(steps=21, lr=1e-2)):
        pass
    with pytest.raises(InvalidData, match="steps is 20, not 21"):
        merge_studies([first, tmp_path / "other.db"], tmp_path / "out.db")
    with pytest.raises(StoreError, match="there already"):
        merge_studies([first], first)
    edit(first, "UPDATE points SET loss = 7 WHERE seed = 2")
    with pytest.raises(StoreError, match="seed 2 is damaged"):
        merge_studies([first], tmp_path / "out.db")
    assert not (tmp_path / "out.db").exists()


def test_compacting_keeps_the_content_and_gives_back_pages(tmp_path: Path) -> None:
    path = invented_study(tmp_path / "study.db", range(50))
    edit(path, "CREATE TABLE filler (data)")
    for _ in range(30):
        edit(path, "INSERT INTO filler VALUES (zeroblob(20000))")
    edit(path, "DROP TABLE filler")
    before = content_hash(path)
    found = compact_study(path)
    assert found.before - found.after > 500_000 and path.stat().st_size == found.after
    assert content_hash(path) == before and check_study(path).sound
    assert [each.name for each in tmp_path.iterdir()] == ["study.db"]


def test_a_damaged_study_is_not_compacted(tmp_path: Path) -> None:
    path = invented_study(tmp_path / "study.db")
    edit(path, "UPDATE points SET loss = 7 WHERE seed = 2")
    with pytest.raises(StoreError, match="is damaged"):
        compact_study(path)
