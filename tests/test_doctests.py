"""Every example in a docstring of critpoints gives what it says."""

import doctest
import importlib
import types

import pytest
from imports import modules

NAMES = [module.name for module in modules() if module.name.partition(".")[0] == "critpoints"]


def run_examples(module: types.ModuleType) -> tuple[int, str]:
    """How many examples there are, and the report of those that fail."""
    report: list[str] = []
    runner = doctest.DocTestRunner()
    for test in doctest.DocTestFinder(exclude_empty=True).find(module):
        runner.run(test, out=report.append)
    return runner.summarize(verbose=False).attempted, "".join(report)


@pytest.mark.parametrize("name", NAMES)
def test_examples_in_docstrings_give_what_they_say(name: str) -> None:
    _, failures = run_examples(importlib.import_module(name))
    assert not failures, failures


@pytest.mark.parametrize(
    "name",
    ["critpoints.activations", "critpoints.objectives.two_layer", "critpoints.objectives.zoo", "critpoints.testing"],
)
def test_examples_are_found_where_there_are_some(name: str) -> None:
    attempted, _ = run_examples(importlib.import_module(name))
    assert attempted > 0


def test_a_wrong_example_is_reported() -> None:
    module = types.ModuleType("wrong", ">>> 1 + 1\n3\n")
    attempted, failures = run_examples(module)
    assert attempted == 1
    assert "Expected:\n    3\nGot:\n    2" in failures
