"""The styles of the kinds, and what the module leaves alone."""

import subprocess
import sys
from itertools import combinations

import numpy as np
import pytest
from matplotlib.colors import to_rgb
from matplotlib.lines import Line2D

from critpoints.errors import InvalidArgument
from critpoints.plots.style import KIND_STYLES, as_kinds
from critpoints.verdict import Kind

# Linear RGB as seen with full protanopia and deuteranopia: Machado, Oliveira & Fernandes (2009), severity 1.
DEFICIENCIES = {
    "normal": np.eye(3),
    "protanopia": np.array([[0.152, 1.053, -0.205], [0.115, 0.786, 0.099], [-0.004, -0.048, 1.052]]),
    "deuteranopia": np.array([[0.367, 0.861, -0.228], [0.280, 0.673, 0.047], [-0.012, 0.043, 0.969]]),
}


def test_every_kind_has_its_own_colour_marker_and_label() -> None:
    assert list(KIND_STYLES) == list(Kind)
    for attribute in ("color", "marker", "label"):
        assert len({getattr(style, attribute) for style in KIND_STYLES.values()}) == len(Kind)
    assert {style.marker for style in KIND_STYLES.values()} <= set(Line2D.filled_markers), "hollow points need a face"


@pytest.mark.parametrize("sight", DEFICIENCIES)
def test_no_two_kinds_look_the_same(sight: str) -> None:
    def seen(color: str) -> np.ndarray:
        linear = np.array(to_rgb(color)) ** 2.2
        return np.clip(DEFICIENCIES[sight] @ linear, 0, 1) ** (1 / 2.2)

    for first, second in combinations(KIND_STYLES.values(), 2):
        distance = np.linalg.norm(seen(first.color) - seen(second.color))
        assert distance > 0.18, f"{first.label} and {second.label}: {distance:.2f}"


def test_kinds_are_taken_by_name_too() -> None:
    assert as_kinds(["channel", Kind.STRICT_SADDLE]) == [Kind.CHANNEL, Kind.STRICT_SADDLE]
    with pytest.raises(InvalidArgument, match=r"got 'saddel'"):
        as_kinds(["channel", "saddel"])


def test_pyplot_and_the_users_settings_are_left_alone() -> None:
    program = """
import sys, matplotlib
before = dict(matplotlib.rcParams)
import critpoints.plots
critpoints.plots.smallest_eigenvalue_against_loss([1e-3], [1e-5], ["channel"])
assert "matplotlib.pyplot" not in sys.modules
assert dict(matplotlib.rcParams) == before
"""
    subprocess.run([sys.executable, "-c", program], check=True, timeout=120, stdin=subprocess.DEVNULL)
