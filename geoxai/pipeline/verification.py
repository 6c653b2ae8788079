"""Whether a run is as it was written: every byte of it, and the accounts of its relevance."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from geoxai.config.run_folder import is_run
from geoxai.errors import InputError
from geoxai.pipeline.damage import Damage, damage_in, listed_in
from geoxai.pipeline.ledger import Ledger
from geoxai.stages.relevance import open_account


@dataclass(frozen=True)
class Verification:
    """What was compared in a run folder, and every problem as one line for users."""

    run_dir: Path
    files: int
    size: int
    unfinished: tuple[str, ...]
    damaged: tuple[str, ...]
    problems: tuple[str, ...]

    def render(self) -> str:
        """The problems, what is not complete, and the whole in one line."""
        lines = [*self.problems, *(f"{name}: not complete" for name in self.unfinished)]
        compared = f"{self.run_dir}: {self.files} files, {self.size / 1e6:.1f} MB compared"
        if not self.problems:
            return "\n".join([*lines, f"{compared}, all as written"])
        anew = " ".join(f"--force {name}" for name in self.damaged)
        return "\n".join(
            [
                *lines,
                f"{compared}, {len(self.problems)} problem{'s' if len(self.problems) > 1 else ''}",
                f"  to recompute what is damaged, with all that was made from it: geoxai run CONFIG {anew}",
            ]
        )


def verify(run_dir: str | Path) -> Verification:
    """Compare the files of a run with the sizes and digests in its ledger, and re-check what its relevance adds up to.

    Raises
    ------
    InputError
        The folder does not exist, or is not that of a run.
    """
    folder = Path(run_dir)
    if not is_run(folder):
        why = "is not the folder of a geoxai run" if folder.is_dir() else "is not a folder"
        raise InputError(f"{folder} {why}", fix="give the output.dir of a config")
    files, size, unfinished, damaged, problems = 0, 0, [], [], []
    for name in sorted(path.name for path in (folder / "ledger").glob("*") if path.is_dir()):
        ledger, found = Ledger(folder, name), damage_in(folder, name)
        listed = {file: recorded[0] for _, part in listed_in(folder, name)[1] for file, recorded in part.items()}
        files, size = files + len(listed), size + sum(listed.values())
        stage = ledger.read()
        complete = stage is not None and ledger.done(stage.fingerprint) >= set(range(stage.all_units))
        told = [damage.told() for damage in found]
        if complete:
            told += _strangers(folder, name, set(listed))
        elif not found and stage is not None:
            unfinished.append(name)
        if complete and not found and (wrong := _account(folder / f"{name}.zarr")):
            told.append(f"{name}.zarr: {wrong}, though the store says that it does ({name})")
        problems += told
        damaged += [Damage(name, "", "", "").stage] if told else []
    return Verification(folder, files, size, tuple(unfinished), tuple(dict.fromkeys(damaged)), tuple(problems))


def _strangers(folder: Path, name: str, listed: set[str]) -> Iterator[str]:
    """Files in a complete store that no unit wrote: a reader would take them for its chunks."""
    for path in sorted((folder / f"{name}.zarr").rglob("*")):
        file = str(path.relative_to(folder))
        if path.is_file() and file not in listed and not path.name.startswith("."):
            yield f"{file} was not written by this run ({name})"


def _account(store: Path) -> str | None:
    """The first value in a store of relevance whose account does not close; None where all do, or there is none."""
    import xarray as xr

    from geoxai.grid.several import parts

    if not (store / "zarr.json").exists():
        return None
    with xr.open_zarr(store, consolidated=False) as opened:
        if opened.attrs.get("account") != "closed" or "sample" not in opened.dims:
            return None
        length = opened["target_value"].variable.chunksizes.get("sample", (opened.sizes["sample"],))[0]
        for start in range(0, opened.sizes["sample"], length):
            block = opened.isel(sample=slice(start, start + length)).load()
            if wrong := open_account(block, [part["relevance"] for part in parts(block).values()]):
                return wrong
    return None
