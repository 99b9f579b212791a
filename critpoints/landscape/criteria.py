"""Whether a claim was reproduced: a mean over seeds beyond a bar by two standard errors."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

STANDARD_ERRORS = 2.0


@dataclass(frozen=True)
class Criterion:
    """A quantity measured once a seed, and the bar that its mean has to pass.

    Attributes:
        name: what was measured.
        values: (seeds,).
        bar: what the mean must pass; None for what is measured only.
        above: whether passing means to lie above the bar, or below it.

    >>> Criterion("share", (0.8, 0.9, 1.0), bar=0.7, above=True).reproduced
    True
    >>> Criterion("share", (0.6, 0.9, 1.0), bar=0.7, above=True).reproduced  # the mean passes, by less than 2 errors
    False
    """

    name: str
    values: Sequence[float] | np.ndarray
    bar: float | None
    above: bool

    @property
    def mean(self) -> float:
        """Over the seeds."""
        return float(np.mean(self.values))

    @property
    def spread(self) -> float:
        """Standard deviation over the seeds; NaN for one seed."""
        return float(np.std(self.values, ddof=1)) if len(self.values) > 1 else math.nan

    @property
    def standard_error(self) -> float:
        """Of the mean; NaN for one seed."""
        return self.spread / math.sqrt(len(self.values))

    @property
    def reproduced(self) -> bool:
        """Whether the mean lies beyond the bar by two standard errors; never, for one seed or without a bar."""
        if self.bar is None:
            return False
        distance = self.mean - self.bar if self.above else self.bar - self.mean
        return distance >= STANDARD_ERRORS * self.standard_error

    @property
    def outcome(self) -> str:
        """In words."""
        if self.bar is None:
            return "measured"
        return "reproduced" if self.reproduced else "not reproduced"

    def to_dict(self) -> dict[str, Any]:
        """A JSON-ready dictionary."""
        return {
            "name": self.name,
            "values": [float(each) for each in self.values],
            "mean": self.mean,
            "spread": self.spread if len(self.values) > 1 else None,
            "bar": self.bar,
            "above": self.above,
            "outcome": self.outcome,
        }


def jackknife(n: int, statistic: Callable[[np.ndarray], float]) -> list[float]:
    """Pseudo-values of a statistic of n runs: their mean is the bias-corrected statistic, their spread its error's.

    For a claim about all runs together, whose statistic has no value for one run alone (Tukey 1958).

    Args:
        n: runs.
        statistic: from the indices of some of the runs to a number.

    >>> sample = np.array([1.0, 4.0, 7.0])
    >>> jackknife(3, lambda chosen: float(sample[chosen].mean()))  # of a mean, the values themselves
    [1.0, 4.0, 7.0]
    """
    every = np.arange(n)
    whole = statistic(every)
    return [n * whole - (n - 1) * statistic(np.delete(every, i)) for i in range(n)]


def judge_kinks(shares: np.ndarray, suffix: str = "") -> list[Criterion]:
    """What to know about eigenvalues along paths (runs, m) with inputs of ReLUs on their kinks; nothing without."""
    name = f"largest share of ReLU inputs on their kink (the Hessian depends on the side){suffix}"
    return [Criterion(name, shares.max(1), None, above=False)] if (shares > 0).any() else []
