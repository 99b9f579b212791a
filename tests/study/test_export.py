import csv
import sys
from pathlib import Path

import numpy as np
import pytest
from study_cases import QUICK, fill

from critpoints.errors import InvalidArgument
from critpoints.study.export import export_study
from critpoints.study.store import Store


@pytest.fixture
def store(tmp_path: Path):
    with Store.create(tmp_path / "study.db", QUICK) as opened:
        fill(opened, range(3), width=1)
        fill(opened, range(4), width=2)
        yield opened


def test_csv_has_every_point_and_every_digit(store: Store, tmp_path: Path) -> None:
    export_study(store, tmp_path / "study.csv", "csv")
    with (tmp_path / "study.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    expected = [row for width in (1, 2) for row in store.points(width)]
    assert [(int(r["width"]), int(r["seed"])) for r in rows] == [(r["width"], r["seed"]) for r in expected]
    for row, point in zip(rows, expected, strict=True):
        assert list(row) == list(point)
        assert float(row["trained_loss"]) == point["trained_loss"]
        assert [float(each) for each in row["theta"].strip("[]").split(",")] == point["theta"].tolist()


def test_npz_has_one_array_a_column(store: Store, tmp_path: Path) -> None:
    export_study(store, tmp_path / "study.npz", "npz")
    with np.load(tmp_path / "study.npz") as arrays:
        assert {name.split("/")[0] for name in arrays} == {"width_1", "width_2"}
        points = list(store.points(2))
        assert arrays["width_2/theta"].tobytes() == np.stack([point["theta"] for point in points]).tobytes()
        assert arrays["width_2/seed"].tolist() == [0, 1, 2, 3]
        assert arrays["width_2/kind"].tolist() == [point["kind"] for point in points]
        np.testing.assert_array_equal(arrays["width_2/level"], [1, np.nan, 1, np.nan])


def test_parquet_has_the_same_rows(store: Store, tmp_path: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    export_study(store, tmp_path / "study.parquet", "parquet")
    rows = parquet.read_table(tmp_path / "study.parquet").to_pylist()
    expected = [row for width in (1, 2) for row in store.points(width)]
    assert len(rows) == len(expected) == 7
    for row, point in zip(rows, expected, strict=True):
        np.testing.assert_array_equal(row["theta"], point["theta"])
        assert (row["kind"], row["level"], row["seed"]) == (point["kind"], point["level"], point["seed"])


def test_parquet_without_pyarrow_names_the_extra(store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(InvalidArgument, match=r"pip install 'critpoints\[parquet\]'"):
        export_study(store, tmp_path / "study.parquet", "parquet")
    assert not (tmp_path / "study.parquet").exists()


def test_a_failed_export_leaves_the_old_file(store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "study.npz").write_text("old")
    monkeypatch.setattr(np, "savez", lambda *_, **__: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    before = sorted(tmp_path.iterdir())
    with pytest.raises(OSError, match="No space"):
        export_study(store, tmp_path / "study.npz", "npz")
    assert (tmp_path / "study.npz").read_text() == "old"
    assert sorted(tmp_path.iterdir()) == before


def test_the_study_is_not_overwritten(store: Store) -> None:
    with pytest.raises(InvalidArgument, match="the study itself"):
        export_study(store, store.path, "csv")
    with pytest.raises(InvalidArgument, match="csv, npz, parquet"):
        export_study(store, store.path, "xlsx")
