"""On what a result was computed: versions, processor, threads, accelerator."""

from __future__ import annotations

import os
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

LIBRARIES = ("critpoints", "torch", "numpy", "scipy", "numba", "llvmlite", "matplotlib", "python-flint")


def versions() -> dict[str, str]:
    """The versions of Python, critpoints and the libraries that the numerics use, as they were installed."""
    found = {"python": platform.python_version()}
    for library in LIBRARIES:
        try:
            found[library] = version(library)
        except PackageNotFoundError:
            found[library] = "not installed"
    return found


def cpu_model() -> str:
    """The processor's name, as the operating system knows it."""
    information = Path("/proc/cpuinfo")
    if information.exists():
        for line in information.read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def provenance() -> dict[str, Any]:
    """What a unit of a study keeps: rows are bit for bit the same where this is the same."""
    return {"versions": versions(), "cpu": cpu_model(), "system": platform.platform()}


def threads() -> dict[str, int]:
    """How many threads each library uses, and how many processors there are."""
    import numba
    import torch

    return {"processors": os.cpu_count() or 1, "numba": numba.get_num_threads(), "torch": torch.get_num_threads()}


def gpu() -> str | None:
    """The name of the GPU that torch finds, or None."""
    import torch

    return torch.cuda.get_device_name(0) if torch.cuda.is_available() else None
