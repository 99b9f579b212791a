"""Other ways to run full-batch Adam on many small students at once; each in the fastest form that we know.

Every rival computes in float64 on all the data and keeps to the textbook Adam (Kingma & Ba 2015, algorithm 1). A rival
that cannot run here raises ``Absent`` with the reason when it is made.
"""

from __future__ import annotations

import importlib
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

BATCH = 16  # students a chunk: their intermediate results then stay in a second-level cache


class Absent(Exception):
    """A rival that cannot run here; its message says why."""


@dataclass(frozen=True)
class Task:
    """Adam from ``theta0`` (S, P) on the mean squared error of width-m sigmoid students on x (N, d), y (N,)."""

    x: Tensor
    y: Tensor
    theta0: Tensor
    width: int
    rate: float = 1e-4
    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = 1e-8

    @property
    def n_hidden(self) -> int:
        """Hidden weights of a student: the parameters before the output weights."""
        return self.width * self.x.shape[1]

    def losses(self, theta: Tensor) -> Tensor:
        """The loss of each student, (S,), by the definition: what the contestants must agree on."""
        return torch.stack([self._loss(row) for row in theta])

    def _loss(self, row: Tensor) -> Tensor:
        weights, outer = row[: self.n_hidden].unflatten(0, (self.width, -1)), row[self.n_hidden :]
        return ((outer @ torch.sigmoid(weights @ self.x.T) - self.y) ** 2).mean()


class _TorchRival:
    """Adam on the batched tensors in place; a subclass gives the gradient."""

    name = description = ""

    def __init__(self, task: Task) -> None:
        self.task = task
        self.reset()

    def reset(self) -> None:
        self.theta = self.task.theta0.clone()
        self.first, self.second = torch.zeros_like(self.theta), torch.zeros_like(self.theta)
        self.done = 0

    def gradient(self) -> Tensor:
        raise NotImplementedError

    @torch.no_grad()
    def advance(self, steps: int) -> None:
        beta1, beta2 = self.task.betas
        for _ in range(steps):
            self.done += 1
            gradient = self.gradient()
            self.first.mul_(beta1).add_(gradient, alpha=1 - beta1)
            self.second.mul_(beta2).addcmul_(gradient, gradient, value=1 - beta2)
            scale = (self.second / (1 - beta2**self.done)).sqrt_().add_(self.task.eps)
            self.theta.addcdiv_(self.first, scale, value=-self.task.rate / (1 - beta1**self.done))


class Vmap(_TorchRival):
    """torch.func, the way that its tutorial on ensembles shows."""

    name, description = "vmap", "torch.func.vmap(grad_and_value), Adam in torch"
    chunk: int | None = None

    def __init__(self, task: Task) -> None:
        super().__init__(task)
        loss: Callable[[Tensor], Tensor] = task._loss
        self._derivatives = torch.func.vmap(torch.func.grad_and_value(loss), chunk_size=self.chunk)

    def gradient(self) -> Tensor:
        return self._derivatives(self.theta)[0]


class ChunkedVmap(Vmap):
    name, description = "vmap-chunked", f"the same with chunk_size={BATCH}"
    chunk = BATCH


class Bmm(_TorchRival):
    """The gradient by hand in batched matrix products, a chunk of students at a time."""

    name, description = "bmm", f"gradient by hand with torch.bmm, {BATCH} students at a time"

    def gradient(self) -> Tensor:
        gradient = torch.empty_like(self.theta)
        for rows, out in zip(self.theta.split(BATCH), gradient.split(BATCH), strict=True):
            self._chunk(rows, out)
        return gradient

    def _chunk(self, rows: Tensor, out: Tensor) -> None:
        x, y, n_hidden = self.task.x, self.task.y, self.task.n_hidden
        weights, outer = rows[:, :n_hidden].unflatten(1, (self.task.width, -1)), rows[:, n_hidden:].unsqueeze(1)
        s = torch.sigmoid(weights @ x.T)
        residual = torch.bmm(outer, s).sub_(y).mul_(2 / len(y))
        out[:, n_hidden:] = torch.bmm(residual, s.mT).squeeze(1)
        slope = s.addcmul_(s, s, value=-1).mul_(residual)
        out[:, :n_hidden] = ((slope @ x) * outer.mT).flatten(1)


