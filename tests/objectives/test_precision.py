"""float32 stays float32: TF32 and bfloat16 that the process or the caller switched on are off inside, and restored."""

import pytest
import torch

from critpoints.curvature.operator import HessianOperator
from critpoints.objectives.module import ModuleObjective
from critpoints.objectives.precision import _PLACES, _setting, full_precision


def settings() -> list[object]:
    return [getattr(owner, name) for owner, name, _ in filter(None, map(_setting, _PLACES))]


@pytest.fixture
def lowered():
    """A process that has asked for low precision everywhere."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("medium")
    yield settings()
    torch.set_float32_matmul_precision(before)


def test_every_setting_is_ieee_inside_and_as_before_outside(lowered: list[object]) -> None:
    assert "tf32" in lowered and "bf16" in lowered  # the test would show it if nothing was switched on
    with full_precision(torch.float32):
        assert set(settings()) <= {"ieee", False}
    assert settings() == lowered
    with full_precision(torch.float64):
        assert settings() == lowered


def test_settings_are_restored_after_an_error(lowered: list[object]) -> None:
    with pytest.raises(ZeroDivisionError), full_precision(torch.float32):
        raise ZeroDivisionError
    assert settings() == lowered


def objective() -> ModuleObjective:
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(6, 8), torch.nn.Tanh(), torch.nn.Linear(8, 2))
    return ModuleObjective(model, torch.nn.functional.mse_loss, (torch.randn(32, 6), torch.randn(32, 2)))


def test_autocast_around_a_product_changes_nothing() -> None:
    plain = objective()
    vector = torch.randn(plain.dim, generator=torch.Generator().manual_seed(1))
    expected = HessianOperator(plain) @ vector
    expected_gradient = plain.gradient(plain.parameters_vector())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        lowered = torch.nn.functional.linear(torch.randn(4, 4), torch.randn(4, 4))
        assert lowered.dtype == torch.bfloat16  # autocast is on
        same = objective()
        assert torch.equal(HessianOperator(same) @ vector, expected)
        assert torch.equal(same.gradient(same.parameters_vector()), expected_gradient)
