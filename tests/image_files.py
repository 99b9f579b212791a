"""Tiny data sets of random pixels, in the formats of the real ones."""

import gzip
import pickle
import struct
from pathlib import Path

import numpy as np

N_TRAIN, N_TEST = 7, 3
IDX_FOLDERS = {"mnist": "MNIST/raw", "fashion-mnist": "FashionMNIST/raw"}


def idx_bytes(array: np.ndarray) -> bytes:
    return struct.pack(f">BBBB{array.ndim}I", 0, 0, 8, array.ndim, *array.shape) + array.tobytes()


def write_idx(root: Path, name: str, *, packed: bool = False) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    arrays = {}
    folder = root / IDX_FOLDERS[name]
    folder.mkdir(parents=True)
    for part, n in (("train", N_TRAIN), ("t10k", N_TEST)):
        arrays[f"{part}-images-idx3-ubyte"] = rng.integers(0, 256, (n, 28, 28), dtype=np.uint8)
        arrays[f"{part}-labels-idx1-ubyte"] = rng.integers(0, 10, n, dtype=np.uint8)
    for file, array in arrays.items():
        content = idx_bytes(array)
        (folder / (f"{file}.gz" if packed else file)).write_bytes(gzip.compress(content) if packed else content)
    return arrays


def write_cifar(root: Path) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    folder = root / "cifar-10-batches-py"
    folder.mkdir(parents=True)
    rows = {}
    for name in (*(f"data_batch_{k}" for k in range(1, 6)), "test_batch"):
        rows[name] = rng.integers(0, 256, (2, 3072), dtype=np.uint8)
        labels = [int(each) for each in rng.integers(0, 10, 2)]
        (folder / name).write_bytes(pickle.dumps({b"data": rows[name], b"labels": labels}, protocol=2))
    return rows
