"""The loss on planes with marked points, and along paths between solutions."""

import numpy as np
import pytest
from matplotlib.figure import Figure

from critpoints.errors import InvalidArgument
from critpoints.landscape.curve_experiment import PATHS, QUANTITIES
from critpoints.landscape.results import Result
from critpoints.plots import joining_paths, loss_plane


def plane(**change: np.ndarray) -> Result:
    x, y = np.linspace(-1, 1, 5), np.linspace(-2, 2, 7)
    loss = 0.1 + x[:, None] ** 2 + 0.5 * y**2
    marks = {"marks-coordinates": np.array([[-1.0, 1.0], [0.0, 0.5], [0.2, 0.0]]), "marks-distances": np.arange(3.0)}
    marks |= {"marks-train_loss": np.array([2.0, 1.0, 0.1]), "marks-projected_train_loss": np.array([2.0, 0.9, 0.2])}
    return Result({}, {"axis-0": x, "axis-1": y, "train_loss": loss, "test_loss": loss + 0.1, **marks, **change})


def test_both_losses_and_the_true_ones_are_drawn(legend_texts) -> None:
    figure = loss_plane(plane(), labels=("one", "two"), title="t")
    texts = legend_texts(figure)
    assert {"true training loss", "of the projection", "distance from the plane"} <= set(texts)
    train, test, marks = figure.axes[:3]
    assert (train.get_xlabel(), train.get_ylabel(), train.get_title("left")) == ("one", "two", "training loss")
    assert test.get_title("left") == "test loss" and marks.get_ylabel() == "training loss"
    path = train.lines[-1].get_xydata()
    np.testing.assert_array_equal(path, plane().arrays["marks-coordinates"])
    assert train.get_xlim() == (-1, 1) and train.get_ylim() == (-2, 2)


def test_what_rounding_explains_is_no_distance_and_statistics_are_told(legend_texts) -> None:
    on_it = plane(**{"marks-distances": np.full(3, 1e-6)})
    texts = legend_texts(loss_plane(on_it, labels=("one", "two"), connected=False))
    assert "all points lie on the plane" in texts and "distance from the plane" not in texts
    normed = Result({"batch_norm": "recalibrate"}, plane().arrays)
    told = {"BatchNorm on the plane: recalibrate", "at true points: their own statistics"}
    assert told <= set(legend_texts(loss_plane(normed, labels=("one", "two"))))
    assert not told & set(texts)


def values_at(figure: Figure) -> set[str]:
    return {each.get_text() for each in figure.axes[0].texts}


def test_solutions_are_numbered_and_not_joined(legend_texts) -> None:
    figure = loss_plane(plane(), labels=("one", "two"), connected=False)
    legend_texts(figure)
    assert values_at(figure) == {"1", "2", "3"} and not figure.axes[0].lines
    assert values_at(loss_plane(plane(), labels=("one", "two"))) == {"first", "last"}
    returning = plane(**{"marks-coordinates": np.array([[0.0, 0.1], [0.5, 0.5], [0.1, 0.0]])})
    assert values_at(loss_plane(returning, labels=("one", "two"))) == {"first, last"}


@pytest.mark.parametrize("fill", [np.nan, 0.0, -1.0, 3.0, np.inf], ids=str)
def test_unusual_losses_neither_warn_nor_fail(fill: float, legend_texts) -> None:
    loss = np.full((5, 7), fill)
    legend_texts(loss_plane(plane(train_loss=loss), labels=("one", "two")))
    loss = plane().arrays["train_loss"].copy()
    loss[0, 0] = fill
    legend_texts(loss_plane(plane(train_loss=loss), labels=("one", "two")))


def test_a_surface_of_another_shape_is_refused() -> None:
    with pytest.raises(InvalidArgument, match="train_loss must have shape"):
        loss_plane(plane(train_loss=np.zeros((7, 5))), labels=("one", "two"))


def test_every_path_is_drawn_with_its_mean(legend_texts) -> None:
    rng = np.random.default_rng(0)
    losses = rng.random((3, len(PATHS), 11, len(QUANTITIES)))
    t = np.tile(np.linspace(0, 1, 11), (3, 1))
    figure = joining_paths(Result({}, {"t": t, "losses": losses}), title="t")
    assert legend_texts(figure) == ["straight line", "line after alignment", "Bezier curve", "polygonal chain"]
    assert [axes.get_title("left") for axes in figure.axes] == ["training loss", "test loss", "test error"]
    drawn = figure.axes[1].lines[2].get_ydata()
    np.testing.assert_allclose(drawn, losses[:, 2, :, QUANTITIES.index("test_loss")].mean(0))
