"""Pictures to look for in a loss landscape: icons drawn in code, any picture made small, random masks."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
from scipy import ndimage

from critpoints.errors import InvalidData, require

PICTURE_SIZE, RANDOM_SIZE = 50, 30  # of the pictures and the random masks of Skorokhodov and Burtsev 2019
_OVERSAMPLING = 8  # points a cell and axis at which an icon is drawn before it is made small

Coordinates = np.ndarray
Shape = Callable[[Coordinates, Coordinates], np.ndarray]


def _disc(x: Coordinates, y: Coordinates, cx: float, cy: float, radius: float) -> np.ndarray:
    return (x - cx) ** 2 + (y - cy) ** 2 <= radius**2


def _heart(x: Coordinates, y: Coordinates) -> np.ndarray:
    u, v = 1.25 * x, 1.25 * y + 0.1
    return (u**2 + v**2 - 1) ** 3 <= u**2 * v**3


def _ring(x: Coordinates, y: Coordinates) -> np.ndarray:
    return _disc(x, y, 0, 0, 0.85) & ~_disc(x, y, 0, 0, 0.45)


def _cross(x: Coordinates, y: Coordinates) -> np.ndarray:
    return (np.maximum(abs(x), abs(y)) <= 0.85) & (np.minimum(abs(x), abs(y)) <= 0.28)


def _star(x: Coordinates, y: Coordinates) -> np.ndarray:
    """The pentagram, filled: inside at least four of the five half-planes that its lines bound."""
    angles = np.pi / 2 + 2 * np.pi * np.arange(5) / 5
    inside = [np.cos(a) * abs(x) + np.sin(a) * (y + 0.08) <= 0.95 * np.cos(2 * np.pi / 5) for a in angles]
    return np.sum(inside, axis=0) >= 4


def _moon(x: Coordinates, y: Coordinates) -> np.ndarray:
    return _disc(x, y, -0.05, 0, 0.85) & ~_disc(x, y, 0.35, 0.1, 0.7)


def _smile(x: Coordinates, y: Coordinates) -> np.ndarray:
    eyes = _disc(x, y, -0.3, 0.28, 0.15) | _disc(x, y, 0.3, 0.28, 0.15)
    mouth = _disc(x, y, 0, 0, 0.58) & ~_disc(x, y, 0, 0, 0.34) & (y < -0.1)
    return _disc(x, y, 0, 0, 0.9) & ~eyes & ~mouth


def _arrow(x: Coordinates, y: Coordinates) -> np.ndarray:
    head = (y >= 0) & (abs(x) <= 0.85 - y)
    return head | ((abs(x) <= 0.27) & (y < 0) & (y >= -0.85))


def _stairs(x: Coordinates, y: Coordinates) -> np.ndarray:
    return (np.maximum(abs(x), abs(y)) <= 0.85) & (y <= 0.425 * np.floor(x / 0.425 + 1e-9) + 0.425)


ICONS: Mapping[str, Shape] = {
    "heart": _heart,
    "ring": _ring,
    "cross": _cross,
    "star": _star,
    "moon": _moon,
    "smile": _smile,
    "arrow": _arrow,
    "stairs": _stairs,
}


def draw_icon(name: str, size: int = PICTURE_SIZE) -> np.ndarray:
    r"""A built-in icon, (size, size), True where it is black; row 0 is its upper edge.

    Raises:
        InvalidArgument: an unknown name, or a size below 3.

    >>> print("\n".join("".join("-#"[cell] for cell in row) for row in draw_icon("arrow", 9).astype(int)))
    ---------
    ----#----
    ---###---
    --#####--
    ---###---
    ---###---
    ---###---
    ---###---
    ---------
    """
    require(name in ICONS, f"icon must be one of {', '.join(ICONS)}, got {name!r}")
    _require_size(size)
    n = size * _OVERSAMPLING
    ticks = (2 * np.arange(n) + 1 - n) / n  # exactly symmetric
    return as_mask(1.0 - ICONS[name](ticks[None, :], -ticks[:, None]), size)


def as_mask(picture: np.ndarray, size: int = PICTURE_SIZE) -> np.ndarray:
    """A picture (H, W) of brightness in [0, 1] as a mask (size, size): True, black, where cells are darker than 1/2."""
    return as_levels(picture, size) > 0.5


def as_levels(picture: np.ndarray, size: int = PICTURE_SIZE) -> np.ndarray:
    """A picture (H, W) of brightness in [0, 1] as grey levels (size, size), from 0, white, to 1, black.

    Each cell is the mean over its part of the picture. Pictures that are not square are set on a white square.

    Raises:
        InvalidArgument: a size below 3.
        InvalidData: a picture that is not two axes of numbers in [0, 1].

    >>> as_levels(np.array([[1.0, 1.0, 1.0], [1.0, 0.0, 1.0], [1.0, 1.0, 0.5]]), 3).tolist()
    [[0.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 0.5]]
    """
    _require_size(size)
    picture = np.asarray(picture, dtype=np.float64)
    sound = picture.ndim == 2 and picture.size > 0 and bool(((picture >= 0) & (picture <= 1)).all())
    require(sound, f"picture must be (H, W) brightness in [0, 1], got shape {picture.shape}", InvalidData)
    height, width = picture.shape
    side = max(height, width)
    darkness = np.zeros((side, side))
    top, left = (side - height) // 2, (side - width) // 2
    darkness[top : top + height, left : left + width] = 1 - picture
    average = _cell_averages(side, size)
    return np.clip(average @ darkness @ average.T, 0.0, 1.0)


def _cell_averages(side: int, size: int) -> np.ndarray:
    """(size, side): the share that each pixel of a row has in each cell."""
    edges = np.linspace(0, side, size + 1)
    pixels = np.arange(side)
    overlap = np.minimum(edges[1:, None], pixels + 1) - np.maximum(edges[:-1, None], pixels)
    return np.clip(overlap, 0, None) * size / side


def random_mask(shape: Sequence[int], filling: float, *, seed: int) -> np.ndarray:
    """Cells that are black, True, with probability ``filling``, each for itself; any number of axes.

    Raises:
        InvalidArgument: a filling outside [0, 1].
    """
    require(0 <= filling <= 1, f"filling must lie in [0, 1], got {filling}")
    return np.random.default_rng(seed).random(tuple(shape)) < filling


def boundary_cells(levels: np.ndarray) -> np.ndarray:
    """Which cells have a neighbour (diagonal ones count) of another level; any number of axes.

    The others are skipped in training: the network "interpolates between neighbouring values without being trained to
    do so" (Skorokhodov and Burtsev 2019, appendix A).

    >>> boundary_cells(np.array([1, 1, 1, 0, 0, 0])).astype(int).tolist()
    [0, 0, 1, 1, 0, 0]
    """
    values = np.asarray(levels, dtype=np.float64)
    return ndimage.maximum_filter(values, 3, mode="nearest") > ndimage.minimum_filter(values, 3, mode="nearest")


def _require_size(size: int) -> None:
    require(size >= 3, f"size must be at least 3 cells, got {size}")
