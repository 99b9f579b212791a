"""Drawings of students as inline SVG: neurons in the plane of their weights, or a column of weights a neuron."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from critpoints.objectives.two_layer import TwoLayerObjective
from critpoints.plots.neurons import REACH, plane_radius
from critpoints.report.markup import Markup, element

# The outlines of the markers of matplotlib that KIND_STYLES names, around 0, of about equal areas.
MARKERS = {
    "o": "M1 0A1 1 0 1 1 -1 0A1 1 0 1 1 1 0Z",
    "s": "M-.88-.88H.88V.88H-.88Z",
    "D": "M0-1.2L1.2 0L0 1.2L-1.2 0Z",
    "d": "M0-1.35L.8 0L0 1.35L-.8 0Z",
    "^": "M0-1.2L1.15 .85H-1.15Z",
    "v": "M0 1.2L1.15-.85H-1.15Z",
    ">": "M1.2 0L-.85 1.15V-1.15Z",
    "P": "M-.38-1.1H.38V-.38H1.1V.38H.38V1.1H-.38V.38H-1.1V-.38H-.38Z",
    "X": "M-1.05-.5L-.5-1.05L0-.55L.5-1.05L1.05-.5L.55 0L1.05 .5L.5 1.05L0 .55L-.5 1.05L-1.05 .5L-.55 0Z",
}
SIDE = 200  # of a drawing, in its own units
HALF = SIDE / 2
RADIUS = 6.5  # of a neuron with |a| = 1; the area is proportional to |a|, within bounds
SMALLEST, LARGEST = 0.2, 4.0
_STAR = " ".join(
    f"{'L' if k else 'M'}{radius * math.sin(k * math.pi / 5):.2f} {-radius * math.cos(k * math.pi / 5):.2f}"
    for k in range(10)
    for radius in ((1.0, 0.42)[k % 2],)
)


class Drawer:
    """Draws students of one width on one scale, so that the drawings can be compared.

    Args:
        name: of the background that they share, unique on the page.
        students: (S, P), all that will be drawn.
    """

    def __init__(self, problem: TwoLayerObjective, name: str, students: Tensor) -> None:
        self.problem, self.name = problem, name
        self.teacher = getattr(problem, "teacher", None)
        if problem.n_inputs == 2:
            self.radius = plane_radius(problem, students.cpu().numpy())
        else:
            teacher = [] if self.teacher is None else [self.teacher.cpu()]
            sizes = torch.cat([each.abs().flatten() for each in (students, *teacher)])
            sizes = sizes[torch.isfinite(sizes)]
            self.radius = min(float(sizes.max()), REACH * float(sizes.median()) + 1e-300) if len(sizes) else 1.0

    @property
    def definitions(self) -> Markup:
        """What the drawings share, for the page's only list of definitions."""
        return element("symbol", *self._background(), id=self.name, viewBox=f"0 0 {SIDE} {SIDE}", overflow="visible")

    def draw(self, theta: Tensor, title: str) -> Markup:
        """One student (P,), with the drawing in words as its text alternative."""
        w, a = (part.cpu().numpy() for part in self.problem.split(theta))
        shapes = self._plane(w, a) if self.problem.n_inputs == 2 else self._columns(w, a)
        return element(
            "svg",
            element("title", f"{title}: {_in_words(w, a)}"),
            Markup(f'<use href="#{self.name}"/>'),
            *shapes,
            class_="student",
            viewBox=f"0 0 {SIDE} {SIDE}",
            role="img",
        )

    def _background(self) -> list[Markup]:
        if self.problem.n_inputs != 2:
            return [Markup(f'<path class="axis" d="M8 {SIDE - 40}H{SIDE - 8}"/>')]
        shapes = [
            Markup(f'<rect class="frame" width="{SIDE}" height="{SIDE}" rx="6"/>'),
            Markup(f'<path class="axis" d="M0 {HALF}H{SIDE}M{HALF} 0V{SIDE}"/>'),
            element("text", f"±{self.radius:.2g}", x=SIDE - 4, y=HALF - 4, class_="scale", text_anchor="end"),
        ]
        if self.teacher is None:
            return shapes
        w, a = (part.cpu().numpy() for part in self.problem.split(self.teacher))
        if self.problem.activation.reflection is not None:
            shapes += [self._star(-weight, "mirrored", 7.5) for weight in w]
        return shapes + [self._star(weight, _sign(out), 11) for weight, out in zip(w, a, strict=True)]

    def _place(self, weight: np.ndarray) -> tuple[float, float]:
        return HALF + HALF * float(weight[0]) / self.radius, HALF - HALF * float(weight[1]) / self.radius

    def _star(self, weight: np.ndarray, look: str, size: float) -> Markup:
        x, y = self._place(weight)
        place = f"translate({x:.1f} {y:.1f}) scale({size})"
        return Markup(f'<path class="star {look}" transform="{place}" d="{_STAR}Z"/>')

    def _plane(self, w: np.ndarray, a: np.ndarray) -> list[Markup]:
        """A circle for a > 0, a square for a < 0: a pair of opposite signs in one place shows the square's corners."""
        finite = np.isfinite(w).all(-1) & np.isfinite(a)
        shapes = []
        for weight, out in sorted(zip(w[finite], a[finite], strict=True), key=lambda neuron: neuron[1]):
            reach = float(np.abs(weight).max())
            size = RADIUS * math.sqrt(min(max(abs(float(out)), SMALLEST), LARGEST))
            look = _sign(out)
            if reach > self.radius:  # stands at the rim, hollow
                weight, look, size = 0.94 * self.radius * weight / reach, f"{look} far", RADIUS
            x, y = self._place(weight)
            marker = MARKERS["s" if out < 0 else "o"]
            place = f"translate({x:.1f} {y:.1f}) scale({size:.1f})"
            shapes.append(Markup(f'<path class="neuron {look}" transform="{place}" d="{marker}"/>'))
        return shapes

    def _columns(self, w: np.ndarray, a: np.ndarray) -> list[Markup]:
        """A column a neuron: its weights as squares whose sides grow with their size, the output weight below."""
        cell = min((SIDE - 16) / len(a), (SIDE - 56) / w.shape[1], 32.0)
        left = HALF - cell * len(a) / 2
        shapes = []
        for k, (weight, out) in enumerate(zip(w, a, strict=True)):
            heights = [SIDE - 40 - cell * (w.shape[1] - i - 0.5) - 4 for i in range(w.shape[1])]
            for value, y in zip((*weight, out), (*heights, SIDE - 18.0), strict=True):
                if np.isfinite(value):
                    half = 0.46 * cell * math.sqrt(min(abs(float(value)) / self.radius, 1.0))
                    place = f"translate({left + cell * (k + 0.5):.1f} {y:.1f}) scale({max(half, 0.6):.1f})"
                    marker = MARKERS["s" if value < 0 else "o"]
                    shapes.append(Markup(f'<path class="neuron {_sign(value)}" transform="{place}" d="{marker}"/>'))
        return shapes


def _sign(value: float) -> str:
    return "positive" if value > 0 else "negative" if value < 0 else "zero"


def _in_words(w: np.ndarray, a: np.ndarray) -> str:
    neurons = [
        f"({', '.join(f'{value:.3g}' for value in weight)}) with output weight {out:.3g}"
        for weight, out in zip(w, a, strict=True)
    ]
    return f"neurons with input weights {'; '.join(neurons)}"
