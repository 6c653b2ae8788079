"""Where output stages write: not over what the run keeps, not over each other, not outside its folder unasked."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePath

from geoxai.config.files import is_remote, remote, too_long
from geoxai.stages.stage import OutputStage, ReducedStage, Stage, StoredStage

# What every run folder holds; stages named like one of these would write there.
KEPT = {
    "config.yaml": "the config",
    "config.resolved.yaml": "the config",
    "run.json": "the record of the run",
    "run.log": "the log of the run",
    "report.html": "the report",
    "ledger": "the ledger",
    "figures": "the figures",
}

Problem = tuple[tuple[str, str], tuple[str, str]]
"""The stage and its option, then what is wrong and a remedy."""


def collisions(stages: Mapping[str, Stage | None], run_dir: Path) -> Iterator[Problem]:
    """What is wrong with the paths that output stages write to, in a run folder."""
    kept = {run_dir / name: f"where the run keeps {what}" for name, what in KEPT.items()}
    for name, stage in stages.items():
        kept |= {run_dir / own: f"where the run keeps stage {name!r}" for own in _own(name, stage)}
    for name, stage in stages.items():
        if not isinstance(stage, OutputStage):
            continue
        for option, path in stage.targets(name).items():
            if is_remote(path):
                unsupported = f"{option} is {remote(path)}, which is not supported yet"
                yield (name, option), (unsupported, "write a file, and copy it there")
                continue
            target = Path(os.path.normpath(run_dir / Path(path).expanduser()))
            if problem := _problem(option, path, target, run_dir, stage.may_leave, kept):
                yield (name, option), problem
            kept[target] = f"where stage {name!r} writes"


def _own(name: str, stage: Stage | None) -> list[str]:
    """What a stage keeps in the run folder, apart from the ledger."""
    stored = [f"{name}.zarr", f"{name}.json", name] if isinstance(stage, StoredStage | ReducedStage) else []
    return [*stored, f"{name}.fit.zarr"] if stage is not None and stage.fits else stored


def _problem(
    option: str, path: str, target: Path, run_dir: Path, may_leave: bool, kept: Mapping[Path, str]
) -> tuple[str, str] | None:
    if long := too_long(path, spare=len(".12345678.part") + 1):  # files are written under another name first
        return f"{option}: {long}", "shorten it"
    if _within(run_dir, target):
        return f"{option} {path!r} is the run folder itself or a folder around it", "name a file in the run folder"
    if not _within(target, run_dir) and not may_leave:
        return (
            f"{option} {path!r} leaves the run folder {run_dir}",
            "give a path below output.dir, or allow it with outside: true",
        )
    for other, what in kept.items():
        if _within(target, other) or _within(other, target):
            return f"{option} {path!r} is {what}", "choose another name"
    return None


def _within(path: PurePath, folder: PurePath) -> bool:
    """Whether a path is a folder or in it, also on a file system that ignores upper and lower case."""
    own, around = ([part.casefold() for part in one.parts] for one in (path, folder))
    return own[: len(around)] == around
