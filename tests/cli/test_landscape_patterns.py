"""critpoints landscape patterns: pictures in, maps, figures and a table out; resuming; what is refused."""

from pathlib import Path

import numpy as np
import pytest
from matplotlib.image import imsave

FIT = ("landscape", "patterns", "fit", "--size", 4, "--steps", 2, "--cells", 2, 2)


def test_an_icon_is_fitted_drawn_and_read_again(run, empty: Path) -> None:
    finished = run(*FIT, "--icon", "cross", "--out", "out", "--json")
    assert finished.code == 0
    document = finished.document
    assert (document["schema"], document["experiment"], document["picture"]) == (1, "digits", "cross")
    assert document["largest_cosine"] < 1e-6
    assert document["length_deviation"] < 1e-6
    assert min(document["cells_per_second_loop"], document["cells_per_second_vmap"]) > 0
    assert document["contrasts"]["test"]["difference"] == pytest.approx(
        document["contrasts"]["test"]["black"] - document["contrasts"]["test"]["white"]
    )
    assert sorted(each.name for each in (empty / "out").iterdir()) == ["pattern.npz", "pattern_maps.png", "units"]
    again = run(*FIT, "--icon", "cross", "--out", "out")
    assert again.code == 0
    assert "nothing to compute" in again.err
    for words in ("black cells", "largest cosine", "cells a second", "separate networks", "processor time"):
        assert words in again.out
    other = run(*FIT, "--icon", "ring", "--out", "out")
    assert other.code == 3
    assert "another configuration" in other.error


def test_pictures_keep_their_grey_levels_if_asked_to(run, empty: Path) -> None:
    picture = np.tile([0.0, 0.4, 0.6, 1.0], (4, 1))
    imsave(empty / "bars.png", picture, cmap="gray", vmin=0, vmax=1)
    for flags, expected in (((), [1, 1, 0, 0]), (("--grey",), [1, 0.6, 0.4, 0])):
        finished = run(*FIT, "--picture", "bars.png", *flags, "--out", f"out{len(flags)}", "--evaluation", "loop")
        assert finished.code == 0
        with np.load(empty / f"out{len(flags)}" / "pattern.npz") as stored:
            np.testing.assert_allclose(stored["levels"][0], expected, atol=0.003)
    assert "cells a second" not in finished.out  # nothing was compared


def test_maps_can_show_more_than_the_picture(run, empty: Path) -> None:
    def maps(*flags: object) -> dict:
        assert run(*FIT, "--out", f"out{len(flags)}", "--evaluation", "loop", *flags).code == 0
        with np.load(empty / f"out{len(flags)}" / "pattern.npz") as stored:
            return dict(stored)

    plain, wide = maps(), maps("--margin", 2)
    assert wide["test_loss"].shape == (8, 8)
    np.testing.assert_allclose(wide["test_loss"][2:-2, 2:-2], plain["test_loss"])
    np.testing.assert_array_equal(plain["losses"], wide["losses"])
    other = maps("--white", "cut", "--cut", 1.5)
    assert other["losses"][0] != plain["losses"][0]


def test_the_filling_study_leaves_figures_and_a_sentence(run, empty: Path) -> None:
    arguments = ("landscape", "patterns", "filling", "--size", 3, "--steps", 1, "--cells", 1, 1, "--evaluation", "loop")
    finished = run(*arguments, "--runs", 2, "--fillings", "0.4", "--out", "out")
    assert finished.code == 0
    assert "harder to find with BatchNorm" in finished.out
    expected = ["filling.npz", "filling_curves.png", "random_pattern_maps.png", "units"]
    assert sorted(each.name for each in (empty / "out").iterdir()) == expected
    again = run(*arguments, "--runs", 2, "--fillings", "0.4", "--out", "out", "--json")
    assert again.document["runs"] == 2
    assert np.shape(again.document["differences_with"]["test"]) == (1, 2)


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("fit", "--icon", "unicorn"), 2, "icon must be one of"),
        (("fit", "--icon", "heart", "--random", 0.5), 2, "choose one of"),
        (("fit", "--grey"), 2, "--grey belongs to --picture"),
        (("fit", "--grey", "--picture", "a.png", "--white", "cut"), 2, "--white is for masks"),
        (("fit", "--picture", "absent.png"), 4, "absent.png"),
        (("fit", "--experiment", "cifar-10"), 2, "root must be given"),
        (("fit", "--experiment", "fashion-mnist", "--data", "."), 3, "there is no file"),
        (("filling", "--fillings", "half"), 2, "no list of shares"),
        (("filling", "--fillings", "0.5,1.5"), 2, "shares lie between 0 and 1"),
    ],
    ids=str,
)
def test_what_is_refused(run, empty: Path, arguments: tuple, code: int, message: str) -> None:
    finished = run("landscape", "patterns", *arguments)
    assert finished.code == code
    assert message in finished.error
    assert list(empty.iterdir()) == []
