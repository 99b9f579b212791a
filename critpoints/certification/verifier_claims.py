"""The claims of a certificate, recomputed: isolated critical points, split points, exact zeros of the loss."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction

from flint import arb, arb_mat

from critpoints.certification.verifier_balls import (
    CENTRE_BITS,
    MAX_BITS,
    Box,
    Inertia,
    box_around,
    enclose,
    inertia,
    working_bits,
)
from critpoints.certification.verifier_enclosures import Data, Network, PolynomialLoss, Shape
from critpoints.certification.verifier_format import (
    MAX_PARAMETERS,
    MAX_PRODUCTS,
    MAX_WORK,
    Node,
    Rejected,
    Teacher,
    TwoLayer,
    Vector,
    demand,
)

Fields = Mapping[str, Node]


def confirm(condition: bool, reason: str) -> None:
    """Raises ``Rejected(reason)`` unless ``condition`` holds."""
    if not condition:
        raise Rejected(reason)


@dataclass(frozen=True)
class CriticalPoint:
    """A critical point theta* whose claims were confirmed.

    Attributes:
        centre, accuracy: |theta*_i - centre_i| <= accuracy.
        loss: of theta*.
        lower, upper: claimed and confirmed to enclose it.
        words: what was confirmed.
    """

    objective: Network | PolynomialLoss
    centre: Vector
    accuracy: Fraction
    inertia: Inertia
    loss: arb
    lower: Fraction
    upper: Fraction
    words: str

    @property
    def network(self) -> Network:
        """The objective of a point that is no polynomial's."""
        assert isinstance(self.objective, Network)
        return self.objective

    def box(self) -> Box:
        """A box that contains theta*, at the precision in force."""
        return box_around(self.centre, self.accuracy)


def check_critical_point(
    node: Node, problem: Data | PolynomialLoss, *, limit_network: bool = False, paid_constant: bool = False
) -> CriticalPoint:
    """Confirms claims (a) to (d) of section 4.

    Args:
        limit_network: it is at the end of a channel.
        paid_constant: it may have an output bias that the problem lacks, see section 5.

    Raises:
        Rejected: one is false or could not be confirmed.
    """
    names = ("centre", "radius", "accuracy", "inertia", "loss")
    fields = node.fields(*names, *(("network",) if isinstance(problem, Data) else ()))
    if isinstance(problem, Data):
        objective = _network(fields["network"], problem, limit_network, paid_constant)
    else:
        objective = problem
    centre = fields["centre"].exact_vector(objective.size)
    radius, accuracy = fields["radius"].exact(), fields["accuracy"].exact()
    demand(radius > 0, "critical_point.radius must be positive")
    demand(0 <= accuracy <= radius, "critical_point.accuracy must be from 0 to the radius")
    claimed = read_inertia(fields["inertia"], objective.size)
    loss = fields["loss"].fields("lower", "upper")
    lower, upper = loss["lower"].exact(), loss["upper"].exact()

    hessian = objective.hessian(box_around(centre, radius))
    inverse, kappa = _contraction(hessian)
    value, gradient, shift = _centre_values(objective, centre, inverse, (1 - kappa) * enclose(accuracy))
    r, delta = enclose(radius), enclose(accuracy)
    confirm(
        bool(shift + kappa * r < r),
        f"Krawczyk's test fails: kappa = {_few(kappa)} and |A grad L(c)| = {_few(shift)} for radius {_few(r)}",
    )
    confirm(
        bool(shift <= delta * (1 - kappa)),
        f"the critical point may lie {_few(shift / (1 - kappa))} from the centre; the accuracy is {_few(delta)}",
    )
    found = inertia(hessian.mid())
    confirm(found == claimed, f"the Hessian's inertia is {found}, and {claimed} is claimed")
    with working_bits(CENTRE_BITS):
        slopes, bends = (sum((e.abs_upper() for e in m.entries()), arb(0)) for m in (gradient, hessian))
        value = value + arb(0, (delta * slopes + delta * delta * bends / 2).abs_upper())
    confirm(
        bool(enclose(lower) <= value) and bool(value <= enclose(upper)),
        f"the loss is {value.str(25)}, not surely from {_few(enclose(lower), 25)} to {_few(enclose(upper), 25)}",
    )
    words = f"exactly one critical point within {float(radius):.3g} of the centre, Hessian inertia {found}"
    return CriticalPoint(objective, centre, accuracy, found, value, lower, upper, words)


