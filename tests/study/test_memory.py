"""Memory that is really full: the process may not have more of it, and libraries fail in their own ways."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

# Many samples: what is allocated grows with the seeds of a unit, 0.8 MB each and vector.
PROBLEM = """
import torch
from critpoints import Objective

class Line(Objective):
    dim = 2
    x = torch.linspace(-1, 1, 100_000, dtype=torch.float64)

    def init(self, width, seeds, scheme):
        return torch.stack([torch.tensor([1.0, -1.0], dtype=torch.float64) / (1 + seed) for seed in seeds])

    def loss(self, theta):
        slope, height = theta.unsqueeze(-1).unbind(-2)
        return ((slope * self.x + height - self.x.exp()) ** 2).mean(-1)

def line():
    return Line()
"""

# The study, after another one of a single seed that loads and compiles everything, under a limit on what is added.
PROGRAM = """
import json, re, resource, sys
from pathlib import Path
from critpoints.study import run
from critpoints.study.problems import prepare
from critpoints.study.spec import StudySpec
from critpoints.study.store import Store

prepared = prepare(StudySpec(problem="line.py:line", activation=None, steps=0), [2])

def study(path, seeds):
    with Store.create(path, prepared.spec) as store:
        failures = run.run_study(store, [2], seeds, problem=prepared.problem)
        return store.content_hash(), [each.reason for each in failures]

study("warm.db", range(1))
compute_unit, sizes = run.compute_unit, []

def noted(spec, problem, unit, *rest):
    sizes.append(len(unit.seeds))
    return compute_unit(spec, problem, unit, *rest)

run.compute_unit = noted
if sys.argv[1] != "0":
    pages = int(re.search(r"VmSize:\\s+(\\d+)", Path("/proc/self/status").read_text())[1])
    resource.setrlimit(resource.RLIMIT_AS, (1024 * pages + int(sys.argv[1]) * 2**20,) * 2)
content, failures = study(sys.argv[1] + ".db", range(32))
print(json.dumps({"hash": content, "failures": failures, "sizes": sizes}))
"""


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs /proc")
def test_a_study_in_a_full_memory_is_computed_in_smaller_parts(tmp_path: Path) -> None:
    (tmp_path / "line.py").write_text(PROBLEM)

    def study(megabytes: int) -> dict:
        (tmp_path / "warm.db").unlink(missing_ok=True)
        command = [sys.executable, "-c", PROGRAM, str(megabytes)]
        finished = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
        assert finished.returncode == 0, finished.stderr
        return json.loads(finished.stdout)

    free, full = study(0), study(80)
    assert free["sizes"] == [32] and not free["failures"]
    assert full["sizes"][:2] == [32, 16] and full["sizes"][-1] < 32 and not full["failures"]
    assert full["hash"] == free["hash"]
