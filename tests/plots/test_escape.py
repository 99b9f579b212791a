"""The loss before and after refinement, against the size of the perturbation."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from matplotlib.collections import LineCollection

from critpoints.errors import InvalidArgument
from critpoints.plots import epsilon_sweep
from critpoints.solvers.escaping import EpsilonSweep

EPSILONS = torch.tensor([1e-3, 1e-2, 1e-1, 1.0], dtype=torch.float64)
BEFORE = torch.tensor([1e-4, 2e-4, 4e-4], dtype=torch.float64)


def sweep(**changes: object) -> EpsilonSweep:
    ratio = torch.tensor([1.0, 1.0, 1e-1, 1e-2], dtype=torch.float64)[:, None]
    whole = EpsilonSweep(
        epsilons=EPSILONS,
        loss_before=BEFORE,
        loss_perturbed=BEFORE * (1 + 1e4 * EPSILONS[:, None] ** 2),
        loss_refined=BEFORE * ratio,
        smallest_eigenvalue=torch.tensor([-1e-5, -1e-5, 1e-6, 1e-6], dtype=torch.float64)[:, None].expand(4, 3),
        normalised=True,
    )
    return replace(whole, **changes)


def median(figure, panel: int) -> np.ndarray:
    (line,) = [line for line in figure.axes[panel].lines if line.get_label() == "median"]
    return np.asarray(line.get_ydata())


def test_before_and_after_refinement_cannot_be_confused(legend_texts) -> None:
    figure = epsilon_sweep(sweep(), title="saddles")
    legend_texts(figure)
    titles = [axes.get_title("left") for axes in figure.axes]
    assert "nothing optimised" in titles[0] and "after refining again" in titles[1]
    strong = [next(line for line in axes.lines if line.get_label() == "median") for axes in figure.axes]
    assert strong[0].get_linestyle() != strong[1].get_linestyle()
    assert len({line.get_color() for line in strong}) == 3


def test_losses_are_drawn_over_the_unperturbed_loss() -> None:
    figure = epsilon_sweep(sweep())
    assert np.allclose(median(figure, 0), 1 + 1e4 * EPSILONS.numpy() ** 2)
    assert np.allclose(median(figure, 1), [1.0, 1.0, 1e-1, 1e-2])
    assert np.allclose(median(figure, 2), [-1e-5, -1e-5, 1e-6, 1e-6])
    for axes in figure.axes[:2]:
        assert any(np.all(np.asarray(line.get_ydata()) == 1.0) for line in axes.lines), "the unperturbed loss"


def test_scales_and_labels() -> None:
    figure = epsilon_sweep(sweep())
    assert [axes.get_yscale() for axes in figure.axes] == ["log", "log", "symlog"]
    assert {axes.get_xscale() for axes in figure.axes} == {"log"}
    assert [axes.get_ylabel() for axes in figure.axes] == ["loss / loss before"] * 2 + ["smallest eigenvalue"]
    assert "length of the step" in figure.axes[2].get_xlabel()
    assert "standard deviation" in epsilon_sweep(sweep(normalised=False)).axes[2].get_xlabel()


def test_every_row_is_a_faint_line() -> None:
    for axes in epsilon_sweep(sweep()).axes:
        (rows,) = [each for each in axes.collections if isinstance(each, LineCollection)]
        assert len(rows.get_segments()) == 3
        assert rows.get_alpha() < 0.5


def test_sizes_are_drawn_in_ascending_order_and_zero_on_a_rail(legend_texts) -> None:
    epsilons = torch.tensor([1.0, 1e-2, 0.0, 1e-1], dtype=torch.float64)
    figure = epsilon_sweep(sweep(epsilons=epsilons))
    legend_texts(figure)
    (line,) = [line for line in figure.axes[1].lines if line.get_label() == "median"]
    assert np.all(np.diff(line.get_xdata()) > 0)
    assert np.allclose(line.get_ydata(), [1e-1, 1.0, 1e-2, 1.0])
    assert figure.axes[2].get_xticklabels()[0].get_text() == "0"


def test_losses_that_refinement_brings_to_zero_stand_on_a_rail(legend_texts) -> None:
    refined = torch.zeros(4, 3, dtype=torch.float64)
    refined[:2] = BEFORE
    figure = epsilon_sweep(sweep(loss_refined=refined))
    legend_texts(figure)
    labels = [label.get_text() for label in figure.axes[1].get_yticklabels()]
    assert labels[0] == "≤ $10^{-9}$"
    assert median(figure, 1)[0] == 1.0 > figure.axes[1].get_ylim()[0] > 0


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("name", ["loss_perturbed", "loss_refined", "smallest_eigenvalue", "loss_before", "epsilons"])
def test_values_that_are_not_finite_leave_the_other_rows(name: str, bad: float, legend_texts) -> None:
    value = getattr(sweep(), name).clone()
    value[..., 0] = bad
    figure = epsilon_sweep(sweep(**{name: value}))
    texts = legend_texts(figure)
    if name != "epsilons":
        assert any("left out" in text for text in texts)
        assert all(np.isfinite(median(figure, panel)).all() for panel in range(3))


@pytest.mark.parametrize("n_rows", [0, 1, 1000])
def test_any_number_of_rows(n_rows: int, legend_texts) -> None:
    table = torch.full((4, n_rows), 1e-4, dtype=torch.float64)
    whole = sweep(loss_before=table[0], loss_perturbed=table, loss_refined=table, smallest_eigenvalue=0 * table)
    assert f"each of {n_rows} points" in legend_texts(epsilon_sweep(whole))


def test_a_loss_of_zero_before_has_no_ratio(legend_texts) -> None:
    texts = legend_texts(epsilon_sweep(sweep(loss_before=torch.tensor([0.0, 1.0, 1.0]))))
    assert "not finite, left out: 4 values" in texts


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"loss_refined": torch.zeros(3, 3)}, r"sweep.loss_refined must have shape \(4, 3\)"),
        ({"epsilons": torch.zeros(0)}, "sweep.epsilons must hold"),
    ],
)
def test_shapes_that_do_not_fit_are_named(changes: dict, message: str) -> None:
    with pytest.raises(InvalidArgument, match=message):
        epsilon_sweep(sweep(**changes))


def test_the_noise_floor_of_eigenvalues_is_shaded(legend_texts) -> None:
    figure = epsilon_sweep(sweep(), noise_floor=1e-8)
    assert "noise floor" in legend_texts(figure)
    assert figure.axes[2].yaxis.get_transform().linthresh == pytest.approx(1e-8)
    with pytest.raises(InvalidArgument, match="noise_floor must be positive"):
        epsilon_sweep(sweep(), noise_floor=0.0)
