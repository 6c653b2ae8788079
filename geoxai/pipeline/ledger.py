"""The ledger: one small file per finished unit, beside the stores.

The existence of a chunk file proves nothing (empty chunks are not stored), so what is done is written here, after the
unit's last byte. ``ledger/<stage>/stage.json`` says what the stage was when its store was made; ``<unit>.json`` that a
unit is complete; ``<unit>.failed.json`` why it is not; ``summary.json`` that ``<stage>.json`` is. Each lists the files
it vouches for, with their sizes and digests.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from geoxai.storage.files import read_json, remove, write_json
from geoxai.storage.recorded import Recorded
from geoxai.version import version

STAGE, SUMMARY = "stage.json", "summary.json"


@dataclass(frozen=True)
class StageEntry:
    """What a stage's store was made for, the files of the store before any unit is in it, and the version of geoxai
    that made it, which is not part of the fingerprint.
    """

    fingerprint: str
    ingredients: dict[str, Any]
    size: int
    block: int
    chunks: dict[str, list[int]]
    merges: bool = False
    files: Recorded = field(default_factory=dict)
    made_by: str = field(default_factory=version)

    @property
    def units(self) -> int:
        """Blocks of work; the merge of a reduced stage is one more unit after them."""
        return -(-self.size // self.block)

    @property
    def all_units(self) -> int:
        return self.units + self.merges

    def layout_words(self) -> str:
        """How the store is cut, for users."""
        return f"{self.units} units of {self.block} (of {self.size}; chunks {self.chunks or 'none'})"

    def same_layout(self, other: StageEntry) -> bool:
        return (self.size, self.block, self.chunks) == (other.size, other.block, other.chunks)


class Ledger:
    """The ledger of one stage in a run folder."""

    def __init__(self, run_dir: Path, stage: str):
        self.folder = run_dir / "ledger" / stage

    def read(self) -> StageEntry | None:
        """The stage's entry; None where none can be read, as if the stage had never been started."""
        try:
            entry = StageEntry(**{"made_by": "", **_entry(self.folder / STAGE)})
        except TypeError:
            return None
        return entry if _sound(entry) else None

    def begin(self, entry: StageEntry) -> None:
        """Start afresh for a stage: earlier entries are removed."""
        self.clear()
        write_json(self.folder / STAGE, asdict(entry))

    def clear(self) -> None:
        remove(self.folder)

    def done(self, fingerprint: str) -> set[int]:
        """Units finished with this fingerprint."""
        return {int(path.stem) for path, entry in self.entries() if _of(entry, fingerprint) and path.name != SUMMARY}

    def entries(self) -> Iterator[tuple[Path, dict[str, Any]]]:
        """The entries of finished units, in their order, then of the summary; empty ones where they are damaged."""
        for path in sorted(self.folder.glob("[0-9]*.json")):
            if path.stem.isdigit():
                yield path, _entry(path)
        if (self.folder / SUMMARY).exists():
            yield self.folder / SUMMARY, _entry(self.folder / SUMMARY)

    def finish(self, unit: int, fingerprint: str, files: Recorded, **notes: Any) -> None:
        """Enter a complete unit, with the files that it wrote."""
        write_json(self.folder / f"{unit:06d}.json", {"fingerprint": fingerprint, "files": files, **notes})
        (self.folder / f"{unit:06d}.failed.json").unlink(missing_ok=True)

    def summarised(self, fingerprint: str) -> bool:
        """Whether the summary of a complete stage was made, if it has one."""
        return _of(_entry(self.folder / SUMMARY), fingerprint)

    def summarise(self, fingerprint: str, files: Recorded) -> None:
        write_json(self.folder / SUMMARY, {"fingerprint": fingerprint, "files": files})

    def drop(self, entry: str) -> None:
        """Remove an entry by the name of its file; that of the stage takes all others with it."""
        if entry == STAGE:
            self.clear()
        else:
            (self.folder / entry).unlink(missing_ok=True)

    def written(self) -> list[str]:
        """The files and folders that an output stage wrote."""
        found = _entry(self.folder / f"{0:06d}.json").get("written")
        return [name for name in found if isinstance(name, str)] if isinstance(found, list) else []

    def fail(self, unit: int, cause: str, trace: str) -> None:
        write_json(self.folder / f"{unit:06d}.failed.json", {"cause": cause, "traceback": trace.splitlines()})

    def failures(self) -> dict[int, str]:
        """Causes of the units that failed last time."""
        causes = {}
        for path in sorted(self.folder.glob("[0-9]*.failed.json")):
            if "cause" in (entry := _entry(path)):
                causes[int(path.name.split(".")[0])] = entry["cause"]
        return causes

    def partial(self, unit: int) -> Path:
        """Where a reduced stage keeps the partial result of a unit until all are merged."""
        return self.folder / f"{unit:06d}.partial.zarr"

    def drop_partials(self) -> None:
        """Remove the partial results, once they are merged."""
        for path in self.folder.glob("*.partial.zarr"):
            remove(path)


def unsound(entry: dict[str, Any]) -> bool:
    """Whether the entry of a unit is not one that a ledger wrote."""
    return not (isinstance(entry.get("fingerprint"), str) and _are_recorded(entry.get("files")))


def _of(entry: dict[str, Any], fingerprint: str) -> bool:
    return not unsound(entry) and entry["fingerprint"] == fingerprint


def _sound(entry: StageEntry) -> bool:
    """Whether the entry of a stage has values of the right kinds: valid JSON may still not be ours."""
    kinds = (
        (entry.fingerprint, str), (entry.ingredients, dict), (entry.size, int), (entry.block, int),
        (entry.chunks, dict), (entry.merges, bool),
    )  # fmt: skip
    return all(isinstance(*kind) for kind in kinds) and entry.block > 0 and _are_recorded(entry.files)


def _are_recorded(files: Any) -> bool:
    if not isinstance(files, dict):
        return False
    return all(isinstance(f, list) and list(map(type, f)) == [int, str] for f in files.values())


def _entry(path: Path) -> dict[str, Any]:
    """The entry in a file; an empty one where it is absent or damaged: what cannot be read does not count as done."""
    found = read_json(path)
    return found if isinstance(found, dict) else {}
