"""ModuleObjective: the loss of anyone's ``torch.nn.Module`` on data, as a function of a flat parameter vector."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any, Self

import torch
from torch import Tensor, nn
from torch.func import functional_call, grad_and_value, vmap
from torch.nn.attention import SDPBackend, sdpa_kernel

from critpoints.errors import InvalidData, require
from critpoints.objectives import module_checks as checks
from critpoints.objectives.base import Objective
from critpoints.objectives.batches import Batch, Batches
from critpoints.objectives.gradient_graph import GaussNewtonGraph, GradientGraph, explained, flatten
from critpoints.objectives.precision import full_precision
from critpoints.objectives.second_derivatives import FastSecondDerivatives

ROW_STRATEGIES = ("loop", "vmap", "fastest")


class _Program(nn.Module):
    """What one evaluation runs: the model on the inputs and the loss on its outputs, or a closure of the model."""

    def __init__(self, model: nn.Module, loss_fn: Callable[..., Any], closure: bool) -> None:
        super().__init__()
        self.model, self.loss_fn, self.closure = model, loss_fn, closure

    def forward(self, batch: Any, *, outputs_only: bool = False) -> Any:
        if self.closure:
            return self.loss_fn(self.model, batch)
        inputs, target = batch
        outputs = _call(self.model, inputs)
        return outputs if outputs_only else self.loss_fn(outputs, target)


def _call(model: nn.Module, inputs: Any) -> Any:
    if isinstance(inputs, Mapping):
        return model(**inputs)
    return model(*inputs) if isinstance(inputs, tuple | list) else model(inputs)


class ModuleObjective(Objective):
    """The loss of a module on data; ``theta`` holds its trainable parameters in the order of ``named_parameters()``.

    The module is only read: parameters, buffers, ``.grad`` and modes stay as they are, frozen parameters and buffers
    enter with the values that they have when the loss is evaluated. Losses over several batches are exact whatever
    the sizes of the batches: means are weighted by the numbers of samples. Fused attention and fused recurrent
    kernels, which have no second derivatives, are switched off during an evaluation.

    Args:
        model: in evaluation mode where that makes a difference (BatchNorm, dropout).
        loss_fn: ``loss_fn(model(x), y)`` -> scalar; or, with ``closure=True``, ``loss_fn(model, batch)`` -> scalar, for
            any structure of batches (dictionaries) and losses that differentiate the model (physics-informed ones).
        data: ``(x, y)`` in memory; x may be a tuple (several inputs) or a dictionary (inputs by name). Or a
            ``DataLoader``, a list or another restartable iterable of such pairs, always in the same order. With
            ``closure=True`` a batch is anything, None included.
        closure: see ``loss_fn``.
        reduction: "mean" or "sum" over the samples of a batch; by default what ``loss_fn`` says. It matters with
            several batches only, and is then checked on the first one.
        dtype, device: of every result; by default those of the parameters.
        accumulation: dtype in which batches are summed, torch.float64 say; by default ``dtype``.
        micro_batch: the largest number of samples evaluated at a time.
        sample_count: the number of samples in a batch, where axis 0 of its tensors does not tell.
        rows: how (S, P) points are evaluated: "loop" (the same bits for a row in every batch), "vmap", or "fastest",
            which times both on the first four rows or more; ``row_strategy`` says what it found.
        allow_train_mode: accept BatchNorm and dropout in train mode.
        process_group: of ``torch.distributed``, if every process holds a part of the data: results are those of all
            the data, the same in every process, and every process must make the same calls.

    Attributes:
        parameter_names: the trainable parameters; tied ones appear once, under their first name.
        parameter_shapes: their shapes.
        reduction: in use; None with a single batch.

    Raises:
        InvalidArgument, InvalidData: what makes the loss or its Hessian ill-defined, before anything is computed
            but one loss.

    >>> model = nn.Linear(2, 1, bias=False)
    >>> x, y = torch.eye(2), torch.zeros(2, 1)
    >>> objective = ModuleObjective(model, nn.functional.mse_loss, (x, y))
    >>> objective.loss_and_gradient(torch.tensor([3.0, 1.0]))  # (3^2 + 1^2) / 2 and (3, 1)
    (tensor(5.), tensor([3., 1.]))
    """

    def __init__(
        self,
        model: nn.Module,
        loss_fn: Callable[..., Any],
        data: Any = None,
        *,
        closure: bool = False,
        reduction: str | None = None,
        dtype: torch.dtype | None = None,
        device: torch.device | str | None = None,
        accumulation: torch.dtype | None = None,
        micro_batch: int | None = None,
        sample_count: Callable[[Any], int] | None = None,
        rows: str = "loop",
        allow_train_mode: bool = False,
        process_group: Any = None,
    ) -> None:
        require(isinstance(model, nn.Module), f"model must be a torch.nn.Module, got {type(model).__name__}")
        require(callable(loss_fn), f"loss_fn must be callable, got {type(loss_fn).__name__}")
        require(reduction in (None, *checks.REDUCTIONS), f"reduction must be 'mean' or 'sum', got {reduction!r}")
        require(rows in ROW_STRATEGIES, f"rows must be one of {', '.join(ROW_STRATEGIES)}, got {rows!r}")
        self.model, self.closure, self.allow_train_mode = model, closure, allow_train_mode
        self.process_group = process_group
        trainable = {name: each for name, each in model.named_parameters() if each.requires_grad}
        self.dtype = _common_dtype(trainable, dtype)
        require(self.dtype.is_floating_point, f"dtype must be a real floating-point one, got {self.dtype}")
        self.device = torch.device(device) if device is not None else next(iter(trainable.values())).device
        self.accumulation = accumulation or self.dtype
        self.parameter_names = tuple(trainable)
        self.parameter_shapes = tuple(each.shape for each in trainable.values())
        self._sizes = [shape.numel() for shape in self.parameter_shapes]
        self.dim = sum(self._sizes)
        self.batches = Batches(
            data, dtype=self.dtype, device=self.device, micro_batch=micro_batch, sample_count=sample_count
        )
        self._program = _Program(model, loss_fn, closure)
        self._recurrent = any(isinstance(module, nn.RNNBase) for module in model.modules())
        self.row_strategy = None if rows == "fastest" else rows
        self.reduction: str | None = None
        self._check(reduction or checks.declared_reduction(loss_fn))

    def _check(self, declared: str | None) -> None:
        """Evaluates the first batch once, and in two parts if its loss will have to be weighted."""
        self._require_mode()
        first, point = self.batches.first(), self.unflatten(self.parameters_vector())
        with torch.enable_grad():
            loss = self.batch_loss({name: each.requires_grad_() for name, each in point.items()}, first.content)
        checks.require_scalar(loss, depends=True)
        if self.process_group is None and not self.batches.has_several():
            return
        measured = checks.measured_reductions(lambda part: self.batch_loss(point, part), first, loss.detach())
        self.reduction = checks.choose_reduction(declared, measured)
        require(
            self.reduction == "sum" or first.count is not None,
            "sample_count must be given: the tensors of a batch differ in length along axis 0, so its samples cannot be"
            " counted; or pass reduction='sum'",
        )

    def to_dtype(self, dtype: torch.dtype) -> Self:
        """The same objective in another dtype, its data converted; itself if it is in that one already.

        Raises:
            InvalidData: the loss cannot be evaluated in that dtype.
        """
        if dtype == self.dtype:
            return self
        converted = copy.copy(self)
        converted.dtype, converted.accumulation = dtype, torch.promote_types(self.accumulation, dtype)
        converted.batches = self.batches.to_dtype(dtype)
        try:
            with torch.no_grad():
                converted.batch_loss(converted.unflatten(self.parameters_vector()), converted.batches.first().content)
        except RuntimeError as error:
            raise InvalidData(
                f"the loss cannot be evaluated in {dtype}: {error}; convert tensors that loss_fn or the model hold"
                " outside of parameters and buffers to the dtype of their inputs"
            ) from error
        return converted

    def replace(self, *, model: nn.Module | None = None, data: Any = None) -> Self:
        """The same loss and settings with another module of the same parameters, or on other data.

        Raises:
            InvalidArgument: the trainable parameters of ``model`` have other names or shapes.
            InvalidData: as the constructor, for the new data.
        """
        other = copy.copy(self)
        if model is not None:
            shapes = {name: each.shape for name, each in model.named_parameters() if each.requires_grad}
            expected = dict(zip(self.parameter_names, self.parameter_shapes, strict=True))
            require(shapes == expected, "model must have the trainable parameters of the one that it replaces")
            other.model, other._program = model, _Program(model, self._program.loss_fn, self.closure)
        if data is not None:
            other.batches = self.batches.replace(data)
            other._check(self.reduction or checks.declared_reduction(self._program.loss_fn))
        return other

    def parameters_vector(self) -> Tensor:
        """The module's present parameters, (P,)."""
        named = dict(self.model.named_parameters())
        parts = [named[name].detach().to(dtype=self.dtype, device=self.device) for name in self.parameter_names]
        return flatten(parts)

    def unflatten(self, theta: Tensor) -> dict[str, Tensor]:
        """The parameters by name, views of ``theta``: (*b, P) -> (*b, *shape) each; fit for ``load_state_dict``."""
        theta = self.validate(theta)
        parts = theta.split(self._sizes, -1)
        lead = theta.shape[:-1]
        return {
            name: part.reshape(*lead, *shape)
            for name, part, shape in zip(self.parameter_names, parts, self.parameter_shapes, strict=True)
        }

    def batch_loss(self, parameters: Mapping[str, Tensor], content: Any) -> Tensor:
        """The loss of one batch, unweighted, at parameters given by name; differentiable."""
        # a closure may differentiate the model itself, whatever the caller asks for
        with torch.set_grad_enabled(torch.is_grad_enabled() or self.closure):
            loss = self._run(parameters, content)
        checks.require_scalar(loss, depends=False)
        return (loss if torch.is_grad_enabled() else loss.detach()).reshape(())

    def present_loss(self, content: Any) -> Tensor:
        """The loss of one batch at the parameters that the module holds, run as it is: nothing is converted."""
        with torch.set_grad_enabled(torch.is_grad_enabled() or self.closure):
            loss = self._program(content)
        checks.require_scalar(loss, depends=False)
        return (loss if torch.is_grad_enabled() else loss.detach()).reshape(())

    def batch_outputs(self, parameters: Mapping[str, Tensor], content: Any) -> Tensor:
        """What the model puts out on one batch, differentiable.

        Raises:
            InvalidArgument: the loss is a closure, or the model puts out something else than one tensor.
        """
        require(not self.closure, "a Gauss-Newton matrix needs loss_fn(model(x), y); this objective has a closure")
        outputs = self._run(parameters, content, outputs_only=True)
        require(
            isinstance(outputs, Tensor),
            f"a Gauss-Newton matrix needs a model that returns one tensor, got {type(outputs).__name__}",
        )
        return outputs

    def output_loss(self, outputs: Tensor, content: Any) -> Tensor:
        """The loss of one batch as a function of the model's outputs; differentiable."""
        loss = self._program.loss_fn(outputs, content[1])
        checks.require_scalar(loss, depends=False)
        return loss.reshape(())

    def _run(self, parameters: Mapping[str, Tensor], content: Any, **options: bool) -> Any:
        named = {f"model.{name}": each for name, each in parameters.items()}
        with self._differentiable_kernels():
            return functional_call(self._program, {**self._constants(), **named}, (content,), options)

    def _constants(self) -> dict[str, Tensor]:
        """Frozen parameters and buffers that must be converted, or protected from modules in train mode."""
        trainable = {f"model.{name}" for name in self.parameter_names}
        parameters = {name: each for name, each in self._program.named_parameters() if name not in trainable}
        constants = {}
        for name, each in (*parameters.items(), *self._program.named_buffers()):
            converted = each.detach().to(self.device, self.dtype if each.is_floating_point() else None)
            if converted.data_ptr() != each.data_ptr() or self.allow_train_mode:
                constants[name] = converted.clone() if self.allow_train_mode else converted
        return constants

    @contextmanager
    def _differentiable_kernels(self) -> Iterator[None]:
        """Without the fused kernels that have no second derivative (attention, cuDNN's recurrent layers)."""
        fastpath = torch.backends.mha.get_fastpath_enabled()
        with ExitStack() as stack:
            stack.enter_context(full_precision(self.dtype))
            stack.enter_context(sdpa_kernel(SDPBackend.MATH))
            if self._recurrent and self.device.type == "cuda":
                cudnn: Any = torch.backends.cudnn  # its context manager would set TF32 as well
                stack.callback(setattr, cudnn, "enabled", cudnn.enabled)
                cudnn.enabled = False
            torch.backends.mha.set_fastpath_enabled(False)
            stack.callback(torch.backends.mha.set_fastpath_enabled, fastpath)
            yield

    def _require_mode(self) -> None:
        if not self.allow_train_mode:
            checks.require_evaluation_mode(self.model)

    def accumulate(self, evaluate: Callable[[Any], Tensor]) -> Tensor:
        """What ``evaluate`` gives on each batch, combined as the losses are: weighted means, or sums.

        Args:
            evaluate: from the content of a batch to a tensor, linear in the loss (loss, gradient, product).
        """
        return self.combine((evaluate(batch.content), batch.count) for batch in self.checked_batches())

    def checked_batches(self) -> Iterator[Batch]:
        """One pass over the data, once the model's mode is checked."""
        self._require_mode()
        yield from self.batches

    def combine(self, terms: Iterator[tuple[Tensor, int | None]]) -> Tensor:
        """The values of all batches and their counts, combined: over batches, and over processes."""
        total: Tensor | None = None
        weights = 0
        for value, count in terms:
            weight = (count or 0) if self.reduction == "mean" else 1
            term = value.to(self.accumulation) if self.reduction is None else value.to(self.accumulation) * weight
            total, weights = term if total is None else total + term, weights + weight
        if total is None:
            raise InvalidData("data gives no batches")
        if self.process_group is not None:
            total, weights = self._reduce(total, weights)
        return (total / weights if self.reduction == "mean" else total).to(self.dtype)

    def _reduce(self, total: Tensor, weights: int) -> tuple[Tensor, int]:
        """The sums over all processes."""
        import torch.distributed as dist

        require(not total.requires_grad, "a loss over several processes has no graph: use gradient, hvp or an operator")
        counts = torch.tensor([weights], dtype=torch.int64, device=total.device)
        total = total.contiguous()
        dist.all_reduce(total, group=self.process_group)
        dist.all_reduce(counts, group=self.process_group)
        return total, int(counts)

    def require_same(self, theta: Tensor) -> None:
        """Raises InvalidData unless all processes of the group are at the same point."""
        if self.process_group is None:
            return
        import torch.distributed as dist

        extremes = torch.cat([theta, -theta])
        dist.all_reduce(extremes, op=dist.ReduceOp.MAX, group=self.process_group)
        require(
            bool(torch.equal(extremes[: len(theta)], -extremes[len(theta) :])),
            "theta differs between processes: load the same parameters in all of them, or broadcast them",
            InvalidData,
        )

    def loss(self, theta: Tensor) -> Tensor:
        """The loss of each row: (*b, P) -> (*b)."""
        rows = self.validate(theta).reshape(-1, self.dim or 0)

        def evaluate(content: Any) -> Tensor:
            losses = torch.stack([self.batch_loss(self.unflatten(row), content) for row in rows])
            return losses if rows.requires_grad else losses.detach()  # a closure may leave a graph of its own

        return self.accumulate(evaluate).reshape(theta.shape[:-1])

    def loss_and_gradient(self, theta: Tensor) -> tuple[Tensor, Tensor]:
        """Loss (*b) and gradient (*b, P); one batch's graph is held at a time."""
        rows = self.validate(theta).detach().reshape(-1, self.dim or 0)
        if self.row_strategy is None and len(rows) >= 4:
            self.row_strategy = self._time_rows(rows[:4])
        by_vmap = self.row_strategy == "vmap"
        evaluate = self._vectorised_derivatives if by_vmap else self._looped_derivatives
        both = self.accumulate(lambda content: evaluate(rows, content))
        return both[:, 0].reshape(theta.shape[:-1]), both[:, 1:].reshape(theta.shape)

    def _looped_derivatives(self, rows: Tensor, content: Any) -> Tensor:
        """Loss and gradient of each row on one batch, (S, 1 + P)."""
        return torch.stack([self._derivatives(row, content) for row in rows])

    def _derivatives(self, row: Tensor, content: Any) -> Tensor:
        with torch.enable_grad(), explained(), full_precision(self.dtype):
            leaves = [each.requires_grad_() for each in self.unflatten(row.clone()).values()]
            loss = self.batch_loss(dict(zip(self.parameter_names, leaves, strict=True)), content)
            gradient = torch.autograd.grad(loss, leaves, allow_unused=True, materialize_grads=True)
        return flatten([loss.detach(), *gradient])

    def _vectorised_derivatives(self, rows: Tensor, content: Any) -> Tensor:
        derivatives = vmap(grad_and_value(lambda row: self.batch_loss(self.unflatten(row), content)))
        with full_precision(self.dtype):
            gradient, loss = derivatives(rows)
        return torch.cat([loss.unsqueeze(-1), gradient], -1)

    def _time_rows(self, rows: Tensor) -> str:
        """The faster of the two ways on one batch, after a warm-up; the loop where vmap does not work."""
        content = self.batches.first().content
        seconds = {}
        for name, evaluate in (("loop", self._looped_derivatives), ("vmap", self._vectorised_derivatives)):
            try:
                evaluate(rows, content)
                start = time.perf_counter()
                float(evaluate(rows, content).sum())  # waits for a GPU
                seconds[name] = time.perf_counter() - start
            except RuntimeError:
                if name == "loop":
                    raise
        return min(seconds, key=lambda name: seconds[name])

    def gradient_graph(self, free: Mapping[str, Tensor], content: Any, fixed: Mapping[str, Tensor] | None = None):
        """The gradient on one batch by the parameters in ``free``, the others fixed, ready for Hessian products."""
        names = tuple(free)

        def loss(leaves: list[Tensor]) -> Tensor:
            with FastSecondDerivatives():
                return self.batch_loss({**(fixed or {}), **dict(zip(names, leaves, strict=True))}, content)

        return GradientGraph(loss, list(free.values()))

    def gauss_newton_graph(self, free: Mapping[str, Tensor], content: Any, fixed: Mapping[str, Tensor] | None = None):
        """The same for products with the Gauss-Newton matrix."""
        names = tuple(free)

        def outputs(leaves: list[Tensor]) -> Tensor:
            with FastSecondDerivatives():
                return self.batch_outputs({**(fixed or {}), **dict(zip(names, leaves, strict=True))}, content)

        return GaussNewtonGraph(outputs, lambda outputs: self.output_loss(outputs, content), list(free.values()))

    def hvp(self, theta: Tensor, v: Tensor) -> Tensor:
        """Hessian-vector products, row by row: (*b, P), (*b, P) -> (*b, P); one batch's graph is held at a time."""
        rows = self.validate(theta).detach().reshape(-1, self.dim or 0)
        directions = self.validate(v).detach().expand(theta.shape).reshape(rows.shape)

        def evaluate(content: Any) -> Tensor:
            graphs = (self.gradient_graph(self.unflatten(row), content) for row in rows)
            return torch.stack([graph.multiply(d) for graph, d in zip(graphs, directions, strict=True)])

        return self.accumulate(evaluate).reshape(theta.shape)

    def kinks(self, theta: Tensor) -> checks.Kinks:
        """How many inputs of ReLU-like activations sit on their kink at one point (P,), on the first batch."""
        counter = checks.KinkCounter()
        with torch.no_grad(), counter:
            self.batch_loss(self.unflatten(theta), self.batches.first().content)
        return counter.result()


def _common_dtype(parameters: Mapping[str, Tensor], wanted: torch.dtype | None) -> torch.dtype:
    """The dtype asked for, or the one that all trainable parameters share."""
    require(
        bool(parameters), "model has no trainable parameters: all are frozen (requires_grad=False), or there are none"
    )
    for name, each in parameters.items():
        require(
            each.is_floating_point(),
            f"parameter '{name}' is {each.dtype}: only real floating-point parameters have a Hessian here; freeze"
            " it, or hold real and imaginary parts as parameters of their own",
        )
    found = {each.dtype for each in parameters.values()}
    require(
        wanted is not None or len(found) == 1,
        f"parameters are {' and '.join(sorted(map(str, found)))}: say which to compute in, dtype=torch.float32",
    )
    return wanted or found.pop()
