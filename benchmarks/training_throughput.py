"""Times one full-batch Adam step of many small students: critpoints against other ways to do the same.

    python benchmarks/training_throughput.py [--json] [--students 1000] [--width 5] [--rounds 9] [--threads 2]

Data and teacher are those of ``TeacherStudent.grid()`` (1681 points), everything is in float64. ``critpoints`` and all
rivals work on the full data. ``critpoints-mirror``, which is what users get, halves it by its symmetry, exactly.
``critpoints-again`` repeats ``critpoints``: how far its ratio is from 1 is the noise of this run. Every contestant
first takes the same steps from the same students; unless all losses agree to 1e-10, there is no report.

First calls are timed in fresh processes: compilation, the first step, and imports other than torch and critpoints.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import _measure

if TYPE_CHECKING:
    from rivals import Task
    from torch import Tensor

TOLERANCE = 1e-10
AGREEMENT_STEPS = 20
RIVALS = ("vmap", "vmap-chunked", "jax", "jax-chunked", "compile", "bmm")  # known before torch is imported
PACKAGES = ("critpoints", "torch", "numba", "llvmlite", "numpy", "jax", "jaxlib")


class Critpoints:
    """The compiled kernels, through the call that ``critpoints.train`` makes."""

    def __init__(self, task: Task, name: str, mirror: bool) -> None:
        from critpoints import TeacherStudent

        self.name, self.task = name, task
        self.description = "compiled kernels, " + ("half of the mirrored data" if mirror else "full data")
        self._problem = TeacherStudent.grid(mirror=mirror)
        self.reset()

    def reset(self) -> None:
        from critpoints.kernels.types import AdamRun

        self._run = AdamRun.start(self.task.theta0)
        self._done = 0

    @property
    def theta(self) -> Tensor:
        return self._run.theta

    def advance(self, steps: int) -> None:
        import torch

        t = torch.arange(self._done + 1, self._done + steps + 1, dtype=torch.float64)
        corrections = [1 - beta**t for beta in self.task.betas]
        schedule = torch.stack([torch.full_like(t, self.task.rate), *corrections], 1)
        self._problem.advance_adam(self._run, schedule, self.task.betas, self.task.eps)
        self._done += steps


def make_task(students: int, width: int) -> Task:
    from rivals import Task

    from critpoints import TeacherStudent

    problem = TeacherStudent.grid(mirror=False)
    return Task(problem.x, problem.y, problem.init(width, range(students)), width)


def makers() -> dict[str, Callable[[Task], Any]]:
    """Every contestant by its name, in the order of their turns."""
    import rivals

    own = {
        "critpoints": lambda task: Critpoints(task, "critpoints", mirror=False),
        "critpoints-mirror": lambda task: Critpoints(task, "critpoints-mirror", mirror=True),
    }
    again = {"critpoints-again": lambda task: Critpoints(task, "critpoints-again", mirror=False)}
    return {**own, **rivals.RIVALS, **again}


def assemble(task: Task, names: Sequence[str]) -> tuple[list[Any], dict[str, str]]:
    """The contestants that can run here, and the reasons why the others cannot."""
    from rivals import Absent

    present, absent = [], {}
    for name, make in makers().items():
        if name not in RIVALS or name in names:
            try:
                present.append(make(task))
            except Absent as reason:
                absent[name] = str(reason)
    return present, absent


def largest_differences(task: Task, thetas: Mapping[str, Tensor]) -> dict[str, float]:
    """The largest relative difference of any student's loss from critpoints' on the full data.

    Raises:
        Disagreement: it is larger than ``TOLERANCE``, or no number.
    """
    losses = {name: task.losses(theta) for name, theta in thetas.items()}
    reference = losses["critpoints"]
    differences = {name: float(((loss - reference) / reference).abs().max()) for name, loss in losses.items()}
    wrong = {name: difference for name, difference in differences.items() if not difference <= TOLERANCE}
    if wrong:
        listed = ", ".join(f"{name} by {difference:.1e}" for name, difference in wrong.items())
        raise _measure.Disagreement(
            f"losses differ from those of critpoints: {listed}; allowed is {TOLERANCE:.0e}, relatively"
        )
    return differences


def check_agreement(task: Task, contestants: Sequence[Any]) -> dict[str, float]:
    """Lets everyone take ``AGREEMENT_STEPS`` from the start and compares the losses."""
    for contestant in contestants:
        contestant.reset()
        contestant.advance(AGREEMENT_STEPS)
    return largest_differences(task, {contestant.name: contestant.theta for contestant in contestants})


def time_first_call(name: str, task: Task) -> float:
    """Seconds from making a contestant to the end of its first step; for a fresh process."""
    start = time.perf_counter()
    makers()[name](task).advance(1)
    return time.perf_counter() - start


def first_calls(name: str, options: argparse.Namespace) -> dict[str, float]:
    """``time_first_call`` in two fresh processes: with empty folders for compiled code, and with those just filled."""
    sizes = {"--students": options.students, "--width": options.width, "--threads": options.threads}
    arguments = [str(part) for option in sizes.items() for part in option]
    command = [sys.executable, str(Path(__file__).resolve()), "--first-call", name, *arguments]
    with tempfile.TemporaryDirectory() as folder:
        caches = {
            "NUMBA_CACHE_DIR": f"{folder}/numba",
            "TORCHINDUCTOR_CACHE_DIR": f"{folder}/inductor",
            "JAX_COMPILATION_CACHE_DIR": f"{folder}/jax",
            "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
            "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
        }
        found = {}
        for cache in ("cold", "warm"):
            finished = subprocess.run(
                command, env={**os.environ, **caches}, stdout=subprocess.PIPE, text=True, check=True
            )
            found[cache] = float(finished.stdout)
    return found


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """The whole benchmark, as the JSON document."""
    task = make_task(options.students, options.width)
    contestants, absent = assemble(task, options.rivals)
    differences = check_agreement(task, contestants)
    steps = {contestant.name: _measure.calibrate(contestant, options.seconds) for contestant in contestants}
    machine = _measure.machine(options.threads, PACKAGES)
    times = _measure.race(contestants, steps, options.rounds, _measure.progress)
    rows: list[dict[str, Any]] = []
    for contestant in contestants:
        values = times[contestant.name]
        row = {
            "name": contestant.name,
            "description": contestant.description,
            "status": "measured",
            "steps_per_round": steps[contestant.name],
            "ms_per_step": _measure.summary(values),
            "ratio": _measure.ratios(values, times["critpoints"]),
            "ratio_to_mirror": _measure.ratios(values, times["critpoints-mirror"]),
            "largest_loss_difference": differences[contestant.name],
        }
        if options.first_calls and contestant.name not in ("critpoints-mirror", "critpoints-again"):
            row["first_call_seconds"] = first_calls(contestant.name, options)
        rows.append(row)
    rows += [{"name": name, "status": "absent", "reason": reason} for name, reason in absent.items()]
    return {
        "schema": 1,
        "benchmark": "training_throughput",
        "machine": machine,
        "settings": {
            "students": options.students,
            "width": options.width,
            "samples": len(task.y),
            "dtype": "float64",
            "rounds": options.rounds,
            "seconds_per_turn": options.seconds,
        },
        "agreement": {"steps": AGREEMENT_STEPS, "tolerance": TOLERANCE},
        "contestants": rows,
    }


def report(document: Mapping[str, Any]) -> str:
    """The document for people."""
    machine, settings = document["machine"], document["settings"]
    rows, remarks = [], []
    for row in document["contestants"]:
        if row["status"] == "absent":
            rows.append([row["name"], "absent", "", "", "", ""])
            remarks.append(f"{row['name']}: absent, {row['reason']}")
            continue
        first = row.get("first_call_seconds", {})
        rows.append(
            [
                row["name"],
                _measure.spread(row["ms_per_step"], 2),
                _measure.spread(row["ratio"], 2),
                _measure.spread(row["ratio_to_mirror"], 2),
                *(f"{first[cache]:.1f}" if first else "" for cache in ("cold", "warm")),
            ]
        )
        remarks.append(f"{row['name']}: {row['description']}")
    header = ["", "ms a step", "times critpoints", "times critpoints-mirror", "first call cold, s", "warm, s"]
    versions = ", ".join(f"{name} {number or 'not installed'}" for name, number in machine["versions"].items())
    return "\n".join(
        [
            f"One full-batch Adam step of {settings['students']} students of width {settings['width']} on"
            f" {settings['samples']} samples, float64; medians (range) of {settings['rounds']} interleaved rounds",
            f"{machine['cpu']}, {machine['threads']} threads, load average {machine['load_average']}; {versions}",
            "",
            _measure.table(header, rows),
            "",
            *remarks,
        ]
    )


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--json", action="store_true", help="print a JSON document")
    parser.add_argument("--students", type=int, default=1000)
    parser.add_argument("--width", type=int, default=5)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=0.5, help="how long a contestant's turn lasts at least")
    parser.add_argument(
        "--rivals", type=_measure.names_of(RIVALS), default=list(RIVALS), help=f"from {','.join(RIVALS)}; or none"
    )
    parser.add_argument(
        "--first-calls",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="also time first calls, in fresh processes with an empty and with a filled folder for compiled code",
    )
    parser.add_argument("--first-call", choices=[*RIVALS, "critpoints"], help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    _measure.require_positive(parser, options, ("students", "width", "rounds", "threads", "seconds"))
    processors = len(_measure.available_processors())
    if options.threads > processors:
        parser.error(f"--threads must be at most the processors that this process may use, {processors}")
    return options


def main(arguments: Sequence[str] | None = None) -> int:
    options = parse(arguments)
    _measure.bind(options.threads)
    import torch

    torch.set_num_threads(options.threads)
    if options.first_call:
        print(time_first_call(options.first_call, make_task(options.students, options.width)))
        return 0
    return _measure.print_report(lambda: measure(options), report, options.json)


if __name__ == "__main__":
    sys.exit(main())
