"""Settings that are the process's own, changed by several threads at once."""

import os
import subprocess
import sys

PROGRAM = """
import time
from threading import Event, Thread
import numpy
from threadpoolctl import ThreadpoolController
from critpoints.kernels.threads import single_blas_thread

def blas_threads():
    return {each["num_threads"] for each in ThreadpoolController().info() if each["user_api"] == "blas"}

def stay():
    with single_blas_thread():
        inside.set()
        left.wait(60)
        seen.append(blas_threads())

inside, left, seen, before = Event(), Event(), [], blas_threads()
other = Thread(target=stay)
with single_blas_thread():
    other.start()
    inside.wait(1)  # a second thread that does not wait is inside by now
left.set()
other.join()
assert seen == [{1}] and blas_threads() == before, (seen, before, blas_threads())
"""


def test_blas_has_one_thread_inside_whoever_leaves_meanwhile() -> None:
    """In a process of its own, whose BLAS has more than one thread."""
    environment = os.environ | {"OPENBLAS_NUM_THREADS": "2", "MKL_NUM_THREADS": "2", "OMP_NUM_THREADS": "2"}
    subprocess.run([sys.executable, "-c", PROGRAM], check=True, timeout=120, env=environment)
