"""``write.zarr`` and ``write.netcdf``: results as files for other programs."""

from __future__ import annotations

import json
import os
from collections.abc import Hashable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import Field

from geoxai.errors import OptionError
from geoxai.stages.stage import Context, OutputStage, Reference, Stage, UnreadableError
from geoxai.storage.files import read_json

if TYPE_CHECKING:
    import numpy as np
    import xarray as xr

_DATASETS = ("grid", "labels", "samples", "prediction", "relevance", "composite")
_WRITTEN_BY, _FINGERPRINT, _EXPERIMENT = "written_by", "written_fingerprint", "written_experiment"


class _Write(OutputStage):
    """What both formats share: which stages, where to, and that a file is either complete or absent."""

    suffix: ClassVar[str]

    from_: Annotated[str | list[str] | None, Reference(*_DATASETS, nearest=True)] = Field(
        None, alias="from", description="Stage to write, or a list of stages. Default: the nearest one above."
    )
    path: str | None = Field(
        None, description="File to write, relative to `output.dir`. Default: the name of this stage."
    )
    outside: bool = Field(
        False,
        description="Allow a `path` outside `output.dir`. A file there that another experiment wrote is not replaced.",
    )

    def targets(self, name: str) -> Mapping[str, str]:
        return {"path": self.path or f"{name}{self.suffix}"}

    @property
    def may_leave(self) -> bool:
        return self.outside

    def skeleton(self, context: Context) -> None:
        """Refuses a path that another stage or another program may have filled."""
        target = self._target(context)
        if target.suffix != self.suffix:
            raise OptionError(
                f"path {str(target)!r} does not end in {self.suffix}, which {self.use} writes",
                fix=f"write {target.with_suffix(self.suffix).name}",
                option="path",
            )
        if not os.path.lexists(target):
            return
        marks = self._marks_in(target)
        if marks is not None and _WRITTEN_BY in marks:
            self._refuse_another(target, marks, context)
            return
        if target.parent == context.run_dir and (context.run_dir / "ledger" / target.stem).exists():
            raise OptionError(
                f"path {target.name!r} is where the run keeps stage {target.stem!r}",
                fix="choose another name",
                option="path",
            )
        raise OptionError(
            f"{target} exists and was not written by geoxai; it is not replaced",
            fix="choose another path, or remove it",
            option="path",
        )

    def _refuse_another(self, target: Path, marks: Mapping[str, Any], context: Context) -> None:
        """Refuse to replace what another experiment has written, where several can write."""
        own = (context.fingerprint, context.experiment)
        if target.is_relative_to(context.run_dir) or own[0] == marks.get(_FINGERPRINT):
            return
        if (other := str(marks.get(_EXPERIMENT, ""))) != own[1]:
            raise OptionError(
                f"{target} was written by the experiment {other!r}, this one is {own[1]!r}; it is not replaced",
                fix="choose another path, or remove it",
                option="path",
            )

    def made_for(self, path: Path) -> str | None:
        marks = self._marks_in(path)
        if marks is None:
            raise UnreadableError(path)
        return str(marks.get(_FINGERPRINT, ""))

    def write(self, context: Context) -> list[Path]:
        import dask

        from geoxai.storage.files import replaced

        self.skeleton(context)
        target = self._target(context)
        datasets = dict(zip(self._names(), self._datasets(context)))
        with replaced(target) as part, dask.config.set(scheduler="synchronous"):
            self._write_parts(part, datasets, self._marks(context))
        return [target]

    def _marks(self, context: Context) -> dict[str, str]:
        """Attributes by which a file is recognised; the experiment only where other experiments may write."""
        from geoxai import __version__

        marks = {_WRITTEN_BY: f"geoxai {__version__}", _FINGERPRINT: context.fingerprint}
        return (
            marks
            if self._target(context).is_relative_to(context.run_dir)
            else marks | {_EXPERIMENT: context.experiment}
        )

    def _target(self, context: Context) -> Path:
        return Path(os.path.normpath(context.run_dir / Path(self.targets(context.stage)["path"]).expanduser()))

    def _names(self) -> list[str]:
        return [self.from_] if isinstance(self.from_, str) else list(self.from_ or ())

    def _datasets(self, context: Context) -> list[xr.Dataset]:
        found = context.sources["from"]
        return found if isinstance(found, list) else [found]

    def _marks_in(self, target: Path) -> Mapping[str, Any] | None:
        """The attributes of a file; None where it is not one of this format."""
        raise NotImplementedError

    def _write_parts(self, part: Path, datasets: Mapping[str, xr.Dataset], marks: dict[str, str]) -> None:
        raise NotImplementedError


