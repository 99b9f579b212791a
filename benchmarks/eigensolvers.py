"""Products and seconds to the top eigenvalues of a network's Hessian: critpoints against other solvers.

    python benchmarks/eigensolvers.py [--json] [--k 5] [--state initial,trained] [--dtype float64] [--device cpu]
                                      [--crossover]

The network is 784-300-100-10 (266,610 parameters) with ReLU and cross entropy on 1024 of scikit-learn's handwritten
digits, enlarged to 28 x 28: at its initialisation, and after 100 full-batch steps of SGD. All solvers multiply by the
same kept graph, so a product costs everyone the same. Each is tried with settings from loose to tight; a target counts
as reached by the cheapest run whose k values all have that true relative error. The reference is a Lanczos run to a
residual of 1e-11 with a confirmation. curvlinops has no eigensolver of its own: its manual hands operators to SciPy.

--crossover measures from which size on Lanczos beats LAPACK on matrices at hand, with few products and with many.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import _measure

if TYPE_CHECKING:
    from eigen_rivals import DoubleBackward, Solver, Task
    from torch import Tensor

TARGETS = (1e-2, 1e-4, 1e-6)
STOP = 1e-6  # the relative residual at which solvers that can stop on one are compared
STATES = ("initial", "trained")
SIZES = (50, 100, 200, 400, 700, 1000, 1400)
PACKAGES = ("critpoints", "torch", "numpy", "scipy", "scikit-learn", "pyhessian", "hessian-eigenthings")


def digits(samples: int, dtype: Any) -> tuple[Tensor, Tensor]:
    """Inputs (N, 784), standardised, and labels (N,)."""
    import torch
    from sklearn.datasets import load_digits

    pixels, labels = load_digits(return_X_y=True)
    images = torch.from_numpy(pixels[:samples] / 16.0).to(dtype).reshape(-1, 1, 8, 8)
    x = torch.nn.functional.interpolate(images, size=(28, 28), mode="bilinear").flatten(1)
    return (x - x.mean()) / x.std(), torch.from_numpy(labels[:samples])


def make_hessian(state: str, dtype: str, samples: int, device: str = "cpu") -> DoubleBackward:
    """The Hessian of the network in one of its states."""
    import torch
    from eigen_rivals import DoubleBackward
    from torch import nn

    torch.manual_seed(0)
    layers = (nn.Linear(784, 300), nn.ReLU(), nn.Linear(300, 100), nn.ReLU(), nn.Linear(100, 10))
    model = nn.Sequential(*layers)
    x, y = digits(samples, torch.float32)
    if state == "trained":
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
        for _ in range(100):
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(x), y).backward()
            optimizer.step()
    place = {"device": device, "dtype": getattr(torch, dtype)}
    return DoubleBackward(model.to(**place), nn.functional.cross_entropy, x.to(**place), y.to(device))


def reference(task: Task) -> dict[str, Any]:
    """The eigenvalues that count as true, with what bounds their errors, and the largest magnitude below."""
    from critpoints.curvature.lanczos import eigsh

    found = eigsh(task.hessian, task.k + 1, "LA", tol=1e-11, confirmations=1, seed=task.seed + 1)
    lowest = eigsh(task.hessian, 1, "SA", tol=1e-4, seed=task.seed + 1)
    values = found.values.cpu().numpy()
    return {
        "values": values[1:].tolist(),
        "residuals": found.residuals.cpu().numpy()[1:].tolist(),
        "error_bounds": found.error_bounds.cpu().numpy()[1:].tolist(),
        "next_value": float(values[0]),
        "lowest_value": float(lowest.values[0]),
        "converged": bool(found.converged.all()),
    }


def run(solver: Solver, task: Task, setting: float, true: Sequence[float]) -> dict[str, Any]:
    """One run: products, seconds, largest relative error."""
    before, start = task.hessian.products, time.perf_counter()
    values = solver.solve(task, setting)
    seconds = time.perf_counter() - start
    error = max(abs(value - exact) / abs(exact) for value, exact in zip(values, true, strict=True))
    products = task.hessian.products - before
    return {"setting": setting, "products": products, "seconds": seconds, "relative_error": float(error)}


def try_settings(solver: Solver, task: Task, true: Sequence[float]) -> list[dict[str, Any]]:
    """Runs with settings from loose to tight, until one has the smallest target and tol = ``STOP`` has been run."""
    runs = []
    for setting in solver.settings:
        runs.append(run(solver, task, setting, true))
        stopped = not solver.by_residual or setting <= STOP * (1 + 1e-9)
        spent = runs[-1]["products"] >= task.limit and not solver.by_residual
        if (runs[-1]["relative_error"] <= TARGETS[-1] and stopped) or spent:
            break
    return runs


def cheapest(runs: Sequence[Mapping[str, Any]], target: float) -> Mapping[str, Any] | None:
    """The run of fewest products that reaches the target."""
    reached = [each for each in runs if each["relative_error"] <= target]
    return min(reached, key=lambda each: each["products"]) if reached else None


def measure_state(state: str, options: argparse.Namespace) -> dict[str, Any]:
    """All solvers on one Hessian; the runs that reach a target are repeated, in turns, for their seconds."""
    from eigen_rivals import SOLVERS, Absent, Task

    hessian = make_hessian(state, options.dtype, options.samples, options.device)
    task = Task(hessian, options.k, seed=0, limit=options.limit)
    true = reference(task)
    results: dict[str, list[dict[str, Any]]] = {}
    absent: dict[str, str] = {}
    for solver in SOLVERS:
        if options.solvers and solver.name not in options.solvers:
            continue
        try:
            results[solver.name] = try_settings(solver, task, true["values"])
        except Absent as reason:
            absent[solver.name] = str(reason)
        print(f"{state}: {solver.name} done", file=sys.stderr)
    solvers = {solver.name: solver for solver in SOLVERS}
    repeats = {
        (name, found["setting"]): [found["seconds"]]
        for name, runs in results.items()
        for target in TARGETS
        if (found := cheapest(runs, target)) is not None
    }
    for _ in range(options.rounds - 1):
        for (name, setting), seconds in repeats.items():
            seconds.append(run(solvers[name], task, setting, true["values"])["seconds"])
    rows = [solver_row(solvers[name], runs, repeats) for name, runs in results.items()]
    rows += [{"name": name, "status": "absent", "reason": reason} for name, reason in absent.items()]
    return {"state": state, "dim": hessian.dim, "reference": true, "solvers": rows}


def solver_row(solver: Solver, runs: Sequence[Mapping[str, Any]], repeats: Mapping[Any, list[float]]) -> dict[str, Any]:
    targets = {}
    for target in TARGETS:
        found = cheapest(runs, target)
        if found is not None:
            seconds = _measure.summary(repeats[solver.name, found["setting"]])
            targets[f"{target:.0e}"] = {"products": found["products"], "seconds": seconds, "setting": found["setting"]}
    stop = [each["products"] for each in runs if solver.by_residual and abs(each["setting"] / STOP - 1) < 1e-6]
    return {
        "name": solver.name,
        "description": solver.description,
        "status": "measured",
        "runs": list(runs),
        "targets": targets,
        "best_relative_error": min(each["relative_error"] for each in runs),
        "products_at_residual": stop[0] if stop else None,
    }


def measure_crossover(rounds: int) -> list[dict[str, Any]]:
    """Milliseconds of LAPACK and of Lanczos for the top 5 of matrices, well separated and packed at the edge."""
    import torch

    from critpoints.curvature.lanczos import eigsh

    rows = []
    for size in SIZES:
        generator = torch.Generator().manual_seed(size)
        noise = torch.randn(size, size, generator=generator, dtype=torch.float64) / (2 * size**0.5)
        packed = noise + noise.mT
        outliers = torch.linalg.qr(torch.randn(size, 5, generator=generator, dtype=torch.float64)).Q
        separated = packed + (outliers * torch.tensor([4.0, 5.0, 6.0, 8.0, 10.0], dtype=torch.float64)) @ outliers.mT
        row: dict[str, Any] = {"size": size}
        for name, matrix in (("separated", separated), ("packed", packed)):
            times: dict[str, list[float]] = {"dense": [], "lanczos": []}
            products = 0
            for _ in range(rounds):
                for method, values in times.items():
                    start = time.perf_counter()
                    products = eigsh(matrix, 5, method=method).n_matvecs
                    values.append(1e3 * (time.perf_counter() - start))
            row[name] = {method: _measure.summary(values) for method, values in times.items()} | {"products": products}
        rows.append(row)
    return rows


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """The whole benchmark, as the JSON document."""
    machine = _measure.machine(options.threads, PACKAGES)
    document: dict[str, Any] = {
        "schema": 1,
        "benchmark": "eigensolvers",
        "machine": machine,
        "settings": {
            "k": options.k,
            "samples": options.samples,
            "dtype": options.dtype,
            "device": options.device,
            "rounds": options.rounds,
            "limit": options.limit,
            "residual": STOP,
        },
        "states": [measure_state(state, options) for state in options.state],
    }
    if options.crossover:
        document["crossover"] = measure_crossover(options.rounds)
    return document


def report(document: Mapping[str, Any]) -> str:
    """The document for people."""
    machine, settings = document["machine"], document["settings"]
    versions = ", ".join(f"{name} {number or 'not installed'}" for name, number in machine["versions"].items())
    lines = [
        f"The {settings['k']} largest eigenvalues of a 784-300-100-10 network's Hessian, {settings['samples']} samples,"
        f" {settings['dtype']}, {settings['device']}",
        f"{machine['cpu']}, {machine['threads']} threads, load average {machine['load_average']}; {versions}",
    ]
    for state in document["states"]:
        lines += ["", *state_lines(state)]
    if "crossover" in document:
        lines += ["", "Milliseconds for the top 5 of a matrix (P, P), LAPACK and Lanczos:", crossover_table(document)]
    return "\n".join(lines)


def state_lines(state: Mapping[str, Any]) -> list[str]:
    true = state["reference"]
    rows, remarks = [], []
    for row in state["solvers"]:
        if row["status"] == "absent":
            remarks.append(f"{row['name']}: absent, {row['reason']}")
            continue
        cells = [row["name"]]
        for target in row_targets():
            found = row["targets"].get(target)
            cells.append("never" if found is None else f"{found['products']} ({found['seconds']['median']:.2f} s)")
        stop = row["products_at_residual"]
        rows.append([*cells, f"{row['best_relative_error']:.1e}", "" if stop is None else str(stop)])
        remarks.append(f"{row['name']}: {row['description']}")
    values = ", ".join(f"{value:.6g}" for value in true["values"])
    return [
        f"{state['state']}, P = {state['dim']}: {values}; next {true['next_value']:.4g}, lowest"
        f" {true['lowest_value']:.4g}; products (seconds) to a true relative error of",
        _measure.table(["", *row_targets(), "best error", f"products to residual {STOP:.0e}"], rows),
        *remarks,
    ]


def row_targets() -> list[str]:
    return [f"{target:.0e}" for target in TARGETS]


def crossover_table(document: Mapping[str, Any]) -> str:
    header, rows = ["P"], []
    for name in ("separated", "packed"):
        header += [f"{name}: LAPACK", "Lanczos", "products"]
    for row in document["crossover"]:
        cells = [str(row["size"])]
        for name in ("separated", "packed"):
            found = row[name]
            times = [f"{found[method]['median']:.1f}" for method in ("dense", "lanczos")]
            cells += [*times, str(found["products"])]
        rows.append(cells)
    return _measure.table(header, rows)


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--json", action="store_true", help="print a JSON document")
    parser.add_argument("--k", type=int, default=5)
    parser.add_argument("--samples", type=int, default=1024)
    parser.add_argument("--dtype", choices=("float32", "float64"), default="float64")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--rounds", type=int, default=3, help="timings of each run that reaches a target")
    parser.add_argument("--threads", type=int, default=len(_measure.available_processors()))
    parser.add_argument("--limit", type=int, default=400, help="products (a pair, for power iterations) of a run")
    parser.add_argument("--crossover", action="store_true", help="also LAPACK against Lanczos by size")
    parser.add_argument(
        "--state", type=_measure.names_of(STATES), default=list(STATES), help="from initial,trained; or none"
    )
    parser.add_argument("--solvers", type=lambda text: text.split(","), default=None, help="names, comma separated")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    options = parse(arguments)
    _measure.bind(options.threads)
    import torch

    torch.set_num_threads(options.threads)
    return _measure.print_report(lambda: measure(options), report, options.json)


if __name__ == "__main__":
    sys.exit(main())
