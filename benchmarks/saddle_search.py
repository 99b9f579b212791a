"""Saddle searches a second, of the batched search and of SciPy's solvers one row at a time, from the same starts.

    python benchmarks/saddle_search.py [--json] [--width 5] [--rows 400] [--rival-rows 20] [--rounds 3] [--threads 2]

Starts are students of the grid's problem early in their training, perturbed; targets are any index, 1, 2 and 3 in turn.
SciPy's `root` (MINPACK's hybrid method) and `least_squares` (trust region) solve grad L = 0 with the same compiled
gradients and Hessians, one row at a time; they cannot be told an index. A search counts as successful if the gradient's
norm ends at 1e-11 or below. Processor time a search is printed too: it moves less on a machine that others use.
Searches are limited to the same number of iterations, SciPy's to as many evaluations.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable
from typing import Any

import _measure

PACKAGES = ("critpoints", "numpy", "scipy", "torch", "numba")
CRITICAL = 1e-11
Found = tuple[int, list[float]]  # searches, gradient norms at their ends


def starts(width: int, rows: int) -> tuple[Any, Any, Any]:
    """The problem, perturbed students (rows, P), and a target index a row."""
    import torch

    import critpoints as cp
    from critpoints.landscape.saddle_starts import perturb

    problem = cp.TeacherStudent.grid()
    trained = cp.train(problem, problem.init(width, range(rows)), steps=2000).theta
    return problem, perturb(trained, 0.05, range(rows)), torch.tensor([-1, 1, 2, 3]).repeat(rows // 4 + 1)[:rows]


def batched(problem: Any, theta: Any, targets: Any, limit: int) -> Found:
    import critpoints as cp

    found = cp.search_saddles(problem, theta, index=targets, max_iterations=limit)
    return len(theta), found.gradient_norm.tolist()


def one_at_a_time(problem: Any, theta: Any, limit: int, solve: Callable[..., Any]) -> Found:
    import numpy as np
    import torch

    def gradient(x: np.ndarray) -> np.ndarray:
        return problem.gradient(torch.from_numpy(np.array(x))).numpy()

    def hessian(x: np.ndarray) -> np.ndarray:
        return problem.hessian(torch.from_numpy(np.array(x))).numpy()

    ends = [solve(gradient, row.numpy(), hessian, limit) for row in theta]
    return len(theta), [float(np.linalg.norm(gradient(end.x))) for end in ends]


def with_root(gradient: Any, x: Any, hessian: Any, limit: int) -> Any:
    from scipy.optimize import root

    return root(gradient, x, jac=hessian, method="hybr", options={"xtol": 1e-15, "maxfev": limit})


def with_least_squares(gradient: Any, x: Any, hessian: Any, limit: int) -> Any:
    from scipy.optimize import least_squares

    return least_squares(gradient, x, jac=hessian, method="trf", max_nfev=limit, ftol=1e-15, xtol=1e-15, gtol=1e-15)


def measure(options: argparse.Namespace) -> list[dict[str, Any]]:
    """One row a method: searches a second and successes a second, medians over rounds that take turns."""
    problem, theta, targets = starts(options.width, options.rows)
    few = theta[: options.rival_rows]
    methods: dict[str, Callable[[], Found]] = {
        "critpoints, batched": lambda: batched(problem, theta, targets, options.iterations),
        "critpoints, one row at a time": lambda: _sum(
            [batched(problem, few[i : i + 1], targets[i : i + 1], options.iterations) for i in range(len(few))]
        ),
        "scipy root (hybr)": lambda: one_at_a_time(problem, few, options.iterations, with_root),
        "scipy least_squares (trf)": lambda: one_at_a_time(problem, few, options.iterations, with_least_squares),
    }
    batched(problem, theta[:8], targets[:8], 5)  # compiles
    times: dict[str, list[float]] = {name: [] for name in methods}
    processor: dict[str, list[float]] = {name: [] for name in methods}
    ends: dict[str, Found] = {}
    for done in range(options.rounds):
        for name, run in methods.items():
            time.sleep(_measure.PAUSE)
            start, used = time.perf_counter(), time.process_time()
            ends[name] = run()
            times[name].append((time.perf_counter() - start) / ends[name][0])
            processor[name].append((time.process_time() - used) / ends[name][0])
        _measure.progress(done + 1, options.rounds)
    first = times["critpoints, batched"]
    rows = []
    for name, seconds in times.items():
        searches, norms = ends[name]
        successes = sum(norm <= CRITICAL for norm in norms) / searches
        rate = _measure.summary([1 / each for each in seconds])
        ratio = _measure.ratios(seconds, first)
        row = {"method": name, "searches": searches, "successes": successes, "rate": rate, "ratio": ratio}
        rows.append(row | {"processor_milliseconds": _measure.summary([1e3 * each for each in processor[name]])})
    return rows


def _sum(parts: list[Found]) -> Found:
    return sum(n for n, _ in parts), [norm for _, norms in parts for norm in norms]


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--width", type=int, default=5, help="width of the students")
    parser.add_argument("--rows", type=int, default=400, help="searches of the batch")
    parser.add_argument("--rival-rows", type=int, default=20, help="searches of those that take one row at a time")
    parser.add_argument("--iterations", type=int, default=100, help="iterations of a search at most")
    parser.add_argument("--rounds", type=int, default=3, help="rounds; the median counts")
    parser.add_argument("--threads", type=int, default=2, help="threads")
    parser.add_argument("--json", action="store_true", help="one JSON document instead of a table")
    options = parser.parse_args(arguments)
    _measure.bind(options.threads)
    rows = measure(options)
    document = {
        "schema": 1,
        "benchmark": "saddle_search",
        "machine": _measure.machine(options.threads, PACKAGES),
        "options": vars(options),
        "rows": rows,
    }
    if options.json:
        print(json.dumps(document, indent=2))
        return 0
    cells = [
        (
            row["method"],
            str(row["searches"]),
            _measure.spread(row["rate"], 1),
            f"{100 * row['successes']:.0f} %",
            f"{row['rate']['median'] * row['successes']:.1f}",
            _measure.spread(row["processor_milliseconds"], 1),
            _measure.spread(row["ratio"], 1),
        )
        for row in rows
    ]
    header = ("method", "searches", "searches/s", "critical", "critical/s", "processor ms", "time, batched = 1")
    print(_measure.table(header, cells))
    return 0


if __name__ == "__main__":
    sys.exit(main())
