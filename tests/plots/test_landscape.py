"""Figures of landscape experiments: what is drawn is what was measured."""

import matplotlib.colors
import numpy as np
import pytest

from critpoints.landscape.results import Result
from critpoints.plots import interpolation_lines, trajectory_planes
from critpoints.plots.style import BLUE, VERMILLION

RUNS, STEPS, POINTS, LATER = 3, 4, 11, 6
RNG = np.random.default_rng(0)


def interpolation(policies: tuple[str, ...], runs: int = RUNS) -> Result:
    arrays = {
        "t": np.tile(np.linspace(0, 1, POINTS), (runs, 1)),
        "t_later": np.tile(np.linspace(0, 1, LATER), (runs, 1)),
        "steps": np.tile([0, 1, 2, 4], (runs, 1)),
        "t_curvature": np.tile(np.linspace(0, 1, 3), (runs, 1)),
    }
    for policy in policies:
        arrays[f"first-{policy}"] = RNG.random((runs, POINTS, 4))
        arrays[f"losses-{policy}"] = RNG.random((runs, STEPS, LATER, 4))
        arrays[f"curvature-{policy}"] = RNG.standard_normal((runs, 3, 4))
    return Result({"configuration": {"setting": {"recipe": {"epochs": 7}}}}, arrays)


@pytest.mark.parametrize("policies", [("none",), ("interpolate", "recalibrate")])
@pytest.mark.parametrize("runs", [1, 3])
def test_every_policy_is_drawn_as_means_over_runs(policies, runs: int, legend_texts) -> None:
    result = interpolation(policies, runs)
    figure = interpolation_lines(result, title="planted")
    texts = legend_texts(figure)
    for policy, color in zip(policies, (BLUE, VERMILLION), strict=False):
        assert policy == "none" or f"test, {policy}" in texts
        (test,) = (line for line in figure.axes[0].lines if line.get_color() == color and line.get_linestyle() == "-")
        np.testing.assert_allclose(np.asarray(test.get_ydata()), result.arrays[f"first-{policy}"][..., 2].mean(0))
        rises = [
            [max(row[j] - row[i] for i in range(LATER) for j in range(i, LATER)) for row in run]
            for run in result.arrays[f"losses-{policy}"][..., 2]
        ]
        drawn = [np.asarray(line.get_ydata()) for line in figure.axes[4].lines]
        assert any(len(each) == STEPS and np.allclose(each, np.mean(rises, 0)) for each in drawn)
        edges = np.concatenate([each.get_paths()[0].vertices[:, 1] for each in figure.axes[1].collections])
        errors = result.arrays[f"first-{policy}"][..., 2 + 1]
        assert np.isin(errors.min(0), edges).all() and np.isin(errors.max(0), edges).all()
    assert len(figure.axes[2].lines) == STEPS
    assert "epoch 7" in figure.axes[0].get_xlabel()


def test_paths_are_drawn_with_their_shares_and_the_null(legend_texts) -> None:
    epochs, kept, p, n_pairs = 9, 3, 5, 3
    explained = np.sort(RNG.random((RUNS, epochs)), 1)
    runs = Result(
        {},
        {
            "losses": RNG.random((RUNS, epochs + 1)),
            "coordinates": RNG.standard_normal((RUNS, epochs + 1, 2)),
            "residuals": RNG.random((RUNS, epochs + 1)),
            "explained": explained,
            "walk": np.sort(RNG.random((RUNS, 4, epochs)), 2),
            "epochs": np.tile([0, 4, 8], (RUNS, 1)),
            "points": RNG.standard_normal((RUNS, 3, kept, p)),
            "curvature_epochs": np.tile([0, 3, 9], (RUNS, 1)),
            "curvature": RNG.standard_normal((RUNS, 3, 3)),
        },
    )
    groups = ("initialisation", "shuffle", "clone")
    pairs = Result({}, {"distances": RNG.random((3, n_pairs)), "barriers": RNG.random((3, n_pairs))})
    for group in groups:
        pairs.arrays[f"{group}-coordinates"] = RNG.standard_normal((RUNS, kept, 2))
        pairs.arrays[f"{group}-explained"] = np.sort(RNG.random(8))
    figure = trajectory_planes(runs, pairs, title="planted")
    texts = legend_texts(figure)
    assert {"random walks", "training runs", *groups} <= set(texts)
    assert f"{100 * explained[0, 1]:.1f} %" in figure.axes[0].get_xlabel()
    dots = figure.axes[0].collections[0]
    np.testing.assert_allclose(np.asarray(dots.get_array()), runs.arrays["losses"][0])
    assert isinstance(dots.norm, matplotlib.colors.LogNorm)
    null = figure.axes[2].lines[-1]
    np.testing.assert_allclose(np.asarray(null.get_ydata()), runs.arrays["walk"].reshape(-1, epochs).mean(0))
    inside = np.linalg.norm(runs.arrays["coordinates"][0], axis=1)
    outside = runs.arrays["residuals"][0]
    np.testing.assert_allclose(
        np.asarray(figure.axes[1].lines[0].get_ydata()), outside / np.sqrt(inside**2 + outside**2)
    )
    for line, *drawn in zip(figure.axes[7].lines, pairs.arrays["distances"], pairs.arrays["barriers"], strict=True):
        np.testing.assert_array_equal(line.get_xydata(), np.stack(drawn, 1))
