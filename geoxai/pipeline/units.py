"""One unit of work: rebuilt from the run folder, computed, written, then entered in the ledger.

Any process can do any unit at any time; a unit that is killed leaves nothing that counts.
"""

from __future__ import annotations

import json
import logging
import os
import platform
import time
import traceback
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from geoxai.errors import GeoxaiError
from geoxai.pipeline import stores
from geoxai.pipeline.damage import suspicious
from geoxai.pipeline.fingerprints import changed, versions
from geoxai.pipeline.ledger import Ledger, StageEntry
from geoxai.pipeline.libraries import libraries_heard
from geoxai.pipeline.workspace import Workspace, plain_error, rebuild, with_upstream
from geoxai.stages.stage import Context, Layout, ReducedStage, Report, StoredStage, unreported
from geoxai.storage.files import DiskError, remove
from geoxai.storage.recorded import Recorded, record
from geoxai.version import version

log = logging.getLogger("geoxai.pipeline")


PROGRESS = "geoxai-progress"  # the topic under which workers send what units report
_EVERY_SECONDS = 1.0


@dataclass(frozen=True)
class Outcome:
    """What became of a unit: the error, if any, with its traceback, its warnings, and what libraries logged."""

    unit: int
    error: GeoxaiError | None = None
    trace: str = ""
    warnings: tuple[str, ...] = ()
    suspicious: bool = False  # damage to what was read may be behind the error
    asides: tuple[str, ...] = ()


def perform(
    workspace: Workspace,
    name: str,
    unit: int,
    fingerprint: str,
    code: str | None = None,
    report: Report = unreported,
) -> Outcome:
    """Do one unit of a stage. An error is recorded and returned, never raised, so that the rest can go on.

    ``code`` is what ``Workspace.code_hash`` returned in the process that started the run, where that is another one.
    ``report`` is called with what the stage says of its progress in the unit.
    """
    ledger = Ledger(workspace.run_dir, name)
    begin = time.monotonic()
    with _warnings() as heard:
        try:
            if code is not None and workspace.code_hash(name) != code:
                raise GeoxaiError(
                    f"the source of an architecture or a stage that {name} needs has changed since the run started",
                    fix="run the same command again: what the old source made is recomputed",
                )
            with steady(workspace.config.compute.threads_per_worker):
                written = _compute(workspace, name, unit, report)
            ledger.finish(
                unit,
                fingerprint,
                recorded(workspace, written),
                seconds=round(time.monotonic() - begin, 3),
                host=platform.node(),
                process=os.getpid(),
                threads=workspace.config.compute.threads_per_worker,
            )
        except Exception as error:
            told, trace = plain_error(error, workspace.run_dir), "".join(traceback.format_exception(error))
            if not isinstance(told, DiskError):
                masked = workspace.config.masked
                ledger.fail(unit, masked(str(told)), masked(trace))
            return Outcome(unit, told, trace, tuple(heard), suspicious(error))
    return Outcome(unit, warnings=tuple(heard))


def perform_in_worker(
    run_dir: str, name: str, unit: int, fingerprint: str, code: str, resolved: str | None = None
) -> Outcome:
    """The same, in a process that knows nothing but the run folder, and the resolved config where secrets are in it.

    The fingerprint is passed along: to compute it again, every worker would have to read all input files. The code is
    checked again, since a worker may load another source than the main process did.
    """
    asides = _Listener()
    with libraries_heard(asides):
        outcome = perform(rebuild(Path(run_dir), resolved), name, unit, fingerprint, code, _sent(name, unit))
    return replace(outcome, asides=tuple(dict.fromkeys(asides.heard)))


def _sent(name: str, unit: int) -> Report:
    """Sends what a unit reports to the main process, at most once a second; to nobody outside of a worker."""
    from distributed import get_worker

    try:
        worker = get_worker()
    except ValueError:
        return unreported
    last = time.monotonic()

    def report(done: int, total: int, note: str) -> None:
        nonlocal last
        if (now := time.monotonic()) - last >= _EVERY_SECONDS:
            last = now
            worker.log_event(PROGRESS, (name, unit, done, total, note))

    return report


def begin(workspace: Workspace, name: str) -> StageEntry:
    """The ledger's entry for a stage as the config has it now; its store is created if none fits.

    Raises
    ------
    GeoxaiError
        The existing store was cut into other chunks for the same numbers: mixing the two would lose data.
    """
    stage = workspace.stage(name)
    context = workspace.context(name)
    ledger = Ledger(workspace.run_dir, name)
    entry = describe(workspace, name, context)
    found = ledger.read()
    usable = found is not None and found.fingerprint == entry.fingerprint
    if usable and found is not None and not found.same_layout(entry):
        raise GeoxaiError(
            f"{context.store.name} is stored in {found.layout_words()}, the config now asks for {entry.layout_words()}",
            fix=f"restore the old chunk option, or recompute the stage with --force {name}",
            option="chunk",
        )
    if usable and (context.store.exists() or (entry.merges and entry.units not in ledger.done(entry.fingerprint))):
        return entry
    if found is not None:
        why = ", ".join(changed(found.ingredients, entry.ingredients)) or f"{context.store.name} is gone"
        log.info("%s: computing anew: %s", name, why)
    ledger.clear()
    for path in (context.store, context.folder, workspace.run_dir / f"{name}.json"):
        remove(path)
    if isinstance(stage, StoredStage):
        stores.create(
            context.store, _layout(workspace, name, stage, context), provenance(workspace, name, entry.made_by)
        )
        entry = replace(entry, files=recorded(workspace, [context.store]))
    ledger.begin(entry)
    return entry


