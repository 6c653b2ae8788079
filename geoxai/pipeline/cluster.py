"""Worker processes on this machine: started once there is work, out of reach of Ctrl-C, ended with the run."""

from __future__ import annotations

import logging
import multiprocessing
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future, wait
from contextlib import contextmanager, suppress
from multiprocessing import resource_tracker
from typing import Any

from geoxai.errors import GeoxaiError

log = logging.getLogger("geoxai.pipeline")

_STARTS = 3  # attempts to start the workers: one may die of something that does not happen again
_SECONDS_TO_END = 10.0  # for workers that have nothing to do; then they are killed
_ENVIRONMENT = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")


class LocalWorkers:
    """A dask cluster on this machine that starts on first use. As a context manager it is closed at the end."""

    def __init__(self, workers: int, threads: int):
        self._workers = workers
        self._threads = threads
        self._starting: Future[Any] | None = None
        self._ending = False
        self._others: set[int | None] = set()  # children that this process had before

    def __enter__(self) -> LocalWorkers:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self.close(at_once=kind is not None)

    def client(self) -> Any:
        """The cluster's client.

        Raises
        ------
        GeoxaiError
            The workers died while they started, each time.
        """
        if self._starting is None:
            self._others = {child.pid for child in multiprocessing.active_children()}
            self._starting = Future()
            # in a thread of its own: a signal that interrupts the main thread leaves no cluster half made
            thread = threading.Thread(target=self._start, args=(self._starting,), daemon=True, name="start workers")
            with _sigint_blocked():
                thread.start()
        return self._starting.result()

    def _start(self, made: Future[Any]) -> None:
        from distributed import Client

        try:
            made.set_result(Client(self._cluster()))
        except BaseException as error:
            made.set_exception(error)

    def _cluster(self) -> Any:
        """The cluster, tried again where a worker dies while it starts."""
        import dask
        from distributed import LocalCluster

        settings = {
            "distributed.nanny.pre-spawn-environ": dict.fromkeys(_ENVIRONMENT, str(self._threads)),
            "distributed.worker.memory.pause": False,  # a worker that keeps a large network would pause for ever
            "distributed.scheduler.allowed-failures": 1,
        }
        for attempt in range(1, _STARTS + 1):
            try:
                with dask.config.set(settings):
                    return LocalCluster(
                        n_workers=self._workers,
                        threads_per_worker=1,
                        processes=True,
                        dashboard_address=None,
                        scheduler_kwargs={"dashboard_address": ":0"},  # else port 8787, and a warning if it is taken
                        silence_logs=logging.CRITICAL,
                    )
            except Exception as error:  # what had started is closed by then
                log.debug("start %d of the worker processes failed", attempt, exc_info=error)
                cause = error
                if self._ending:
                    break
        raise GeoxaiError(
            f"the worker processes died while starting, {attempt} times: {cause.__cause__ or cause}",
            fix="lower compute.workers, or set compute.executor: serial; run.log has the traceback",
        ) from cause

    def close(self, *, at_once: bool = False) -> None:
        """End the workers and wait until they are gone; ``at_once`` does not wait for the units in progress."""
        if self._starting is None:
            return
        self._ending = True
        until = time.monotonic() + _SECONDS_TO_END
        while not self._starting.done() and time.monotonic() < until:
            self._kill()  # the thread that starts them sees that and gives up
            wait([self._starting], timeout=0.1)
        if self._starting.done() and self._starting.exception() is None:
            client = self._starting.result()
            if at_once:
                for nanny in client.cluster.workers.values():
                    nanny.close_gracefully()  # else it restarts a worker that is killed
                self._kill()
            with suppress(TimeoutError, OSError):
                client.close(timeout=_SECONDS_TO_END)
            with suppress(TimeoutError, OSError):
                client.cluster.close(timeout=_SECONDS_TO_END)
        self._kill()
        self._starting, self._ending = None, False

    def _kill(self) -> None:
        """Kill the worker processes that are left, and wait for them."""
        left = [child for child in multiprocessing.active_children() if child.pid not in self._others]
        for child in left:
            child.kill()
        for child in left:
            child.join(_SECONDS_TO_END)


@contextmanager
def _sigint_blocked() -> Iterator[None]:
    """Block SIGINT in this thread and in all threads and processes that start from it.

    Ctrl-C is for the main process, which ends its workers itself.
    """
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    resource_tracker.ensure_running()  # else the thread that first needs it unblocks SIGINT again
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def end_resource_tracker(seconds: float = 5.0) -> None:
    """Wait for the process in which Python keeps track of semaphores; kill it if it does not end.

    Python starts it with the first worker and, before 3.12, leaves it to end after its parent. To be called as the last
    thing in a process: using a semaphore later starts it again.
    """
    module = sys.modules.get("multiprocessing.resource_tracker")
    tracker = getattr(module, "_resource_tracker", None)
    pid, alive = getattr(tracker, "_pid", None), getattr(tracker, "_fd", None)
    if tracker is None or pid is None or alive is None:
        return
    tracker._pid = tracker._fd = None
    until = time.monotonic() + seconds
    with suppress(OSError):
        os.close(alive)  # it ends when nobody holds the other end of its pipe
        while os.waitpid(pid, os.WNOHANG) == (0, 0):
            if time.monotonic() > until:
                os.kill(pid, signal.SIGKILL)
            time.sleep(0.01)