def _network(node: Node, data: Data, limit_network: bool, paid_constant: bool) -> Network:
    fields = node.fields("ordinary", "pairs", "constant", "linear", *(("triples",) if limit_network else ()))
    most = MAX_PARAMETERS if limit_network else 0
    triples = fields["triples"].items() if limit_network else []
    shape = Shape(
        ordinary=fields["ordinary"].integer(0, MAX_PARAMETERS),
        pairs=fields["pairs"].integer(0, most),
        triples=tuple(read_sign(item) for item in triples),
        constant=fields["constant"].boolean(),
        linear=fields["linear"].boolean(),
    )
    problem = data.problem
    if limit_network:
        demand(
            shape.linear or len(triples) + shape.pairs > 0, f"{node.place} must have a pair, a triple or a linear unit"
        )
    else:
        demand(shape.ordinary > 0 and not shape.linear, f"{node.place} must have ordinary neurons alone")
        paid = paid_constant and shape.constant and bool(problem.reflection)
        demand(paid or shape.constant == problem.output_bias, f"{node.place}.constant must be problem.output_bias")
    size, units = shape.size(problem.n_inputs), shape.ordinary + shape.pairs + len(shape.triples)
    demand(size <= MAX_PARAMETERS, f"{node.place} has {size} parameters, more than {MAX_PARAMETERS}")
    products = len(problem.x) * size**2
    demand(products <= MAX_PRODUCTS, f"{node.place} asks for {products} products, more than {MAX_PRODUCTS}")
    work = len(problem.x) * max(units, 1)
    demand(work <= MAX_WORK, f"{node.place} asks for {work} activations, more than {MAX_WORK}")
    return Network(data, shape)


def read_sign(node: Node) -> int:
    """1 or -1."""
    sign = node.integer(-1, 1)
    demand(sign != 0, f"{node.place} must be 1 or -1")
    return sign


def read_inertia(node: Node, size: int) -> Inertia:
    """The counts of eigenvalues of a nonsingular matrix."""
    negative, zero, positive = read_counts(node)
    demand(zero == 0, f"{node.place}.zero must be 0")
    demand(negative + positive == size, f"{node.place} must add up to {size}")
    return negative, zero, positive


def read_counts(node: Node) -> Inertia:
    """The counts of negative, zero and positive eigenvalues."""
    fields = node.fields("negative", "zero", "positive")
    negative, zero, positive = (fields[n].integer(0, 10**6) for n in ("negative", "zero", "positive"))
    return negative, zero, positive


def _contraction(hessian: arb_mat) -> tuple[arb_mat, arb]:
    """A and kappa: a near inverse of the midpoint, and a bound of the row sums of |1 - A H|, below 1."""
    n = hessian.nrows()
    try:
        inverse = hessian.mid().inv().mid()
    except ZeroDivisionError:
        raise Rejected("the Hessian is singular to working precision somewhere in the box") from None
    one = arb_mat(n, n, [int(i == j) for i in range(n) for j in range(n)])
    kappa = _largest_row(one - inverse * hessian)
    confirm(bool(kappa < 1), f"Krawczyk's test fails: kappa = {_few(kappa)} is not below 1, the radius is too large")
    return inverse, kappa


def _largest_row(matrix: arb_mat) -> arb:
    """An upper bound of the largest sum of absolute values in a row."""
    sums = [sum((entry.abs_upper() for entry in row), arb(0)).upper() for row in matrix.tolist()]
    confirm(all(each.is_finite() for each in sums), "the enclosures are not finite: the box is too large")
    return max(sums, default=arb(0))


