"""critpoints landscape section and curve: files, summary, a second call that computes nothing, and what is refused."""

from pathlib import Path

import numpy as np
import pytest
import torch

import critpoints as cp
from critpoints.landscape.results import load_result

SECTION = ("landscape", "section", "--experiment", "digits-300-100", "--epochs", 1, "--points", 3, "--workers", 1)


SLOW_PLANES = [pytest.param(plane, marks=pytest.mark.slow) for plane in ("random", "hessian")]


@pytest.mark.parametrize("plane", ["filter", "pca", *SLOW_PLANES])
def test_a_plane_leaves_a_result_a_figure_and_a_summary_and_resumes(run, empty: Path, plane: str) -> None:
    arguments = (*SECTION, "--plane", plane, "--out", "o", "--json")
    if plane == "pca":
        arguments = (*arguments[:5], 2, *arguments[6:])
    first = run(*arguments)
    assert first.code == 0, first.err
    assert sorted(each.name for each in Path("o").iterdir()) == ["section.npz", "section.png", "units"]
    stored = load_result("o/section.npz")
    assert stored.arrays["train_loss"].shape == stored.arrays["test_loss"].shape == (3, 3)
    assert stored.header["configuration"]["plane"] == plane
    assert first.document["found"]["marked points"] == len(stored.arrays["steps"]) >= 2
    # the end of training lies in the middle of the planes around it, with the loss that it has there
    if plane != "pca":
        last = stored.arrays["marks-train_loss"][-1]
        assert stored.arrays["train_loss"][1, 1] == pytest.approx(last, rel=1e-5)
    before = {path: path.stat().st_mtime_ns for path in Path("o/units").iterdir()}
    again = run(*arguments)
    assert again.document == first.document
    assert {path: path.stat().st_mtime_ns for path in Path("o/units").iterdir()} == before


@pytest.mark.parametrize("name", ["student-trajectory", pytest.param("student-saddle", marks=pytest.mark.slow)])
def test_planes_through_students(run, empty: Path, name: str) -> None:
    finished = run("landscape", "section", "--experiment", name, "--points", 3, "--out", "o", "--json")
    assert finished.code == 0, finished.err
    arrays = load_result("o/section.npz").arrays
    path, problem = arrays["marks-train_loss"], cp.TeacherStudent.grid()
    assert len(path) == len(arrays["steps"]) >= 20
    at = arrays["theta_origin"] + arrays["marks-coordinates"] @ arrays["directions"]
    np.testing.assert_allclose(arrays["marks-projected_train_loss"], problem.loss(torch.from_numpy(at)), rtol=1e-9)
    if name == "student-trajectory":
        assert path[-1] < 0.1 * path[0] and (np.diff(arrays["steps"]) > 0).all()
        return
    low, high = arrays["eigenvalues"]
    assert low < 0 < high
    saddle, middle = problem.loss(torch.from_numpy(arrays["theta_origin"])), np.flatnonzero(arrays["steps"] == 0)
    assert path[middle] == pytest.approx(float(saddle), rel=1e-12)
    assert path[0] < float(saddle) and path[-1] < float(saddle)  # descents on both sides lead down


def test_another_plane_does_not_end_in_the_same_folder(run, empty: Path) -> None:
    assert run(*SECTION, "--out", "o").code == 0
    finished = run(*SECTION, "--out", "o", "--seed", 1, "--quiet")
    assert finished.code == 3 and "another configuration (seed" in finished.err


def test_a_missing_data_set_is_named(run, empty: Path) -> None:
    finished = run("landscape", "section", "--experiment", "mnist-300-100", "--data", "nowhere")
    assert finished.code == 3 and "nowhere/MNIST/raw" in finished.error
    assert run("landscape", "curve", "--experiment", "student", "--seeds", 0).code == 2


@pytest.mark.slow
def test_curves_between_networks_and_between_students(run, empty: Path) -> None:
    options = ("--seeds", 2, "--workers", 1, "--json")
    for name in ("digits-300-100", "student"):
        short = ("--epochs", 2) if name != "student" else ()
        finished = run("landscape", "curve", "--experiment", name, *short, "--out", name, *options)
        assert finished.code == 0, finished.err
        stored = load_result(f"{name}/curve.npz")
        assert stored.arrays["losses"].shape[:2] == (2, 4)
        assert Path(name, "curve.png").exists()
        assert float(stored.arrays["function_change"].max()) < 1e-3
        if name == "student":  # global minima of the teacher's width are one orbit
            assert np.abs(stored.arrays["losses"][:, 1, :, 0]).max() < 1e-15
