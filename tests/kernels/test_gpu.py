"""The GPU kernels without a GPU: interpreted, in a process of their own, and compiled ahead of time for a card."""

import importlib.util
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from critpoints.errors import DeviceUnavailable, InvalidArgument
from critpoints.kernels import reference, select
from critpoints.kernels.devices import resolve_device

if importlib.util.find_spec("triton") is None:
    pytest.skip("triton is not installed", allow_module_level=True)

HERE = Path(__file__).parent
no_gpu = pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")


def run(*command: str, **environment: str) -> str:
    finished = subprocess.run(
        [sys.executable, *command],
        env={**os.environ, **environment},
        cwd=HERE.parents[1],
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        timeout=1800,
    )
    assert finished.returncode == 0, finished.stdout + finished.stderr
    return finished.stdout


@pytest.mark.parametrize("marker", ["not slow", pytest.param("slow", marks=pytest.mark.slow)])
def test_the_kernels_pass_their_tests_in_the_interpreter(marker: str) -> None:
    tests = str(HERE / "interpreted_gpu.py")
    report = run("-m", "pytest", "-q", "-p", "no:cacheprovider", "-m", marker, tests, TRITON_INTERPRET="1")
    passed = re.search(r"(\d+) passed", report)
    assert passed and int(passed[1]) >= (50 if marker == "not slow" else 10), report
    assert "skipped" not in report


COMPILE = """
import json, sys
from critpoints import TeacherStudent
from critpoints.kernels import gpu_compile
found = []
for activation, mirror, widths, dtype in json.loads(sys.argv[1]):
    samples = TeacherStudent.grid(activation, mirror=mirror).samples
    kernels = list(gpu_compile.every_variant(samples, widths, dtype))
    for kernel in kernels if sys.argv[2] == "all" else kernels[:1]:
        r = gpu_compile.resources(kernel)
        found.append([r.name, r.registers, r.spilled, r.shared, r.issues(), r.operations()])
print(json.dumps(found))
"""


def compiled(variants: list, which: str) -> dict[str, dict]:
    keys = ("registers", "spilled", "shared", "issues", "operations")
    # off, in case this process was started with it on: what is interpreted cannot be compiled
    rows = json.loads(run("-c", COMPILE, json.dumps(variants), which, TRITON_INTERPRET="0").splitlines()[-1])
    return {name: dict(zip(keys, values, strict=True)) for name, *values in rows}


def test_the_adam_kernel_of_the_seed_study_compiles_for_hopper_without_spills() -> None:
    (found,) = compiled([["sigmoid", False, [5], "fp64"]], "first").values()
    assert found["registers"] <= 255 and found["spilled"] == 0
    # 10 evaluations of a neuron a lane and turn; a library's exp, or a division with its slow path, take twice this
    assert 10 * 20 <= found["issues"] <= 10 * 36
    assert found["operations"]["float32"] == 0 < found["operations"]["float64"]


LAUNCH = """
import torch
from triton.backends.compiler import GPUTarget
from triton.runtime import driver

class Hopper:
    get_current_target = staticmethod(lambda: GPUTarget("cuda", 90, 32))
    get_current_device = staticmethod(lambda: 0)
    get_current_stream = staticmethod(lambda device=None: 0)

driver.set_active(Hopper())
from critpoints import TeacherStudent
from critpoints.kernels import gpu
from critpoints.kernels.types import AdamRun

def compile_only(kernel, grid, *arguments, warps, **constants):
    options = {"num_warps": warps, "num_stages": 1, "enable_fp_fusion": False}
    compiled = kernel.warmup(*arguments, **constants, grid=grid, **options)
    print(kernel.__name__, len(compiled.asm["cubin"]))

gpu._start = compile_only
problem = TeacherStudent.grid()
for width in (1, 5, 40):
    gpu.derivatives(problem.samples, problem.init(width, range(2)))
    for steps in (1, 16, 1001):
        schedule = torch.ones(steps, 3, dtype=torch.float64)
        gpu.adam(problem.samples, AdamRun.start(problem.init(width, range(2))), schedule, (0.9, 0.999), 1e-8)
runs = [AdamRun.start(problem.init(width, range(2))) for width in (3, 5, 12)]
gpu.adam_together(problem.samples, runs, schedule, (0.9, 0.999), 1e-8)
"""


