"""How many directions around a point are short: by rank on the wedge model, by eigenvalues above a cut elsewhere."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from critpoints.curvature.lanczos import eigsh
from critpoints.curvature.operator import HessianOperator
from critpoints.curvature.trace_estimation import trace
from critpoints.errors import InvalidData, require
from critpoints.objectives.base import Objective
from critpoints.objectives.wedges import WedgeObjective
from critpoints.solvers.base import to_plain

TRACE_PRODUCTS = 60
SMALLEST_CUT = 1e-3  # of the largest eigenvalue


def shared_short_directions(model: WedgeObjective, wedges: Sequence[int]) -> int:
    """Codimension of the intersection of wedges: the rank of their short directions side by side.

    m wedges with disjoint short axes give m s.

    >>> shared_short_directions(WedgeObjective([[0, 1], [1, 2], [3, 4]], dim=6), [0, 1])
    3
    """
    require(len(wedges) > 0, "wedges must name at least one wedge")
    return int(torch.linalg.matrix_rank(torch.cat([model.short_directions(w) for w in wedges], 1)))


def wedges_at(model: WedgeObjective, theta: Tensor, loss: float) -> list[int]:
    """The wedges that a point (P,) belongs to: those whose distance alone would give it at most this loss."""
    depth = (model.distances(theta) - model.thickness).clamp(min=0)
    return (0.5 * depth**2 <= loss).nonzero().ravel().tolist()


@dataclass(frozen=True)
class ShortDirections:
    """The upper end of the Hessian's spectrum at a point.

    Attributes:
        eigenvalues: (k,), the largest, descending; a count is complete for cuts from the last one on.
        trace: an unbiased estimate, with its standard error.
        loss: at the point.
    """

    eigenvalues: Tensor
    trace: float
    trace_error: float
    loss: float

    def count(self, cut: float) -> int | None:
        """The number of eigenvalues above a cut; None below the last one that is known."""
        known = cut >= float(self.eigenvalues[-1])
        return int((self.eigenvalues > cut).sum()) if known else None

    def to_dict(self) -> dict[str, Any]:
        """A JSON-ready dictionary."""
        return to_plain(self)


def smallest_common_cut(found: Sequence[ShortDirections]) -> float:
    """The smallest cut for which the counts at all points are complete, at least 0.001 of the largest eigenvalue."""
    tops = [float(each.eigenvalues[0]) for each in found]
    return max(SMALLEST_CUT * max(tops), *(float(each.eigenvalues[-1]) for each in found))


def grow_with_m(m: np.ndarray, counts: np.ndarray) -> bool:
    """Whether every count for m above 1 exceeds those for m = 1 by two standard deviations, and none falls with m.

    On the wedge model counts are m s: a weak form of what is claimed, which noise does not pass.

    >>> m = np.array([1, 1, 2, 3])
    >>> grow_with_m(m, np.array([10, 11, 20, 29])), grow_with_m(m, np.array([10, 11, 11, 12]))
    (True, False)
    """
    single, joined = counts[m == 1], counts[m > 1][np.argsort(m[m > 1])]
    spread = float(single.std(ddof=1)) if len(single) > 1 else 0.0
    return bool((joined > single.mean() + 2 * spread).all() and (np.diff(joined) >= 0).all())


def measure_short_directions(objective: Objective, theta: Tensor, k: int = 60, *, seed: int = 0) -> ShortDirections:
    """The k largest eigenvalues of the Hessian at a point (P,), and its trace."""
    operator = HessianOperator(objective, theta)
    found = eigsh(operator, min(k, operator.dim), "LA", tol=1e-3, seed=seed)
    total = trace(operator, TRACE_PRODUCTS, seed=seed)
    loss = float(objective.loss(objective.validate(theta)))
    return ShortDirections(found.values.flip(0).double(), float(total.value), float(total.standard_error), loss)


def descend_to_loss(
    objective: Objective, theta: Tensor, loss: float, *, tolerance: float = 0.01, max_steps: int = 2000
) -> Tensor:
    """Follows the negative gradient from a point (P,) until the loss is ``loss`` to a relative tolerance.

    Points at the same loss can be compared in what else they are. Steps grow by a fifth where the loss falls, and are
    halved where it rises or falls below the target.

    Raises:
        InvalidArgument: the loss is lower than that already.
        InvalidData: it is not reached.
    """
    theta = objective.validate(theta).detach()
    value, gradient = objective.loss_and_gradient(theta[None])
    require(
        float(value) >= loss * (1 - tolerance),
        f"loss must be at most that at theta, {float(value):.3g}, got {loss:.3g}",
    )
    rate = 0.1 * (float(value) - loss) / max(float((gradient**2).sum()), float(np.finfo(float).tiny))
    for _ in range(max_steps):
        if float(value) <= loss * (1 + tolerance):
            return theta
        trial = theta - rate * gradient[0]
        new_value, new_gradient = objective.loss_and_gradient(trial[None])
        if loss * (1 - tolerance) <= float(new_value) < float(value):
            theta, value, gradient, rate = trial, new_value, new_gradient, 1.2 * rate
        else:
            rate *= 0.5
    raise InvalidData(f"the loss is {float(value):.3g} after {max_steps} gradient steps, above {loss:.3g}")
