"""``region``: a box of the globe, a mask from a file or another stage, cell areas."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from geoxai.errors import GeoxaiError, OptionError
from geoxai.stages.options import Latitudes, Longitudes
from geoxai.stages.stage import Context, InputPath, LazyStage, Reference, Stage

if TYPE_CHECKING:
    import xarray as xr


class Mask(BaseModel):
    """Which cells are kept, from a field on this or another grid."""

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)

    path: Annotated[str | None, InputPath()] = Field(None, description="NetCDF file with the mask.")
    from_: Annotated[str | None, Reference("grid")] = Field(
        None, alias="from", description="Stage that gives the mask, instead of a file."
    )
    variable: str | None = Field(None, description="Variable of the mask, where there are several.")
    keep: list[float] | Literal["valid"] = Field(
        description="Values of the mask that mark the cells to keep, such as `[0]` where 0 is ocean; or `valid`: cells "
        "that have a value at the first time of the mask."
    )

    @model_validator(mode="after")
    def _one_origin(self) -> Mask:
        if (self.path is None) == (self.from_ is None):
            raise ValueError("a mask comes either from a file (path) or from a stage (from)")
        return self


class CropRegion(LazyStage):
    """Cells of a region: a named region or a box is cut out, a mask blanks cells inside it.

    A cell belongs to a box when its centre lies in it or on its edge. A box across the file's longitude seam comes out
    in one piece from west to east. The mask is read at the nearest cell of its own grid (halfway between two: the
    southern, western one); masked cells become NaN.
    """

    use: ClassVar[str] = "region"
    gives: ClassVar[str] = "grid"
    libraries: ClassVar[tuple[str, ...]] = ("grid", "readers")
    example: ClassVar[str] = "pacific: {use: region, from: sst, lat: [-30, 30], lon: [120, -80]}"

    from_: Annotated[str | None, Reference("grid", nearest=True)] = Field(
        None, alias="from", description="Stage whose fields are cut out."
    )
    region: str | None = Field(
        None,
        description="A named region: nino12, nino3, nino34, nino4, tropical_pacific, north_pacific, tropics, "
        "northern_extratropics, southern_extratropics, arctic, north_atlantic, tropical_atlantic, tropical_indian, "
        "iod_west, iod_east, north_america, europe, global.",
    )
    lat: Latitudes | None = Field(None, description="South and north edge of a box, in degrees.")
    lon: Longitudes | None = Field(
        None, description="West and east edge in degrees, going eastwards, either convention."
    )
    mask: Mask | None = Field(
        None, description="Cells to keep, for instance `{path: landsea.nc, keep: [0]}`; all others become NaN."
    )
    area_weights: bool = Field(
        False, description="Attach the area of every cell as the coordinate `cell_area` (m2), as a CF cell measure."
    )

    @field_validator("region")
    @classmethod
    def _known(cls, value: str | None) -> str | None:
        from geoxai.grid.boxes import known_region

        return value if value is None else known_region(value)

    @model_validator(mode="after")
    def _one_box(self) -> CropRegion:
        if self.region is not None and (self.lat is not None or self.lon is not None):
            raise ValueError("region and lat/lon are mutually exclusive")
        return self

    def open(self, context: Context) -> xr.Dataset:
        from geoxai.grid.area import area_weights
        from geoxai.grid.boxes import region
        from geoxai.grid.regions import select_box

        ds: xr.Dataset = context.sources["from"]
        if self.region is not None:
            box = region(self.region)
            try:
                ds = select_box(ds, box.lat, box.lon)
            except OptionError as error:
                raise OptionError(f"region {self.region!r}: {error.message}", option="region") from None
        elif self.lat is not None or self.lon is not None:
            ds = select_box(ds, self.lat, self.lon)
        if self.mask is not None:
            ds = self._masked(ds, self.mask, context)
        if self.area_weights:
            area = area_weights(ds)
            ds = ds.assign(
                {name: da.assign_attrs(cell_measures="area: cell_area") for name, da in ds.data_vars.items()}
            )
            ds = ds.assign_coords(cell_area=area)
        return ds

    def _masked(self, ds: xr.Dataset, mask: Mask, context: Context) -> xr.Dataset:
        from geoxai.grid.coordinates import spatial_dims
        from geoxai.grid.masks import mask_onto

        field = self._mask_field(mask, context)
        kept = field.notnull() if mask.keep == "valid" else field.isin(mask.keep)
        try:
            inside = mask_onto(kept, ds)
        except GeoxaiError as error:
            raise OptionError(error.message, fix=error.fix, option="mask") from None
        if not bool(inside.any()):
            raise OptionError(f"the mask keeps no cell: none has the value {mask.keep}", option="mask.keep")
        inside = inside.drop_vars(["lat", "lon"])
        spatial = set(spatial_dims(ds))
        return ds.map(lambda da: da.where(inside) if spatial <= set(da.dims) else da, keep_attrs=True)

    def _mask_field(self, mask: Mask, context: Context) -> xr.DataArray:
        """The mask in memory, two-dimensional."""
        from geoxai.names import unknown
        from geoxai.readers.netcdf import open_netcdf

        if mask.path is not None:
            ds, origin = open_netcdf(mask.path), mask.path
        else:
            ds, origin = context.sources["mask.from"], f"stage {mask.from_!r}"
        name = mask.variable or (str(next(iter(ds.data_vars))) if len(ds.data_vars) == 1 else None)
        if name is None:
            names = ", ".join(map(str, ds.data_vars))
            raise OptionError(f"{origin} has several variables: {names}", fix="name one", option="mask.variable")
        if name not in ds.data_vars:
            raise OptionError(f"{origin}: {unknown('variable', name, map(str, ds.data_vars))}", option="mask.variable")
        field = ds[name]
        return (field.isel(time=0, drop=True) if "time" in field.dims else field).load()


STAGES: tuple[type[Stage], ...] = (CropRegion,)
