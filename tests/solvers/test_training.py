"""train: Adam's bookkeeping, schedules, snapshots; gradient flow against the closed form of a linear one."""

import math

import pytest
import torch

import critpoints as cp
from critpoints.errors import Status
from critpoints.objectives.base import Objective
from critpoints.solvers.training import log_spaced_steps


class Bowl(Objective):
    """1/2 sum_i c_i x_i^2, whose flow is x_i(t) = exp(-c_i t) x_i(0)."""

    dim = 2
    curvatures = torch.tensor([1.0, 0.1], dtype=torch.float64)

    def loss(self, theta):
        return 0.5 * (self.curvatures * theta**2).sum(-1)


def test_adam_equals_torch_on_a_students_loss():
    problem = cp.TeacherStudent.gaussian(50, 3, activation="tanh")
    theta0 = problem.init(4, [7])
    trained = cp.train(problem, theta0, lr=1e-3, steps=137)
    rival = theta0.clone().requires_grad_()
    optimiser = torch.optim.Adam([rival], lr=1e-3)
    for _ in range(137):
        optimiser.zero_grad()
        problem.loss(rival).sum().backward()
        optimiser.step()
    assert torch.allclose(trained.theta, rival.detach(), rtol=0, atol=1e-12)


def test_adam_on_any_objective_equals_torch():
    theta0 = torch.tensor([[1.0, -2.0]], dtype=torch.float64)
    trained = cp.train(Bowl(), theta0, lr=1e-2, steps=50)
    rival = theta0.clone().requires_grad_()
    optimiser = torch.optim.Adam([rival], lr=1e-2)
    for _ in range(50):
        optimiser.zero_grad()
        Bowl().loss(rival).sum().backward()
        optimiser.step()
    assert torch.allclose(trained.theta, rival.detach(), rtol=0, atol=1e-13)


def test_a_schedule_multiplies_the_learning_rate_step_by_step():
    problem, steps = cp.TeacherStudent.grid(), 30
    theta0 = problem.init(5, [1])
    halved = cp.train(problem, theta0, lr=2e-3, steps=steps, schedule=lambda step: 0.5)
    assert torch.equal(halved.theta, cp.train(problem, theta0, lr=1e-3, steps=steps).theta)
    stopped = cp.train(problem, theta0, lr=1e-3, steps=steps, schedule=lambda step: float(step < 10))
    assert torch.equal(stopped.theta, cp.train(problem, theta0, lr=1e-3, steps=10).theta)


def test_snapshots_are_the_states_of_shorter_runs():
    problem = cp.TeacherStudent.grid()
    theta0 = problem.init(5, range(2))
    trained = cp.train(problem, theta0, steps=1200, record=4)
    assert trained.trajectory_steps == tuple(log_spaced_steps(1200, 4))
    assert torch.equal(trained.trajectory[0], theta0)
    middle = trained.trajectory_steps[2]
    assert torch.equal(trained.trajectory[2], cp.train(problem, theta0, steps=middle).theta)
    assert torch.equal(trained.trajectory[-1], trained.theta)


def test_several_widths_in_one_call_are_the_single_widths():
    problem = cp.TeacherStudent.grid()
    blocks = {width: problem.init(width, range(2)) for width in (3, 6)}
    together = cp.train(problem, blocks, steps=20)
    assert all(torch.equal(together[w].theta, cp.train(problem, blocks[w], steps=20).theta) for w in blocks)


@pytest.mark.parametrize("integrator_time", [3.0, 50.0])
def test_gradient_flow_follows_the_closed_form(integrator_time):
    start = torch.tensor([[1.0, -2.0], [0.3, 0.7]], dtype=torch.float64)
    trained = cp.train(Bowl(), start, method="gradient-flow", time=integrator_time, record=5)
    exact = start * torch.exp(-Bowl.curvatures * integrator_time)
    assert torch.allclose(trained.theta, exact, atol=1e-5)
    times = torch.tensor(trained.trajectory_steps, dtype=torch.float64)
    path = start[0] * torch.exp(-Bowl.curvatures * times.unsqueeze(-1))
    assert torch.allclose(trained.trajectory[:, 0], path, atol=1e-4)


def test_gradient_flow_decreases_the_loss_of_a_student():
    problem = cp.TeacherStudent.grid()
    theta0 = problem.init(5, [0])
    trained = cp.train(problem, theta0, method="gradient-flow", time=1e4)
    assert float(trained.loss[0]) < 1e-2 * float(problem.loss(theta0)[0])
    assert trained.status[0] in (Status.RUNNING, Status.CONVERGED)


def test_a_row_that_turns_non_finite_is_marked_alone():
    problem = cp.TeacherStudent.grid()
    theta0 = problem.init(5, range(3))
    alone = cp.train(problem, theta0[2:], steps=50)
    theta0[1, 3] = math.inf
    trained = cp.train(problem, theta0, steps=50)
    assert trained.status[1] is Status.NON_FINITE
    assert torch.equal(trained.theta[2], alone.theta[0])


@pytest.mark.parametrize(
    ("options", "name"),
    [({"lr": -1.0}, "lr"), ({"lr": math.nan}, "lr"), ({"steps": -1}, "steps"), ({"betas": (0.9, 1.0)}, "betas"),
     ({"eps": 0.0}, "eps"), ({"record": -1}, "record"), ({"method": "sgd"}, "method"),
     ({"method": "gradient-flow", "time": 0.0}, "time")],
)  # fmt: skip
def test_bad_options_name_the_argument(options, name):
    problem = cp.TeacherStudent.grid()
    with pytest.raises(cp.InvalidArgument, match=name):
        cp.train(problem, problem.init(5, [0]), **options)


def test_several_widths_are_trained_by_the_same_steps_as_alone():
    problem, calls = cp.TeacherStudent.grid(), []
    starts = {width: problem.init(width, range(2)) for width in (3, 5)}
    together = cp.train(problem, starts, lr=1e-2, steps=30, record=3, callback=lambda *done: calls.append(done))
    assert calls[-1] == (30, 30)
    for width, theta0 in starts.items():
        alone = cp.train(problem, theta0, lr=1e-2, steps=30, record=3)
        assert torch.equal(together[width].theta, alone.theta)
        assert torch.equal(together[width].trajectory, alone.trajectory)


def test_a_device_can_be_asked_for_by_name():
    problem = cp.TeacherStudent.grid()
    theta0 = problem.init(2, [0])
    trained = cp.train(problem, theta0, steps=2, device="cpu")
    assert torch.equal(trained.theta, cp.train(problem, theta0, steps=2).theta)
    assert cp.TeacherStudent.grid(device="auto").device.type in ("cpu", "cuda")
    if not torch.cuda.is_available():
        with pytest.raises(cp.errors.DeviceUnavailable, match="no GPU"):
            cp.train(problem, theta0, steps=2, device="cuda")
    with pytest.raises(cp.errors.InvalidArgument, match="a Bowl on cpu cannot be moved to meta"):
        cp.train(Bowl(), torch.ones(1, 2, dtype=torch.float64), steps=2, device="meta")
