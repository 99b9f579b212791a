"""The kernels on a GPU (Triton): one program a student, data in cache, thousands of Adam steps in one launch.

The same signature as ``cpu``, in float64 and float32, and several widths in one launch. Every row is computed by one
program, whose order of additions depends on its width and the data alone. ``TRITON_INTERPRET=1``, set before the first
import, runs the same kernels on the CPU, slowly. Importing this module needs Triton, but no GPU.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import torch
import triton
from torch import Tensor

from critpoints.kernels import reference
from critpoints.kernels.gpu_gradient import adam_kernel, gradient_kernel
from critpoints.kernels.gpu_hessian import hessian_kernel, residual_kernel
from critpoints.kernels.samples import Samples
from critpoints.kernels.types import AdamRun, Derivatives

MAX_WIDTH, MAX_INPUTS, MAX_HESSIAN = 64, 8, 200  # larger students are left to the torch kernels
NARROW_PARAMETERS = 24  # up to here a student's running sums fit in registers
# Samples that a program takes at a time, and its warps: they fix the order of additions, and so the bits of a row.
NARROW_BLOCK, NARROW_WARPS = 64, 1
HEAVY_BLOCK = 32  # where the activation takes so many registers that running sums would be spilled
HEAVY = ("erf", "softplus_sigmoid", "gelu")
WIDE_BLOCK, WIDE_WARPS = 256, 4
TILE, TILE_BLOCK, TILE_WARPS = 16, 16, 4


@dataclass(frozen=True)
class Launch:
    """What a launch of the gradient and Adam kernels fixes at compilation; see ``gpu_gradient.evaluate``."""

    constants: dict[str, Any]
    warps: int

    @property
    def block(self) -> int:
        """Samples that a program takes at a time."""
        return self.constants["BLOCK"]


def is_narrow(samples: Samples, width: int) -> bool:
    """Whether a student of this width is computed by the kernel for narrow ones."""
    return width * (samples.inputs.shape[0] + 1) <= NARROW_PARAMETERS


def supports(samples: Samples, width: int) -> bool:
    """Whether the compiled kernels take students of this width on these data."""
    return width <= MAX_WIDTH and samples.inputs.shape[0] <= MAX_INPUTS


def _variant(samples: Samples) -> dict[str, Any]:
    return {
        "D": samples.inputs.shape[0],
        "CODE": samples.activation.code,
        "CENTRED": samples.centre != 0.0,
        "HALVED": samples.halved,
        "OUTPUT_BIAS": samples.output_bias,
    }


def _narrow_block(samples: Samples) -> int:
    """Not a matter of the widths in a launch: a row's bits must not depend on its neighbours."""
    return HEAVY_BLOCK if samples.activation.name in HEAVY else NARROW_BLOCK


def plan(samples: Samples, widths: Sequence[int]) -> Launch:
    """The launch for rows of these widths, which must be all narrow or all wide."""
    largest, narrow = max(widths), is_narrow(samples, max(widths))
    n_parameters = largest * (samples.inputs.shape[0] + 1) + int(samples.output_bias)
    constants = {
        "WIDTH": largest if narrow else 0,
        "EXACT": narrow and min(widths) == largest,
        **_variant(samples),
        "BLOCK": _narrow_block(samples) if narrow else WIDE_BLOCK,
        "WIDTH_PAD": triton.next_power_of_2(largest),
        "P_PAD": triton.next_power_of_2(n_parameters),
    }
    return Launch(constants, NARROW_WARPS if narrow else WIDE_WARPS)


@dataclass(frozen=True)
class _Data:
    """The samples as the kernels read them, padded to whole blocks with samples of weight 0."""

    inputs: Tensor
    targets: Tensor
    weights: Tensor
    constants: Tensor

    @classmethod
    def of(cls, samples: Samples, block: int, extra: Sequence[float] = ()) -> _Data:
        padding = -samples.inputs.shape[1] % block
        inputs, targets, weights = (
            torch.nn.functional.pad(t, (0, padding)) for t in (samples.inputs, samples.targets, samples.weights)
        )
        numbers = [samples.reflection, samples.shift, samples.balance_weight, *extra, *[0.0] * (3 - len(extra))]
        constants = torch.tensor(numbers, dtype=torch.float64, device=samples.inputs.device)
        return cls(inputs, targets, weights, constants)

    @property
    def count(self) -> int:
        return self.inputs.shape[1]


def _on(tensor: Tensor) -> Any:
    """Triton launches on the current device, which need not be the tensor's."""
    return torch.cuda.device(tensor.device) if tensor.is_cuda else nullcontext()


def _start(kernel: Any, grid: tuple[Any, ...], *arguments: Any, warps: int, **constants: Any) -> None:
    # contraction would be the compiler's choice, and differ from one variant of a kernel to the next
    kernel[grid](*arguments, **constants, num_warps=warps, num_stages=1, enable_fp_fusion=False)


def _layout(runs: Sequence[Tensor], widths: Sequence[int], device: torch.device) -> tuple[Tensor, Tensor]:
    """Where each row begins in the rows of all runs, one after the other, and its width."""
    sizes = torch.cat([torch.full((len(run),), run.shape[1], dtype=torch.int64) for run in runs])
    offsets = torch.nn.functional.pad(sizes.cumsum(0), (1, 0))[:-1]
    counts = torch.cat(
        [torch.full((len(run),), width, dtype=torch.int32) for run, width in zip(runs, widths, strict=True)]
    )
    return offsets.to(device), counts.to(device)


