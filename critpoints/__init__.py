"""critpoints: second-order critical-point analysis of neural-network losses.

The names below are imported when first used, so that ``import critpoints`` and ``critpoints --help`` stay fast.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

_HOMES = {
    "InvalidArgument": "critpoints.errors",
    "InvalidData": "critpoints.errors",
    "Status": "critpoints.errors",
    "ACTIVATIONS": "critpoints.activations",
    "Activation": "critpoints.activations",
    "get_activation": "critpoints.activations",
    "Kind": "critpoints.verdict",
    "Evidence": "critpoints.verdict",
    "Verdict": "critpoints.verdict",
    "Verdicts": "critpoints.verdict",
    "Objective": "critpoints.objectives.base",
    "SecondOrder": "critpoints.objectives.base",
    "TwoLayerObjective": "critpoints.objectives.two_layer",
    "TeacherStudent": "critpoints.objectives.teacher_student",
    "GaussianReluObjective": "critpoints.objectives.gaussian_relu",
    "ModuleObjective": "critpoints.objectives.module",
    "WedgeObjective": "critpoints.objectives.wedges",
    "HessianOperator": "critpoints.curvature.operator",
    "GaussNewtonOperator": "critpoints.curvature.operator",
    "check_objective": "critpoints.testing",
    "SymmetricOperator": "critpoints.curvature.linear_operator",
    "MatrixOperator": "critpoints.curvature.linear_operator",
    "eigsh": "critpoints.curvature.lanczos",
    "Eigenpairs": "critpoints.curvature.lanczos",
    "spectral_density": "critpoints.curvature.density",
    "SpectralDensity": "critpoints.curvature.density",
    "train": "critpoints.solvers.training",
    "Training": "critpoints.solvers.training",
    "refine": "critpoints.solvers.refinement",
    "Refinement": "critpoints.solvers.refinement",
    "search_saddles": "critpoints.solvers.saddle_search",
    "FoundPoints": "critpoints.solvers.saddle_search",
    "build_merge_tree": "critpoints.merge_tree",
    "MergeTree": "critpoints.merge_tree",
    "escape": "critpoints.solvers.escaping",
    "Escape": "critpoints.solvers.escaping",
    "sweep_epsilon": "critpoints.solvers.escaping",
    "EpsilonSweep": "critpoints.solvers.escaping",
    "classify": "critpoints.classification",
    "settle": "critpoints.classification",
    "raw_spectrum": "critpoints.classification",
    "negative_eigenvalue_causes": "critpoints.classification",
    "closest_parents": "critpoints.symmetry.parents",
    "descend_from_saddles": "critpoints.descent",
    "take_census": "critpoints.census",
    "Census": "critpoints.census",
    "wilson_interval": "critpoints.statistics",
    "PolynomialObjective": "critpoints.objectives.polynomial",
    "certify": "critpoints.certification.prover",
    "polish": "critpoints.certification.polishing",
    "Prover": "critpoints.certification.prover",
    "tie": "critpoints.certification.ties",
    "Certificate": "critpoints.certification.certificate",
    "NotCertified": "critpoints.errors",
    "verify": "critpoints.study.verification",
    "Verification": "critpoints.study.verification",
}
_MODULES = (
    "activations",
    "census",
    "certification",
    "curvature",
    "data",
    "errors",
    "landscape",
    "plots",
    "statistics",
    "study",
    "symmetry",
    "testing",
    "verdict",
)
__all__ = [
    "ACTIVATIONS",
    "Activation",
    "Census",
    "Certificate",
    "Eigenpairs",
    "EpsilonSweep",
    "Escape",
    "Evidence",
    "FoundPoints",
    "GaussNewtonOperator",
    "GaussianReluObjective",
    "HessianOperator",
    "InvalidArgument",
    "InvalidData",
    "Kind",
    "MatrixOperator",
    "MergeTree",
    "ModuleObjective",
    "NotCertified",
    "Objective",
    "PolynomialObjective",
    "Prover",
    "Refinement",
    "SecondOrder",
    "SpectralDensity",
    "Status",
    "SymmetricOperator",
    "TeacherStudent",
    "Training",
    "TwoLayerObjective",
    "Verdict",
    "Verdicts",
    "Verification",
    "WedgeObjective",
    "__version__",
    "build_merge_tree",
    "certify",
    "check_objective",
    "classify",
    "closest_parents",
    "descend_from_saddles",
    "eigsh",
    "escape",
    "get_activation",
    "negative_eigenvalue_causes",
    "polish",
    "raw_spectrum",
    "refine",
    "search_saddles",
    "settle",
    "spectral_density",
    "sweep_epsilon",
    "take_census",
    "tie",
    "train",
    "verify",
    "wilson_interval",
]

if TYPE_CHECKING:
    from critpoints.activations import ACTIVATIONS, Activation, get_activation
    from critpoints.census import Census, take_census
    from critpoints.certification.certificate import Certificate
    from critpoints.certification.polishing import polish
    from critpoints.certification.prover import Prover, certify
    from critpoints.certification.ties import tie
    from critpoints.classification import classify, negative_eigenvalue_causes, raw_spectrum, settle
    from critpoints.curvature.density import SpectralDensity, spectral_density
    from critpoints.curvature.lanczos import Eigenpairs, eigsh
    from critpoints.curvature.linear_operator import MatrixOperator, SymmetricOperator
    from critpoints.curvature.operator import GaussNewtonOperator, HessianOperator
    from critpoints.descent import descend_from_saddles
    from critpoints.errors import InvalidArgument, InvalidData, NotCertified, Status
    from critpoints.merge_tree import MergeTree, build_merge_tree
    from critpoints.objectives.base import Objective, SecondOrder
    from critpoints.objectives.gaussian_relu import GaussianReluObjective
    from critpoints.objectives.module import ModuleObjective
    from critpoints.objectives.polynomial import PolynomialObjective
    from critpoints.objectives.teacher_student import TeacherStudent
    from critpoints.objectives.two_layer import TwoLayerObjective
    from critpoints.objectives.wedges import WedgeObjective
    from critpoints.solvers.escaping import EpsilonSweep, Escape, escape, sweep_epsilon
    from critpoints.solvers.refinement import Refinement, refine
    from critpoints.solvers.saddle_search import FoundPoints, search_saddles
    from critpoints.solvers.training import Training, train
    from critpoints.statistics import wilson_interval
    from critpoints.study.verification import Verification, verify
    from critpoints.symmetry.parents import closest_parents
    from critpoints.testing import check_objective
    from critpoints.verdict import Evidence, Kind, Verdict, Verdicts


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        value = getattr(importlib.import_module(_HOMES[name]), name)
    elif name in _MODULES:
        value = importlib.import_module(f"critpoints.{name}")
    else:
        raise AttributeError(f"module 'critpoints' has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES, *_MODULES})
