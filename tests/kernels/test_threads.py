"""Settings that are the process's own, changed by several threads at once."""

import os
import subprocess
import sys

PROGRAM = """
import time
from threading import Barrier
from concurrent.futures import ThreadPoolExecutor
import numpy
from threadpoolctl import ThreadpoolController
from critpoints.kernels.threads import single_blas_thread

def blas_threads():
    return {each["num_threads"] for each in ThreadpoolController().info() if each["user_api"] == "blas"}

def stay(_):
    seen = set()
    together.wait()
    for _ in range(100):
        with single_blas_thread():
            time.sleep(1e-4)  # another thread's turn
            seen |= blas_threads()
    return seen

together = Barrier(2)
before = blas_threads()
with ThreadPoolExecutor(2) as threads:
    assert list(threads.map(stay, range(2))) == [{1}, {1}]
assert blas_threads() == before
"""


def test_blas_has_one_thread_inside_whoever_leaves_meanwhile() -> None:
    """In a process of its own, whose BLAS has more than one thread."""
    environment = os.environ | {"OPENBLAS_NUM_THREADS": "2", "MKL_NUM_THREADS": "2", "OMP_NUM_THREADS": "2"}
    subprocess.run([sys.executable, "-c", PROGRAM], check=True, timeout=120, env=environment)
