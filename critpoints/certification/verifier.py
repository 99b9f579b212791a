"""An independent verifier of certificates: recomputes every bound from the file's exact problem, trusts no claim.

It is written from the text of the format (the docstring of certificate.py) alone and shares no numerical code with the
prover but the library of balls: this module and verifier_*.py import the standard library, flint and the project's
exceptions, which a test enforces. What it proves, and how:

- the box. H encloses the Hessian over |theta - c| <= r, A is an approximate inverse of its midpoint, kappa bounds the
  row sums of |1 - A H|, g those of A grad L(c). g + kappa r < r gives exactly one critical point in the box, g <= delta
  (1 - kappa) its accuracy (Krawczyk; the argument is in the format);
- the inertia. kappa < 1 makes every matrix in H nonsingular; the symmetric ones are a connected set, and the midpoint
  of H is one of them: its inertia, by elimination in balls, is that of the Hessian everywhere in the box;
- the loss. By Taylor's theorem |L(theta*) - L(c)| <= delta sum |G_i| + delta^2 / 2 sum |H_ij|;
- silent neurons: a sign change of E[e s(w.x)] on a segment where E[e s'(w.x) x] != 0;
- distances, shares, exact zeros of the loss: in rational numbers.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from hashlib import sha256
from time import perf_counter
from typing import Any

from critpoints.certification.verifier_balls import BOX_BITS, Inertia, working_bits
from critpoints.certification.verifier_channels import KEYS as CHANNEL_KEYS
from critpoints.certification.verifier_channels import (
    Coefficients,
    check_attraction,
    check_coefficients,
    check_splits,
    check_student,
    read_roles,
)
from critpoints.certification.verifier_claims import (
    CriticalPoint,
    Fields,
    Student,
    check_critical_point,
    check_distance,
    check_split,
    check_zero_loss,
    confirm,
    expand,
    read_copies,
    repeated,
    split_inertia,
    width_of,
)
from critpoints.certification.verifier_enclosures import Data, Network, PolynomialLoss
from critpoints.certification.verifier_format import (
    Malformed,
    Node,
    Polynomial,
    Rejected,
    Teacher,
    TwoLayer,
    demand,
    parse,
)
from critpoints.certification.verifier_induced import check_induced, is_induced
from critpoints.certification.verifier_relu import check_local_minimum

FORMAT_NAME, TIE_NAME = "critpoints certificate", "critpoints tie"
_KINDS = ("strict_minimum", "strict_saddle", "strict_maximum", "degenerate_minimum", "global_minimum", "channel")
_MINIMA = ("strict_minimum", "degenerate_minimum")


@dataclass(frozen=True)
class FileVerdict:
    """What the verifier says about one certificate.

    Attributes:
        name: of the file.
        accepted: whether every claim in it was confirmed.
        kind: of the point, as the file says; empty where that could not be read.
        claim: what is proven, in the verifier's own words; empty unless accepted.
        reason: why it is rejected; empty if accepted.
        malformed: whether it is rejected because it is no certificate of the format.
        seconds: taken.
    """

    name: str
    accepted: bool
    kind: str
    claim: str
    reason: str
    malformed: bool
    seconds: float

    def to_dict(self) -> dict[str, Any]:
        """A JSON-ready dictionary."""
        return dict(vars(self))


@dataclass(frozen=True)
class Proof:
    """What was confirmed: the claim in words, and what ties to it refer to."""

    kind: str
    claim: str
    point: CriticalPoint | None = None
    blocks: Mapping[int, Inertia] = field(default_factory=dict)
    coefficients: Coefficients | None = None


class Verifier:
    """Verifies certificates, and ties to those that it has confirmed before, one after the other.

    Args:
        arrays: the bytes (little-endian binary64, row by row) of arrays that certificates name by their SHA-256.
    """

    def __init__(self, arrays: Iterable[bytes] = ()) -> None:
        self._arrays = {sha256(data).hexdigest(): data for data in arrays}
        self._problem: tuple[str, Data | PolynomialLoss] | None = None
        self._proofs: dict[str, Proof] = {}

    def verify(self, text: bytes, name: str = "certificate") -> FileVerdict:
        """Checks every claim of a certificate. Never raises for what is in it: that is the reason of the refusal."""
        started, kind, claim, reason, malformed = perf_counter(), "", "", "", False
        try:
            document = parse(text)
            kind = _kind(document)
            with working_bits(BOX_BITS):
                claim = self._check(document, kind, text)
        except Malformed as refusal:
            reason, malformed = str(refusal), True
        except Rejected as refusal:
            reason = str(refusal)
        except (ArithmeticError, ValueError, MemoryError) as error:  # of the libraries: then nothing is proven
            reason = f"a computation failed: {error or type(error).__name__}"
        return FileVerdict(name, not reason, kind, claim, reason, malformed, perf_counter() - started)

    def _check(self, document: Node, kind: str, text: bytes) -> str:
        if document.value["format"] == TIE_NAME:
            return _check_tie(document, self._proofs).claim
        if "local_minimum" in document.value:
            return self._check_relu(document, kind)
        names = ("format", "schema", "kind", "problem", "global", "point", "statement", "method")
        match kind:
            case "global_minimum":
                check, fields = _check_global_minimum, document.fields(*names, "zero_loss_point")
            case "channel":
                check, fields = _check_channel, document.fields(*names, "critical_point", "channel")
            case _:
                optional = ("split", "zero_output")
                check, fields = _check_isolated, document.fields(*names, "critical_point", optional=optional)
        fields["statement"].word()
        proof = check(kind, fields, self._prepared(fields["problem"]))
        self._proofs[sha256(text).hexdigest()] = proof
        return proof.claim

    def _check_relu(self, document: Node, kind: str) -> str:
        names = ("format", "schema", "kind", "problem", "local_minimum", "global", "statement", "method")
        fields = document.fields(*names)
        fields["statement"].word()
        demand(kind in ("strict_minimum", "global_minimum"), f"a {kind} has no local_minimum")
        return check_local_minimum(kind, fields)

    def _prepared(self, node: Node) -> Data | PolynomialLoss:
        demand(isinstance(node.value, dict) and "type" in node.value, "problem must be an object with a type")
        key = json.dumps(node.value, sort_keys=True)
        if self._problem is None or self._problem[0] != key:
            kind = Node(node.value["type"], "problem.type").word(("polynomial", "two_layer"))
            if kind == "polynomial":
                self._problem = key, PolynomialLoss(Polynomial.read(node))
            else:
                self._problem = key, Data(TwoLayer.read(node, self._arrays))
        return self._problem[1]


def _kind(document: Node) -> str:
    value = document.value
    names = (FORMAT_NAME, TIE_NAME)
    demand(isinstance(value, dict) and value.get("format") in names, f"this is no {FORMAT_NAME}")
    schema = value.get("schema")
    demand(type(schema) is int and schema == 1, f"the schema is {str(schema)[:40]}; this verifier knows schema 1")
    demand("kind" in value, "certificate lacks the key 'kind'")
    return Node(value["kind"], "kind").word(_KINDS)


def _point(fields: Fields) -> tuple[tuple[Fraction, ...], Fraction]:
    point = fields["point"].fields("theta", "distance")
    theta, distance = point["theta"].binary64_vector(), point["distance"].exact()
    demand(distance >= 0, "point.distance must not be negative")
    return theta, distance


def _check_global_minimum(kind: str, fields: Fields, problem: Data | PolynomialLoss) -> Proof:
    theta, distance = _point(fields)
    confirm(_is_global(fields["global"]) is True, "global must be true for a global minimum")
    proven = check_zero_loss(fields["zero_loss_point"], problem, len(theta))
    check_distance(theta, proven, [Fraction(0)] * len(proven), distance)
    return Proof(kind, f"{_name(kind)}: the loss is exactly 0 at a rational point, and nowhere negative")


def _check_isolated(kind: str, fields: Fields, problem: Data | PolynomialLoss) -> Proof:
    theta, distance = _point(fields)
    if is_induced(fields, problem):
        confirm(kind == "strict_saddle", "silent neurons and antipodal pairs that pay for a constant make saddles")
        demand(isinstance(problem, Data), "a polynomial has no neurons")
        assert isinstance(problem, Data)
        confirm(_is_global(fields["global"]) is None, "global must be null for a saddle")
        saddle = check_induced(fields, problem, theta, distance)
        check_kind(kind, Student([], [], saddle.inertia))
        return Proof(kind, f"{_name(kind)}: {saddle.words}; its inertia is {saddle.inertia}")
    confirm(kind != "degenerate_minimum" or "split" in fields, "a degenerate_minimum must have a split")
    confirm(kind not in ("strict_minimum", "strict_maximum") or "split" not in fields, f"a {kind} has no split")
    point, blocks = check_critical_point(fields["critical_point"], problem), {}
    proven = Student(list(point.centre), [point.accuracy] * len(point.centre), point.inertia)
    if "split" in fields:
        proven, blocks = check_split(fields["split"], point)
    check_distance(theta, proven.centre, proven.spread, distance)
    check_kind(kind, proven)
    check_not_global(kind, fields["global"], problem, len(theta), point.lower)
    beyond = "; it is not the global minimum" if fields["global"].value is False else ""
    split = f"; its neurons split, inertia {proven.inertia}" if "split" in fields else ""
    loss = f"loss from {float(point.lower):.6g} to {float(point.upper):.6g}"
    return Proof(kind, f"{_name(kind)}: {point.words}, {loss}{split}{beyond}", point, blocks)


def _check_channel(kind: str, fields: Fields, problem: Data | PolynomialLoss) -> Proof:
    theta, distance = _point(fields)
    demand(isinstance(problem, Data), "a polynomial has no channel")
    confirm(_is_global(fields["global"]) is None, "global must be null for a channel")
    assert isinstance(problem, Data)
    point = check_critical_point(fields["critical_point"], problem, limit_network=True)
    confirm(point.inertia[0] == 0, "the limit network's critical point is no minimum")
    section = fields["channel"].fields(*CHANNEL_KEYS, "splitting_matrices", "coefficients")
    roles = read_roles(section, point.network.shape, problem.problem)
    blocks = check_splits(section["splitting_matrices"], roles, point)
    found = check_coefficients(section["coefficients"], point)
    check_attraction(found, roles, problem.problem, blocks)
    words = check_student(section, roles, point, theta, distance)
    claim = f"channel to a limit network with a strict minimum: {point.words}; every C is positive; {words}"
    return Proof(kind, claim, point, blocks, found)


def _check_tie(document: Node, proofs: Mapping[str, Proof]) -> Proof:
    """Section 10: the proven point of a certificate that was accepted before, moved by a symmetry."""
    lists = "channel" if document.value["kind"] == "channel" else "neurons"
    fields = document.fields("format", "schema", "certificate", "kind", "negated", "point", "statement", lists)
    fields["statement"].word()
    kind, digest = fields["kind"].word(), fields["certificate"].word()
    proof = proofs.get(digest)
    confirm(proof is not None, f"the certificate {digest[:64]} that it is tied to is not among those confirmed before")
    assert proof is not None
    confirm(kind == proof.kind, f"it is tied to the certificate of a {_name(proof.kind)}")
    demand(proof.point is not None and isinstance(proof.point.objective, Network), f"there are no ties to this {kind}")
    assert proof.point is not None
    theta, distance = _point(fields)
    problem = proof.point.network.data.problem
    if fields["negated"].boolean():
        confirm(proof.point.network.data.is_odd, "it is negated, and the problem has not L(-theta) = L(theta)")
        theta = tuple(-t for t in theta)
    if kind == "channel":
        assert proof.coefficients is not None
        section = fields["channel"].fields(*CHANNEL_KEYS)
        roles = read_roles(section, proof.point.network.shape, problem)
        check_attraction(proof.coefficients, roles, problem, proof.blocks)
        check_student(section, roles, proof.point, theta, distance)
    else:
        copies = read_copies(fields["neurons"], proof.point.network.shape.ordinary, problem)
        split = repeated(copies)
        confirm(split <= proof.blocks.keys(), "a neuron is split that has no splitting matrix in the certificate")
        found = split_inertia(proof.point.inertia, copies, {t: proof.blocks[t] for t in split})
        student = expand(copies, proof.point, found)
        check_distance(theta, student.centre, student.spread, distance)
        check_kind(kind, student)
    return Proof(kind, f"{_name(kind)}: moved by a symmetry, the proven point of {digest[:12]}")


def check_kind(kind: str, proven: Student) -> None:
    """Section 7: the kind that the inertia decides."""
    negative, zero, positive = proven.inertia
    holds = {
        "strict_minimum": negative == zero == 0,
        "strict_maximum": zero == positive == 0,
        "strict_saddle": negative > 0 and positive > 0,
        "degenerate_minimum": negative == 0 and zero > 0,
    }[kind]
    confirm(holds, f"a point of inertia {proven.inertia} (negative, zero, positive) is no {_name(kind)}")


def check_not_global(kind: str, node: Node, problem: Data | PolynomialLoss, size: int, lower: Fraction) -> None:
    """Section 7: ``global`` is null, or false where a student of this width has the loss 0 and this point has not."""
    if (claimed := _is_global(node)) is None:
        return
    confirm(claimed is False and kind in _MINIMA, f"global must be null, or false for a minimum, for a {kind}")
    confirm(isinstance(problem, Data), "global must be null for a polynomial")
    assert isinstance(problem, Data)
    labels = problem.problem.labels
    confirm(isinstance(labels, Teacher), "global is false, and without a teacher no global minimum is known")
    assert isinstance(labels, Teacher)
    width = width_of(size, problem.problem)
    confirm(width >= len(labels.a), f"global is false, and width {width} may not reach the teacher's loss 0")
    confirm(lower > 0, "global is false, and the claimed loss is not bounded away from 0")


def _is_global(node: Node) -> bool | None:
    return None if node.value is None else node.boolean()


def _name(kind: str) -> str:
    return kind.replace("_", " ")
