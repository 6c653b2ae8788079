"""Where units run: in this process, or in worker processes of a dask cluster. The numbers are the same."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from geoxai.errors import GeoxaiError
from geoxai.pipeline.units import Outcome, perform, perform_in_worker
from geoxai.pipeline.workspace import Workspace

# Takes a stage and its units, gives outcomes as they come.
Executor = Callable[[str, Iterable[int]], Iterator[Outcome]]


@contextmanager
def executor(workspace: Workspace) -> Iterator[Executor]:
    """The executor that ``compute.executor`` names; a cluster starts when a stage has more than one unit to do."""
    compute = workspace.config.compute

    def serial(name: str, units: Iterable[int]) -> Iterator[Outcome]:
        for unit in units:
            yield perform(workspace, name, unit)

    workers = worker_count(compute.workers, compute.threads_per_worker)
    if compute.executor == "serial":
        yield serial
        return

    cluster = _LocalCluster(workers, compute.threads_per_worker)

    def local(name: str, units: Iterable[int]) -> Iterator[Outcome]:
        units = list(units)
        if len(units) < 2:
            yield from serial(name, units)
        else:
            yield from _spread(cluster.client(), 2 * workers, workspace, name, units)

    try:
        yield local
    finally:
        cluster.close()


def worker_count(workers: int | str, threads: int) -> int:
    """Processes to start: as given, or as many as the cores that this process may use carry."""
    return workers if isinstance(workers, int) else max(1, len(os.sched_getaffinity(0)) // threads)


class _LocalCluster:
    """A dask cluster on this machine that starts on first use."""

    def __init__(self, workers: int, threads: int):
        self._workers = workers
        self._threads = threads
        self._client: Any = None

    def client(self) -> Any:
        if self._client is None:
            import dask
            from distributed import Client, LocalCluster

            for name in ("distributed", "distributed.nanny", "distributed.worker", "distributed.scheduler"):
                logging.getLogger(name).setLevel(logging.CRITICAL)
            environ = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), str(self._threads))
            with dask.config.set({"distributed.nanny.pre-spawn-environ": environ}):
                cluster = LocalCluster(
                    n_workers=self._workers,
                    threads_per_worker=1,
                    processes=True,
                    dashboard_address=None,
                    silence_logs=logging.CRITICAL,
                )
            self._client = Client(cluster)
        return self._client

    def close(self) -> None:
        if self._client is not None:
            cluster = self._client.cluster
            self._client.close()
            cluster.close()


def _spread(client: Any, window: int, workspace: Workspace, name: str, units: list[int]) -> Iterator[Outcome]:
    """Run units on a cluster with a bounded number in flight."""
    from distributed import as_completed

    waiting = iter(units)
    number: dict[str, int] = {}

    def submit(unit: int) -> Any:
        future = client.submit(perform_in_worker, str(workspace.run_dir), name, unit, pure=False, retries=0)
        number[future.key] = unit
        return future

    running = as_completed([submit(unit) for _, unit in zip(range(window), waiting)])
    for future in running:
        unit = number.pop(future.key)
        yield future.result() if future.status == "finished" else Outcome(unit, _lost(unit, future))
        if (following := next(waiting, None)) is not None:
            running.add(submit(following))


def _lost(unit: int, future: Any) -> GeoxaiError:
    """A worker that died takes no message along: say what is known."""
    error = future.exception()
    if type(error).__name__ == "KilledWorker":
        return GeoxaiError(
            f"unit {unit} killed the workers that tried it, most likely out of memory",
            fix="lower the stage's chunk or batch_size, or compute.workers",
        )
    return GeoxaiError(f"unit {unit} was lost: {type(error).__name__}: {error}", fix="run the same command again")
