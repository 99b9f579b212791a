import dataclasses
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from critpoints import data
from critpoints.landscape import interpolation_experiment, trajectory_experiment
from critpoints.landscape.results import load_result

SHORT = ("--seeds", 2, "--epochs", 1, "--workers", 1)


@pytest.fixture
def tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    """Forty digits and a few points, so that an experiment takes a second."""
    whole = data.load("digits")
    parts = {name: getattr(whole, name)[:40] for name in ("train_x", "train_y", "test_x", "test_y")}
    few = dataclasses.replace(whole, **parts)
    for module in (data, interpolation_experiment, trajectory_experiment):
        monkeypatch.setattr(module, "load", lambda name, root=None: few)
    lines = {"points": 11, "later_points": 5, "curvature_points": 2, "curvature_samples": 20}
    smaller = partial(interpolation_experiment.InterpolationExperiment, **lines)
    monkeypatch.setattr(interpolation_experiment, "InterpolationExperiment", smaller)
    paths = {"curvature_epochs": (0, 20), "curvature_samples": 20, "barrier_points": 3}
    smaller = partial(trajectory_experiment.TrajectoryExperiment, **paths)
    monkeypatch.setattr(trajectory_experiment, "TrajectoryExperiment", smaller)


def outcomes(document: dict) -> dict[str, dict]:
    return {each["name"]: each for each in document["criteria"]}


def test_interpolation_leaves_results_a_figure_and_a_table(run, tiny, tmp_path: Path) -> None:
    out = tmp_path / "out"
    finished = run("landscape", "interpolate", "--experiment", "digits-300-100", "--out", out, *SHORT)
    assert finished.code == 0
    assert "relative mid height from initialisation, test loss" in finished.out
    assert "reproduced" in finished.out
    assert (out / "interpolate.png").stat().st_size > 10_000
    result = load_result(out / "interpolate.npz")
    assert result.header["configuration"]["setting"]["recipe"]["epochs"] == 1
    assert result.header["units"] == ["seed-0", "seed-1"]
    losses = result.arrays["losses-none"]
    first = result.arrays["first-none"]
    assert (losses.shape, first.shape) == ((2, 1, 5, 4), (2, 11, 4))  # a single step: iteration 0 and the end
    assert np.isfinite(losses).all()
    np.testing.assert_allclose(first[:, [0, -1]], losses[:, 0, [0, -1]], rtol=1e-6)

    again = run("landscape", "interpolate", "--experiment", "digits-300-100", "--out", out, *SHORT, "--json")
    assert "nothing to compute" in again.err
    found = outcomes(again.document)
    mid = found["relative mid height from initialisation, train loss"]
    expected = [
        (np.interp(0.5, result.arrays["t"][0], each) - each[-1]) / (each[0] - each[-1]) for each in first[..., 0]
    ]
    np.testing.assert_allclose(mid["values"], expected, rtol=1e-9)
    assert mid["outcome"] == ("reproduced" if mid["mean"] + 2 * mid["spread"] / 2**0.5 <= 0.25 else "not reproduced")


def test_both_policies_are_drawn_for_a_network_with_batch_norm(run, tiny, tmp_path: Path) -> None:
    out = tmp_path / "out"
    finished = run("landscape", "interpolate", "--experiment", "digits-vgg-bn", "--out", out, *SHORT, "--json")
    arrays = load_result(out / "interpolate.npz").arrays
    assert {
        "losses-interpolate",
        "losses-recalibrate",
        "curvature-interpolate",
        "curvature-recalibrate",
    } <= arrays.keys()
    assert all(each["outcome"] == "measured" for each in finished.document["criteria"])
    assert (out / "interpolate.png").exists()


