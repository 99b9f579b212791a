"""Smallest eigenvalues against the loss, and their histograms."""

import numpy as np
import pytest
import torch
from matplotlib.colors import to_hex
from matplotlib.figure import Figure

from critpoints.errors import InvalidArgument
from critpoints.plots import KIND_STYLES, smallest_eigenvalue_against_loss, smallest_eigenvalue_histogram
from critpoints.plots.style import NEGATIVE, POSITIVE
from critpoints.verdict import Kind

LOSS = [3e-33, 0.0, 2e-5, 8e-5, 1.1e-4, 2e-4]
LOWEST = [1e-6, -2e-15, 3e-6, -4e-5, 5e-10, 1e-15]
KINDS = [
    Kind.GLOBAL_MINIMUM,
    Kind.GLOBAL_MINIMUM,
    Kind.STRICT_MINIMUM,
    Kind.STRICT_SADDLE,
    Kind.CHANNEL,
    Kind.DEGENERATE_MINIMUM,
]


def points(figure: Figure) -> np.ndarray:
    return np.concatenate([np.asarray(each.get_offsets()) for each in figure.axes[0].collections])


def test_the_axes_say_what_they_show(legend_texts) -> None:
    figure = smallest_eigenvalue_against_loss(LOSS, LOWEST, KINDS, title="width 5")
    (axes,) = figure.axes
    legend_texts(figure)
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("loss", "smallest Hessian eigenvalue")
    assert (axes.get_xscale(), axes.get_yscale()) == ("log", "symlog")
    assert figure.get_suptitle() == "width 5"


def test_every_point_is_drawn_in_the_style_of_its_kind(legend_texts) -> None:
    figure = smallest_eigenvalue_against_loss(
        torch.tensor(LOSS, dtype=torch.float64), np.array(LOWEST), [str(kind) for kind in KINDS]
    )
    drawn = {each.get_label(): each for each in figure.axes[0].collections}
    assert len(points(figure)) == len(LOSS)
    for kind in set(KINDS):
        style = KIND_STYLES[kind]
        assert to_hex(drawn[style.label].get_facecolor()[0]) == style.color.lower()
        assert f"{style.label} ({KINDS.count(kind)})" in legend_texts(figure)
    (saddle,) = drawn["strict saddle"].get_offsets()
    assert list(saddle) == [8e-5, -4e-5]


def test_losses_that_are_zero_stand_side_by_side_on_the_rail(legend_texts) -> None:
    loss = [0.0, 1e-33, 1e-20, -1e-18, 1e-5, 1e-4]
    figure = smallest_eigenvalue_against_loss(loss, [1e-6] * 6, ["global_minimum"] * 6)
    legend_texts(figure)
    labels = [label.get_text() for label in figure.axes[0].get_xticklabels()]
    x = points(figure)[:, 0]
    assert labels[0] == "≤ $10^{-16}$"
    assert np.all(x[:4] < figure.axes[0].get_xticks()[1]) and len(set(x[:4])) == 4
    assert list(np.argsort(x[:4])) == [3, 0, 1, 2], "in the order of their loss"
    assert x[4:].tolist() == [1e-5, 1e-4]


@pytest.mark.parametrize("noise_floor", [1e-14, torch.tensor([1e-14] * 5 + [1e-16])], ids=["one", "per point"])
def test_points_inside_their_noise_floor_are_hollow(noise_floor: object, legend_texts) -> None:
    figure = smallest_eigenvalue_against_loss(LOSS, LOWEST, KINDS, noise_floor=noise_floor)
    hollow = sum(len(each.get_offsets()) for each in figure.axes[0].collections if not len(each.get_facecolor()))
    texts = legend_texts(figure)
    assert hollow == (2 if isinstance(noise_floor, float) else 1)
    assert "hollow: no sign" in texts
    assert any(text.startswith("noise floor") for text in texts)
    assert figure.axes[0].yaxis.get_transform().linthresh == pytest.approx(1e-14)


def test_values_that_are_not_finite_are_counted(legend_texts) -> None:
    loss, lowest = [np.nan, np.inf, *LOSS[2:]], [*LOWEST[:-1], -np.inf]
    figure = smallest_eigenvalue_against_loss(loss, lowest, KINDS, noise_floor=[np.nan] * 6)
    assert "not finite, left out: 3 points" in legend_texts(figure)
    assert len(points(figure)) == 3


@pytest.mark.parametrize("values", [[], [0.0], [np.nan], [1e-5], [0.0, 0.0], [-1.0, 1e300], [5e-324]], ids=str)
def test_unusual_values_neither_warn_nor_fail(values: list[float], legend_texts) -> None:
    for zero_below in (0.0, 1e-16):
        legend_texts(smallest_eigenvalue_against_loss(values, values, ["channel"] * len(values), zero_below=zero_below))
    legend_texts(smallest_eigenvalue_histogram(values, values))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"loss": LOSS[1:]}, "loss must have shape"),
        ({"smallest_eigenvalue": LOWEST[1:]}, "smallest_eigenvalue must have shape"),
        ({"noise_floor": [1e-14]}, "noise_floor must be one number"),
        ({"kinds": ["minimum"] * 6}, "kinds must be from"),
        ({"zero_below": -1.0}, "zero_below must not"),
    ],
)
def test_arguments_that_do_not_fit_are_named(change: dict, message: str) -> None:
    arguments = {"loss": LOSS, "smallest_eigenvalue": LOWEST, "kinds": KINDS} | change
    with pytest.raises(InvalidArgument, match=message):
        smallest_eigenvalue_against_loss(**arguments)


def test_histograms_share_their_bins_and_hold_every_value(legend_texts) -> None:
    rng = np.random.default_rng(0)
    raw = -(10 ** rng.uniform(-7, -3, 50))
    refined = np.concatenate([10 ** rng.uniform(-9, -4, 40), 1e-15 * rng.uniform(-1, 1, 30), [np.nan]])
    figure = smallest_eigenvalue_histogram(torch.from_numpy(raw), refined, noise_floor=1e-14)
    texts = legend_texts(figure)
    before, after = figure.axes
    assert before.get_xscale() == after.get_xscale() == "symlog"
    assert (after.get_xlabel(), after.get_ylabel()) == ("smallest Hessian eigenvalue", "points")
    assert (before.get_title("left"), after.get_title("left")) == ("after Adam", "after refinement")
    assert [sum(bar.get_height() for bar in axes.patches) for axes in figure.axes] == [50, 70]
    assert [bar.get_x() for bar in before.patches] == [bar.get_x() for bar in after.patches]
    assert "negative: 50 of 50" in texts and "positive: 40 of 70" in texts
    assert "within ± $10^{-14}$: 30 of 70" in texts
    assert "not finite, left out: 1 point" in texts


def test_bars_are_coloured_by_sign() -> None:
    figure = smallest_eigenvalue_histogram([-1e-4, -1e-6], [1e-4, 1e-6], noise_floor=1e-9)
    for axes, color in zip(figure.axes, (NEGATIVE, POSITIVE), strict=True):
        assert {to_hex(bar.get_facecolor()) for bar in axes.patches if bar.get_height()} == {color.lower()}


def test_a_noise_floor_of_zero_is_refused() -> None:
    with pytest.raises(InvalidArgument, match="noise_floor must be positive"):
        smallest_eigenvalue_histogram([1.0], [1.0], noise_floor=0.0)
