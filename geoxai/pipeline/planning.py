"""What a run would do: shapes, chunks, bytes, units done and to do, and why."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from geoxai.config import Config, ConfigError
from geoxai.pipeline.damage import Damage, find_damage, suspicious
from geoxai.pipeline.fingerprints import changed
from geoxai.pipeline.ledger import STAGE, Ledger, StageEntry
from geoxai.pipeline.ownership import refuse_another
from geoxai.pipeline.record import warnings_shown
from geoxai.pipeline.units import describe
from geoxai.pipeline.workspace import Workspace, bind, check_skeletons, is_done, upstream
from geoxai.stages.stage import LazyStage, OutputStage
from geoxai.version import version


@dataclass(frozen=True)
class StagePlan:
    """What would be done for one stage. ``units`` is None where their number depends on values not computed yet."""

    name: str
    use: str
    gives: str
    shape: str
    size: int
    units: int | None
    done: int
    why: str


@dataclass(frozen=True)
class Plan:
    """A run before it computes: its stages in order."""

    run_dir: str
    executor: str
    stages: tuple[StagePlan, ...]

    def render(self) -> str:
        """The plan as a table of plain text."""
        header = ("stage", "use", "gives", "shape", "size", "units", "to do", "why")
        rows = [
            (
                p.name, p.use, p.gives, p.shape, _bytes(p.size) if p.size else "",
                "" if p.units == 0 else "?" if p.units is None else str(p.units),
                "" if p.units == 0 else "all" if p.units is None else str(p.units - p.done), p.why,
            )
            for p in self.stages
        ]  # fmt: skip
        widths = [max(len(row[i]) for row in [header, *rows]) for i in range(len(header))]
        lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip() for row in [header, *rows]]
        return "\n".join([f"{self.run_dir} ({self.executor})", *lines])


def plan(config: Config) -> Plan:
    """What ``run`` would do with this config now.

    Raises
    ------
    GeoxaiError
        What ``run`` would refuse: unknown variables, dims that do not fit between stages, unreadable files.
    """
    workspace = bind(config)
    refuse_another(workspace, config.stages)
    compute = config.compute
    executor = f"{compute.executor}, {compute.threads_per_worker} thread a worker, device {workspace.device}"
    with warnings_shown():
        damaged = _damaged(workspace)
        stages = tuple(_stage_plan(workspace, name, damaged.get(name, [])) for name in config.stages)
    return Plan(str(workspace.run_dir), executor, stages)


def _damaged(workspace: Workspace) -> dict[str, list[Damage]]:
    """Damage by stage: what a run would count as not done. Every stage is checked without what is damaged."""
    names, found = list(workspace.config.stages), find_damage(workspace, workspace.config.stages)
    workspace.anew.update(damage.stage for damage in found)
    try:
        check_skeletons(workspace, names)
    except ConfigError as error:
        if not suspicious(error.__cause__) or not (found := find_damage(workspace, names, read=True)):
            raise
        workspace.anew.update(damage.stage for damage in found)
        workspace.forget_all()
        check_skeletons(workspace, names)
    return {name: [damage for damage in found if damage.stage == name] for name in names}


def _stage_plan(workspace: Workspace, name: str, damaged: list[Damage]) -> StagePlan:
    stage = workspace.stage(name)
    skeleton = workspace.skeleton(name)
    shape, size = _shape(skeleton)
    entry = _entry(workspace, name)
    ledger = Ledger(workspace.run_dir, name)
    if isinstance(stage, LazyStage):
        units, done, why = 0, 0, "opened when read"
        if stage.fits:
            fitted = is_done(workspace, f"{name}.fit", workspace.fingerprint(name))
            why = _told(damaged) or _why_fit(workspace, name, fitted)
        return StagePlan(name, stage.use, stage.gives, shape, size, units, done, why)
    made = workspace.fingerprint(name)
    total = 1 if isinstance(stage, OutputStage) else entry.units if entry else None
    lost = {damage.entry for damage in damaged}
    finished = set() if STAGE in lost else {u for u in ledger.done(made) if f"{u:06d}.json" not in lost}
    done = len([unit for unit in finished if total is None or unit < total])
    why = _told(damaged) or _why(workspace, name, total, done)
    return StagePlan(name, stage.use, stage.gives, shape, size, total, done, why)


def _told(damaged: list[Damage]) -> str:
    more = f" and {len(damaged) - 1} more" if len(damaged) > 1 else ""
    return f"damaged: {damaged[0].file} {damaged[0].flaw}{more}" if damaged else ""


def _why_fit(workspace: Workspace, name: str, fitted: bool) -> str:
    """Whether there is something to fit, and why."""
    found = Ledger(workspace.run_dir, f"{name}.fit").read()
    if fitted:
        return f"fit is stored{_by_other(found)}"
    changes = changed(found.ingredients, workspace.ingredients(name)) if found else []
    return f"to be fitted: {'; '.join(changes)}" if changes else "to be fitted once"


def _entry(workspace: Workspace, name: str) -> StageEntry | None:
    """How the stage is cut into units, where that is known before its sources are computed."""
    stage = workspace.stage(name)
    if isinstance(stage, LazyStage | OutputStage):
        return None
    fitted = not stage.fits or is_done(workspace, f"{name}.fit", workspace.fingerprint(name))
    if fitted and all(workspace.complete(source) for source in upstream(workspace.config, name)):
        return describe(workspace, name, workspace.context(name))
    found = Ledger(workspace.run_dir, name).read()
    return found if found is not None and found.fingerprint == workspace.fingerprint(name) else None


def _why(workspace: Workspace, name: str, total: int | None, done: int) -> str:
    """Why there is something to do, or nothing."""
    ledger = Ledger(workspace.run_dir, name)
    found = ledger.read()
    if found is None:
        return "not computed yet"
    if found.fingerprint != workspace.fingerprint(name):
        return "; ".join(changed(found.ingredients, workspace.ingredients(name))) or "a stage above changed"
    if (entry := _entry(workspace, name)) and not entry.same_layout(found):
        return f"refused: stored in {found.layout_words()}, the config asks for {entry.layout_words()}"
    if failures := ledger.failures():
        return f"{len(failures)} failed: {next(iter(failures.values())).splitlines()[0]}"
    return f"done{_by_other(found)}" if done == total else "stopped before its end"


def _by_other(found: StageEntry | None) -> str:
    """The version of geoxai that made a result, where it is not this one."""
    return f", made by geoxai {found.made_by}" if found and found.made_by not in ("", version()) else ""


def _shape(skeleton: Any) -> tuple[str, int]:
    """Dims with their lengths, and bytes of the data variables."""
    sizes = getattr(skeleton, "sizes", None)
    if sizes is None:
        return "", 0
    size = sum(v.nbytes for v in skeleton.data_vars.values())
    return " ".join(f"{dim}={length}" for dim, length in sizes.items()), size


def _bytes(size: float) -> str:
    for unit in ("B", "kB", "MB", "GB"):
        if size < 1000:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} TB"
