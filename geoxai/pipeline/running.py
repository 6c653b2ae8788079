"""Run a config: stage after stage, unit after unit, and on from where the last run stopped."""

from __future__ import annotations

import logging
import shlex
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from geoxai.config import Config, ConfigError, load
from geoxai.errors import GeoxaiError, OptionError
from geoxai.names import unknown
from geoxai.pipeline import stores
from geoxai.pipeline.damage import discard, find_damage, suspicious
from geoxai.pipeline.executors import Executor, executor
from geoxai.pipeline.ledger import Ledger, StageEntry
from geoxai.pipeline.lock import locked
from geoxai.pipeline.notebook import assignments, unguarded_line
from geoxai.pipeline.ownership import refuse_another
from geoxai.pipeline.progress import Progress, progress
from geoxai.pipeline.record import NOT_ON_CONSOLE, Record, run_log
from geoxai.pipeline.reporting import write_report
from geoxai.pipeline.units import begin, provenance, recorded, steady
from geoxai.pipeline.workspace import (
    Workspace,
    bind,
    check_device,
    check_skeletons,
    fit_store,
    is_done,
    plain_error,
    save_config,
    upstream,
    with_upstream,
)
from geoxai.signals import Terminated, termination_raised
from geoxai.stages.stage import LazyStage, OutputStage, ReducedStage, Stage, StoredStage, UnreadableError
from geoxai.storage.files import DiskError, remove, sweep, write_json

log = logging.getLogger("geoxai.pipeline")

DONE, FAILED, PARTIAL, INTERRUPTED, TERMINATED = 0, 1, 4, 130, 143

_TOLD_FAILURES = 3  # of one stage on the console; run.log and the ledger have them all


@dataclass(frozen=True)
class RunResult:
    """How a run ended: its exit code, one message for the user, and where its output is."""

    exit_code: int
    message: str
    run_dir: Path


@dataclass
class _Run:
    """A run while it goes on."""

    workspace: Workspace
    record: Record
    execute: Executor
    progress: Progress
    incomplete: set[str] = field(default_factory=set)
    errors: list[tuple[str, GeoxaiError]] = field(default_factory=list)
    examined: set[str] = field(default_factory=set)  # stages whose sources were looked at for damage
    damaged: set[str] = field(default_factory=set)  # stages that failed because of what they read


def run(
    config: Config | str | Path,
    *,
    only: Sequence[str] = (),
    force: Sequence[str] = (),
    set: Mapping[str, Any] | None = None,  # the name of the option on the command line
    check: bool = False,
    debug: bool = False,
) -> RunResult:
    """Run a config, doing only the units that are not done yet.

    Parameters
    ----------
    config
        A loaded config, or the path of a YAML file.
    only
        Stages to run, together with what they need; all by default.
    force
        Stages to compute anew, together with everything that reads them.
    set
        Values that replace those of the file, by their dotted names: ``{"stages.network.seeds": 1}``.
    check
        Raise a GeoxaiError if the run does not end well.
    debug
        Show the traceback of every error; otherwise they are only in ``run.log``.

    Returns
    -------
    RunResult
        Its ``exit_code`` and ``message`` report errors, which are not raised unless ``check`` asks for it.

    If a script calls this outside ``if __name__ == "__main__":``, the run uses no worker processes, since these would
    run the script, and so this call, again.
    """
    result = _run(config, only, force, set or {}, debug)
    if check and result.exit_code != DONE:
        raise RunError(result)
    return result


class RunError(GeoxaiError):
    """A run that did not end well; ``result`` is how it ended."""

    def __init__(self, result: RunResult):
        super().__init__(result.message)
        self.result = result
        self.exit_code = result.exit_code

    def __reduce__(self) -> tuple:
        return RunError, (self.result,)


