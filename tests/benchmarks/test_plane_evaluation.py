"""benchmarks/plane_evaluation.py: what it reports, and the refusal to compare unlike things."""

import importlib
import json
import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
TINY = ["--rounds", "2", "--threads", "1", "--seconds", "0.001", "--points", "3", "--samples", "4"]


def run(*arguments: str, program: list[str] | None = None) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, *(program or [str(BENCHMARKS / "plane_evaluation.py")]), *TINY, *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=600)


def test_the_document_holds_the_loop_twice_and_every_way() -> None:
    finished = run("--json", "--model", "cnn", "--ways", "linear,vmap-4", "--dtype", "float64")
    assert finished.returncode == 0, finished.stderr
    document = json.loads(finished.stdout)
    assert (document["schema"], document["chosen"]) == (1, "loop")  # few points are not measured
    rows = {row["name"]: row for row in document["contestants"]}
    assert list(rows) == ["loop", "loop-again", "critpoints", "critpoints linear", "critpoints vmap-4"]
    assert rows["loop"]["ratio"] == {"median": 1, "min": 1, "max": 1}
    assert rows["critpoints linear"]["difference"] <= 1e-12
    assert len(document["whole_planes"]["loop"]) == 2


def test_a_way_that_computes_something_else_stops_the_report() -> None:
    program = (
        f"import sys; sys.path.insert(0, {str(BENCHMARKS)!r})\n"
        "import plane_evaluation\n"
        "plane_evaluation.Loop.evaluate = lambda self, points: [1.0 for _ in points]\n"
        "sys.exit(plane_evaluation.main())"
    )
    finished = run(program=["-c", program])
    assert (finished.returncode, finished.stdout) == (1, "")
    assert "refusing to report: losses differ from those of the loop: critpoints by" in finished.stderr


@pytest.mark.parametrize("arguments", [["--model", "rnn"], ["--points", "2"], ["--rounds", "0"], ["--ways", "x"]])
def test_wrong_options_are_usage_errors(monkeypatch: pytest.MonkeyPatch, arguments: list[str]) -> None:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    with pytest.raises(SystemExit) as stopped:
        importlib.import_module("plane_evaluation").parse(arguments)
    assert stopped.value.code == 2
