"""Pictures read from files, as brightness."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from matplotlib.image import imread

from critpoints.errors import InvalidData

_LUMA = np.array([0.299, 0.587, 0.114])  # ITU-R BT.601


def read_picture(path: str | Path) -> np.ndarray:
    """A PNG file, grey or coloured, as brightness (H, W) from 0, black, to 1, white; what is transparent is white.

    Raises:
        InvalidData: the file is damaged or no PNG.
        OSError: it cannot be read.
    """
    with open(path, "rb") as file:
        try:
            pixels = np.asarray(imread(file, format="png"), dtype=np.float64)
        except Exception as error:  # a damaged picture may raise anything
            raise InvalidData(f"{path} is damaged or no PNG: {' '.join(str(error).split())}") from error
    if pixels.ndim == 2:
        return np.clip(pixels, 0, 1)
    n_colours = pixels.shape[2] - (pixels.shape[2] in (2, 4))  # an even number: the last one is opacity
    brightness = pixels[..., :n_colours] @ (_LUMA if n_colours == 3 else np.ones(1))
    opacity = pixels[..., -1] if n_colours < pixels.shape[2] else 1.0
    return np.clip(1 - opacity * (1 - brightness), 0, 1)