def _run(
    config: Config | str | Path, only: Sequence[str], force: Sequence[str], values: Mapping[str, Any], debug: bool
) -> RunResult:
    run_dir = Path()
    try:
        if isinstance(config, Config) and values:
            raise OptionError("set replaces values of a file, not of a config that is loaded", option="set")
        config = config if isinstance(config, Config) else load(config, assignments(values))
        if config.compute.executor != "serial" and (line := unguarded_line()) is not None:
            log.warning(
                "%s runs geoxai outside of `if __name__ == '__main__':`, so worker processes would run the script"
                " again; it runs in this process alone",
                line,
            )
            config = replace(config, compute=config.compute.model_copy(update={"executor": "serial"}))
        chosen = with_upstream(config, _known(config, only, "--only") or list(config.stages))
        forced = _with_downstream(config, _known(config, force, "--force"))
        check_device(config)
        workspace = bind(config)
        run_dir = workspace.run_dir
        with locked(run_dir):
            refuse_another(workspace, chosen, forced)
            return _locked_run(workspace, chosen, forced, _command(config, only), debug)
    except GeoxaiError as error:
        return RunResult(error.exit_code, str(error), run_dir)


def _locked_run(workspace: Workspace, chosen: list[str], forced: list[str], command: str, debug: bool) -> RunResult:
    record = Record(workspace)
    try:
        with termination_raised(), run_log(record, debug):
            exit_code, message = _ended(workspace, record, chosen, forced, command)
            log.info("%s", message, extra=NOT_ON_CONSOLE)  # whoever asked for the run shows it
    except OSError as error:  # run.log itself cannot be written
        told = plain_error(error, workspace.run_dir)
        exit_code, message = told.exit_code, str(told)
    try:
        record.write(exit_code, message)
        write_report(workspace, record, exit_code, message)
    except OSError as error:
        if exit_code == DONE:  # else the disk may be what the run stopped at: its own message stands
            return RunResult(FAILED, str(plain_error(error, workspace.run_dir)), workspace.run_dir)
    return RunResult(exit_code, message, workspace.run_dir)


def _ended(workspace: Workspace, record: Record, chosen: list[str], forced: list[str], command: str) -> tuple[int, str]:
    """Do the run; how it ended, as exit code and message."""
    try:
        for finding in workspace.config.warnings:
            record.warn(finding.message)
        _sweep(workspace)
        save_config(workspace)
        workspace.anew.update(forced)
        if damaged := find_damage(workspace, chosen):
            discard(workspace, damaged)
        _check_skeletons(workspace, chosen)
        for name in forced:  # only now: a config that cannot run costs no result
            _forget_results(workspace, name)
        record.write(None, "running")
        return _do_stages(workspace, record, chosen, command)
    except KeyboardInterrupt:
        log.info("stopped by SIGINT", extra=NOT_ON_CONSOLE)
        return INTERRUPTED, f"interrupted; go on with: {command}"
    except Terminated as stop:
        log.info("stopped by %s", stop, extra=NOT_ON_CONSOLE)
        return TERMINATED, f"terminated; go on with: {command}"
    except Exception as error:
        log.debug("stopped by an error", exc_info=error)
        told = plain_error(error, workspace.run_dir)
        return told.exit_code, str(told)


def _check_skeletons(workspace: Workspace, chosen: list[str]) -> None:
    """Check stages before anything is computed; where damage to a result is in the way, that is taken for not done."""
    try:
        check_skeletons(workspace, chosen)
    except ConfigError as error:
        if not suspicious(error.__cause__) or not (damaged := find_damage(workspace, chosen, read=True)):
            raise
        discard(workspace, damaged)
        check_skeletons(workspace, chosen)


def _do_stages(workspace: Workspace, record: Record, chosen: list[str], command: str) -> tuple[int, str]:
    """Do stages in order, and again where what a stage read turned out to be damaged."""
    with progress() as shown, executor(workspace, shown.inside) as execute:
        for _ in range(len(chosen) + 1):  # each time at least one stage is repaired
            going = _Run(workspace, record, execute, shown)
            _do_each(going, chosen)
            if not going.damaged:
                return _ending(going, command)
    raise GeoxaiError(
        f"what {', '.join(sorted(going.damaged))} reads is damaged each time that it is computed anew",
        fix="check the disk and the memory of this machine, or choose another output.dir",
    )


