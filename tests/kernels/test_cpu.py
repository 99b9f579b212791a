"""The compiled CPU kernels: equal to the reference, symmetric as the network is, the same bits in any company."""

import os
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from two_layer_cases import EPS, OPTIONS, Case, all_sizes, sizes_of_terms

from critpoints.activations import ACTIVATIONS
from critpoints.kernels import cpu, reference
from critpoints.kernels.samples import Samples
from critpoints.kernels.types import Derivatives
from critpoints.objectives.two_layer import TwoLayerObjective

TOLERANCE = 1024 * EPS  # of the sum of absolute terms, of which there are hundreds
every_activation = pytest.mark.parametrize("activation", ACTIVATIONS)
ODD = [name for name, a in ACTIVATIONS.items() if a.reflection == 0]


def assert_close(given: torch.Tensor, expected: torch.Tensor, size: torch.Tensor) -> None:
    """Equal up to the rounding of terms whose absolute values sum up to ``size``."""
    excess = (given - expected).abs() - TOLERANCE * size
    assert float(excess.max()) <= 0, f"off by {float((given - expected).abs().max()):.2e}"


def assert_equal_up_to_rounding(problem: TwoLayerObjective, theta: torch.Tensor) -> None:
    """Compiled kernels and reference on the same samples, relative to the sums of absolute terms."""
    samples = problem.samples
    compiled, plain = cpu.derivatives(samples, theta), reference.derivatives(samples, theta)
    size = sizes_of_terms(problem, theta)
    assert_close(compiled.loss, plain.loss, size.loss)
    assert_close(compiled.gradient, plain.gradient, size.gradient)
    assert_close(compiled.hessian, plain.hessian, size.hessian)
    assert_close(compiled.absolute, plain.absolute, plain.absolute)
    assert torch.equal(compiled.hessian, compiled.hessian.mT)
    for kernels in (cpu, reference):
        loss, gradient = kernels.loss_and_gradient(samples, theta)
        assert_close(loss, plain.loss, size.loss)
        assert_close(gradient, plain.gradient, size.gradient)


@every_activation
def test_equal_to_the_reference_for_every_size(activation: str) -> None:
    for case in all_sizes(activation):
        assert_equal_up_to_rounding(case.problem(), case.theta())


@pytest.mark.parametrize("hidden_bias, output_bias, weighted", OPTIONS)
@every_activation
def test_equal_to_the_reference_on_several_blocks_of_samples(
    activation: str, hidden_bias: bool, output_bias: bool, weighted: bool
) -> None:
    case = Case(activation, 4, 2, hidden_bias, output_bias, weighted, n=2 * cpu.BLOCK + 5)
    assert_equal_up_to_rounding(case.problem(), case.theta())


@pytest.mark.parametrize("output_bias", [False, True])
@pytest.mark.parametrize("activation", [name for name, a in ACTIVATIONS.items() if a.reflection is not None])
def test_equal_to_the_reference_on_mirrored_data(activation: str, output_bias: bool) -> None:
    for width, d in ((1, 1), (3, 2), (5, 3), (8, 5)):
        case = Case(activation, width, d, output_bias=output_bias, weighted=width > 3, mirrored=True)
        assert case.problem().samples.halved
        assert_equal_up_to_rounding(case.problem(), case.theta())


cases = st.builds(
    Case,
    activation=st.sampled_from(sorted(ACTIVATIONS)),
    width=st.integers(1, 8),
    d=st.integers(1, 5),
    hidden_bias=st.booleans(),
    output_bias=st.booleans(),
    weighted=st.booleans(),
    seed=st.integers(0, 1000),
)


def rearranged(problem: TwoLayerObjective, theta: torch.Tensor, order: list[int], sign: float = 1.0) -> torch.Tensor:
    """Students with their neurons in another order, and their weights times a sign."""
    w, a = problem.split(theta)
    return torch.cat(
        [sign * w[:, order].flatten(1), sign * a[:, order], theta[:, problem.width(theta) * (w.shape[2] + 1) :]], 1
    )


@settings(max_examples=60)
@given(case=cases, data=st.data())
def test_permuting_neurons_permutes_gradient_and_hessian(case: Case, data: st.DataObject) -> None:
    problem, theta = case.problem(), case.theta()
    order = data.draw(st.permutations(range(case.width)))
    places = rearranged(problem, torch.arange(theta.shape[1], dtype=torch.float64).unsqueeze(0), order)[0].long()
    before = cpu.derivatives(problem.samples, theta)
    after = cpu.derivatives(problem.samples, theta[:, places])
    size = sizes_of_terms(problem, theta)
    assert_close(after.loss, before.loss, size.loss)
    assert_close(after.gradient, before.gradient[:, places], size.gradient[:, places])
    assert_close(after.hessian, *(t[:, places][:, :, places] for t in (before.hessian, size.hessian)))


@settings(max_examples=40)
@given(case=cases, mirrored=st.booleans(), activation=st.sampled_from(ODD))
def test_flipping_every_neuron_of_an_odd_activation_changes_nothing_at_all(
    case: Case, mirrored: bool, activation: str
) -> None:
    case = replace(case, activation=activation, mirrored=mirrored and not case.hidden_bias)
    problem, theta = case.problem(), case.theta()
    flipped = rearranged(problem, theta, list(range(case.width)), -1.0)
    before, after = cpu.derivatives(problem.samples, theta), cpu.derivatives(problem.samples, flipped)
    sign = rearranged(problem, torch.ones(1, theta.shape[1], dtype=torch.float64), list(range(case.width)), -1.0)
    assert torch.equal(after.loss, before.loss)
    assert torch.equal(after.gradient, sign * before.gradient)
    assert torch.equal(after.hessian, sign.unsqueeze(-1) * sign.unsqueeze(-2) * before.hessian)


