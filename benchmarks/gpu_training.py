"""Everything that is to be known about training on a GPU, in one run: speed, rivals, fractions of the peak, a study.

    python benchmarks/gpu_training.py [--json] [--students 1000] [--width 5] [--long-steps 10000000]

On the data of ``TeacherStudent.grid()`` (1681 points), in one process on one card:

- agreement: losses and gradients of the GPU kernels against those of the CPU, over the sums of their absolute terms;
- microseconds of an Adam step of all students, against torch.func.vmap, torch.compile with a CUDA graph and JAX,
  taking turns; nobody is timed whose losses differ from critpoints' by more than 1e-10 after 20 steps;
- the operations that the machine code does a step, counted, over the time, as a fraction of the float64 (float32)
  rate that a kernel of nothing but multiply-adds reaches on this card in this run;
- a study on the GPU and the same on the CPU: both times, and how many students have the same kind;
- Adam steps of the length that the seed study took, --long-steps of them.

Without a GPU there is no report. ``--interpret`` runs all of this that can be run by Triton's interpreter on a tiny
problem, as a test of this program; it reports no times.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import _measure

if TYPE_CHECKING:
    import torch
    from rivals import Task

    from critpoints import TeacherStudent

RIVALS = ("vmap", "compile", "jax")
TOLERANCE = 1e-12  # of the sum of absolute terms
AGREEMENT_STEPS = 20
PACKAGES = ("critpoints", "torch", "triton", "jax", "jaxlib", "numpy")


class NoGpu(Exception):
    """There is nothing to measure."""


class Student:
    """critpoints on the GPU, through the call that ``critpoints.train`` makes."""

    def __init__(self, task: Task, name: str, mirror: bool, dtype: torch.dtype) -> None:
        self.name, self.task = name, task
        data = "half of the mirrored data" if mirror else "full data"
        self.description = f"Triton kernel, {data}, {str(dtype).rpartition('.')[2]}"
        self.problem = make_problem(str(task.x.device), mirror=mirror, dtype=dtype)
        self.reset()

    def reset(self) -> None:
        from critpoints.kernels.types import AdamRun

        self._run, self._done = AdamRun.start(self.task.theta0.to(self.problem.dtype)), 0

    @property
    def theta(self) -> torch.Tensor:
        return self._run.theta.double()

    def advance(self, steps: int) -> None:
        import torch
        from _gpu_rivals import synchronise

        from critpoints.kernels import gpu

        t = torch.arange(self._done + 1, self._done + steps + 1, dtype=torch.float64)
        schedule = torch.stack([torch.full_like(t, self.task.rate), *(1 - beta**t for beta in self.task.betas)], 1)
        gpu.adam(self.problem.samples, self._run, schedule, self.task.betas, self.task.eps)
        self._done += steps
        synchronise(self._run.theta)


def make_problem(device: str, **options: Any) -> TeacherStudent:
    """The grid problem; a part of its points in the interpreter, which takes them one operation at a time."""
    from critpoints import TeacherStudent

    grid = TeacherStudent.grid(**options)
    if device == "cpu":
        coarse = grid.x.view(41, 41, 2)[::8, ::8].reshape(-1, 2)  # symmetric, as the grid is
        grid = TeacherStudent(coarse, grid.teacher, **options)
    return grid.to(device)


def make_task(device: str, students: int, width: int) -> Task:
    from rivals import Task

    problem = make_problem(device, mirror=False)
    return Task(problem.x, problem.y, problem.init(width, range(students)), width)


def contestants(task: Task, names: Sequence[str]) -> tuple[list[Any], dict[str, str]]:
    """Those that can run here, and why the others cannot."""
    import torch
    from _gpu_rivals import RIVALS as CLASSES
    from rivals import Absent

    present: list[Any] = [
        Student(task, "critpoints", False, torch.float64),
        Student(task, "critpoints-mirror", True, torch.float64),
        Student(task, "critpoints-float32", False, torch.float32),
    ]
    absent = {}
    for name in names:
        try:
            present.append(CLASSES[name](task))
        except Absent as reason:
            absent[name] = str(reason)
    present.append(Student(task, "critpoints-again", False, torch.float64))
    return present, absent


def check_steps(task: Task, present: Sequence[Any]) -> dict[str, float]:
    """Largest relative difference of any loss from critpoints' after some steps; refuses if one is wrong."""
    from training_throughput import largest_differences

    thetas = {}
    for contestant in present:
        contestant.reset()
        contestant.advance(AGREEMENT_STEPS)
        thetas[contestant.name] = contestant.theta.cpu()
    on_cpu = type(task)(task.x.cpu(), task.y.cpu(), task.theta0.cpu(), task.width)
    single = thetas.pop("critpoints-float32")
    found = largest_differences(on_cpu, thetas)
    losses = [on_cpu.losses(theta) for theta in (single, thetas["critpoints"])]
    return {**found, "critpoints-float32": float(((losses[0] - losses[1]) / losses[1]).abs().max())}


