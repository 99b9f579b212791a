"""A study as CSV, NPZ or Parquet: one row a point, every column, the latest verdict."""

from __future__ import annotations

import csv
import os
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np

from critpoints.errors import InvalidArgument
from critpoints.study.records import Row, to_json
from critpoints.study.store import Store


def export_study(store: Store, path: str | Path, format: str) -> None:
    """Writes all points of a study to ``path``; a file that is there is replaced once the new one is complete.

    ``csv`` and ``parquet`` hold one table, vectors as lists; ``npz`` holds arrays ``width_m/column``, vectors as
    (S, P).

    Raises:
        InvalidArgument: another format, the study itself as the target, or Parquet without pyarrow.
        OSError: the file cannot be written.
    """
    path = Path(path)
    if format not in WRITERS:
        raise InvalidArgument(f"format must be one of {', '.join(WRITERS)}, got {format!r}")
    if path.exists() and path.samefile(store.path):
        raise InvalidArgument(f"{path} is the study itself; give another file")
    writer = WRITERS[format]
    rows = {width: list(store.points(width)) for width in store.widths()}
    descriptor, temporary = tempfile.mkstemp(dir=path.absolute().parent, prefix=f".{path.name}.")
    os.close(descriptor)
    try:
        writer(Path(temporary), rows)
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise


def _write_csv(path: Path, rows: dict[int, list[Row]]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = None
        for row in (row for points in rows.values() for row in points):
            values = {name: to_json(value) if isinstance(value, np.ndarray) else value for name, value in row.items()}
            if writer is None:
                writer = csv.DictWriter(file, list(values))
                writer.writeheader()
            writer.writerow(values)


def _write_npz(path: Path, rows: dict[int, list[Row]]) -> None:
    arrays = {}
    for width, points in rows.items():
        for name in points[0] if points else ():
            arrays[f"width_{width}/{name}"] = _column([point[name] for point in points])
    with path.open("wb") as file:
        np.savez(file, allow_pickle=False, **arrays)


def _column(values: list) -> np.ndarray:
    """One array; integers that may be missing become floats, texts that may be missing empty ones."""
    if any(value is None for value in values):
        replacement = "" if any(isinstance(value, str) for value in values) else np.nan
        values = [replacement if value is None else value for value in values]
    return np.stack(values) if isinstance(values[0], np.ndarray) else np.array(values)


def _write_parquet(path: Path, rows: dict[int, list[Row]]) -> None:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise InvalidArgument(
            "format parquet needs pyarrow; install it with: pip install 'critpoints[parquet]'"
        ) from error
    table = pyarrow.Table.from_pylist([row for points in rows.values() for row in points])
    pyarrow.parquet.write_table(table, path)


WRITERS: dict[str, Callable[[Path, dict[int, list[Row]]], None]] = {
    "csv": _write_csv,
    "npz": _write_npz,
    "parquet": _write_parquet,
}
