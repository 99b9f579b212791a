"""benchmarks/saddle_search.py: it runs, and what it reports is complete."""

import json
import subprocess
import sys
from pathlib import Path

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "saddle_search.py"


def test_the_document_has_a_row_for_every_method():
    options = ["--width", "2", "--rows", "8", "--rival-rows", "2", "--rounds", "1", "--iterations", "30", "--json"]
    done = subprocess.run([sys.executable, str(SCRIPT), *options], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    assert document["schema"] == 1 and document["machine"]["threads"] == 2
    names = [row["method"] for row in document["rows"]]
    assert names[0] == "critpoints, batched" and sum("scipy" in name for name in names) == 2
    for row in document["rows"]:
        assert 0 <= row["successes"] <= 1 and 0 < row["rate"]["min"] <= row["rate"]["max"]
    assert document["rows"][0]["ratio"]["median"] == 1