@settings(max_examples=40)
@given(case=cases, data=st.data())
def test_flipping_sigmoid_neurons_lowers_the_output_by_their_weights(case: Case, data: st.DataObject) -> None:
    """a s(w.x) becomes -a s(-w.x) = a s(w.x) - a: the same residuals once the labels are lowered by that sum."""
    case = replace(case, activation="sigmoid", rows=1)
    problem, theta = case.problem(), case.theta()
    flips = torch.tensor(data.draw(st.lists(st.sampled_from([1.0, -1.0]), min_size=case.width, max_size=case.width)))
    w, a = problem.split(theta)
    rest = theta[:, problem.width(theta) * (w.shape[2] + 1) :]
    flipped = torch.cat([(flips.unsqueeze(-1) * w).flatten(1), flips * a, rest], 1)
    x, y, q = case.data()
    lowered = y - float(a[0][flips < 0].sum())
    other = TwoLayerObjective(
        x, lowered, "sigmoid", sample_weight=q, hidden_bias=case.hidden_bias, output_bias=case.output_bias
    )
    before, after = cpu.derivatives(problem.samples, theta), cpu.derivatives(other.samples, flipped)
    sizes = [sizes_of_terms(p, t) for p, t in ((problem, theta), (other, flipped))]
    assert_close(after.loss, before.loss, sizes[0].loss + sizes[1].loss)
    # df/dw changes sign with w; df/da, s(w.x), becomes 1 - s(w.x)
    total = 2 * (problem.sample_weight * (problem.predict(theta) - y)).sum()
    dw, da = problem.split(before.gradient)
    da = torch.where(flips < 0, total - da, da)
    expected = torch.cat(
        [(flips.unsqueeze(-1) * dw).flatten(1), da, before.gradient[:, theta.shape[1] - rest.shape[1] :]], 1
    )
    assert_close(after.gradient, expected, sizes[0].gradient + sizes[1].gradient + sizes[0].gradient[:, -1:])


def everything(samples: Samples, theta: torch.Tensor) -> list[torch.Tensor]:
    d: Derivatives = cpu.derivatives(samples, theta)
    return [*cpu.loss_and_gradient(samples, theta), d.loss, d.gradient, d.hessian, d.absolute]


@pytest.mark.parametrize("mirrored", [False, True])
@every_activation
def test_a_row_has_the_same_bits_alone_and_in_any_batch(activation: str, mirrored: bool) -> None:
    case = Case(activation, 5, 3, output_bias=True, mirrored=mirrored, n=450, rows=13)
    samples, theta = case.problem().samples, case.theta()
    together = everything(samples, theta)
    for size in (1, 2, 5):
        parts = [everything(samples, part) for part in theta.split(size)]
        for whole, pieces in zip(together, zip(*parts, strict=True), strict=True):
            assert torch.equal(whole, torch.cat(pieces))


@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize("place", [0, 7, -1])
@every_activation
def test_a_bad_parameter_spoils_its_own_row_visibly_and_no_other(activation: str, place: int, bad: float) -> None:
    case = Case(activation, 3, 2, output_bias=True, rows=4)
    samples, theta = case.problem().samples, case.theta()
    intact = everything(samples, theta)
    theta[1, place] = bad
    for before, after in zip(intact, everything(samples, theta), strict=True):
        assert torch.equal(before[[0, 2, 3]], after[[0, 2, 3]])
    loss, gradient = cpu.loss_and_gradient(samples, theta)
    assert not torch.isfinite(loss[1])
    assert not torch.isfinite(gradient[1]).any()


THREADS = """
import hashlib, sys
import numba, torch
from critpoints.kernels import cpu
from critpoints.kernels.types import AdamRun
from critpoints.objectives.teacher_student import TeacherStudent
torch.set_num_threads(2)
numba.set_num_threads(int(sys.argv[1]))
problem = TeacherStudent.grid(mirror=False)
theta = problem.init(5, range(9))
run = AdamRun.start(theta)
steps = torch.arange(1, 21, dtype=torch.float64)
schedule = torch.stack([torch.full_like(steps, 1e-2), 1 - 0.9**steps, 1 - 0.999**steps], 1)
cpu.adam(problem.samples, run, schedule, (0.9, 0.999), 1e-8)
d = cpu.derivatives(problem.samples, theta)
results = (*cpu.loss_and_gradient(problem.samples, theta), d.loss, d.gradient, d.hessian, d.absolute, run.theta)
print(numba.get_num_threads(), *(hashlib.sha256(r.numpy().tobytes()).hexdigest() for r in results))
"""


def test_results_do_not_depend_on_the_number_of_threads() -> None:
    reports = []
    for threads in ("1", "2"):
        finished = subprocess.run(
            [sys.executable, "-c", THREADS, threads],
            env={**os.environ, "NUMBA_NUM_THREADS": "2"},
            capture_output=True,
            text=True,
            stdin=subprocess.DEVNULL,
            timeout=300,
        )
        assert finished.returncode == 0, finished.stderr
        used, *hashes = finished.stdout.split()
        assert used == threads
        reports.append(hashes)
    assert len(reports[0]) == 7
    assert reports[0] == reports[1]
