"""Certificates of the Gaussian ReLU loss: the golden one is accepted; false claims and another target are not."""

import json
from copy import deepcopy
from fractions import Fraction
from pathlib import Path

import pytest
import torch
from flint import arb_mat

from critpoints.certification.verifier import Verifier
from critpoints.certification.verifier_balls import enclose
from critpoints.certification.verifier_relu import _is_positive_definite, _Loss, _Problem
from critpoints.objectives.gaussian_relu import GaussianReluObjective

GOLDEN = Path(__file__).parent / "golden" / "gaussian_relu" / "k6.json"


@pytest.fixture(scope="module")
def document():
    return json.loads(GOLDEN.read_text(encoding="utf-8"))


def verdict_of(document):
    return Verifier().verify(json.dumps(document).encode())


def test_the_golden_certificate_is_accepted(document):
    verdict = verdict_of(document)
    assert verdict.accepted, verdict.reason
    assert verdict.kind == "strict_minimum" and "not the global minimum" in verdict.claim


CLAIMS = [
    (("local_minimum", "existence_radius"), "1e-60"),
    (("local_minimum", "accuracy"), "1e-60"),
    (("local_minimum", "uniqueness_radius"), "0.1"),
    (("local_minimum", "uniqueness_radius"), "1"),
    (("local_minimum", "smallest_eigenvalue"), "0.0048"),
    (("local_minimum", "loss", "lower"), "0.02508058100300"),
    (("local_minimum", "loss", "upper"), "0.0250805810010"),
    (("local_minimum", "centre", 0), "-0.0504134032"),
    (("local_minimum", "centre", 7), "0.98670381888857684224142"),
    (("global",), True),
    (("kind",), "global_minimum"),
    (("kind",), "strict_saddle"),
    (("problem", "target"), [[str(int(i == j) + (i == j == 0)) for j in range(6)] for i in range(6)]),
    (("problem", "width"), 5),
    (("problem", "k"), 7),
    (("problem", "inputs"), 5),
    (("problem", "type"), "two_layer"),
    (("local_minimum", "centre"), ["0"] * 36),
]


@pytest.mark.parametrize(("path", "new"), CLAIMS)
def test_false_claims_are_rejected(document, path, new):
    changed = deepcopy(document)
    place = changed
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = new
    verdict = verdict_of(changed)
    assert not verdict.accepted and verdict.reason


def test_the_target_itself(document):
    """The permuted target is a global minimum; a row that is off by 1e-30 is none."""
    changed = deepcopy(document)
    rows = [[str(int(i == j)) for j in range(6)] for i in (2, 0, 1, 3, 5, 4)]
    changed |= {"kind": "global_minimum", "global": True}
    changed["local_minimum"] |= {
        "centre": [x for row in rows for x in row],
        "smallest_eigenvalue": "1e-3",
        "uniqueness_radius": "1e-6",
        "existence_radius": "1e-20",
        "accuracy": "1e-20",
        "loss": {"lower": "-1e-20", "upper": "1e-20"},
    }
    verdict = verdict_of(changed)
    assert verdict.accepted, verdict.reason
    changed["local_minimum"]["centre"][2] = "1.000000000000000000000000000001"
    assert "not the target" in verdict_of(changed).reason


def test_loss_gradient_and_hessian_are_those_of_the_objective():
    """Also where neurons are parallel to targets, to each other and antiparallel, against float64."""
    rows = [["1/2", "0", "-3/4"], ["1", "0", "-3/2"], ["-1/4", "0", "3/8"], ["0", "2", "0"]]
    exact = [tuple(map(Fraction, row)) for row in rows]
    target = [tuple(Fraction(int(i == j)) for j in range(3)) for i in range(3)]
    value, gradient, hessian = _Loss(_Problem(4, 3, target), exact).derivatives()
    objective = GaussianReluObjective(3, width=4)
    theta = torch.tensor([[float(x) for row in exact for x in row]], dtype=torch.float64)
    assert float(value) == pytest.approx(float(objective.loss(theta)), abs=1e-12)
    assert [float(g) for g in gradient] == pytest.approx(objective.gradient(theta)[0].tolist(), abs=1e-12)
    flat = [float(h) for h in hessian.entries()]
    assert flat == pytest.approx(objective.hessian(theta)[0].flatten().tolist(), abs=1e-10)


@pytest.mark.parametrize("n", [3, 30])
def test_definite_matrices_are_told_from_others(n):
    generator = torch.Generator().manual_seed(n)
    root = torch.randint(-3, 4, (n, n), generator=generator).double()
    matrix = root @ root.T + torch.eye(n)
    low = float(torch.linalg.eigvalsh(matrix)[0])
    for shift, expected in ((0.9 * low, True), (1.1 * low, False)):
        entries = [enclose(Fraction(x)) for x in (matrix - shift * torch.eye(n)).double().flatten().tolist()]
        assert _is_positive_definite(arb_mat(n, n, entries)) is expected
