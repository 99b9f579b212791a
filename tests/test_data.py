import hashlib
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from image_files import IDX_FOLDERS, N_TRAIN, idx_bytes, write_cifar, write_idx

from critpoints import data
from critpoints.errors import InvalidArgument, InvalidData


def test_the_digits_are_split_once_and_normalised() -> None:
    digits = data.load("digits")
    assert digits.shape == (1, 8, 8)
    assert (len(digits.train_x), len(digits.test_x)) == (1437, 360)
    assert abs(float(digits.train_x.mean())) < 1e-3
    assert abs(float(digits.train_x.std()) - 1) < 1e-3
    again = data.load("digits", dtype=torch.float64)
    assert again.checksum == digits.checksum
    assert again.train_x.dtype == torch.float64
    assert torch.equal(again.train_y, digits.train_y)


def test_the_split_of_the_digits_loses_and_repeats_none() -> None:
    from sklearn.datasets import load_digits

    digits = data.load("digits", dtype=torch.float64)
    pixels = torch.cat([digits.train_x, digits.test_x]).flatten(1) * digits.std[0] + digits.mean[0]
    found = {
        (tuple(row), label) for row, label in zip((16 * pixels).round().int().tolist(), all_labels(digits), strict=True)
    }
    bunch = load_digits()
    assert found == {
        (tuple(map(int, row)), label) for row, label in zip(bunch.data, bunch.target.tolist(), strict=True)
    }


def all_labels(dataset: data.Dataset) -> list[int]:
    return torch.cat([dataset.train_y, dataset.test_y]).tolist()


@pytest.mark.parametrize("packed", [False, True], ids=["plain", "gz"])
@pytest.mark.parametrize("name", IDX_FOLDERS)
def test_idx_files_are_read_and_normalised(name: str, packed: bool, tmp_path: Path) -> None:
    arrays = write_idx(tmp_path, name, packed=packed)
    loaded = data.load(name, tmp_path, dtype=torch.float64)
    images, labels = arrays["t10k-images-idx3-ubyte"], arrays["t10k-labels-idx1-ubyte"]
    expected = (images[:, None] / 255 - loaded.mean[0]) / loaded.std[0]
    np.testing.assert_allclose(loaded.test_x.numpy(), expected, rtol=1e-14)
    assert loaded.test_y.tolist() == labels.tolist()
    assert loaded.train_x.shape == (N_TRAIN, 1, 28, 28)
    assert len(loaded.classes) == 10
    in_order = b"".join(
        arrays[file].tobytes() for file in sorted(arrays, key=lambda file: file[0] != "t" or file[1] != "r")
    )
    assert loaded.checksum == hashlib.sha256(in_order).hexdigest()


def test_cifar_batches_are_read(tmp_path: Path) -> None:
    rows = write_cifar(tmp_path)
    loaded = data.load("cifar-10", tmp_path, dtype=torch.float64)
    assert loaded.train_x.shape == (10, 3, 32, 32)
    blue = rows["data_batch_2"][1].reshape(3, 32, 32)[2] / 255  # rows hold the red plane, the green, the blue
    np.testing.assert_allclose(loaded.train_x[3, 2].numpy(), (blue - loaded.mean[2]) / loaded.std[2], rtol=1e-13)


@pytest.mark.parametrize("name", ["mnist", "fashion-mnist", "cifar-10"])
def test_a_missing_file_is_named_with_its_place(name: str, tmp_path: Path) -> None:
    with pytest.raises(InvalidArgument, match="root must be given"):
        data.load(name)
    with pytest.raises(InvalidData, match=r"there is no file .*(raw.train-images-idx3-ubyte|batches-py.data_batch_1)"):
        data.load(name, tmp_path)


def test_an_unknown_data_set_is_refused() -> None:
    with pytest.raises(InvalidArgument, match="name must be one of digits, mnist"):
        data.load("imagenet")


@pytest.mark.parametrize("cut", [0, 3, 10, 100, -1])
def test_a_truncated_idx_file_is_damaged(cut: int, tmp_path: Path) -> None:
    write_idx(tmp_path, "mnist")
    path = tmp_path / "MNIST/raw/train-images-idx3-ubyte"
    path.write_bytes(path.read_bytes()[:cut])
    with pytest.raises(InvalidData, match=r"train-images-idx3-ubyte is damaged"):
        data.load("mnist", tmp_path)


@pytest.mark.parametrize("damage", [lambda b: b[:-20], lambda b: b"no gzip", lambda b: b[:60] + b"\xff" * 9 + b[69:]])
def test_a_damaged_compressed_file_is_named(damage, tmp_path: Path) -> None:
    write_idx(tmp_path, "mnist", packed=True)
    path = tmp_path / "MNIST/raw/train-images-idx3-ubyte.gz"
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(InvalidData, match=r"ubyte.gz is damaged"):
        data.load("mnist", tmp_path)


def test_images_and_labels_must_belong_together(tmp_path: Path) -> None:
    write_idx(tmp_path, "mnist")
    path = tmp_path / "MNIST/raw/train-labels-idx1-ubyte"
    path.write_bytes(idx_bytes(np.zeros(N_TRAIN - 1, np.uint8)))
    with pytest.raises(InvalidData, match="7 images and 6 labels"):
        data.load("mnist", tmp_path)
    path.write_bytes(idx_bytes(np.full(N_TRAIN, 10, np.uint8)))
    with pytest.raises(InvalidData, match="a label is 10, of 10 classes"):
        data.load("mnist", tmp_path)


class Intruder:
    def __reduce__(self):
        return print, ("this must never run",)


@pytest.mark.parametrize(
    "content",
    [
        pytest.param({b"data": np.zeros((2, 3072), np.uint8), b"labels": Intruder()}, id="code"),
        pytest.param({b"data": np.zeros((2, 3071), np.uint8), b"labels": [0, 1]}, id="short rows"),
        pytest.param({b"data": np.zeros((2, 3072), np.float32), b"labels": [0, 1]}, id="floats"),
        pytest.param({b"data": np.zeros((2, 3072), np.uint8), b"labels": [0]}, id="too few labels"),
        pytest.param({b"data": np.zeros((2, 3072), np.uint8), b"labels": [0, 10]}, id="unknown class"),
        pytest.param({b"data": np.zeros((2, 3072), np.uint8), b"labels": ["0", "1"]}, id="labels of text"),
        pytest.param([1, 2], id="no dictionary"),
    ],
)
def test_a_cifar_batch_of_anything_else_is_refused(content, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_cifar(tmp_path)
    (tmp_path / "cifar-10-batches-py/data_batch_3").write_bytes(pickle.dumps(content, protocol=2))
    with pytest.raises(InvalidData, match=r"data_batch_3 is damaged"):
        data.load("cifar-10", tmp_path)
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("cut", [0, 1, 50, 4000, -1])
def test_a_truncated_cifar_batch_is_damaged(cut: int, tmp_path: Path) -> None:
    write_cifar(tmp_path)
    path = tmp_path / "cifar-10-batches-py/test_batch"
    path.write_bytes(path.read_bytes()[:cut])
    with pytest.raises(InvalidData, match=r"test_batch is damaged"):
        data.load("cifar-10", tmp_path)