def _do_each(going: _Run, chosen: list[str]) -> None:
    """Do stages in order; those that read an incomplete one are left out."""
    workspace, record = going.workspace, going.record
    for name in chosen:
        blocked = [source for source in upstream(workspace.config, name) if source in going.incomplete]
        if blocked:
            going.incomplete.add(name)
            record.stages[name] = {"state": "not run", "because": f"{blocked[0]} is not complete"}
            continue
        begun = time.monotonic()
        try:
            _do_stage(going, name)
        except Exception as error:
            told = plain_error(error, workspace.run_dir)
            if isinstance(told, DiskError):
                raise told from error
            log.debug("%s: %s", name, told.message, exc_info=error)
            going.incomplete.add(name)
            if not (suspicious(error) and _is_damage(going, name)):
                going.errors.append((name, told))
        state = "incomplete" if name in going.incomplete else "complete"
        record.stages.setdefault(name, {}).update(state=state, seconds=round(time.monotonic() - begun, 2))


def _is_damage(going: _Run, name: str) -> bool:
    """Whether a stage failed because a result that it reads is damaged; that counts as not done from here on."""
    if name in going.examined:
        return name in going.damaged
    going.examined.add(name)
    damaged = find_damage(going.workspace, with_upstream(going.workspace.config, [name]), read=True)
    if damaged:
        going.damaged.add(name)
        discard(going.workspace, damaged)
    return bool(damaged)


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
    entry = StageEntry(made, workspace.ingredients(name), 1, 1, {})
    ledger.begin(entry)
    going.progress.units(f"{name} (fit)", 0, 1)
    with steady(workspace.config.compute.threads_per_worker):
        fitted = stage.fit(workspace.context(name, fitting=True)).load()
        stores.write_whole(fit_store(workspace.run_dir, name), fitted, provenance(workspace, name, entry.made_by))
    ledger.finish(0, made, recorded(workspace, [fit_store(workspace.run_dir, name)]))
    workspace.forget(name)
    going.progress.units(f"{name} (fit)", 1, 1)


def _output(going: _Run, name: str, stage: OutputStage) -> None:
    """Write a stage's files, unless they are there for the same fingerprint."""
    workspace = going.workspace
    made, ledger = workspace.fingerprint(name), Ledger(workspace.run_dir, name)
    if ledger.done(made) and all(_is_of(stage, workspace.run_dir / file, made) for file in ledger.written()):
        return
    ledger.begin(StageEntry(made, workspace.ingredients(name), 1, 1, {}))
    going.progress.units(name, 0, 1)
    workspace.forget_all()  # opened stores keep what was loaded of them, and files would differ in their chunks by that
    with steady(workspace.config.compute.threads_per_worker):
        written = stage.write(workspace.context(name))
    for path in written:
        sweep(path.parent, path.name)
    names = [_relative(path, workspace.run_dir) for path in written]
    ledger.finish(0, made, recorded(workspace, written), written=names)
    going.progress.units(name, 1, 1)


def _is_of(stage: OutputStage, path: Path, made: str) -> bool:
    """Whether a file is what a stage wrote, and no other run has put its own there since."""
    try:
        return stage.made_for(path) in (None, made)
    except UnreadableError:
        return False


def _units(going: _Run, name: str) -> None:
    """Do the units of a stage that are not done, then merge and summarise."""
    workspace = going.workspace
    stage, ledger = workspace.stage(name), Ledger(workspace.run_dir, name)
    entry = begin(workspace, name)
    done = ledger.done(entry.fingerprint)
    to_merge = entry.merges and entry.units not in done
    todo = [u for u in range(entry.units) if u not in done or (to_merge and not ledger.partial(u).exists())]
    if todo:
        stores.sweep_chunks(workspace.context(name).store)
    failures = _do_units(going, name, entry, todo)
    going.record.stages[name] = {"units": entry.units, "computed": len(todo) - failures, "failed": failures}
    if failures:
        going.incomplete.add(name)
        return
    workspace.forget(name)
    if to_merge:
        for outcome in going.execute(name, [entry.units]):
            if outcome.error is not None:
                log.debug("%s: merging\n%s", name, outcome.trace)
                if outcome.suspicious and _is_damage(going, name):
                    going.incomplete.add(name)
                    return
                raise outcome.error
    if isinstance(stage, ReducedStage):
        ledger.drop_partials()
    if isinstance(stage, StoredStage | ReducedStage):
        _summarise(workspace, name, stage, anew=bool(todo) or to_merge)


