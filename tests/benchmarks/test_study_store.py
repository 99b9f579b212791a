"""benchmarks/study_store.py: it measures a study that is there, with rows that are intact."""

import importlib
from pathlib import Path

import pytest

from critpoints.study.damage import check_study

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


def test_it_measures_a_sound_study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    benchmark = importlib.import_module("study_store")
    monkeypatch.setattr(benchmark, "UNIT", 2)
    monkeypatch.setattr(benchmark, "commands", lambda path, repeats: {})
    found = benchmark.measure(6, 1, 20, 1, tmp_path)
    assert check_study(tmp_path / "large.db").rows["points"] == 6
    assert found["insert_share"] > 0 and found["megabytes"] > 0
