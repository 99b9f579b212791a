"""Saddles with silent neurons, and with antipodal pairs, proven in balls and written as certificates (sections 5, 11).

Let theta* be a critical point of a narrower student, perhaps with neurons split, and phi(w) = E[e s(w.x)] with its
residual e. A neuron (w, 0) added to it changes neither the function nor the gradient in the other directions, so that
the wider student is critical exactly where phi(w) = 0; with two inputs or more that is a hypersurface. Its Hessian is
that of the narrower one, 0 for w, and 2 U between w and a, U = E[s'(w.x) x e] = grad phi. For U != 0 the terms in a are
a times a linear form in which the part of w along U occurs: in suitable coordinates the inertia is that of the narrower
student plus one negative, one positive and d - 1 zero eigenvalues, and the same again for each further such neuron.

An antipodal pair (w, a), (-w, a') leaves the constant k a' over. A student with an output bias b that the problem lacks
becomes one without by such pairs whose constants add up to b: among students with an output bias it is a split, whose
Hessian vanishes along the shares, and the students without bias are a hyperplane that is not parallel to all of these.
So it has the same inertia but for one zero. By our own algebra.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

from flint import arb, arb_mat
from torch import Tensor

from critpoints.certification.balls import ball, exact_text, middle_text, norm, precision, upper_text
from critpoints.certification.certificate import FORMAT_NAME, SCHEMA, Certificate
from critpoints.certification.enclosures import NetworkEnclosure
from critpoints.certification.krawczyk import Isolation, hessian_inertia, isolate
from critpoints.certification.prover import REACH, Document, Prover, check_kind
from critpoints.errors import NotCertified, require
from critpoints.objectives.limit import LimitShape
from critpoints.symmetry.splitting import Inertia
from critpoints.verdict import Kind, Verdict

CENTRE_DIGITS = 40  # of the weights of a silent neuron
SEGMENT = 1e-15  # relative to 1 + |w|: half the length of the segment on which phi changes its sign
STEPS = 8
MIDDLE_DIGITS = 12  # of the direction of that segment


@dataclass(frozen=True)
class Member:
    """A neuron with output weight: a copy of neuron ``of`` of the narrower student, at -w if sign = -1."""

    of: int
    share: float
    sign: int


@dataclass(frozen=True)
class Induced:
    """How a student is made of a narrower one.

    Attributes:
        small: (P',), the narrower student; empty where every neuron is silent.
        constant: whether it has an output bias, its last parameter, which the problem has not: antipodal pairs pay.
        members: the neurons that are not silent, in their order.
        silent: the others, among all neurons.
    """

    small: Tensor
    constant: bool
    members: tuple[Member, ...]
    silent: tuple[int, ...]

    @property
    def width(self) -> int:
        """Of the narrower student."""
        return 1 + max((each.of for each in self.members), default=-1)


def certify_induced(prover: Prover, verdict: Verdict, induced: Induced) -> Certificate:
    """Proves a strict saddle with silent neurons or with antipodal pairs.

    Raises:
        NotCertified: the narrower student is not nondegenerate, a splitting matrix is singular, phi has no zero next to
            a silent neuron's weights, U may vanish there, or the inertia is another one than the verdict's.
    """
    require(prover.data is not None, "neurons of output weight zero need a two-layer problem")
    require(verdict.kind is Kind.STRICT_SADDLE, f"such a point is a strict saddle, not a {verdict.kind.value}")
    with precision(prover.bits):
        claims, total = _claims(prover, verdict, induced)
    check_kind(verdict.kind, total)
    if total.negative != verdict.index:
        raise NotCertified(f"the index is proven to be {total.negative}, not {verdict.index}")
    method = {"precision_bits": prover.bits, "program": "critpoints"}
    head = {"format": FORMAT_NAME, "schema": SCHEMA, "kind": verdict.kind.value}
    return Certificate(head | claims | {"problem": prover.description, "method": method})


def _claims(prover: Prover, verdict: Verdict, induced: Induced) -> tuple[Document, Inertia]:
    assert prover.data is not None
    data, reach = prover.data, REACH * (1 + float(verdict.theta.norm()))
    constant = data.output_bias or induced.constant
    require(induced.width > 0 or not data.output_bias, "a student without neurons is its output bias", NotCertified)
    point: list[arb] = []
    document: Document = {"critical_point": None}
    total, d = Inertia(0, 0, 0), data.n_inputs
    shares = [arb(1)] * len(induced.members)
    if induced.width:
        objective = NetworkEnclosure(data, LimitShape(induced.width, 0, constant, False))
        isolation = isolate(objective, induced.small.tolist(), reach)
        point, total = isolation.point(), isolation.inertia
        document["critical_point"] = prover.describe(isolation, objective.shape)
        del document["critical_point"]["network"]["triples"]
        if len(induced.members) > induced.width:
            shares, document["split"], total = _split(objective, isolation, induced)
    silent = [_silent(prover, point, constant, verdict.theta[n * d : (n + 1) * d].tolist()) for n in induced.silent]
    n = len(silent)
    total = total + Inertia(n, n * (d - 1), n)
    if silent:
        rows = zip(induced.silent, silent, strict=True)
        neurons = [{"neuron": n, "centre": centre, "direction": along} for n, (centre, along) in rows]
        document["zero_output"] = {"neurons": neurons, "inertia": dict(total.__dict__)}
    wide = _expand(induced, point, shares, silent, d, output_bias=data.output_bias)
    distance = norm(ball(t) - p for t, p in zip(verdict.theta.tolist(), wide, strict=True))
    require(distance < reach, f"the proven saddle lies {distance.str(3)} away", NotCertified)
    document["global"] = None
    document["point"] = {"theta": verdict.theta.tolist(), "distance": upper_text(distance, 3)}
    document["statement"] = (
        f"strict saddle made of a critical point of width {induced.width}"
        f"{' with an output bias' if induced.constant else ''}: {len(induced.members)} copies of its neurons, "
        f"{n} of output weight zero; inertia {total.negative}-{total.zero}-{total.positive}"
    )
    return document, total


def _split(objective: NetworkEnclosure, isolation: Isolation, induced: Induced) -> tuple[list[arb], Document, Inertia]:
    """The shares, the section ``split`` and the inertia of the student without its silent neurons."""
    members, point = induced.members, isolation.point()
    exact = _exact_shares(members)
    if induced.constant:
        for k in _payers(members):
            exact[k] = None
    shares = _all_shares(objective, members, exact, point)
    total, matrices = isolation.inertia, objective.splitting_matrices(point)
    found: Document = {}
    for t in sorted({each.of for each in members}):
        own = [share for each, share in zip(members, shares, strict=True) if each.of == t]
        if len(own) == 1:
            continue
        if any(share.contains(0) for share in own) or objective.output_weight(point, t).contains(0):
            raise NotCertified(f"a share or the output weight of neuron {t}, which is split, may be zero")
        try:
            y = hessian_inertia(matrices[t])
        except NotCertified:
            raise NotCertified(f"the splitting matrix Y of neuron {t} is singular to working precision") from None
        found[str(t)] = y
        positive = sum(bool(share > 0) for share in own)
        for block, times in ((y, positive - 1), (y.opposite(), len(own) - positive)):
            for _ in range(times):
                total = total + block
        total = total + Inertia(0, len(own) - 1, 0)
    total = total + Inertia(0, -int(induced.constant), 0)
    neurons = [
        {"of": each.of, "share": None if share is None else exact_text(share), "sign": each.sign}
        for each, share in zip(members, exact, strict=True)
    ]
    blocks = [{"neuron": int(t), "inertia": dict(y.__dict__)} for t, y in found.items()]
    return shares, {"neurons": neurons, "splitting_matrices": blocks, "inertia": dict(total.__dict__)}, total


def _exact_shares(members: Sequence[Member]) -> list[Fraction | None]:
    """Exact decimals; the last copy of each neuron gets what is left of one."""
    exact: list[Fraction | None] = [Fraction(repr(each.share)) for each in members]
    for t in {each.of for each in members}:
        *first, last = (k for k, each in enumerate(members) if each.of == t)
        exact[last] = 1 - sum((exact[k] or Fraction(0) for k in first), Fraction(0))
    return exact


def _payers(members: Sequence[Member]) -> tuple[int, int]:
    """Two copies of one neuron, at w and at -w, whose shares the constant decides.

    Raises:
        NotCertified: no neuron has both.
    """
    for t in sorted({each.of for each in members}):
        sides = [next((k for k, e in enumerate(members) if e.of == t and e.sign == sign), None) for sign in (1, -1)]
        if sides[0] is not None and sides[1] is not None:
            return sides[0], sides[1]
    raise NotCertified("no antipodal pair pays for the constant of the narrower student")


def _all_shares(
    objective: NetworkEnclosure, members: Sequence[Member], exact: Sequence[Fraction | None], point: Sequence[arb]
) -> list[arb]:
    """The shares in balls: k times the output weights at -w add up to the constant."""
    shares = [arb(0) if share is None else ball(share) for share in exact]
    open_ = [k for k, share in enumerate(exact) if share is None]
    if not open_:
        return shares
    plus, minus = sorted(open_, key=lambda k: -members[k].sign)
    weights = [objective.output_weight(point, each.of) for each in members]
    reflection = ball(objective.data.reflection or 0)
    rest = sum((s * a for s, a, e in zip(shares, weights, members, strict=True) if e.sign < 0), arb(0))
    shares[minus] = -(point[-1] / reflection + rest) / weights[minus]
    others = [s for s, e in zip(shares, members, strict=True) if e.of == members[plus].of]
    shares[plus] = 1 - sum(others, arb(0))
    return shares


def _silent(prover: Prover, point: list[arb], constant: bool, weights: list[float]) -> tuple[list[str], list[str]]:
    """The middle and half of a segment on which phi has a zero with U != 0; ``point`` is the narrower student.

    Raises:
        NotCertified: none was found within the reach of ``weights``.
    """
    assert prover.data is not None
    d, rest = len(weights), int(constant) if point else 0
    width = (len(point) - rest) // (d + 1)
    wide = NetworkEnclosure(prover.data, LimitShape(width + 1, 0, constant, False))
    at, last = width * d, (width + 1) * (d + 1) - 1

    def added(w: Sequence[arb]) -> list[arb]:
        tail = point[at + width :] or [arb(0)] * int(constant)
        return [*point[:at], *w, *point[at : at + width], arb(0), *tail]

    def phi(w: Sequence[arb]) -> arb:
        return wide.enclose(added(w), 1).gradient[last, 0]

    def slope(w: Sequence[arb]) -> list[arb]:
        hessian: arb_mat = wide.enclose(added(w)).hessian
        return [hessian[last, at + j] for j in range(d)]

    middle = [ball(value) for value in weights]
    for _ in range(STEPS):
        u = [each.mid() for each in slope(middle)]
        square = sum((each * each for each in u), arb(0))
        if not square > 0:
            raise NotCertified("the gradient U of phi may vanish at a neuron of output weight zero")
        value = phi(middle).mid()
        middle = [(m - value * each / square).mid() for m, each in zip(middle, u, strict=True)]
    centre = [middle_text(m, CENTRE_DIGITS) for m in middle]
    middle = [ball(c) for c in centre]
    u = slope(middle)
    scale = ball(SEGMENT) * (1 + norm(middle)) / norm(u)
    if not scale.is_finite():
        raise NotCertified("the gradient U of phi may vanish at a neuron of output weight zero")
    along = [middle_text(each * scale, MIDDLE_DIGITS) for each in u]
    step = [ball(each) for each in along]
    ends = [phi([m + sign * s for m, s in zip(middle, step, strict=True)]) for sign in (-1, 1)]
    if not (ends[0] < 0 < ends[1] or ends[1] < 0 < ends[0]):
        raise NotCertified("phi is not proven to change its sign next to a silent neuron's weights")
    segment = [(m - s).union(m + s) for m, s in zip(middle, step, strict=True)]
    if all(each.contains(0) for each in slope(segment)):
        raise NotCertified("the gradient U of phi may vanish next to a neuron of output weight zero")
    return centre, along


def _expand(
    induced: Induced,
    point: Sequence[arb],
    shares: Sequence[arb],
    silent: Sequence[tuple[list[str], list[str]]],
    d: int,
    *,
    output_bias: bool,
) -> list[arb]:
    """The parameters of the saddle."""
    w: list[list[arb]] = []
    a: list[arb] = []
    for each, share in zip(induced.members, shares, strict=True):
        w.append([each.sign * entry for entry in point[each.of * d : (each.of + 1) * d]])
        a.append(each.sign * share * point[induced.width * d + each.of])
    for n, (centre, along) in sorted(zip(induced.silent, silent, strict=True)):
        ends = [(ball(c) - ball(s)).union(ball(c) + ball(s)) for c, s in zip(centre, along, strict=True)]
        w.insert(n, ends)
        a.insert(n, arb(0))
    bias = (list(point[-1:]) or [arb(0)]) if output_bias else []
    return [*(entry for row in w for entry in row), *a, *bias]
