import math

from critpoints.study.environment import provenance, threads
from critpoints.study.selftest import Check, run_checks


def test_this_installation_is_sound() -> None:
    failed = [check for check in run_checks() if not check.ok]
    assert failed == []


def test_not_a_number_is_a_failure() -> None:
    assert not Check("nonsense", math.nan, 1.0).ok


def test_what_a_unit_keeps_about_the_machine() -> None:
    found = provenance()
    assert found["versions"]["torch"] != "not installed" and found["cpu"]
    assert threads()["numba"] == 1  # as conftest.py says