class Compile(_TorchRival):
    """torch.compile of a whole step; neurons written out one by one, so that the loop over samples needs no memory."""

    name, description = "compile", "torch.compile of the closed form and Adam, neurons unrolled"

    def __init__(self, task: Task) -> None:
        super().__init__(task)
        compiler = os.environ.get("CXX", "g++")
        if shutil.which(compiler) is None:
            raise Absent(f"torch.compile needs a C++ compiler: {compiler} not found")
        self._inputs = task.x.T.contiguous()
        self._step = torch.compile(self._plain_step, fullgraph=True)

    def _plain_step(
        self, theta: Tensor, first: Tensor, second: Tensor, corrections: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        (beta1, beta2), x, n_inputs = self.task.betas, self._inputs, len(self._inputs)
        columns = [column.unsqueeze(1) for column in theta.unbind(1)]
        hidden, outer = columns[: self.task.n_hidden], columns[self.task.n_hidden :]
        s, residual = [], -self.task.y
        for k, a in enumerate(outer):
            s.append(torch.sigmoid(sum_of_products(hidden[k * n_inputs : (k + 1) * n_inputs], x)))
            residual = residual + a * s[k]
        inner = [
            a * (residual * s[k] * (1 - s[k]) * row).sum(1, keepdim=True) for k, a in enumerate(outer) for row in x
        ]
        gradient = torch.cat([*inner, *((residual * each).sum(1, keepdim=True) for each in s)], 1) * (
            2 / len(residual.T)
        )
        first = beta1 * first + (1 - beta1) * gradient
        second = beta2 * second + (1 - beta2) * gradient * gradient
        scale = (second / corrections[1]).sqrt() + self.task.eps
        return theta - self.task.rate * (first / corrections[0]) / scale, first, second

    @torch.no_grad()
    def advance(self, steps: int) -> None:
        for _ in range(steps):
            self.done += 1
            corrections = torch.tensor([1 - beta**self.done for beta in self.task.betas], dtype=torch.float64)
            self.theta, self.first, self.second = self._step(self.theta, self.first, self.second, corrections)


def sum_of_products(factors: list[Tensor], rows: Tensor) -> Tensor:
    total = factors[0] * rows[0]
    for factor, row in zip(factors[1:], rows[1:], strict=True):
        total = total + factor * row
    return total


class Jax:
    """JAX with all steps of a call in one compiled loop."""

    name, description = "jax", "jit(vmap(value_and_grad)), the Adam loop inside jit (fori_loop)"
    batch: int | None = None

    def __init__(self, task: Task) -> None:
        try:
            self._jax: Any = importlib.import_module("jax")
        except ImportError as error:
            raise Absent(f"jax is not installed: {error}") from error
        self._jax.config.update("jax_enable_x64", True)
        self.task = task
        self._run = self._jax.jit(self._plain_run)
        self._data = tuple(self._jax.numpy.asarray(data.numpy()) for data in (task.x.T.contiguous(), task.y))
        self.reset()

    def reset(self) -> None:
        start = self._jax.numpy.asarray(self.task.theta0.numpy())
        self._state = (start, 0 * start, 0 * start, 0)

    @property
    def theta(self) -> Tensor:
        return torch.tensor(self._state[0].tolist(), dtype=torch.float64)

    def _derivatives(self, theta: Any, x: Any, y: Any) -> tuple[Any, Any]:
        numpy, n_hidden = self._jax.numpy, self.task.n_hidden

        def loss(row: Any) -> Any:
            weights, outer = row[:n_hidden].reshape(self.task.width, -1), row[n_hidden:]
            return numpy.mean((outer @ self._jax.nn.sigmoid(weights @ x) - y) ** 2)

        value_and_grad = self._jax.value_and_grad(loss)
        if self.batch is None:
            return self._jax.vmap(value_and_grad)(theta)
        return self._jax.lax.map(value_and_grad, theta, batch_size=self.batch)

    def _plain_run(self, state: Any, steps: Any, data: Any) -> Any:
        (beta1, beta2), sqrt = self.task.betas, self._jax.numpy.sqrt

        def step(_: Any, state: Any) -> Any:
            theta, first, second, done = state
            done = done + 1
            gradient = self._derivatives(theta, *data)[1]
            first = beta1 * first + (1 - beta1) * gradient
            second = beta2 * second + (1 - beta2) * gradient * gradient
            scale = sqrt(second / (1 - beta2**done)) + self.task.eps
            return theta - self.task.rate * (first / (1 - beta1**done)) / scale, first, second, done

        return self._jax.lax.fori_loop(0, steps, step, state)

    def advance(self, steps: int) -> None:
        self._state = self._jax.block_until_ready(self._run(self._state, steps, self._data))


class ChunkedJax(Jax):
    name, description = "jax-chunked", f"the same with lax.map(batch_size={BATCH}) for vmap"
    batch = BATCH


RIVALS: dict[str, Callable[[Task], Any]] = {
    rival.name: rival for rival in (Vmap, ChunkedVmap, Jax, ChunkedJax, Compile, Bmm)
}
