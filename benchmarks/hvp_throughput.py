"""Times one Hessian-vector product of a network's loss: critpoints against other ways to form it.

    python benchmarks/hvp_throughput.py [--json] [--model mlp|resnet20|transformer|FILE.py:FUNCTION] [--batch 1024]
                                        [--device cpu] [--threads 2] [--rounds 9] [--batches 8]

Same model, data, dtype (float32), threads and vector for all; they take turns, and ratios are taken round by round.
The first race is on one batch, the second over a DataLoader of ``--batches`` batches. ``critpoints-again`` repeats
``critpoints``: how far its ratio is from 1 is the noise of this run. Unless all products agree to 1e-3 of their norm,
there is no report. (hessian-eigenthings weighs a ragged last batch like a full one, so all batches here are full.)

Peak memory is measured in fresh processes, beyond that of a process that only computes the gradient.
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import _measure

if TYPE_CHECKING:
    from hvp_rivals import Task

TOLERANCE = 1e-3
BLOCK = 8
PACKAGES = ("critpoints", "torch", "pyhessian", "curvlinops-for-pytorch", "hessian-eigenthings")
RIVALS = ("plain-kept", "plain-rebuilt", "pyhessian", "curvlinops", "eigenthings")
MEMORY = {"kept": ("critpoints", "one batch"), "rebuilt": ("critpoints-rebuilt", "one batch")}
MEMORY |= {"loader, kept": ("critpoints", "loader"), "loader, rebuilt": ("critpoints-rebuilt", "loader")}


def make_task(options: argparse.Namespace, batches: int) -> Task:
    import models
    import torch
    from hvp_rivals import Task

    work = models.make(options.model, batches * options.batch, options.device)
    n_parameters = sum(each.numel() for each in work.model.parameters())
    vectors = torch.randn(n_parameters, BLOCK, generator=torch.Generator().manual_seed(1)).to(options.device)
    return Task(work, options.batch, vectors / vectors.norm(dim=0))


def enter(options: argparse.Namespace, race: str, task: Task) -> tuple[list[Any], dict[str, str]]:
    """The contestants of a race, and why the others are absent."""
    import hvp_rivals

    entries = hvp_rivals.ONE_BATCH if race == "one batch" else hvp_rivals.LOADER
    contestants, absent = [], {}
    for name, (kind, description, settings) in entries.items():
        if name in RIVALS and name not in options.rivals:
            continue
        try:
            contestants.append(kind(name, description, task, **settings))
        except hvp_rivals.Absent as error:
            absent[name] = str(error)
    return contestants, absent


def require_agreement(contestants: Sequence[Any]) -> dict[str, float]:
    """How far each product is from that of critpoints, relative to its norm.

    Raises:
        Disagreement: further than the tolerance.
    """
    reference = contestants[0].product()
    found = {
        each.name: float((each.product() - reference).norm() / reference.norm())
        for each in contestants
        if each.name != "gradient"
    }
    wrong = [f"{name} by {value:.1e}" for name, value in found.items() if not value <= TOLERANCE]
    if wrong:
        raise _measure.Disagreement(f"products differ from those of critpoints: {', '.join(wrong)}")
    return found


def measure_race(options: argparse.Namespace, race: str) -> dict[str, Any]:
    task = make_task(options, 1 if race == "one batch" else options.batches)
    contestants, absent = enter(options, race, task)
    differences = require_agreement(contestants)
    steps = {each.name: _measure.calibrate(each, options.seconds) for each in contestants}
    times = _measure.race(contestants, steps, options.rounds, _measure.progress)
    rows: list[dict[str, Any]] = []
    per_product = {each.name: [value / each.block for value in times[each.name]] for each in contestants}
    for each in contestants:
        row = {
            "name": each.name,
            "description": each.description,
            "status": "measured",
            "ms_per_product": _measure.summary(per_product[each.name]),
            "ratio": _measure.ratios(per_product[each.name], per_product["critpoints"]),
            "products_per_round": steps[each.name] * each.block,
            "difference": differences.get(each.name),
        }
        if hasattr(each, "operator") and hasattr(each.operator, "memory_estimate"):
            row |= {"strategy": each.operator.strategy, "memory_estimate": each.operator.memory_estimate}
        rows.append(row)
    rows += [{"name": name, "status": "absent", "reason": reason} for name, reason in absent.items()]
    return {"race": race, "samples": len(task.work.y), "parameters": len(task.vectors), "contestants": rows}


def peak_memory(options: argparse.Namespace, what: str) -> int:
    """Peak resident bytes (of the device on CUDA) of this process: the gradient, or some products as well."""
    import hvp_rivals
    import torch

    if what == "gradient":
        critpoints = hvp_rivals.Critpoints("gradient", "", make_task(options, 1), graphs=False)
        critpoints.objective.gradient(critpoints.objective.parameters_vector())
    else:
        name, race = MEMORY[what]
        entries = hvp_rivals.ONE_BATCH if race == "one batch" else hvp_rivals.LOADER
        kind, _, settings = entries[name]
        kind(name, "", make_task(options, 1 if race == "one batch" else options.batches), **settings).advance(2)
    if options.device.startswith("cuda"):
        return torch.cuda.max_memory_allocated()
    return peak_resident_memory()


def peak_resident_memory() -> int:
    """Bytes. On Linux from /proc: what getrusage says includes the process that started this one."""
    status = Path("/proc/self/status")
    if status.exists():
        return next(1024 * int(line.split()[1]) for line in status.read_text().splitlines() if "VmHWM" in line)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def measure_memory(options: argparse.Namespace) -> dict[str, float]:
    """MiB beyond the process that computes a gradient of one batch; the loader's data are subtracted too."""
    found = {}
    for what in ("gradient", *MEMORY):
        command = [sys.executable, __file__, "--memory-of", what]
        for name in ("model", "batch", "batches", "threads", "device"):
            command += [f"--{name}", str(getattr(options, name))]
        finished = subprocess.run(command, capture_output=True, text=True, check=True)
        found[what] = int(finished.stdout) / 2**20
    task = make_task(options, options.batches)
    data = (task.work.x.nbytes + task.work.y.nbytes) / 2**20 * (1 - 1 / options.batches)
    return {what: found[what] - found["gradient"] - (data if "loader" in what else 0.0) for what in MEMORY}


