"""Arrays, symmetric logarithmic axes and the rail for zeros."""

import math

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure

from critpoints.errors import InvalidArgument
from critpoints.plots.scales import (
    as_array,
    from_symlog,
    linear_width,
    log_positions,
    power_of_ten,
    set_log,
    set_symlog,
    symlog,
)


@pytest.mark.parametrize(
    "value",
    [
        torch.tensor([1.0, 2.0], requires_grad=True),
        torch.tensor([1.0, 2.0], dtype=torch.bfloat16),
        np.array([1, 2], dtype=np.int32),
        [1.0, 2.0],
    ],
    ids=["gradient", "bfloat16", "integers", "list"],
)
def test_arrays_come_from_what_the_caller_has(value: object) -> None:
    array = as_array("value", value, (None,))
    assert array.dtype == np.float64
    assert array.tolist() == [1.0, 2.0]


@pytest.mark.parametrize("value", [[[1.0], [2.0]], [1.0, 2.0, 3.0], "text", [[1.0], [1.0, 2.0]], None, 3.0])
def test_other_values_are_refused_by_name(value: object) -> None:
    with pytest.raises(InvalidArgument, match="loss must"):
        as_array("loss", value, (2,))


def test_symlog_positions_are_inverted_and_agree_with_matplotlib() -> None:
    values = np.concatenate([-np.geomspace(1e2, 1e-9, 30), [0.0], np.geomspace(1e-9, 1e2, 30)])
    positions = symlog(values, 1e-6)
    assert np.allclose(from_symlog(positions, 1e-6), values, rtol=1e-12, atol=0)
    axes = Figure().subplots()
    set_symlog(axes, "y", 1e-6, values)
    theirs = axes.yaxis.get_transform().transform(values)
    assert np.allclose(theirs / 1e-6, positions)


@pytest.mark.parametrize("linthresh", [1e-15, 3.7e-15, 0.2])
@pytest.mark.parametrize(
    "values", [[], [0.0], [1e-3], [-1e-3], [-1e-2, 1e-9, 4.0], [np.nan, 1e300, -np.inf], [5e-324]], ids=str
)
def test_symlog_ticks_are_few_labelled_and_inside(linthresh: float, values: list[float]) -> None:
    axes = Figure().subplots()
    set_symlog(axes, "x", linthresh, np.array(values))
    low, high = axes.get_xlim()
    ticks = axes.get_xticks()
    assert math.isfinite(low) and math.isfinite(high) and low < 0 < high
    assert 0.0 in ticks and len(ticks) <= 11
    assert np.all((ticks >= low) & (ticks <= high)) and np.all(np.diff(ticks) > 0)
    assert all(label.get_text() for label in axes.get_xticklabels())


@pytest.mark.parametrize(
    ("values", "floor", "expected"),
    [
        ([1e-3, -2e-7], None, 1e-7),
        ([1e-3, 1e-18], None, 1e-3),
        ([1e-3], [2e-15, 3e-14, np.nan], 1e-15),
        ([1e-3], [0.0], 1e-3),
        ([0.0, np.nan, np.inf], None, 1.0),
        ([], None, 1.0),
    ],
)
def test_the_linear_part_covers_what_has_no_sign(values: list, floor: list | None, expected: float) -> None:
    noise_floor = None if floor is None else np.array(floor)
    assert linear_width(np.array(values), noise_floor=noise_floor) == pytest.approx(expected)


def test_zeros_negative_and_tiny_values_stand_on_a_rail_below_the_rest() -> None:
    values = np.array([0.0, -1.0, 1e-20, 1e-6, 1e-3, np.nan, np.inf])
    log = log_positions(values, zero_below=1e-16)
    assert log.on_rail.tolist() == [True, True, True, False, False, False, False]
    assert log.rail is not None
    assert np.all(log.positions[:3] == log.rail)
    assert log.positions[3:5].tolist() == [1e-6, 1e-3]
    assert np.isnan(log.positions[5:]).all()
    assert log.limits[0] < log.rail < log.edge < 1e-6 < 1e-3 < log.limits[1]


@pytest.mark.parametrize(
    "values", [[], [np.nan], [0.0], [1e-3], [5e-324, 1e308], [0.0, 5e-324], [0.0, 1e-4, 2e-4]], ids=str
)
def test_logarithmic_limits_and_ticks_exist_for_all_values(values: list[float]) -> None:
    axes = Figure().subplots()
    log = log_positions(np.array(values))
    set_log(axes, "y", log)
    low, high = axes.get_ylim()
    ticks = axes.get_yticks()
    assert axes.get_yscale() == "log"
    assert 0 < low < high < math.inf
    assert np.all((ticks >= low) & (ticks <= high)) and np.all(np.diff(ticks) > 0)
    assert (axes.get_yticklabels()[0].get_text() == "0") == (0.0 in values)


@pytest.mark.parametrize(
    ("value", "expected"), [(1e-5, "$10^{-5}$"), (2e-5, "$2\\times 10^{-5}$"), (1.0, "$10^{0}$"), (1e3, "$10^{3}$")]
)
def test_numbers_are_written_as_powers_of_ten(value: float, expected: str) -> None:
    assert power_of_ten(value) == expected
