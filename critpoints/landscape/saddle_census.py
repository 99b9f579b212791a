"""The distinct critical points among the ends of saddle searches, modulo the symmetry group, with verdicts and proofs.

Points of a continuum (origins.py says which there are) are one entry here: they are compared at the narrower student,
by the neurons that are split, and by their index.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import torch
from torch import Tensor

from critpoints.census import group_orbits, is_odd
from critpoints.certification.certificate import Certificate
from critpoints.certification.prover import Prover
from critpoints.certification.zero_output import certify_induced
from critpoints.classification import classify
from critpoints.errors import InvalidArgument, NotCertified
from critpoints.landscape.origins import Origin, trace_origin
from critpoints.objectives.teacher_student import TeacherStudent
from critpoints.objectives.two_layer import TwoLayerObjective
from critpoints.solvers.base import Callback
from critpoints.solvers.saddle_search import FoundPoints, search_saddles
from critpoints.symmetry.canonical import align, same_orbit
from critpoints.symmetry.merging import biased
from critpoints.verdict import Kind, Verdict, Verdicts

SAME_POINT = 1e-5  # distance modulo the group at which two narrower students are one
T = TypeVar("T")
Family = tuple[Any, ...]  # critical points that are one but for their index
ISOLATED, SPLIT, SILENT, PAIRS = "isolated", "split", "zero output", "antipodal pairs"
LINE_END, OTHER = "line end", "not isolated"


@dataclass(frozen=True)
class Parent:
    """The narrower student that a continuum of critical points comes from.

    Attributes:
        width: 0 for the student without neurons.
        kind, index, loss: of it, among students of its width.
        constant: it has an output bias, which the problem has not.
    """

    width: int
    kind: str
    index: int
    loss: float
    constant: bool


@dataclass(frozen=True)
class CriticalEntry:
    """One distinct critical point, or one continuum of them.

    Attributes:
        origin: ``isolated``; ``split``: on a saddle line; ``zero output``: with neurons of output weight zero;
            ``antipodal pairs``: with several pairs w, -w, which share a constant; ``line end``: where saddle lines
            end, a neuron of output weight zero on the weights of another one; ``not isolated``: another singular point.
        verdict: on the representative.
        small: (P',), the narrower student that a point of a continuum comes from; None for an isolated one.
        parent: what that is; None for an isolated one.
        copies: how many neurons each neuron of ``small`` stands for; empty for an isolated one.
        negative: how many of these carry a share of the opposite sign.
        shares: of the representative.
        silent: neurons of the representative with output weight zero.
        count: searches that ended there.
        rows: which.
        certificate: of the representative.
        proof: what is proven, or why nothing is.
    """

    origin: str
    verdict: Verdict
    small: Tensor | None
    parent: Parent | None
    copies: tuple[int, ...]
    negative: tuple[int, ...]
    shares: tuple[tuple[float, ...], ...]
    silent: tuple[int, ...]
    count: int
    rows: tuple[int, ...]
    certificate: Certificate | None = None
    proof: str = ""

    @property
    def is_saddle(self) -> bool:
        """Whether the verdict says so."""
        return self.verdict.kind is Kind.STRICT_SADDLE

    @property
    def split_type(self) -> str:
        """How its neurons are split, in words: the shares of each neuron that has copies, and the silent ones."""
        parts = [
            f"{k}: " + " + ".join(f"{share:.3g}" for share in each)
            for k, each in enumerate(self.shares)
            if len(each) > 1
        ]
        return "; ".join(parts + ([f"{len(self.silent)} silent"] if self.silent else []))

    def to_dict(self) -> dict[str, Any]:
        """A JSON-ready dictionary."""
        parts = {name: getattr(self, name) for name in ("origin", "count", "proof", "split_type")}
        parts |= {name: list(getattr(self, name)) for name in ("copies", "negative", "silent", "rows")}
        parts["shares"] = [list(each) for each in self.shares]
        parts["verdict"] = self.verdict.to_dict()
        parts["small"] = None if self.small is None else self.small.tolist()
        parts["parent"] = None if self.parent is None else dict(self.parent.__dict__)
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
        max_index: saddles of a higher index are counted under their status alone, but for f = 0, the highest plateau.
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
        origin = trace_origin(problem, found.theta[row])
        if origin is None:
            ends["copies that cancel"] += 1
        elif max_index is not None and int(found.index[row]) > max_index and origin.induced.width:
            ends["above the largest index"] += 1
        else:
            origins[row] = origin
    chosen: list[tuple[int, list[int]]] = []
    families = []
    for family, rows in _group(problem, found, origins):
        families.append(family)
        best = max(
            rows,
            key=lambda row: (
                not origins[row].at_line_end,
                round(origins[row].worst_share, 1),
                -float(found.gradient_norm[row]),
            ),
        )
        chosen.append((best, rows))
    if not chosen:
        return SaddleCensus((), dict(ends), len(found.theta))
    verdicts = classify(problem, found.theta[[best for best, _ in chosen]])
    parents = _parents(problem, [origins[best] for best, _ in chosen])
    prover, listed = Prover(problem) if prove else None, []
    for (best, rows), verdict, parent in zip(chosen, verdicts, parents, strict=True):
        entry = _entry(problem, verdict, origins[best], parent, tuple(rows))
        listed.append(entry if prover is None else certified(problem, entry, origins[best], prover))
        if callback is not None:
            callback(len(listed), len(chosen))
    listed = _merge(zip(families, listed, strict=True))
    listed.sort(key=lambda entry: (entry.verdict.loss, entry.verdict.index))
    return SaddleCensus(tuple(listed), dict(ends), len(found.theta))


def _merge(listed: Iterable[tuple[Family, CriticalEntry]]) -> list[CriticalEntry]:
    """Entries of one family that turned out to have one index: next to the ends of lines searches miscount it."""
    found: dict[tuple[Any, ...], CriticalEntry] = {}
    for family, entry in listed:
        key = (family, entry.origin, entry.verdict.index, entry.certificate is not None)
        if (other := found.get(key)) is not None:
            lowest = (float(each.verdict.eigenvalues[0]) for each in (entry, other))
            kept = entry if next(lowest) < next(lowest) else other
            entry = replace(kept, count=entry.count + other.count, rows=tuple(sorted((*entry.rows, *other.rows))))
        found[key] = entry
    return list(found.values())


def _objective(problem: TwoLayerObjective, origin: Origin) -> TwoLayerObjective:
    """Of which ``origin.small`` is a critical point."""
    return biased(problem) if origin.induced.constant else problem


def _group(
    problem: TwoLayerObjective, found: FoundPoints, origins: dict[int, Origin]
) -> list[tuple[Family, list[int]]]:
    """Rows by family, the orbit of the narrower student and the neurons that are split, and by index."""
    shapes: dict[tuple[int, ...], list[int]] = {}
    for row, origin in origins.items():
        key = (len(origin.silent), int(origin.induced.constant), *sorted(origin.copies))
        shapes.setdefault(key, []).append(row)
    groups: list[tuple[Family, list[int]]] = []
    for shape, rows in shapes.items():
        keyed: dict[tuple[Family, int], list[int]] = {}
        if not origins[rows[0]].induced.width:
            for row in rows:
                keyed.setdefault((shape, int(found.index[row])), []).append(row)
            groups += [(family, members) for (family, _), members in keyed.items()]
            continue
        narrow = _objective(problem, origins[rows[0]])
        start = torch.stack([origins[row].small for row in rows])
        small = search_saddles(narrow, start, max_iterations=20)
        moved = (small.theta - start).norm(dim=-1)
        points = [
            small.theta[i] if small.status[i].is_critical and float(moved[i]) < 1e-3 else start[i]
            for i in range(len(rows))
        ]
        for i, row in enumerate(rows):
            origins[row] = replace(origins[row], induced=replace(origins[row].induced, small=points[i]))
        for orbit in _orbits(problem, narrow, torch.stack(points)):
            for i in orbit:
                origin = origins[rows[i]]
                neurons = tuple(zip(origin.copies, origin.negative, strict=True))
                moved_to = carried(narrow, points[i], points[orbit[0]], neurons, odd=is_odd(problem))
                keyed.setdefault(((shape, orbit[0], moved_to), int(found.index[rows[i]])), []).append(rows[i])
        groups += [(family, members) for (family, _), members in keyed.items()]
    return groups


def _orbits(problem: TwoLayerObjective, narrow: TwoLayerObjective, points: Tensor) -> list[list[int]]:
    """Points of one orbit; with an output bias that the problem lacks, -theta is an image all the same."""
    orbits = group_orbits(narrow, points, list(range(len(points))))
    if narrow is problem or not is_odd(problem):
        return orbits
    merged: list[list[int]] = []
    for orbit in orbits:
        twin = next((o for o in merged if same_orbit(narrow, -points[orbit[0]], points[o[0]], SAME_POINT)), None)
        if twin is None:
            merged.append(list(orbit))
        else:
            twin.extend(orbit)
    return merged


def carried(
    problem: TwoLayerObjective, point: Tensor, centre: Tensor, neurons: Sequence[T], *, odd: bool | None = None
) -> tuple[T, ...]:
    """What belongs to the neurons of ``point``, in the order of the neurons of ``centre``, a point of one orbit."""
    images = (point, -point) if (is_odd(problem) if odd is None else odd) else (point,)
    nearest = min((align(problem, image, centre) for image in images), key=lambda alignment: alignment.distance)
    return tuple(neurons[k] for k in nearest.element.permutation)


def _parents(problem: TwoLayerObjective, origins: Sequence[Origin]) -> list[Parent | None]:
    """What the narrower students are, judged among students of their own width."""
    found: list[Parent | None] = [None] * len(origins)
    batches: dict[tuple[int, bool], list[int]] = {}
    for i, origin in enumerate(origins):
        if not origin.induced.width:
            loss = float(problem.loss(torch.zeros(problem.n_parameters(1), dtype=problem.dtype)))
            found[i] = Parent(0, "no neurons", 0, loss, False)
        elif origin.silent or origin.is_split:
            batches.setdefault((origin.induced.width, origin.induced.constant), []).append(i)
    for (width, constant), rows in batches.items():
        narrow = _objective(problem, origins[rows[0]])
        verdicts: Verdicts = classify(narrow, torch.stack([origins[i].small for i in rows]))
        for i, verdict in zip(rows, verdicts, strict=True):
            found[i] = Parent(width, verdict.kind.value, verdict.index, verdict.loss, constant)
    return found


def _entry(
    problem: TwoLayerObjective, verdict: Verdict, origin: Origin, parent: Parent | None, rows: tuple[int, ...]
) -> CriticalEntry:
    name = ISOLATED if not verdict.nullity else OTHER
    if origin.silent:
        name = SILENT
    elif origin.induced.constant:
        name = PAIRS
    elif origin.is_split:
        name = SPLIT
    if name in (SILENT, PAIRS) and verdict.index and verdict.kind is not Kind.GLOBAL_MINIMUM:
        # a student with an output bias is the function of one without that has a neuron more, an antipodal pair
        width = origin.induced.width + int(origin.induced.constant)
        level = problem.teacher_width - width if isinstance(problem, TeacherStudent) else None
        verdict = replace(verdict, kind=Kind.STRICT_SADDLE, level=level)
    if parent is None:
        return CriticalEntry(name, verdict, None, None, (), (), (), (), len(rows), rows)
    parts = (origin.small, parent, origin.copies, origin.negative, origin.shares, origin.silent)
    return CriticalEntry(name, verdict, *parts, len(rows), rows)


def certified(problem: TwoLayerObjective, entry: CriticalEntry, origin: Origin, prover: Prover) -> CriticalEntry:
    """The entry with a certificate, or with the reason why there is none.

    A point with silent neurons or antipodal pairs that cannot be proven is undecided: next to the end of a saddle line,
    where a silent neuron has the weights of another one, its curvature fades, and float64 does not tell the two apart.
    """
    try:
        induced = entry.origin in (SILENT, PAIRS) and entry.is_saddle
        certify = certify_induced(prover, entry.verdict, origin.induced) if induced else prover.certify(entry.verdict)
        return replace(entry, certificate=certify, proof="certificate")
    except NotCertified as error:
        verdict, name, reason = entry.verdict, entry.origin, f"not proven: {error}"
        if entry.origin == SILENT and origin.at_line_end and entry.is_saddle:
            name = LINE_END
            reason = "where saddle lines end: the critical points on them have other inertias on both sides"
        if entry.origin in (SILENT, PAIRS) and entry.is_saddle:
            evidence = replace(verdict.evidence, reason=f"{entry.origin}, {reason}")
            verdict = replace(verdict, kind=Kind.UNDECIDED, level=None, evidence=evidence)
        return replace(entry, origin=name, verdict=verdict, proof=reason)
