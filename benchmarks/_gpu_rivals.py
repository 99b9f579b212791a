"""The rivals of ``gpu_training.py``: the same work on the same GPU, each in the fastest form that we know."""

from __future__ import annotations

from typing import Any

import rivals
import torch
from rivals import Absent, Task
from torch import Tensor

_WARM_UP = 3


class Vmap(rivals.Vmap):
    """torch.func on the GPU, eager."""

    def advance(self, steps: int) -> None:
        super().advance(steps)
        synchronise(self.theta)


class CompiledGraph(rivals.Compile):
    """torch.compile of a whole step, recorded as one CUDA graph: a replay a step, without Python between kernels."""

    name, description = "compile", "torch.compile of the closed form and Adam, neurons unrolled, one CUDA graph a step"

    def __init__(self, task: Task) -> None:
        rivals._TorchRival.__init__(self, task)
        if not task.x.is_cuda:
            raise Absent("CUDA graphs need a GPU")
        self._inputs = task.x.T.contiguous()
        self._step = torch.compile(self._plain_step, fullgraph=True)
        self._record()

    def reset(self) -> None:
        start = self.task.theta0
        if not hasattr(self, "_state"):
            self._state = [start.clone(), torch.zeros_like(start), torch.zeros_like(start)]
            self._count = torch.zeros((), dtype=torch.float64, device=start.device)
            self._betas = torch.tensor(self.task.betas, dtype=torch.float64, device=start.device)
        for state, value in zip(self._state, (start, 0 * start, 0 * start), strict=True):
            state.copy_(value)
        self._count.zero_()

    @property
    def theta(self) -> Tensor:
        return self._state[0]

    @torch.no_grad()
    def _in_place(self) -> None:
        self._count += 1
        for state, value in zip(self._state, self._next(), strict=True):
            state.copy_(value)

    def _next(self) -> Any:
        parts: list[Any] = [*self._state, 1 - self._betas**self._count]
        return self._step(*parts)

    def _record(self) -> None:
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(_WARM_UP):
                self._in_place()
        torch.cuda.current_stream().wait_stream(stream)
        self._graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self._graph):
            self._in_place()
        self.reset()

    def advance(self, steps: int) -> None:
        for _ in range(steps):
            self._graph.replay()
        torch.cuda.synchronize()


class Jax(rivals.Jax):
    """JAX on its own default device, which must be the GPU."""

    def __init__(self, task: Task) -> None:
        cpu = Task(task.x.cpu(), task.y.cpu(), task.theta0.cpu(), task.width)
        super().__init__(cpu)
        backend = self._jax.default_backend()
        if task.x.is_cuda and backend != "gpu":
            raise Absent(f"jax runs on the {backend} here; install jax[cuda12]")


def synchronise(tensor: Tensor) -> None:
    """Waits for the GPU, if the tensor is on one."""
    if tensor.is_cuda:
        torch.cuda.synchronize(tensor.device)


RIVALS: dict[str, Any] = {"vmap": Vmap, "compile": CompiledGraph, "jax": Jax}
