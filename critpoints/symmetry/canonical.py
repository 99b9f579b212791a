"""Points modulo the symmetry group: distances between orbits, a canonical representative, orbits in a batch.

A neuron with output weight zero has arbitrary incoming weights: points that differ only there compute the same
function, but they are different points of parameter space, and so are their orbits here. Reduce them first.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from itertools import product
from typing import Any

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment
from scipy.spatial.distance import cdist
from torch import Tensor

from critpoints.errors import require
from critpoints.objectives.two_layer import TwoLayerObjective
from critpoints.symmetry.group import ENUMERABLE, TOLERANCE, GroupElement, apply, flips_are_free, zero_sum_sets

Key = tuple[int, ...]


@dataclass(frozen=True)
class Alignment:
    """The element g that brings p closest to q, and the distance |g.p - q| that is left."""

    element: GroupElement
    distance: float

    def to_dict(self) -> dict[str, Any]:
        """A JSON-ready dictionary."""
        return asdict(self)


@dataclass(frozen=True)
class _Student:
    """A student as the assignment reads it: rows (a_k, w_k), (m, d + 1), and the output bias."""

    rows: np.ndarray
    bias: float

    def reflected(self, flipped: np.ndarray) -> np.ndarray:
        """The rows with those of the mask (m,) negated."""
        return np.where(flipped[:, None], -self.rows, self.rows)


def _student(problem: TwoLayerObjective, theta: Tensor) -> _Student:
    theta = problem.validate(theta).detach()
    require(theta.ndim == 1, f"a point must be one flat vector (P,), got shape {tuple(theta.shape)}")
    require(bool(torch.isfinite(theta).all()), "a point must have finite parameters")
    w, a = problem.split(theta)
    rows = torch.cat([a.unsqueeze(-1), w], -1).cpu().numpy().astype(np.float64)
    return _Student(rows, float(theta[-1]) if problem.output_bias else 0.0)


def align(problem: TwoLayerObjective, p: Tensor, q: Tensor, tol: float = TOLERANCE) -> Alignment:
    """The group element g that minimises |g.p - q|, by linear assignment of the neurons of p to those of q.

    The cost of a pair of neurons is the smaller of its distances with and without reflection, so that the assignment
    bounds |g.p - q| from below over all g. What that guarantees:

    - No reflections, or free ones with an odd activation: the minimum is exact.
    - The sigmoid without output bias: if the reflections of the cheapest assignment are admissible, it is the
      minimum. For points of one orbit, to within ``tol``, they always are: reflecting F lowers the sum of the output
      weights by 2 sum_F a, so that equal neurons and equal sums imply sum_F a = 0. If they are not, the minimum is
      taken over the admissible sets of p, one assignment each; beyond 12 neurons over permutations alone, and then
      ``distance`` is an upper bound (of points that lie further apart than ``tol``).
    - The sigmoid with output bias: zero for points of one orbit; the bias b + k sum_F a takes no part in the
      assignment, so that otherwise ``distance`` may exceed the minimum, by a factor of 2 + k sqrt(m) at most.

    Args:
        p, q: single points of one width, (P,).
        tol: a set F of reflected neurons is admissible if |sum_F a| <= tol sqrt(m), as in ``apply``.

    Raises:
        InvalidArgument: batches instead of points, points of different widths, or not finite.
    """
    here, there = _student(problem, p), _student(problem, q)
    require(
        here.rows.shape == there.rows.shape,
        f"p and q must be students of one width, got {len(here.rows)} and {len(there.rows)} neurons",
    )
    return _align(problem, here, there, tol)


def _align(problem: TwoLayerObjective, p: _Student, q: _Student, tol: float) -> Alignment:
    m, reflection = len(p.rows), problem.activation.reflection
    none = np.zeros(m, dtype=bool)
    if reflection is None:
        return _assign(p, q, none, 0.0)
    keep, flip = (cdist(q.rows, sign * p.rows, "sqeuclidean") for sign in (1, -1))
    _, order = linear_sum_assignment(np.minimum(keep, flip))
    flips = (flip < keep)[np.arange(m), order]
    flipped = none.copy()
    flipped[order] = flips
    defect = p.rows[flipped, 0].sum()
    if flips_are_free(problem) or abs(defect) <= tol * m**0.5:
        return _measure(p, q, order, flipped, reflection if problem.output_bias else 0.0)
    sets = zero_sum_sets(p.rows[:, 0], tol * m**0.5) if m <= ENUMERABLE else none[None]
    return min((_assign(p, q, each, 0.0) for each in sets), key=lambda alignment: alignment.distance)


def _assign(p: _Student, q: _Student, flipped: np.ndarray, k: float) -> Alignment:
    """The best permutation for a given set of reflected neurons of p."""
    _, order = linear_sum_assignment(cdist(q.rows, p.reflected(flipped), "sqeuclidean"))
    return _measure(p, q, order, flipped, k)


def _measure(p: _Student, q: _Student, order: np.ndarray, flipped: np.ndarray, k: float) -> Alignment:
    apart = np.linalg.norm(p.reflected(flipped)[order] - q.rows)
    bias = p.bias + k * p.rows[flipped, 0].sum() - q.bias
    return Alignment(GroupElement.of(order, flipped[order]), math.hypot(apart, bias))


def orbit_distance(problem: TwoLayerObjective, p: Tensor, q: Tensor, tol: float = TOLERANCE) -> float:
    """min over g of |g.p - q|, with the guarantees and errors of ``align``."""
    return align(problem, p, q, tol).distance


def same_orbit(problem: TwoLayerObjective, p: Tensor, q: Tensor, tol: float = TOLERANCE) -> bool:
    """Whether some group element brings p to within ``tol`` of q; see ``align``."""
    return align(problem, p, q, tol).distance <= tol


def canonical_form(problem: TwoLayerObjective, theta: Tensor, tol: float = 1e-9) -> Tensor:
    """A representative (P,) of the orbit of ``theta`` (P,), the same for all points of the orbit up to rounding.

    The neurons come in descending order of (a, w_1, .., w_d). Free reflections make the first nonzero of these
    positive in every neuron; for the sigmoid without output bias, the admissible set with the greatest result is taken
    (up to 12 neurons; beyond, the form is the same for permutations only). Numbers closer than ``tol`` are ties and
    leave the decision to the next coordinate, so that rounding does not: only a gap that equals ``tol`` to rounding
    is decided by it. No form is continuous on all orbits: to compare points, use ``same_orbit``.
    """
    student = _student(problem, theta)
    m = len(student.rows)
    sets = np.zeros((1, m), dtype=bool)
    if flips_are_free(problem):
        first = np.argmax(np.abs(student.rows) > tol, axis=1)
        sets = (student.rows[np.arange(m), first] < -tol)[None]
    elif problem.activation.reflection is not None and m <= ENUMERABLE:
        sets = zero_sum_sets(student.rows[:, 0], tol * m**0.5)
    images = [student.reflected(flipped) for flipped in sets]
    orders = [_descending(image, tol) for image in images]
    sorted_images = np.array([image[order].ravel() for image, order in zip(images, orders, strict=True)])
    best = _descending(sorted_images, tol)[0]
    return apply(problem, GroupElement.of(orders[best], sets[best][orders[best]]), theta, 2 * tol)


def _descending(rows: np.ndarray, tol: float) -> np.ndarray:
    """The order that sorts rows (n, c) lexicographically, greatest first; in a column, gaps up to ``tol`` are ties."""
    order = np.argsort(rows, axis=0)
    gaps = np.diff(np.take_along_axis(rows, order, 0), axis=0, prepend=-np.inf)
    ranks = np.empty(rows.shape, dtype=np.int64)
    np.put_along_axis(ranks, order, np.cumsum(gaps > tol, axis=0), 0)
    return np.lexsort((*-rows.T[::-1], *-ranks.T[::-1]))


def bucket_keys(problem: TwoLayerObjective, theta: Tensor, tol: float = TOLERANCE) -> tuple[Key, ...]:
    """Hash keys of a point (P,): first the cell it lies in, then all others in which points of its orbit may lie.

    Store a point under the first key and look it up under all: whatever is in the same orbit to within ``tol`` is
    found. Equal keys are no more than a reason to compare with ``same_orbit``.
    """
    student = _student(problem, theta)
    return _keys(problem, student.rows[None], np.array([student.bias]), tol)[0]


def _keys(problem: TwoLayerObjective, rows: np.ndarray, bias: np.ndarray, tol: float) -> list[tuple[Key, ...]]:
    """The cells of five invariants of each student, rows (S, m, d + 1); each has Lipschitz constant 1.

    They are sum_k |u.(a_k, w_k)| / sqrt(m) for four unit vectors u, and the output at the centre of the reflections,
    b + k/2 sum_k a_k, scaled; the tolerance of the zero sums lets that move by up to 3 tol.
    """
    _, m, columns = rows.shape
    directions = np.cos(math.sqrt(2) * np.outer(np.arange(1, columns + 1), np.arange(1, 5)))
    directions /= np.linalg.norm(directions, axis=0)
    k = problem.activation.reflection or 0.0
    centre = (bias + 0.5 * k * rows[:, :, 0].sum(1)) / math.hypot(1.0, 0.5 * k * m**0.5)
    values = np.column_stack([np.abs(rows @ directions).sum(1) / m**0.5, centre])
    reach, cell = 4 * tol, 32 * tol
    own, low, high = (np.floor((values + shift) / cell).astype(np.int64).tolist() for shift in (0.0, -reach, reach))
    keys = []
    for mine, *ends in zip(own, low, high, strict=True):
        options = [(here, *({a, b} - {here})) for here, a, b in zip(mine, *ends, strict=True)]
        keys.append(tuple((m, *cells) for cells in product(*options)))
    return keys


def _sorted_images(problem: TwoLayerObjective, rows: np.ndarray) -> np.ndarray:
    """An image (S, m (d + 1)) of each student, rows (S, m, d + 1), under isometries of the group.

    Close images are of close orbits. That most images of an orbit are close to one another is what makes it worth it.
    """
    with np.errstate(invalid="ignore"):  # rows that are not finite
        places = rows @ np.cos(math.sqrt(2) * np.arange(1, rows.shape[2] + 1))
    if problem.activation.reflection == 0:
        rows, places = np.where(places[..., None] < 0, -rows, rows), np.abs(places)
    return np.take_along_axis(rows, np.argsort(places, 1)[..., None], 1).reshape(len(rows), math.prod(rows.shape[1:]))


def group_points(problem: TwoLayerObjective, thetas: Tensor, tol: float = TOLERANCE) -> Tensor:
    """Numbers the orbits in a batch: (S, P) -> (S,) int64, 0, 1, .. in order of first appearance, -1 if not finite.

    Points of one orbit, to within ``tol``, get one number, and so do points joined by a chain of such pairs: the
    partition does not depend on the order of the rows.

    Raises:
        InvalidArgument: thetas is no batch of points, or tol is not positive.
    """
    thetas = problem.validate(thetas)
    require(thetas.ndim == 2, f"thetas must have shape (S, P), got {tuple(thetas.shape)}")
    require(tol > 0, f"tol must be positive, got {tol}")
    grouping = _Grouping(problem, thetas.detach(), tol)
    numbers: dict[int, int] = {}
    labels = [
        numbers.setdefault(grouping.root(i), len(numbers)) if finite else -1
        for i, finite in enumerate(torch.isfinite(thetas).all(-1).tolist())
    ]
    return torch.tensor(labels, dtype=torch.int64)


class _Grouping:
    """Points joined to orbits, in time proportional to their number as long as most lie close to one of few cores.

    A core is the first point of its neighbourhood; every other point of it lies within ``tol`` of the core. Points of
    two neighbourhoods need no comparison if the cores are too far apart for any of them to be close.
    """

    def __init__(self, problem: TwoLayerObjective, thetas: Tensor, tol: float) -> None:
        self.problem, self.tol = problem, tol
        w, a = problem.split(thetas)
        self.rows = torch.cat([a.unsqueeze(-1), w], -1).cpu().numpy().astype(np.float64)
        bias = thetas[:, -1] if problem.output_bias else torch.zeros(len(thetas))
        self.bias = bias.cpu().numpy().astype(np.float64)
        self.images = np.column_stack([_sorted_images(problem, self.rows), self.bias])
        self.parent = list(range(len(thetas)))
        self.buckets: dict[Key, dict[int, list[int]]] = {}  # of a cell: the points in it by their cores
        self.radius: dict[int, float] = {}  # of the neighbourhood of a core
        self._apart: dict[tuple[int, int], tuple[float, bool]] = {}  # of two cores: allowing for which radii, whether
        finite = np.flatnonzero(torch.isfinite(thetas).all(-1).cpu().numpy())
        for i, keys in zip(finite.tolist(), _keys(problem, self.rows[finite], self.bias[finite], tol), strict=True):
            self._add(i, keys)

    def root(self, i: int) -> int:
        """The point that stands for the orbit of point i."""
        while self.parent[i] != i:
            self.parent[i] = self.parent[self.parent[i]]  # halves the way; one assignment would set its targets in turn
            i = self.parent[i]
        return i

    def _add(self, i: int, keys: tuple[Key, ...]) -> None:
        cells = [self.buckets[key] for key in keys if key in self.buckets]
        cores = dict.fromkeys(core for cell in cells for core in cell)
        core = next((core for core in cores if self._belongs(i, core)), i)
        self.radius.setdefault(core, 0.0)
        for cell in cells:
            for other, members in cell.items():
                if self.root(other) != self.root(i) and not self._cores_apart(core, other):
                    any(self._join(i, member, self._align(member, i, self.tol).distance) for member in members)
        self.buckets.setdefault(keys[0], {}).setdefault(core, []).append(i)

    def _belongs(self, i: int, core: int) -> bool:
        """Whether point i lies in the neighbourhood of a core; joins it, and widens the neighbourhood to it, if so."""
        apart = self.images[core] - self.images[i]
        distance, reflected = math.sqrt(apart @ apart), 0.0  # of two images: no less than that of the orbits
        if distance > self.tol:
            alignment = self._align(core, i, self.tol)
            distance = alignment.distance
            # reflected weights need only sum to zero within the tolerance, which adds up over reflections
            reflected = self.tol if any(alignment.element.flips) else 0.0
        if not self._join(i, core, distance):
            return False
        self.radius[core] = max(self.radius[core], distance + reflected)
        return True

    def _join(self, i: int, j: int, distance: float) -> bool:
        close = distance <= self.tol
        if close:
            self.parent[self.root(i)] = self.root(j)
        return close

    def _cores_apart(self, i: int, j: int) -> bool:
        """Whether no point of one neighbourhood lies within ``tol`` of one of the other, by the triangle inequality."""
        pair, needed = (min(i, j), max(i, j)), self.radius[i] + self.radius[j]
        slack, apart = self._apart.get(pair, (-1.0, False))
        if slack < needed:
            slack = max(2 * needed, 0.01 * self.tol)  # so that neighbourhoods may grow a little
            reach = self.tol + slack
            k, m = self.problem.activation.reflection or 0.0, self.rows.shape[1]
            factor = 2 + k * m**0.5 if self.problem.output_bias else 1.0  # how inexact ``align`` may be there
            apart = self._align(*pair, reach).distance > factor * reach
            self._apart[pair] = (slack, apart)
        return apart

    def _align(self, i: int, j: int, tol: float) -> Alignment:
        p, q = (_Student(self.rows[k], float(self.bias[k])) for k in (i, j))
        return _align(self.problem, p, q, tol)
