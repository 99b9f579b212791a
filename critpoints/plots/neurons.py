"""Student neurons in the plane of their weights, over the neurons of the teacher."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from critpoints.errors import InvalidArgument, require
from critpoints.objectives.two_layer import TwoLayerObjective
from critpoints.plots.scales import as_array
from critpoints.plots.style import GREY, NEGATIVE, POSITIVE, TICK_SIZE, new_figure, outside_legend, set_labels

MAX_STUDENTS = 12
COLUMNS = 4
# Marker areas in points^2: proportional to |a|, within bounds, so that a channel's huge weights do not cover the rest.
AREA, SMALLEST_AREA, LARGEST_AREA = 60.0, 12.0, 240.0
TEACHER_AREA = 330.0
# A panel shows at most this many times the radius of the teacher; neurons further out are marked at its rim.
REACH = 3.0


def neurons_over_teacher(
    problem: TwoLayerObjective,
    theta: object,
    *,
    trajectory: object | None = None,
    labels: Sequence[str] | None = None,
    title: str | None = None,
) -> Figure:
    """The neurons of students in the plane of their weights, over those of the teacher; one panel a student.

    The area of a marker grows with |a|, its colour is the sign of a. A neuron far outside stands at the rim, with its
    distance. Where s(-z) = k - s(z), the mirror images of the teacher's neurons are drawn as well. Neurons that are
    not finite are left out.

    Args:
        problem: a two-layer objective with two weights a hidden neuron; the teacher is drawn if it has one.
        theta: (P,) or (S, P) with S at most 12.
        trajectory: (T, P) or (T, S, P), the way of each student to where it is.
        labels: (S,), what stands above each panel before its loss; the row by default.

    Raises:
        InvalidArgument: neurons that do not live in a plane, too many students, or shapes that do not fit.
    """
    students, path = _checked(problem, theta, trajectory)
    if labels is None:
        labels = [""] if len(students) == 1 else [f"row {row}: " for row in range(len(students))]
    require(len(labels) == len(students), f"labels must have length {len(students)}, got {len(labels)}")
    n_columns = len(students) if len(students) <= COLUMNS else 3 if len(students) <= 6 else COLUMNS
    n_rows = math.ceil(len(students) / n_columns)
    cell = 4.6 if len(students) == 1 else 3.0
    figure, panels = new_figure(
        n_rows,
        n_columns,
        size=(cell * n_columns + 3.0, cell * n_rows + 0.4),
        title=title,
        sharex=True,
        sharey=True,
        square=True,
    )
    for axes in panels[len(students) :]:
        axes.remove()
    radius = plane_radius(problem, students)
    losses = problem.loss(torch.from_numpy(students)).tolist()
    for row, axes in enumerate(panels[: len(students)]):
        _draw_teacher(axes, problem)
        if path is not None:
            _draw_paths(axes, problem, path[:, row])
        _draw_student(axes, problem, students[row], radius)
        axes.set(xlim=(-radius, radius), ylim=(-radius, radius))
        axes.locator_params(nbins=5)
        axes.axhline(0, color="0.8", linewidth=0.8, zorder=0)
        axes.axvline(0, color="0.8", linewidth=0.8, zorder=0)
        last_row = row + n_columns >= len(students)
        set_labels(
            axes,
            "weight on input 1" if last_row else None,
            "weight on input 2" if row % n_columns == 0 else None,
            f"{labels[row]}loss {_number(losses[row])}",
        )
        if last_row:
            axes.tick_params(labelbottom=True)
    far = bool((np.abs(_split(problem, students)[0]) > radius).any())
    outside_legend(figure, _legend(problem, path is not None, far))
    return figure


def _checked(
    problem: TwoLayerObjective, theta: object, trajectory: object | None
) -> tuple[np.ndarray, np.ndarray | None]:
    """Students (S, P) and their way (T, S, P)."""
    if not isinstance(problem, TwoLayerObjective) or problem.n_inputs != 2:
        size = f"{problem.n_inputs} weights a neuron" if isinstance(problem, TwoLayerObjective) else repr(problem)
        raise InvalidArgument(f"problem must be a two-layer objective with 2 weights a hidden neuron, got {size}")
    students = np.atleast_2d(as_array("theta", theta))
    require(
        students.ndim == 2 and 1 <= len(students) <= MAX_STUDENTS,
        f"theta must be (P,) or (S, P) with S from 1 to {MAX_STUDENTS}, got shape {students.shape}; choose rows",
    )
    problem.validate(torch.from_numpy(students))
    if trajectory is None:
        return students, None
    path = as_array("trajectory", trajectory)
    if path.ndim == 2 and len(students) == 1:
        path = path[:, None]
    require(
        path.ndim == 3 and len(path) > 0 and path.shape[1:] == students.shape,
        f"trajectory must be (T, {students.shape[0]}, {students.shape[1]}) to fit theta, got {path.shape}",
    )
    return students, path


def _split(problem: TwoLayerObjective, theta: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    w, a = problem.split(torch.from_numpy(theta))
    return w.numpy(), a.numpy()


def _teacher(problem: TwoLayerObjective) -> tuple[np.ndarray, np.ndarray] | None:
    teacher = getattr(problem, "teacher", None)
    return None if teacher is None else _split(problem, as_array("teacher", teacher))


def plane_radius(problem: TwoLayerObjective, students: np.ndarray) -> float:
    """Half the side of every panel: all neurons of students and teacher, but at most ``REACH`` teachers."""
    lengths = np.abs(_split(problem, students)[0]).max(-1)
    lengths = lengths[np.isfinite(lengths)]
    largest = float(lengths.max()) if lengths.size else 0.0
    teacher = _teacher(problem)
    if teacher is not None:
        size = float(np.abs(teacher[0]).max())
        largest = max(size, min(largest, REACH * size))
    elif lengths.size:
        largest = min(largest, REACH * float(np.median(lengths)))
    return 1.2 * largest if largest > 0 else 1.0


def _colors(a: np.ndarray) -> list[str]:
    return [POSITIVE if value > 0 else NEGATIVE if value < 0 else GREY for value in a]


def _draw_teacher(axes: Axes, problem: TwoLayerObjective) -> None:
    teacher = _teacher(problem)
    if teacher is None:
        return
    w, a = teacher
    axes.scatter(*w.T, s=TEACHER_AREA, marker="*", c=_colors(a), alpha=0.3, linewidths=0, zorder=2)
    axes.scatter(*w.T, s=TEACHER_AREA, marker="*", facecolors="none", edgecolors="black", linewidths=0.9, zorder=2.1)
    if problem.activation.reflection is not None:
        axes.scatter(
            *-w.T, s=0.6 * TEACHER_AREA, marker="*", facecolors="none", edgecolors="0.6", linewidths=0.8, zorder=2
        )


def _draw_paths(axes: Axes, problem: TwoLayerObjective, path: np.ndarray) -> None:
    w, a = _split(problem, path)
    for neuron in range(w.shape[1]):
        color = _colors(a[-1:, neuron])[0]
        axes.plot(*w[:, neuron].T, color=color, linewidth=1.1, alpha=0.6, zorder=1.5)
        axes.plot(*w[0, neuron], color=color, marker="x", markersize=4.5, linestyle="none", zorder=1.6)


def _draw_student(axes: Axes, problem: TwoLayerObjective, theta: np.ndarray, radius: float) -> None:
    w, a = _split(problem, theta)
    finite = np.isfinite(w).all(-1) & np.isfinite(a)
    w, a = w[finite], a[finite]
    reach = np.abs(w).max(-1, initial=0.0)
    inside = reach <= radius
    colors = _colors(a)
    area = np.clip(AREA * np.abs(a), SMALLEST_AREA, LARGEST_AREA)
    # the corners of a square show behind a circle of the same area: a pair of opposite signs at one place stays visible
    for sign, marker in ((-1, "s"), (0, "o"), (1, "o")):
        rows = inside & (np.sign(a) == sign)
        color = _colors(np.array([sign]))[0]
        axes.scatter(
            *w[rows].T,
            s=area[rows],
            marker=marker,
            color=color,
            alpha=0.85,
            edgecolors="white",
            linewidths=0.6,
            zorder=3,
        )
    for k in np.nonzero(~inside)[0]:
        rim = 0.94 * radius * w[k] / reach[k]
        style = {"marker": "s" if a[k] < 0 else "o", "markerfacecolor": "none", "markersize": 7}
        axes.plot(*rim, color=colors[k], linestyle="none", zorder=3, **style)
        axes.annotate(
            f"{np.hypot(*w[k]):.3g}",
            rim,
            xytext=(-9 if rim[0] > 0 else 9, 0),
            textcoords="offset points",
            ha="right" if rim[0] > 0 else "left",
            va="center",
            fontsize=TICK_SIZE,
            color=colors[k],
        )


def _number(value: float) -> str:
    if not np.isfinite(value):
        return "not finite"
    if value == 0 or abs(value) >= 1e-2:
        return f"{value:.3g}"
    digits, exponent = f"{value:.1e}".split("e")
    return f"${digits}\\times 10^{{{int(exponent)}}}$"


def _legend(problem: TwoLayerObjective, with_path: bool, far: bool) -> list[Artist]:
    def entry(label: str, marker: str, color: str, size: float, *, filled: bool = True) -> Line2D:
        face = color if filled else "none"
        style = {"marker": marker, "color": color, "markersize": size, "markerfacecolor": face}
        return Line2D([], [], linestyle="none", label=label, **style)

    dot = math.sqrt(AREA)
    handles: list[Artist] = [
        entry("student, $a > 0$", "o", POSITIVE, dot),
        entry("student, $a < 0$", "s", NEGATIVE, dot),
        entry("$|a| = 1$", "o", GREY, dot),
        entry("$|a| \\geq 4$", "o", GREY, math.sqrt(LARGEST_AREA)),
    ]
    if far:
        handles.append(entry("further out, at $|w|$", "o", GREY, 7, filled=False))
    if _teacher(problem) is not None:
        handles.append(entry("teacher", "*", "black", 14, filled=False))
        if problem.activation.reflection is not None:
            handles.append(entry("its mirror image", "*", "0.6", 11, filled=False))
    if with_path:
        handles.append(Line2D([], [], color=GREY, marker="x", markevery=[0], label="way from the start"))
    return handles
