"""Run a config: stage after stage, unit after unit, and on from where the last run stopped."""

from __future__ import annotations

import logging
import signal
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType

from geoxai.config import Config, load
from geoxai.errors import GeoxaiError, OptionError
from geoxai.names import unknown
from geoxai.pipeline import stores
from geoxai.pipeline.executors import Executor, executor
from geoxai.pipeline.fingerprints import ingredients
from geoxai.pipeline.ledger import Ledger, StageEntry
from geoxai.pipeline.lock import locked
from geoxai.pipeline.progress import Report, progress
from geoxai.pipeline.record import Record, run_log
from geoxai.pipeline.reporting import write_report
from geoxai.pipeline.units import begin, provenance, steady
from geoxai.pipeline.workspace import Workspace, bind, check_skeletons, fit_store, is_done, save_config, upstream
from geoxai.stages.stage import LazyStage, OutputStage, ReducedStage, Stage, StoredStage
from geoxai.storage.files import DiskError, disk_error, remove, sweep, write_json

log = logging.getLogger("geoxai.pipeline")

DONE, FAILED, PARTIAL, INTERRUPTED, TERMINATED = 0, 1, 4, 130, 143


@dataclass(frozen=True)
class RunResult:
    """How a run ended: its exit code, one message for the user, and where its output is."""

    exit_code: int
    message: str
    run_dir: Path


class Terminated(BaseException):
    """SIGTERM arrived: stop as for Ctrl-C."""


@dataclass
class _Run:
    """A run while it goes on."""

    workspace: Workspace
    record: Record
    execute: Executor
    report: Report
    incomplete: set[str] = field(default_factory=set)
    errors: list[tuple[str, GeoxaiError]] = field(default_factory=list)
    finished_any: bool = False


def run(config: Config | str | Path, *, only: Sequence[str] = (), force: Sequence[str] = ()) -> RunResult:
    """Run a config, doing only the units that are not done yet.

    Parameters
    ----------
    config
        A loaded config, or the path of a YAML file.
    only
        Stages to run, together with what they need; all by default.
    force
        Stages to compute anew, together with everything that reads them.

    Returns
    -------
    RunResult
        Mistakes in the config or the data do not raise: they are its ``exit_code`` and ``message``.
    """
    try:
        config = config if isinstance(config, Config) else load(config)
        workspace = bind(config)
        chosen = _with_upstream(config, _known(config, only, "--only") or list(config.stages))
        forced = _with_downstream(config, _known(config, force, "--force"))
        with locked(workspace.run_dir):
            return _locked_run(workspace, chosen, forced)
    except GeoxaiError as error:
        return RunResult(error.exit_code, str(error), Path())


def _locked_run(workspace: Workspace, chosen: list[str], forced: list[str]) -> RunResult:
    record = Record(workspace)
    exit_code, message = FAILED, "stopped by an error"
    try:
        with _sigterm(), run_log(record):
            for finding in workspace.config.warnings:
                record.warn(finding.message)
            for folder in (workspace.run_dir, *(workspace.run_dir / "ledger").glob("*"), workspace.run_dir / "figures"):
                sweep(folder)
            save_config(workspace)
            for name in forced:
                _forget_results(workspace, name)
            exit_code, message = _do_stages(workspace, record, chosen)
    except KeyboardInterrupt:
        exit_code, message = INTERRUPTED, f"interrupted; go on with: {_command(workspace)}"
    except Terminated:
        exit_code, message = TERMINATED, f"terminated; go on with: {_command(workspace)}"
    except (GeoxaiError, OSError) as error:
        told = disk_error(error, workspace.run_dir) or error
        if not isinstance(told, GeoxaiError):
            raise
        exit_code, message = told.exit_code, str(told)
    try:
        record.write(exit_code, message)
        write_report(workspace, record, exit_code, message)
    except OSError as error:  # the disk may be what the run stopped at: its own message stands
        if exit_code == DONE or disk_error(error, workspace.run_dir) is None:
            raise
    return RunResult(exit_code, message, workspace.run_dir)


