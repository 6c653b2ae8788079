"""The report of a run: what is in the run folder, presented to a reader."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from geoxai.pipeline import experiment
from geoxai.pipeline.ledger import Ledger
from geoxai.pipeline.record import Record
from geoxai.pipeline.workspace import Workspace, fit_store
from geoxai.plotting.report import Report, StageLine, Store, render_report
from geoxai.stages.stage import LazyStage, OutputStage, ReducedStage, StoredStage
from geoxai.storage.files import read_json, write_text

_STATUS = {0: "complete", 4: "partial", 130: "interrupted", 143: "interrupted"}


def write_report(workspace: Workspace, record: Record, exit_code: int, message: str) -> None:
    """Write ``report.html`` from the ledger, the summaries and the figures as they are now."""
    config, run_dir = workspace.config, workspace.run_dir
    facts: dict[str, Any] = read_json(run_dir / "run.json") or {}
    summaries = {name: found for name in config.stages if (found := read_json(run_dir / f"{name}.json"))}
    report = Report(
        title=config.name,
        status=_STATUS.get(exit_code, "failed"),
        message=config.masked(message),
        started=facts.get("started", ""),
        seconds=facts.get("seconds"),
        asked=experiment.asked(workspace, summaries),
        skill=experiment.skill(workspace, summaries),
        losses=experiment.losses(workspace),
        shares=experiment.shares(workspace, summaries),
        accounts=experiment.accounts(workspace, summaries),
        left_out=experiment.left_out(workspace, summaries),
        stages=tuple(_line(workspace, record, name) for name in config.stages),
        warnings=tuple(record.all_warnings),
        figures=tuple(file for name in config.stages for file in _files(workspace, name) if _is_figure(file, run_dir)),
        summaries=summaries,
        stores=tuple(_stores(workspace)),
        config=config.masked_file(),
        provenance={
            key: facts[key] for key in ("config_hash", "versions", "torch_build", "compute", "host") if key in facts
        },
    )
    write_text(run_dir / "report.html", render_report(report))


def _line(workspace: Workspace, record: Record, name: str) -> StageLine:
    stage, told = workspace.stage(name), record.stages.get(name, {})
    entry = Ledger(workspace.run_dir, name).read()
    counted = entry is not None and not isinstance(stage, LazyStage | OutputStage)
    done = (
        len([u for u in Ledger(workspace.run_dir, name).done(entry.fingerprint) if u < entry.units]) if entry else None
    )
    state = told.get("state", "complete" if workspace.complete(name) else "not run")
    return StageLine(
        name=name,
        use=stage.use,
        state=state,
        units_done=done if counted else None,
        units=entry.units if entry and counted else None,
        seconds=told.get("seconds"),
        note=told.get("because", ""),
    )


def _is_figure(file: Path, run_dir: Path) -> bool:
    """Whether a file is shown in the report, rather than opened by its readers."""
    return file.is_relative_to(run_dir / "figures")


def _files(workspace: Workspace, name: str) -> list[Path]:
    """The files that an output stage wrote."""
    if not isinstance(workspace.stage(name), OutputStage):
        return []
    return [workspace.run_dir / file for file in Ledger(workspace.run_dir, name).written()]


def _stores(workspace: Workspace) -> list[Store]:
    """What a reader may open: what was written for people first, then the stores of the stages."""
    found = [
        Store(str(file.relative_to(workspace.run_dir)), f"written by {name}", _groups(workspace, name))
        for name in workspace.config.stages
        for file in _files(workspace, name)
        if file.exists() and not _is_figure(file, workspace.run_dir) and file.is_relative_to(workspace.run_dir)
    ]
    for name, stage in workspace.config.stages.items():
        path = workspace.run_dir / f"{name}.zarr"
        if isinstance(stage, StoredStage | ReducedStage) and path.exists():
            found.append(Store(path.name, f"{stage.gives} of {stage.use}"))
        if fit_store(workspace.run_dir, name).exists():
            found.append(Store(fit_store(workspace.run_dir, name).name, f"what {stage.use} fitted"))
    return found


def _groups(workspace: Workspace, name: str) -> tuple[str, ...]:
    """The groups in a file of several stages, none in one of a single stage."""
    source = workspace.config.sources(name).get("from")
    return tuple(source) if isinstance(source, list) and len(source) > 1 else ()
