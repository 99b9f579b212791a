"""Compiles the Triton kernels ahead of time, GPU or not, and says what they need: registers, spills, operations.

What the interpreter cannot show, the compiler does: whether a kernel is valid for a card at all, whether its sums stay
in registers, and how many floating-point instructions a block of samples costs. Triton brings the assembler and the
disassembler that this takes.
"""

from __future__ import annotations

import re
import subprocess
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from triton import knobs
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource, compile

from critpoints.kernels import gpu
from critpoints.kernels.gpu_gradient import adam_kernel, gradient_kernel
from critpoints.kernels.gpu_hessian import hessian_kernel, residual_kernel
from critpoints.kernels.samples import Samples

HOPPER = 90  # compute capability 9.0
_FLOAT64 = {"DFMA": 2, "DADD": 1, "DMUL": 1, "DSETP": 1, "DMMA": 2 * 8 * 8 * 4 // 32}  # operations a lane
_FLOAT32 = {"FFMA": 2, "FADD": 1, "FMUL": 1, "FSETP": 1}
_TYPES = {
    "failed": "*i64", "offsets": "*i64", "widths": "*i32", "constants": "*fp64", "schedule": "*fp64",
    "n": "i32", "n_steps": "i32", "width": "i32", "n_parameters": "i32",
}  # fmt: skip
_INSTRUCTION = re.compile(r"^\s+/\*[0-9a-f]{4,5}\*/\s+(?:@!?U?P\w+\s+)?([A-Z][A-Z0-9_.]*)([^;]*);")
_LABEL = re.compile(r"^\s*\.(L_x_\d+):")


@dataclass(frozen=True)
class Kernel:
    """One compiled variant: a kernel's name, its constants, dtype and warps."""

    name: str
    function: Any
    constants: Mapping[str, Any]
    warps: int
    dtype: str = "fp64"


@dataclass(frozen=True)
class Resources:
    """What a compiled kernel takes of the card.

    Attributes:
        registers: of a thread.
        spilled: bytes of a thread that did not fit into registers.
        shared: bytes of a program.
        instructions: those of the innermost loop with the most floating-point work, by name.
        warps: of a program.
    """

    name: str
    registers: int
    spilled: int
    shared: int
    instructions: Mapping[str, int]
    warps: int

    def operations(self) -> dict[str, int]:
        """Floating-point operations of one turn of that loop, all lanes, a multiply-add counting two."""
        totals = {}
        for name, kinds in (("float64", _FLOAT64), ("float32", _FLOAT32)):
            totals[name] = 32 * self.warps * sum(weight * self.instructions.get(op, 0) for op, weight in kinds.items())
        return totals

    def issues(self) -> int:
        """Float64 instructions of one turn of that loop, a warp's each: what the card's float64 rate bounds."""
        return self.warps * sum(self.instructions.get(op, 0) for op in _FLOAT64)


def adam_variant(samples: Samples, widths: list[int], dtype: str = "fp64") -> Kernel:
    """The Adam kernel as ``gpu.adam_together`` launches it for students of these widths."""
    launch = gpu.plan(samples, widths)
    return Kernel(f"adam, {_label(samples, widths, dtype)}", adam_kernel, launch.constants, launch.warps, dtype)


def _label(samples: Samples, widths: list[int], dtype: str) -> str:
    data = "mirrored" if samples.halved else "full data"
    return f"width {'-'.join(map(str, sorted({min(widths), max(widths)})))}, {samples.activation.name}, {data}, {dtype}"


def every_variant(samples: Samples, widths: list[int], dtype: str = "fp64") -> Iterator[Kernel]:
    """All kernels for students of these widths on these samples."""
    variant, launch = gpu._variant(samples), gpu.plan(samples, widths)
    pad = launch.constants["WIDTH_PAD"]
    label = _label(samples, widths, dtype)
    yield adam_variant(samples, widths, dtype)
    yield Kernel(f"gradient, {label}", gradient_kernel, launch.constants, launch.warps, dtype)
    constants = {**variant, "BLOCK": gpu.WIDE_BLOCK}
    yield Kernel(f"residual, {label}", residual_kernel, constants, gpu.WIDE_WARPS, dtype)
    constants = {**variant, "WIDTH_PAD": pad, "TILE": gpu.TILE, "BLOCK": gpu.TILE_BLOCK}
    yield Kernel(f"hessian, {label}", hessian_kernel, constants, gpu.TILE_WARPS, dtype)


def compile_kernel(kernel: Kernel, capability: int = HOPPER) -> Any:
    """The kernel for cards of this compute capability (90 for 9.0), as Triton's compiled object."""
    signature = {}
    for name in kernel.function.arg_names:
        signature[name] = "constexpr" if name in kernel.constants else _TYPES.get(name, f"*{kernel.dtype}")
    # as at a launch: torch aligns its memory, and the number of samples is padded to whole blocks
    aligned = {
        (i,): [["tt.divisibility", 16]]
        for i, (name, kind) in enumerate(signature.items())
        if kind.startswith("*") or name == "n"
    }
    source = ASTSource(kernel.function, signature, dict(kernel.constants), aligned)
    options = {"num_warps": kernel.warps, "num_stages": 1, "enable_fp_fusion": False}
    return compile(source, target=GPUTarget("cuda", capability, 32), options=options)


def resources(kernel: Kernel, capability: int = HOPPER) -> Resources:
    """Compiles a kernel and reads what it takes from the machine code."""
    compiled = compile_kernel(kernel, capability)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "kernel.cubin"
        path.write_bytes(compiled.asm["cubin"])
        usage = _output(knobs.nvidia.cuobjdump.path, "-res-usage", str(path))
        code = _output(knobs.nvidia.nvdisasm.path, "-c", str(path))
    found = {key: int(value) for key, value in re.findall(r"(REG|STACK|LOCAL):(\d+)", usage)}
    return Resources(
        kernel.name,
        found["REG"],
        found["STACK"] + found["LOCAL"],
        compiled.metadata.shared,
        busiest_loop(code),
        kernel.warps,
    )


def _output(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def busiest_loop(code: str) -> dict[str, int]:
    """The instructions of the innermost loop with the most floating-point ones, by name without modifiers."""
    names, arguments, labels = [], [], {}
    for line in code.splitlines():
        if label := _LABEL.match(line):
            labels[label[1]] = len(names)
        elif instruction := _INSTRUCTION.match(line):
            names.append(instruction[1].partition(".")[0])
            arguments.append(instruction[2])
    loops = []
    for i, (name, argument) in enumerate(zip(names, arguments, strict=True)):
        target = re.search(r"L_x_\d+", argument) if name == "BRA" else None
        if target and labels.get(target[0], i) < i:
            loops.append((labels[target[0]], i))
    inner = [a for a in loops if not any(a != b and a[0] <= b[0] and b[1] <= a[1] for b in loops)]
    counts = [Counter(names[first : last + 1]) for first, last in inner]
    work = {**_FLOAT64, **_FLOAT32}
    return dict(max(counts, key=lambda count: sum(count[name] for name in work), default=Counter()))