class WriteZarr(_Write):
    """One Zarr store of one or several stages.

    One stage makes a flat store, several make one group each, named after the stages. The store is in format 3 with CF
    attributes; open it with `xarray.open_zarr(path)` or `xarray.open_datatree(path, engine="zarr")`. It is written
    chunk by chunk, and appears under its name when it is complete.
    """

    use: ClassVar[str] = "write.zarr"
    example: ClassVar[str] = "result: {use: write.zarr, from: [relevance, composite], path: result.zarr}"
    suffix: ClassVar[str] = ".zarr"

    def _marks_in(self, target: Path) -> Mapping[str, Any] | None:
        root = read_json(target / "zarr.json") if target.is_dir() else None
        return root.get("attributes", {}) if isinstance(root, dict) else None

    def _write_parts(self, part: Path, datasets: Mapping[str, xr.Dataset], marks: dict[str, str]) -> None:
        import zarr

        from geoxai.storage.encoding import quiet

        if len(datasets) == 1:
            (dataset,) = datasets.values()
            _to_zarr(dataset, part, None, marks)
            return
        with quiet():
            zarr.open_group(part, mode="w", zarr_format=3, attributes={**marks})
        for name, dataset in datasets.items():
            _to_zarr(dataset, part, name, marks)
        with quiet():
            zarr.consolidate_metadata(part)


class WriteNetcdf(_Write):
    """One NetCDF-4 file of one or several stages, compressed.

    One stage makes a flat file, several make one group each, named after the stages. The file has CF attributes; it is
    written chunk by chunk, and appears under its name when it is complete.
    """

    use: ClassVar[str] = "write.netcdf"
    example: ClassVar[str] = "file: {use: write.netcdf, from: composite, path: composite.nc}"
    suffix: ClassVar[str] = ".nc"

    compression: int = Field(4, ge=0, le=9, description="Level of zlib; 0 does not compress.")

    def _marks_in(self, target: Path) -> Mapping[str, Any] | None:
        import netCDF4

        try:
            with netCDF4.Dataset(target) as file:
                return {name: file.getncattr(name) for name in file.ncattrs()}
        except (OSError, RuntimeError):
            return None

    def _write_parts(self, part: Path, datasets: Mapping[str, xr.Dataset], marks: dict[str, str]) -> None:
        import netCDF4

        from geoxai.storage.encoding import encoding

        with netCDF4.Dataset(part, "w", format="NETCDF4") as file:
            file.setncatts(marks)
        for name, dataset in datasets.items():
            dataset = _marked(dataset, marks)
            dataset.attrs = {key: _netcdf_attribute(value) for key, value in dataset.attrs.items()}
            for variable in dataset.variables.values():
                variable.attrs = {
                    key: _netcdf_attribute(value, variable.dtype if key == "flag_values" else None)
                    for key, value in variable.attrs.items()
                    if value is not None
                }
            encodings = _encoding(encoding(dataset), dataset, "chunksizes")
            for key, variable in dataset.variables.items():
                if variable.dtype.kind in "iufb" and variable.ndim:
                    encodings.setdefault(key, {}).update(zlib=self.compression > 0, complevel=self.compression)
            dataset.to_netcdf(
                part, mode="a", group=None if len(datasets) == 1 else name, engine="netcdf4", encoding=encodings
            )


def _to_zarr(dataset: xr.Dataset, store: Path, group: str | None, marks: dict[str, str]) -> None:
    from geoxai.storage.encoding import quiet, zarr_encoding

    dataset = _marked(dataset, marks)
    mode: Literal["w", "a"] = "w" if group is None else "a"
    encoding = _encoding(zarr_encoding(dataset), dataset, "chunks")
    with quiet():
        dataset.to_zarr(store, group=group, mode=mode, zarr_format=3, consolidated=True, encoding=encoding)


def _marked(dataset: xr.Dataset, marks: dict[str, str]) -> xr.Dataset:
    from geoxai.storage.encoding import storable

    return storable(dataset.assign_attrs(marks))


def _encoding(
    found: dict[Hashable, dict[str, Any]], dataset: xr.Dataset, chunks: str
) -> dict[Hashable, dict[str, Any]]:
    """The encoding of every variable, in the chunks in which it is computed."""
    for name, variable in dataset.variables.items():
        if variable.chunks is not None and variable.ndim:
            found.setdefault(name, {})[chunks] = tuple(max(sizes) for sizes in variable.chunks)
    return found


def _netcdf_attribute(value: Any, dtype: np.dtype | None = None) -> Any:
    """An attribute as NetCDF can hold it: text, numbers or an array of numbers; anything else as JSON text."""
    import numpy as np

    if isinstance(value, bool):
        return int(value)
    if isinstance(value, str | int | float | np.number):
        return value
    try:
        array = np.asarray(value, dtype=dtype)
    except (TypeError, ValueError):
        array = np.array(None)
    return array if array.dtype.kind in "iuf" and array.ndim == 1 else json.dumps(value, default=str)


STAGES: tuple[type[Stage], ...] = (WriteZarr, WriteNetcdf)
