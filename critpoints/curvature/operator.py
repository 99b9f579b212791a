"""Hessian and Gauss-Newton matrices of any objective as operators: kept graphs where they fit, rebuilt where not."""

from __future__ import annotations

import abc
import os
import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor

from critpoints.curvature.cuda_graphs import RecordedGraph, can_record
from critpoints.curvature.linear_operator import SymmetricOperator
from critpoints.errors import InvalidArgument, InvalidData, require
from critpoints.objectives.base import Objective
from critpoints.objectives.batches import Batch
from critpoints.objectives.gradient_graph import GradientGraph
from critpoints.objectives.module import ModuleObjective
from critpoints.objectives.module_checks import KinkWarning

DENSE_PARAMETERS = 500  # up to here a closed-form Hessian is formed once instead of multiplied by
VECTORISED_BYTES = 250_000  # graphs up to this size spend their time in overhead, which blocks of vectors share
MEMORY_SHARE = 0.25  # of the memory that is free: how much kept graphs may take by default


class Graph(Protocol):
    """One batch's derivatives, ready for products."""

    value: Tensor

    def multiply(self, vector: Tensor) -> Tensor:
        """(P,) -> (P,)."""
        ...


def available_memory(device: torch.device) -> int:
    """Bytes that are free on a device, as far as the system says; 2 GiB where it does not."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    try:
        with open("/proc/meminfo", encoding="ascii") as lines:
            return next(1024 * int(line.split()[1]) for line in lines if line.startswith("MemAvailable:"))
    except (OSError, StopIteration):
        names = getattr(os, "sysconf_names", {})
        pages = os.sysconf("SC_PHYS_PAGES") if "SC_PHYS_PAGES" in names else 0
        return pages * os.sysconf("SC_PAGE_SIZE") // 2 if pages else 2 << 30


def saved_bytes(build: Callable[[], Any]) -> int:
    """The memory of the tensors that the graphs made by ``build`` keep, each storage once."""
    storages: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        storages[storage.data_ptr()] = storage.nbytes()
        return tensor.detach()

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        kept = build()
    total = sum(storages.values())
    del kept  # until here, so that no storage was freed and its address used again
    return total


class _WholeObjective:
    """Any objective in the form of a module's: one batch, and one parameter called theta."""

    process_group = None
    parameter_names = ("theta",)

    def __init__(self, objective: Objective) -> None:
        self.objective = objective

    def unflatten(self, theta: Tensor) -> dict[str, Tensor]:
        return {"theta": theta}

    def checked_batches(self) -> Iterator[Batch]:
        yield Batch(None, None)

    def combine(self, terms: Iterator[tuple[Tensor, int | None]]) -> Tensor:
        ((value, _),) = terms
        return value

    def gradient_graph(self, free: dict[str, Tensor], content: Any, fixed: dict[str, Tensor]) -> Graph:
        return GradientGraph(lambda leaves: self.objective.loss(leaves[0]), list(free.values()))


