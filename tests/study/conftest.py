import pytest

from critpoints.study import run


@pytest.fixture
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Units of 4 seeds."""
    monkeypatch.setitem(run.BLOCK_SIZES, "cpu", 4)
