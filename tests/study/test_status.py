"""How far a study is: by hand, from attempts whose times are known."""

from pathlib import Path

import pytest
from study_cases import QUICK, UNIT, fill, point_row, verdict_row

from critpoints.study import store as store_module
from critpoints.study.status import FailedSeeds, study_status
from critpoints.study.store import FAILED, RETRIED, Store
from critpoints.study.units import Unit


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The time at which attempts finish."""
    now = [1000.0]
    monkeypatch.setattr(store_module, "time", lambda: now[0])
    return now


def put(store: Store, width: int, seeds: range, seconds: float) -> None:
    unit = UNIT | {"width": width, "seconds": seconds}
    store.commit(unit, [point_row(s, width) for s in seeds], [verdict_row(s, width) for s in seeds])


def test_rates_and_remaining_time(tmp_path: Path, clock: list[float]) -> None:
    with Store.create(tmp_path / "study.db", QUICK) as store:
        store.request(2, range(10))
        store.request(3, range(10))
        put(store, 2, range(4), 40.0)  # 960 to 1000
        clock[0] = 5000.0  # after a pause that does not count
        put(store, 3, range(2), 60.0)  # 4940 to 5000, and at the same time on another worker
        put(store, 2, range(4, 6), 20.0)  # 4980 to 5000
        found = study_status(store)
    assert [(w.width, w.wanted, w.stored, w.missing, w.failed) for w in found.widths] == [
        (2, 10, 6, 4, 0),
        (3, 10, 2, 8, 0),
    ]
    assert [width.seconds_per_point for width in found.widths] == [10.0, 30.0]
    assert found.rate == pytest.approx(8 / 100)  # 40 + 60 seconds in which something was computed
    assert found.remaining == pytest.approx((4 * 10 + 8 * 30) / (120 / 100))
    assert (found.missing, found.last_stored) == (12, 5000.0)


def test_a_study_of_which_nothing_is_stored(tmp_path: Path) -> None:
    with Store.create(tmp_path / "study.db", QUICK) as store:
        store.request(2, range(3))
        found = study_status(store)
    assert (found.rate, found.remaining, found.last_stored, found.missing) == (None, None, None, 3)


def test_failures_are_those_of_the_last_attempt(tmp_path: Path) -> None:
    with Store.create(tmp_path / "study.db", QUICK) as store:
        store.request(2, range(6))
        store.note(Unit(2, 0, (0, 1)), RETRIED, "the worker died", "", 1.0)
        store.note(Unit(2, 0, (0, 1)), FAILED, "the worker died", "", 1.0)
        store.note(Unit(2, 0, (2, 3)), FAILED, "ZeroDivisionError", "", 1.0)
        fill(store, range(2, 4))
        found = study_status(store)
        assert store.missing(2, range(6)) == [0, 1, 4, 5]
    assert (found.widths[0].failed, found.widths[0].missing, found.retried) == (2, 4, 1)
    assert found.failures == (FailedSeeds(2, "0-1", "the worker died"),)
