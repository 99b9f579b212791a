"""What an experiment leaves: result files (npz with a JSON header), and units that are stored as they finish."""

from __future__ import annotations

import io
import json
import math
import multiprocessing
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from critpoints.errors import InvalidData, SpecMismatch, require

SCHEMA = 1  # of result files
_HEADER = "header"  # the array of a result file that is text

Arrays = dict[str, np.ndarray]
Compute = Callable[[str], Mapping[str, Any]]  # from the name of a unit to its arrays; a function that pickles
Callback = Callable[[float, int, str], None]


@dataclass(frozen=True)
class Result:
    """Arrays by name, and a header of JSON values that says what they are and how they were made."""

    header: dict[str, Any]
    arrays: Arrays


def write_atomically(path: Path, write: Callable[[Path], None]) -> None:
    """A file that is there whole or not at all: written beside its place, flushed to the disk, then renamed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        write(temporary)
        with open(temporary, "rb") as written:
            os.fsync(written.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)  # the new name, too
    finally:
        os.close(folder)


def save_result(path: str | Path, result: Result) -> None:
    """Writes a result file, atomically.

    Raises:
        InvalidData: an array of Python objects, or a header that JSON cannot hold.
    """
    arrays = {name: np.asarray(each) for name, each in result.arrays.items()}
    for name, each in arrays.items():
        require(name not in (_HEADER, "file"), f"an array of a result cannot be called {name!r}", InvalidData)
        require(each.dtype != object, f"array {name!r} of a result holds Python objects", InvalidData)
    header = np.array(json.dumps({"schema": SCHEMA, **plain(result.header)}, allow_nan=False))

    def write(temporary: Path) -> None:
        with open(temporary, "wb") as file:
            np.savez_compressed(file, **{_HEADER: header}, **arrays)  # pyright: ignore[reportArgumentType]

    write_atomically(Path(path), write)


def load_result(path: str | Path) -> Result:
    """Reads a result file.

    Raises:
        InvalidData: it is damaged, no result file, or one of a newer schema.
    """
    content = io.BytesIO(Path(path).read_bytes())
    try:
        with np.load(content, allow_pickle=False) as stored:
            arrays = {name: stored[name] for name in stored.files}
        header = json.loads(str(arrays.pop(_HEADER)))
        schema = header.pop("schema")
    except Exception as error:  # a damaged archive may raise anything
        raise InvalidData(f"{path} is damaged or no result file ({error}): delete it to compute it anew") from error
    require(schema == SCHEMA, f"{path} has schema {schema}, this version reads {SCHEMA}", InvalidData)
    return Result(header, arrays)


def plain(value: Any) -> Any:
    """Headers as JSON knows them: arrays and tuples as lists, numbers that are not finite as None."""
    if isinstance(value, Mapping):
        return {str(key): plain(each) for key, each in value.items()}
    if isinstance(value, torch.Tensor | np.ndarray):
        return plain(value.tolist())
    if isinstance(value, list | tuple | range):
        return [plain(each) for each in value]
    if isinstance(value, np.generic):
        return plain(value.item())
    return None if isinstance(value, float) and not math.isfinite(value) else value


def run_units(
    folder: str | Path,
    configuration: Mapping[str, Any],
    units: Sequence[str],
    compute: Compute,
    *,
    workers: int = 1,
    environment: Mapping[str, Any] | None = None,
    callback: Callback | None = None,
) -> list[Result]:
    """Computes the units that ``folder`` does not hold yet, and stores each as soon as it is done.

    A unit is computed by one thread, in this process or in one of several, so that its bits do not depend on how many
    there are. Results are in the order of ``units``.

    Args:
        configuration: everything that the results depend on; kept in every header.
        units: their names, fit for names of files, for example "seed-3".
        compute: from the name of a unit to its arrays. With several workers it must pickle: a function of a module, or
            a ``functools.partial`` of one.
        workers: processes.
        environment: on what it is computed; kept in the headers, not compared.
        callback: called with the units done, those wanted, and the name of the last one.

    Raises:
        SpecMismatch: the folder holds units of another configuration.
        InvalidData: a unit is damaged.
    """
    require(workers >= 1, f"workers must be at least 1, got {workers}")
    folder, expected = Path(folder), plain(configuration)
    found = {unit: stored for unit in units if (stored := _stored(_path(folder, unit), expected)) is not None}
    missing = [unit for unit in units if unit not in found]
    if missing:
        _report(callback, len(found), len(units), "")
    for unit, arrays in _computed(missing, compute, min(workers, len(missing))):
        header = {"configuration": expected, "unit": unit, "environment": environment}
        result = Result(plain(header), {name: np.asarray(each) for name, each in arrays.items()})
        save_result(_path(folder, unit), result)
        found[unit] = result
        _report(callback, len(found), len(units), unit)
    return [found[unit] for unit in units]


def stack(results: Sequence[Result], header: Mapping[str, Any]) -> Result:
    """The arrays of all units, each with a leading axis over the units, under one header.

    Raises:
        InvalidData: an array has another shape in another unit.
    """
    arrays: Arrays = {}
    for name in results[0].arrays:
        shapes = {each.arrays[name].shape for each in results}
        require(len(shapes) == 1, f"array {name!r} has shapes {sorted(shapes)} in different units", InvalidData)
        arrays[name] = np.stack([each.arrays[name] for each in results])
    units = [each.header["unit"] for each in results]
    return Result({**results[0].header, "units": units, **plain(header)}, arrays)


def _path(folder: Path, unit: str) -> Path:
    return folder / "units" / f"{unit}.npz"


def _stored(path: Path, configuration: Any) -> Result | None:
    if not path.exists():
        return None
    result = load_result(path)
    differing = _differences(result.header.get("configuration"), configuration)
    require(
        not differing,
        f"{path} holds results of another configuration ({differing} differ): choose another folder",
        SpecMismatch,
    )
    return result


def _differences(a: Any, b: Any, path: str = "") -> str:
    """The keys at which two JSON documents differ, as one text."""
    if isinstance(a, dict) and isinstance(b, dict):
        keys = sorted(a.keys() | b.keys())
        parts = [_differences(a.get(key), b.get(key), f"{path}.{key}" if path else key) for key in keys]
        return ", ".join(part for part in parts if part)
    return "" if a == b else path or "all"


def _report(callback: Callback | None, done: int, total: int, message: str) -> None:
    if callback is not None:
        callback(done, total, message)


def _computed(units: Sequence[str], compute: Compute, workers: int) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Units and their arrays, as they finish."""
    if workers <= 1:
        with _one_thread():
            for unit in units:
                yield unit, compute(unit)
        return
    others = set(multiprocessing.active_children())
    context = multiprocessing.get_context("spawn")  # a fork would inherit the locks of threads that it does not
    pool = ProcessPoolExecutor(workers, mp_context=context, initializer=torch.set_num_threads, initargs=(1,))
    try:
        futures = {pool.submit(compute, unit): unit for unit in units}
        for future in as_completed(futures):
            yield futures[future], future.result()
    except BaseException:
        for process in set(multiprocessing.active_children()) - others:
            process.terminate()  # an interrupted run does not wait for minutes of work that nobody stores
        raise
    finally:
        pool.shutdown(cancel_futures=True)


@contextmanager
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
