import json
import math
from pathlib import Path

import pytest
from study_cases import QUICK, fill, invented_study

from critpoints.statistics import wilson_interval
from critpoints.study.explanation import explain_point
from critpoints.study.records import to_json
from critpoints.study.store import Store
from critpoints.study.summary import summarise, unfinished


@pytest.fixture
def store(tmp_path: Path):
    with Store.open(invented_study(tmp_path / "study.db")) as opened:
        yield opened


def test_counts_fractions_intervals_and_medians(store: Store) -> None:
    found = summarise(store)["2"]
    assert found["seeds"] == 8
    assert list(found["kinds"]) == ["strict_saddle", "strict_minimum"]  # seeds 0, 3 and 6 are the minima
    minima = found["kinds"]["strict_minimum"]
    assert (minima["count"], minima["fraction"]) == (3, 3 / 8)
    assert tuple(minima["wilson95"]) == wilson_interval(3, 8)
    assert minima["median_loss"] == 0.25  # seed 3 has no loss
    assert minima["median_smallest_eigenvalue"] == -0.5
    assert found["statuses"] == {"converged": 8}
    causes = {"rounding": 0, "unconverged": 0, "saddle": 8, "undecided": 0}
    assert found["negative_raw_eigenvalues"] == {"negative": 8, **causes}


def test_a_part_of_the_study(store: Store) -> None:
    found = summarise(store, [2], range(1, 2))["2"]
    assert found["seeds"] == 1
    assert found["kinds"]["strict_saddle"]["median_loss"] is None  # not a number
    assert summarise(store, [3])["3"]["kinds"] == {}


def test_what_was_asked_for_and_is_not_there(tmp_path: Path) -> None:
    with Store.create(tmp_path / "study.db", QUICK) as store:
        fill(store, range(4))
        assert unfinished(store) == (0, 0)
        for seeds in (range(2, 7), range(2, 7), range(5)):
            store.request(2, seeds)
        assert unfinished(store) == (3, 7)


def test_json_is_strict() -> None:
    text = to_json({"a": math.nan, "b": [math.inf, 1.0], 3: "ü"})
    assert json.loads(text, parse_constant=pytest.fail) == {"a": None, "b": [None, 1.0], "3": "ü"}


def test_an_explanation_is_one_paragraph_with_the_reason(store: Store) -> None:
    text = explain_point(list(store.points(2))[2], store.spec)
    assert "\n" not in text
    assert text.startswith("Seed 2 at width 2 is a strict saddle, by numerical evidence: größer als null.")
    assert "smallest eigenvalue -3, negative because the refined point is a saddle." in text
    assert "the gradient norm is at the tolerance" in text
    assert "level 1" in text