class CurvatureOperator(SymmetricOperator):
    """Products with a matrix of second derivatives at one point, batch by batch; see ``HessianOperator``."""

    def __init__(
        self,
        objective: Objective,
        theta: Tensor | None = None,
        *,
        parameters: Sequence[str] | None = None,
        memory: int | None = None,
        probe: bool = True,
        replay: bool = True,
    ) -> None:
        self.objective, self.theta = objective, _one_point(objective, theta)
        self._terms: Any = objective if isinstance(objective, ModuleObjective) else _WholeObjective(objective)
        named = {name: each.detach().clone() for name, each in self._terms.unflatten(self.theta).items()}
        chosen = _chosen(tuple(named), parameters)
        self._free = {name: named[name] for name in chosen}
        self._fixed = {name: each for name, each in named.items() if name not in self._free}
        self.slices: dict[str, slice] = {}
        start = 0
        for name, each in self._free.items():
            self.slices[name] = slice(start, start := start + each.numel())
        super().__init__(start, objective.dtype, objective.device)
        self._probed = not probe
        self._kept: list[tuple[Graph, int | None]] | None = None
        self._direct: Callable[[Tensor], Tensor] | None = self._closed_form()
        self.memory_estimate = 0
        self._vectorise, self._replay = False, replay
        self.not_replayed: str | None = None
        if self._direct is None:
            budget = int(MEMORY_SHARE * available_memory(self.device)) if memory is None else memory
            self._prepare(budget)
        if isinstance(objective, ModuleObjective):
            objective.require_same(self.theta)
            if probe:
                self._warn_of_kinks(objective)

    @abc.abstractmethod
    def _linearise(self, content: Any) -> Graph:
        """The graph of one batch."""

    def _closed_form(self) -> Callable[[Tensor], Tensor] | None:
        """Products (k, P) -> (k, P) without graphs, where the objective has them."""
        return None

    @property
    def strategy(self) -> str:
        """How products are formed: "kept", "replayed" or "rebuilt" graphs, or a "closed form" of the objective's."""
        if self._direct is not None:
            return "closed form"
        if self._kept is None:
            return "rebuilt"
        return "replayed" if any(isinstance(graph, RecordedGraph) for graph, _ in self._kept) else "kept"

    def _prepare(self, budget: int) -> None:
        """Keeps the graphs of all batches if they fit into the budget; measures and checks the first in any case."""
        kept: list[tuple[Graph, int | None]] = []
        rate = 0.0
        for number, batch in enumerate(self._terms.checked_batches()):
            if number == 0:
                self.memory_estimate = saved_bytes(lambda: self._linearise(batch.content))  # noqa: B023
                rate = self.memory_estimate / (batch.count or 1)
                self._vectorise = self.memory_estimate <= VECTORISED_BYTES
            else:
                self.memory_estimate += int(rate * (batch.count or 1))
            if self.memory_estimate > budget:
                if number == 0:
                    self._require_finite(self._linearise(batch.content), number)
                return
            graph = self._keep(batch.content)
            self._require_finite(graph, number)
            kept.append((graph, batch.count))
        self._kept = kept

    def _keep(self, content: Any) -> Graph:
        """The graph of one batch, recorded where that is possible; ``not_replayed`` says why it is not."""
        if self._replay and self.not_replayed is None and can_record(self.theta, self.memory_estimate):
            like = torch.zeros(self.dim, dtype=self.dtype, device=self.device)
            try:
                return RecordedGraph(lambda: self._linearise(content), like)
            except RuntimeError as error:  # torch raises nothing else for what cannot be recorded
                self.not_replayed = str(error)
        return self._linearise(content)

    def _require_finite(self, graph: Graph, number: int) -> None:
        value = float(graph.value)
        require(
            value - value == 0.0,  # neither NaN nor infinite
            f"the loss at theta is {value} on batch {number}: look for NaN in the data and for diverged parameters",
            InvalidData,
        )

    def _warn_of_kinks(self, objective: ModuleObjective) -> None:
        message = objective.kinks(self.theta).message
        if message is not None:
            warnings.warn(message, KinkWarning, stacklevel=4)

    def _multiply(self, block: Tensor) -> Tensor:
        if not self._probed:
            self._probed, made = True, self.products
            self.probe()
            self.products = made  # those asked for
        rows = block.mT.contiguous()
        if self._direct is not None:
            return self._direct(rows).mT
        if self._kept is not None:
            return self._terms.combine((self._rows(graph, rows), count) for graph, count in self._kept).mT
        batches = self._terms.checked_batches()
        return self._terms.combine((self._rows(self._linearise(b.content), rows), b.count) for b in batches).mT

    def _rows(self, graph: Graph, rows: Tensor) -> Tensor:
        """The products of one batch: (k, P) -> (k, P)."""
        if len(rows) > 1 and self._vectorise and isinstance(graph, GradientGraph):
            try:
                return graph.multiply_rows(rows)
            except (RuntimeError, InvalidArgument):  # an operation that torch cannot vectorise
                self._vectorise = False
        return torch.stack([graph.multiply(row) for row in rows])


