"""Intervals for fractions over seeds."""

from __future__ import annotations

import math
from statistics import NormalDist

from critpoints.errors import require


def wilson_interval(successes: int, n: int, confidence: float = 0.95) -> tuple[float, float]:
    """The Wilson score interval of a binomial fraction (E. B. Wilson 1927).

    Raises:
        InvalidArgument: n below 1 or successes outside 0..n.

    >>> [round(bound, 4) for bound in wilson_interval(5, 10)]
    [0.2366, 0.7634]
    """
    require(n >= 1 and 0 <= successes <= n, f"successes must be from 0 to n and n at least 1, got {successes} of {n}")
    z = NormalDist().inv_cdf(0.5 * (1 + confidence))
    fraction = successes / n
    centre = fraction + z * z / (2 * n)
    half = z * math.sqrt(fraction * (1 - fraction) / n + z * z / (4 * n * n))
    low, high = (centre - half) / (1 + z * z / n), (centre + half) / (1 + z * z / n)
    return (0.0 if successes == 0 else low), (1.0 if successes == n else high)
