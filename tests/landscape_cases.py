"""Work for the processes of the tests of landscape experiments, which import it by name."""

import os
from pathlib import Path

import numpy as np
import torch


def draw(unit: str) -> dict[str, np.ndarray]:
    """Numbers that depend on the unit alone, and the threads and the process that made them."""
    generator = np.random.default_rng(sum(unit.encode()))
    return {
        "drawn": generator.random(3),
        "threads": np.array(torch.get_num_threads()),
        "process": np.array(os.getpid()),
    }


def fail_at(unit: str, *, bad: str, folder: Path) -> dict[str, np.ndarray]:
    """As ``draw``, but one unit fails once the others have been stored or begun."""
    (folder / f"began-{unit}").touch()
    if unit == bad:
        raise RuntimeError(f"unit {unit} failed")
    return draw(unit)
