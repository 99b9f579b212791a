import dataclasses
import math
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from landscape_cases import draw, fail_at

from critpoints.errors import InvalidData, SpecMismatch
from critpoints.landscape import settings
from critpoints.landscape.criteria import Criterion, jackknife
from critpoints.landscape.results import Result, load_result, plain, run_units, save_result, stack

UNITS = [f"seed-{seed}" for seed in range(4)]
CONFIGURATION = {"setting": {"lr": 0.1, "widths": (3, 4)}, "points": 5}


def test_a_result_comes_back_as_it_was(tmp_path: Path) -> None:
    arrays = {"a": np.arange(6.0).reshape(2, 3), "names": np.array(["x", "yy"]), "scalar": np.array(math.nan)}
    save_result(tmp_path / "r.npz", Result({"b": (1, 2), "n": math.inf}, arrays))
    found = load_result(tmp_path / "r.npz")
    assert found.header == {"b": [1, 2], "n": None}
    assert found.arrays.keys() == arrays.keys()
    for name, array in arrays.items():
        np.testing.assert_array_equal(found.arrays[name], array)
    assert [each.name for each in tmp_path.iterdir()] == ["r.npz"]  # and nothing temporary


def test_what_cannot_be_stored_is_refused_and_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "r.npz"
    save_result(path, Result({}, {"a": np.zeros(2)}))
    for bad in ({"a": np.array([object()])}, {"header": np.zeros(1)}):
        with pytest.raises(InvalidData, match=r"objects|cannot be called"):
            save_result(path, Result({}, bad))
    with pytest.raises(TypeError):
        save_result(path, Result({"x": object()}, {}))
    assert load_result(path).arrays["a"].tolist() == [0, 0]


def test_a_write_that_fails_leaves_the_old_file_and_no_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "r.npz"
    save_result(path, Result({}, {"a": np.zeros(2)}))

    def no_space(file, **arrays) -> None:
        file.write(b"half")
        raise OSError("no space")

    monkeypatch.setattr(np, "savez_compressed", no_space)
    with pytest.raises(OSError, match="no space"):
        save_result(path, Result({}, {"a": np.ones(2)}))
    assert load_result(path).arrays["a"].tolist() == [0, 0]
    assert [each.name for each in tmp_path.iterdir()] == ["r.npz"]


@pytest.mark.parametrize("cut", [0, 10, 100, 300, -1, -30])
def test_a_truncated_result_is_damaged(cut: int, tmp_path: Path) -> None:
    path = tmp_path / "r.npz"
    save_result(path, Result({"b": 1}, {"a": np.random.default_rng(0).random(100)}))
    path.write_bytes(path.read_bytes()[:cut])
    with pytest.raises(InvalidData, match=r"r.npz is damaged .* delete it"):
        load_result(path)


def test_no_flipped_byte_changes_a_value_unnoticed(tmp_path: Path) -> None:
    path = tmp_path / "r.npz"
    values = np.random.default_rng(0).random(50)
    save_result(path, Result({"b": 1}, {"a": values}))
    intact = path.read_bytes()
    noticed = 0
    for position in range(0, len(intact), 7):
        path.write_bytes(intact[:position] + bytes([intact[position] ^ 0x10]) + intact[position + 1 :])
        try:
            found = load_result(path)
        except InvalidData:
            noticed += 1
        else:  # a byte that archives keep twice or do not use
            assert found.header == {"b": 1}
            np.testing.assert_array_equal(found.arrays["a"], values)
    assert noticed > len(intact) / 7 / 2


def test_anything_else_is_no_result(tmp_path: Path) -> None:
    np.savez(tmp_path / "other.npz", a=np.zeros(2))
    with pytest.raises(InvalidData, match="no result file"):
        load_result(tmp_path / "other.npz")
    with pytest.raises(FileNotFoundError):
        load_result(tmp_path / "none.npz")


@pytest.mark.parametrize("workers", [1, 2])
def test_units_do_not_depend_on_how_many_processes_compute_them(workers: int, tmp_path: Path) -> None:
    threads = torch.get_num_threads()
    seen: list[tuple[float, int]] = []
    results = run_units(
        tmp_path,
        CONFIGURATION,
        UNITS,
        draw,
        workers=workers,
        callback=lambda done, total, _: seen.append((done, total)),
    )
    assert [each.header["unit"] for each in results] == UNITS
    for unit, result in zip(UNITS, results, strict=True):
        np.testing.assert_array_equal(result.arrays["drawn"], draw(unit)["drawn"])
        assert result.arrays["threads"] == 1
        assert result.header["configuration"] == plain(CONFIGURATION)
    assert seen == [(done, 4) for done in range(5)]
    assert torch.get_num_threads() == threads


def test_a_second_run_computes_nothing(tmp_path: Path) -> None:
    first = run_units(tmp_path, CONFIGURATION, UNITS[:2], draw)
    second = run_units(tmp_path, CONFIGURATION, UNITS[:2], partial(fail_at, bad=UNITS[0], folder=tmp_path))
    for a, b in zip(first, second, strict=True):
        np.testing.assert_array_equal(a.arrays["drawn"], b.arrays["drawn"])
        assert a.header == b.header
    assert not list(tmp_path.glob("began-*"))


