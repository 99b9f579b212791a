"""The words that classification writes and certification reads: kinds of point, and the evidence for each."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

import torch
from torch import Tensor

CRITICAL = 1e-11  # gradient norm of a refined point; a point above it and above its rounding is not critical
STEP = 1e-3  # of 1 + |theta|: a critical point that may be farther away, by its Newton step, is not next to theta


class Kind(StrEnum):
    """What a point is. The value is the word in tables and files."""

    GLOBAL_MINIMUM = "global_minimum"
    STRICT_MINIMUM = "strict_minimum"
    DEGENERATE_MINIMUM = "degenerate_minimum"
    STRICT_SADDLE = "strict_saddle"
    DEGENERATE_SADDLE = "degenerate_saddle"
    STRICT_MAXIMUM = "strict_maximum"
    CHANNEL = "channel"
    GRADIENT_FLAT = "gradient_flat"
    UNDECIDED = "undecided"


class Standard(StrEnum):
    """How strong the evidence is."""

    NUMERICAL = "numerical"
    CERTIFIED = "certified"


@dataclass(frozen=True)
class Evidence:
    """Why a point got its kind.

    Attributes:
        reason: one sentence for a reader.
        standard: numerical (float64 with error estimates) or certified (a proof that can be replayed).
        figures: the numbers behind the reason, by name.
    """

    reason: str
    standard: Standard = Standard.NUMERICAL
    figures: dict[str, Any] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """A JSON-ready dictionary."""
        return {"reason": self.reason, "standard": self.standard.value, "figures": dict(self.figures)}


@dataclass(frozen=True)
class Verdict:
    """The verdict on one point.

    Attributes:
        kind: what the point is.
        index: eigenvalues certainly negative (below minus the noise floor); a lower bound of the index where only some
            were computed.
        nullity: computed eigenvalues inside the noise floor.
        level: teacher width minus effective width of a symmetry-induced saddle; None where that is unknown.
        loss, gradient_norm: at the point.
        eigenvalues: (P,), ascending; for many parameters (k,), those found at both ends.
        noise_floor: half-width of the band around zero in which an eigenvalue has no sign.
        evidence: why.
        theta: (P,), the point.
    """

    kind: Kind
    index: int
    nullity: int
    level: int | None
    loss: float
    gradient_norm: float
    eigenvalues: Tensor
    noise_floor: float
    evidence: Evidence
    theta: Tensor

    def to_dict(self) -> dict[str, Any]:
        """A JSON-ready dictionary."""
        return {
            "kind": self.kind.value,
            "index": self.index,
            "nullity": self.nullity,
            "level": self.level,
            "loss": self.loss,
            "gradient_norm": self.gradient_norm,
            "eigenvalues": self.eigenvalues.tolist(),
            "noise_floor": self.noise_floor,
            "evidence": self.evidence.to_dict(),
            "theta": self.theta.tolist(),
        }


@dataclass(frozen=True)
class Verdicts:
    """Verdicts on a batch of points; supports len, indexing and iteration. Attributes of ``Verdict``, batch first."""

    kind: tuple[Kind, ...]
    index: Tensor
    nullity: Tensor
    level: tuple[int | None, ...]
    loss: Tensor
    gradient_norm: Tensor
    eigenvalues: Tensor
    noise_floor: Tensor
    evidence: tuple[Evidence, ...]
    theta: Tensor

    def __len__(self) -> int:
        return len(self.kind)

    def __getitem__(self, i: Any) -> Any:
        if isinstance(i, slice):
            return [self[k] for k in range(*i.indices(len(self)))]
        return Verdict(
            kind=self.kind[i],
            index=int(self.index[i]),
            nullity=int(self.nullity[i]),
            level=self.level[i],
            loss=float(self.loss[i]),
            gradient_norm=float(self.gradient_norm[i]),
            eigenvalues=self.eigenvalues[i],
            noise_floor=float(self.noise_floor[i]),
            evidence=self.evidence[i],
            theta=self.theta[i],
        )

    def __iter__(self) -> Iterator[Verdict]:
        return (self[i] for i in range(len(self)))

    def counts(self) -> dict[Kind, int]:
        """How many points there are of each kind that occurs."""
        return {kind: n for kind in Kind if (n := self.kind.count(kind))}

    def to_dict(self) -> dict[str, Any]:
        """A JSON-ready dictionary."""
        return {"verdicts": [verdict.to_dict() for verdict in self]}

    @classmethod
    def gather(cls, verdicts: Sequence[Verdict]) -> Verdicts:
        """One batch from single verdicts on points of one width."""
        return cls(
            kind=tuple(v.kind for v in verdicts),
            index=torch.tensor([v.index for v in verdicts]),
            nullity=torch.tensor([v.nullity for v in verdicts]),
            level=tuple(v.level for v in verdicts),
            loss=torch.tensor([v.loss for v in verdicts], dtype=torch.float64),
            gradient_norm=torch.tensor([v.gradient_norm for v in verdicts], dtype=torch.float64),
            eigenvalues=torch.stack([v.eigenvalues for v in verdicts]),
            noise_floor=torch.tensor([v.noise_floor for v in verdicts], dtype=torch.float64),
            evidence=tuple(v.evidence for v in verdicts),
            theta=torch.stack([v.theta for v in verdicts]),
        )