def agreement(device: str, width: int, students: int) -> dict[str, float]:
    """Largest differences of the GPU kernels from those of the CPU, over the sizes of the terms that were added up."""
    from critpoints.kernels import cpu, gpu

    problem = make_problem("cpu" if device == "cpu" else "cuda").to("cpu")
    theta = problem.init(width, range(students))
    expected = cpu.derivatives(problem.samples, theta)
    moved = problem.to(device)
    given = gpu.derivatives(moved.samples, theta.to(device))
    # the loss has no terms of different signs; the terms of a Hessian's entry are of the size of the largest entry
    sizes = {"loss": expected.loss, "gradient": expected.absolute, "hessian": expected.hessian.abs().amax((1, 2))}
    differences = {name: (getattr(given, name).cpu() - getattr(expected, name)).abs() for name in sizes}
    differences["hessian"] = differences["hessian"].amax((1, 2))
    return {name: float((differences[name] / sizes[name]).max()) for name in sizes}


def peaks(rounds: int) -> dict[str, float]:
    """Operations a second of a kernel of nothing but multiply-adds: the best of some rounds, in float64 and float32."""
    import torch

    from critpoints.kernels.gpu_peak import LANES, multiply_adds

    found = {}
    programs = 64 * torch.cuda.get_device_properties(0).multi_processor_count
    for dtype in (torch.float64, torch.float32):
        x = torch.full((programs * LANES,), 0.5, dtype=dtype, device="cuda")
        multiply_adds(x, 100)
        best = 0.0
        for _ in range(rounds):
            torch.cuda.synchronize()
            start = time.perf_counter()
            _, operations = multiply_adds(x, 2000)
            torch.cuda.synchronize()
            best = max(best, operations / (time.perf_counter() - start))
        found[str(dtype).rpartition(".")[2]] = best
    return found


