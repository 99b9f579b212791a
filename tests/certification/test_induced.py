"""Saddles with silent neurons and antipodal pairs: proven, confirmed by the verifier, refused when tampered with."""

import itertools
import json
import math
from copy import deepcopy
from dataclasses import replace
from fractions import Fraction
from hashlib import sha256

import pytest
import torch

import critpoints as cp
from critpoints.certification.prover import Prover
from critpoints.certification.verifier import Verifier
from critpoints.certification.zero_output import Induced, Member, certify_induced
from critpoints.errors import NotCertified
from critpoints.landscape.origins import trace_origin
from critpoints.solvers.saddle_search import search_saddles
from critpoints.symmetry.merging import biased

GRID = cp.TeacherStudent.grid()
BIASED = biased(GRID)
PROVER = Prover(GRID)


def minimum(problem, width, seeds=12):
    """The lowest strict minimum of this width."""
    start = GRID.init(width, range(seeds))
    if problem.output_bias:
        start = torch.nn.functional.pad(start, (0, 1))
    verdicts = cp.settle(problem, start).verdicts
    strict = [each for each in verdicts if each.kind is cp.Kind.STRICT_MINIMUM]
    return min(strict, key=lambda each: each.loss).theta


def on_curve(small, radius):
    """Weights of this length with phi(w) = E[e s(w.x)] = 0, by bisection in float64, from the definition."""
    error = (GRID.predict(small) if len(small) else torch.zeros_like(GRID.y)) - GRID.y

    def at(angle):
        return radius * torch.tensor([math.cos(angle), math.sin(angle)], dtype=torch.float64)

    def phi(angle):
        return float((error * torch.sigmoid(GRID.x @ at(angle))).mean())

    angles = torch.linspace(0.1, 6.4, 200).tolist()
    a, b = next((s, t) for s, t in itertools.pairwise(angles) if phi(s) * phi(t) < 0)
    for _ in range(60):
        c = (a + b) / 2
        a, b = (c, b) if phi(a) * phi(c) > 0 else (a, c)
    return at(a)


def claimed(problem, theta, origin=None):
    (verdict,) = cp.classify(problem, theta)
    origin = trace_origin(problem, theta) if origin is None else origin
    assert origin is not None
    verdict = replace(verdict, kind=cp.Kind.STRICT_SADDLE)
    return certify_induced(PROVER, verdict, origin.induced).document


def insert(small, w, place):
    weights, outputs = GRID.split(small)
    rows = [*weights]
    rows.insert(place, w)
    a = [*outputs]
    a.insert(place, small.new_zeros(()))
    return torch.cat([torch.stack(rows).flatten(), torch.stack(a)])


@pytest.fixture(scope="module")
def documents():
    found = {}
    two = minimum(GRID, 2)
    w = on_curve(two, 1.1)
    found["silent"] = claimed(GRID, insert(two, w, 1))
    other = on_curve(two, 2.3)
    found["two silent"] = claimed(GRID, insert(insert(two, w, 0), other, 3))
    a = GRID.split(two)[1]
    copied = torch.cat([two[:4], two[:2], torch.stack([0.25 * a[0], a[1], 0.75 * a[0]])])
    found["split and silent"] = claimed(GRID, insert(copied, w, 2))
    narrow = minimum(BIASED, 2)
    found["pairs"] = claimed(GRID, pairs(narrow, 0.3))
    residual = on_curve(pairs(narrow, 0.3), 1.3)
    found["pairs and silent"] = claimed(GRID, insert(pairs(narrow, 0.3), residual, 4))
    nothing = torch.zeros(9, dtype=torch.float64)
    nothing[2:6] = torch.cat([on_curve(nothing[:0], radius) for radius in (0.5, 1.2)])
    ends = search_saddles(GRID, nothing[None], index=3, max_iterations=60)
    found["nothing"] = claimed(GRID, ends.theta[0])
    return found


