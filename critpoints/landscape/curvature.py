"""Extreme eigenvalues and gradient norms at a series of states, by the engine of Hessian-vector products."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from critpoints.curvature.lanczos import eigsh
from critpoints.curvature.operator import HessianOperator
from critpoints.errors import InvalidArgument
from critpoints.landscape.evaluation import Evaluator, State
from critpoints.objectives.base import Objective
from critpoints.objectives.module import ModuleObjective
from critpoints.objectives.module_checks import KinkWarning


@dataclass(frozen=True)
class PathCurvature:
    """First and second derivatives of the training loss at m states.

    Attributes:
        smallest, largest: (m,), the extreme eigenvalues of the Hessian.
        residuals: (m, 2), how far each may be from an eigenvalue, see ``critpoints.eigsh``.
        gradient_norm: (m,).
        along: (m,), d^T H d of a unit direction d; NaN where there is none.
        kinks: (m,), the share of a module's ReLU inputs that are within rounding of 0, where there are more of them
            than chance explains: the Hessian then depends on the side (automatic differentiation takes the slope 0).
    """

    smallest: Tensor
    largest: Tensor
    residuals: Tensor
    gradient_norm: Tensor
    along: Tensor
    kinks: Tensor

    def to_dict(self) -> dict[str, Any]:
        """A JSON-ready dictionary."""
        return {name: each.tolist() for name, each in self.__dict__.items()}


def measure_curvature(
    evaluator: Evaluator, states: Iterable[State], *, direction: Tensor | None = None, tol: float = 1e-3
) -> PathCurvature:
    """The curvature at each state, under the evaluator's policy for BatchNorm; kinks are counted, not warned of.

    Args:
        direction: (P,), of any length; the Hessian's quadratic form along it is measured too.
        tol: relative residual of the eigenvalues.

    Raises:
        InvalidArgument: the policy "batch", under which the samples of a batch are coupled.
    """
    if evaluator.policy == "batch":
        raise InvalidArgument("curvature needs another batch_norm: the samples of a batch are coupled by 'batch'")
    rows = []
    for state in states:
        objective = evaluator.at(state)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", KinkWarning)
            hessian = HessianOperator(objective, state.theta)
        pairs = eigsh(hessian, 2, "BE", tol=tol)
        gradient = float(objective.gradient(state.theta).norm())
        along = math.nan
        if direction is not None and float(direction.norm()) > 0:
            unit = direction / direction.norm()
            along = float(unit @ (hessian @ unit))
        rows.append(
            [*pairs.values.tolist(), *pairs.residuals.tolist(), gradient, along, _kinks(objective, state.theta)]
        )
    table = torch.tensor(rows, dtype=torch.float64).reshape(-1, 7)
    return PathCurvature(table[:, 0], table[:, 1], table[:, 2:4], table[:, 4], table[:, 5], table[:, 6])


def _kinks(objective: Objective, theta: Tensor) -> float:
    if not isinstance(objective, ModuleObjective):
        return 0.0
    found = objective.kinks(theta)
    return 0.0 if found.message is None else found.near / found.inputs
