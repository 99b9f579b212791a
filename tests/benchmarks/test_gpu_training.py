"""benchmarks/gpu_training.py: no report without a GPU, and a run in the interpreter of what needs none."""

import importlib
import json
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch

pytest.importorskip("triton")
BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def benchmark(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return importlib.import_module("gpu_training")


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(BENCHMARKS / "gpu_training.py"), *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=1200, env=os.environ)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_there_is_no_report() -> None:
    finished = run("--json")
    assert finished.returncode == 2 and finished.stdout == ""
    assert "nothing to measure: device cuda was asked for, but torch finds no GPU here" in finished.stderr


@pytest.mark.slow
def test_the_interpreter_runs_all_that_needs_no_gpu() -> None:
    finished = run("--interpret", "--json", "--rivals", "vmap", "--width", "2")
    assert finished.returncode == 0, finished.stderr
    document = json.loads(finished.stdout)
    assert document["interpreted"] and document["settings"]["students"] == 2
    assert max(document["agreement"][name] for name in ("loss", "gradient", "hessian")) <= 1e-12
    differences = document["loss_differences"]
    assert max(differences[name] for name in ("vmap", "critpoints-mirror", "critpoints-again")) <= 1e-10
    assert 0 < differences["critpoints-float32"] <= 1e-4
    assert not {"contestants", "peak_operations_per_second", "study", "long_run"} & document.keys()  # no times


def test_the_names_of_the_rivals_are_those_of_the_module(
    benchmark: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert tuple(importlib.import_module("_gpu_rivals").RIVALS) == benchmark.RIVALS


@pytest.mark.parametrize("arguments", [["--rivals", "tortoise"], ["--students", "-1"], ["--rounds", "0"]])
def test_wrong_options_are_usage_errors(benchmark: ModuleType, arguments: list[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        benchmark.parse(arguments)
    assert stopped.value.code == 2


def test_the_report_says_what_was_measured(benchmark: ModuleType) -> None:
    """The document of a run on a GPU, made up: every figure appears, and those who were absent with their reason."""
    spread = {"median": 20.0, "min": 19.0, "max": 21.0}
    document = {
        "interpreted": False,
        "machine": {"gpu": "Card", "cpu": "x"},
        "settings": {"students": 1000, "width": 5, "samples": 1681},
        "agreement": {"loss": 1e-16, "gradient": 2e-16, "hessian": 3e-16},
        "peak_operations_per_second": {"float64": 3e13, "float32": 6e13},
        "contestants": [
            {"name": "critpoints", "status": "measured", "description": "kernel", "us_per_step": spread,
             "ratio": spread, "fraction_of_peak": 0.75},
            {"name": "jax", "status": "absent", "reason": "not installed"},
        ],
        "long_run": {"steps": 10_000_000, "seconds": 200.0, "median_loss": 1e-7},
        "study": {"steps": 30_000, "seconds": 20.0, "cpu_seconds": 100.0, "same_kind": 0.99,
                  "differing": {7: ["channel", "undecided"]}},
    }  # fmt: skip
    text = benchmark.report(document)
    for phrase in ("Card", "20.0 (19.0-21.0)", "75 %", "float64 30.0 TFLOP/s", "jax: absent, not installed",
                   "10000000 Adam steps: 200 s", "99.0 %", "seed 7: channel on the CPU, undecided"):  # fmt: skip
        assert phrase in text
