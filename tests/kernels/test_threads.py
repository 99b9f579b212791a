"""Threads of BLAS and of the compiled kernels: settings that others rely on are put back."""

import os
import subprocess
import sys

import numba
import pytest
import torch

import critpoints as cp
from critpoints.kernels.threads import threads_for

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


@pytest.mark.parametrize(("rows", "expected"), [(0, 1), (1, 1), (10_000, None)])
def test_there_are_no_more_threads_than_rows(rows: int, expected: int | None) -> None:
    before = numba.get_num_threads()
    with threads_for(rows):
        assert numba.get_num_threads() == (before if expected is None else expected)
    assert numba.get_num_threads() == before


def test_they_are_put_back_after_an_error() -> None:
    before = numba.get_num_threads()
    with pytest.raises(ZeroDivisionError), threads_for(1):
        raise ZeroDivisionError
    assert numba.get_num_threads() == before


def test_a_row_alone_is_the_row_in_a_batch() -> None:
    problem = cp.TeacherStudent.grid()
    theta = problem.init(3, range(5))
    whole, alone = problem.second_order(theta), problem.second_order(theta[2:3])
    for name in ("loss", "gradient", "hessian"):
        assert torch.equal(getattr(whole, name)[2], getattr(alone, name)[0])