def _do_stages(workspace: Workspace, record: Record, chosen: list[str]) -> tuple[int, str]:
    """Check every stage against what it will get, then do them in order."""
    check_skeletons(workspace, chosen)
    record.write(None, "running")
    with executor(workspace) as execute, progress() as report:
        going = _Run(workspace, record, execute, report)
        for name in chosen:
            blocked = [source for source in upstream(workspace.config, name) if source in going.incomplete]
            if blocked:
                going.incomplete.add(name)
                record.stages[name] = {"state": "not run", "because": f"{blocked[0]} is not complete"}
                continue
            begun = time.monotonic()
            try:
                _do_stage(going, name)
            except GeoxaiError as error:
                if isinstance(error, DiskError):
                    raise
                going.incomplete.add(name)
                going.errors.append((name, error))
            state = "incomplete" if name in going.incomplete else "complete"
            record.stages.setdefault(name, {}).update(state=state, seconds=round(time.monotonic() - begun, 2))
    return _ending(going)


def _do_stage(going: _Run, name: str) -> None:
    stage = going.workspace.stage(name)
    if stage.fits:
        _fit(going, name, stage)
    if isinstance(stage, OutputStage):
        _output(going, name, stage)
    elif not isinstance(stage, LazyStage):
        _units(going, name)


def _fit(going: _Run, name: str, stage: Stage) -> None:
    """Fit once what the stage fits, and store it."""
    workspace = going.workspace
    made = workspace.fingerprint(name)
    if is_done(workspace, f"{name}.fit", made):
        return
    ledger = Ledger(workspace.run_dir, f"{name}.fit")
    ledger.begin(StageEntry(made, ingredients(workspace.config, name, workspace.device), 1, 1, {}))
    going.report(f"{name} (fit)", 0, 1)
    with steady(workspace.config.compute.threads_per_worker), _as_geoxai(name):
        fitted = stage.fit(workspace.context(name, fitting=True)).load()
        stores.write_whole(fit_store(workspace.run_dir, name), fitted, provenance(workspace, name))
    ledger.finish(0, made)
    workspace.forget(name)
    going.finished_any = True
    going.report(f"{name} (fit)", 1, 1)


def _output(going: _Run, name: str, stage: OutputStage) -> None:
    """Write a stage's files, unless they are there for the same fingerprint."""
    workspace = going.workspace
    made, ledger = workspace.fingerprint(name), Ledger(workspace.run_dir, name)
    if made == (found.fingerprint if (found := ledger.read()) else None) and ledger.done(made):
        files = [Path(workspace.run_dir, f) for f in ledger.notes(0)["files"]]
        if all(file.exists() for file in files):
            return
    ledger.begin(StageEntry(made, ingredients(workspace.config, name, workspace.device), 1, 1, {}))
    going.report(name, 0, 1)
    with steady(workspace.config.compute.threads_per_worker), _as_geoxai(name):
        written = stage.write(workspace.context(name))
    ledger.finish(0, made, files=[_relative(path, workspace.run_dir) for path in written])
    going.finished_any = True
    going.report(name, 1, 1)


def _units(going: _Run, name: str) -> None:
    """Do the units of a stage that are not done, then merge and summarise."""
    workspace = going.workspace
    stage, ledger = workspace.stage(name), Ledger(workspace.run_dir, name)
    with _as_geoxai(name):
        entry = begin(workspace, name)
    done = ledger.done(entry.fingerprint)
    todo = [unit for unit in range(entry.units) if unit not in done]
    finished = entry.units - len(todo)
    going.report(name, finished, entry.units)
    failures: list[GeoxaiError] = []
    for outcome in going.execute(name, todo):
        for warning in outcome.warnings:
            if warning not in going.record.warnings:
                log.warning("%s", warning)
        if isinstance(outcome.error, DiskError):
            raise outcome.error
        if outcome.error is not None:
            failures.append(outcome.error)
            log.error("%s, unit %d: %s", name, outcome.unit, outcome.error.message)
        else:
            finished += 1
            going.finished_any = True
            going.report(name, finished, entry.units)
    going.record.stages[name] = {"units": entry.units, "computed": len(todo) - len(failures), "failed": len(failures)}
    if failures:
        going.incomplete.add(name)
        going.errors += [(name, error) for error in failures]
        return
    workspace.forget(name)
    if isinstance(stage, ReducedStage) and (todo or entry.units not in done):
        for outcome in going.execute(name, [entry.units]):
            if outcome.error is not None:
                raise outcome.error
        todo = [entry.units]
    _summarise(workspace, name, anew=bool(todo))