def counted(student: Student, capability: int) -> dict[str, Any]:
    """What the machine code of the Adam kernel does a step for all students."""
    from critpoints.kernels import gpu
    from critpoints.kernels.gpu_compile import adam_variant, resources

    dtype = "fp64" if student.problem.dtype.itemsize == 8 else "fp32"
    samples, task = student.problem.samples, student.task
    found = resources(adam_variant(samples, [task.width], dtype), capability)
    turns = -(-samples.inputs.shape[1] // gpu.plan(samples, [task.width]).block)
    operations = {name: turns * len(task.theta0) * each for name, each in found.operations().items()}
    return {
        "registers": found.registers,
        "spilled_bytes": found.spilled,
        "operations_per_step": operations,
        "float64_instructions_per_neuron_and_sample": found.issues()
        / (task.width * gpu.plan(samples, [task.width]).block / 32),
    }


def study(device: str, options: argparse.Namespace, folder: str) -> tuple[float, dict[int, str]]:
    """Seconds of a whole study, and the kind of every seed."""
    from critpoints.study.run import run_study
    from critpoints.study.spec import StudySpec
    from critpoints.study.store import Store

    start = time.perf_counter()
    spec = StudySpec(device=device, steps=options.steps)
    with Store.create(Path(folder) / f"{device}.db", spec) as store:
        run_study(store, [options.width], range(options.students))
        seconds = time.perf_counter() - start
        return seconds, {point["seed"]: point["kind"] for point in store.points(options.width)}


def studies(options: argparse.Namespace) -> dict[str, Any]:
    """The study on the GPU and on the CPU: times, and the kinds that differ."""
    with tempfile.TemporaryDirectory() as folder:
        seconds, kinds = study("cuda", options, folder)
        cpu_seconds, expected = study("cpu", options, folder)
    differing = {seed: [expected[seed], kinds[seed]] for seed in kinds if kinds[seed] != expected[seed]}
    return {
        "steps": options.steps,
        "seconds": seconds,
        "cpu_seconds": cpu_seconds,
        "same_kind": 1 - len(differing) / len(kinds),
        "differing": differing,  # seed: [kind on the CPU, kind on the GPU]
    }


def long_run(task: Task, steps: int) -> dict[str, float]:
    """Seconds of as many steps as the seed study took, through ``critpoints.train``."""
    from critpoints import train

    problem = make_problem(str(task.x.device))
    start = time.perf_counter()
    trained = train(problem, task.theta0, steps=steps)
    float(trained.loss.sum())
    return {"steps": steps, "seconds": time.perf_counter() - start, "median_loss": float(trained.loss.median())}


def gpu_machine(threads: int) -> dict[str, Any]:
    import torch

    machine = _measure.machine(threads, PACKAGES)
    if not torch.cuda.is_available():
        return {**machine, "gpu": None}
    properties = torch.cuda.get_device_properties(0)
    return {
        **machine,
        "gpu": properties.name,
        "capability": [properties.major, properties.minor],
        "multiprocessors": properties.multi_processor_count,
        "cuda": torch.version.cuda,
    }


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """The whole benchmark, as the JSON document."""
    import torch

    device = "cpu" if options.interpret else "cuda"
    task = make_task(device, options.students, options.width)
    present, absent = contestants(task, options.rivals)
    document: dict[str, Any] = {
        "schema": 1,
        "benchmark": "gpu_training",
        "interpreted": options.interpret,
        "machine": gpu_machine(torch.get_num_threads()),
        "settings": {"students": options.students, "width": options.width, "samples": len(task.y)},
        "agreement": {**agreement(device, options.width, options.students), "tolerance": TOLERANCE},
        "loss_differences": check_steps(task, present),
    }
    if options.interpret:
        return document
    major, minor = document["machine"]["capability"]
    steps = {each.name: _measure.calibrate(each, options.seconds) for each in present}
    times = _measure.race(present, steps, options.rounds, _measure.progress)
    document["peak_operations_per_second"] = peaks(options.rounds)
    rows = [_row(each, times, document, 10 * major + minor) for each in present]
    rows += [{"name": name, "status": "absent", "reason": reason} for name, reason in absent.items()]
    document["contestants"] = rows
    if options.long_steps:
        document["long_run"] = long_run(task, options.long_steps)
    if options.study:
        document["study"] = studies(options)
    return document


def _row(contestant: Any, times: Mapping[str, list[float]], document: dict[str, Any], capability: int) -> dict:
    values = [1e3 * value for value in times[contestant.name]]
    row = {
        "name": contestant.name,
        "description": contestant.description,
        "status": "measured",
        "us_per_step": _measure.summary(values),
        "ratio": _measure.ratios(times[contestant.name], times["critpoints"]),
        "largest_loss_difference": document["loss_differences"][contestant.name],
    }
    if isinstance(contestant, Student):
        row["machine_code"] = counted(contestant, capability)
        seconds = 1e-6 * row["us_per_step"]["median"]
        kind = "float32" if contestant.problem.dtype.itemsize == 4 else "float64"
        rate = row["machine_code"]["operations_per_step"][kind] / seconds
        row["operations_per_second"] = rate
        row["fraction_of_peak"] = rate / document["peak_operations_per_second"][kind]
    return row


def report(document: Mapping[str, Any]) -> str:
    """The document for people."""
    settings, machine = document["settings"], document["machine"]
    lines = [
        f"{settings['students']} students of width {settings['width']} on {settings['samples']} samples;"
        f" {machine['gpu'] or machine['cpu'] + ', interpreted: no times'}",
        "largest difference from the CPU kernels over the size of the terms: "
        + ", ".join(f"{name} {document['agreement'][name]:.1e}" for name in ("loss", "gradient", "hessian")),
    ]
    if document["interpreted"]:
        return "\n".join(lines)
    rows, remarks = [], []
    for row in document["contestants"]:
        if row["status"] == "absent":
            remarks.append(f"{row['name']}: absent, {row['reason']}")
            continue
        fraction = f"{100 * row['fraction_of_peak']:.0f} %" if "fraction_of_peak" in row else ""
        rows.append([row["name"], _measure.spread(row["us_per_step"], 1), _measure.spread(row["ratio"], 2), fraction])
        remarks.append(f"{row['name']}: {row['description']}")
    header = ["", "us a step", "times critpoints", "of the measured peak"]
    peak = document["peak_operations_per_second"]
    lines += ["", _measure.table(header, rows), "", *remarks]
    lines.append("peaks: " + ", ".join(f"{kind} {1e-12 * rate:.1f} TFLOP/s" for kind, rate in peak.items()))
    if "long_run" in document:
        run = document["long_run"]
        lines.append(f"{run['steps']} Adam steps: {run['seconds']:.0f} s, median loss {run['median_loss']:.2e}")
    if "study" in document:
        found = document["study"]
        lines.append(
            f"study of {found['steps']} steps: {found['seconds']:.0f} s, on the CPU {found['cpu_seconds']:.0f} s; the"
            f" same kind for {100 * found['same_kind']:.1f} %"
        )
        lines += [f"  seed {seed}: {was} on the CPU, {now}" for seed, (was, now) in found["differing"].items()]
    return "\n".join(lines)


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--json", action="store_true", help="print a JSON document")
    parser.add_argument("--interpret", action="store_true", help="a test of this program without a GPU; no times")
    parser.add_argument("--students", type=int, help="default 1000, or 2 with --interpret")
    parser.add_argument("--width", type=int, default=5)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--seconds", type=float, default=0.5, help="how long a contestant's turn lasts at least")
    parser.add_argument("--steps", type=int, default=30_000, help="Adam steps of the study")
    parser.add_argument("--long-steps", type=int, default=10_000_000, help="0 for no long run")
    parser.add_argument("--study", action=argparse.BooleanOptionalAction, default=True)
    parser.add_argument(
        "--rivals", type=_measure.names_of(RIVALS), default=list(RIVALS), help=f"from {','.join(RIVALS)}; or none"
    )
    options = parser.parse_args(arguments)
    if options.students is None:
        options.students = 2 if options.interpret else 1000
    _measure.require_positive(parser, options, ("students", "width", "rounds", "seconds"))
    return options


def require_gpu() -> None:
    """Raises NoGpu, with the reason, where there is none."""
    from critpoints.errors import DeviceUnavailable
    from critpoints.kernels.devices import resolve_device

    try:
        resolve_device("cuda")
    except DeviceUnavailable as error:
        raise NoGpu(f"nothing to measure: {error}; or --interpret for a test of this program") from error


def main(arguments: Sequence[str] | None = None) -> int:
    options = parse(arguments)
    if options.interpret:
        os.environ["TRITON_INTERPRET"] = "1"  # before Triton is imported
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")  # the card's memory is shared with torch
    try:
        if not options.interpret:
            require_gpu()
    except NoGpu as error:
        print(error, file=sys.stderr)
        return 2
    return _measure.print_report(lambda: measure(options), report, options.json)


if __name__ == "__main__":
    sys.exit(main())
