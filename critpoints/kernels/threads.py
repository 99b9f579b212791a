"""Threads: rows are spread over them, and each row is computed by one, BLAS included."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import cache
from threading import RLock
from typing import TypeVar

import numba
from threadpoolctl import ThreadpoolController

T = TypeVar("T")
R = TypeVar("R")


@cache
def _controller() -> ThreadpoolController:
    return ThreadpoolController()  # looks through the loaded libraries, which takes a millisecond


_ONE_THREAD = RLock()


@contextmanager
def single_blas_thread() -> Iterator[None]:
    """One BLAS thread inside: a product split over threads would depend on their number in its last bits.

    The setting is the process's, and the first to leave would give the others their threads back: others wait.
    """
    with _ONE_THREAD, _controller().limit(limits=1, user_api="blas"):
        yield


@contextmanager
def threads_for(n_rows: int) -> Iterator[None]:
    """No more threads of the compiled kernels inside than there are rows.

    A thread without a row is waited for all the same; where others use the cores, that takes a hundred times as long as
    a row of a small student.
    """
    before = numba.get_num_threads()
    numba.set_num_threads(max(1, min(before, n_rows)))
    try:
        yield
    finally:
        numba.set_num_threads(before)


@cache
def _pool(n_threads: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(n_threads, thread_name_prefix="critpoints")


def map_rows(function: Callable[[T], R], items: Iterable[T]) -> list[R]:
    """``[function(item) for item in items]`` on as many threads as the compiled kernels use; not to be nested."""
    items, n_threads = list(items), numba.get_num_threads()
    with single_blas_thread():
        if n_threads == 1 or len(items) < 2:
            return [function(item) for item in items]
        return list(_pool(n_threads).map(function, items))
