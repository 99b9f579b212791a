"""What the store costs: rows inserted a second against the compute of a unit, and the commands on a large study.

    python benchmarks/study_store.py --rows 100000 --output study_store.json

The rows of the large study are those of a computed one, again and again under other seeds: real vectors, evidence and
kinds, in units of 100 as a study makes them.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from time import perf_counter
from typing import Any

from _measure import bind, machine, table

UNIT = 100  # seeds, as in a study on a CPU


def timed(action: Callable[[], Any]) -> float:
    start = perf_counter()
    action()
    return perf_counter() - start


def commands(path: Path, repeats: int) -> dict[str, list[dict[str, float]]]:
    """Wall and processor seconds of commands as a user runs them, starting Python included."""
    page = str(path.with_suffix(".html"))
    found: dict[str, list[dict[str, float]]] = {}
    for words in (("study", "status"), ("census",), ("report", "-o", page), ("study", "check")):
        command = [sys.executable, "-m", "critpoints_cli", *words, str(path)]
        found[" ".join(words[:2] if words[0] == "study" else words[:1])] = runs = []
        for _ in range(repeats):
            before = processor_seconds()
            wall = timed(lambda c=command: subprocess.run(c, capture_output=True, check=True))
            runs.append({"wall": wall, "processor": processor_seconds() - before})
    return found


def processor_seconds() -> float:
    """Of all processes that have been run."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def measure(rows: int, width: int, steps: int, repeats: int, folder: Path) -> dict[str, Any]:
    from critpoints.study.records import VERDICTS
    from critpoints.study.run import run_study
    from critpoints.study.spec import StudySpec
    from critpoints.study.store import Store

    spec = StudySpec(steps=steps)
    with Store.create(folder / "computed.db", spec) as computed:
        run_study(computed, [width], range(2))  # warm-up: compilation
        run_study(computed, [width], range(UNIT, 2 * UNIT))
        unit = computed.units()[-1]
        points = [row for row in computed.trained(width, range(UNIT, 2 * UNIT))]
        judged = {row["seed"]: row for row in computed.rows(VERDICTS, width)}
    columns = {name: unit[name] for name in ("width", "environment", "seconds")}
    inserting = []
    large = folder / "large.db"
    with Store.create(large, spec) as store:
        store.request(width, range(rows))
        for block in range(rows // UNIT):
            seeds = {row["seed"]: block * UNIT + n for n, row in enumerate(points)}
            new = [{**row, "seed": seeds[row["seed"]]} for row in points]
            verdicts = [{**judged[row["seed"]], "seed": seeds[row["seed"]]} for row in points]
            inserting.append(timed(lambda b=block, n=new, v=verdicts: store.commit({**columns, "block": b}, n, v)))
    return {
        "width": width,
        "steps": steps,
        "rows": rows,
        "megabytes": large.stat().st_size / 1e6,
        "compute_seconds_a_unit": unit["seconds"],
        "insert_seconds_a_unit": {"median": statistics.median(inserting), "max": max(inserting)},
        "insert_share": statistics.median(inserting) / unit["seconds"],
        "commands": commands(large, repeats),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--width", type=int, default=5)
    parser.add_argument("--steps", type=int, default=30_000)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--output", type=Path)
    arguments = parser.parse_args()
    bind(arguments.threads)
    with tempfile.TemporaryDirectory() as folder:
        found = measure(arguments.rows, arguments.width, arguments.steps, arguments.repeats, Path(folder))
    found |= {"machine": machine(arguments.threads, ("critpoints", "torch", "numba", "numpy"))}
    medians = {
        name: [f"{statistics.median(run[clock] for run in runs):.1f} s" for clock in ("wall", "processor")]
        for name, runs in found["commands"].items()
    }
    rows = [(name, *both) for name, both in medians.items()]
    rows += [
        ("a unit of 100 points computed", f"{found['compute_seconds_a_unit']:.1f} s", ""),
        ("a unit of 100 points stored", f"{1e3 * found['insert_seconds_a_unit']['median']:.1f} ms", ""),
        ("share of storing", f"{100 * found['insert_share']:.3f} %", ""),
    ]
    print(f"{found['rows']} points of width {found['width']}, {found['megabytes']:.0f} MB")
    print(table(("what", "wall", "processor"), rows))
    if arguments.output is not None:
        arguments.output.write_text(json.dumps(found, indent=2), encoding="utf-8")


if __name__ == "__main__":
    main()