def test_every_launch_compiles_with_the_arguments_that_it_is_made_with() -> None:
    """Triton compiles anew for an argument of 1 or a multiple of 16, and for the types that tensors really have."""
    launches = [line.split() for line in run("-c", LAUNCH, TRITON_INTERPRET="0").splitlines()]
    assert all(int(size) > 1000 for _, size in launches)
    names = [name for name, _ in launches]
    assert [names.count(f"{name}_kernel") for name in ("gradient", "residual", "hessian", "adam")] == [3, 3, 3, 11]


@pytest.mark.slow
@pytest.mark.parametrize("dtype", ["fp64", "fp32"])
def test_every_kernel_compiles_for_hopper(dtype: str) -> None:
    """All activations, mirrored data, mixed widths and wide students."""
    names = ("sigmoid", "tanh", "erf", "softplus", "softplus_sigmoid", "silu", "gelu", "relu")
    variants = [[name, False, [5], dtype] for name in names]
    variants += [["sigmoid", True, [5], dtype], ["sigmoid", True, [4, 7], dtype], ["tanh", True, [64], dtype]]
    found = compiled(variants, "all")
    for name, resources in found.items():
        assert resources["registers"] <= 255 and resources["shared"] <= 227 * 1024
        print(f"{name}: {resources}")
    assert len(found) == 4 * len(variants)
    spilled = {name: r["spilled"] for name, r in found.items() if r["spilled"]}
    # dear activations and launches of several widths: a few numbers from before the loop over samples
    assert max(spilled.values(), default=0) <= 64
    assert not any(", width 5, sigmoid, " in name for name in spilled), spilled


@no_gpu
def test_a_gpu_that_is_not_there_is_refused_and_auto_takes_the_cpu() -> None:
    assert resolve_device("auto") == resolve_device("cpu") == torch.device("cpu")
    for name in ("cuda", "cuda:1", torch.device("cuda")):
        with pytest.raises(DeviceUnavailable, match=r"torch finds no GPU here .*use --device cpu or auto"):
            resolve_device(name)


def test_a_name_of_no_device_is_refused() -> None:
    with pytest.raises(InvalidArgument, match="device must be cpu, cuda, cuda:1 or the like, or auto, got 'tpu'"):
        resolve_device("tpu")


def test_a_gpu_beyond_the_last_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert resolve_device("auto") == torch.device("cuda")
    assert resolve_device("cuda:1") == torch.device("cuda:1")
    with pytest.raises(DeviceUnavailable, match="there are 2 GPUs"):
        resolve_device("cuda:2")


def test_kernels_are_chosen_by_device_and_dtype() -> None:
    names = {
        (device, dtype): select(torch.device(device), dtype).__name__.rpartition(".")[2]
        for device in ("cpu", "cuda", "meta")
        for dtype in (torch.float64, torch.float32)
    }
    assert names == {
        ("cpu", torch.float64): "cpu",
        ("cpu", torch.float32): "reference",
        ("cuda", torch.float64): "gpu",
        ("cuda", torch.float32): "gpu",
        ("meta", torch.float64): "reference",
        ("meta", torch.float32): "reference",
    }


def test_without_triton_a_gpu_gets_the_torch_kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert select(torch.device("cuda"), torch.float64) is reference


def test_importing_critpoints_does_not_import_triton() -> None:
    program = "import sys, critpoints as cp; cp.TeacherStudent.grid(); print('triton' in sys.modules)"
    assert run("-c", program).split() == ["False"]
