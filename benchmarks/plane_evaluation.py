"""A plane of losses against a loop over its points with load_state_dict and a forward pass.

Contestants take turns, so that a disturbance meets all of them:

- loop: for every point, theta from the directions, ``load_state_dict`` and a forward pass without gradients;
- loop-again: the same once more; how far its ratio is from 1 is the noise of this run;
- critpoints: the way that ``critpoints.landscape.grids`` chose by measurement, which is not part of its time;
- every other way that can be tried.

Then whole planes are timed, each once, the measurement that chooses the way included. Unless all values agree to a
tolerance, there is no report.
"""

from __future__ import annotations

import argparse
import copy
import sys
import time
from collections.abc import Mapping, Sequence
from typing import Any

import _measure

TOLERANCES = {"float32": 2e-4, "float64": 1e-12}
PACKAGES = ("critpoints", "torch")
NETWORKS = {
    "mlp": ("fully-connected", (1, 28, 28), {}, "784-300-100-10"),
    "mlp-digits": ("fully-connected", (1, 8, 8), {}, "64-300-100-10"),
    "cnn": (
        "vgg",
        (1, 8, 8),
        {"plan": (16, 16, "M", 32, 32, "M", 64, 64), "batch_norm": False},
        "six convolutions of 16 to 64 channels on 8 x 8 images",
    ),
    "resnet20": ("resnet", (3, 32, 32), {"batch_norm": True}, "ResNet-20 on 32 x 32 images, statistics frozen"),
}


class Workload:
    """A network with random weights, random data, and a filter-normalised plane around the weights."""

    def __init__(self, options: argparse.Namespace) -> None:
        import torch
        from torch.nn import functional as F

        import critpoints as cp
        from critpoints.landscape.directions import filter_normalised, random_directions
        from critpoints.landscape.networks import build
        from critpoints.landscape.sections import section_around

        architecture, shape, settings, _ = NETWORKS[options.model]
        dtype = getattr(torch, options.dtype)
        generator = torch.Generator().manual_seed(0)
        self.model = build(architecture, shape, seed=0, dtype=dtype, **settings).eval().to(options.device)
        self.x = torch.randn(options.samples, *shape, generator=generator).to(options.device, dtype)
        self.y = torch.randint(0, 10, (options.samples,), generator=generator).to(options.device)
        self.objective = cp.ModuleObjective(self.model, F.cross_entropy, (self.x, self.y))
        self.policy = "freeze" if settings.get("batch_norm") else None
        theta = self.objective.parameters_vector()
        directions = filter_normalised(self.objective, theta, random_directions(theta, seed=0))
        self.section = section_around(theta, directions, points=options.points)


class Loop:
    """What one writes without a library."""

    def __init__(self, name: str, work: Workload) -> None:
        self.name, self.description = name, "load_state_dict and a forward pass for every point"
        self.work, self.model = work, copy.deepcopy(work.model)
        unflatten = work.objective.unflatten
        self.origin, self.u, self.v = (unflatten(each) for each in (work.section.origin, *work.section.directions))
        self.points = work.section.coefficients.tolist()

    def reset(self) -> None:
        """Nothing to go back to."""

    def advance(self, steps: int) -> None:
        """The first so many points, again from the start where there are not as many."""
        self.evaluate([self.points[i % len(self.points)] for i in range(steps)])

    def evaluate(self, points: Sequence[Sequence[float]]) -> list[float]:
        """The loss at each."""
        import torch
        from torch.nn import functional as F

        losses = []
        with torch.no_grad():
            for a, b in points:
                state = {name: each + a * self.u[name] + b * self.v[name] for name, each in self.origin.items()}
                self.model.load_state_dict(state, strict=False)
                losses.append(F.cross_entropy(self.model(self.work.x), self.work.y).item())
        return losses


