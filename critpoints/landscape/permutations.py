"""Which permutations of channels leave the function of a module unchanged, found by following its channels.

A hidden channel may be renamed wherever it occurs: along the rows of the layer that makes it, the entries of a
BatchNorm that scales it, the columns of layers that read it. Channels that are added to each other share one name.
"""

from __future__ import annotations

import copy
import operator
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.fx.passes.shape_prop import ShapeProp
from torch.nn import functional as F
from torch.nn.modules.batchnorm import _BatchNorm

from critpoints.errors import InvalidArgument

_LAYERS = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)
# what acts on every channel alone and alike, or on space
_CHANNELWISE = (
    *(nn.Identity, nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.ELU, nn.SELU, nn.GELU, nn.SiLU, nn.Mish, nn.Softplus),
    *(nn.Tanh, nn.Sigmoid, nn.Hardtanh, nn.Hardswish, nn.Hardsigmoid, nn.Softsign, nn.LogSigmoid, nn.CELU),
    *(nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d),
    *(nn.MaxPool1d, nn.MaxPool2d, nn.MaxPool3d, nn.AvgPool1d, nn.AvgPool2d, nn.AvgPool3d),
    *(nn.AdaptiveAvgPool1d, nn.AdaptiveAvgPool2d, nn.AdaptiveMaxPool2d),
)
_CHANNELWISE_FUNCTIONS = {
    *(F.relu, F.leaky_relu, F.elu, F.gelu, F.silu, F.softplus, F.max_pool2d, F.avg_pool2d, F.adaptive_avg_pool2d),
    *(F.dropout, torch.relu, torch.tanh, torch.sigmoid),
}
_ADDITIONS = {operator.add, operator.iadd, torch.add}
_FLATTENS = {torch.flatten}


@dataclass(frozen=True)
class Slot:
    """Where the channels of a group occur: an axis of a parameter or buffer, ``block`` entries in a row for each."""

    name: str
    axis: int
    block: int = 1


@dataclass(frozen=True)
class Group:
    """Channels that are permuted together.

    Attributes:
        size: how many.
        slots: everywhere they occur; the layers that make them come before those that read them.
    """

    size: int
    slots: tuple[Slot, ...]


def permute(tensors: dict[str, Tensor], group: Group, order: Tensor) -> dict[str, Tensor]:
    """Tensors by name, of which channel j is what channel ``order[j]`` was; those without a slot are as they were."""
    permuted = dict(tensors)
    for slot in group.slots:
        if slot.name in permuted:
            permuted[slot.name] = permuted[slot.name].index_select(slot.axis, _expanded(order, slot))
    return permuted


def _expanded(order: Tensor, slot: Slot) -> Tensor:
    return (order.unsqueeze(1) * slot.block + torch.arange(slot.block, device=order.device)).reshape(-1)


@dataclass
class _Channels:
    """What is known about one value of the network: its channels' group, and how many entries of axis 1 are one."""

    group: int | None  # None: those of the input, or mixed with something fixed
    block: int = 1


def find_groups(model: nn.Module, inputs: Tensor) -> list[Group]:
    """The groups of hidden channels of a module, in the order in which they are made.

    Linear and convolutional layers, BatchNorm, pooling, elementwise activations, flattening, sums and what these are
    composed of. Channels of the module's inputs and outputs keep their places.

    Args:
        inputs: a batch of any size; the module runs on it once.

    Raises:
        InvalidArgument: names the part of the module whose channels cannot be followed.
    """
    own = copy.deepcopy(model).eval()
    like = next(own.parameters())
    inputs = inputs.to(like.device, like.dtype if inputs.is_floating_point() else None)
    try:
        traced = fx.symbolic_trace(own)
    except Exception as error:  # tracing runs the user's forward on stand-ins for tensors
        raise InvalidArgument(f"model cannot be traced, so its channels cannot be followed: {error}") from error
    with torch.no_grad():
        ShapeProp(traced).propagate(inputs)
    follower = _Follower(dict(own.named_modules(remove_duplicate=False)))
    follower.follow(traced.graph)
    return follower.groups()


