"""Many points of a plane at once: outputs, loss gradients, maps of loss and accuracy, by a loop or by vmap."""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap
from torch.nn import functional as F
from torch.nn.modules.batchnorm import _BatchNorm

from critpoints.errors import InvalidArgument, require
from critpoints.landscape.planes import Frame

STRATEGIES = ("loop", "vmap")
CHUNK = 10  # cells that vmap takes at a time: more of them leave the processor's cache
_REPEATS = 5  # of a timing, of which the fastest counts: the least disturbed one

Data = tuple[Tensor, Tensor]
OutputLoss = Callable[[Tensor], Tensor]  # of the outputs (n, B, C) of a chunk of cells


@dataclass(frozen=True)
class Speed:
    """Cells a second, forward and backward, measured on this machine in one interleaved run; NaN: it does not work."""

    loop: float
    vmap: float

    @property
    def fastest(self) -> str:
        """The name of the faster way."""
        return "vmap" if self.vmap > self.loop else "loop"


@dataclass(frozen=True)
class Maps:
    """Mean loss and accuracy of each cell, (n,) float64."""

    loss: np.ndarray
    accuracy: np.ndarray


class Cells:
    """Evaluates one network at many parameter vectors; the network is copied and never changed.

    Args:
        model: evaluated in evaluation mode. BatchNorm has to use the statistics of the batch
            (``track_running_stats=False``): a cell that was never trained has no others.
        strategy: "loop" or "vmap".
        chunk: cells that "vmap" takes at a time.

    Raises:
        InvalidArgument: an unknown strategy, BatchNorm with running statistics, or parameters of several dtypes.
    """

    def __init__(self, model: nn.Module, *, strategy: str = "loop", chunk: int = CHUNK) -> None:
        require(strategy in STRATEGIES, f"strategy must be one of {', '.join(STRATEGIES)}, got {strategy!r}")
        require(chunk >= 1, f"chunk must be at least 1, got {chunk}")
        for name, module in model.named_modules():
            require(
                not isinstance(module, _BatchNorm) or module.running_mean is None,
                f"submodule '{name}' keeps running statistics, which no cell of a plane has: use"
                " critpoints.landscape.networks.CentredBatchNorm2d, or track_running_stats=False",
            )
        self.model = copy.deepcopy(model).eval().requires_grad_(False)
        self.strategy, self.chunk = strategy, chunk
        parameters = dict(self.model.named_parameters())
        self.names = tuple(parameters)
        self.shapes = tuple(each.shape for each in parameters.values())
        self.sizes = [shape.numel() for shape in self.shapes]
        dtypes = {each.dtype for each in parameters.values()}
        require(len(dtypes) == 1, f"model must have parameters of one dtype, it has {sorted(map(str, dtypes))}")
        (self.dtype,) = dtypes

    @property
    def dim(self) -> int:
        """P, the number of parameters."""
        return sum(self.sizes)

    def with_strategy(self, strategy: str) -> Cells:
        """The same network, evaluated in the other way."""
        return Cells(self.model, strategy=strategy, chunk=self.chunk)

    def forward(self, rows: Tensor, x: Tensor) -> Tensor:
        """Outputs of all rows on one batch: (n, P), (B, ...) -> (n, B, C), differentiable."""
        if self.strategy == "vmap":
            return vmap(self._outputs, in_dims=(0, None))(rows, x)
        return torch.stack([self._outputs(row, x) for row in rows])

    def outputs(self, frame: Frame, coordinates: Tensor, x: Tensor) -> Tensor:
        """Outputs of all cells on one batch, (n, B, C), without a graph."""
        with torch.no_grad():
            parts = [self.forward(frame.points(part), x) for part in self._chunks(coordinates)]
        return torch.cat(parts)

    def gradient(
        self, frame: Frame, coordinates: Tensor, x: Tensor, losses: Sequence[OutputLoss]
    ) -> tuple[float, Frame]:
        """A sum of losses over chunks of cells, and its gradient by origin and steps; one chunk's graph at a time.

        Args:
            losses: one a chunk, in the order and of the sizes that ``chunk_sizes`` gives.
        """
        origin_gradient = torch.zeros_like(frame.origin, requires_grad=False)
        steps_gradient = torch.zeros_like(frame.steps, requires_grad=False)
        detached, total = Frame(frame.origin.detach(), frame.steps.detach()), 0.0
        for part, loss_fn in zip(self._chunks(coordinates), losses, strict=True):
            rows = detached.points(part).requires_grad_()
            loss = loss_fn(self.forward(rows, x))
            (gradient,) = torch.autograd.grad(loss, rows)
            total += float(loss.detach())
            # w = origin + c @ steps
            origin_gradient += gradient.sum(0)
            steps_gradient += part.to(gradient.dtype).T @ gradient
        return total, Frame(origin_gradient, steps_gradient)

    def chunk_sizes(self, n_cells: int) -> list[int]:
        """How many cells are evaluated at a time: one by the loop."""
        size = self.chunk if self.strategy == "vmap" else 1
        return [min(size, n_cells - start) for start in range(0, n_cells, size)]

    def maps(self, frame: Frame, coordinates: Tensor, data: Data, *, batch_size: int = 512) -> Maps:
        """Mean cross-entropy and accuracy of each cell over the data, batch after batch.

        With BatchNorm a batch is normalised by its own statistics, so the maps depend on ``batch_size``.
        """
        x, y = data
        require(len(x) == len(y) > 0, f"data must pair inputs with targets, got {len(x)} and {len(y)}")
        loss = torch.zeros(len(coordinates), dtype=torch.float64)
        right = torch.zeros(len(coordinates), dtype=torch.float64)
        with torch.no_grad():
            for inputs, targets in zip(x.split(batch_size), y.split(batch_size), strict=True):
                outputs = self.outputs(frame, coordinates, inputs.to(self.dtype))
                loss += len(targets) * cross_entropies(outputs, targets).to("cpu", torch.float64)
                right += (outputs.argmax(-1) == targets).sum(-1).to("cpu", torch.float64)
        return Maps((loss / len(x)).numpy(), (right / len(x)).numpy())

    def measure_speed(self, frame: Frame, coordinates: Tensor, data: Data) -> Speed:
        """Cells a second by loop and by vmap, the fastest of interleaved repetitions after a warm-up."""
        x, y = data
        seconds: dict[str, list[float]] = {name: [] for name in STRATEGIES}
        for repetition in range(1 + _REPEATS):
            for name in STRATEGIES:
                cells = self.with_strategy(name)
                n_chunks = len(cells.chunk_sizes(len(coordinates)))
                start = time.perf_counter()
                try:
                    cells.gradient(frame, coordinates, x, [lambda out: cross_entropies(out, y).sum()] * n_chunks)
                except RuntimeError as error:
                    if name == "loop":
                        raise InvalidArgument(f"model cannot be evaluated on the data: {error}") from error
                    seconds[name].append(float("inf"))
                    continue
                if repetition:
                    seconds[name].append(time.perf_counter() - start)
        return Speed(*(len(coordinates) / min(seconds[name]) for name in STRATEGIES))

    def _outputs(self, row: Tensor, x: Tensor) -> Tensor:
        parts = row.split(self.sizes, -1)
        named = {name: part.view(shape) for name, part, shape in zip(self.names, parts, self.shapes, strict=True)}
        return functional_call(self.model, named, (x,))

    def _chunks(self, coordinates: Tensor) -> Sequence[Tensor]:
        return coordinates.split(self.chunk_sizes(len(coordinates)))


def cross_entropies(outputs: Tensor, y: Tensor, cut: float = math.inf) -> Tensor:
    """The mean cross-entropy of each cell: (n, B, C), (B,) -> (n,); that of a sample counts as ``cut`` at most."""
    n, batch, _ = outputs.shape
    losses = F.cross_entropy(outputs.flatten(0, 1), y.repeat(n), reduction="none")
    return (losses.clamp(max=cut) if cut < math.inf else losses).view(n, batch).mean(1)


def unlikelihoods(outputs: Tensor, y: Tensor) -> Tensor:
    """The mean of -log(1 - p) of each cell, p the probability of the right class: (n, B, C), (B,) -> (n,).

    >>> unlikelihoods(torch.tensor([[[0.0, 0.0]]]), torch.tensor([1])).exp().tolist()  # p = 1/2
    [2.0]
    """
    right = y.expand(outputs.shape[:2]).unsqueeze(-1)
    others = outputs.scatter(-1, right, -math.inf)  # 1 - p would round to 0 where p is nearly 1
    return (outputs.logsumexp(-1) - others.logsumexp(-1)).mean(1)
