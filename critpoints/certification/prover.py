"""From a numerical verdict to a certificate, or to the reason why there is none."""

from __future__ import annotations

import math
from typing import Any

from flint import arb
from torch import Tensor

from critpoints.certification.balls import ball, exact_text, lower_text, norm, precision, upper_text
from critpoints.certification.certificate import FORMAT_NAME, SCHEMA, Certificate
from critpoints.certification.channels import Coefficients, Placement, check_attraction, coefficients, place
from critpoints.certification.channels import splitting_inertias as splitting_inertias_at_limit
from critpoints.certification.enclosures import BallObjective, NetworkEnclosure, PolynomialEnclosure
from critpoints.certification.exact import ExactTwoLayer, Teacher, point_of
from critpoints.certification.krawczyk import Isolation, isolate
from critpoints.certification.roles import Roles, check_roles, limit_shape, roles_of
from critpoints.certification.splits import Copy, copies, expand, splitting_inertias
from critpoints.certification.zero_loss import is_zero_loss, snap
from critpoints.classification import DUPLICATE
from critpoints.errors import InvalidArgument, NotCertified, require
from critpoints.objectives.base import Objective
from critpoints.objectives.limit import LimitShape
from critpoints.objectives.polynomial import PolynomialObjective
from critpoints.objectives.teacher_student import TeacherStudent
from critpoints.objectives.two_layer import TwoLayerObjective
from critpoints.symmetry.channels import DUPLICATE as CHANNEL_DUPLICATE
from critpoints.symmetry.channels import OFFSET as CHANNEL_REACH
from critpoints.symmetry.channels import RATIO
from critpoints.symmetry.matching import match_teacher
from critpoints.symmetry.reduction import Reduction, merge_duplicates
from critpoints.symmetry.splitting import Inertia
from critpoints.verdict import Kind, Verdict

BITS = 192
REACH = 1e-6  # relative to 1 + |theta|: farthest that a refined point may lie from the critical point it is said to be
LIMIT_REACH = 1e-3  # the same of a limit network, which is refined less well; the student's own distance counts there
GLOBAL_REACH = 1e-3  # from the zero-loss point: in its quartic valleys refinement ends where the loss is 1e-20 or so

Document = dict[str, Any]


def certify(problem: Objective, verdict: Verdict, *, bits: int = BITS, reach: float | None = None) -> Certificate:
    """Proves what a verdict says about its point, in ball arithmetic.

    Strict minima, nondegenerate saddles and strict maxima are proven by Krawczyk's test, degenerate minima and saddles
    that are splits of a smaller student at that student and by the signs of Y, global minima by exact algebra, channels
    at their limit network and by the signs of C (channels.py says what that means). The
    certificate says how far from ``verdict.theta`` the proven point lies.

    Args:
        problem: a two-layer objective with a smooth activation, or a polynomial.
        verdict: a row of ``classify``.
        bits: the precision of the balls.
        reach: farthest that the proven point may lie from ``verdict.theta``; by default 1e-6 (1 + |theta|), and 1e-3
            for global minima.

    Raises:
        NotCertified: the claim is false, or could not be proven; the message says which condition failed.
        InvalidArgument: a problem that has no ball arithmetic.
    """
    return Prover(problem, bits).certify(verdict, reach=reach)


