"""check_objective passes what is sound, and names what is not: each broken objective breaks one property."""

import json
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from critpoints.errors import CritpointsError, InvalidArgument
from critpoints.objectives.base import Objective, SecondOrder
from critpoints.objectives.teacher_student import TeacherStudent
from critpoints.testing import MAX_DENSE, ObjectiveCheckFailed, check_objective


class Sound(Objective):
    """sum_i x_i^4 / 4 + cos(x_1 x_2), with closed forms to break."""

    dim = 3

    def loss(self, theta: Tensor) -> Tensor:
        theta = self.validate(theta)
        return (0.25 * theta**4).sum(-1) + torch.cos(theta[..., 0] * theta[..., 1])

    def gradient(self, theta: Tensor) -> Tensor:
        theta = self.validate(theta)
        slope = -torch.sin(theta[..., 0] * theta[..., 1])
        cross = torch.stack([slope * theta[..., 1], slope * theta[..., 0], torch.zeros_like(slope)], -1)
        return theta**3 + cross

    def loss_and_gradient(self, theta: Tensor) -> tuple[Tensor, Tensor]:
        return self.loss(theta).detach(), self.gradient(theta)


def broken(**methods: Callable) -> Objective:
    """The sound objective with some of its methods replaced."""
    return type("Broken", (Sound,), methods)()


def gradient_of(gradient: Callable) -> Objective:
    """The sound objective with another gradient, in both places."""
    return broken(gradient=gradient, loss_and_gradient=lambda self, t: (self.loss(t).detach(), gradient(self, t)))


def loss_of(loss: Callable) -> Objective:
    """An objective that consists of a loss alone."""
    return type("Broken", (Objective,), {"dim": 3, "loss": loss})()


def mutating_hvp(self: Objective, theta: Tensor, v: Tensor) -> Tensor:
    product = Objective.hvp(self, theta, v)
    v *= 2
    return product


def memory_order(self: Objective, theta: Tensor) -> Tensor:
    """Reads rows where they would lie if theta were contiguous."""
    theta = torch.as_strided(theta, theta.shape, torch.empty(theta.shape).stride(), theta.storage_offset())
    return Sound.gradient(self, theta)


def second_order(change: Callable[[SecondOrder], SecondOrder]) -> Objective:
    return broken(second_order=lambda self, t: change(Objective.second_order(self, t)))


def skew(h: Tensor) -> Tensor:
    """A perturbation of the last bits that is not symmetric."""
    return h * (1 + 1e-15 * torch.ones_like(h).triu(1))


