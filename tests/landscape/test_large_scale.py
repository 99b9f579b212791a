"""Seed study 001: subjects, experiments on the model, on networks and on the student problem, results that resume."""

import dataclasses
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from large_scale_cases import quick_wedges

from critpoints.errors import InvalidArgument, InvalidData
from critpoints.landscape import large_scale
from critpoints.landscape.large_scale import EXPERIMENTS, compute_unit, run_large_scale
from critpoints.landscape.large_scale_summary import summarise
from critpoints.landscape.network_subject import CyclicRecipe, network_subject
from critpoints.landscape.results import load_result
from critpoints.landscape.subjects import cyclic_rate, noisy_descent, student_subject, wedge_subject
from critpoints.objectives.wedges import WedgeObjective
from critpoints.plots.large_scale import large_scale_page

LINES = {"paths": 2, "subspaces": 4, "planes": 2, "widths": 1, "tunnels": 6, "ensembles": 2, "radius": 1}


@pytest.fixture(scope="module")
def found():
    """All experiments on the quick model."""
    subject = quick_wedges()
    return {name: dict(experiment(subject, 3)) for name, experiment in EXPERIMENTS.items()}


def test_the_model_shows_no_obstacle_to_an_optimum_and_a_barrier_between_optima(found) -> None:
    down, between = found["paths"]["to_optimum"], found["paths"]["between"]
    assert (np.diff(down, axis=1) <= 1e-9).all()
    middle = between[:, 20]
    assert (middle > between[:, 0] + 0.1).all() and (middle > between[:, -1] + 0.1).all()


def test_sections_of_the_model_meet_a_wedge_exactly_from_d_equal_to_s_on(found) -> None:
    arrays = found["subspaces"]
    met = arrays["exact_distances"] < 1e-8
    assert (met == (arrays["exact_dims"] >= 10)[:, None]).all()
    assert (arrays["exact_distances"][8] > 1e-4).all()


def test_the_model_has_sheets_through_m_wedges_and_m_s_short_directions(found) -> None:
    arrays = found["tunnels"]
    assert arrays["m"].tolist() == [2, 3, 4, 5]
    assert (arrays["worst"] < 0.25 * arrays["flat_barrier"]).all()
    assert arrays["ranks"].tolist() == [10, 20, 30, 40, 50, 60]


def test_averages_of_weights_are_good_within_a_wedge_and_bad_across_wedges(found) -> None:
    arrays = found["ensembles"]
    assert (arrays["within_swa_losses"] <= arrays["within_fge_losses"]).all()
    assert (arrays["across_swa_losses"] > 10 * arrays["across_fge_losses"]).all()


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_each_experiment_has_a_summary_of_finite_numbers(name: str, found) -> None:
    lines = summarise(name, found[name])
    assert len(lines) == LINES[name]
    assert all("nan" not in line.measured for line in lines)
    claims = [line.holds for line in lines if line.holds is not None]
    assert all(claims), lines


def test_a_summary_says_no_where_a_claim_fails(found) -> None:
    tunnels = {**found["tunnels"], "worst": found["tunnels"]["flat_worst"]}
    assert [line.holds for line in summarise("tunnels", tunnels)[:4]] == [False] * 4
    paths = {**found["paths"], "to_optimum": found["paths"]["between"]}
    assert summarise("paths", paths)[0].holds is False
    widths = {"low": np.array(0.1), "lr/values": np.array([1.0, 2.0]), "lr/angles": np.array([[1.0, 2], [9, 10]])}
    (line,) = summarise("widths", widths)
    assert "moved, +11.3 s.d." in line.measured and line.holds is None


def test_the_page_has_a_panel_of_each_subject_for_everything_that_was_measured(found, tmp_path: Path) -> None:
    figure = large_scale_page({"model": found, "other": {"paths": found["paths"]}}, title="a page")
    shown = [axes.get_title(loc="left") for axes in figure.axes if axes.get_visible() and axes.get_title(loc="left")]
    assert len(shown) == 20 and "Straight lines\nother" in shown
    figure.savefig(tmp_path / "page.png", dpi=40)
    with pytest.raises(InvalidArgument, match="results must hold at least one experiment"):
        large_scale_page({"model": {}})


def test_units_are_stored_and_not_computed_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(large_scale, "SUBJECTS", {"wedges": quick_wedges})
    calls = []
    first = run_large_scale(tmp_path, subjects=["wedges"], experiments=["paths"], seeds=2)
    monkeypatch.setattr(large_scale, "compute_unit", lambda unit, **options: calls.append(unit) or {"x": 1})
    both = run_large_scale(tmp_path, subjects=["wedges"], experiments=["radius", "paths"], seeds=2)
    assert calls == ["wedges-radius"] and list(both) == ["wedges-radius", "wedges-paths"]
    np.testing.assert_array_equal(both["wedges-paths"].arrays["between"], first["wedges-paths"].arrays["between"])
    stored = load_result(tmp_path / "units" / "wedges-paths.npz")
    assert stored.header["unit"] == "wedges-paths" and float(stored.arrays["cpu_seconds"]) >= 0


