"""Saddles with silent neurons or antipodal pairs, recomputed: sections 5 and 11 of the format (certificate.py).

Part of the independent verifier. With e the residual of the narrower student, phi(w) = sum q e s(w.x) and U(w) = sum q
e s'(w.x) x are summed here as they stand, over a box around the narrower student and a segment of weights.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction

from flint import arb

from critpoints.certification.verifier_balls import CENTRE_BITS, Inertia, column, derivatives, enclose, working_bits
from critpoints.certification.verifier_claims import (
    CriticalPoint,
    Fields,
    check_critical_point,
    check_splitting_matrices,
    confirm,
    read_counts,
    read_sign,
)
from critpoints.certification.verifier_enclosures import Data, product
from critpoints.certification.verifier_format import MAX_PARAMETERS, Node, TwoLayer, Vector, demand

Vectors = list[list[arb]]


@dataclass(frozen=True)
class Member:
    """A neuron of the student: a copy of neuron ``of`` of the narrower one; ``share`` None where a constant decides."""

    of: int
    share: Fraction | None
    sign: int


@dataclass(frozen=True)
class InducedSaddle:
    """What was confirmed.

    Attributes:
        point: the narrower student's; None for the student without neurons.
        inertia: of the student's Hessian.
        words: what it is made of.
    """

    point: CriticalPoint | None
    inertia: Inertia
    words: str


def is_induced(fields: Fields, problem: Data | object) -> bool:
    """Whether sections 5 (a constant that antipodal pairs pay for) and 11 are about this file."""
    if "zero_output" in fields:
        return True
    network = fields["critical_point"].value
    network = network.get("network") if isinstance(network, dict) else None
    constant = network.get("constant") if isinstance(network, dict) else False
    return isinstance(problem, Data) and constant is True and not problem.problem.output_bias


def check_induced(fields: Fields, data: Data, theta: Vector, distance: Fraction) -> InducedSaddle:
    """Confirms every claim about the saddle.

    Raises:
        Rejected: one is false or could not be confirmed.
    """
    problem, point = data.problem, None
    demand("zero_output" in fields or "split" in fields, "an output bias that the problem lacks needs a split")
    if fields["critical_point"].value is not None:
        point = check_critical_point(fields["critical_point"], data, paid_constant=True)
    else:
        demand("zero_output" in fields and "split" not in fields, "without a critical_point all neurons are silent")
        confirm(not problem.output_bias, "a student without neurons has no output bias here")
    paid = point is not None and point.network.shape.constant and not problem.output_bias
    confirm(not paid or "split" in fields, "nothing pays for the output bias of the narrower student")
    with working_bits(CENTRE_BITS):
        w, a, inertia = _members(fields.get("split"), point, problem, paid)
        words = f"{len(a)} neurons made of " + ("none" if point is None else point.words)
        if "zero_output" in fields:
            section = fields["zero_output"].fields("neurons", "inertia")
            places, silent = _silent_neurons(section["neurons"], point, data, len(a))
            n, d = len(silent), problem.n_inputs
            inertia = inertia[0] + n, inertia[1] + n * (d - 1), inertia[2] + n
            claimed = read_counts(section["inertia"])
            confirm(inertia == claimed, f"the saddle's Hessian has inertia {inertia}, and {claimed} is claimed")
            for place, ends in sorted(zip(places, silent, strict=True)):
                w.insert(place, ends)
                a.insert(place, arb(0))
            words += f"; {n} silent neurons"
        bias = [point.box()[-1]] if problem.output_bias and point is not None else []
        student = [*(entry for row in w for entry in row), *a, *bias]
        demand(len(theta) == len(student), f"point.theta must have {len(student)} entries, got {len(theta)}")
        square = sum(((enclose(t) - s) * (enclose(t) - s) for t, s in zip(theta, student, strict=True)), arb(0))
        near = square <= enclose(distance**2)
        confirm(bool(near), "the given point may lie farther from the proven one than point.distance")
    return InducedSaddle(point, inertia, words)


def _members(
    node: Node | None, point: CriticalPoint | None, problem: TwoLayer, paid: bool
) -> tuple[Vectors, list[arb], Inertia]:
    """Weights, output weights and the inertia of the student without its silent neurons."""
    if point is None:
        return [], [], (0, 0, 0)
    network, box, d = point.network, point.box(), point.network.d
    r = network.shape.ordinary
    weights, outputs = [list(box[t * d : (t + 1) * d]) for t in range(r)], [box[r * d + t] for t in range(r)]
    if node is None:
        return weights, outputs, point.inertia
    fields = node.fields("neurons", "splitting_matrices", "inertia")
    members = _read_members(fields["neurons"], r, problem, paid)
    shares = _shares(members, outputs, box[-1], problem, paid)
    split = {t for t in range(r) if sum(each.of == t for each in members) > 1}
    blocks = check_splitting_matrices(fields["splitting_matrices"], point, split)
    inertia = _split_inertia(point.inertia, members, shares, blocks)
    if paid:  # the students without output bias are a hyperplane across the plane of shares
        inertia = inertia[0], inertia[1] - 1, inertia[2]
    claimed = read_counts(fields["inertia"])
    confirm(inertia == claimed, f"the split point's Hessian has inertia {inertia}, and {claimed} is claimed")
    w = [[each.sign * entry for entry in weights[each.of]] for each in members]
    a = [each.sign * share * outputs[each.of] for each, share in zip(members, shares, strict=True)]
    return w, a, inertia


def _read_members(node: Node, r: int, problem: TwoLayer, paid: bool) -> list[Member]:
    items, members = node.items(), []
    demand(len(items) <= MAX_PARAMETERS, f"{node.place} has {len(items)} neurons, more than {MAX_PARAMETERS}")
    for item in items:
        fields = item.fields("of", "share", "sign")
        share = None if fields["share"].value is None else fields["share"].exact()
        member = Member(fields["of"].integer(0, r - 1), share, read_sign(fields["sign"]))
        flips = problem.reflection == 0 or paid
        confirm(member.sign == 1 or flips, f"{item.place}.sign is -1, and nothing takes up the constant it leaves")
        confirm(share != 0, f"{item.place}.share is 0")
        members.append(member)
    for t in range(r):
        own = [each.share for each in members if each.of == t]
        confirm(bool(own), f"{node.place}: neuron {t} of the smaller student has no copy")
        given = [share for share in own if share is not None]
        confirm(len(given) < len(own) or sum(given) == 1, f"{node.place}: the shares of neuron {t} do not add up to 1")
    payers = [each for each in members if each.share is None]
    if paid:
        signs = sorted(each.sign for each in payers)
        together = len({each.of for each in payers}) == 1
        confirm(signs == [-1, 1] and together, f"{node.place} must leave the shares of one antipodal pair open")
    else:
        demand(not payers, f"{node.place}: every share must be given where no constant is to be paid")
    return members


def _shares(members: Sequence[Member], outputs: Sequence[arb], b: arb, problem: TwoLayer, paid: bool) -> list[arb]:
    """The shares; of the open ones that at -w makes k times the output weights at -w add up to the constant."""
    shares = [arb(0) if each.share is None else enclose(each.share) for each in members]
    if not paid:
        return shares
    k = problem.reflection
    assert k
    place = {each.sign: i for i, each in enumerate(members) if each.share is None}
    t = members[place[1]].of
    confirm(not outputs[t].contains(0), f"the output weight of neuron {t}, a split one, may be 0")
    flipped = sum((s * outputs[e.of] for s, e in zip(shares, members, strict=True) if e.sign < 0), arb(0))
    given = sum((e.share for e in members if e.of == t and e.share is not None), Fraction(0))
    shares[place[-1]] = -(b / k + flipped) / outputs[t]
    shares[place[1]] = 1 - enclose(given) - shares[place[-1]]
    for i in place.values():
        confirm(not shares[i].contains(0), "a share that the constant decides may be 0")
    return shares


def _split_inertia(
    small: Inertia, members: Sequence[Member], shares: Sequence[arb], blocks: Mapping[int, Inertia]
) -> Inertia:
    """The formula of section 5."""
    negative, zero, positive = small
    for t, (n, _, p) in blocks.items():
        own = [share for each, share in zip(members, shares, strict=True) if each.of == t]
        plus = sum(bool(share > 0) for share in own)
        minus = len(own) - plus
        negative += (plus - 1) * n + minus * p
        positive += (plus - 1) * p + minus * n
        zero += len(own) - 1
    return negative, zero, positive


def _silent_neurons(node: Node, point: CriticalPoint | None, data: Data, others: int) -> tuple[list[int], Vectors]:
    """Confirms that phi has a zero with U != 0 on the segment of each silent neuron; places, and weights as balls."""
    items, d = node.items(), data.problem.n_inputs
    demand(0 < len(items) <= MAX_PARAMETERS, f"{node.place} must name at least one neuron")
    samples = data.samples()
    if point is None:
        error = [-y for y in samples.y]
    else:
        box, network = point.box(), point.network
        error = network.errors(box, [network.row(box, unit, 0) for unit in network.units])
    weighted = data.weighted(error)
    places, found = [], []
    for item in items:
        fields = item.fields("neuron", "centre", "direction")
        places.append(fields["neuron"].integer(0, others + len(items) - 1))
        centre = [enclose(each) for each in fields["centre"].exact_vector(d)]
        along = [enclose(each) for each in fields["direction"].exact_vector(d)]
        ends = [_phi(data, weighted, [c + sign * s for c, s in zip(centre, along, strict=True)]) for sign in (-1, 1)]
        changes = bool(ends[0] < 0 < ends[1]) or bool(ends[1] < 0 < ends[0])
        confirm(changes, f"{item.place}: E[e s(w.x)] is not shown to change its sign between the segment's ends")
        segment = [c + arb(0, s.abs_upper()) for c, s in zip(centre, along, strict=True)]
        slope = _slope(data, weighted, segment)
        confirm(any(not each.contains(0) for each in slope), f"{item.place}: E[e s'(w.x) x] may vanish on the segment")
        found.append(segment)
    demand(len(set(places)) == len(places), f"{node.place} names a neuron twice")
    return places, found


def _phi(data: Data, weighted: list[arb], w: list[arb]) -> arb:
    z = (data.samples().x * column(w)).entries()
    values = [derivatives(data.problem.activation, each, 0)[0] for each in z]
    return sum(product(weighted, values), arb(0))


def _slope(data: Data, weighted: list[arb], w: list[arb]) -> list[arb]:
    z = (data.samples().x * column(w)).entries()
    tilted = product(weighted, [derivatives(data.problem.activation, each, 1)[1] for each in z])
    return [sum(product(tilted, x), arb(0)) for x in data.samples().columns]