class Way:
    """One way of critpoints."""

    def __init__(self, name: str, way: str, grid: Any, work: Workload) -> None:
        self.name, self.description, self.way, self.grid = name, f"critpoints, {way}", way, grid
        self.points = work.section.coefficients

    def reset(self) -> None:
        """Nothing to go back to."""

    def advance(self, steps: int) -> None:
        """So many points; a turn of a chunked way is given in whole chunks."""
        repeated = self.points.repeat(-(-steps // len(self.points)), 1)
        self.grid.evaluate(repeated[:steps], self.way)


def make_grid(work: Workload) -> Any:
    from critpoints.landscape.grids import GridLosses
    from critpoints.landscape.module_losses import Flat

    flat = Flat(work.section.origin, work.section.directions)
    return GridLosses(work.objective, flat, batch_norm=work.policy)


def require_agreement(loop: Loop, ways: Sequence[Way], tolerance: float, n: int = 20) -> dict[str, float]:
    """The largest relative difference of each way from the loop, on points spread over the plane.

    Raises:
        Disagreement: further than the tolerance.
    """
    import torch

    chosen = torch.linspace(0, len(loop.points) - 1, n).round().long()
    truth = torch.tensor(loop.evaluate([loop.points[i] for i in chosen.tolist()]), dtype=torch.float64)
    found = {}
    for each in ways:
        values = each.grid.evaluate(each.points[chosen], each.way)[:, 0]
        found[each.name] = float(((values - truth).abs() / truth.abs()).max())
    wrong = [f"{name} by {value:.1e}" for name, value in found.items() if not value <= tolerance]
    if wrong:
        raise _measure.Disagreement(f"losses differ from those of the loop: {', '.join(wrong)}")
    return found


def chunk_of(way: Way) -> int:
    return int(way.way.partition("-")[2] or 1)


def measure(options: argparse.Namespace) -> dict[str, Any]:
    work = Workload(options)
    grid = make_grid(work)
    start = time.perf_counter()
    chosen = grid.fastest(work.section.coefficients)
    choosing = time.perf_counter() - start
    loop, again = Loop("loop", work), Loop("loop-again", work)
    ways = [Way("critpoints", chosen, grid, work)]
    names = [way for way in grid.ways if way in options.ways and way != chosen]
    ways += [Way(f"critpoints {way}", way, grid, work) for way in names]
    differences = require_agreement(loop, ways, TOLERANCES[options.dtype])
    contestants = [loop, again, *ways]
    steps = {each.name: _measure.calibrate(each, options.seconds) for each in contestants}
    for way in ways:
        steps[way.name] = -(-steps[way.name] // chunk_of(way)) * chunk_of(way)
    times = _measure.race(contestants, steps, options.rounds, _measure.progress)
    rows = [
        {
            "name": each.name,
            "description": each.description,
            "ms_per_point": _measure.summary(times[each.name]),
            "ratio": _measure.ratios(times[each.name], times["loop"]),
            "difference": differences.get(each.name),
        }
        for each in contestants
    ]
    return {
        "schema": 1,
        "benchmark": "plane_evaluation",
        "machine": _measure.machine(options.threads, PACKAGES),
        "settings": {name: getattr(options, name) for name in ("model", "samples", "points", "device", "dtype")},
        "parameters": len(work.section.origin),
        "rounds": options.rounds,
        "chosen": chosen,
        "seconds_to_choose": choosing,
        "contestants": rows,
        "whole_planes": whole_planes(options, work, loop) if options.whole else None,
    }


def whole_planes(options: argparse.Namespace, work: Workload, loop: Loop) -> dict[str, Any]:
    """Seconds of every point of the plane: the loop, critpoints with the choice of its way, the loop again."""
    from critpoints.landscape.sections import evaluate_section

    seconds = []
    way = ""
    for number in range(3):
        start = time.perf_counter()
        if number == 1:
            way = evaluate_section(work.objective, work.section, batch_norm=work.policy).way
        else:
            loop.evaluate(loop.points)
        seconds.append(time.perf_counter() - start)
    first, own, second = seconds
    return {"loop": [first, second], "critpoints": own, "way": way, "ratio": 2 * own / (first + second)}


def report(document: Mapping[str, Any]) -> str:
    """The document for people."""
    machine, settings = document["machine"], document["settings"]
    versions = ", ".join(f"{name} {number}" for name, number in machine["versions"].items())
    lines = [
        f"{settings['model']} ({NETWORKS[settings['model']][3]}), {document['parameters']} parameters,"
        f" {settings['samples']} samples, {settings['dtype']}, {settings['device']};"
        f" medians (range) of {document['rounds']} rounds",
        f"{machine['cpu']}, {machine['threads']} threads, load average {machine['load_average']}; {versions}",
        f"critpoints chose {document['chosen']} in {document['seconds_to_choose']:.2f} s",
        "",
    ]
    rows = [
        [row["name"], _measure.spread(row["ms_per_point"], 3), _measure.spread(row["ratio"], 3)]
        for row in document["contestants"]
    ]
    lines += [_measure.table(["", "ms a point", "times the loop"], rows)]
    if whole := document["whole_planes"]:
        first, second = whole["loop"]
        lines += [
            "",
            f"whole plane of {settings['points']} x {settings['points']}: {whole['critpoints']:.1f} s with the choice"
            f" of {whole['way']}, the loop {first:.1f} s before and {second:.1f} s after; ratio {whole['ratio']:.3f}",
        ]
    return "\n".join(lines)


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    ways = ("loop", "linear", "vmap-4", "vmap-16", "vmap-64", "vmap-256")
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--json", action="store_true", help="print a JSON document")
    parser.add_argument("--model", choices=NETWORKS, default="mlp")
    parser.add_argument("--samples", type=int, default=512)
    parser.add_argument("--points", type=int, default=51, help="along each direction")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--dtype", choices=TOLERANCES, default="float32")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=0.5, help="how long a contestant's turn lasts at least")
    parser.add_argument("--ways", type=_measure.names_of(ways), default=list(ways[:4]), help=f"from {','.join(ways)}")
    parser.add_argument("--whole", action=argparse.BooleanOptionalAction, default=True, help="also time whole planes")
    options = parser.parse_args(arguments)
    _measure.require_positive(parser, options, ("samples", "rounds", "threads", "seconds"))
    if options.points < 3:
        parser.error(f"--points must be at least 3, got {options.points}")
    return options


def main(arguments: Sequence[str] | None = None) -> int:
    options = parse(arguments)
    _measure.bind(options.threads)
    import torch

    torch.set_num_threads(options.threads)
    return _measure.print_report(lambda: measure(options), report, options.json)


if __name__ == "__main__":
    sys.exit(main())