def test_unknown_subjects_and_experiments_are_named(tmp_path: Path) -> None:
    with pytest.raises(InvalidArgument, match="subjects must be from wedges, digits, student, got moon"):
        run_large_scale(tmp_path, subjects=["moon"])
    with pytest.raises(InvalidArgument, match=r"experiments must be from paths, .* got none"):
        run_large_scale(tmp_path, experiments=[])
    with pytest.raises(InvalidArgument, match="seeds must be at least 2, got 1"):
        run_large_scale(tmp_path, seeds=1)


def test_noise_and_starts_depend_on_the_seed_alone() -> None:
    subject = wedge_subject()
    assert torch.equal(subject.optimise(3).theta, subject.optimise(3).theta)
    assert not torch.equal(subject.optimise(3).theta, subject.optimise(4).theta)
    assert float(subject.objective.loss(subject.optimise(3).theta)) <= subject.low


def test_optima_of_the_model_lie_on_different_wedges() -> None:
    subject = wedge_subject()
    optima, model = subject.optima(5), subject.objective
    assert isinstance(model, WedgeObjective)
    assert len(set(model.nearest(optima).tolist())) == 5
    picky = dataclasses.replace(subject, distinct=lambda theta, others: len(others) == 0)
    with pytest.raises(InvalidData, match="40 seeds gave 1 distinct optima, 2 are wanted"):
        picky.optima(2)


def test_noisy_descent_without_noise_is_gradient_descent_with_weight_decay() -> None:
    model = WedgeObjective([[0, 1]], 3)
    theta = torch.tensor([1.0, 2.0, 4.0], dtype=torch.float64)
    way = list(noisy_descent(model, theta, rate=lambda step: 0.5, steps=2, noise=0.0, weight_decay=0.2))
    factor = torch.tensor([1 - 0.5 * 1.2] * 2 + [1 - 0.5 * 0.2], dtype=torch.float64)
    assert len(way) == 3
    torch.testing.assert_close(way[2][0], theta * factor**2)
    assert way[0][1] == pytest.approx(2.5)


def test_a_cyclic_learning_rate_falls_and_jumps_back() -> None:
    rate = cyclic_rate(0.1, 0.5, 5)
    assert [round(rate(step), 12) for step in (0, 2, 4, 5)] == [0.5, 0.3, 0.1, 0.5]
    recipe = CyclicRecipe(lr=0.2, low=0.02, length=3)
    assert [round(recipe.rate(0, epoch), 12) for epoch in range(4)] == [0.2, 0.11, 0.02, 0.2]


def test_the_student_problem_has_optima_and_members() -> None:
    subject = student_subject(width=6)
    found = subject.optimise(1)
    assert float(subject.objective.loss(found.theta)) <= subject.low
    members = subject.cycle(found.theta, 0)
    assert members.shape == (5, 18) and torch.isfinite(members).all()


def test_a_network_is_trained_to_the_loss_where_it_stops_and_knobs_change_it() -> None:
    subject = network_subject()
    plain, dropped = (subject.optimise(0, dropout=probability, width=16) for probability in (0.0, 0.1))
    for found in (plain, dropped):  # the loss of the second is taken in evaluation mode: dropout is off
        assert 0.5 * subject.low < float(found.objective.loss(found.theta)) <= subject.low
        assert found.objective.dim == 64 * 16 + 16 + 16 * 16 + 16 + 16 * 10 + 10
    assert not torch.equal(plain.theta, dropped.theta)
    with pytest.raises(InvalidArgument, match=r"knobs are learning rate, .* got colour"):
        subject.optimise(0, colour=1.0)


@pytest.mark.slow
def test_the_network_shows_what_the_study_says() -> None:
    """Random sections, sheets and ensembles on the digits, with the bars of the study; some minutes."""
    sections = compute_unit("digits-subspaces", seeds=3)
    losses = dict(zip(sections["dims"].tolist(), sections["losses"], strict=True))
    assert losses[320].max() < 0.1 and losses[5].min() > 1.5
    sheets = compute_unit("digits-tunnels", seeds=3)
    assert (sheets["worst"] < 0.25 * sheets["flat_barrier"]).all()
    averages = compute_unit("digits-ensembles", seeds=3)
    within = averages["within_fge_accuracies"] - averages["within_swa_accuracies"]
    across = averages["across_fge_accuracies"] - averages["across_swa_accuracies"]
    assert np.abs(within).max() < 0.02 and across.min() > 0.3
    assert math.isfinite(float(sections["cpu_seconds"]))