class _Follower:
    """Walks through a traced module, unites groups where channels are added, and fixes those that may not move."""

    def __init__(self, modules: dict[str, nn.Module]) -> None:
        self.modules = modules
        self.parent: list[int] = []
        self.sizes: list[int] = []
        self.slots: list[list[Slot]] = []
        self.fixed: set[int] = set()
        self.seen: dict[nn.Module, str] = {}
        self.known: dict[fx.Node, _Channels] = {}

    def follow(self, graph: fx.Graph) -> None:
        for node in graph.nodes:
            if node.op == "placeholder":
                self.known[node] = _Channels(None)
            elif node.op == "output":
                for each in node.all_input_nodes:
                    self._fix(self.known[each])
            else:
                self.known[node] = self._apply(node)

    def groups(self) -> list[Group]:
        roots = {self._root(number) for number in range(len(self.parent))}
        free = sorted(roots - {self._root(number) for number in self.fixed})
        found = []
        for root in free:
            members = [number for number in range(len(self.parent)) if self._root(number) == root]
            slots = [slot for number in members for slot in self.slots[number]]
            found.append(Group(self.sizes[root], tuple(dict.fromkeys(slots))))
        return [group for group in found if group.size > 1]

    def _apply(self, node: fx.Node) -> _Channels:
        sources = [self.known[each] for each in node.all_input_nodes]
        if node.op == "call_module":
            return self._module(node, str(node.target), self.modules[str(node.target)], sources)
        name = node.target if node.op == "call_method" else None
        if (node.target in _ADDITIONS or name in ("add", "add_")) and len(sources) == 2:
            return self._sum(node, *sources)
        if node.target in _FLATTENS or name == "flatten":
            return self._flatten(node, node.args[1:], node.kwargs, sources[0])
        if (node.target in _CHANNELWISE_FUNCTIONS or name in ("relu", "tanh", "sigmoid")) and len(sources) == 1:
            return sources[0]
        return self._refuse(node, f"calls {getattr(node.target, '__name__', node.target)}")

    def _module(self, node: fx.Node, name: str, module: nn.Module, sources: Sequence[_Channels]) -> _Channels:
        (source,) = sources
        if isinstance(module, _CHANNELWISE):
            return source
        if isinstance(module, nn.Flatten):
            return self._flatten(node, (module.start_dim, module.end_dim), {}, source)
        if isinstance(module, nn.PReLU) and module.num_parameters == 1:
            return source
        if self.seen.setdefault(module, name) != name or self._called_before(node):
            return self._refuse(node, "runs more than once")
        if isinstance(module, _BatchNorm):
            for key in ("weight", "bias", "running_mean", "running_var"):
                if getattr(module, key) is not None:
                    self._add(source, f"{name}.{key}", 0)
            return source
        grouped = getattr(module, "groups", 1) != 1
        if isinstance(module, _LAYERS) and not grouped and self._fits(node, module):
            self._add(source, f"{name}.weight", 1)
            made = self._new(module.weight.shape[0])
            self._add(made, f"{name}.weight", 0)
            if module.bias is not None:
                self._add(made, f"{name}.bias", 0)
            return made
        return self._refuse(node, f"is a {type(module).__name__}")

    @staticmethod
    def _fits(node: fx.Node, module: nn.Module) -> bool:
        """Whether channels are where they are looked for, on axis 1: a linear layer reads the last one."""
        return not isinstance(module, nn.Linear) or len(_shape(node)) == 2

    def _called_before(self, node: fx.Node) -> bool:
        return any(each.op == "call_module" and each.target == node.target for each in self.known)

    def _sum(self, node: fx.Node, a: _Channels, b: _Channels) -> _Channels:
        if len({_shape(each) for each in node.all_input_nodes}) > 1 or a.block != b.block:
            return self._refuse(node, "adds tensors of different shapes")
        if a.group is None or b.group is None:
            self._fix(a)
            self._fix(b)
            return a
        first, second = sorted((self._root(a.group), self._root(b.group)))
        self.parent[second] = first
        return a

    def _flatten(self, node: fx.Node, args: Sequence[Any], kwargs: dict[str, Any], source: _Channels) -> _Channels:
        start = args[0] if args else kwargs.get("start_dim", 0)
        end = args[1] if len(args) > 1 else kwargs.get("end_dim", -1)
        shape = _shape(node.all_input_nodes[0])
        if start != 1 or end not in (-1, len(shape) - 1):
            return self._refuse(node, "flattens other axes than all but the first")
        return _Channels(source.group, source.block * shape[2:].numel())

    def _new(self, size: int) -> _Channels:
        self.parent.append(len(self.parent))
        self.sizes.append(size)
        self.slots.append([])
        return _Channels(len(self.parent) - 1)

    def _add(self, channels: _Channels, name: str, axis: int) -> None:
        if channels.group is not None:
            self.slots[channels.group].append(Slot(name, axis, channels.block))

    def _fix(self, channels: _Channels) -> None:
        if channels.group is not None:
            self.fixed.add(channels.group)

    def _root(self, number: int) -> int:
        while self.parent[number] != number:
            number = self.parent[number]
        return number

    def _refuse(self, node: fx.Node, what: str) -> _Channels:
        name = str(node.target) if node.op == "call_module" else node.name
        raise InvalidArgument(
            f"model cannot be aligned: '{name}' {what}, through which channels cannot be followed; alignment knows"
            " linear and convolutional layers, BatchNorm, pooling, elementwise activations, flattening and sums"
        )


def _shape(node: fx.Node) -> torch.Size:
    return node.meta["tensor_meta"].shape
