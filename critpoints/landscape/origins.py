"""Where critical points of two-layer networks come from: a narrower student, some of whose neurons are split or silent.

Critical points are isolated, or come from a narrower student in one of three ways that leave a continuum of them:
neurons split in shares that add up to one (saddle lines, symmetry/splitting.py); neurons with output weight zero,
critical where phi(w) = E[e s(w.x)] = 0, a curve for two inputs; and, for activations with s(-z) = k - s(z), several
antipodal pairs (w, a), (-w, a'), whose constants k a' add up to the output bias of a narrower student that has one.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from critpoints.certification.zero_output import Induced, Member
from critpoints.classification import DUPLICATE
from critpoints.objectives.two_layer import TwoLayerObjective
from critpoints.symmetry.reduction import merge_duplicates

NOTHING = 1e-6  # an output weight up to this, relative to 1 + the largest, is none
LINE_END = 1e-3  # relative distance of a silent neuron from another one next to the end of a saddle line


@dataclass(frozen=True)
class Origin:
    """The narrower student behind a critical point.

    Attributes:
        induced: how the point is made of it; ``induced.small`` is the point itself if it is isolated.
        at_line_end: a silent neuron has the weights of another one, or nearly: there saddle lines end.
    """

    induced: Induced
    at_line_end: bool = False

    @property
    def small(self) -> Tensor:
        """(P',), the narrower student."""
        return self.induced.small

    @property
    def silent(self) -> tuple[int, ...]:
        """Neurons of output weight zero."""
        return self.induced.silent

    @property
    def shares(self) -> tuple[tuple[float, ...], ...]:
        """For each neuron of the narrower student those of its copies; the ones at -w come last."""
        members = sorted(self.induced.members, key=lambda each: -each.sign)
        return tuple(tuple(e.share for e in members if e.of == t) for t in range(self.induced.width))

    @property
    def copies(self) -> tuple[int, ...]:
        """How many copies each neuron of the narrower student has."""
        return tuple(map(len, self.shares))

    @property
    def negative(self) -> tuple[int, ...]:
        """How many of these have a share of the opposite sign."""
        return tuple(sum(share < 0 for share in each) for each in self.shares)

    @property
    def reflected(self) -> tuple[int, ...]:
        """How many of these are at -w and leave a constant over."""
        return tuple(
            sum(e.sign < 0 for e in self.induced.members if e.of == t) if self.induced.constant else 0
            for t in range(self.induced.width)
        )

    @property
    def worst_share(self) -> float:
        """The smallest in size: near 0 the point is next to the end of its line."""
        return min((abs(share) for each in self.shares for share in each), default=1.0)

    @property
    def is_split(self) -> bool:
        """Whether a neuron has several copies."""
        return max(self.copies, default=0) > 1


def trace_origin(problem: TwoLayerObjective, theta: Tensor) -> Origin | None:
    """The narrower student behind a critical point (P,); None where copies cancel, which no theory here covers."""
    w, a = problem.split(theta)
    heard = a.abs() > NOTHING * (1 + float(a.abs().max()))
    silent = tuple(torch.nonzero(~heard).flatten().tolist())
    bias = theta[-1:] if problem.output_bias else theta[:0]
    size = 1 + float(w.abs().max())
    if not bool(heard.any()):
        return Origin(Induced(bias, False, (), silent))
    at_end = bool(silent) and _gap(w[~heard], w[heard]) <= LINE_END * size
    w, a = w[heard], a[heard]
    rest = torch.cat([w.flatten(), a, bias])
    reduction = merge_duplicates(problem, rest, DUPLICATE * size)
    members = [Member(k, 1.0, 1) for k in range(len(a))]
    if reduction is not None:
        rest = reduction.theta
        place = {k: (t, s) for t, g in enumerate(reduction.groups) for k, s in zip(g, reduction.shares[t], strict=True)}
        first = [group[0] for group in reduction.groups]
        odd = problem.activation.reflection == 0
        signs = [-1 if odd and float(w[k] @ w[first[place[k][0]]]) < 0 else 1 for k in range(len(a))]
        members = [Member(*place[k], signs[k]) for k in range(len(a))]
    elif _has_copies(problem, w, DUPLICATE * size):
        return None
    induced = Induced(rest, False, tuple(members), silent)
    return Origin(_merge_pairs(problem, induced, DUPLICATE * size), at_end)


def _gap(w: Tensor, others: Tensor) -> float:
    """The smallest distance of a row of ``w`` from one of ``others`` or its opposite."""
    distances = (w[:, None] - others[None]).norm(dim=-1), (w[:, None] + others[None]).norm(dim=-1)
    return float(torch.minimum(*distances).min())


def _has_copies(problem: TwoLayerObjective, w: Tensor, tolerance: float) -> bool:
    gaps = (w[:, None] - w[None]).norm(dim=-1)
    if problem.activation.reflection == 0:
        gaps = torch.minimum(gaps, (w[:, None] + w[None]).norm(dim=-1))
    return len(w) > 1 and float((gaps + torch.eye(len(w)).to(gaps) * 1e300).min()) <= tolerance


def _merge_pairs(problem: TwoLayerObjective, induced: Induced, tolerance: float) -> Induced:
    """With two antipodal pairs or more the student with an output bias that they come from; else as given."""
    k = problem.activation.reflection
    if not k or problem.output_bias:
        return induced
    w, a = problem.split(induced.small)
    opposite = (w[:, None] + w[None]).norm(dim=-1) <= tolerance
    partner = {j: i for i in range(len(a)) for j in range(i + 1, len(a)) if bool(opposite[i, j])}
    if len(partner) < 2 or len({*partner, *partner.values()}) < 2 * len(partner):
        return induced
    kept = [i for i in range(len(a)) if i not in partner]
    total = {i: a[i] - sum(a[j] for j, of in partner.items() if of == i) for i in kept}
    if min(abs(float(total[i])) for i in partner.values()) <= 1e-3 * float(a.abs().max()):
        return induced
    constant = k * sum(float(a[j]) for j in partner)
    small = torch.cat([w[kept].flatten(), torch.stack([total[i] for i in kept]), a.new_tensor([constant])])
    members = []
    for each in induced.members:
        of = partner.get(each.of, each.of)
        sign = -1 if each.of in partner else 1
        share = float(each.share * a[each.of] / total[of]) * sign
        members.append(Member(kept.index(of), share, sign))
    return Induced(small, True, tuple(members), induced.silent)