def _summarise(workspace: Workspace, name: str, *, anew: bool) -> None:
    """Write ``<stage>.json`` where the stage has something to say in numbers."""
    path = workspace.run_dir / f"{name}.json"
    if path.exists() and not anew:
        return
    stage = workspace.stage(name)
    with steady(workspace.config.compute.threads_per_worker), _as_geoxai(name):
        summary = stage.summarise(workspace.context(name), workspace.open(name))  # type: ignore[attr-defined]
    if summary is not None:
        write_json(path, summary)


def _ending(going: _Run) -> tuple[int, str]:
    """Exit code and message: what failed and why, or where the output is."""
    workspace = going.workspace
    if not going.errors:
        return DONE, f"done: {workspace.run_dir}"
    causes = list(dict.fromkeys(_told(workspace, name, error) for name, error in going.errors))
    codes = {error.exit_code for _, error in going.errors}
    partly = any(stage.get("failed") and stage["units"] > stage["failed"] for stage in going.record.stages.values())
    shared = codes.pop() if len(codes) == 1 else FAILED
    code = PARTIAL if shared == FAILED and partly else shared
    more = [f"... and {len(causes) - 3} more, see run.log"] if len(causes) > 3 else []
    return code, "\n".join([*causes[:3], *more, f"what is finished is kept; go on with: {_command(workspace)}"])


def _told(workspace: Workspace, name: str, error: GeoxaiError) -> str:
    """An error at its place in the config: the option to blame, or its stage."""
    return workspace.config.locate(name, error.option, error).render()


def _command(workspace: Workspace) -> str:
    return f"geoxai run {workspace.config.path}"


@contextmanager
def _as_geoxai(name: str) -> Iterator[None]:
    """Errors of the libraries below, as one sentence; the traceback of one that is no user's mistake is in run.log."""
    try:
        yield
    except GeoxaiError:
        raise
    except Exception as error:
        log.debug("%s", name, exc_info=error)
        told = disk_error(error, Path(str(getattr(error, "filename", None) or "")))
        raise told or GeoxaiError(f"{type(error).__name__}: {error}", fix="the traceback is in run.log") from error


@contextmanager
def _sigterm() -> Iterator[None]:
    """Turn SIGTERM into an exception, so that a run ends cleanly; only a process's main thread can."""

    def raise_terminated(number: int, frame: FrameType | None) -> None:
        raise Terminated

    try:
        before = signal.signal(signal.SIGTERM, raise_terminated)
    except ValueError:
        yield
        return
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _forget_results(workspace: Workspace, name: str) -> None:
    """Remove what a stage stored; files that an output stage wrote are replaced when it runs again."""
    Ledger(workspace.run_dir, name).clear()
    Ledger(workspace.run_dir, f"{name}.fit").clear()
    remove(fit_store(workspace.run_dir, name))
    if isinstance(workspace.stage(name), StoredStage | ReducedStage):
        for path in (f"{name}.zarr", name, f"{name}.json"):
            remove(workspace.run_dir / path)


def _known(config: Config, names: Sequence[str], option: str) -> list[str]:
    for name in names:
        if name not in config.stages:
            raise OptionError(f"{option}: {unknown('stage', name, config.stages)}")
    return list(names)


def _with_upstream(config: Config, names: Sequence[str]) -> list[str]:
    wanted: set[str] = set()
    stack = list(names)
    while stack:
        name = stack.pop()
        if name not in wanted:
            wanted.add(name)
            stack += upstream(config, name)
    return [name for name in config.stages if name in wanted]


def _with_downstream(config: Config, names: Sequence[str]) -> list[str]:
    wanted = set(names)
    for name in config.stages:  # in dependency order
        if wanted & set(upstream(config, name)):
            wanted.add(name)
    return [name for name in config.stages if name in wanted] if names else []


def _relative(path: Path, folder: Path) -> str:
    return str(path.relative_to(folder)) if path.is_relative_to(folder) else str(path)