class Prover:
    """Certifies verdicts on one problem, whose data it prepares once.

    Args:
        problem: as for ``certify``.
        bits: the precision of the balls.

    Raises:
        InvalidArgument: a problem that has no ball arithmetic.
    """

    def __init__(self, problem: Objective, bits: int = BITS) -> None:
        require(64 <= bits <= 4096, f"bits must be from 64 to 4096, got {bits}")
        self.problem, self.bits = problem, bits
        self.data: ExactTwoLayer | None = None
        if isinstance(problem, TwoLayerObjective):
            self.data = ExactTwoLayer.of(problem)
            self.description = self.data.to_dict()
        elif isinstance(problem, PolynomialObjective):
            self.description = PolynomialEnclosure(problem.terms).to_dict()
        else:
            raise InvalidArgument(
                f"certificates exist for TwoLayerObjective, TeacherStudent and PolynomialObjective, got "
                f"{type(problem).__name__}"
            )

    def certify(self, verdict: Verdict, *, reach: float | None = None) -> Certificate:
        """See the function ``certify``."""
        reach = self.reach(verdict) if reach is None else reach
        with precision(self.bits):
            match verdict.kind:
                case Kind.GLOBAL_MINIMUM:
                    claims = self._global(verdict, reach)
                case Kind.STRICT_MINIMUM | Kind.STRICT_SADDLE | Kind.STRICT_MAXIMUM | Kind.DEGENERATE_MINIMUM:
                    split = "reduced_theta" in verdict.evidence.figures
                    claims = (self._split if split else self._isolated)(verdict, reach)
                case Kind.CHANNEL:
                    claims = self._channel(verdict, reach)
                case _:
                    raise NotCertified(f"no certificate is defined for the kind {verdict.kind.value}")
        document = {
            "format": FORMAT_NAME,
            "schema": SCHEMA,
            "kind": verdict.kind.value,
            **claims,
            "problem": self.description,
            "method": {"precision_bits": self.bits, "program": "critpoints"},
        }
        return Certificate(document)

    def reach(self, verdict: Verdict) -> float:
        """Farthest that the proven point may lie away, unless the caller says it."""
        match verdict.kind:
            case Kind.GLOBAL_MINIMUM:
                return GLOBAL_REACH
            case Kind.CHANNEL:
                limit = verdict.evidence.figures["limit_theta"]
                return CHANNEL_REACH * (1 + math.hypot(*limit))
            case _:
                return REACH * (1 + float(verdict.theta.norm()))

    def _objective(self, dim: int) -> BallObjective:
        if self.data is None:
            assert isinstance(self.problem, PolynomialObjective)
            return PolynomialEnclosure(self.problem.terms)
        width = (dim - int(self.data.output_bias)) // (self.data.n_inputs + 1)
        return NetworkEnclosure.of_width(self.data, width)

    def _isolated(self, verdict: Verdict, reach: float) -> Document:
        isolation = isolate(self._objective(len(verdict.theta)), verdict.theta.tolist(), reach)
        check_kind(verdict.kind, isolation.inertia)
        return {
            "statement": _statement(verdict.kind, isolation),
            "critical_point": self.describe(isolation),
            "global": self._global_claim(verdict, isolation),
            "point": _point(verdict.theta, isolation.point()),
        }

    def _split(self, verdict: Verdict, reach: float) -> Document:
        assert self.data is not None and isinstance(self.problem, TwoLayerObjective)
        reduction = self.reduction(verdict)
        objective = self._objective(len(reduction.theta))
        assert isinstance(objective, NetworkEnclosure)
        isolation = isolate(objective, verdict.evidence.figures["reduced_theta"], reach)
        neurons = self.copies(verdict, reduction)
        inertias, total = splitting_inertias(objective, isolation, neurons)
        check_kind(verdict.kind, total)
        wide = expand(neurons, isolation.point(), self.data.n_inputs, output_bias=self.data.output_bias)
        point = _point(verdict.theta, wide)
        require(ball(point["distance"]) < reach, f"the split lies {point['distance']} away", NotCertified)
        return {
            "statement": _statement(verdict.kind, isolation) + "; the point is this student with neurons split",
            "critical_point": self.describe(isolation),
            "split": {
                "neurons": [neuron.to_dict() for neuron in neurons],
                "splitting_matrices": [{"neuron": of, "inertia": _inertia(i)} for of, i in inertias.items()],
                "inertia": _inertia(total),
            },
            "global": self._global_claim(verdict, isolation),
            "point": point,
        }

    def reduction(self, verdict: Verdict) -> Reduction:
        """The smaller student that a verdict says its point is a split of.

        Raises:
            NotCertified: the point's duplicated neurons are other ones.
        """
        assert isinstance(self.problem, TwoLayerObjective)
        w, _ = self.problem.split(verdict.theta)
        reduction = merge_duplicates(self.problem, verdict.theta, DUPLICATE * (1 + float(w.abs().max())))
        expected = len(verdict.evidence.figures["reduced_theta"])
        if reduction is None or len(reduction.theta) != expected:
            raise NotCertified("the point's duplicated neurons are not those of the smaller student in its evidence")
        return reduction

    def copies(self, verdict: Verdict, reduction: Reduction) -> tuple[Copy, ...]:
        """The neurons of a point as copies of a smaller student's, some of them reflected for odd activations."""
        assert isinstance(self.problem, TwoLayerObjective)
        w, _ = self.problem.split(verdict.theta)
        signs = [1] * len(w)
        for group in reduction.groups:
            for k in group:
                signs[k] = 1 if float(w[k] @ w[group[0]]) >= 0 else -1
        return copies(reduction, signs)

    def _global(self, verdict: Verdict, reach: float) -> Document:
        if self.data is None or not isinstance(self.problem, TeacherStudent):
            raise NotCertified("a global minimum is proven against a teacher, and this problem has none")
        assert isinstance(self.data.labels, Teacher)
        (match,) = match_teacher(self.problem, verdict.theta[None])
        if match is None:
            raise NotCertified("no zero-loss point of the teacher's class lies next to the point")
        teacher_floats = self.problem.split(self.problem.teacher)[0].double().tolist()
        exact = snap(self.data, point_of(match.theta), teacher_floats)
        require(is_zero_loss(self.data, exact), "the snapped point does not meet the conditions", NotCertified)
        point = _point(verdict.theta, [ball(entry) for entry in exact])
        if not ball(point["distance"]) < reach:
            raise NotCertified(f"the exact zero-loss point lies {point['distance']} away; {reach:.0e} is allowed")
        return {
            "statement": f"the loss is exactly 0 at a rational point at most {point['distance']} from the given one",
            "zero_loss_point": {"theta": [exact_text(entry) for entry in exact], "types": list(match.types)},
            "global": True,
            "point": point,
        }

    def _channel(self, verdict: Verdict, reach: float) -> Document:
        assert self.data is not None
        figures = verdict.evidence.figures
        objective = NetworkEnclosure(self.data, limit_shape(figures))
        roles = self.roles(verdict)
        check_roles(self.data, objective.shape, roles)
        start = figures["limit_theta"]
        isolation = isolate(objective, start, LIMIT_REACH * (1 + math.hypot(*start)))
        check_kind(verdict.kind, isolation.inertia)
        found, z = coefficients(objective, isolation.point())
        inertias = splitting_inertias_at_limit(objective, isolation, roles)
        check_attraction(self.data, roles, found, z, inertias)
        student = place(objective, isolation, roles, point_of(verdict.theta))
        check_placement(student, found, reach)
        return {
            "statement": _channel_statement(isolation, student),
            "critical_point": self.describe(isolation, objective.shape),
            "channel": {
                **student.to_dict(),
                "splitting_matrices": [{"neuron": of, "inertia": _inertia(i)} for of, i in inertias.items()],
                "coefficients": found.to_dict(),
            },
            "global": None,
            "point": {"theta": verdict.theta.tolist(), "distance": upper_text(student.distance, 3)},
        }

    def roles(self, verdict: Verdict) -> Roles:
        """What the neurons of a point in a channel are.

        Raises:
            NotCertified: its copies are not those of its evidence.
        """
        assert isinstance(self.problem, TwoLayerObjective)
        figures, width = verdict.evidence.figures, self.problem.width(verdict.theta)
        if "split_groups" not in figures:
            return roles_of(figures, width, None)
        reduction = merge_duplicates(self.problem, verdict.theta, CHANNEL_DUPLICATE)
        if reduction is None or [list(group) for group in reduction.groups] != figures["split_groups"]:
            raise NotCertified("the point's duplicated neurons are not those in its evidence")
        return roles_of(figures, len(reduction.groups), self.copies(verdict, reduction))

    def _global_claim(self, verdict: Verdict, isolation: Isolation) -> bool | None:
        """False where a zero of the loss exists and this point's loss is not; None where nothing is known."""
        if self.data is None or verdict.kind not in (Kind.STRICT_MINIMUM, Kind.DEGENERATE_MINIMUM):
            return None
        teacher, d = self.data.labels, self.data.n_inputs
        if not isinstance(teacher, Teacher) or len(verdict.theta) // (d + 1) < len(teacher.a):
            return None
        if not isolation.loss > 0:
            raise NotCertified(f"the loss {isolation.loss.str(3)} may be zero: the minimum may be a global one")
        return False

    def describe(self, isolation: Isolation, limit: LimitShape | None = None) -> Document:
        """The section ``critical_point``."""
        document: Document = {
            "centre": list(isolation.centre),
            "radius": isolation.radius,
            "accuracy": isolation.accuracy,
            "inertia": _inertia(isolation.inertia),
            "loss": {"lower": lower_text(isolation.loss, 20), "upper": upper_text(isolation.loss, 20)},
        }
        if self.data is not None:
            width = (len(isolation.centre) - int(self.data.output_bias)) // (self.data.n_inputs + 1)
            shape: Document = {"ordinary": width, "pairs": 0, "constant": self.data.output_bias, "linear": False}
            if limit is not None:
                shape = limit.__dict__ | {"triples": list(limit.triples)}
            document = {"network": shape} | document
        return document


