"""Safran and Shamir's experiment: what is counted, what is proven, and that an interruption loses no finished k."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from critpoints.certification.certificate import Certificate
from critpoints.errors import InvalidArgument, NotCertified, SpecMismatch, StoreError
from critpoints.objectives.gaussian_relu import GaussianReluObjective
from critpoints.study import spurious_minima
from critpoints.study.spurious_minima import end_points, find_minima, group_orbits, run


def odd_neuron(k: int) -> torch.Tensor:
    """Next to the non-global minimum with one odd neuron."""
    w = torch.full((k, k), -0.04, dtype=torch.float64) + 1.03 * torch.eye(k, dtype=torch.float64)
    w[:, 0], w[0, :] = 0.28, 0.2
    w[0, 0] = -0.62
    return w


@pytest.fixture
def starts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every fourth start lies next to the odd minimum, shuffled; for k = 6 it is too rare to wait for."""
    usual = GaussianReluObjective.init

    def init(self, seeds):
        rows = usual(self, seeds)
        for row, seed in zip(rows, seeds, strict=True):
            if seed % 4 == 1:
                rng = np.random.default_rng(seed)
                row[:] = odd_neuron(self.k)[rng.permutation(self.k)][:, rng.permutation(self.k)].flatten()
        return rows

    monkeypatch.setattr(GaussianReluObjective, "init", init)


def test_end_points_do_not_depend_on_their_batch() -> None:
    problem = GaussianReluObjective(4)
    together = end_points(problem, range(6))
    assert torch.equal(end_points(problem, range(3, 5)), together[3:5])
    assert float(problem.gradient(together).norm(dim=-1).max()) <= 1e-9


def test_three_neurons_always_find_the_target() -> None:
    *orbits, minima = find_minima(3, 25)
    ((orbit, _),) = orbits
    assert orbit.is_global and orbit.count == orbit.inside == 25 and orbit.fraction == 1.0
    assert minima.unresolved == 0 and minima.distinct


@pytest.mark.usefixtures("starts")
def test_orbits_are_counted_modulo_symmetry_and_proven(tmp_path: Path) -> None:
    minima = run(6, 16, 0, tmp_path)
    usual, odd = minima.orbits
    assert usual.is_global and (usual.count, odd.count) == (12, 4)
    assert odd.inside == 4 and odd.proof is not None and not odd.is_global
    assert float(odd.proof.loss_lower) == pytest.approx(0.0250805810, abs=1e-9)
    assert odd.seed % 4 == 1 and 0 < odd.farthest < 1e-5
    assert odd.wilson95[0] < 0.25 < odd.wilson95[1]
    assert minima.distinct and minima.unresolved == 0
    for orbit in minima.orbits:
        assert orbit.certificate is not None
        assert Certificate.load(tmp_path / orbit.certificate).document["problem"]["k"] == 6


@pytest.mark.usefixtures("starts")
def test_a_finished_k_is_read_back_and_not_computed_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = run(6, 4, 1, tmp_path)
    monkeypatch.setattr(spurious_minima, "find_minima", None)
    assert run(6, 4, 1, tmp_path) == first
    with pytest.raises(SpecMismatch, match="4 starts from seed 1"):
        run(6, 5, 1, tmp_path)
    (tmp_path / "k-06.summary").write_text("{")
    with pytest.raises(StoreError, match="not a list of minima"):
        run(6, 4, 1, tmp_path)


def test_an_interruption_leaves_no_summary_and_whole_certificates(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr(spurious_minima, "_write", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run(3, 2, 0, tmp_path)
    monkeypatch.undo()
    assert not (tmp_path / "k-03.summary").exists()
    assert run(3, 2, 0, tmp_path).orbits[0].count == 2
    assert not list(tmp_path.glob("*.part"))


def test_what_is_not_proven_is_reported_with_its_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(problem, theta):
        raise NotCertified("no")

    monkeypatch.setattr(spurious_minima, "certify_gaussian_relu", refuse)
    (orbit, certificate), minima = find_minima(2, 3)
    assert certificate is None and orbit.proof is None and orbit.reason == "no" and orbit.inside == 0
    assert not minima.distinct


def test_losses_alone_make_no_orbit() -> None:
    """Two matrices of one loss that no permutation takes to each other: a matrix and its image under a rotation."""
    problem = GaussianReluObjective(3, target=torch.eye(3, dtype=torch.float64))
    angle = torch.tensor(0.3).double()
    turn = torch.eye(3, dtype=torch.float64)
    turn[0, 0] = turn[1, 1] = angle.cos()
    turn[0, 1], turn[1, 0] = -angle.sin(), angle.sin()
    w = torch.diag(torch.tensor([0.0, 0.0, 2.0], dtype=torch.float64)) + 0.5
    rotated = torch.stack([w, w @ turn, w[[1, 0, 2]]])
    losses = problem.loss(rotated.flatten(1))
    problem_losses_equal = abs(float(losses[0] - losses[2])) < 1e-12
    groups = group_orbits(problem, rotated.flatten(1))
    assert problem_losses_equal
    assert [group.rows for group in groups] == [[], [0, 2], [1]]


@pytest.mark.parametrize(
    ("arguments", "text"), [((1, 5), "k must be"), ((3, 0), "starts must be"), ((3, 2, -1), "seed")]
)
def test_unusable_arguments_are_named(arguments: tuple[int, ...], text: str) -> None:
    with pytest.raises(InvalidArgument, match=text):
        next(find_minima(*arguments))


@pytest.mark.slow
def test_the_fraction_of_non_global_minima_for_eight_neurons() -> None:
    """12.8 % of the seeds 0 to 999 end at the one non-global minimum; other seeds agree within the interval."""
    minima = list(find_minima(8, 400, seed=5000))[-1]
    (low, high), (orbit,) = minima.orbits[1].wilson95, minima.orbits[1:]
    assert low < 0.128 < high and orbit.loss == pytest.approx(0.0215080372, abs=1e-9)
    assert json.loads(json.dumps(minima.to_dict(), allow_nan=False))["distinct"]