def pairs(narrow, share):
    """Two antipodal pairs that compute what ``narrow``, of width 2 with an output bias, does."""
    w, a, b = narrow[:4].reshape(2, 2), narrow[4:6], narrow[6]
    first = share * a[0]  # at w_0; the pair's other neuron has first - a_0
    rest = b - (first - a[0])
    theta = torch.cat([w[0], w[1], -w[0], -w[1]])
    return torch.cat([theta, torch.stack([first, a[1] + rest, first - a[0], rest])])


NAMES = ("silent", "two silent", "split and silent", "pairs", "pairs and silent", "nothing")


@pytest.mark.parametrize("name", NAMES)
def test_they_are_proven_confirmed_and_agree_with_the_dense_hessian(documents, name) -> None:
    document = documents[name]
    said = Verifier().verify(json.dumps(document).encode())
    assert said.accepted, said.reason
    assert said.kind == "strict_saddle" and "inertia" in said.claim
    theta = torch.tensor(document["point"]["theta"], dtype=torch.float64)
    assert float(GRID.gradient(theta).norm()) < 1e-12
    values = torch.linalg.eigvalsh(GRID.hessian(theta))
    floor = 1e-12 * float(values.abs().max())
    inertia = document.get("zero_output", document.get("split"))["inertia"]
    assert int((values < -floor).sum()) == inertia["negative"]
    assert int((values > floor).sum()) == inertia["positive"]
    assert inertia["zero"] + inertia["negative"] + inertia["positive"] == len(theta)


def edited(document, path, value):
    document = deepcopy(document)
    place = document
    for key in path[:-1]:
        place = place[key]
    old = place[path[-1]]
    place[path[-1]] = value(old) if callable(value) else value
    return document


def shifted(by):
    return lambda text: str(Fraction(text) + Fraction(by))


OTHER = {"negative": 2, "zero": 0, "positive": 0}
SILENT, FIRST = ("zero_output", "neurons"), ("zero_output", "neurons", 0)
TAMPERED = {
    "a silent neuron 1e-9 off": ("silent", (*FIRST, "centre", 0), shifted("1e-9")),
    "a segment of no length": ("silent", (*FIRST, "direction"), ["0", "0"]),
    "a segment on one side": ("silent", (*FIRST, "centre"), lambda c: [shifted("2e-15")(each) for each in c]),
    "a segment so long that U vanishes on it": ("silent", (*FIRST, "direction"), ["9", "9"]),
    "another place": ("silent", (*FIRST, "neuron"), 0),
    "a place beyond the student": ("silent", (*FIRST, "neuron"), 3),
    "an index one too low": ("silent", ("zero_output", "inertia", "negative"), lambda n: n - 1),
    "an index one too high": ("two silent", ("zero_output", "inertia", "negative"), lambda n: n + 1),
    "one silent neuron left out": ("two silent", SILENT, lambda all_: all_[:1]),
    "one silent neuron twice": ("two silent", SILENT, lambda all_: [all_[0], all_[0]]),
    "no silent neuron": ("silent", SILENT, []),
    "called a minimum": ("silent", ("kind",), "strict_minimum"),
    "called degenerate": ("silent", ("kind",), "degenerate_minimum"),
    "called not global": ("silent", ("global",), False),
    "nearer than it is": ("silent", ("point", "distance"), "1e-40"),
    "a weight of the narrower student 1e-9 off": ("silent", ("critical_point", "centre", 0), shifted("1e-9")),
    "a wrong inertia of the narrower student": ("silent", ("critical_point", "inertia", "negative"), 1),
    "no narrower student": ("silent", ("critical_point",), None),
    "a share off": ("split and silent", ("split", "neurons", 0, "share"), "0.26"),
    "a copy at the opposite weights": ("split and silent", ("split", "neurons", 0, "sign"), -1),
    "a wrong inertia of the base": ("split and silent", ("split", "inertia", "zero"), 0),
    "an open share without a constant": ("split and silent", ("split", "neurons", 0, "share"), None),
    "every share of the pairs given": ("pairs", ("split", "neurons", 0, "share"), "0.3"),
    "an unreflected pair": ("pairs", ("split", "neurons", 2, "sign"), 1),
    "a third open share": ("pairs", ("split", "neurons", 1, "share"), None),
    "one zero too many": ("pairs", ("split", "inertia", "zero"), 2),
    "no constant": ("pairs", ("critical_point", "network", "constant"), False),
    "the constant 1e-6 off": ("pairs", ("critical_point", "centre", 6), shifted("1e-6")),
    "a given share of a pair 1e-3 off": ("pairs", ("split", "neurons", 1, "share"), shifted("1e-3")),
    "a wrong splitting matrix": ("pairs", ("split", "splitting_matrices", 0, "inertia"), OTHER),
    "a point of f = 0 off the curve": ("nothing", (*FIRST, "centre", 1), shifted("1e-6")),
    "f = 0 with an index one too low": ("nothing", ("zero_output", "inertia", "negative"), 2),
    "f = 0 with a narrower student": ("nothing", ("critical_point",), {"network": None}),
}  # fmt: skip


