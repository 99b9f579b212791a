"""The profile of a channel against its laws."""

import numpy as np
import pytest
import torch
from matplotlib.axes import Axes

from critpoints.errors import InvalidArgument
from critpoints.plots import channel_profile

D = np.geomspace(5.0, 500.0, 20)
LIMIT = 1e-4


def profile(c: float) -> dict:
    return {"distance": D, "loss": LIMIT + c / D**2, "eigenvalues": 12 * c / D**4, "limit_loss": LIMIT, "c": c}


def law(axes: Axes) -> np.ndarray:
    (line,) = [line for line in axes.lines if line.get_linestyle() == "--"]
    return np.asarray(line.get_xydata())


@pytest.mark.parametrize("c", [0.02, -0.02])
def test_points_lie_on_the_dashed_laws(c: float, legend_texts) -> None:
    figure = channel_profile(**profile(c), title="a channel")
    legend_texts(figure)
    upper, lower = figure.axes
    for axes, factor, power in ((upper, 0.02, 2), (lower, 0.24, 4)):
        drawn = np.asarray(axes.lines[0].get_xydata())
        assert len(drawn) == len(D)
        assert np.allclose(drawn[:, 1], factor / D**power, rtol=1e-6)
        assert np.allclose(law(axes)[:, 1], factor / np.array([5.0, 500.0]) ** power)
        assert (axes.lines[0].get_markerfacecolor() == "none") == (c < 0), "negative values are hollow"


def test_scales_and_labels() -> None:
    upper, lower = channel_profile(**profile(0.02)).axes
    assert {axes.get_xscale() for axes in (upper, lower)} == {axes.get_yscale() for axes in (upper, lower)} == {"log"}
    assert (upper.get_ylabel(), lower.get_ylabel()) == ("$|L - L_\\infty|$", "$|\\lambda_{\\min}|$")
    assert lower.get_xlabel().startswith("distance of the output weights")


def test_the_lowest_of_several_eigenvalues_is_drawn() -> None:
    spectrum = torch.tensor(np.stack([np.ones_like(D), -1e-3 / D], axis=1))
    lower = channel_profile(**profile(0.02) | {"eigenvalues": spectrum}).axes[1]
    assert np.allclose(lower.lines[0].get_ydata(), 1e-3 / D)


def test_zeros_and_values_that_are_not_finite_are_counted(legend_texts) -> None:
    values = profile(0.02)
    loss, lowest, d = values["loss"].copy(), values["eigenvalues"].copy(), D.copy()
    loss[:2], lowest[3:5], d[6], d[7] = [np.nan, LIMIT], [np.inf, 0.0], 0.0, np.nan
    figure = channel_profile(**values | {"loss": loss, "eigenvalues": lowest, "distance": d})
    texts = legend_texts(figure)
    assert texts.count("zero, left out: 2") == 2
    assert texts.count("not finite, left out: 2 points") == 2
    assert len(figure.axes[0].lines[0].get_xdata()) == len(D) - 4


@pytest.mark.parametrize("d", [[], [0.0], [np.nan], [10.0]], ids=str)
@pytest.mark.parametrize("c", [0.0, 1.0])
def test_few_points_neither_warn_nor_fail(d: list[float], c: float, legend_texts) -> None:
    legend_texts(channel_profile(d, d, d, limit_loss=0.0, c=c))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"loss": D[1:]}, "loss must have shape"),
        ({"eigenvalues": D[1:]}, "eigenvalues must be"),
        ({"eigenvalues": np.zeros((20, 0))}, "eigenvalues must be"),
        ({"c": np.nan}, "limit_loss and c must be finite"),
    ],
)
def test_arguments_that_do_not_fit_are_named(change: dict, message: str) -> None:
    with pytest.raises(InvalidArgument, match=message):
        channel_profile(**profile(0.02) | change)
