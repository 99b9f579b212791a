import dataclasses
import json

import pytest

from critpoints.errors import InvalidArgument, StoreError
from critpoints.study.spec import StudySpec


def test_the_json_is_canonical_and_comes_back() -> None:
    spec = StudySpec(steps=7, lr=0.1)
    text = spec.to_json()
    assert text == json.dumps(json.loads(text), sort_keys=True, separators=(",", ":"))
    assert StudySpec.from_json(text) == spec


def test_the_hash_is_that_of_the_values_whatever_their_notation() -> None:
    assert StudySpec(lr=1, steps=5).hash == StudySpec(lr=1.0, steps=5).hash  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "change",
    [
        {"problem": "other:problem"},
        {"activation": "tanh"},
        {"method": "gradient-flow"},
        {"lr": 2e-4},
        {"steps": 1},
        {"scheme": "normal"},
        {"refine": "slsqp"},
        {"gtol": 1e-12},
        {"device": "cuda"},
        {"dtype": "float32"},
        {"init": "abc"},
        {"code": "abc"},
        {"teacher": "random:3:1"},
        {"data": "gaussian:50:2:1"},
        {"numerics_version": 0},
    ],
    ids=lambda change: next(iter(change)),
)
def test_every_field_changes_the_hash(change: dict) -> None:
    changed = dataclasses.replace(StudySpec(), **change)
    assert changed.hash != StudySpec().hash
    (difference,) = StudySpec().differences(changed)
    assert difference.startswith(next(iter(change)))


def test_every_field_is_tried_above() -> None:
    (parameters,) = (mark.args[1] for mark in test_every_field_changes_the_hash.pytestmark)  # type: ignore[attr-defined]
    assert {name for change in parameters for name in change} == {field.name for field in dataclasses.fields(StudySpec)}


@pytest.mark.parametrize(
    "wrong",
    [
        {"method": "sgd"},
        {"refine": "newton-mr"},
        {"device": "tpu"},
        {"dtype": "float16"},
        {"lr": 0.0},
        {"lr": -1.0},
        {"lr": float("nan")},
        {"lr": float("inf")},
        {"gtol": 0.0},
        {"steps": -1},
        {"steps": 1.5},
    ],
    ids=str,
)
def test_impossible_values_are_refused_by_name(wrong: dict) -> None:
    with pytest.raises(InvalidArgument, match=next(iter(wrong))):
        StudySpec(**wrong)


def test_fields_of_a_newer_version_are_reported() -> None:
    text = json.dumps(json.loads(StudySpec().to_json()) | {"optimism": 1})
    with pytest.raises(StoreError, match="optimism"):
        StudySpec.from_json(text)
