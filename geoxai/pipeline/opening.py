"""Open what a run has stored."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from geoxai.errors import InputError

if TYPE_CHECKING:
    import xarray as xr


def open_run(run_dir: str | Path) -> xr.DataTree:
    """Open every store of a run folder as one tree, a node per stage: ``open_run("runs/enso")["relevance"]``.

    Raises
    ------
    InputError
        The folder does not exist, or no run has written to it.
    """
    import xarray as xr

    folder = Path(run_dir)
    if not (folder / "run.json").exists():
        raise InputError(f"{folder} is not a run folder (no run.json)", fix="give the output.dir of a config")
    stores = sorted(folder.glob("*.zarr"))
    opened = {path.stem: xr.open_zarr(path, consolidated=False) for path in stores if (path / "zarr.json").exists()}
    return xr.DataTree.from_dict(opened, name=folder.name)