def _do_units(going: _Run, name: str, entry: StageEntry, todo: list[int]) -> int:
    """Do units of a stage and report progress; returns the number that failed."""
    finished, failures = entry.units - len(todo), 0
    going.progress.units(name, finished, entry.units)
    for outcome in going.execute(name, todo):
        going.progress.ended(name, outcome.unit)
        for warning in outcome.warnings:
            if warning not in going.record.warnings:
                log.warning("%s", warning)
        for aside in outcome.asides:
            log.debug("%s, unit %d: %s", name, outcome.unit, aside)
        if isinstance(outcome.error, DiskError):
            raise outcome.error
        if outcome.error is None:
            finished += 1
            going.progress.units(name, finished, entry.units)
            continue
        failures += 1
        if outcome.suspicious and _is_damage(going, name):
            log.debug("%s, unit %d: damage to what it read:\n%s", name, outcome.unit, outcome.trace)
            continue
        going.errors.append((name, outcome.error))
        level = logging.ERROR if failures <= _TOLD_FAILURES else logging.DEBUG
        log.log(level, "%s, unit %d: %s", name, outcome.unit, outcome.error.message)
        log.debug("%s, unit %d: the traceback:\n%s", name, outcome.unit, outcome.trace)
    return failures


def _summarise(workspace: Workspace, name: str, stage: StoredStage | ReducedStage, *, anew: bool) -> None:
    """Write ``<stage>.json`` where the stage has something to say in numbers."""
    path, ledger = workspace.run_dir / f"{name}.json", Ledger(workspace.run_dir, name)
    made = workspace.fingerprint(name)
    if ledger.summarised(made) and not anew:
        return
    with steady(workspace.config.compute.threads_per_worker):
        summary = stage.summarise(workspace.context(name), workspace.open(name))
    if summary is not None:
        write_json(path, summary)
    ledger.summarise(made, recorded(workspace, [path] if summary is not None else []))


def _ending(going: _Run, command: str) -> tuple[int, str]:
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
    return code, "\n".join([*causes[:3], *more, f"what is finished is kept; go on with: {command}"])


def _told(workspace: Workspace, name: str, error: GeoxaiError) -> str:
    """An error at its place in the config: the option to blame, or its stage."""
    return workspace.config.locate(name, error.option, error).render()


def _command(config: Config, only: Sequence[str]) -> str:
    """What to type to go on with this run."""
    options = [word for value in config.overrides for word in ("--set", config.masked_word(value))]
    options += [word for name in only for word in ("--only", name)]
    return shlex.join(["geoxai", "run", str(config.path), *options])


def _sweep(workspace: Workspace) -> None:
    """Remove what killed processes left half-written in the folders of a run."""
    run_dir = workspace.run_dir
    stages = (run_dir / name for name in workspace.config.stages)
    for folder in (run_dir, *(run_dir / "ledger").glob("*"), run_dir / "figures", *stages):
        sweep(folder)


def _forget_results(workspace: Workspace, name: str) -> None:
    """Remove what a stage stored; files that an output stage wrote are replaced when it runs again."""
    workspace.anew.discard(name)
    workspace.forget(name)
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


def _with_downstream(config: Config, names: Sequence[str]) -> list[str]:
    wanted = set(names)
    for name in config.stages:  # in dependency order
        if wanted & set(upstream(config, name)):
            wanted.add(name)
    return [name for name in config.stages if name in wanted] if names else []


def _relative(path: Path, folder: Path) -> str:
    return str(path.relative_to(folder)) if path.is_relative_to(folder) else str(path)