@pytest.mark.parametrize("case", TAMPERED)
def test_tampered_certificates_are_refused(documents, case) -> None:
    name, path, value = TAMPERED[case]
    document = edited(documents[name], path, value)
    assert document != documents[name], "the case changes nothing"
    said = Verifier().verify(json.dumps(document).encode())
    assert not said.accepted and said.reason


def test_sections_left_out_or_added_are_refused(documents) -> None:
    for name, key in (("silent", "zero_output"), ("pairs", "split"), ("split and silent", "split")):
        document = {k: v for k, v in documents[name].items() if k != key}
        assert not Verifier().verify(json.dumps(document).encode()).accepted
    extra = documents["silent"] | {"split": documents["split and silent"]["split"]}
    assert not Verifier().verify(json.dumps(extra).encode()).accepted


def test_ties_to_them_are_refused(documents) -> None:
    verifier, text = Verifier(), json.dumps(documents["silent"]).encode()
    assert verifier.verify(text).accepted
    tie = {
        "format": "critpoints tie",
        "schema": 1,
        "kind": "strict_saddle",
        "statement": "",
        "certificate": sha256(text).hexdigest(),
        "negated": False,
        "neurons": [{"of": k, "share": "1", "sign": 1} for k in range(2)],
        "point": documents["silent"]["point"],
    }
    said = verifier.verify(json.dumps(tie).encode())
    assert not said.accepted


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda t: t + 1e-3 * torch.eye(9, dtype=t.dtype)[2], id="off the curve"),
        pytest.param(lambda t: t + 1e-3 * torch.eye(9, dtype=t.dtype)[0], id="off the narrower student"),
    ],
)
def test_points_off_are_not_proven(documents, change) -> None:
    theta = change(torch.tensor(documents["silent"]["point"]["theta"], dtype=torch.float64))
    (verdict,) = cp.classify(GRID, theta)
    verdict = replace(verdict, kind=cp.Kind.STRICT_SADDLE, index=1)
    origin = trace_origin(GRID, theta)
    assert origin is not None
    with pytest.raises(NotCertified):
        certify_induced(PROVER, verdict, origin.induced)


def test_another_index_is_not_proven(documents) -> None:
    theta = torch.tensor(documents["silent"]["point"]["theta"], dtype=torch.float64)
    (verdict,) = cp.classify(GRID, theta)
    origin = trace_origin(GRID, theta)
    assert origin is not None
    for index in (verdict.index - 1, verdict.index + 1):
        with pytest.raises(NotCertified, match="index is proven to be"):
            certify_induced(PROVER, replace(verdict, kind=cp.Kind.STRICT_SADDLE, index=index), origin.induced)


def test_a_pair_without_its_partner_pays_for_nothing(documents) -> None:
    theta = torch.tensor(documents["pairs"]["point"]["theta"], dtype=torch.float64)
    (verdict,) = cp.classify(GRID, theta)
    origin = trace_origin(GRID, theta)
    assert origin is not None and origin.induced.constant
    one_sided = tuple(Member(each.of, each.share, 1) for each in origin.induced.members)
    with pytest.raises(NotCertified, match="no antipodal pair"):
        certify_induced(PROVER, verdict, Induced(origin.small, True, one_sided, ()))
