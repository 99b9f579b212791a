"""The distinct critical points among the ends of saddle searches, modulo the symmetry group, with verdicts and proofs.

Critical points of a two-layer network are isolated, or come from a narrower student in one of two ways that leave a
continuum of them: neurons split in shares that add up to one (saddle lines, symmetry/splitting.py), and neurons with
output weight zero, critical where phi(w) = E[e s(w.x)] = 0, a curve for two inputs. Points of a continuum are one entry
here: they are compared at the narrower student, by the neurons that are split, and by their index.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import torch
from torch import Tensor

from critpoints.census import group_orbits, is_odd
from critpoints.certification.certificate import Certificate
from critpoints.certification.prover import Prover
from critpoints.certification.zero_output import prove_zero_output
from critpoints.classification import DUPLICATE, classify
from critpoints.errors import InvalidArgument, NotCertified
from critpoints.objectives.teacher_student import TeacherStudent
from critpoints.objectives.two_layer import TwoLayerObjective
from critpoints.solvers.base import Callback
from critpoints.solvers.saddle_search import FoundPoints, search_saddles
from critpoints.symmetry.canonical import align
from critpoints.symmetry.reduction import merge_duplicates
from critpoints.verdict import Kind, Verdict

NOTHING = 1e-6  # an output weight up to this, relative to 1 + the largest, is none
T = TypeVar("T")
ISOLATED, SPLIT, SILENT, OTHER = "isolated", "split", "zero output", "not isolated"


@dataclass(frozen=True)
class CriticalEntry:
    """One distinct critical point, or one continuum of them.

    Attributes:
        origin: ``isolated``; ``split``: on a saddle line; ``zero output``: with neurons of output weight zero;
            ``not isolated``: another singular point, as a pair w, -w beside a constant neuron makes them.
        verdict: on the representative.
        small: (P',), the narrower student that a point of a continuum comes from; None for an isolated one.
        copies: how many neurons each neuron of ``small`` stands for; empty for an isolated one.
        negative: how many of these carry a share of the opposite sign.
        silent: neurons of the representative with output weight zero.
        count: searches that ended there.
        rows: which.
        certificate: of the representative; for ``zero output`` of the narrower student.
        proof: what is proven, or why nothing is.
    """

    origin: str
    verdict: Verdict
    small: Tensor | None
    copies: tuple[int, ...]
    negative: tuple[int, ...]
    silent: tuple[int, ...]
    count: int
    rows: tuple[int, ...]
    certificate: Certificate | None = None
    proof: str = ""

    @property
    def is_saddle(self) -> bool:
        """Whether the verdict says so."""
        return self.verdict.kind is Kind.STRICT_SADDLE

    def to_dict(self) -> dict[str, Any]:
        """A JSON-ready dictionary."""
        parts = {name: getattr(self, name) for name in ("origin", "count", "proof")}
        parts |= {name: list(getattr(self, name)) for name in ("copies", "negative", "silent", "rows")}
        parts["verdict"] = self.verdict.to_dict()
        parts["small"] = None if self.small is None else self.small.tolist()
        return parts | {"certificate": None if self.certificate is None else self.certificate.checksum}


@dataclass(frozen=True)
class SaddleCensus:
    """What searches found.

    Attributes:
        entries: the distinct critical points, by loss.
        ends: how many searches ended in each way, by status.
        total: searches.
    """

    entries: tuple[CriticalEntry, ...]
    ends: dict[str, int]
    total: int

    @property
    def saddles(self) -> tuple[CriticalEntry, ...]:
        """The strict saddles."""
        return tuple(entry for entry in self.entries if entry.is_saddle)

    def to_dict(self) -> dict[str, Any]:
        """A JSON-ready dictionary."""
        return {"total": self.total, "ends": self.ends, "entries": [entry.to_dict() for entry in self.entries]}


@dataclass(frozen=True)
class Origin:
    """Where a critical point comes from, see ``CriticalEntry``; ``small`` is the point itself if it is isolated."""

    small: Tensor
    copies: tuple[int, ...]
    negative: tuple[int, ...]
    silent: tuple[int, ...]
    worst_share: float


def trace_origin(problem: TwoLayerObjective, theta: Tensor) -> Origin | None:
    """The narrower student behind a critical point (P,); None where copies cancel, which no theory here covers."""
    w, a = problem.split(theta)
    heard = a.abs() > NOTHING * (1 + float(a.abs().max()))
    silent = tuple(torch.nonzero(~heard).flatten().tolist())
    if not bool(heard.any()):
        return None
    bias = theta[-1:] if problem.output_bias else theta[:0]
    rest = torch.cat([w[heard].flatten(), a[heard], bias])
    tolerance = DUPLICATE * (1 + float(w.abs().max()))
    if int(heard.sum()) > 1 and _closest(w[heard], problem) <= tolerance:
        reduction = merge_duplicates(problem, rest, tolerance)
        if reduction is None:
            return None
        shares = [abs(share) for each in reduction.shares for share in each]
        negative = tuple(sum(share < 0 for share in each) for each in reduction.shares)
        return Origin(reduction.theta, tuple(map(len, reduction.groups)), negative, silent, min(shares))
    count = int(heard.sum())
    return Origin(rest, (1,) * count, (0,) * count, silent, 1.0)


def _closest(w: Tensor, problem: TwoLayerObjective) -> float:
    gaps = (w[:, None] - w[None]).norm(dim=-1)
    if problem.activation.reflection == 0:
        gaps = torch.minimum(gaps, (w[:, None] + w[None]).norm(dim=-1))
    return float((gaps + torch.eye(len(w)).to(gaps) * 1e300).min())


def take_saddle_census(
    problem: TwoLayerObjective,
    found: FoundPoints,
    *,
    max_index: int | None = None,
    prove: bool = True,
    callback: Callback | None = None,
) -> SaddleCensus:
    """Counts, classifies and certifies the distinct critical points among ``found``.

    Args:
        max_index: saddles of a higher index are counted under their status alone.
        prove: certify the representatives.
        callback: callback(distinct points judged, distinct points).

    Raises:
        InvalidArgument: the problem has no neurons.
    """
    if not isinstance(problem, TwoLayerObjective):
        raise InvalidArgument(f"a census of saddles needs a two-layer problem, got {type(problem).__name__}")
    ends = Counter(status.name.lower() for status in found.status)
    origins: dict[int, Origin] = {}
    for row in torch.nonzero(found.critical).flatten().tolist():
        if max_index is not None and int(found.index[row]) > max_index:
            ends["above the largest index"] += 1
        elif (origin := trace_origin(problem, found.theta[row])) is None:
            ends["copies that cancel"] += 1
        else:
            origins[row] = origin
    entries = []
    for rows in _group(problem, found, origins):
        best = max(rows, key=lambda row: (round(origins[row].worst_share, 1), -float(found.gradient_norm[row])))
        entries.append((best, rows))
    prover, listed = Prover(problem) if prove else None, []
    for best, rows in entries:
        (verdict,) = classify(problem, found.theta[best])
        listed.append(_entry(problem, verdict, origins[best], tuple(rows), prover))
        if callback is not None:
            callback(len(listed), len(entries))
    listed.sort(key=lambda entry: (entry.verdict.loss, entry.verdict.index))
    return SaddleCensus(tuple(listed), dict(ends), len(found.theta))


def _group(problem: TwoLayerObjective, found: FoundPoints, origins: dict[int, Origin]) -> list[list[int]]:
    """Rows by orbit of the narrower student, neurons that are split, and index."""
    shapes: dict[tuple[int, ...], list[int]] = {}
    for row, origin in origins.items():
        pattern = tuple(sorted(origin.copies))
        shapes.setdefault((len(origin.silent), *pattern), []).append(row)
    groups = []
    for rows in shapes.values():
        small = search_saddles(problem, torch.stack([origins[row].small for row in rows]), max_iterations=20)
        moved = (small.theta - torch.stack([origins[row].small for row in rows])).norm(dim=-1)
        points = [
            small.theta[i] if small.status[i].is_critical and float(moved[i]) < 1e-3 else origins[row].small
            for i, row in enumerate(rows)
        ]
        for i, row in enumerate(rows):
            origins[row] = replace(origins[row], small=points[i])
        keyed: dict[tuple[Any, ...], list[int]] = {}
        for orbit in group_orbits(problem, torch.stack(points), list(range(len(rows)))):
            for i in orbit:
                origin = origins[rows[i]]
                neurons = tuple(zip(origin.copies, origin.negative, strict=True))
                moved_to = carried(problem, points[i], points[orbit[0]], neurons)
                keyed.setdefault((orbit[0], moved_to, int(found.index[rows[i]])), []).append(rows[i])
        groups += keyed.values()
    return groups


def carried(problem: TwoLayerObjective, point: Tensor, centre: Tensor, neurons: Sequence[T]) -> tuple[T, ...]:
    """What belongs to the neurons of ``point``, in the order of the neurons of ``centre``, a point of one orbit."""
    images = (point, -point) if is_odd(problem) else (point,)
    nearest = min((align(problem, image, centre) for image in images), key=lambda alignment: alignment.distance)
    return tuple(neurons[k] for k in nearest.element.permutation)


def _entry(
    problem: TwoLayerObjective, verdict: Verdict, origin: Origin, rows: tuple[int, ...], prover: Prover | None
) -> CriticalEntry:
    alone = not origin.silent and max(origin.copies) == 1
    name = SILENT if origin.silent else SPLIT if not alone else ISOLATED if not verdict.nullity else OTHER
    if origin.silent and verdict.kind is Kind.STRICT_SADDLE and isinstance(problem, TeacherStudent):
        verdict = replace(verdict, level=problem.teacher_width - len(origin.copies))
    small, copies, negative = (None, (), ()) if alone else (origin.small, origin.copies, origin.negative)
    entry = CriticalEntry(name, verdict, small, copies, negative, origin.silent, len(rows), rows)
    return entry if prover is None else certified(problem, entry, prover)


def certified(problem: TwoLayerObjective, entry: CriticalEntry, prover: Prover) -> CriticalEntry:
    """The entry with a certificate, or with the reason why there is none.

    A point with silent neurons that cannot be proven is undecided: next to the end of a saddle line, where such a
    neuron has the weights of another one, its curvature fades, and float64 does not tell the two apart.
    """
    try:
        if entry.origin != SILENT:
            certificate = prover.certify(entry.verdict)
            return replace(entry, certificate=certificate, proof="certificate")
        assert entry.small is not None
        if max(entry.copies) > 1:
            raise NotCertified("split neurons beside some without output weight are not covered")
        certificate = prover.certify(classify(problem, entry.small)[0])
        total = prove_zero_output(prover, entry.small, entry.verdict, entry.silent)
        if total.negative != entry.verdict.index:
            raise NotCertified(f"the index is proven to be {total.negative}, not {entry.verdict.index}")
        proof = f"narrower student by certificate; inertia {total.negative}-{total.zero}-{total.positive} in balls"
        return replace(entry, certificate=certificate, proof=proof)
    except NotCertified as error:
        verdict = entry.verdict
        if entry.origin == SILENT and entry.is_saddle:
            evidence = replace(verdict.evidence, reason=f"neurons without output weight, not proven: {error}")
            verdict = replace(verdict, kind=Kind.UNDECIDED, level=None, evidence=evidence)
        return replace(entry, verdict=verdict, proof=f"not proven: {error}")
