"""Student neurons over the teacher's."""

import numpy as np
import pytest
import torch
from matplotlib.axes import Axes
from matplotlib.colors import to_hex

from critpoints.errors import InvalidArgument
from critpoints.objectives.teacher_student import TeacherStudent
from critpoints.objectives.two_layer import TwoLayerObjective
from critpoints.plots import neurons_over_teacher
from critpoints.plots.style import NEGATIVE, POSITIVE


@pytest.fixture(scope="module")
def problem() -> TeacherStudent:
    return TeacherStudent.grid()


def students(axes: Axes) -> dict[str, np.ndarray]:
    """Positions of the student's neurons inside the frame, by colour."""
    drawn = [each for each in axes.collections if each.get_zorder() == 3]
    return {
        to_hex(each.get_facecolor()[0]): np.asarray(each.get_offsets()) for each in drawn if len(each.get_offsets())
    }


def test_neurons_stand_at_their_weights_in_the_colour_of_their_sign(problem, legend_texts) -> None:
    theta = problem.embed(5, mu=-0.5)
    figure = neurons_over_teacher(problem, theta, title="split")
    (axes,) = figure.axes
    w, a = problem.split(theta)
    drawn = students(axes)
    assert set(map(tuple, drawn[POSITIVE.lower()])) == set(map(tuple, w[a > 0].tolist()))
    assert len(drawn[NEGATIVE.lower()]) == int((a < 0).sum())
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("weight on input 1", "weight on input 2")
    assert "loss" in axes.get_title("left")
    assert {"teacher", "its mirror image"} <= set(legend_texts(figure))


def test_markers_grow_with_the_output_weight_within_bounds(problem) -> None:
    theta = torch.tensor([0.1, 0.1, 0.2, 0.2, 0.3, 0.3, 0.4, 0.4, 1.0, 2.0, 1e-9, 1e5])
    (axes,) = neurons_over_teacher(problem, theta).axes
    (drawn,) = [each for each in axes.collections if each.get_zorder() == 3 and len(each.get_offsets())]
    one, two, tiny, huge = drawn.get_sizes()
    assert two == 2 * one
    assert 0 < tiny < one and two < huge < 10 * one


def test_a_neuron_far_outside_stands_at_the_rim_with_its_distance(problem, legend_texts) -> None:
    theta = torch.tensor([30.0, 40.0, 0.1, 0.1, -1.0, 1.0])
    figure = neurons_over_teacher(problem, theta)
    (axes,) = figure.axes
    assert [text.get_text() for text in axes.texts] == ["50"]
    assert "further out, at $|w|$" in legend_texts(figure)
    assert axes.get_xlim()[1] < 5


def test_rows_become_panels_with_one_frame(problem, legend_texts) -> None:
    figure = neurons_over_teacher(problem, problem.init(5, range(5)).numpy())
    legend_texts(figure)
    assert len(figure.axes) == 5
    assert len({axes.get_xlim() for axes in figure.axes} | {axes.get_ylim() for axes in figure.axes}) == 1
    assert [axes.get_title("left").partition(":")[0] for axes in figure.axes] == [f"row {row}" for row in range(5)]
    assert [bool(axes.get_xlabel()) for axes in figure.axes] == [False, False, True, True, True]


@pytest.mark.parametrize("batch", [None, 3])
def test_trajectories_are_drawn_for_every_neuron(problem, batch: int | None, legend_texts) -> None:
    theta = problem.init(4, range(batch or 1))
    path = torch.stack([theta, 1.1 * theta, 1.2 * theta])
    if batch is None:
        theta, path = theta[0], path[:, 0]
    figure = neurons_over_teacher(problem, theta, trajectory=path)
    for axes in figure.axes:
        assert sum(len(line.get_xdata()) == 3 for line in axes.lines) == 4
    assert "way from the start" in legend_texts(figure)


def test_students_without_a_teacher_and_without_mirror_images(legend_texts) -> None:
    problem = TwoLayerObjective(torch.eye(2), torch.ones(2), "softplus")
    figure = neurons_over_teacher(problem, torch.tensor([1.0, 2.0, 0.0]))
    assert not {"teacher", "its mirror image"} & set(legend_texts(figure))


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 1e300])
def test_parameters_that_are_not_finite_do_not_break_the_others(problem, bad: float, legend_texts) -> None:
    theta = problem.init(5, range(2))
    theta[0, 0] = bad
    figure = neurons_over_teacher(problem, theta, trajectory=torch.stack([theta, theta]))
    legend_texts(figure)
    assert sum(map(len, students(figure.axes[0]).values())) == 4
    assert sum(map(len, students(figure.axes[1]).values())) == 5


def test_neurons_that_do_not_live_in_a_plane_are_refused() -> None:
    problem = TeacherStudent.gaussian(20, 3)
    with pytest.raises(InvalidArgument, match="2 weights a hidden neuron, got 3"):
        neurons_over_teacher(problem, problem.teacher)


@pytest.mark.parametrize(
    ("shape", "trajectory", "message"),
    [
        ((13, 15), None, "S from 1 to 12"),
        ((2, 2, 15), None, "S from 1 to 12"),
        ((0, 15), None, "S from 1 to 12"),
        ((2, 14), None, "theta must have"),
        ((2, 15), (4, 15), "trajectory must be"),
        ((15,), (4, 12), "trajectory must be"),
        ((15,), (0, 15), "trajectory must be"),
    ],
)
def test_shapes_that_do_not_fit_are_named(problem, shape: tuple, trajectory: tuple | None, message: str) -> None:
    path = None if trajectory is None else np.zeros(trajectory)
    with pytest.raises(InvalidArgument, match=message):
        neurons_over_teacher(problem, np.zeros(shape), trajectory=path)
