"""Adam in the kernels: the trajectory of torch.optim.Adam, in any chunks, with rows that fail alone."""

from types import ModuleType

import pytest
import torch
from two_layer_cases import EPS, Case

from critpoints.activations import ACTIVATIONS
from critpoints.kernels import cpu, reference
from critpoints.kernels.types import AdamRun

BETAS, ADAM_EPS = (0.9, 0.999), 1e-8
every_kernel = pytest.mark.parametrize("kernels", [cpu, reference], ids=["cpu", "reference"])


def schedule(steps: int, rate: float = 1e-2) -> torch.Tensor:
    """Learning rates that fall by half, and the bias corrections."""
    t = torch.arange(1, steps + 1, dtype=torch.float64)
    return torch.stack([rate * (1 - t / (2 * steps)), *(1 - beta**t for beta in BETAS)], 1)


def run(kernels: ModuleType, case: Case, theta: torch.Tensor, plan: torch.Tensor, chunks: list[int]) -> AdamRun:
    state = AdamRun.start(theta)
    for part in plan.split(chunks):
        kernels.adam(case.problem().samples, state, part, BETAS, ADAM_EPS)
    return state


def rival(case: Case, theta: torch.Tensor, plan: torch.Tensor) -> torch.Tensor:
    """The same steps by torch.optim.Adam on the plain loss, one student after the other."""
    rows = []
    for row in theta:
        point = row.clone().requires_grad_()
        optimiser = torch.optim.Adam([point], lr=1.0, betas=BETAS, eps=ADAM_EPS, foreach=False)
        for rate in plan[:, 0].tolist():
            optimiser.param_groups[0]["lr"] = rate
            optimiser.zero_grad()
            case.plain_loss(point).backward()
            optimiser.step()
        rows.append(point.detach())
    return torch.stack(rows)


@pytest.mark.parametrize(
    "case",
    [
        Case("sigmoid", 5, 2, rows=2, mirrored=True),
        Case("softplus_sigmoid", 3, 1, hidden_bias=True, output_bias=True, weighted=True, rows=2),
        Case("gelu", 4, 3, rows=2, scale=0.5),
    ],
    ids=lambda case: case.activation,
)
def test_the_trajectory_is_that_of_torch(case: Case) -> None:
    plan, theta = schedule(200), case.theta()
    expected = rival(case, theta, plan)
    assert float((expected - theta).abs().min()) > 1e-3  # it went somewhere
    for kernels in (cpu, reference):
        state = run(kernels, case, theta, plan, [200])
        assert not state.failed.any()
        assert float((state.theta - expected).abs().max()) <= 1e-12  # 200 steps of 1e-2, a few eps of each


@pytest.mark.parametrize("activation", ACTIVATIONS)
@every_kernel
def test_chunks_of_steps_do_not_change_a_bit(kernels: ModuleType, activation: str) -> None:
    case, plan = Case(activation, 3, 2, output_bias=True), schedule(30)
    once = run(kernels, case, case.theta(), plan, [30])
    often = run(kernels, case, case.theta(), plan, [1, 7, 22])
    for name in ("theta", "first_moment", "second_moment", "failed"):
        assert torch.equal(getattr(once, name), getattr(often, name))


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_a_row_takes_the_same_steps_alone_and_in_any_batch(activation: str) -> None:
    case, plan = Case(activation, 3, 2, rows=7), schedule(30)
    together = run(cpu, case, case.theta(), plan, [30])
    for size in (1, 3):
        parts = [run(cpu, case, part, plan, [30]).theta for part in case.theta().split(size)]
        assert torch.equal(together.theta, torch.cat(parts))


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
@every_kernel
def test_a_bad_row_is_flagged_and_stays_while_its_neighbours_go_on(kernels: ModuleType, bad: float) -> None:
    case, plan = Case("sigmoid", 3, 2, rows=4), schedule(20)
    good = run(kernels, case, case.theta(), plan, [20])
    theta = case.theta()
    theta[2, 4] = bad
    state = run(kernels, case, theta, plan, [5, 15])
    assert state.failed.tolist() == [0, 0, 1, 0]
    assert torch.equal(state.theta[2].nan_to_num(), theta[2].nan_to_num())
    neighbours = [0, 1, 3]
    for name in ("theta", "first_moment", "second_moment"):
        assert torch.equal(getattr(state, name)[neighbours], getattr(good, name)[neighbours])


@every_kernel
def test_a_row_that_overflows_on_the_way_stops_at_its_last_point(kernels: ModuleType) -> None:
    case, theta = Case("relu", 2, 2, rows=2), Case("relu", 2, 2, rows=2).theta()
    theta[1] *= 1e150  # the loss is finite, its square terms are not
    state = run(kernels, case, theta, schedule(5), [5])
    assert state.failed.tolist() == [0, 1]
    assert torch.equal(state.theta[1], theta[1])
    assert not torch.equal(state.theta[0], theta[0])


@every_kernel
def test_starting_leaves_the_given_students_alone(kernels: ModuleType) -> None:
    case = Case("tanh")
    theta = case.theta()
    run(kernels, case, theta, schedule(3), [3])
    assert torch.equal(theta, case.theta())


def test_no_steps_change_nothing() -> None:
    case = Case("erf")
    state = run(cpu, case, case.theta(), schedule(1)[:0], [0])
    assert torch.equal(state.theta, case.theta())
    assert float(state.second_moment.abs().max()) < EPS
