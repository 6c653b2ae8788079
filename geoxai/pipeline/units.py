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
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from geoxai.errors import GeoxaiError
from geoxai.pipeline import stores
from geoxai.pipeline.fingerprints import ingredients, science_hash, versions
from geoxai.pipeline.ledger import Ledger, StageEntry
from geoxai.pipeline.workspace import Workspace, rebuild
from geoxai.stages.stage import Context, Layout, ReducedStage, StoredStage
from geoxai.storage.files import DiskError, disk_error, remove

log = logging.getLogger("geoxai.pipeline")


@dataclass(frozen=True)
class Outcome:
    """What became of a unit: the error, if any, and what it warned of."""

    unit: int
    error: GeoxaiError | None = None
    warnings: tuple[str, ...] = ()


def perform(workspace: Workspace, name: str, unit: int) -> Outcome:
    """Do one unit of a stage. An error is recorded and returned, never raised, so that the rest can go on."""
    ledger = Ledger(workspace.run_dir, name)
    begin = time.monotonic()
    with _warnings() as heard:
        try:
            with steady(workspace.config.compute.threads_per_worker):
                _compute(workspace, name, unit)
            ledger.finish(
                unit,
                workspace.fingerprint(name),
                seconds=round(time.monotonic() - begin, 3),
                host=platform.node(),
                process=os.getpid(),
                threads=workspace.config.compute.threads_per_worker,
            )
        except Exception as error:
            return Outcome(unit, _recorded(ledger, unit, error, workspace.run_dir), tuple(heard))
    return Outcome(unit, None, tuple(heard))


def perform_in_worker(run_dir: str, name: str, unit: int) -> Outcome:
    """The same, in a process that knows nothing but the run folder."""
    return perform(rebuild(Path(run_dir)), name, unit)


def begin(workspace: Workspace, name: str) -> StageEntry:
    """The ledger's account of a stage as the config has it now, its store made if there is none that fits.

    Raises
    ------
    GeoxaiError
        The store that is there was cut into other chunks for the same numbers: mixing the two would lose data.
    """
    stage = workspace.stage(name)
    context = workspace.context(name)
    ledger = Ledger(workspace.run_dir, name)
    entry = describe(workspace, name, context)
    found = ledger.read()
    usable = found is not None and found.fingerprint == entry.fingerprint
    if usable and found is not None and not found.same_layout(entry):
        raise GeoxaiError(
            f"{context.store.name} is stored in {_layout_words(found)}, the config now asks for {_layout_words(entry)}",
            fix=f"restore the old chunk option, or recompute the stage with --force {name}",
            option="chunk",
        )
    if not usable or (isinstance(stage, StoredStage) and not context.store.exists()):
        if found is not None:
            log.info("%s: stored results do not fit the config any more; computing anew", name)
        ledger.clear()
        remove(context.folder)
        if isinstance(stage, StoredStage):
            stores.create(context.store, stage.layout(context), provenance(workspace, name))
        ledger.begin(entry)
    return entry


def describe(workspace: Workspace, name: str, context: Context) -> StageEntry:
    """How a stage is cut into units, and its fingerprint."""
    stage = workspace.stage(name)
    made_of = ingredients(workspace.config, name, workspace.device)
    if isinstance(stage, ReducedStage):
        size, block = stage.extent(context)
        return StageEntry(workspace.fingerprint(name), made_of, size, block, {}, merges=True)
    assert isinstance(stage, StoredStage)
    layout = stage.layout(context)
    size = layout.template.sizes[layout.dim]
    return StageEntry(workspace.fingerprint(name), made_of, size, layout.block, stores.chunks_of(layout))


def provenance(workspace: Workspace, name: str) -> dict[str, Any]:
    """Attributes of a store: only what determines its numbers, so that two runs can be compared bit for bit."""
    made_of = ingredients(workspace.config, name, workspace.device)
    return {
        "geoxai_stage": name,
        "geoxai_use": made_of["use"],
        "geoxai_options": json.dumps(made_of["options"], sort_keys=True),
        "geoxai_fingerprint": workspace.fingerprint(name),
        "geoxai_config_hash": science_hash(workspace.config, workspace.device),
        "geoxai_inputs": json.dumps(made_of["inputs"], sort_keys=True),
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


def _compute(workspace: Workspace, name: str, unit: int) -> None:
    stage = workspace.stage(name)
    context = workspace.context(name)
    if isinstance(stage, ReducedStage):
        size, block = stage.extent(context)
        units = -(-size // block)
        if unit == units:
            _merge(workspace, stage, context, units)
            return
        partial = stage.partial(context, unit * block, min((unit + 1) * block, size))
        stores.write_whole(Ledger(workspace.run_dir, name).partial(unit), partial, {})
        return
    assert isinstance(stage, StoredStage)
    layout = _layout(workspace, name, stage, context)
    start = unit * layout.block
    stop = min(start + layout.block, layout.template.sizes[layout.dim])
    stores.write_block(context.store, layout, unit, stage.compute(context, start, stop))


def _merge(workspace: Workspace, stage: ReducedStage, context: Context, units: int) -> None:
    import xarray as xr

    ledger = Ledger(workspace.run_dir, context.stage)
    partials = (xr.open_zarr(ledger.partial(unit), consolidated=False).load() for unit in range(units))
    stores.write_whole(context.store, stage.merge(context, partials), provenance(workspace, context.stage))


def _layout(workspace: Workspace, name: str, stage: StoredStage, context: Context) -> Layout:
    """The layout of a stage, made once per process: a template can be costly to make."""
    key = f"layout of {name}"
    if key not in workspace._opened:
        workspace._opened[key] = stage.layout(context)
    return workspace._opened[key]


def _recorded(ledger: Ledger, unit: int, error: Exception, run_dir: Path) -> GeoxaiError:
    """The error as users see it, entered in the ledger where the disk still takes it."""
    told = disk_error(error, run_dir) or error
    if not isinstance(told, GeoxaiError):
        told = GeoxaiError(
            f"{type(error).__name__}: {error}",
            fix=f"the traceback is in ledger/{ledger.folder.name}/{unit:06d}.failed.json",
        )
    if not isinstance(told, DiskError):
        ledger.fail(unit, str(told), "".join(traceback.format_exception(error)))
    return told


def _layout_words(entry: StageEntry) -> str:
    return f"{entry.units} units of {entry.block} (of {entry.size}; chunks {entry.chunks or 'none'})"


@contextmanager
def _warnings() -> Iterator[list[str]]:
    """What the libraries warn of while a unit runs, so that the main process can tell it once."""
    heard: list[str] = []

    class Listener(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            heard.append(record.getMessage())

    listener = Listener(logging.WARNING)
    root = logging.getLogger("geoxai")
    root.addHandler(listener)
    try:
        yield heard
    finally:
        root.removeHandler(listener)
