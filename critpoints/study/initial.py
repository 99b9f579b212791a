"""Where the rows of a study start: from the problem's own scheme, or from a file."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from critpoints.errors import InvalidArgument, InvalidData
from critpoints.objectives.base import Objective
from critpoints.objectives.two_layer import TwoLayerObjective
from critpoints.study.units import Unit


def n_parameters(problem: Objective, width: int) -> int:
    """P of the rows of a width; an objective of one size has the same P at every width."""
    return problem.n_parameters(width) if isinstance(problem, TwoLayerObjective) else problem.dim or 0


@dataclass(frozen=True)
class Initial:
    """Where the rows of a study start: row i of the students of a width belongs to seed i.

    Attributes:
        students: (S, P) float64 by width, from a file, or the rows by seed; None where ``problem.init`` makes them.
        checksum: of the file's arrays; None without a file.
    """

    students: Mapping[int, np.ndarray | Mapping[int, np.ndarray]] | None = None
    checksum: str | None = None

    def of(self, unit: Unit) -> Initial:
        """As much of it as one unit needs, for a worker that has no such file."""
        if self.students is None:
            return self
        students = self.students[unit.width]
        return Initial({unit.width: {seed: students[seed] for seed in unit.seeds}}, self.checksum)

    def rows(self, problem: Objective, width: int, seeds: Iterable[int], scheme: str) -> Tensor:
        """The initial students of these seeds, (S, P)."""
        seeds = list(seeds)
        if self.students is not None:
            return problem.validate(torch.from_numpy(np.stack([self.students[width][seed] for seed in seeds])))
        return problem.init(width, seeds, scheme)  # type: ignore[attr-defined]


def load_initial(path: str | Path, problem: Objective, widths: Iterable[int]) -> Initial:
    """Initial students from a .npz or .safetensors file.

    The array of width m is called ``width_m``; the only array of a file may have any name if one width is asked for.

    Raises:
        InvalidArgument: another kind of file.
        InvalidData: an array that is missing, has the wrong shape, or is not finite.
    """
    arrays, widths = _read_arrays(Path(path)), list(widths)
    if len(arrays) == len(widths) == 1:
        arrays = {f"width_{widths[0]}": next(iter(arrays.values()))}
    digest, students = hashlib.sha256(), {}
    for name, array in sorted(arrays.items()):
        digest.update(f"{name}{array.dtype.str}{array.shape}".encode() + np.ascontiguousarray(array).tobytes())
    for width in widths:
        students[width] = _checked_students(path, arrays, width, n_parameters(problem, width))
    return Initial(students, digest.hexdigest())


def _read_arrays(path: Path) -> dict[str, np.ndarray]:
    if path.suffix not in (".npz", ".safetensors"):
        raise InvalidArgument(f"init-from must be a .npz or .safetensors file, got {path}")
    try:
        if path.suffix == ".npz":
            with np.load(path, allow_pickle=False) as file:
                return {name: file[name] for name in file.files}
        from safetensors.numpy import load_file

        return load_file(path)
    except FileNotFoundError:
        raise
    except Exception as error:  # zipfile, numpy and safetensors each have their own exceptions for a damaged file
        raise InvalidData(f"init-from {path} cannot be read: {error}") from error


def _checked_students(path: str | Path, arrays: Mapping[str, np.ndarray], width: int, size: int) -> np.ndarray:
    name = f"width_{width}"
    if name not in arrays:
        raise InvalidData(f"init-from {path} has no array {name}, it has {', '.join(sorted(arrays)) or 'none'}")
    array = arrays[name]
    if array.dtype not in (np.float64, np.float32):
        raise InvalidData(f"init-from {path}: {name} has dtype {array.dtype}; give float64 or float32")
    if array.ndim != 2 or array.shape[1] != size or not len(array):
        raise InvalidData(f"init-from {path}: {name} must have shape (S, {size}), one row a seed, got {array.shape}")
    if bad := int((~np.isfinite(array)).sum()):
        row = int(np.nonzero(~np.isfinite(array).all(1))[0][0])
        raise InvalidData(
            f"init-from {path}: {name} has {bad} entries that are NaN or infinite, the first in row {row}"
        )
    return array.astype(np.float64)