def _centre_values(
    objective: Network | PolynomialLoss, centre: Vector, inverse: arb_mat, wanted: arb
) -> tuple[arb, arb_mat, arb]:
    """L and grad L at the centre, and a bound of |A grad L|: with more bits as long as rounding hides ``wanted``."""
    bits = CENTRE_BITS
    while True:
        with working_bits(bits):
            value, gradient = objective.loss_and_gradient([enclose(c) for c in centre])
            step = inverse * gradient
            shift = _largest_row(step)
            rounding = max((entry.rad() for entry in step.entries()), default=arb(0))
        if shift <= wanted or not shift < 4 * rounding or 2 * bits > MAX_BITS:
            return value, gradient, shift
        bits *= 2


@dataclass(frozen=True)
class Copy:
    """A neuron of a larger student: a copy of neuron ``of``."""

    of: int
    share: Fraction
    sign: int


def read_copies(node: Node, width: int, problem: TwoLayer) -> list[Copy]:
    """The neurons of a larger student, under the conditions of section 5 on shares and signs."""
    copies = []
    items = node.items()
    demand(len(items) <= MAX_PARAMETERS, f"{node.place} has {len(items)} neurons, more than {MAX_PARAMETERS}")
    for item in items:
        fields = item.fields("of", "share", "sign")
        copy = Copy(fields["of"].integer(0, width - 1), fields["share"].exact(), read_sign(fields["sign"]))
        confirm(copy.sign == 1 or problem.reflection == 0, f"{item.place}.sign is -1 and the activation is not odd")
        confirm(copy.share != 0, f"{item.place}.share is 0")
        copies.append(copy)
    for t in range(width):
        shares = [copy.share for copy in copies if copy.of == t]
        confirm(bool(shares), f"{node.place}: neuron {t} of the smaller student has no copy")
        confirm(sum(shares) == 1, f"{node.place}: the shares of neuron {t} add up to {float(sum(shares))!r}, not 1")
    return copies


def split_inertia(small: Inertia, copies: list[Copy], blocks: Mapping[int, Inertia]) -> Inertia:
    """The formula of section 5; ``blocks`` holds the inertia of Y_t of every neuron that occurs more than once."""
    negative, zero, positive = small
    for t, (n, _, p) in blocks.items():
        shares = [copy.share for copy in copies if copy.of == t]
        plus, minus = sum(share > 0 for share in shares), sum(share < 0 for share in shares)
        negative += (plus - 1) * n + minus * p
        positive += (plus - 1) * p + minus * n
        zero += len(shares) - 1
    return negative, zero, positive


def repeated(copies: list[Copy]) -> set[int]:
    """The neurons that occur more than once."""
    return {copy.of for copy in copies if sum(other.of == copy.of for other in copies) > 1}


def check_splitting_matrices(node: Node, point: CriticalPoint, of: set[int]) -> dict[int, Inertia]:
    """Confirms the inertia of Y_t for the neurons ``of``, which are those of the list."""
    network, claimed = point.network, {}
    for item in node.items():
        fields = item.fields("neuron", "inertia")
        t = fields["neuron"].integer(0, network.shape.ordinary - 1)
        demand(t not in claimed, f"{node.place} has neuron {t} twice")
        claimed[t] = read_inertia(fields["inertia"], network.d)
    confirm(set(claimed) == of, f"{node.place} must be those of the neurons {sorted(of)}, which are split")
    if not of:
        return claimed
    box = point.box()
    for t, matrix in network.splitting_matrices(box, sorted(of)).items():
        confirm(not box[network.units[t].scalar].contains(0), f"the output weight of neuron {t}, a split one, may be 0")
        try:
            found = inertia(matrix)
        except Rejected as error:
            raise Rejected(f"the inertia of the splitting matrix of neuron {t} is open: {error}") from None
        confirm(found == claimed[t], f"the splitting matrix of neuron {t} has inertia {found}, {claimed[t]} is claimed")
    return claimed


@dataclass(frozen=True)
class Student:
    """The parameters of a proven student: within ``spread`` of ``centre``, entry by entry."""

    centre: list[Fraction]
    spread: list[Fraction]
    inertia: Inertia


