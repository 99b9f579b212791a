"""Image data sets as tensors: bundled digits; MNIST, FashionMNIST and CIFAR-10 from local files, never downloaded."""

from __future__ import annotations

import gzip
import hashlib
import io
import pickle
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from critpoints.errors import InvalidData, require

DIGITS_SPLIT_SEED = 0  # of the one 80/20 split of the digits that every experiment shares
_FASHION = ("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot")
_CIFAR = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
_NUMERALS = tuple("0123456789")


@dataclass(frozen=True)
class Dataset:
    """A classification problem in memory: pixels in [0, 1], normalised channel by channel, (x - mean) / std.

    Attributes:
        train_x, test_x: (N, C, H, W), float32.
        train_y, test_y: (N,), int64, indices into ``classes``.
        mean, std: the constants of each channel that the pixels were normalised with.
        checksum: SHA-256 of the unnormalised images and labels in their order, train then test.
    """

    name: str
    train_x: Tensor
    train_y: Tensor
    test_x: Tensor
    test_y: Tensor
    classes: tuple[str, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    checksum: str

    @property
    def shape(self) -> tuple[int, int, int]:
        """Channels, height and width of an image."""
        channels, height, width = self.train_x.shape[1:]
        return channels, height, width

    @property
    def train(self) -> tuple[Tensor, Tensor]:
        """Images and labels to train on."""
        return self.train_x, self.train_y

    @property
    def test(self) -> tuple[Tensor, Tensor]:
        """Images and labels held out."""
        return self.test_x, self.test_y


@dataclass(frozen=True)
class _Raw:
    """Images (N, C, H, W) and labels (N,) as they are stored, pixels from 0 to ``white``."""

    train: tuple[np.ndarray, np.ndarray]
    test: tuple[np.ndarray, np.ndarray]
    white: float = 255.0


@dataclass(frozen=True)
class _Source:
    """How a data set is read, and the mean and deviation of its training pixels."""

    read: Callable[[Path], _Raw]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    classes: tuple[str, ...] = field(default=_NUMERALS)
    layout: str | None = None  # of the files below root; None: bundled


def load(name: str, root: str | Path | None = None, *, dtype: torch.dtype = torch.float32) -> Dataset:
    """Reads a data set, checks it and normalises it.

    Args:
        name: "digits" (bundled with scikit-learn; one seeded 80/20 split), "mnist", "fashion-mnist" or "cifar-10".
        root: the folder that holds ``MNIST/raw/``, ``FashionMNIST/raw/`` or ``cifar-10-batches-py/``, as torchvision
            lays them out; IDX files may be compressed (.gz).
        dtype: of the images.

    Raises:
        InvalidArgument: an unknown name, or no root where one is needed.
        InvalidData: a file that is missing or damaged, or labels that name no class.
    """
    require(name in SOURCES, f"name must be one of {', '.join(SOURCES)}, got {name!r}")
    source = SOURCES[name]
    require(
        source.layout is None or root is not None,
        f"root must be given for {name} (--data on the command line): the folder that holds {source.layout}; nothing is"
        " downloaded",
    )
    raw = source.read(Path(root or "."))
    digest = hashlib.sha256()
    mean, std = (torch.tensor(each, dtype=dtype)[:, None, None] for each in (source.mean, source.std))
    parts: list[tuple[Tensor, Tensor]] = []
    for images, labels in (raw.train, raw.test):
        _check(name, images, labels, len(source.classes))
        for array in (images, labels):
            digest.update(np.ascontiguousarray(array, np.uint8).tobytes())
        pixels = torch.from_numpy(images.astype(np.float32)).to(dtype) / raw.white
        parts.append(((pixels - mean) / std, torch.from_numpy(labels.astype(np.int64))))
    (train_x, train_y), (test_x, test_y) = parts
    return Dataset(
        name,
        train_x,
        train_y,
        test_x,
        test_y,
        classes=source.classes,
        mean=source.mean,
        std=source.std,
        checksum=digest.hexdigest(),
    )


def _check(name: str, images: np.ndarray, labels: np.ndarray, n_classes: int) -> None:
    require(
        len(images) == len(labels) > 0, f"{name}: there are {len(images)} images and {len(labels)} labels", InvalidData
    )
    require(int(labels.max()) < n_classes, f"{name}: a label is {labels.max()}, of {n_classes} classes", InvalidData)


def _read_digits(root: Path) -> _Raw:
    try:
        from sklearn.datasets import load_digits
    except ImportError as error:
        raise InvalidData("the digits come with scikit-learn: pip install 'critpoints[data]'") from error
    bunch: Any = load_digits()
    images, labels = bunch.images[:, None].astype(np.uint8), bunch.target.astype(np.uint8)
    order = np.random.default_rng(DIGITS_SPLIT_SEED).permutation(len(images))
    train, test = np.split(order, [int(0.8 * len(images))])
    return _Raw((images[train], labels[train]), (images[test], labels[test]), white=16.0)


def _idx_reader(folder: str) -> Callable[[Path], _Raw]:
    def read(root: Path) -> _Raw:
        parts = [
            (
                _read_idx(root / folder / f"{part}-images-idx3-ubyte", 3),
                _read_idx(root / folder / f"{part}-labels-idx1-ubyte", 1),
            )
            for part in ("train", "t10k")
        ]
        train, test = ((images[:, None], labels) for images, labels in parts)
        return _Raw(train, test)

    return read


def _read_idx(path: Path, n_axes: int) -> np.ndarray:
    """Unsigned bytes in the IDX format (yann.lecun.com/exdb/mnist): magic number, lengths of the axes, values."""
    packed = path.with_name(f"{path.name}.gz")
    found = path if path.is_file() else packed
    require(found.is_file(), f"there is no file {path} (nor .gz): place it there as torchvision does", InvalidData)
    content = found.read_bytes()
    if found is packed:
        try:
            content = gzip.decompress(content)
        except (OSError, EOFError, zlib.error) as error:
            raise InvalidData(f"{found} is damaged: {error}") from error
    start = 4 + 4 * n_axes
    require(
        len(content) >= start and content[:4] == bytes([0, 0, 8, n_axes]),
        f"{found} is damaged or no IDX file: it must begin with 0 0 8 {n_axes} and {n_axes} lengths",
        InvalidData,
    )
    lengths = [int(each) for each in np.frombuffer(content[4:start], ">u4")]
    expected = int(np.prod(lengths, dtype=object))
    require(
        len(content) - start == expected,
        f"{found} is damaged: its header promises {' x '.join(map(str, lengths))} bytes, {len(content) - start} follow",
        InvalidData,
    )
    return np.frombuffer(content, np.uint8, offset=start).reshape(lengths)


class _ArraysOnly(pickle.Unpickler):
    """An unpickler of dictionaries, lists, strings, numbers and NumPy arrays; any other object is refused."""

    def find_class(self, module_name: str, global_name: str) -> Any:
        module = module_name.replace("numpy._core", "numpy.core")
        if (module, global_name) == ("numpy.core.multiarray", "_reconstruct"):
            return np.empty(0).__reduce__()[0]
        allowed = {("numpy", "ndarray"): np.ndarray, ("numpy", "dtype"): np.dtype, ("_codecs", "encode"): _encode}
        if (module, global_name) not in allowed:
            raise pickle.UnpicklingError(f"it holds a {module_name}.{global_name}")
        return allowed[module, global_name]


def _encode(text: str, encoding: str = "latin1") -> bytes:
    """How Python 3 pickles bytes in the old protocols."""
    return text.encode(encoding)


def _read_cifar(root: Path) -> _Raw:
    names = [*(f"data_batch_{number}" for number in range(1, 6)), "test_batch"]
    *train, test = (_read_cifar_batch(root / "cifar-10-batches-py" / name) for name in names)
    images, labels = (np.concatenate(parts) for parts in zip(*train, strict=True))
    return _Raw((images, labels), test)


def _read_cifar_batch(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """One batch of the Python version of CIFAR-10 (Krizhevsky 2009): a dictionary of rows of 3072 bytes and labels."""
    require(path.is_file(), f"there is no file {path}: unpack cifar-10-python.tar.gz there", InvalidData)
    try:
        batch = _ArraysOnly(io.BytesIO(path.read_bytes()), encoding="bytes").load()
    except Exception as error:  # a damaged pickle may raise anything
        raise InvalidData(f"{path} is damaged or no batch of CIFAR-10: {error}") from error
    content = batch if isinstance(batch, Mapping) else {}
    rows: Any = content.get(b"data")
    labels: Any = content.get(b"labels")
    intact = isinstance(rows, np.ndarray) and rows.dtype == np.uint8 and rows.ndim == 2 and rows.shape[1] == 3072
    known = isinstance(labels, list) and all(isinstance(label, int) and 0 <= label < 10 for label in labels)
    if not (intact and known and len(rows) == len(labels)):
        raise InvalidData(f"{path} is damaged: b'data' must be (N, 3072) bytes and b'labels' N numbers from 0 to 9")
    return rows.reshape(-1, 3, 32, 32), np.array(labels, np.uint8)


SOURCES: Mapping[str, _Source] = {
    "digits": _Source(_read_digits, (0.3054,), (0.3760,)),
    "mnist": _Source(_idx_reader("MNIST/raw"), (0.1307,), (0.3081,), layout="MNIST/raw/"),
    "fashion-mnist": _Source(
        _idx_reader("FashionMNIST/raw"), (0.2860,), (0.3530,), _FASHION, layout="FashionMNIST/raw/"
    ),
    "cifar-10": _Source(
        _read_cifar, (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616), _CIFAR, layout="cifar-10-batches-py/"
    ),
}