def describe(workspace: Workspace, name: str, context: Context) -> StageEntry:
    """How a stage is cut into units, and its fingerprint."""
    stage = workspace.stage(name)
    made_of = workspace.ingredients(name)
    if isinstance(stage, ReducedStage):
        size, block = stage.extent(context)
        return StageEntry(workspace.fingerprint(name), made_of, size, block, {}, merges=True)
    assert isinstance(stage, StoredStage)
    layout = _layout(workspace, name, stage, context)
    size = layout.template.sizes[layout.dim]
    return StageEntry(workspace.fingerprint(name), made_of, size, layout.block, stores.chunks_of(layout))


def provenance(workspace: Workspace, name: str, made_by: str) -> dict[str, Any]:
    """Attributes of a store: only what determines its numbers, so that two runs can be compared bit for bit."""
    made_of = workspace.ingredients(name)
    inputs = {
        f"{stage}.{option}": digests
        for stage in with_upstream(workspace.config, [name])
        for option, digests in workspace.ingredients(stage)["inputs"].items()
    }
    return {
        "geoxai_stage": name,
        "geoxai_use": made_of["use"],
        "geoxai_options": json.dumps(made_of["options"], sort_keys=True),
        "geoxai_fingerprint": workspace.fingerprint(name),
        "geoxai_config_hash": workspace.science_hash(),
        "geoxai_inputs": json.dumps(inputs, sort_keys=True),
        "geoxai_version": made_by,
        "geoxai_versions": json.dumps(versions(), sort_keys=True),
        "geoxai_seed": workspace.config.compute.seed,
        "geoxai_device": made_of["device"],
    }


@contextmanager
def steady(threads: int) -> Iterator[None]:
    """Compute with a fixed number of threads in torch and BLAS, and dask without threads of its own."""
    import dask
    import torch
    from threadpoolctl import threadpool_limits

    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        with threadpool_limits(threads), dask.config.set(scheduler="synchronous"):
            yield
    finally:
        torch.set_num_threads(before)


def recorded(workspace: Workspace, paths: Iterable[Path]) -> Recorded:
    """Files as the ledger lists them; on the disk by then, unless the config says otherwise."""
    return record(paths, workspace.run_dir, sync=workspace.config.compute.fsync)


def _compute(workspace: Workspace, name: str, unit: int, report: Report) -> list[Path]:
    """Do one unit; the files and folders it wrote."""
    stage = workspace.stage(name)
    context = replace(workspace.context(name), report=report)
    if isinstance(stage, ReducedStage):
        size, block = stage.extent(context)
        units = -(-size // block)
        if unit == units:
            _merge(workspace, stage, context, units)
            return [context.store]
        partial = stage.partial(context, unit * block, min((unit + 1) * block, size))
        path = Ledger(workspace.run_dir, name).partial(unit)
        stores.write_whole(path, partial, {})
        return [path]
    assert isinstance(stage, StoredStage)
    layout = _layout(workspace, name, stage, context)
    start = unit * layout.block
    stop = min(start + layout.block, layout.template.sizes[layout.dim])
    chunks = stores.write_block(context.store, layout, unit, stage.compute(context, start, stop))
    return [*chunks, *stage.files(context, start, stop)]


def _merge(workspace: Workspace, stage: ReducedStage, context: Context, units: int) -> None:
    import xarray as xr

    ledger = Ledger(workspace.run_dir, context.stage)
    partials = (xr.open_zarr(ledger.partial(unit), consolidated=False) for unit in range(units))
    begun = ledger.read()
    made_by = begun.made_by if begun else version()
    stores.write_whole(context.store, stage.merge(context, partials), provenance(workspace, context.stage, made_by))


def _layout(workspace: Workspace, name: str, stage: StoredStage, context: Context) -> Layout:
    """The layout of a stage, made once per process: a template can be costly to make."""
    return workspace.once(f"layout of {name}", lambda: stage.layout(context))


@contextmanager
def _warnings() -> Iterator[list[str]]:
    """What the libraries warn of while a unit runs, so that the main process can log it once."""
    listener = _Listener()
    root = logging.getLogger("geoxai")
    root.addHandler(listener)
    try:
        yield listener.heard
    finally:
        root.removeHandler(listener)


class _Listener(logging.Handler):
    """Keeps the messages of warnings and worse."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.heard: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.heard.append(record.getMessage().strip())