BROKEN = {
    "shape of the loss": (loss_of(lambda self, t: (t**2).sum(-1, keepdim=True)), "loss has shape .* expected"),
    "reduction over rows": (loss_of(lambda self, t: (t**2).sum()), "loss has shape .*over rows"),
    "dtype": (
        broken(hvp=lambda self, t, v: Objective.hvp(self, t, v).float()),
        "hvp is torch.float32 on cpu, expected torch.float64",
    ),
    "infinite at a finite point": (loss_of(lambda self, t: t.log().sum(-1)), "loss is not finite .*logarithms"),
    "mutated theta": (
        broken(loss=lambda self, t: Sound.loss(self, t.clone()) + 0 * t.detach().mul_(1.5).sum(-1)),
        "leaves its arguments unchanged' does not hold: off by .*in-place",
    ),
    "mutated direction": (broken(hvp=mutating_hvp), "hvp leaves its arguments unchanged"),
    "random numbers": (
        loss_of(lambda self, t: (t**2).sum(-1) * (1 + 1e-14 * torch.rand((), dtype=t.dtype))),
        "same bits when asked again.*random numbers",
    ),
    "strides": (gradient_of(memory_order), "gradient.* is the same for a strided view.*contiguous"),
    "coupled rows": (
        loss_of(lambda self, t: (t**2).sum(-1) + 1e-6 * (t.detach() ** 2).sum(-1).mean()),
        "loss of a row is the same alone and in a batch.*means, norms",
    ),
    "NaN that spreads": (
        # a shift that cancels, taken from all rows together
        loss_of(lambda self, t: ((t - t.amax()) ** 2 + 2 * t * t.amax() - t.amax() ** 2).sum(-1)),
        "loss of a row is untouched by NaN in another",
    ),
    "NaN that hides": (loss_of(lambda self, t: (t.nan_to_num() ** 2).sum(-1)), "row with NaN is not finite"),
    "loss of loss_and_gradient": (
        broken(loss_and_gradient=lambda self, t: (0.5 * self.loss(t).detach(), self.gradient(t))),
        "loss of loss_and_gradient equals loss' does not hold: off by .*constant factors",
    ),
    "gradient apart from loss_and_gradient": (
        broken(gradient=lambda self, t: 0.5 * Sound.gradient(self, t), loss_and_gradient=Objective.loss_and_gradient),
        "gradient equals that of loss_and_gradient",
    ),
    "sign in the gradient": (
        gradient_of(lambda self, t: Sound.gradient(self, t) * torch.tensor([1.0, -1.0, 1.0])),
        "gradient equals automatic differentiation of loss' does not hold: off by .*signs",
    ),
    "small error in the gradient": (
        gradient_of(lambda self, t: Sound.gradient(self, t) + 1e-10 * t),
        "gradient equals automatic differentiation of loss",
    ),
    "detached term": (
        loss_of(lambda self, t: (t**2).sum(-1) + (t.detach() ** 2).sum(-1)),
        "gradient equals finite differences of loss' does not hold: off by .*detach",
    ),
    "gradient of a loss without a graph": (
        type(
            "Broken",
            (Sound,),
            {
                "loss": lambda self, t: Sound.loss(self, t.detach()),
                "gradient": lambda self, t: 1.001 * Sound.gradient(self, t),
                "loss_and_gradient": lambda self, t: (self.loss(t), self.gradient(t)),
                "hvp": lambda self, t, v: Objective.hvp(Sound(), t, v),
                "hessian": lambda self, t: Objective.hessian(Sound(), t),
            },
        )(),
        "gradient equals finite differences of loss",
    ),
    "factor in the hvp": (
        broken(hvp=lambda self, t, v: 2 * Objective.hvp(self, t, v)),
        "hvp equals automatic differentiation of loss' does not hold: off by .*factors",
    ),
    "factor in the hessian": (
        broken(hessian=lambda self, t: 2 * Objective.hessian(self, t)),
        "hessian equals automatic differentiation of loss",
    ),
    "asymmetric hessian": (
        broken(hessian=lambda self, t: skew(Objective.hessian(self, t))),
        r"hessian is exactly symmetric' does not hold: off by .*0\.5",
    ),
    "loss of second_order": (
        second_order(lambda s: SecondOrder(2 * s.loss, s.gradient, s.hessian, s.gradient_noise)),
        "loss equals that of second_order",
    ),
    "gradient of second_order": (
        second_order(lambda s: SecondOrder(s.loss, -s.gradient, s.hessian, s.gradient_noise)),
        "gradient equals that of second_order",
    ),
    "hessian of second_order": (
        second_order(lambda s: SecondOrder(s.loss, s.gradient, skew(s.hessian), s.gradient_noise)),
        "hessian of second_order is exactly symmetric",
    ),
    "negative noise": (
        second_order(lambda s: SecondOrder(s.loss, s.gradient, s.hessian, -s.gradient_noise)),
        "gradient_noise is not negative",
    ),
}


@pytest.mark.parametrize(("objective", "complaint"), BROKEN.values(), ids=BROKEN.keys())
def test_a_broken_property_is_named(objective: Objective, complaint: str) -> None:
    with pytest.raises(ObjectiveCheckFailed, match=complaint) as failure:
        check_objective(objective)
    assert isinstance(failure.value, CritpointsError)
    assert "Broken does not pass" in str(failure.value)
    assert "Look at" in str(failure.value)


