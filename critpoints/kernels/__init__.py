"""How a batch of small networks is evaluated fast: one signature, several devices.

``reference`` (torch, any device and dtype), ``cpu`` (Numba, float64) and ``gpu`` (Triton, float64 and float32) offer
``loss_and_gradient(samples, theta)``, ``derivatives(samples, theta)`` and ``adam(samples, run, schedule, betas, eps)``;
``gpu`` also ``adam_together``, for runs of several widths at once.
"""

from __future__ import annotations

import importlib.util
import os
import tempfile
from functools import cache
from pathlib import Path
from types import ModuleType

import torch


@cache
def _ensure_cache_folder() -> None:
    """Gives Numba a writable folder for its compiled code where neither the package nor the home is writable."""
    if "NUMBA_CACHE_DIR" in os.environ:
        return
    home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    existing = next((p for p in (home, *home.parents) if p.exists()), home)
    if not os.access(Path(__file__).parent, os.W_OK) and not os.access(existing, os.W_OK):
        os.environ["NUMBA_CACHE_DIR"] = str(Path(tempfile.gettempdir()) / f"critpoints-numba-{os.getuid()}")


def select(device: torch.device, dtype: torch.dtype) -> ModuleType:
    """The fastest kernels for this device and dtype."""
    if device.type == "cpu" and dtype == torch.float64:
        _ensure_cache_folder()
        from critpoints.kernels import cpu

        return cpu
    if device.type == "cuda" and importlib.util.find_spec("triton") is not None:
        from critpoints.kernels import gpu

        return gpu
    from critpoints.kernels import reference

    return reference