def test_trajectories_leave_results_a_figure_and_a_table(run, tiny, tmp_path: Path) -> None:
    out, options = tmp_path / "out", ("--seeds", 4, "--epochs", 20, "--workers", 1)
    finished = run("landscape", "trajectory", "--experiment", "digits-lstm", "--out", out, *options, "--json")
    assert finished.code == 0
    result, pairs = (load_result(out / f"{name}.npz") for name in ("trajectory", "pairs"))
    points = result.arrays["points"]  # (runs, groups, E, P)
    assert points.shape[:3] == (4, 3, 3)
    assert not np.array_equal(points[0, 0, 0], points[1, 0, 0])  # another initialisation each
    np.testing.assert_array_equal(points[0, 1, 0], points[3, 1, 0])  # the same one, other shuffles
    assert not np.array_equal(points[0, 1, -1], points[3, 1, -1])
    np.testing.assert_array_equal(points[0, 2, 1], points[3, 2, 1])  # the same after 10 epochs, when the clones part
    assert not np.array_equal(points[0, 2, 2], points[3, 2, 2])
    found = outcomes(finished.document)
    for g, group in enumerate(("initialisation", "shuffle", "clone")):
        ends = points[:, g, -1].astype(float)
        distances = [np.linalg.norm(ends[i] - ends[j]) for i in range(4) for j in range(i + 1, 4)]
        np.testing.assert_allclose(pairs.arrays["distances"][g], distances, rtol=1e-6)
        assert found[f"variation of pairwise distances (jackknife), by {group}"]["bar"] == 0.1
    assert found["variance explained by 2 components"]["mean"] == pytest.approx(result.arrays["explained"][:, 1].mean())
    assert (out / "trajectory.png").stat().st_size > 10_000


def test_another_configuration_needs_another_folder(run, tiny, tmp_path: Path) -> None:
    out = tmp_path / "out"
    base = ("landscape", "interpolate", "--experiment", "digits-300-100", "--out", out, "--workers", 1, "--seeds", 1)
    assert run(*base, "--epochs", 1).code == 0
    finished = run(*base, "--epochs", 2)
    assert finished.code == 3
    assert "another configuration (setting.recipe.epochs differ)" in finished.err


def test_missing_data_is_named_before_anything_is_computed(run, tmp_path: Path) -> None:
    finished = run("landscape", "interpolate", "--experiment", "mnist-300-100", "--out", tmp_path / "o")
    assert finished.code == 2
    assert "root must be given for mnist" in finished.error
    finished = run(
        "landscape", "interpolate", "--experiment", "cifar10-vgg16", "--data", tmp_path, "--out", tmp_path / "o"
    )
    assert finished.code == 3
    assert "data_batch_1" in finished.error
    assert not (tmp_path / "o").exists()
    assert run("landscape", "trajectory", "--experiment", "digits-mlp", "--seeds", 1).code == 2
    assert run("landscape", "trajectory", "--experiment", "none").code == 2


def test_a_damaged_data_file_is_named(run, tmp_path: Path) -> None:
    out, broken = tmp_path / "out", tmp_path / "MNIST/raw/train-images-idx3-ubyte"
    broken.parent.mkdir(parents=True)
    broken.write_bytes(bytes([0, 0, 8, 3]) + bytes(20))
    for command in ("interpolate", "section", "curve"):
        finished = run("landscape", command, "--experiment", "mnist-300-100", "--data", tmp_path, "--out", out)
        assert finished.code == 3 and "train-images-idx3-ubyte is damaged" in finished.error and not out.exists()


def test_a_damaged_run_is_named_and_an_output_that_cannot_be(run, tiny, tmp_path: Path) -> None:
    out = tmp_path / "out"
    base = ("landscape", "interpolate", "--experiment", "digits-300-100", "--out", out, *SHORT)
    assert run(*base).code == 0
    unit = out / "units/seed-1.npz"
    unit.write_bytes(unit.read_bytes()[:-40])
    finished = run(*base)
    assert finished.code == 3 and "seed-1.npz is damaged" in finished.error and "delete it" in finished.error
    unit.unlink()
    assert run(*base).code == 0
    in_the_way = tmp_path / "file"
    in_the_way.touch()
    assert run(*base[:5], in_the_way / "out", *base[6:]).code == 4
