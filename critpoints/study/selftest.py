"""A quick test that the numerics of this installation are right on this machine."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch

from critpoints.kernels import reference, select
from critpoints.objectives.teacher_student import TeacherStudent

# of the seed study's labels
MEAN_SQUARE, LARGEST = 0.1291476449312254, 0.582834113234648


@dataclass(frozen=True)
class Check:
    """One property: the largest violation found and the largest admissible one, both relative."""

    name: str
    error: float
    tolerance: float

    @property
    def ok(self) -> bool:
        """Whether the property holds; not if the error is NaN."""
        return self.error <= self.tolerance


def run_checks(device: str = "cpu") -> list[Check]:
    """Runs the self-test: labels, kernels against their reference, derivatives against finite differences."""
    problem = TeacherStudent.grid(device=device)
    theta = problem.init(5, range(4))
    return [
        Check("labels of the seed study: mean square", _relative(problem.y.square().mean(), MEAN_SQUARE), 1e-14),
        Check("labels of the seed study: largest", _relative(problem.y.abs().max(), LARGEST), 1e-14),
        *_kernel_checks(problem, theta),
        Check("gradient against finite differences", _gradient_error(problem, theta), 1e-7),
        Check("Hessian against finite differences", _hessian_error(problem, theta), 1e-7),
    ]


def _relative(value: torch.Tensor, expected: torch.Tensor | float) -> float:
    reference = torch.as_tensor(expected, dtype=value.dtype, device=value.device)
    return float((value - reference).abs().max() / reference.abs().max())


def _kernel_checks(problem: TeacherStudent, theta: torch.Tensor) -> list[Check]:
    fast = select(problem.device, problem.dtype).derivatives(problem.samples, theta)
    slow = reference.derivatives(problem.samples, theta)
    names = ("loss", "gradient", "hessian")
    return [
        Check(f"kernels against reference: {name}", _relative(getattr(fast, name), getattr(slow, name)), 1e-12)
        for name in names
    ]


def _differences(function: Callable[[torch.Tensor], torch.Tensor], theta: torch.Tensor) -> torch.Tensor:
    """Central differences of ``function`` along every parameter, the parameters on the last axis."""
    h = 1e-5
    steps = h * torch.eye(theta.shape[-1]).to(theta)
    return torch.stack([(function(theta + step) - function(theta - step)) / (2 * h) for step in steps], dim=-1)


def _gradient_error(problem: TeacherStudent, theta: torch.Tensor) -> float:
    return _relative(problem.gradient(theta), _differences(problem.loss, theta))


def _hessian_error(problem: TeacherStudent, theta: torch.Tensor) -> float:
    return _relative(problem.hessian(theta), _differences(problem.gradient, theta))