def check_split(node: Node, point: CriticalPoint) -> tuple[Student, dict[int, Inertia]]:
    """Confirms section 5; the larger student, and the inertias of the splitting matrices."""
    demand(isinstance(point.objective, Network), "a polynomial has no split")
    network = point.network
    fields = node.fields("neurons", "splitting_matrices", "inertia")
    copies = read_copies(fields["neurons"], network.shape.ordinary, network.data.problem)
    blocks = check_splitting_matrices(fields["splitting_matrices"], point, repeated(copies))
    found, claimed = split_inertia(point.inertia, copies, blocks), read_counts(fields["inertia"])
    confirm(found == claimed, f"the split point's Hessian has inertia {found}, and {claimed} is claimed")
    return expand(copies, point, found), blocks


def expand(copies: list[Copy], point: CriticalPoint, found: Inertia) -> Student:
    """The larger student that the copies make of theta*."""
    network, d, small = point.network, point.network.d, point.centre
    factors = [(copy.of * d + j, Fraction(copy.sign)) for copy in copies for j in range(d)]
    factors += [(network.shape.ordinary * d + copy.of, copy.sign * copy.share) for copy in copies]
    factors += [(network.constant, Fraction(1))] if network.constant is not None else []
    return Student([f * small[i] for i, f in factors], [abs(f) * point.accuracy for _, f in factors], found)


def check_zero_loss(node: Node, problem: Data | PolynomialLoss, size: int) -> Vector:
    """Confirms section 6: the student is the teacher's function by algebra in rational numbers."""
    demand(isinstance(problem, Data), "a polynomial has no zero_loss_point")
    assert isinstance(problem, Data)
    data, fields = problem.problem, node.fields("theta", "types")
    for item in fields["types"].items():
        item.word()
    theta = fields["theta"].exact_vector(size)
    m, d, labels = width_of(size, data), data.n_inputs, data.labels
    confirm(isinstance(labels, Teacher), "the labels are no teacher's: no exact zero of the loss is known")
    assert isinstance(labels, Teacher)
    neurons = [(theta[k * d : (k + 1) * d], theta[m * d + k]) for k in range(m)]
    student = _normal_form(neurons, theta[-1] if data.output_bias else Fraction(0), data.reflection)
    teacher = _normal_form(list(zip(labels.w, labels.a, strict=True)), labels.bias, data.reflection)
    confirm(student[0] == teacher[0], "zero_loss_point: output weights do not add up to the teacher's, group by group")
    confirm(student[1] == teacher[1], "zero_loss_point: the constant is not the teacher's")
    return theta


def width_of(size: int, data: TwoLayer) -> int:
    """The width of students with so many parameters."""
    m, rest = divmod(size - int(data.output_bias), data.n_inputs + 1)
    demand(rest == 0 and m > 0, f"no student of this problem has {size} parameters")
    return m


def _normal_form(
    neurons: list[tuple[Vector, Fraction]], bias: Fraction, k: int | None
) -> tuple[dict[Vector, Fraction], Fraction]:
    """A network's output weights by weight vector (up to sign if s(-z) = k - s(z)), and its constant.

    Networks of one normal form are one function.
    """
    groups: dict[Vector, Fraction] = {}
    for w, a in neurons:
        first = next((entry for entry in w if entry), Fraction(0))
        if k is not None and first == 0:  # s(0) = k/2
            bias += a * Fraction(k, 2)
            continue
        if k is not None and first < 0:  # a s(w.x) = k a - a s(-w.x)
            w, a, bias = tuple(-entry for entry in w), -a, bias + k * a
        groups[w] = groups.get(w, Fraction(0)) + a
    return {w: a for w, a in groups.items() if a}, bias


def check_distance(theta: Vector, centre: Vector | list[Fraction], spread: list[Fraction], distance: Fraction) -> None:
    """|theta - p| <= distance for every p with |p_i - centre_i| <= spread_i, in rational numbers."""
    demand(len(theta) == len(centre), f"point.theta must have {len(centre)} entries, got {len(theta)}")
    square = sum(((abs(t - c) + s) ** 2 for t, c, s in zip(theta, centre, spread, strict=True)), Fraction(0))
    confirm(square <= distance**2, "the given point may lie farther from the proven one than point.distance")


def _few(x: arb, digits: int = 3) -> str:
    return x.str(digits, radius=False)