def test_a_sound_objective_passes_with_small_errors() -> None:
    report = check_objective(Sound())
    assert (report.rows, report.n_parameters, report.skipped, report.batch_dependent) == (4, 3, (), ())
    names = [check.name for check in report.checks]
    assert len(names) == len(set(names)) >= 15
    assert all(check.error <= check.tolerance for check in report.checks)
    errors = {check.name: check.error for check in report.checks}
    assert errors["equals automatic differentiation of loss"] < 1e-14
    assert 0 < errors["equals finite differences of gradient"] < 1e-11
    assert json.loads(json.dumps(report.to_dict()))["n_parameters"] == 3


def test_points_of_the_users_choice_are_used() -> None:
    theta = torch.tensor([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]], dtype=torch.float64)
    kept = theta.clone()
    assert check_objective(loss_of(lambda self, t: t.log().sum(-1)), theta).rows == 2  # finite here
    assert torch.equal(theta, kept)


def test_a_two_layer_objective_needs_no_points() -> None:
    assert check_objective(TeacherStudent.gaussian(30, 2)).n_parameters == 9


@pytest.mark.parametrize(
    ("theta", "complaint"),
    [
        (torch.zeros(3), r"theta must be \(S, P\) with S >= 2, got shape \(3,\)"),
        (torch.zeros(1, 3), "S >= 2"),
        (torch.full((2, 3), torch.nan), "theta must be finite"),
        (torch.zeros(2, 4), "theta must have 3 parameters"),
    ],
)
def test_unusable_points_are_refused(theta: Tensor, complaint: str) -> None:
    with pytest.raises(InvalidArgument, match=complaint):
        check_objective(Sound(), theta)


def test_points_are_asked_for_where_no_size_is_known() -> None:
    objective = loss_of(lambda self, t: (t**2).sum(-1))
    objective.dim = None
    with pytest.raises(InvalidArgument, match="theta must be given"):
        check_objective(objective)
    assert check_objective(objective, torch.ones(2, 5)).n_parameters == 5


def test_bits_that_depend_on_the_batch_are_reported_and_refused_on_request() -> None:
    def loss(self: Objective, t: Tensor) -> Tensor:
        return (t**2).sum(-1) * (1 + 1e-15 * len(t.reshape(-1, 3)))

    assert "loss" in check_objective(loss_of(loss)).batch_dependent
    with pytest.raises(ObjectiveCheckFailed, match=r"same alone and in a batch.*batch_rtol"):
        check_objective(loss_of(loss), batch_rtol=0.0)


def test_kinks_are_met_with_one_small_step() -> None:
    def loss(self: Objective, t: Tensor) -> Tensor:
        return (t.unsqueeze(-1) - torch.linspace(-3, 3, 4001, dtype=t.dtype)).abs().mean(-1).sum(-1)

    assert check_objective(loss_of(loss), smooth=False).skipped == ()
    with pytest.raises(ObjectiveCheckFailed, match=r"finite differences of loss.*pass smooth=False"):
        check_objective(loss_of(loss))


def test_a_loss_without_a_graph_is_compared_with_differences_alone() -> None:
    class Compiled(Sound):
        def loss(self, theta: Tensor) -> Tensor:
            return Sound.loss(self, theta.detach())

        def hvp(self, theta: Tensor, v: Tensor) -> Tensor:
            return Objective.hvp(Sound(), theta, v)

        def hessian(self, theta: Tensor) -> Tensor:
            return Objective.hessian(Sound(), theta)

    assert check_objective(Compiled()).skipped == ("automatic differentiation: loss has no graph",)


def test_a_large_objective_is_checked_without_its_hessian() -> None:
    objective = loss_of(lambda self, t: (t**4).sum(-1))
    objective.dim = MAX_DENSE + 1
    objective.hessian = lambda theta: pytest.fail("the dense Hessian was asked for")
    assert "above max_dense" in check_objective(objective).skipped[0]


def test_single_precision_is_judged_by_its_own_rounding() -> None:
    class Narrow(Sound):
        dtype = torch.float32

    tolerances = {check.name: check.tolerance for check in check_objective(Narrow()).checks}
    assert 1e-5 < tolerances["equals automatic differentiation of loss"] < 1e-3
    with pytest.raises(ObjectiveCheckFailed, match="tolerance 1e-09"):
        check_objective(Narrow(), rtol=1e-9)