def _inertia(inertia: Inertia) -> Document:
    return {"negative": inertia.negative, "zero": inertia.zero, "positive": inertia.positive}


def _point(theta: Tensor, proven: list[arb]) -> Document:
    """The float64 point, and an upper bound of its Euclidean distance from every member of ``proven``."""
    distance = norm(ball(t) - p for t, p in zip(theta.tolist(), proven, strict=True))
    return {"theta": theta.tolist(), "distance": upper_text(distance, 3)}


def check_kind(kind: Kind, inertia: Inertia) -> None:
    """Whether a proven inertia is that of the kind.

    Raises:
        NotCertified: it is not.
    """
    total = inertia.negative + inertia.zero + inertia.positive
    holds = {
        Kind.STRICT_MINIMUM: inertia.positive == total,
        Kind.STRICT_MAXIMUM: inertia.negative == total,
        Kind.STRICT_SADDLE: 0 < inertia.negative < total,
        Kind.DEGENERATE_MINIMUM: inertia.negative == 0 and inertia.zero > 0,
        Kind.CHANNEL: inertia.positive == total,
    }[kind]
    if not holds:
        raise NotCertified(
            f"the Hessian is proven to have {inertia.negative} negative, {inertia.zero} zero and {inertia.positive} "
            f"positive eigenvalues: this is no {kind.value.replace('_', ' ')}"
        )


