"""What certificates are attached to a study's points: one row a point, the strongest of its forms."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property

from critpoints.study.records import Row
from critpoints.study.store import Store

PROVER_VERSION = 1  # raised when a change of the prover changes what is certified
REFUSAL, TIE, CERTIFICATE = "refusal", "tie", "certificate"
FORMS = (REFUSAL, TIE, CERTIFICATE)  # of a row, the strongest last


@dataclass(frozen=True)
class Attached:
    """What is attached to the points of a width, by the latest versions.

    Attributes:
        rows: by seed, the strongest of its forms.
    """

    rows: dict[int, Row] = field(default_factory=dict)

    @cached_property
    def certified(self) -> set[int]:
        """Seeds with a certificate or a tie."""
        return {seed for seed, row in self.rows.items() if row["form"] != REFUSAL}


def attached(store: Store, width: int, points: Iterable[Row] | None = None) -> Attached:
    """What is attached to the latest verdicts of a width by this version of the prover.

    Args:
        points: those of the width, where the caller has read them already.
    """
    found: dict[int, Row] = {}
    certificates = store.certificates(width)
    if not certificates:
        return Attached()  # most studies: their points need not be read for that
    points = store.points(width) if points is None else points
    versions = {point["seed"]: point["classifier_version"] for point in points}
    for row in certificates:
        current = row["prover_version"] == PROVER_VERSION and row["classifier_version"] == versions.get(row["seed"])
        before = found.get(row["seed"])
        if current and (before is None or FORMS.index(row["form"]) > FORMS.index(before["form"])):
            found[row["seed"]] = row
    return Attached(found)


def refusals(found: Iterable[Row]) -> dict[str, list[int]]:
    """Why points have no certificate, with their seeds, the most frequent reason first."""
    reasons: dict[str, list[int]] = {}
    for row in found:
        if row["form"] == REFUSAL:
            reasons.setdefault(row["reason"], []).append(row["seed"])
    return dict(sorted(reasons.items(), key=lambda item: -len(item[1])))
