"""The filling study: what its numbers are, and that its sentence says no more than they do."""

import numpy as np
import pytest

from critpoints.landscape.filling_study import FillingStudy
from critpoints.landscape.results import Result


def made_up(without: np.ndarray, with_norm: np.ndarray) -> FillingStudy:
    """A study whose planes have accuracy 1/2 + d/2 on black cells and 1/2 - d/2 on white ones, d of shape (F, R)."""
    differences = np.stack([without, with_norm]).T  # runs, fillings, variants
    levels = np.broadcast_to([1.0, 0.0], (*differences.shape, 1, 2)).reshape(-1, 1, 2)
    accuracy = 0.5 + (levels - 0.5) * differences.reshape(-1, 1, 1)
    n_fillings, runs = without.shape
    fillings = np.linspace(0.2, 0.8, n_fillings)
    return FillingStudy(
        fillings, runs, Result({}, {"levels": levels, "test_accuracy": accuracy, "train_accuracy": accuracy.copy()})
    )


@pytest.mark.parametrize(
    ("shift", "words"), [(0.2, "is reproduced"), (0.0, "is not reproduced"), (-0.2, "is not reproduced")]
)
def test_the_sentence_says_what_the_numbers_say(shift: float, words: str) -> None:
    rng = np.random.default_rng(0)
    with_norm = 0.3 + 0.01 * rng.standard_normal((3, 5))
    without = with_norm + shift + 0.01 * (rng.standard_normal((3, 5)) - 0.5)
    study = made_up(without, with_norm)
    np.testing.assert_allclose(study.differences(), np.stack([without, with_norm]), atol=1e-12)
    claim = study.harder_with_batch_norm()
    np.testing.assert_allclose(claim.values, (without - with_norm).mean(0))
    assert ("is reproduced" if shift == 0.2 else "is not reproduced") in study.sentence
    mean = (without - with_norm).mean()
    assert f"{abs(mean):.3f} ± " in study.sentence
    assert ("larger" if mean > 0 else "smaller") + " without it" in study.sentence


@pytest.mark.parametrize(
    ("gain", "words"), [(0.1, "is reproduced: it is 0.100 ± 0.00"), (-0.1, "is not reproduced: it")]
)
def test_the_sentence_says_whose_cells_are_more_accurate(gain: float, words: str) -> None:
    study = made_up(np.full((2, 3), 0.4), np.full((2, 3), 0.1))
    with_norm = np.arange(12) % 2 == 1
    study.result.arrays["test_accuracy"] = study.result.arrays["test_accuracy"] + gain * with_norm[:, None, None]
    assert f"all cells is higher with it {words}" in study.sentence


def test_one_run_reproduces_nothing() -> None:
    study = made_up(np.full((2, 1), 0.4), np.full((2, 1), 0.1))
    assert "is not reproduced" in study.sentence
    assert "nan" not in study.sentence


def test_planes_that_were_never_trained_are_owned_up_to() -> None:
    study = made_up(np.full((2, 2), 0.4), np.full((2, 2), 0.1))
    assert "guessing" not in study.sentence
    study.result.arrays["train_accuracy"][[0, 1, 2], :, 0] = 0.1  # black cells of run 0: without, with, without
    assert study.untrained().sum((1, 2)).tolist() == [2, 1]
    assert "of 2 of 4 planes without BatchNorm and of 1 of 4 with it" in study.sentence
    assert study.sentence.endswith("says little about the landscape.")


def test_masks_without_a_colour_are_left_out() -> None:
    study = made_up(np.full((2, 2), 0.4), np.full((2, 2), 0.1))
    study.result.arrays["levels"] = study.result.arrays["levels"].copy()
    study.result.arrays["levels"][0] = 1.0  # the first run has no white cell
    assert np.isnan(study.differences()[0, 0, 0])
    assert study.harder_with_batch_norm().mean == pytest.approx(0.3)
