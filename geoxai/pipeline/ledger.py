"""The ledger: one small file per finished unit, beside the stores.

A chunk file that exists proves nothing (empty chunks are not stored), so what is done is written here, after the unit's
last byte. ``ledger/<stage>/stage.json`` says what the stage was when its store was made; ``<unit>.json`` that a unit is
whole; ``<unit>.failed.json`` why it is not.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from geoxai.storage.files import read_json, remove, write_json


@dataclass(frozen=True)
class StageEntry:
    """What a stage's store was made for."""

    fingerprint: str
    ingredients: dict[str, Any]
    size: int
    block: int
    chunks: dict[str, list[int]]
    merges: bool = False

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
        """The stage's entry; None where there is none that can be read, as if the stage had never begun."""
        try:
            return StageEntry(**_entry(self.folder / "stage.json"))
        except TypeError:
            return None

    def begin(self, entry: StageEntry) -> None:
        """Start anew for a stage: earlier entries are gone."""
        self.clear()
        write_json(self.folder / "stage.json", asdict(entry))

    def clear(self) -> None:
        remove(self.folder)

    def done(self, fingerprint: str) -> set[int]:
        """Units finished with this fingerprint."""
        found = set()
        for path in self.folder.glob("[0-9]*.json"):
            if path.stem.isdigit() and _entry(path).get("fingerprint") == fingerprint:
                found.add(int(path.stem))
        return found

    def finish(self, unit: int, fingerprint: str, **notes: Any) -> None:
        write_json(self.folder / f"{unit:06d}.json", {"fingerprint": fingerprint, **notes})
        (self.folder / f"{unit:06d}.failed.json").unlink(missing_ok=True)

    def notes(self, unit: int) -> dict[str, Any]:
        """What was noted when a unit finished."""
        return _entry(self.folder / f"{unit:06d}.json")

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


def _entry(path: Path) -> dict[str, Any]:
    """The entry in a file; an empty one where it is absent or damaged: what cannot be read does not count as done."""
    found = read_json(path)
    return found if isinstance(found, dict) else {}
