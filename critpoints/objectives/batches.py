"""The data of a module's loss: batches in a fixed order, converted, counted, split, the same in every pass."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Self

import torch
from torch import Tensor
from torch.utils._pytree import tree_flatten, tree_map_only, tree_unflatten
from torch.utils.data import DataLoader, DistributedSampler, RandomSampler, SubsetRandomSampler, WeightedRandomSampler

from critpoints.errors import InvalidData, require

_SHUFFLING = (RandomSampler, SubsetRandomSampler, WeightedRandomSampler)


@dataclass(frozen=True)
class Batch:
    """What a loss is evaluated on at a time, and how many samples that is (None: they cannot be counted)."""

    content: Any
    count: int | None


class Batches:
    """Batches that can be passed over again and again: data in memory is one batch, a loader gives many.

    Args:
        data: a tuple, dictionary, tensor or other object is one batch; a ``DataLoader``, a list or any other iterable
            that can be restarted gives one batch after the other.
        dtype, device: floating-point tensors are converted to the dtype, all tensors moved to the device.
        micro_batch: the largest number of samples evaluated at a time; larger batches are split along axis 0.
        sample_count: the samples in a batch; by default the length of axis 0 that all its tensors share.

    Raises:
        InvalidData: a loader that shuffles or repeats samples, an iterator that is exhausted after one pass.
    """

    def __init__(
        self,
        data: Any,
        *,
        dtype: torch.dtype,
        device: torch.device,
        micro_batch: int | None = None,
        sample_count: Callable[[Any], int] | None = None,
    ) -> None:
        require(micro_batch is None or micro_batch >= 1, f"micro_batch must be at least 1, got {micro_batch}")
        self.dtype, self.device, self.micro_batch = dtype, device, micro_batch
        self.sample_count: Callable[[Any], int | None] = sample_count or shared_length
        self.in_memory = data is None or isinstance(data, tuple | dict | Tensor) or not isinstance(data, Iterable)
        self._fingerprints: list[tuple[float, ...]] = []
        if not self.in_memory:
            _require_fixed_order(data)
        self._data: Any = self._convert(data) if self.in_memory else data

    def __iter__(self) -> Iterator[Batch]:
        for content in [self._data] if self.in_memory else self._load():
            yield from self._split(content)

    def to_dtype(self, dtype: torch.dtype) -> Self:
        """The same batches with floating-point tensors in another dtype."""
        converted = copy.copy(self)
        converted.dtype, converted._fingerprints = dtype, list(self._fingerprints)
        if converted.in_memory:
            converted._data = converted._convert(self._data)
        return converted

    def replace(self, data: Any) -> Batches:
        """Other data, batched as these are."""
        options: dict[str, Any] = {"dtype": self.dtype, "device": self.device, "micro_batch": self.micro_batch}
        return Batches(data, sample_count=self.sample_count, **options)  # pyright: ignore[reportArgumentType]

    def first(self) -> Batch:
        """The first batch.

        Raises:
            InvalidData: there is none.
        """
        batch = next(iter(self), None)
        if batch is None:
            raise InvalidData("data gives no batches: is the data set empty, or smaller than a batch with drop_last?")
        return batch

    def has_several(self) -> bool:
        """Whether there is more than one batch (or micro-batch)."""
        batches = iter(self)
        next(batches, None)
        return next(batches, None) is not None

    def _convert(self, content: Any) -> Any:
        def convert(tensor: Tensor) -> Tensor:
            return tensor.to(self.device, self.dtype if tensor.is_floating_point() else None)

        return tree_map_only(Tensor, convert, content)

    def _load(self) -> Iterator[Any]:
        state = torch.get_rng_state()
        loader = iter(self._data)  # a DataLoader draws a seed here: the caller's random numbers are not ours to use up
        torch.set_rng_state(state)
        number = -1
        for number, content in enumerate(loader):
            self._require_unchanged(number, content)
            yield self._convert(content)
        require(
            number + 1 == len(self._fingerprints),
            f"data gave {len(self._fingerprints)} batches in one pass and {number + 1} in another",
            InvalidData,
        )

    def _require_unchanged(self, number: int, content: Any) -> None:
        found = _fingerprint(content)
        if number == len(self._fingerprints):
            self._fingerprints.append(found)
        require(
            self._fingerprints[number] == found,
            f"data changed between two passes, first in batch {number}: does the loader shuffle, or a transform draw"
            " random numbers? Pass a loader with shuffle=False and no random transforms",
            InvalidData,
        )

    def _split(self, content: Any) -> Iterator[Batch]:
        count = self.sample_count(content)
        if self.micro_batch is None or (count is not None and count <= self.micro_batch):
            yield Batch(content, count)
            return
        length = shared_length(content)
        require(
            length is not None,
            "micro_batch cannot split a batch whose tensors differ in length along axis 0: pass smaller batches",
        )
        for start in range(0, length or 0, self.micro_batch):
            part = slice_batch(content, start, start + self.micro_batch)
            yield Batch(part, self.sample_count(part))


def shared_length(content: Any) -> int | None:
    """The length of axis 0 of all tensors in a batch; None if they differ or there are none."""
    tensors = [leaf for leaf in tree_flatten(content)[0] if isinstance(leaf, Tensor)]
    lengths = {leaf.shape[0] if leaf.ndim else -1 for leaf in tensors}
    return lengths.pop() if len(lengths) == 1 and -1 not in lengths else None


def slice_batch(content: Any, start: int, stop: int) -> Any:
    """Samples start..stop-1 of a batch whose tensors share axis 0."""
    leaves, structure = tree_flatten(content)
    return tree_unflatten([leaf[start:stop] if isinstance(leaf, Tensor) else leaf for leaf in leaves], structure)


def _fingerprint(content: Any) -> tuple[float, ...]:
    """The length and the sum of each tensor on the CPU: cheap beside a gradient, and never a wait for a GPU."""
    tensors = [leaf for leaf in tree_flatten(content)[0] if isinstance(leaf, Tensor) and leaf.device.type == "cpu"]
    sums = [float(leaf.abs().sum() if leaf.is_complex() else leaf.sum(dtype=torch.float64)) for leaf in tensors]
    # NaN differs from itself; a loss that it makes NaN is reported elsewhere
    return (*(float(len(leaf)) if leaf.ndim else 1.0 for leaf in tensors), *(0.0 if s != s else s for s in sums))


def _require_fixed_order(data: Any) -> None:
    require(
        not isinstance(data, Iterator),
        f"data must be restartable, but {type(data).__name__} is exhausted after one pass: pass a list or a DataLoader",
        InvalidData,
    )
    if not isinstance(data, DataLoader):
        return
    sampler = getattr(data.batch_sampler, "sampler", data.sampler)
    for each in (sampler, data.sampler):
        require(
            not isinstance(each, _SHUFFLING),
            f"data shuffles ({type(each).__name__}): a Hessian needs the same batches in every pass; pass a DataLoader"
            " with shuffle=False",
            InvalidData,
        )
        if isinstance(each, DistributedSampler):
            require(
                each.total_size == len(data.dataset),  # type: ignore[arg-type]
                "data's DistributedSampler repeats or drops samples to make the shards equal, which changes the loss:"
                " give every process a Subset of its own instead",
                InvalidData,
            )
