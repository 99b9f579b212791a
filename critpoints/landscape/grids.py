"""Losses at many points of one flat, by the fastest of several ways, found by measurement.

A module is evaluated by "loop" (each point is written into a copy of the module, which is run), "linear" (the same, but
layers whose inputs do not depend on parameters are linear in them: their outputs on the flat are combinations of k + 1
that are computed once), or "vmap-N" (N points in one vectorised call); any other objective by "rows-N". All agree to
rounding; for the same bits in every run, name one.
"""

from __future__ import annotations

import math
import time
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from critpoints.curvature.operator import available_memory
from critpoints.errors import require
from critpoints.landscape.evaluation import Evaluator, State
from critpoints.landscape.module_losses import Flat, ModuleLosses
from critpoints.objectives.base import Objective
from critpoints.objectives.module import ModuleObjective

FASTEST = "fastest"
CHUNKS = (4, 16, 64, 256, 1024)
FEW = 256  # points that are not worth a measurement
SAMPLE = 2  # points on which a way is timed, at least, and compared with the plain one
TRIALS, LONG = 3, 0.5  # timings of each way, of which the least counts; one alone where it takes so many seconds
ADVANTAGE = 0.95  # the share of the plain way's time below which another is chosen: less may be chance
SLOWER = 1.3  # a chunk that takes this many times the best at first is not timed again, and larger ones are not tried
BUDGET = 0.03  # no other way is tried once trying has taken this share of the plain way's time for all points
MEMORY_SHARE = 0.25  # of what is free


class GridLosses:
    """Training and test losses of any objective at points of a flat.

    Args:
        objective: any; a module is copied, the caller's stays as it is.
        test, batch_norm: see ``Evaluator``; "interpolate" has no meaning here, the points bring no statistics.

    Attributes:
        ways: the names of those that can be tried, the plain one first.
    """

    def __init__(self, objective: Objective, flat: Flat, *, test: Any = None, batch_norm: str | None = None) -> None:
        require(
            batch_norm != "interpolate",
            "batch_norm must be recalibrate, batch or freeze: the points of a section bring no statistics to"
            " interpolate",
        )
        self.evaluator = Evaluator(objective, test=test, batch_norm=batch_norm)
        self.flat = flat
        both = (self.evaluator.train, self.evaluator.test)
        self.objectives = [each for each in both if each is not None]
        modules = [each for each in self.objectives if isinstance(each, ModuleObjective)]
        self._modules = ModuleLosses(modules, flat) if modules else None
        chunked = tuple(f"{'vmap' if modules else 'rows'}-{n}" for n in CHUNKS)
        if not modules:
            self.ways = ("rows-1", *chunked)
        elif self.evaluator.policy == "recalibrate":
            self.ways = ("loop",)
        else:  # vmap cannot update the statistics of a batch
            self.ways = ("loop", "linear", *(chunked if self.evaluator.policy != "batch" else ()))

    def evaluate(self, coefficients: Tensor, way: str) -> Tensor:
        """Losses at n points, (n, k) -> (n, 2): training and test (NaN without); float64 on the CPU.

        Raises:
            InvalidArgument: no such way.
        """
        require(way in self.ways, f"way must be one of {', '.join(self.ways)}, got {way!r}")
        name, _, size = way.partition("-")
        chunks = coefficients.to("cpu", torch.float64).split(int(size or 1))
        with torch.no_grad():
            losses = torch.cat([self._chunk(chunk, name) for chunk in chunks]).to("cpu", torch.float64)
        return losses if losses.shape[1] == 2 else F.pad(losses, (0, 1), value=math.nan)

    def _chunk(self, chunk: Tensor, name: str) -> Tensor:
        """(n, k) -> (n, objectives)."""
        if self._modules is None:
            points = self.flat.points(chunk)
            return torch.stack([each.loss(points) for each in self.objectives], -1)
        if name == "vmap":
            return self._modules.vectorised(self.flat.points(chunk)).T
        (coefficients,) = chunk.tolist()
        if self.evaluator.policy == "recalibrate":
            self.evaluator.at(State(self.flat.point(coefficients)))
        return self._modules.looped(coefficients, linear=name == "linear").unsqueeze(0)

    def fastest(self, coefficients: Tensor) -> str:
        """The way that takes least time a point on a sample of the points (n, k); the plain one where they are few."""
        plain = self.ways[0]
        if len(coefficients) < FEW:
            return plain
        order = torch.randperm(len(coefficients), generator=torch.Generator().manual_seed(0))
        sample = coefficients[order]
        start = time.perf_counter()
        truth = self.evaluate(sample[:SAMPLE], plain)
        whole = self._seconds(sample[:SAMPLE], plain)
        best, least = plain, ADVANTAGE * whole
        for way in self.ways[1:]:
            if time.perf_counter() - start > BUDGET * whole * len(sample):
                break
            size = int(way.partition("-")[2] or 1)
            if size > len(sample) or not self._fits(way, size):
                continue
            seconds = self._measured(sample[: max(size, SAMPLE)], way, truth, least)
            if seconds < least:
                best, least = way, seconds
            elif size > 1 and seconds > SLOWER * least:
                break
        return best

    def _measured(self, points: Tensor, way: str, truth: Tensor, least: float) -> float:
        """Seconds a point; infinite where the way fails or computes something else.

        "linear" does where a layer's input depends on parameters and hides it from autograd (``detach``).
        """
        try:
            start = time.perf_counter()
            found = self.evaluate(points, way)[: len(truth)]
            first = (time.perf_counter() - start) / len(points)
            tolerance = torch.finfo(self.flat.origin.dtype).eps ** 0.6
            if not torch.allclose(found, truth, rtol=tolerance, atol=tolerance, equal_nan=True):
                return math.inf
            hopeless = "-" in way and first > SLOWER * least
            return first if hopeless else self._seconds(points, way)
        except RuntimeError:  # what vmap does not know, or no memory
            return math.inf

    def _seconds(self, points: Tensor, way: str) -> float:
        found = math.inf
        for _ in range(TRIALS):
            start = time.perf_counter()
            self.evaluate(points, way)
            elapsed = time.perf_counter() - start
            found = min(found, elapsed / len(points))
            if elapsed > LONG:
                break
        return found

    def _fits(self, way: str, size: int) -> bool:
        device = self.flat.origin.device
        if self._modules is not None:
            needed = self._modules.bytes_of(size, linear=way == "linear")
        else:
            needed = size * self.flat.origin.nbytes
        return needed <= MEMORY_SHARE * available_memory(device)
