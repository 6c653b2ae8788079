"""Where units run: in this process, or in worker processes of a dask cluster. The numbers are the same."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

from geoxai.errors import GeoxaiError
from geoxai.pipeline.cluster import LocalWorkers
from geoxai.pipeline.ledger import Ledger
from geoxai.pipeline.units import PROGRESS, Outcome, perform, perform_in_worker
from geoxai.pipeline.workspace import MEMORY_FIX, Workspace, left_out

# Called with a stage, its unit, steps done in it and all of them, and a note.
Inside = Callable[[str, int, int, int, str], None]

# Takes a stage and its units, yields outcomes as they come.
Executor = Callable[[str, Iterable[int]], Iterator[Outcome]]


@contextmanager
def executor(workspace: Workspace, inside: Inside) -> Iterator[Executor]:
    """The executor that ``compute.executor`` names; a cluster starts when a stage has more than one unit to do.

    ``inside`` is called with what units report while they are computed.
    """
    compute = workspace.config.compute

    def serial(name: str, units: Iterable[int]) -> Iterator[Outcome]:
        for unit in units:
            yield perform(workspace, name, unit, workspace.fingerprint(name), report=partial(inside, name, unit))

    workers = worker_count(compute.workers, compute.threads_per_worker)
    if compute.executor == "serial":
        yield serial
        return

    cluster = LocalWorkers(workers, compute.threads_per_worker)

    def local(name: str, units: Iterable[int]) -> Iterator[Outcome]:
        units = list(units)
        if len(units) < 2:
            yield from serial(name, units)
        else:
            client = cluster.client()
            client.subscribe_topic(PROGRESS, lambda event: inside(*event[1]))
            yield from _spread(client, 2 * workers, workspace, name, units)

    with cluster:
        yield local


def worker_count(workers: int | str, threads: int) -> int:
    """Processes to start: as given, or as many as fit on the cores that this process may use."""
    if isinstance(workers, int):
        return workers
    from dask.system import cpu_count

    return max(1, cpu_count() // threads)


def _spread(client: Any, window: int, workspace: Workspace, name: str, units: list[int]) -> Iterator[Outcome]:
    """Run units on a cluster with a bounded number in flight.

    A unit that kills its worker takes those waiting there with it, again and again. So lost units are tried once more
    at the end, one at a time, and only then count as failed.
    """
    from distributed import as_completed

    waiting = iter(units)
    number: dict[str, int] = {}
    run_dir, made, code = str(workspace.run_dir), workspace.fingerprint(name), workspace.code_hash(name)
    resolved = left_out(workspace)

    def submit(unit: int) -> Any:
        future = client.submit(perform_in_worker, run_dir, name, unit, made, code, resolved, pure=False, retries=0)
        number[future.key] = unit
        return future

    lost: list[int] = []
    running = as_completed([submit(unit) for _, unit in zip(range(window), waiting)])
    for future in running:
        unit = number.pop(future.key)
        if future.status == "finished":
            yield future.result()
        else:
            lost.append(unit)
        if (following := next(waiting, None)) is not None:
            running.add(submit(following))
    for unit in lost:
        future = submit(unit)
        if (cause := future.exception()) is None:
            yield future.result()
        else:
            error = _lost(unit, cause)
            Ledger(workspace.run_dir, name).fail(unit, str(error), "")
            yield Outcome(unit, error)


def _lost(unit: int, cause: BaseException) -> GeoxaiError:
    """A worker that died leaves no message: say what is known."""
    if type(cause).__name__ == "KilledWorker":
        return GeoxaiError(
            f"unit {unit} killed the workers that tried it, most likely out of memory",
            fix=MEMORY_FIX,
        )
    return GeoxaiError(f"unit {unit} was lost: {type(cause).__name__}: {cause}", fix="run the same command again")