class HessianOperator(CurvatureOperator):
    """The Hessian of an objective at one point, known by its products.

    The gradient's graph is kept, so that a product is one backward pass through it; if the graphs of all batches do
    not fit into ``memory``, they are rebuilt, one batch at a time, for every product (a block of k counts as one).
    Small problems with a closed-form Hessian form it once. The first product is preceded by a probe of symmetry and
    determinism (three more products, not counted).

    Args:
        objective: any ``Objective``.
        theta: (P,); by default a module's present parameters.
        parameters: names of parameters, or of submodules, of a ``ModuleObjective``: the diagonal block of the Hessian
            that belongs to them, for spectra layer by layer.
        memory: bytes that kept graphs may take; by default a quarter of what is free. 0 never keeps any.
        probe: False leaves the probe out, and the warning where inputs of ReLUs sit on their kinks.
        replay: False never records products as CUDA graphs; they are recorded for small models on a GPU, one vector at
            a time, if that works and gives the same products.

    Attributes:
        slices: where each named parameter lies in the operator's vectors.
        strategy: "kept", "replayed", "rebuilt" or "closed form".
        not_replayed: why a CUDA graph was tried and not used, or None.
        memory_estimate: bytes of the graphs of all batches, extrapolated from the first one; where they do not fit,
            of those counted until that was clear.

    Raises:
        InvalidArgument: theta is not one point, or a name is unknown.
        InvalidData: the loss is not finite; at the first product, the operator is random or not symmetric.

    >>> class Quadratic(Objective):
    ...     dim = 2
    ...     def loss(self, theta):
    ...         return theta[..., 0] ** 2 + 3.0 * theta[..., 0] * theta[..., 1]
    >>> H = HessianOperator(Quadratic(), torch.zeros(2, dtype=torch.float64))
    >>> H @ torch.tensor([1.0, 0.0])
    tensor([2., 3.], dtype=torch.float64)
    """

    def _closed_form(self) -> Callable[[Tensor], Tensor] | None:
        kind = type(self.objective)
        if isinstance(self.objective, ModuleObjective):
            return None
        if kind.hessian is not Objective.hessian and self.dim <= DENSE_PARAMETERS:
            hessian = self.objective.hessian(self.theta)
            require(bool(torch.isfinite(hessian).all()), "the Hessian at theta is not finite", InvalidData)
            return lambda rows: rows @ hessian
        if kind.hvp is not Objective.hvp:
            return lambda rows: self.objective.hvp(self.theta.expand_as(rows), rows)
        return None

    def _linearise(self, content: Any) -> Graph:
        return self._terms.gradient_graph(self._free, content, self._fixed)


class GaussNewtonOperator(CurvatureOperator):
    """The generalised Gauss-Newton matrix J^T (d^2 loss / d outputs^2) J of a module's loss, known by its products.

    Positive semidefinite for losses that are convex in the outputs; for a likelihood of the exponential family it is
    the Fisher information matrix (Martens 2020, JMLR 21, 146). Arguments and attributes as for ``HessianOperator``.

    Raises:
        InvalidArgument: the objective is not a ``ModuleObjective`` with ``loss_fn(model(x), y)``.
    """

    def __init__(self, objective: Objective, theta: Tensor | None = None, **options: Any) -> None:
        require(
            isinstance(objective, ModuleObjective),
            f"a Gauss-Newton matrix needs a ModuleObjective, whose outputs are known, got {type(objective).__name__}",
        )
        super().__init__(objective, theta, **options)

    def _linearise(self, content: Any) -> Graph:
        return self._terms.gauss_newton_graph(self._free, content, self._fixed)


def _one_point(objective: Objective, theta: Tensor | None) -> Tensor:
    if theta is None and isinstance(objective, ModuleObjective):
        theta = objective.parameters_vector()
    if theta is None:
        raise InvalidArgument("theta must be given, (P,): only a ModuleObjective has parameters of its own")
    theta = objective.validate(theta).detach()
    require(theta.ndim == 1, f"theta must be one point (P,), got shape {tuple(theta.shape)}: choose a row")
    require(bool(torch.isfinite(theta).all()), "theta must be finite", InvalidData)
    return theta


def _chosen(names: tuple[str, ...], wanted: Sequence[str] | None) -> list[str]:
    """The names that are in ``wanted`` or below a submodule in it, in the order of ``names``."""
    if wanted is None:
        return list(names)
    require(
        not isinstance(wanted, str) and len(wanted) > 0,
        f"parameters must be a list of names, got {wanted!r}; e.g. ['fc']",
    )
    below = {each: [name for name in names if name == each or name.startswith(f"{each}.")] for each in wanted}
    unknown = [each for each, found in below.items() if not found]
    require(not unknown, f"parameters has unknown names {unknown}: the trainable ones are {', '.join(names)}")
    return [name for name in names if any(name in found for found in below.values())]
