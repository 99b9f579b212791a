import numpy as np
import pytest
from matplotlib.colors import LogNorm

from critpoints.errors import InvalidArgument
from critpoints.plots.patterns import filling_curves, pattern_maps, random_pattern_maps
from critpoints.plots.style import BLUE, VERMILLION

PICTURE = np.array([[1.0, 0.0, 0.0], [1.0, 0.5, 0.0]])


def maps(margin: int = 0) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    shape = tuple(n + 2 * margin for n in PICTURE.shape)
    return {f"{part}_{what}": rng.random(shape) for part in ("train", "test") for what in ("loss", "accuracy")}


def images(figure) -> dict[str, np.ndarray]:
    return {axes.get_title(loc="left"): np.asarray(axes.images[0].get_array()) for axes in figure.axes if axes.images}


@pytest.mark.parametrize("margin", [0, 2])
def test_maps_show_what_they_are_given(margin: int) -> None:
    given = maps(margin)
    figure = pattern_maps(PICTURE, PICTURE != 0.5, given, title="digits: heart")
    drawn = images(figure)
    np.testing.assert_array_equal(drawn["1. Picture"], 1 - PICTURE)  # black is dark
    for row, part in ((2, "train"), (3, "test")):
        np.testing.assert_array_equal(drawn[f"{row}a. Loss, {part}"], given[f"{part}_loss"])
        np.testing.assert_array_equal(drawn[f"{row}b. Accuracy, {part}"], given[f"{part}_accuracy"])
    losses = [axes.images[0] for axes in figure.axes if "Loss" in axes.get_title(loc="left")]
    assert len(losses) == 2
    assert all(isinstance(each.norm, LogNorm) for each in losses)
    assert losses[0].norm.vmin == losses[1].norm.vmin, "both parts have one scale"
    # a margin lies around the picture, whose cells keep their places
    height, width = given["train_loss"].shape
    assert tuple(losses[0].get_extent()) == (-width / 2, width / 2, -height / 2, height / 2)
    (legend,) = [axes.get_legend() for axes in figure.axes if axes.get_legend()]
    assert legend.get_texts()[0].get_text() == "skipped: 1 of 6"
    figure.canvas.draw()


def test_losses_that_are_not_finite_are_left_out() -> None:
    given = maps()
    given["train_loss"][0, 0] = np.inf
    given["test_loss"][:] = np.nan
    pattern_maps(PICTURE, PICTURE > 0, given).canvas.draw()


def test_random_masks_stand_beside_both_networks() -> None:
    mask = np.eye(3)
    drawn = images(random_pattern_maps(mask, 0.2 + 0 * mask, 0.7 * mask))
    np.testing.assert_array_equal(drawn["a. Random mask"], 1 - mask)
    np.testing.assert_array_equal(drawn["b. Without BatchNorm"], 0.2 + 0 * mask)
    np.testing.assert_array_equal(drawn["c. With BatchNorm"], 0.7 * mask)


def test_filling_curves_are_means_and_standard_deviations() -> None:
    rng = np.random.default_rng(0)
    accuracies = rng.random((2, 3, 5, 2))
    accuracies[0, 0, 1, 1] = np.nan  # a mask without white cells
    figure = filling_curves([0.2, 0.5, 0.8], accuracies)
    left = figure.axes[0]
    differences = accuracies[..., 0] - accuracies[..., 1]
    for container, color, each in zip(left.containers, (BLUE, VERMILLION), differences, strict=True):
        line, _, (bars,) = container
        assert line.get_color() == color
        np.testing.assert_allclose(line.get_ydata(), np.nanmean(each, axis=1))
        low_high = np.array([segment[:, 1] for segment in bars.get_segments()])
        np.testing.assert_allclose(np.diff(low_high, axis=1)[:, 0], 2 * np.nanstd(each, axis=1, ddof=1))
    figure.canvas.draw()


def test_a_filling_without_cells_of_a_colour_is_left_out() -> None:
    accuracies = np.full((2, 2, 1, 2), 0.5)
    accuracies[:, 0, :, 1] = np.nan
    figure = filling_curves([0.1, 0.5], accuracies)
    assert len(figure.axes[0].containers[0][0].get_ydata()) == 1


def test_shapes_that_do_not_fit_are_refused() -> None:
    with pytest.raises(InvalidArgument, match="maps must hold 'train_accuracy'"):
        pattern_maps(PICTURE, PICTURE > 0, {"train_loss": PICTURE})
    with pytest.raises(InvalidArgument, match="or a margin on all sides"):
        pattern_maps(PICTURE, PICTURE > 0, {**maps(), "train_loss": np.ones((3, 3))})
    with pytest.raises(InvalidArgument, match="accuracies must have shape"):
        filling_curves([0.1], np.ones((2, 2, 1, 2)))
    with pytest.raises(InvalidArgument, match="without must have shape"):
        random_pattern_maps(np.eye(3), np.eye(2), np.eye(3))
