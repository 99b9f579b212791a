"""Hessian-vector products of small models recorded once as a CUDA graph and replayed.

The products of a small model are hundreds of kernels of microseconds each, and take as long as Python needs to start
them; replayed, one call starts them all. What cannot be recorded (operations that wait for the host or whose shapes
depend on values) raises while recording, and what is recorded is compared with the plain product before it is used.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import torch
from torch import Tensor

REPLAY_BYTES = 64 << 20  # graphs up to this size wait for Python rather than for the GPU
AGREEMENT = 1e-12  # of a float64 product with the plain one; kernels that add atomically differ in the last bits
_WARM_UP = 3  # products before recording: libraries choose their kernels and allocate workspaces in the first ones


class Product(Protocol):
    """What is recorded: one batch's products."""

    value: Tensor

    def multiply(self, vector: Tensor) -> Tensor:
        """(P,) -> (P,)."""
        ...


class RecordedGraph:
    """A batch's derivatives whose products are replayed from a CUDA graph.

    Args:
        build: makes the derivatives; called on a stream of its own, because backward passes run on the stream of
            their forward pass, and only what runs on the recorded stream is recorded.
        like: a vector of the products' shape, dtype and device.

    Raises:
        RuntimeError: the product cannot be recorded, or replayed it differs.
    """

    def __init__(self, build: Callable[[], Product], like: Tensor) -> None:
        current, stream = torch.cuda.current_stream(like.device), torch.cuda.Stream(like.device)
        stream.wait_stream(current)
        with torch.cuda.stream(stream):
            self._plain = build()
            self._input = torch.zeros_like(like)
            for _ in range(_WARM_UP):
                self._plain.multiply(self._input)
        stream.synchronize()
        self._recorded = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self._recorded, stream=stream):
            self._output = self._plain.multiply(self._input)
        current.wait_stream(stream)
        self.value = self._plain.value
        require_agreement(self.multiply, self._plain.multiply, like)

    def multiply(self, vector: Tensor) -> Tensor:
        """(P,) -> (P,)."""
        self._input.copy_(vector)
        self._recorded.replay()
        return self._output.clone()  # the next replay writes into the same memory


def require_agreement(fast: Callable[[Tensor], Tensor], plain: Callable[[Tensor], Tensor], like: Tensor) -> None:
    """Raises RuntimeError unless two ways to multiply agree on two vectors, one after the other."""
    generator = torch.Generator().manual_seed(0)
    tolerance = AGREEMENT * torch.finfo(like.dtype).eps / torch.finfo(torch.float64).eps
    for _ in range(2):  # a product that was frozen while recording agrees with one vector, not with the next
        vector = torch.randn(like.shape, generator=generator, dtype=torch.float64).to(like)
        expected, given = plain(vector), fast(vector)
        if not float((given - expected).norm()) <= tolerance * float(expected.norm()):
            raise RuntimeError("the replayed product differs from the plain one")


def can_record(like: Tensor, size: int) -> bool:
    """Whether recording is worth a try: on a GPU, for graphs of up to ``REPLAY_BYTES``."""
    return like.is_cuda and size <= REPLAY_BYTES
