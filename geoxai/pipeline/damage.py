"""Damage to what a run has stored: detected with the ledger, reported once, and counted as not done.

A run compares what costs little: that every file is there with its size, and the digests of all but the chunks that
units fill. The checksums of those are compared when they are read; whatever goes wrong while a stage is read has the
digests of all its files compared (``find_damage(..., read=True)``).
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from geoxai.errors import DamageError, GeoxaiError
from geoxai.pipeline.ledger import STAGE, SUMMARY, Ledger, unsound
from geoxai.pipeline.workspace import Workspace
from geoxai.stages.stage import OutputStage, Stage, StoredStage, UnreadableError
from geoxai.storage.files import remove
from geoxai.storage.recorded import Recorded, flaw

log = logging.getLogger("geoxai.pipeline")

_TOLD = 3
_LARGE_OUTPUT = 2**24  # bytes; the content of files for people from this size on is not checked


@dataclass(frozen=True)
class Damage:
    """One file that is not as it was written, and the entry of a ledger that lists it."""

    ledger: str
    entry: str
    file: str
    flaw: str

    @property
    def stage(self) -> str:
        return self.ledger.partition(".")[0]

    def of(self) -> str:
        """What is damaged, for users: ``relevance, unit 3``."""
        stage, _, fit = self.ledger.partition(".")
        if fit:
            return f"{stage} (fit)"
        if self.entry in (STAGE, SUMMARY):
            return stage if self.entry == STAGE else f"summary of {stage}"
        return f"{stage}, unit {int(Path(self.entry).stem)}"

    def told(self) -> str:
        return f"{self.file} {self.flaw} ({self.of()})"


Reads = Callable[[str, str, int], bool]
"""Whether to look into a file, by the entry that lists it, its path and its size."""


def _everything(entry: str, file: str, size: int) -> bool:
    return True


def _cheap(name: str, stage: Stage) -> Reads:
    """What a run looks into: everything but the chunks that units fill, and large files for people."""

    def reads(entry: str, file: str, size: int) -> bool:
        if isinstance(stage, OutputStage):
            return size < _LARGE_OUTPUT
        return not (isinstance(stage, StoredStage) and entry != STAGE and file.startswith(f"{name}.zarr/"))

    return reads


def damage_in(run_dir: Path, name: str, reads: Reads = _everything) -> list[Damage]:
    """What is damaged among all that the ledger ``name`` lists."""
    found, entries = listed_in(run_dir, name)
    if any(entry == STAGE and files for entry, files in entries) and not (run_dir / f"{name}.zarr").exists():
        return [Damage(name, STAGE, f"{name}.zarr", "is gone")]
    for entry, files in entries:
        for file, (size, digest) in files.items():
            if wrong := flaw(run_dir / file, size, digest, read=reads(entry, file, size)):
                found.append(Damage(name, entry, file, wrong))
    return found


def listed_in(run_dir: Path, name: str) -> tuple[list[Damage], list[tuple[str, Recorded]]]:
    """What is damaged in the ledger ``name`` itself, and the files that its other entries list."""
    ledger = Ledger(run_dir, name)
    stage, units = ledger.read(), list(ledger.entries())
    if stage is None:
        there = (ledger.folder / STAGE).exists()
        lost = Damage(name, STAGE, f"ledger/{name}/{STAGE}", "is not what was written" if there else "is gone")
        return [lost] if there or units else [], []
    found, entries = [], [(STAGE, stage.files)]
    merged = stage.merges and stage.units in ledger.done(stage.fingerprint)
    for path, entry in units:
        if unsound(entry) or entry["fingerprint"] != stage.fingerprint:
            found.append(Damage(name, path.name, f"ledger/{name}/{path.name}", "is not what was written"))
        elif not (merged and path.name != SUMMARY and int(path.stem) < stage.units):  # partial results are gone by then
            entries.append((path.name, entry["files"]))
    return found, entries


def find_damage(workspace: Workspace, names: Iterable[str], *, read: bool = False) -> list[Damage]:
    """What is damaged among the results of some stages; with ``read`` every byte is compared."""
    found = []
    for name in names:
        stage = workspace.stage(name)
        found += damage_in(workspace.run_dir, f"{name}.fit") if stage.fits else []
        found += damage_in(workspace.run_dir, name, _everything if read else _cheap(name, stage))
    return found


def discard(workspace: Workspace, damaged: list[Damage]) -> None:
    """Count damaged results as not done, and say so once."""
    told = [damage.told() for damage in damaged]
    more = f"; and {len(told) - _TOLD} more" if len(told) > _TOLD else ""
    log.warning("damaged, and computed anew: %s%s", "; ".join(told[:_TOLD]), more)
    for damage in damaged[_TOLD:]:
        log.debug("damaged: %s", damage.told())
    for damage in damaged:
        ledger = Ledger(workspace.run_dir, damage.ledger)
        if isinstance(stage := workspace.stage(damage.stage), OutputStage):
            _remove_unreadable(stage, workspace.run_dir, ledger)
        ledger.drop(damage.entry)
    workspace.forget_all()


def _remove_unreadable(stage: OutputStage, run_dir: Path, ledger: Ledger) -> None:
    """Remove a file of this run that is no longer intact: it no longer even says who wrote it."""
    for name in ledger.written():
        path = run_dir / name
        try:
            stage.made_for(path)
        except UnreadableError:
            if path.is_relative_to(run_dir):
                remove(path)


def suspicious(error: BaseException | None) -> bool:
    """Whether an error may come from damage to what was read, rather than explain itself."""
    if isinstance(error, DamageError):
        return True
    return error is not None and not isinstance(error, GeoxaiError | MemoryError)
