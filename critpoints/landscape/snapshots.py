"""Snapshots of a training run: one file a step and an index, complete at every moment."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load as from_bytes
from safetensors.torch import save as to_bytes
from torch import Tensor, nn

from critpoints.errors import InvalidData, require
from critpoints.landscape.results import plain, write_atomically

SCHEMA = 1
_INDEX = "index.json"


class SnapshotWriter:
    """Writes states of a module to a folder; an instance is a callback of ``fit``, or of any training loop.

    The index is written after the file that it names, and both by renaming, so that a run that is ended at any moment
    leaves a folder that ``Snapshots`` reads. Writing a step again replaces it.

    Args:
        folder: made if need be; snapshots that it holds are kept.
        when: which steps are written; all by default.
        metadata: JSON values that the index keeps.

    Raises:
        InvalidData: the folder's index is damaged.

    >>> import tempfile
    >>> folder = tempfile.mkdtemp()
    >>> write = SnapshotWriter(folder, when=lambda step: step % 10 == 0)
    >>> for step in range(21):
    ...     write(step, nn.Linear(2, 1))
    >>> Snapshots(folder).steps
    (0, 10, 20)
    """

    def __init__(
        self,
        folder: str | Path,
        *,
        when: Callable[[int], bool] | Collection[int] | None = None,
        metadata: Mapping[str, Any] | None = None,
    ) -> None:
        self.folder = Path(folder)
        self.when = when.__contains__ if isinstance(when, Collection) else when
        existing = (self.folder / _INDEX).exists()
        index = _read_index(self.folder) if existing else {"schema": SCHEMA, "metadata": {}, "snapshots": {}}
        self._index = {**index, "metadata": {**index["metadata"], **plain(metadata or {})}}

    def __call__(self, step: int, state: nn.Module | Mapping[str, Tensor]) -> None:
        """Writes the state of this step, if it is wanted.

        Raises:
            InvalidData: the tensors have other names or shapes than those of the folder.
        """
        if self.when is not None and not self.when(step):
            return
        named = state.state_dict() if isinstance(state, nn.Module) else state
        tensors = {name: each.detach().to("cpu", copy=True).contiguous() for name, each in named.items()}
        shapes = {name: list(each.shape) for name, each in tensors.items()}
        known = self._index.setdefault("shapes", shapes)
        require(
            shapes == known, f"step {step}: {_unlike(shapes, known)}; {self.folder} holds another model", InvalidData
        )
        content = to_bytes(tensors)
        name = f"step-{step:08d}.safetensors"
        write_atomically(self.folder / name, lambda path: _write(path, content))
        self._index["snapshots"][str(step)] = {"file": name, "sha256": hashlib.sha256(content).hexdigest()}
        text = json.dumps(self._index, indent=1)
        write_atomically(self.folder / _INDEX, lambda path: _write(path, text.encode()))


class Snapshots(Mapping[int, dict[str, Tensor]]):
    """The snapshots of a folder: a mapping from steps, ascending, to state dictionaries, read when they are asked for.

    Raises:
        InvalidData: there is no index, or it is damaged; on reading a snapshot, that it is missing, damaged or of
            another shape.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        index = _read_index(self.folder)
        self.metadata: dict[str, Any] = index["metadata"]
        self.shapes: dict[str, list[int]] = index.get("shapes", {})
        self._files = {int(step): index["snapshots"][step] for step in sorted(index["snapshots"], key=int)}

    @property
    def steps(self) -> tuple[int, ...]:
        """Those that were written."""
        return tuple(self._files)

    def __len__(self) -> int:
        return len(self._files)

    def __iter__(self):
        return iter(self._files)

    def __getitem__(self, step: int) -> dict[str, Tensor]:
        entry = self._files[step]
        path = self.folder / entry["file"]
        require(path.is_file(), f"snapshot {path} is missing; the index of its folder names it", InvalidData)
        content = path.read_bytes()
        intact = hashlib.sha256(content).hexdigest() == entry["sha256"]
        require(intact, f"snapshot {path} is damaged: its checksum does not fit the index", InvalidData)
        tensors = from_bytes(content)
        shapes = {name: list(each.shape) for name, each in tensors.items()}
        require(shapes == self.shapes, f"snapshot {path}: {_unlike(shapes, self.shapes)}", InvalidData)
        return {name: tensors[name] for name in self.shapes}  # the file has an order of its own

    def matrix(self, names: Collection[str] | None = None, dtype: torch.dtype = torch.float64) -> Tensor:
        """All snapshots as rows (T, P), their floating-point tensors one after the other.

        Args:
            names: which tensors, those of the trainable parameters for example; by default all but statistics of
                BatchNorm.
        """
        return torch.stack([flatten_state(self[step], names, dtype) for step in self.steps])


def flatten_state(
    state: Mapping[str, Tensor], names: Collection[str] | None = None, dtype: torch.dtype = torch.float64
) -> Tensor:
    """The tensors of a state dictionary as one vector (P,), in its order; see ``Snapshots.matrix``.

    Raises:
        InvalidData: a name is not there.
    """
    if names is None:
        names = [
            name for name in state if not re.search(r"(^|\.)(running_mean|running_var|num_batches_tracked)$", name)
        ]
    missing = [name for name in names if name not in state]
    require(not missing, f"the state has no {', '.join(missing)}", InvalidData)
    return torch.cat([state[name].detach().to("cpu", dtype).reshape(-1) for name in names])


def _read_index(folder: Path) -> dict[str, Any]:
    path = folder / _INDEX
    require(path.is_file(), f"there are no snapshots in {folder}: it has no {_INDEX}", InvalidData)
    try:
        index = json.loads(path.read_bytes())
        schema, snapshots = index["schema"], index["snapshots"]
        intact = all(int(step) >= 0 and each["file"] and each["sha256"] for step, each in snapshots.items())
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise InvalidData(f"{path} is damaged: {error!r}") from error
    require(intact and schema == SCHEMA, f"{path} has schema {schema}, this version reads {SCHEMA}", InvalidData)
    return index


def _unlike(found: Mapping[str, list[int]], expected: Mapping[str, list[int]]) -> str:
    """The first few differences between two tables of shapes, in words."""
    names = [name for name in {**expected, **found} if found.get(name) != expected.get(name)]
    parts = [f"{name} has shape {found.get(name)}, expected {expected.get(name)}" for name in names[:3]]
    return "; ".join(parts) or "its tensors are in another order"


def _write(path: Path, content: bytes) -> None:
    path.write_bytes(content)
