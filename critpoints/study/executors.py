"""Where the units of a study are computed, as ``concurrent.futures.Executor``: here, or in processes of their own.

Workers compute and return rows; the process that has the study open is the only one that writes. ``cluster.py`` has
the executor for many machines.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from multiprocessing.connection import Connection, wait
from typing import Any

# Numba, BLAS and torch read these once, when they are first imported.
_THREAD_VARIABLES = ("NUMBA_NUM_THREADS", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


class WorkerLost(Exception):
    """A worker died or hung and took its unit with it; another one may try that again.

    Attributes:
        tries: how often the unit was tried in this.
    """

    def __init__(self, reason: str, tries: int = 1) -> None:
        super().__init__(reason)
        self.tries = tries


def thread_settings(threads: int) -> dict[str, str]:
    """The environment of a process whose numerics use so many threads."""
    return dict.fromkeys(_THREAD_VARIABLES, str(threads))


class SerialExecutor(Executor):
    """Computes at once, in the caller's own process."""

    workers = 1

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future:
        """A future that is done; Ctrl-C and the like go through to the caller."""
        future: Future = Future()
        try:
            future.set_result(fn(*args, **kwargs))
        except Exception as error:
            future.set_exception(error)
        return future


class ProcessExecutor(Executor):
    """Processes on this machine, each with one task at a time.

    Unlike ``ProcessPoolExecutor``, a process that dies or hangs costs its own task alone: that task's future raises
    ``WorkerLost``, and a new process takes its place. They are spawned: a fork after a parallel kernel would hang.

    Args:
        workers: how many processes; they share the processors of the machine.
        timeout: seconds after which a task counts as hung and its process is killed; None waits forever.
    """

    def __init__(self, workers: int, timeout: float | None = None) -> None:
        self.workers, self.timeout = workers, timeout
        self._threads = ThreadPoolExecutor(workers, thread_name_prefix="critpoints-worker")
        self._own, self._all, self._closed = threading.local(), [], False

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future:
        """See ``concurrent.futures.Executor``; raises ``WorkerLost`` through the future."""
        return self._threads.submit(self._run, (fn, args, kwargs))

    def _run(self, task: tuple) -> Any:
        worker: _Worker | None = getattr(self._own, "worker", None)
        if worker is None or not worker.process.is_alive():
            worker = self._own.worker = self._start()
        try:
            return worker.call(task, self.timeout)
        except WorkerLost:
            worker.kill()
            raise

    def _start(self) -> _Worker:
        if not self._closed:
            worker = _Worker(max(1, (os.cpu_count() or 1) // self.workers))
            self._all.append(worker)
            if not self._closed:
                return worker
            worker.kill()  # it was shut down meanwhile, and this one may have come too late for that
        raise WorkerLost("the executor was shut down")

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Ends the processes; with ``cancel_futures`` also those that are still computing, at once."""
        self._closed = True
        if cancel_futures:
            for worker in self._all:
                worker.kill()
        self._threads.shutdown(wait, cancel_futures=cancel_futures)
        for worker in self._all:
            worker.kill()

    def __exit__(self, *error: object) -> None:
        self.shutdown(cancel_futures=error[0] is not None)


class _Worker:
    """One process, and the connection to it."""

    def __init__(self, threads: int) -> None:
        context = multiprocessing.get_context("spawn")
        self.connection, theirs = context.Pipe()
        self.process = context.Process(target=_serve, args=(theirs, thread_settings(threads)), daemon=True)
        self.process.start()
        theirs.close()

    def call(self, task: tuple, timeout: float | None) -> Any:
        try:
            self.connection.send(task)
            if not wait([self.connection, self.process.sentinel], timeout):
                raise WorkerLost(f"the worker hung: no result within {timeout:g} s")
            done, value = self.connection.recv()
        except (EOFError, ConnectionError):
            self.process.join()
            raise WorkerLost(f"the worker died: {_ending(self.process.exitcode)}") from None
        if not done:
            raise value
        return value

    def kill(self) -> None:
        self.process.kill()
        self.process.join()


def _ending(code: int | None) -> str:
    if code is not None and code < 0:
        return f"killed by {signal.Signals(-code).name}"
    return f"exit code {code}"


def _serve(connection: Connection, environment: dict[str, str]) -> None:
    """What a process does: one task after the other, until the coordinator is gone."""
    os.environ.update(environment)  # the numerics are imported with the first task
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the coordinator ends the workers
    threading.Thread(target=_end_with_parent, daemon=True).start()
    while True:
        try:
            function, args, kwargs = connection.recv()
        except EOFError:
            return
        except Exception as error:  # the task does not arrive: a module that is not there, say
            connection.send((False, error))
            continue
        try:
            result = (True, function(*args, **kwargs))
        except Exception as error:
            result = (False, error)
        connection.send(result)


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os._exit(1)
