"""Rendering in memory: warnings are errors, so a figure that warns when it is drawn fails its test."""

import io
from collections.abc import Callable

import pytest
from matplotlib.figure import Figure

Texts = Callable[[Figure], list[str]]


def legends(figure: Figure) -> list:
    return [*figure.legends, *(axes.get_legend() for axes in figure.axes if axes.get_legend())]


@pytest.fixture
def legend_texts() -> Texts:
    """Renders a figure, checks that nothing it says is cut off, and returns the texts of its legends."""

    def read(figure: Figure) -> list[str]:
        figure.savefig(io.BytesIO(), format="png", dpi=60)
        width, height = figure.get_size_inches()
        box = figure.get_tightbbox()
        assert box is not None
        assert box.x0 >= -0.02 and box.y0 >= -0.02, f"cut off at the left or below: {box}"
        assert box.x1 <= width + 0.02 and box.y1 <= height + 0.02, f"cut off at the right or above: {box}"
        return [text.get_text() for legend in legends(figure) for text in legend.get_texts()]

    return read
