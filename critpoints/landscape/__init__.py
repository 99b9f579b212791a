"""The geometry of loss landscapes between, along and around points: paths, trajectories, planes.

The names below are imported when first used: training a network needs no eigensolver.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

_HOMES = {
    "Section": "critpoints.landscape.sections",
    "evaluate_section": "critpoints.landscape.sections",
    "section_around": "critpoints.landscape.sections",
    "section_covering": "critpoints.landscape.sections",
    "connect": "critpoints.landscape.curves",
    "Curve": "critpoints.landscape.curves",
    "match_weights": "critpoints.landscape.alignment",
    "compare_barriers": "critpoints.landscape.alignment",
    "filter_normalised": "critpoints.landscape.directions",
    "compare_ensembles": "critpoints.landscape.ensembles",
    "cut_plane": "critpoints.landscape.subspaces",
    "cut_plane_through": "critpoints.landscape.subspaces",
    "optimise_in_subspaces": "critpoints.landscape.subspaces",
    "SectionObjective": "critpoints.landscape.subspaces",
    "fit_pattern": "critpoints.landscape.patterns",
    "map_pattern": "critpoints.landscape.patterns",
    "fit_tunnel": "critpoints.landscape.tunnels",
    "measure_tunnel_width": "critpoints.landscape.tunnel_width",
    "measure_short_directions": "critpoints.landscape.short_directions",
    "sweep_radius": "critpoints.landscape.radius",
    "run_large_scale": "critpoints.landscape.large_scale",
    "Evaluator": "critpoints.landscape.evaluation",
    "Interpolation": "critpoints.landscape.interpolation",
    "PatternRecipe": "critpoints.landscape.patterns",
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
    "Curve",
    "Evaluator",
    "Interpolation",
    "PatternRecipe",
    "Recipe",
    "Section",
    "SectionObjective",
    "SnapshotWriter",
    "Snapshots",
    "State",
    "build",
    "compare_barriers",
    "compare_ensembles",
    "connect",
    "cut_plane",
    "cut_plane_through",
    "evaluate_section",
    "filter_normalised",
    "find_principal_components",
    "fit",
    "fit_pattern",
    "fit_tunnel",
    "interpolate",
    "interpolate_snapshots",
    "map_pattern",
    "match_weights",
    "measure_short_directions",
    "measure_tunnel_width",
    "optimise_in_subspaces",
    "run_large_scale",
    "section_around",
    "section_covering",
    "stream_principal_components",
    "sweep_radius",
]

if TYPE_CHECKING:
    from critpoints.landscape.alignment import compare_barriers, match_weights
    from critpoints.landscape.curves import Curve, connect
    from critpoints.landscape.directions import filter_normalised
    from critpoints.landscape.ensembles import compare_ensembles
    from critpoints.landscape.evaluation import Evaluator, State
    from critpoints.landscape.interpolation import Interpolation, interpolate, interpolate_snapshots
    from critpoints.landscape.large_scale import run_large_scale
    from critpoints.landscape.networks import build
    from critpoints.landscape.patterns import PatternRecipe, fit_pattern, map_pattern
    from critpoints.landscape.radius import sweep_radius
    from critpoints.landscape.sections import Section, evaluate_section, section_around, section_covering
    from critpoints.landscape.short_directions import measure_short_directions
    from critpoints.landscape.snapshots import Snapshots, SnapshotWriter
    from critpoints.landscape.subspaces import SectionObjective, cut_plane, cut_plane_through, optimise_in_subspaces
    from critpoints.landscape.training import Recipe, fit
    from critpoints.landscape.trajectories import find_principal_components, stream_principal_components
    from critpoints.landscape.tunnel_width import measure_tunnel_width
    from critpoints.landscape.tunnels import fit_tunnel


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'critpoints.landscape' has no attribute {name!r}")
    value = getattr(importlib.import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES})
