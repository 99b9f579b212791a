"""Derivatives with their graphs kept: each product with a Hessian or Gauss-Newton matrix is one more backward pass."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from critpoints.errors import InvalidArgument
from critpoints.objectives.precision import full_precision


@contextmanager
def explained() -> Iterator[None]:
    """Turns torch's complaint about a missing second derivative into one that says what to do."""
    try:
        yield
    except (RuntimeError, NotImplementedError) as error:
        if "is not implemented" not in str(error) and "double backward" not in str(error).lower():
            raise
        raise InvalidArgument(
            f"the loss has no second derivative by automatic differentiation ({error}): replace the fused or custom"
            " operation by one written in plain torch operations"
        ) from error


def require_differentiable(outputs: Sequence[Tensor]) -> None:
    """Raises InvalidArgument if part of the graph was marked as differentiable only once.

    Asked for chosen inputs, torch leaves that part out without a word, and the product is wrong.
    """
    pending: list[Any] = [output.grad_fn for output in outputs]
    seen = set()
    while pending:
        node = pending.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        if node.name() == "torch::autograd::Error":
            raise InvalidArgument(
                "the loss has no second derivative by automatic differentiation: a custom function is marked"
                " once_differentiable; write its backward in plain torch operations and remove the mark"
            )
        pending += [following for following, _ in node.next_functions]


def flatten(tensors: Sequence[Tensor]) -> Tensor:
    """One vector of all the entries."""
    return torch.cat([tensor.reshape(-1) for tensor in tensors])


class GradientGraph:
    """Gradient and Hessian-vector products of a scalar of some leaf tensors; their entries in order make the vector.

    Args:
        loss: builds the scalar from the leaves.
        point: values of the leaves; they are not changed.

    Attributes:
        value: the scalar, detached.
        gradient: (P,), detached.

    >>> graph = GradientGraph(lambda leaves: leaves[0].prod(), [torch.tensor([2.0, 3.0])])
    >>> graph.multiply(torch.tensor([1.0, 0.0]))
    tensor([0., 1.])
    """

    def __init__(self, loss: Callable[[list[Tensor]], Tensor], point: Sequence[Tensor]) -> None:
        with torch.enable_grad(), explained(), full_precision(point[0].dtype):
            self.leaves = [each.detach().requires_grad_() for each in point]
            value = loss(self.leaves)
            gradients: Any = [None] * len(point)
            if value.requires_grad:
                gradients = torch.autograd.grad(value, self.leaves, create_graph=True, allow_unused=True)
        self.value = value.detach()
        self.gradient = flatten(self._complete(gradients)).detach()
        self.sizes = [leaf.numel() for leaf in self.leaves]
        # a gradient that does not depend on the leaves (an affine loss) has no second derivatives
        self._rows = [i for i, each in enumerate(gradients) if each is not None and each.requires_grad]
        self._outputs = [gradients[i] for i in self._rows]
        require_differentiable(self._outputs)

    def multiply(self, vector: Tensor) -> Tensor:
        """H v: (P,) -> (P,)."""
        return self._differentiate(vector, batched=False)

    def multiply_rows(self, rows: Tensor) -> Tensor:
        """The products with all rows in one vectorised pass, faster for small graphs: (k, P) -> (k, P)."""
        return self._differentiate(rows, batched=True)

    def _differentiate(self, vectors: Tensor, *, batched: bool) -> Tensor:
        if not self._outputs:
            return torch.zeros_like(vectors)
        parts = vectors.split(self.sizes, -1)
        directions = [parts[i].reshape(*vectors.shape[:-1], *self.leaves[i].shape) for i in self._rows]
        with explained(), full_precision(vectors.dtype):
            products = torch.autograd.grad(
                self._outputs, self.leaves, directions, retain_graph=True, allow_unused=True, is_grads_batched=batched
            )
        lead = vectors.shape[:-1]
        return torch.cat([each.reshape(*lead, -1) for each in self._complete(products, lead)], -1)

    def _complete(self, gradients: Sequence[Tensor | None], lead: Sequence[int] = ()) -> list[Tensor]:
        return [
            leaf.new_zeros((*lead, *leaf.shape)) if each is None else each
            for each, leaf in zip(gradients, self.leaves, strict=True)
        ]


class GaussNewtonGraph:
    """Products with J^T (d^2 loss / d outputs^2) J, where J is the derivative of some outputs by leaf tensors.

    Source: N. N. Schraudolph, "Fast curvature matrix-vector products for second-order gradient descent", Neural
    Computation 14 (2002) 1723. J v is the derivative of u -> J^T u, which is linear, so all three factors are
    backward passes through graphs that are kept.

    Args:
        outputs: builds the outputs from the leaves.
        loss: of the outputs, a scalar.
        point: values of the leaves; they are not changed.
    """

    def __init__(
        self, outputs: Callable[[list[Tensor]], Tensor], loss: Callable[[Tensor], Tensor], point: Sequence[Tensor]
    ) -> None:
        with torch.enable_grad(), explained(), full_precision(point[0].dtype):
            self.leaves = [each.detach().requires_grad_() for each in point]
            self._outputs = outputs(self.leaves)
            self._loss = GradientGraph(lambda leaves: loss(leaves[0]), [self._outputs])
            self._cotangent = torch.zeros_like(self._outputs, requires_grad=True)
            pulled: Any = [None] * len(point)
            if self._outputs.requires_grad:
                pulled = torch.autograd.grad(
                    self._outputs, self.leaves, self._cotangent, create_graph=True, allow_unused=True
                )
        self.value, self.sizes = self._loss.value, [leaf.numel() for leaf in self.leaves]
        self._rows = [i for i, each in enumerate(pulled) if each is not None and each.requires_grad]
        self._pulled = [pulled[i] for i in self._rows]
        require_differentiable(self._pulled)

    def multiply(self, vector: Tensor) -> Tensor:
        """G v: (P,) -> (P,)."""
        if not self._rows:
            return torch.zeros_like(vector)
        parts = vector.split(self.sizes)
        directions = [parts[i].reshape(self.leaves[i].shape) for i in self._rows]
        with full_precision(vector.dtype):
            (pushed,) = torch.autograd.grad(self._pulled, self._cotangent, directions, retain_graph=True)
            curved = self._loss.multiply(pushed.reshape(-1)).reshape(pushed.shape)
            return flatten(
                torch.autograd.grad(
                    self._outputs, self.leaves, curved, retain_graph=True, allow_unused=True, materialize_grads=True
                )
            )
