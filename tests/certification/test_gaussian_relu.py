"""Certificates of the Gaussian ReLU loss: against mpmath, the published minimum for k = 7, and what must be refused."""

import json
from fractions import Fraction
from pathlib import Path

import mpmath as mp
import pytest
import torch
from flint import arb, fmpq
from hypothesis import given
from hypothesis import strategies as st

from critpoints.certification.balls import ball, precision
from critpoints.certification.certificate import Certificate
from critpoints.certification.gaussian_relu import GaussianReluEnclosure
from critpoints.certification.gaussian_relu_certificate import certify_gaussian_relu
from critpoints.certification.safran_shamir import polish, prove_minimum
from critpoints.errors import NotCertified
from critpoints.objectives.gaussian_relu import GaussianReluObjective
from critpoints.verdict import Kind

# I. Safran, "Overparameterization" (code of arXiv 2006.01005), README: the non-global minimum for k = 7, where the
# columns are neurons: one odd neuron, whose target the others share
ODD, SHARED, SPREAD, USUAL, REST = -0.6327039049, 0.2616910758, 0.1859910463, 0.9969227988, -0.0350801559


def published_minimum(k: int = 7) -> torch.Tensor:
    w = torch.full((k, k), REST, dtype=torch.float64)
    w += (USUAL - REST) * torch.eye(k, dtype=torch.float64)
    w[:, 0], w[0, :] = SHARED, SPREAD
    w[0, 0] = ODD
    return w


def exact_loss(w: list[list[mp.mpf]], v: list[list[mp.mpf]]) -> mp.mpf:
    """F by the definition of f and the angle by acos, apart from the code under test."""

    def f(a, b):
        la, lb = mp.norm(a), mp.norm(b)
        t = mp.acos(mp.fdot(a, b) / (la * lb)) if a != b else mp.mpf(0)
        return la * lb * (mp.sin(t) + (mp.pi - t) * mp.cos(t)) / (2 * mp.pi)

    pairs = [(1, a) for a in w] + [(-1, b) for b in v]
    return sum(s * r * f(a, b) for s, a in pairs for r, b in pairs) / 2


def contains(x: arb, value: mp.mpf) -> bool:
    sign, mantissa, exponent, _ = value._mpf_
    scaled = fmpq((-1) ** sign * int(mantissa)) * fmpq(2) ** exponent
    return bool((x + arb(0, arb(10) ** -60)).contains(scaled))


@pytest.fixture(scope="module")
def certified():
    problem = GaussianReluObjective(7)
    return problem, certify_gaussian_relu(problem, published_minimum().flatten().tolist())


