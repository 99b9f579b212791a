"""Units of a study on the workers of a Dask cluster: a local one, or any that has a scheduler.

A cluster of many machines needs critpoints, of the same version, on every one, and one thread a worker::

    dask scheduler                                                       # on one machine
    dask worker tcp://scheduler:8786 --nthreads 1 --nworkers 32          # on each of the others
    critpoints study run SPEC.toml --scheduler tcp://scheduler:8786

On Slurm, dask-jobqueue starts the workers as jobs; while this program runs, studies can be computed with the address
that it prints::

    from dask_jobqueue import SLURMCluster

    cluster = SLURMCluster(
        queue="short", cores=32, processes=32, memory="64GB", walltime="04:00:00",
        job_script_prologue=["export NUMBA_NUM_THREADS=1 OMP_NUM_THREADS=1"],
    )
    cluster.scale(jobs=8)
    print(cluster.scheduler_address)
    input("Enter ends the cluster")

A job that reaches its wall time takes its units with it; they are tried again on other workers. A problem from a
``file.py`` must lie at the same path on every machine.

With ``device = "cuda"`` in the specification, the workers of a local cluster (``--workers``) take the GPUs of this
machine in turn, each one alone. Workers that are started by hand need one each in ``CUDA_VISIBLE_DEVICES``.
"""

from __future__ import annotations

import asyncio
import os
import signal
import threading
from collections.abc import Callable
from concurrent.futures import CancelledError, Executor, Future
from contextlib import suppress
from typing import Any

from critpoints.errors import CritpointsError, InvalidArgument
from critpoints.study.executors import WorkerLost, thread_settings

_CONNECTING = 30  # seconds to wait for a scheduler


class DaskExecutor(Executor):
    """The workers of a Dask cluster, each with as many tasks at a time as it has threads.

    Args:
        scheduler: the address of a scheduler, ``tcp://host:port``.
        workers: of a local cluster that ends with the executor, where no scheduler is given.
        timeout: seconds after which a task counts as hung and its worker is started again; None waits forever.

    Raises:
        InvalidArgument: distributed is not installed, or no scheduler answers.
    """

    def __init__(self, scheduler: str | None = None, *, workers: int = 1, timeout: float | None = None) -> None:
        try:
            import distributed
            from dask import config
        except ImportError as error:
            raise InvalidArgument(
                "a cluster needs dask.distributed; install it with: pip install 'critpoints[cluster]'"
            ) from error
        self.timeout = timeout
        self._cluster: Any = None
        if scheduler is None:
            environment = "distributed.nanny.pre-spawn-environ"
            before = config.get(environment, {})
            settings = {
                environment: {**before, **thread_settings(1)},
                "distributed.scheduler.allowed-failures": 0,  # tries are counted, and stored, by the coordinator
                "distributed.admin.low-level-log-length": 100,
            }
            config.set(settings)
            options: dict[str, Any] = {"dashboard_address": None, "silence_logs": 50}
            self._cluster = distributed.LocalCluster(n_workers=workers, threads_per_worker=1, processes=True, **options)
        try:
            address = self._cluster or scheduler
            self._client: Any = distributed.Client(address, timeout=_CONNECTING, set_as_default=False)
        except (OSError, ValueError) as error:
            raise InvalidArgument(f"scheduler {scheduler} does not answer: {error}") from error
        if self._cluster is not None:
            self._client.register_plugin(_local_worker(visible_gpus()))

    @property
    def workers(self) -> int:
        """How many tasks the cluster computes at a time, now."""
        return max(1, sum(self._client.nthreads().values()))

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future:
        """See ``concurrent.futures.Executor``; raises ``WorkerLost`` through the future."""
        task = self._client.submit(fn, *args, **kwargs, pure=False)
        future: Future = Future()
        timer = None
        if self.timeout is not None:
            timer = threading.Timer(self.timeout, self._give_up, (task, future))
            timer.daemon = True
            timer.start()
        task.add_done_callback(lambda task: _transfer(task, future, timer))
        return future

    def _give_up(self, task: Any, future: Future) -> None:
        """Starts the worker of a hung task again; the others go on."""
        computing = {worker: keys for worker, keys in self._client.processing().items() if task.key in keys}
        if not computing and not future.done():  # it waits for a worker to come
            timer = threading.Timer(self.timeout or 0, self._give_up, (task, future))
            timer.daemon = True
            timer.start()
            return
        _settle(future, WorkerLost(f"the worker hung: no result within {self.timeout:g} s"))
        with suppress(Exception):  # the cluster may be going down
            self._client.cancel([task], force=True)
            self._client.restart_workers(list(computing), timeout=_CONNECTING, raise_for_error=False)

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Leaves the cluster, and ends it if it is the executor's own."""
        with suppress(Exception):
            self._client.close()
        if self._cluster is not None:
            with suppress(Exception):
                self._cluster.close()

    def __exit__(self, *error: object) -> None:
        self.shutdown(cancel_futures=error[0] is not None)


def visible_gpus() -> list[str]:
    """The GPUs of this machine that this process may use, as ``CUDA_VISIBLE_DEVICES`` names them."""
    import torch

    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    return named.split(",")[:count] if named else [str(number) for number in range(count)]


def _local_worker(gpus: list[str]) -> Any:
    """A plugin for workers on this machine: a GPU each, in turn; Ctrl-C is the coordinator's, which ends them."""
    from distributed import WorkerPlugin

    class LocalWorker(WorkerPlugin):
        def setup(self, worker: Any) -> None:
            signal.signal(signal.SIGINT, signal.SIG_IGN)
            if gpus:  # read when CUDA starts, which is with the first task
                os.environ["CUDA_VISIBLE_DEVICES"] = gpus[int(worker.name) % len(gpus)]

    return LocalWorker()


def _settle(future: Future, error: BaseException | None, result: Any = None) -> None:
    if not future.done():
        with suppress(Exception):  # the other thread was faster
            future.set_exception(error) if error is not None else future.set_result(result)


def _transfer(task: Any, future: Future, timer: threading.Timer | None) -> None:
    """From Dask's future to the standard one, with a worker's death under our name."""
    from distributed import KilledWorker

    if timer is not None:
        timer.cancel()
    try:
        _settle(future, None, task.result())
    except KilledWorker as error:
        tries = getattr(error, "allowed_failures", 0) + 1
        _settle(
            future,
            WorkerLost(
                f"the worker died, and {tries - 1} more on this unit" if tries > 1 else "the worker died", tries
            ),
        )
    except (asyncio.CancelledError, CancelledError):  # a hung task, whose future is settled; or the scheduler is gone
        _settle(future, CritpointsError("the scheduler was lost; what is done is stored, the same command resumes"))
    except Exception as error:
        _settle(future, error)
