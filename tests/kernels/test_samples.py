"""Prepared samples: padding counts for nothing; mirrored data are found and halved exactly, others left alone."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from two_layer_cases import EPS, Case, sizes_of_terms

from critpoints.activations import ACTIVATIONS
from critpoints.kernels import cpu, reference
from critpoints.kernels.samples import LANES, prepare
from critpoints.objectives.teacher_student import TeacherStudent

TOLERANCE = 1024 * EPS  # of the sum of absolute terms
REFLECTING = [name for name, a in ACTIVATIONS.items() if a.reflection is not None]


@settings(max_examples=60)
@given(
    case=st.builds(
        Case,
        activation=st.sampled_from(REFLECTING),
        width=st.integers(1, 8),
        d=st.integers(1, 5),
        output_bias=st.booleans(),
        weighted=st.booleans(),
        scale=st.sampled_from([1.0, 0.5]),
        n=st.integers(1, 60),
        seed=st.integers(0, 1000),
        mirrored=st.just(True),
    )
)
def test_half_of_mirrored_data_is_worth_all_of_it(case: Case) -> None:
    theta, half, full = case.theta(), case.problem().samples, case.problem(mirror=False).samples
    assert half.halved
    assert not full.halved
    assert half.count == full.count == 2 * case.n
    assert half.inputs.shape[1] - full.inputs.shape[1] / 2 < LANES
    size = sizes_of_terms(case.problem(), theta)
    for kernels in (cpu, reference):
        halved, whole = kernels.derivatives(half, theta), kernels.derivatives(full, theta)
        for name in ("loss", "gradient", "hessian"):
            gap = (getattr(halved, name) - getattr(whole, name)).abs()
            assert bool((gap <= TOLERANCE * getattr(size, name)).all()), name


@pytest.mark.parametrize("activation", REFLECTING)
def test_the_origin_is_its_own_mirror_image(activation: str) -> None:
    case = Case(activation, mirrored=True, n=7)
    x, y, _ = case.data()
    y = y - 0.35 if ACTIVATIONS[activation].reflection else y  # so that c = 0, and the origin's label is c/2 = 0
    x, y = torch.cat([x, torch.zeros(1, 2, dtype=x.dtype)]), torch.cat([y, torch.zeros(1, dtype=y.dtype)])
    q = torch.linspace(1, 2, 7, dtype=x.dtype).repeat(2)
    q = torch.cat([q, torch.tensor([5.0], dtype=x.dtype)])
    half = prepare(x, y, q, ACTIVATIONS[activation])
    assert half.halved
    assert int((half.weights > 0).sum()) == 8
    assert float(half.weights.sum()) == pytest.approx(float(q.sum()), rel=8 * EPS)
    whole = prepare(x, y, q, ACTIVATIONS[activation], mirror=False)
    theta = case.theta()
    torch.testing.assert_close(cpu.derivatives(half, theta).hessian, cpu.derivatives(whole, theta).hessian)
    torch.testing.assert_close(*(cpu.loss_and_gradient(samples, theta)[0] for samples in (half, whole)))


def test_the_grid_of_a_sigmoid_teacher_is_halved() -> None:
    samples = TeacherStudent.grid().samples
    assert (samples.count, int((samples.weights > 0).sum()), samples.halved) == (1681, 841, True)


def spoil_a_label(x: torch.Tensor, y: torch.Tensor, q: torch.Tensor) -> None:
    y[3] += 1e-12


def spoil_a_point(x: torch.Tensor, y: torch.Tensor, q: torch.Tensor) -> None:
    x[3, 0] *= 1 + EPS


def spoil_a_weight(x: torch.Tensor, y: torch.Tensor, q: torch.Tensor) -> None:
    q[3] *= 1 + EPS


def repeat_a_point(x: torch.Tensor, y: torch.Tensor, q: torch.Tensor) -> None:
    half = len(x) // 2
    x[3], x[3 + half] = x[0].clone(), x[half].clone()


@pytest.mark.parametrize("activation", REFLECTING)
@pytest.mark.parametrize("spoil", [spoil_a_label, spoil_a_point, spoil_a_weight, repeat_a_point])
def test_data_that_are_not_quite_mirrored_are_kept_whole(spoil, activation: str) -> None:
    x, y, q = Case(activation, mirrored=True, weighted=True).data()
    assert prepare(x, y, q, ACTIVATIONS[activation]).halved
    spoil(x, y, q)
    assert not prepare(x, y, q, ACTIVATIONS[activation]).halved


@pytest.mark.parametrize("activation", sorted(ACTIVATIONS.keys() - set(REFLECTING)))
def test_mirrored_data_are_kept_whole_where_the_activation_has_no_parity(activation: str) -> None:
    assert not Case(activation, mirrored=True).problem().samples.halved


def test_hidden_biases_break_the_mirror() -> None:
    assert not Case("tanh", mirrored=True, hidden_bias=True).problem().samples.halved


def test_labels_may_miss_the_symmetry_by_their_own_rounding() -> None:
    x, y, q = Case("sigmoid", mirrored=True, weighted=True).data()
    y = y + EPS * y.abs().max() * torch.randn(len(y), generator=torch.Generator().manual_seed(0)).clamp(-2, 2)
    assert prepare(x, y, q, ACTIVATIONS["sigmoid"]).halved


@pytest.mark.parametrize("n", [1, LANES - 1, LANES, LANES + 1])
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_padding_has_no_weight(activation: str, n: int) -> None:
    case = Case(activation, n=n, output_bias=True)
    samples, theta = case.problem().samples, case.theta()
    assert samples.inputs.shape[1] % LANES == 0
    assert float(samples.weights.sum()) == pytest.approx(1, abs=8 * EPS)
    for row, loss in zip(theta, cpu.loss_and_gradient(samples, theta)[0], strict=True):
        torch.testing.assert_close(loss, case.plain_loss(row), rtol=TOLERANCE, atol=0)