@given(st.integers(0, 10**6), st.integers(1, 3), st.integers(1, 3))
def test_loss_gradient_and_hessian_enclose_those_of_mpmath(seed: int, n: int, k: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    target = torch.randn(k, 2, dtype=torch.float64, generator=generator)
    theta = torch.randn(n, 2, dtype=torch.float64, generator=generator)
    enclosure = GaussianReluEnclosure(GaussianReluObjective(k, n, target=target))
    with mp.workdps(80), precision(256):
        point = [ball(t) for t in theta.flatten().tolist()]
        found = enclosure.enclose(point)
        w, v = ([[mp.mpf(x) for x in row] for row in m.tolist()] for m in (theta, target))
        assert contains(found.loss, exact_loss(w, v))
        h = mp.mpf(10) ** -18
        i = seed % (2 * n)

        def shifted(step: mp.mpf) -> mp.mpf:
            moved = [list(row) for row in w]
            moved[i // 2][i % 2] += step
            return exact_loss(moved, v)

        low, middle, high = shifted(-h), shifted(mp.mpf(0)), shifted(h)
        slope, curvature = (high - low) / (2 * h), (high - 2 * middle + low) / h**2
        assert abs(float(found.gradient[i, 0] - float(slope))) < 1e-14
        assert abs(float(found.hessian[i, i].mid()) - float(curvature)) < 1e-14 * (1 + abs(float(curvature)))
        assert found.hessian[i, i].rad() < arb(10) ** -60


def test_enclosures_agree_with_the_float64_objective_at_and_off_the_target() -> None:
    problem = GaussianReluObjective(4)
    for theta in (torch.eye(4, dtype=torch.float64).flatten(), problem.init([0])[0]):
        with precision(128):
            found = GaussianReluEnclosure(problem).enclose([ball(t) for t in theta.tolist()])
        hessian = torch.tensor([[float(x) for x in row] for row in found.hessian.tolist()], dtype=torch.float64)
        assert torch.allclose(hessian, problem.hessian(theta), atol=1e-14)
        gradient = torch.tensor([float(x) for x in found.gradient.entries()], dtype=torch.float64)
        assert torch.allclose(gradient, problem.gradient(theta), atol=1e-14)


def test_a_box_whose_neurons_are_one_object_is_not_a_pair_of_parallel_neurons() -> None:
    problem = GaussianReluObjective(2)
    with precision(64):
        one = arb(0.5, 0.2)
        found = GaussianReluEnclosure(problem).enclose([one] * 4, 0).loss
    apart = float(problem.loss(torch.tensor([0.35, 0.65, 0.65, 0.35], dtype=torch.float64)))
    assert not found.is_finite() or (found - apart).contains(0)


def test_a_general_target_is_written_down_exactly() -> None:
    document = GaussianReluEnclosure(GaussianReluObjective(1, 2, target=[[0.1, -1.5]])).to_dict()
    assert [Fraction(x) for x in document["target"][0]] == [Fraction(0.1), Fraction(-1.5)]


def test_the_published_minimum_is_proven_strict_and_not_global(certified) -> None:
    problem, found = certified
    start = published_minimum().flatten()
    centre = torch.tensor([float(c) for c in found.centre], dtype=torch.float64)
    assert float((centre - start).abs().max()) < 1e-10
    assert not found.is_global and found.certificate.kind is Kind.STRICT_MINIMUM
    assert float(found.proof.loss_lower) == pytest.approx(float(problem.loss(start)), abs=1e-12)
    lowest = float(torch.linalg.eigvalsh(problem.hessian(start))[0])
    assert float(found.proof.smallest_eigenvalue) == pytest.approx(lowest, abs=1e-7)
    assert float(found.proof.accuracy) < 1e-25 < 1e-4 < float(found.proof.uniqueness_radius)


def test_the_file_says_what_a_verifier_needs(certified) -> None:
    _, found = certified
    document = json.loads(found.certificate.to_json())
    assert document["format"] == "critpoints certificate" and document["schema"] == 1
    assert document["problem"] == {"type": "gaussian_relu", "k": 7, "width": 7, "inputs": 7, "target": "unit vectors"}
    claims = document["local_minimum"]
    assert (document["kind"], document["global"]) == ("strict_minimum", False)
    assert document["method"]["name"] == "safran-shamir"
    centre = [Fraction(c) for c in claims["centre"]]
    with mp.workdps(60):
        w = [[mp.mpf(c.numerator) / c.denominator for c in centre[7 * i : 7 * i + 7]] for i in range(7)]
        unit = [[mp.mpf(int(i == j)) for j in range(7)] for i in range(7)]
        loss = exact_loss(w, unit)
        h, slopes = mp.mpf(10) ** -18, []
        for i, j in ((0, 0), (0, 3), (3, 0), (3, 3), (5, 2)):  # one entry of each of the five values
            moved = [[x + h * (a == i and b == j) for b, x in enumerate(row)] for a, row in enumerate(w)]
            back = [[x - h * (a == i and b == j) for b, x in enumerate(row)] for a, row in enumerate(w)]
            slopes.append(abs(exact_loss(moved, unit) - exact_loss(back, unit)) / (2 * h))
    assert max(slopes) <= mp.mpf(document["method"]["gradient_norm"]) + mp.mpf(10) ** -34
    assert mp.mpf(claims["loss"]["lower"]) < loss < mp.mpf(claims["loss"]["upper"])
    assert 0 < Fraction(claims["accuracy"]) < Fraction(claims["uniqueness_radius"])


def test_the_claims_of_a_stored_certificate_hold_at_its_centre() -> None:
    """A file written by an earlier version: what it claims must be provable from its centre alone, ever after."""
    document = Certificate.load(Path(__file__).parent / "golden/gaussian_relu/k6.json").document
    claims, loss = document["local_minimum"], document["local_minimum"]["loss"]
    with precision(document["method"]["precision_bits"]):
        proof = prove_minimum(GaussianReluEnclosure(GaussianReluObjective(6)), [ball(c) for c in claims["centre"]])
    for name in ("existence_radius", "accuracy"):
        assert Fraction(getattr(proof, name)) < Fraction(claims[name])
    for name in ("uniqueness_radius", "smallest_eigenvalue"):
        assert Fraction(getattr(proof, name)) > Fraction(claims[name])
    assert Fraction(loss["lower"]) < Fraction(proof.loss_lower) < Fraction(proof.loss_upper) < Fraction(loss["upper"])
    assert Fraction(loss["lower"]) > 0 and document["global"] is False


def test_the_target_is_proven_global_in_any_order() -> None:
    found = certify_gaussian_relu(GaussianReluObjective(5), torch.eye(5)[[2, 0, 1, 4, 3]].flatten().tolist())
    assert found.is_global and found.certificate.kind is Kind.GLOBAL_MINIMUM
    # the eigenvalue of the antisymmetric part: (1/4 - 1/(2 pi)) from each block of right angles
    with mp.workdps(30):
        assert float(found.proof.smallest_eigenvalue) == pytest.approx(float(mp.mpf(1) / 4 - 1 / (2 * mp.pi)), abs=1e-6)


@pytest.mark.parametrize("distance", [1e-3, 1e-5])
def test_a_point_next_to_the_minimum_is_not_taken_for_one(certified, distance: float) -> None:
    problem, found = certified
    with precision(128), pytest.raises(NotCertified, match="times too large"):
        prove_minimum(GaussianReluEnclosure(problem), [ball(found.centre[0]) + distance, *map(ball, found.centre[1:])])


def test_the_same_point_for_five_neurons_is_a_saddle_and_refused() -> None:
    """Non-global minima of this form begin at k = 6: below, Newton's method leads to a saddle."""
    problem = GaussianReluObjective(5)
    enclosure = GaussianReluEnclosure(problem)
    with precision(128):
        start = published_minimum(5).flatten().tolist()
        for _ in range(4):  # the Hessian of the start is too far away to polish with at once
            start = [float(c) for c in polish(enclosure, start)]
    theta = torch.tensor(start, dtype=torch.float64)
    assert float(problem.gradient(theta).norm()) < 1e-12
    assert float(torch.linalg.eigvalsh(problem.hessian(theta))[0]) < -1e-4
    with pytest.raises(NotCertified, match="not proven positive definite"):
        certify_gaussian_relu(problem, start)


def test_parallel_or_vanishing_neurons_and_narrow_students_are_refused() -> None:
    problem = GaussianReluObjective(2)
    with pytest.raises(NotCertified):
        certify_gaussian_relu(problem, [0.5, 0.5, 1.0, 1.0])
    with pytest.raises(NotCertified):
        certify_gaussian_relu(problem, [0.0, 0.0, 1.0, 1.0])
    # one neuron for two targets: the best one is a strict minimum, whose being global this proof leaves open
    best = 0.5 * (1 + 2 / torch.pi) * torch.ones(2, dtype=torch.float64)
    narrow = GaussianReluObjective(2, 1)
    slope = float(narrow.gradient(best).norm())
    for _ in range(60):
        best = best - narrow.gradient(best)
    assert float(narrow.gradient(best).norm()) < min(slope, 1e-12) or slope < 1e-12
    with pytest.raises(NotCertified, match="whether it is global is open"):
        certify_gaussian_relu(narrow, best.tolist())
