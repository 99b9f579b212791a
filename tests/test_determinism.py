"""A student's result is a function of its seed: alone or in a batch, on one thread or two, bit for bit."""

import hashlib
import json
import os
import subprocess
import sys

PROGRAM = """
import hashlib, json, sys
import critpoints as cp
problem = cp.TeacherStudent.grid()
seeds, report = json.loads(sys.argv[1]), json.loads(sys.argv[2])
trained = cp.train(problem, problem.init(5, seeds), steps=3000)
settled = cp.settle(problem, trained.theta)
for seed, verdict in zip(seeds, settled.verdicts):
    if seed in report:
        print(hashlib.sha256(json.dumps(verdict.to_dict()).encode()).hexdigest())
"""


def results(seeds, report, threads):
    variables = ("NUMBA_NUM_THREADS", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
    environment = os.environ | dict.fromkeys(variables, str(threads))
    command = [sys.executable, "-c", PROGRAM, json.dumps(seeds), json.dumps(report)]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout.split()


def test_results_do_not_depend_on_batch_or_threads():
    watched = [3, 7, 11]
    whole = results(list(range(14)), watched, threads=2)
    assert len(set(whole)) == 3
    assert hashlib.sha256().hexdigest() not in whole
    assert results(list(range(14)), watched, threads=1) == whole
    assert [results([seed], [seed], threads=2)[0] for seed in watched] == whole