def measure(options: argparse.Namespace) -> dict[str, Any]:
    races = [measure_race(options, race) for race in ("one batch", "loader")]
    return {
        "schema": 1,
        "benchmark": "hvp_throughput",
        "machine": _measure.machine(options.threads, PACKAGES),
        "settings": {
            "model": options.model,
            "batch": options.batch,
            "batches": options.batches,
            "device": options.device,
            "dtype": "float32",
            "rounds": options.rounds,
            "seconds_per_turn": options.seconds,
        },
        "agreement": {"tolerance": TOLERANCE},
        "races": races,
        "extra_memory_mib": measure_memory(options) if options.memory else None,
    }


def report(document: Mapping[str, Any]) -> str:
    """The document for people."""
    machine, settings = document["machine"], document["settings"]
    versions = ", ".join(f"{name} {number or 'not installed'}" for name, number in machine["versions"].items())
    lines = [f"{settings['model']}, float32, {settings['device']}; medians (range) of {settings['rounds']} rounds"]
    lines += [f"{machine['cpu']}, {machine['threads']} threads, load average {machine['load_average']}; {versions}"]
    for race in document["races"]:
        rows, remarks = [], []
        for row in race["contestants"]:
            measured = row["status"] == "measured"
            cells = (
                [_measure.spread(row[key], 2) for key in ("ms_per_product", "ratio")] if measured else ["absent", ""]
            )
            rows.append([row["name"], *cells])
            remarks.append(f"{row['name']}: {row['description'] if measured else row['reason']}")
        lines += ["", f"{race['race']}: {race['parameters']} parameters, {race['samples']} samples", ""]
        lines += [_measure.table(["", "ms a product", "times critpoints"], rows), "", *remarks]
    if document["extra_memory_mib"]:
        lines += ["", "peak memory beyond a gradient's and the data, MiB:"]
        lines += [f"  {what}: {value:.0f}" for what, value in document["extra_memory_mib"].items()]
    return "\n".join(lines)


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--json", action="store_true", help="print a JSON document")
    parser.add_argument("--model", default="mlp", help="mlp, resnet20, transformer, or FILE.py:FUNCTION")
    parser.add_argument("--batch", type=int, help="samples in a batch (mlp 1024, others 32)")
    parser.add_argument("--batches", type=int, default=8, help="batches of the loader")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=0.5, help="how long a contestant's turn lasts at least")
    parser.add_argument(
        "--rivals", type=_measure.names_of(RIVALS), default=list(RIVALS), help=f"from {','.join(RIVALS)}; or none"
    )
    parser.add_argument("--memory", action=argparse.BooleanOptionalAction, default=True, help="also measure memory")
    parser.add_argument("--memory-of", choices=["gradient", *MEMORY], help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    options.batch = options.batch or (1024 if options.model == "mlp" else 32)
    _measure.require_positive(parser, options, ("batch", "batches", "rounds", "threads", "seconds"))
    return options


def main(arguments: Sequence[str] | None = None) -> int:
    options = parse(arguments)
    _measure.bind(options.threads)
    import torch
    from torch.nn.attention import SDPBackend, sdpa_kernel

    torch.set_num_threads(options.threads)
    warnings.filterwarnings("ignore", message="Using backward.. with create_graph=True")  # PyHessian's way
    with sdpa_kernel(SDPBackend.MATH):  # without it no rival can differentiate attention twice
        if options.memory_of:
            print(peak_memory(options, options.memory_of))
            return 0
        return _measure.print_report(lambda: measure(options), report, options.json)


if __name__ == "__main__":
    sys.exit(main())