def _statement(kind: Kind, isolation: Isolation) -> str:
    name = kind.value.replace("_", " ")
    return (
        f"{name}: exactly one critical point within {isolation.radius} of the centre in every parameter, with loss in "
        f"[{lower_text(isolation.loss)}, {upper_text(isolation.loss)}]"
    )


def check_placement(student: Placement, found: Coefficients, reach: float) -> None:
    """Keeps points that are not in the channel from being said to be; the theorem needs none of this.

    Raises:
        NotCertified: the point is too far from the limit network, or its loss is not what C predicts.
    """
    if not student.distance < reach:
        raise NotCertified(f"the point lies {student.distance.str(3)} from the limit network; {reach:.1e} is allowed")
    ratio = student.ratio(found)
    if not 1 / RATIO <= ratio <= RATIO:
        raise NotCertified(f"the loss exceeds the limit's by {ratio:.2g} times C/d^p: the point is not in the channel")


def _channel_statement(isolation: Isolation, student: Placement) -> str:
    text = (
        f"channel: the limit network has exactly one critical point within {isolation.radius} of the centre in every "
        f"parameter, a strict minimum with loss in [{lower_text(isolation.loss)}, {upper_text(isolation.loss)}], and "
        "C > 0: a path on which parameters diverge and the loss decreases to that"
    )
    diverging = {n for cluster in student.roles.clusters for n, _ in cluster} | set(student.roles.zero)
    if student.roles.duplicated & diverging:
        return text + "; some diverging neurons are copies, and nothing is claimed beside the path"
    return text + ", and no critical point or lower loss beside it, far enough out"
