"""The geometry of loss landscapes between, along and around points: paths, trajectories, planes.

The names below are imported when first used: training a network needs no eigensolver.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

_HOMES = {
    "Evaluator": "critpoints.landscape.evaluation",
    "Interpolation": "critpoints.landscape.interpolation",
    "Recipe": "critpoints.landscape.training",
    "State": "critpoints.landscape.evaluation",
    "build": "critpoints.landscape.networks",
    "fit": "critpoints.landscape.training",
    "interpolate": "critpoints.landscape.interpolation",
    "interpolate_snapshots": "critpoints.landscape.interpolation",
    "SnapshotWriter": "critpoints.landscape.snapshots",
    "Snapshots": "critpoints.landscape.snapshots",
    "find_principal_components": "critpoints.landscape.trajectories",
    "stream_principal_components": "critpoints.landscape.trajectories",
}
__all__ = [
    "Evaluator",
    "Interpolation",
    "Recipe",
    "SnapshotWriter",
    "Snapshots",
    "State",
    "build",
    "find_principal_components",
    "fit",
    "interpolate",
    "interpolate_snapshots",
    "stream_principal_components",
]

if TYPE_CHECKING:
    from critpoints.landscape.evaluation import Evaluator, State
    from critpoints.landscape.interpolation import Interpolation, interpolate, interpolate_snapshots
    from critpoints.landscape.networks import build
    from critpoints.landscape.snapshots import Snapshots, SnapshotWriter
    from critpoints.landscape.training import Recipe, fit
    from critpoints.landscape.trajectories import find_principal_components, stream_principal_components


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'critpoints.landscape' has no attribute {name!r}")
    value = getattr(importlib.import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES})