def _scratch(launch: Launch, n_rows: int, data: _Data) -> Tensor:
    """Memory for the residuals of wide students."""
    size = 1 if launch.constants["WIDTH"] else n_rows * data.count
    return torch.empty(size, dtype=data.inputs.dtype, device=data.inputs.device)


def loss_and_gradient(samples: Samples, theta: Tensor) -> tuple[Tensor, Tensor]:
    """Loss (S,) and gradient (S, P) of the rows of ``theta`` (S, P)."""
    width = samples.width(theta.shape[-1])
    if not supports(samples, width) or not len(theta):
        return reference.loss_and_gradient(samples, theta)
    theta = theta.detach().contiguous()
    launch = plan(samples, [width])
    data = _Data.of(samples, launch.block)
    offsets, widths = _layout([theta], [width], theta.device)
    loss, gradient = torch.empty_like(theta[:, 0]), torch.empty_like(theta)
    with _on(theta):
        _start(
            gradient_kernel, (len(theta),), theta, gradient, loss, offsets, widths, data.inputs, data.targets,
            data.weights, _scratch(launch, len(theta), data), data.constants, data.count,
            warps=launch.warps, **launch.constants,
        )  # fmt: skip
    return loss, gradient


def derivatives(samples: Samples, theta: Tensor) -> Derivatives:
    """Loss, gradient, dense Hessian and the gradient's sum of absolute terms."""
    width = samples.width(theta.shape[-1])
    if not supports(samples, width) or theta.shape[-1] > MAX_HESSIAN or not len(theta):
        return reference.derivatives(samples, theta)
    theta = theta.detach().contiguous()
    loss, gradient = loss_and_gradient(samples, theta)
    data = _Data.of(samples, WIDE_BLOCK)
    n_rows, n_parameters = theta.shape
    residual, size = (theta.new_empty(n_rows, data.count) for _ in range(2))
    hessian, absolute = theta.new_empty(n_rows, n_parameters, n_parameters), torch.empty_like(theta)
    variant, n_tiles = _variant(samples), triton.cdiv(n_parameters, TILE)
    with _on(theta):
        _start(
            residual_kernel, (n_rows,), theta, width, data.inputs, data.targets, data.weights, residual, size,
            data.count, n_parameters, warps=WIDE_WARPS, BLOCK=WIDE_BLOCK, **variant,
        )  # fmt: skip
        _start(
            hessian_kernel, (n_rows, n_tiles, n_tiles), theta, width, data.inputs, data.weights, residual, size,
            data.constants, data.count, n_parameters, hessian, absolute, warps=TILE_WARPS, TILE=TILE,
            WIDTH_PAD=triton.next_power_of_2(width), BLOCK=TILE_BLOCK, **variant,
        )  # fmt: skip
    poisoned = torch.where(torch.isfinite(loss), 0.0, loss * float("nan")).to(hessian)[:, None, None]
    # the two triangles add up the same terms in another order; the result is exactly symmetric
    return Derivatives(loss, gradient, hessian.tril() + hessian.tril(-1).mT + poisoned, absolute)


def adam(samples: Samples, run: AdamRun, schedule: Tensor, betas: tuple[float, float], eps: float) -> None:
    """Advances ``run`` in place by ``len(schedule)`` steps; rows that turn non-finite stop where they are."""
    adam_together(samples, [run], schedule, betas, eps)


def adam_together(
    samples: Samples, runs: Sequence[AdamRun], schedule: Tensor, betas: tuple[float, float], eps: float
) -> None:
    """Advances runs of several widths in place, in one launch for the narrow ones and one for the wide ones."""
    groups: dict[str, list[AdamRun]] = {"narrow": [], "wide": []}
    for run in (run for run in runs if len(run.theta)):
        width = samples.width(run.theta.shape[1])
        if supports(samples, width):
            groups["narrow" if is_narrow(samples, width) else "wide"].append(run)
        else:
            reference.adam(samples, run, schedule, betas, eps)
    for group in filter(None, groups.values()):
        _advance(samples, group, schedule, (*betas, eps))


def _advance(samples: Samples, runs: Sequence[AdamRun], schedule: Tensor, options: tuple[float, ...]) -> None:
    device = runs[0].theta.device
    launch = plan(samples, [samples.width(run.theta.shape[1]) for run in runs])
    data = _Data.of(samples, launch.block, options)
    rows = [run.theta for run in runs]
    offsets, widths = _layout(rows, [samples.width(row.shape[1]) for row in rows], device)
    names = ("theta", "first_moment", "second_moment", "failed")
    state = [torch.cat([getattr(run, name).reshape(-1) for run in runs]) for name in names]
    with _on(rows[0]):
        _start(
            adam_kernel, (len(offsets),), *state[:3], torch.empty_like(state[0]), state[3], offsets, widths,
            data.inputs, data.targets, data.weights, _scratch(launch, len(offsets), data), data.constants, data.count,
            schedule.to(device).contiguous(), len(schedule), warps=launch.warps, **launch.constants,
        )  # fmt: skip
    for name, values in zip(names, state, strict=True):
        sizes = [getattr(run, name).numel() for run in runs]
        for run, part in zip(runs, values.split(sizes), strict=True):
            target = getattr(run, name)
            target.copy_(part.view_as(target))
