"""From many verdicts to distinct critical points: orbits, counts, intervals, one representative each."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from critpoints.objectives.limit import LimitObjective, LimitShape
from critpoints.objectives.two_layer import TwoLayerObjective
from critpoints.statistics import wilson_interval
from critpoints.symmetry.canonical import group_points, same_orbit
from critpoints.verdict import Kind, Verdict, Verdicts

TOLERANCE = 1e-6  # distance modulo the group; refined points are accurate to 1e-8 and better
FUNCTION_TOLERANCE = 1e-6  # largest difference of the outputs of one limit network, found from two students
PROBES = 16  # outputs that are compared first
CHUNK = 32  # limit networks that are evaluated at once: their outputs stay in the cache

_ISOLATED = (Kind.STRICT_MINIMUM, Kind.STRICT_SADDLE, Kind.DEGENERATE_SADDLE, Kind.STRICT_MAXIMUM)


@dataclass(frozen=True)
class CensusEntry:
    """One distinct critical point, or the end of one channel.

    Attributes:
        kind: of its members.
        type: the class of a global minimum, the network at a channel's end, or how a point is symmetry-induced.
        loss: of the representative; the limit's for a channel.
        smallest_eigenvalue: of the representative's Hessian; of the limit network's for a channel, of the smaller
            student's for a split point.
        index, level: as in ``Verdict``.
        count, fraction, wilson95: rows that ended there.
        rows: their labels.
        representative: (P,), the member with the smallest gradient.
    """

    kind: Kind
    type: str
    loss: float
    smallest_eigenvalue: float
    index: int
    level: int | None
    count: int
    fraction: float
    wilson95: tuple[float, float]
    rows: tuple[int, ...]
    representative: Tensor

    def to_dict(self) -> dict[str, Any]:
        """A JSON-ready dictionary."""
        parts = dict(self.__dict__)
        parts |= {"kind": self.kind.value, "wilson95": list(self.wilson95), "rows": list(self.rows)}
        return parts | {"representative": self.representative.tolist()}


@dataclass(frozen=True)
class Census:
    """The distinct critical points of a batch of verdicts, by kind and then by loss."""

    entries: tuple[CensusEntry, ...]
    total: int

    def to_dict(self) -> dict[str, Any]:
        """A JSON-ready dictionary."""
        return {"total": self.total, "entries": [entry.to_dict() for entry in self.entries]}


def take_census(problem: TwoLayerObjective, verdicts: Verdicts, labels: Sequence[int] | None = None) -> Census:
    """Counts the distinct critical points among ``verdicts``, modulo the symmetry group.

    Isolated points are matched by alignment modulo the group, split points by the smaller student, channels by the
    function that the limit network computes, global minima by the type of their stratum. Data that are mirrored with
    y(-x) = -y(x) add one symmetry of the loss, (w, a) -> (-w, -a) for all neurons at once, which is divided out too.
    Undecided rows are counted in ``total`` alone.

    Args:
        labels: what to call the rows in the entries, their seeds say; 0, 1, .. by default.
    """
    labels = range(len(verdicts)) if labels is None else labels
    groups: list[tuple[str, list[int]]] = []
    for kind in Kind:
        rows = [row for row, other in enumerate(verdicts.kind) if other is kind]
        if rows and kind is not Kind.UNDECIDED:
            groups += _groups(problem, kind, verdicts, rows)
    norms = verdicts.gradient_norm.tolist()
    entries = [_entry(name, rows, verdicts[min(rows, key=norms.__getitem__)], labels) for name, rows in groups]
    order = list(Kind)
    entries.sort(key=lambda entry: (order.index(entry.kind), entry.loss, -entry.count))
    return Census(tuple(entries), len(verdicts))


def _groups(problem: TwoLayerObjective, kind: Kind, verdicts: Verdicts, rows: list[int]) -> list[tuple[str, list[int]]]:
    figures = {row: verdicts.evidence[row].figures for row in rows}
    if kind is Kind.GLOBAL_MINIMUM:
        return list(_by_key(rows, lambda row: ", ".join(figures[row].get("types", ["matched by loss"]))).items())
    result = []
    if kind is Kind.CHANNEL:
        for name, members in _by_key(rows, lambda row: _describe(figures[row])).items():
            result += [(name, group) for group in _by_function(problem, members, figures)]
        return result
    split_width = {row: figures[row].get("effective_width") for row in rows}
    for width, members in _by_key(rows, lambda row: str(split_width[row] or "")).items():
        points = [
            torch.tensor(figures[row]["reduced_theta"], dtype=torch.float64) if width else verdicts.theta[row]
            for row in members
        ]
        name = f"split of width {width}" if width else "isolated" if kind in _ISOLATED else "not isolated"
        result += [(name, group) for group in group_orbits(problem, torch.stack(points), members)]
    return result


def _by_key(rows: Iterable[int], key: Callable[[int], Hashable]) -> dict[Any, list[int]]:
    found: dict[Hashable, list[int]] = {}
    for row in rows:
        found.setdefault(key(row), []).append(row)
    return found


def is_odd(problem: TwoLayerObjective) -> bool:
    """Whether the loss is invariant under the reflection of all neurons at once."""
    samples = problem.samples
    return samples.halved and not problem.output_bias and abs(samples.shift) <= 1e-14


def same_modulo_reflection(problem: TwoLayerObjective, p: Tensor, q: Tensor, tol: float) -> bool:
    """Whether two points (P,) are one modulo the group and, if ``is_odd``, the reflection of all neurons."""
    return same_orbit(problem, p, q, tol) or (is_odd(problem) and same_orbit(problem, -p, q, tol))


def group_orbits(problem: TwoLayerObjective, points: Tensor, rows: list[int]) -> list[list[int]]:
    """The labels ``rows`` of ``points`` (S, P), by orbit modulo the group and the reflection of all neurons."""
    labels = group_points(problem, points, TOLERANCE).tolist()
    orbits: list[tuple[Tensor, list[int]]] = []
    for members in _by_key(range(len(labels)), lambda i: labels[i]).values():
        point = points[members[0]]
        twin = next((o for o in orbits if is_odd(problem) and same_orbit(problem, -point, o[0], TOLERANCE)), None)
        if twin is not None:
            twin[1].extend(rows[i] for i in members)
        else:
            orbits.append((point, [rows[i] for i in members]))
    return [sorted(members) for _, members in orbits]


def _by_function(problem: TwoLayerObjective, rows: list[int], figures: dict[int, dict[str, Any]]) -> list[list[int]]:
    """Rows whose limit networks compute one function, to within the tolerance of the first of them."""
    groups: list[list[int]] = []
    centres: list[np.ndarray] = []
    for i in range(0, len(rows), CHUNK):
        chunk, known = rows[i : i + CHUNK], len(groups)
        outputs = _limit_outputs(problem, chunk, figures)
        for row, output, near in zip(chunk, outputs, _first_near(centres, outputs), strict=True):
            if near is None:  # perhaps one that this chunk has brought
                (near,) = _first_near(centres[known:], output[None])
                near = len(groups) if near is None else known + near
            if near == len(groups):
                groups.append([])
                centres.append(output)
            groups[near].append(row)
    return groups


def _first_near(centres: Sequence[np.ndarray], outputs: np.ndarray) -> list[int | None]:
    """Of each of the ``outputs`` (S, N) the first of the centres that is no further away than the tolerance."""
    if not len(centres):
        return [None] * len(outputs)
    probes = np.array([centre[:PROBES] for centre in centres])
    few: np.ndarray = np.abs(probes - outputs[:, None, :PROBES]).max(-1) <= FUNCTION_TOLERANCE
    return [
        next(
            (k for k in np.flatnonzero(here).tolist() if np.abs(centres[k] - output).max() <= FUNCTION_TOLERANCE), None
        )
        for here, output in zip(few, outputs, strict=True)
    ]


def _limit_outputs(problem: TwoLayerObjective, rows: list[int], figures: dict[int, dict[str, Any]]) -> np.ndarray:
    """The outputs of the rows' limit networks, (S, N): those on the data, or what they are known by if ``is_odd``."""
    features = problem.features
    if odd := is_odd(problem):  # f - f(0) is odd: half of the data, and the origin, say all
        features = torch.nn.functional.pad(problem.samples.inputs.T, (0, 0, 1, 0))
    outputs: dict[int, np.ndarray] = {}
    for members in _by_key(rows, lambda row: repr(figures[row]["limit_shape"])).values():
        objective = LimitObjective(problem, LimitShape(**figures[members[0]]["limit_shape"]))
        theta = torch.tensor([figures[row]["limit_theta"] for row in members], dtype=torch.float64)
        output = objective.predict(theta, features)
        if odd:  # the reflection of all neurons turns f into f minus twice f(0)
            output = torch.cat([output[:, :1].abs(), output[:, 1:] - output[:, :1]], -1)
        outputs |= zip(members, output.numpy(), strict=True)
    return np.stack([outputs[row] for row in rows])


def _describe(figures: dict[str, Any]) -> str:
    """The network at the end of a channel, in words."""
    shape = figures["limit_shape"]
    parts = [f"{shape['pairs']} gated"] if shape["pairs"] else []
    parts += [f"{len(shape['triples'])} triple"] if shape.get("triples") else []
    parts += ["linear"] if shape["linear"] else []
    parts += ["constant"] if shape["constant"] else []
    split = ", split" if "split_groups" in figures else ""
    return f"{shape['ordinary']} neurons, {', '.join(parts)}{split}"


def _entry(name: str, rows: list[int], best: Verdict, labels: Sequence[int]) -> CensusEntry:
    figures = best.evidence.figures
    smallest = figures.get("limit_smallest_eigenvalue", figures.get("reduced_smallest_eigenvalue"))
    return CensusEntry(
        kind=best.kind,
        type=name,
        loss=figures.get("limit_loss", best.loss),
        smallest_eigenvalue=float(best.eigenvalues[0]) if smallest is None else smallest,
        index=best.index,
        level=best.level,
        count=len(rows),
        fraction=len(rows) / len(labels),
        wilson95=wilson_interval(len(rows), len(labels)),
        rows=tuple(labels[row] for row in rows),
        representative=best.theta,
    )
