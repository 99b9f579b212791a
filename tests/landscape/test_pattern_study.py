"""Patterns as experiments: result files, resuming, the filling study and its sentence; settings on local files."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from image_files import write_cifar, write_idx
from scipy import ndimage

from critpoints.errors import InvalidArgument, InvalidData, SpecMismatch
from critpoints.landscape import pattern_study
from critpoints.landscape.filling_study import FillingStudy
from critpoints.landscape.masks import draw_icon
from critpoints.landscape.pattern_settings import (
    FILLING_SETTINGS,
    PICTURE_SETTINGS,
    PatternSetting,
    get_pattern_setting,
)
from critpoints.landscape.pattern_study import MAPS, contrasts, run_filling, run_picture
from critpoints.landscape.patterns import PatternRecipe
from critpoints.landscape.results import Result

TINY = PatternSetting(
    "digits",
    "pattern-cnn",
    PatternRecipe(lr=0.01, batch_size=32, steps=2, cells=(2, 2)),
    size=4,
    options={"channels": (2, 2), "pool": 2, "hidden": 4},
    map_samples=20,
)


def test_a_picture_is_stored_and_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    levels = draw_icon("heart", 4)
    seen: list[tuple] = []
    first = run_picture(tmp_path, TINY, levels, evaluation="loop", callback=lambda *each: seen.append(each))
    assert [each[:2] for each in seen] == [(0, 2), (1, 2), (2, 2)]
    assert first.arrays["steps"].shape == (2, first.arrays["origin"].size)
    assert all(first.arrays[name].shape == (4, 4) for name in MAPS)
    monkeypatch.setattr(pattern_study, "fit_pattern", lambda *_, **__: pytest.fail("computed again"))
    again = run_picture(tmp_path, TINY, levels, evaluation="loop")
    for name, each in first.arrays.items():
        np.testing.assert_array_equal(again.arrays[name], each)
    with pytest.raises(SpecMismatch, match="levels"):
        run_picture(tmp_path, TINY, ~levels, evaluation="loop")
    with pytest.raises(SpecMismatch, match=r"setting\.recipe\.steps"):
        run_picture(tmp_path, replace(TINY, recipe=replace(TINY.recipe, steps=3)), levels, evaluation="loop")


@pytest.mark.slow  # half a minute
def test_the_setting_for_the_digits_finds_a_smile_whose_eyes_are_open(tmp_path: Path) -> None:
    levels = draw_icon("smile", 20)
    found = run_picture(tmp_path, PICTURE_SETTINGS["digits"], levels)
    black_minus_white = {part: each.difference for part, each in contrasts(found).items()}
    assert black_minus_white["train"] > 0.9 and black_minus_white["test"] > 0.85
    parts, count = ndimage.label(levels == 0)
    assert count == 4  # around the face, two eyes, the mouth
    assert max(ndimage.mean(found.arrays["train_accuracy"], parts, range(1, 5))) < 0.2
    assert max(found.arrays["largest_cosine"], found.arrays["length_deviation"]) < 1e-6


def test_maps_are_contrasts_of_their_cells() -> None:
    levels, accuracy = np.array([[1.0, 0.0], [0.0, 1.0]]), np.array([[0.9, 0.4], [0.2, 0.7]])
    result = Result({}, {"levels": levels, "train_accuracy": accuracy, "test_accuracy": accuracy / 2})
    found = contrasts(result)
    assert (found["train"].black, found["train"].white) == (pytest.approx(0.8), pytest.approx(0.3))
    assert found["test"].difference == pytest.approx(0.25)


def test_a_filling_study_resumes_and_grows(tmp_path: Path) -> None:
    def run(runs: int, done: list) -> FillingStudy:
        return run_filling(
            tmp_path, TINY, fillings=(0.3, 0.6), runs=runs, evaluation="loop", callback=lambda *each: done.append(each)
        )

    done: list[tuple] = []
    small = run(1, done)
    assert done[0][:2] == (0, 4)
    assert small.differences().shape == (2, 2, 1)
    done.clear()
    study = run(2, done)
    assert done[0][:2] == (4, 8)
    np.testing.assert_array_equal(study.differences()[..., :1], small.differences())
    masks = study.array("levels")
    np.testing.assert_array_equal(masks[0], masks[1])  # the same with BatchNorm
    assert (masks[0, 0, 0] != masks[0, 0, 1]).any()
    assert study.array("train_loss").shape == (2, 2, 2, 4, 4)
    document = study.to_dict()
    assert len(document["claims"]) == 2
    assert document["sentence"] == study.sentence


@pytest.mark.parametrize("settings", [PICTURE_SETTINGS, FILLING_SETTINGS], ids=["pictures", "filling"])
@pytest.mark.parametrize("name", ["fashion-mnist", "cifar-10"])
def test_the_papers_settings_run_on_local_files(name: str, settings: dict, tmp_path: Path) -> None:
    """All as in the paper but the number of steps, the size of the mask and the files, which are tiny."""
    if name == "cifar-10":
        write_cifar(tmp_path / "data")
    else:
        write_idx(tmp_path / "data", name)
    setting = settings[name]
    recipe = setting.recipe
    assert (recipe.lr, recipe.batch_size, recipe.cells, recipe.cut, recipe.scale) == (3e-4, 512, (50, 50), 2.5, 0.1)
    short = replace(setting, recipe=replace(recipe, steps=1), size=3)
    levels = np.eye(3)
    found = run_picture(tmp_path / "out", short, levels, root=tmp_path / "data", evaluation="loop")
    assert np.isfinite(found.arrays["test_loss"]).all()
    with_norm = short.with_batch_norm(True)
    found = run_picture(tmp_path / "norm", with_norm, levels, root=tmp_path / "data", evaluation="vmap")
    assert np.isfinite(found.arrays["test_loss"]).all()


def test_what_cannot_be_run_is_refused_before_any_compute(tmp_path: Path) -> None:
    with pytest.raises(InvalidArgument, match="root must be given"):
        run_picture(tmp_path, PICTURE_SETTINGS["cifar-10"], np.eye(3))
    with pytest.raises(InvalidData, match="there is no file"):
        run_picture(tmp_path, PICTURE_SETTINGS["fashion-mnist"], np.eye(3), root=tmp_path)
    with pytest.raises(InvalidArgument, match="architecture pattern-cnn"):
        run_filling(tmp_path, PICTURE_SETTINGS["digits"])
    with pytest.raises(InvalidArgument, match="fillings must differ"):
        run_filling(tmp_path, TINY, fillings=(0.5, 0.501))
    with pytest.raises(InvalidArgument, match="fillings must not be empty"):
        run_filling(tmp_path, TINY, fillings=())
    with pytest.raises(InvalidArgument, match="setting must be one of digits"):
        get_pattern_setting("svhn", PICTURE_SETTINGS)