def test_an_interrupted_run_is_resumed_where_it_was(tmp_path: Path) -> None:
    failing = partial(fail_at, bad=UNITS[2], folder=tmp_path)
    with pytest.raises(RuntimeError, match="seed-2 failed"):
        run_units(tmp_path, CONFIGURATION, UNITS, failing)
    assert sorted(each.stem for each in (tmp_path / "units").iterdir()) == UNITS[:2]
    for began in tmp_path.glob("began-*"):
        began.unlink()
    resumed = run_units(tmp_path, CONFIGURATION, UNITS, partial(fail_at, bad="none", folder=tmp_path))
    assert sorted(each.name for each in tmp_path.glob("began-*")) == ["began-seed-2", "began-seed-3"]
    at_once = run_units(tmp_path / "other", CONFIGURATION, UNITS, draw)
    for a, b in zip(resumed, at_once, strict=True):
        np.testing.assert_array_equal(a.arrays["drawn"], b.arrays["drawn"])


@pytest.mark.slow  # two processes that import torch
def test_a_failing_process_is_reported(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="seed-0 failed"):
        run_units(tmp_path, {}, UNITS[:2], partial(fail_at, bad=UNITS[0], folder=tmp_path), workers=2)


def test_units_of_another_configuration_are_not_mixed_in(tmp_path: Path) -> None:
    run_units(tmp_path, CONFIGURATION, UNITS[:1], draw)
    other = {"setting": {"lr": 0.2, "widths": [3, 4]}, "points": 5}
    with pytest.raises(SpecMismatch, match=r"another configuration \(setting.lr differ\): choose another folder"):
        run_units(tmp_path, other, UNITS, draw)


def test_a_damaged_unit_is_reported(tmp_path: Path) -> None:
    run_units(tmp_path, CONFIGURATION, UNITS[:1], draw)
    path = tmp_path / "units/seed-0.npz"
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(InvalidData, match=r"seed-0.npz is damaged"):
        run_units(tmp_path, CONFIGURATION, UNITS[:1], draw)


def test_stacked_units_keep_their_order_and_must_agree_in_shape(tmp_path: Path) -> None:
    results = run_units(tmp_path, CONFIGURATION, UNITS, draw)
    stacked = stack(results, {"summary": "s"})
    assert stacked.header["units"] == UNITS
    assert stacked.header["summary"] == "s"
    np.testing.assert_array_equal(stacked.arrays["drawn"], [draw(unit)["drawn"] for unit in UNITS])
    ragged = dataclasses.replace(results[1], arrays={**results[1].arrays, "drawn": np.zeros(2)})
    with pytest.raises(InvalidData, match="'drawn' has shapes"):
        stack([results[0], ragged], {})


@pytest.mark.parametrize(
    ("values", "bar", "above", "reproduced"),
    [
        ((1.0, 1.0), 1.0, True, True),
        ((0.9, 1.3), 1.0, True, False),  # 0.1 above, with a standard error of 0.2
        ((1.9, 2.3), 1.0, True, True),
        ((0.1, 0.12, 0.11), 0.2, False, True),
        ((0.1, 0.12, 0.11), 0.1, False, False),
        ((5.0,), 1.0, True, False),  # one seed shows no spread
        ((5.0, math.nan), 1.0, True, False),
        ((5.0, 5.0), None, True, False),
    ],
)
def test_reproduced_means_two_errors_beyond_the_bar(values, bar: float | None, above: bool, reproduced: bool) -> None:
    criterion = Criterion("c", values, bar, above)
    assert criterion.reproduced is reproduced
    expected = "measured" if bar is None else "reproduced" if reproduced else "not reproduced"
    assert criterion.to_dict()["outcome"] == expected


def test_a_jackknife_knows_the_error_of_a_variance() -> None:
    """Of normal samples: the variance is unbiased after correction, its error about sqrt(2 / (n - 1))."""
    sample = np.random.default_rng(0).standard_normal(400)
    values = jackknife(len(sample), lambda chosen: float(sample[chosen].var()))
    criterion = Criterion("variance", values, None, above=True)
    assert criterion.mean == pytest.approx(sample.var(ddof=1), rel=1e-6)  # the bias of 1 / n is gone
    assert criterion.standard_error == pytest.approx(math.sqrt(2 / 399), rel=0.3)


@pytest.mark.parametrize("name", [name for name in settings.SETTINGS if name != "imagenet-resnet50"])
def test_every_setting_can_be_built(name: str) -> None:
    setting = settings.get_setting(name)
    assert plain(setting.to_dict()) == setting.to_dict()
    shape = {"digits": (1, 8, 8), "mnist": (1, 28, 28), "cifar-10": (3, 32, 32)}[setting.dataset]
    from critpoints.landscape.networks import ARCHITECTURES

    with torch.device("meta" if setting.architecture != "lipton-cnn" else "cpu"):
        options = {key: each for key, each in setting.options.items() if key != "initialisation"}
        model = ARCHITECTURES[setting.architecture](shape, 10, **options)
    assert sum(each.numel() for each in model.parameters()) > 1000
