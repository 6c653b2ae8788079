"""``load.netcdf``: fields from NetCDF files or a Zarr store."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

from geoxai.stages.options import Latitudes, Longitudes
from geoxai.stages.stage import Context, InputPath, LazyStage, Stage

if TYPE_CHECKING:
    import xarray as xr

Date = Annotated[int, Field(ge=0)] | str


class Variable(BaseModel):
    """What is wanted of one variable."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str | None = Field(None, description="Its name in the files, where it differs from the one given here.")
    units: str | None = Field(
        None,
        description="Unit wanted. Known conversions: K, degC, degF; Pa, hPa, kPa; m, cm, mm, km; kg m-2 and mm of "
        "water; kg m-2 s-1, mm day-1, mm h-1; m s-1, km h-1, knot; 1, %, g kg-1. Default: as in the files.",
    )
    anomaly: bool | None = Field(
        None,
        description="Whether the numbers are differences, such as anomalies, which change between K and degC without "
        "273.15. Default: whether the variable calls itself an anomaly.",
    )
    file_units: str | None = Field(
        None, description="Unit of the numbers in the files, where the files do not say or are wrong."
    )
    missing: list[float] = Field(
        [], description="Further numbers in the files that mean missing, such as -999 or 1e20."
    )
    valid_range: bool = Field(
        True,
        description="Whether numbers outside the file's `valid_range`, or `valid_min` and `valid_max`, are missing.",
    )
    implausible: Literal["refuse", "keep"] = Field(
        "refuse",
        description="What to do with impossible numbers: beyond 1e15, or temperatures at or below absolute zero "
        "(refused), or more than 1e4 standard deviations from the others (a warning).",
    )


class LoadNetcdf(LazyStage):
    """Fields from NetCDF files or a Zarr store, lazily, with coordinates called lat, lon and time.

    Several files follow each other in time or hold different variables on one grid. Longitude convention, latitude
    direction and calendar stay those of the files; time must be in order, without duplicates or overlaps, and a gap in
    it gives a warning. Fill values become NaN, packed integers float32 where that keeps all packed values distinct.
    Dims of length one are dropped.

    Files that are joined in time must have the same model, experiment, variant, grid label, table and frequency
    (attributes of CMIP5 and CMIP6), unless `join` lets them differ.

    Latitude and longitude are those of a variable's dims, or those named by its attribute `coordinates` or its grid
    mapping. Impossible values are refused, see `implausible` of a variable. Where the file has bounds of its cells,
    areas are computed from them.
    """

    use: ClassVar[str] = "load.netcdf"
    gives: ClassVar[str] = "grid"
    libraries: ClassVar[tuple[str, ...]] = ("grid", "readers")
    example: ClassVar[str] = 'sst: {use: load.netcdf, path: "data_samples/sst_*.nc", variables: {sst: {units: degC}}}'

    path: Annotated[str | list[str], InputPath()] = Field(
        description="A file, a glob such as `data/sst_*.nc`, a Zarr store, or a list of them."
    )
    variables: dict[str, Variable | None] | None = Field(
        None,
        description="Variables by the name to use for them: `{sst: {name: tos, units: degC}}`, or a list of names. "
        "Default: every variable on the grid, as it is.",
    )
    time: tuple[Date | None, Date | None] | None = Field(
        None,
        description="First and last time, years or dates, both included in full: `[1980, 2018]`, `['1980-03', null]`.",
    )
    lat: Latitudes | None = Field(None, description="South and north edge of a box, in degrees.")
    lon: Longitudes | None = Field(
        None,
        description="West and east edge in degrees, going eastwards, in either convention: `[120, -80]` crosses the "
        "date line, `[-20, 30]` Greenwich.",
    )
    coordinates: dict[str, str] = Field(
        {}, description="Names in the files of `lat`, `lon` and `time`, where the files do not make them clear."
    )

    join: list[Literal["model", "experiment", "variant", "grid", "table", "frequency"]] = Field(
        [],
        description="What may differ between files that follow each other in time: `[experiment]` joins a historical "
        "run and the scenario that continues it.",
    )

    @field_validator("variables", mode="before")
    @classmethod
    def _names(cls, value: Any) -> Any:
        return dict.fromkeys(value) if isinstance(value, list) and all(isinstance(v, str) for v in value) else value

    @field_validator("variables")
    @classmethod
    def _some(cls, value: dict[str, Variable | None] | None) -> dict[str, Variable | None] | None:
        if value is not None and not value:
            raise ValueError("no variable is named; leave the option out for all of them")
        return value

    @field_validator("coordinates")
    @classmethod
    def _known(cls, value: dict[str, str]) -> dict[str, str]:
        for axis in value:
            if axis not in ("lat", "lon", "time"):
                raise ValueError(f"{axis!r} is not lat, lon or time")
        return value

    def open(self, context: Context) -> xr.Dataset:
        from geoxai.readers.netcdf import Wanted, open_netcdf

        wanted = None
        if self.variables is not None:
            options = {name: variable or Variable.model_validate({}) for name, variable in self.variables.items()}
            wanted = {
                name: Wanted(**variable.model_dump() | {"missing": tuple(variable.missing)})
                for name, variable in options.items()
            }
        return open_netcdf(
            self.path,
            wanted,
            time=self.time or (None, None),
            lat=self.lat,
            lon=self.lon,
            coordinates=self.coordinates,
            join=self.join,
        )


STAGES: tuple[type[Stage], ...] = (LoadNetcdf,)
