"""``index.*``: climate indices from fields or from published tables, and the classes made from them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from pydantic import Field, field_validator

from geoxai.errors import InputError, OptionError
from geoxai.names import unknown
from geoxai.stages.stage import Context, InputPath, LazyStage, Reference, Stage

if TYPE_CHECKING:
    import xarray as xr

Thresholds = tuple[float, float]


class _Classes(LazyStage):
    """Options that turn an index into classes."""

    libraries: ClassVar[tuple[str, ...]] = ("grid", "readers", "statistics")

    thresholds: Thresholds | None = Field(
        (-0.5, 0.5),
        description="At or below the first: the cold class; at or above the second: the warm class; null: values only.",
    )
    min_seasons: int = Field(
        1, ge=1, description="Shortest run of cold or warm months in a row; a shorter one is neutral."
    )
    decimals: int | None = Field(
        None,
        ge=0,
        description="Decimals that values are rounded to before they meet the thresholds, halves away from zero; "
        "null: not rounded.",
    )
    classes: tuple[str, str, str] = Field(
        ("la_nina", "neutral", "el_nino"), description="Names of the cold, the neutral and the warm class."
    )

    @field_validator("thresholds")
    @classmethod
    def _low_first(cls, value: Thresholds | None) -> Thresholds | None:
        if value is not None and value[0] >= value[1]:
            raise ValueError("give the lower threshold first")
        return value

    @field_validator("classes")
    @classmethod
    def _words(cls, value: tuple[str, str, str]) -> tuple[str, str, str]:
        if len(set(value)) < 3 or any(not name or " " in name for name in value):
            raise ValueError("three different names without spaces are needed")
        return value

    def _labels(self, values: xr.DataArray) -> xr.Dataset:
        """The labels dataset: ``value``, and ``label`` where there are thresholds."""
        from geoxai.statistics.indices import classify

        ds = values.rename("value").to_dataset()
        if self.thresholds is not None:
            ds["label"] = classify(
                values,
                self.thresholds,
                decimals=self.decimals,
                min_seasons=self.min_seasons,
                classes=self.classes,
            )
        return ds


class _GridIndex(_Classes):
    """An index of fields: computed once, stored, read by everything after it."""

    fits: ClassVar[bool] = True

    from_: Annotated[str | None, Reference("grid", nearest=True)] = Field(
        None, alias="from", description="Stage from whose fields the index is computed."
    )
    variable: str | None = Field(None, description="Variable of sea surface temperature, where there are several.")

    def skeleton(self, context: Context) -> xr.Dataset:
        import numpy as np
        import xarray as xr

        field = self._field(context)
        attrs = {"units": field.attrs["units"]} if "units" in field.attrs else {}
        zeros = xr.DataArray(np.zeros(field.sizes["time"]), {"time": field["time"]}, ("time",), "value", attrs)
        return self._labels(zeros).chunk()

    def open(self, context: Context) -> xr.Dataset:
        import numpy as np

        assert context.fitted is not None
        ds = context.fitted.load()
        if "label" in ds:
            ds["label"].attrs["flag_values"] = np.asarray(ds["label"].attrs["flag_values"], dtype=np.int16)
        return ds

    def _field(self, context: Context) -> xr.DataArray:
        """The variable, with dims (time, lat, lon), on a grid with cells in 5S-5N, 170W-120W."""
        from geoxai.grid.area import require_cells
        from geoxai.grid.boxes import REGIONS

        ds: xr.Dataset = context.sources["from"]
        fields = [str(name) for name, da in ds.data_vars.items() if "time" in da.dims]
        name = self.variable or (fields[0] if len(fields) == 1 else None)
        if name is None:
            raise OptionError(f"there are several variables: {', '.join(fields)}; name one", option="variable")
        if name not in fields:
            raise OptionError(unknown("variable", name, fields), option="variable")
        if set(ds[name].dims) != {"time", "lat", "lon"}:
            raise OptionError(f"{name!r} has dims {ds[name].dims}; an index needs (time, lat, lon)", option="variable")
        require_cells(ds[name], REGIONS["nino34"])
        return ds[name]

    def _nino34(self, context: Context) -> xr.DataArray:
        from geoxai.grid.masks import require_values
        from geoxai.grid.time import time_text
        from geoxai.statistics.indices import nino34

        field = self._field(context)
        mean = nino34(field).compute()
        gaps = mean["time"][mean.isnull()]
        if gaps.size:
            require_values(field, str(field.name))
            raise InputError(
                f"variable {field.name!r} has no value in 5S-5N, 170W-120W at {time_text(gaps.values[0])} "
                f"({gaps.size} of {mean.size} times)",
                fix="leave these times out of the time range, or use fields that cover the box",
            )
        return mean


class IndexNino34(_GridIndex):
    """Nino3.4: area-weighted mean over 5S-5N, 170W-120W of every time.

    Cells count with the part of their area inside the box, cells without a value not at all. Made of anomalies it is
    the Nino3.4 index; classes of absolute temperatures make no sense and are refused.
    """

    use: ClassVar[str] = "index.nino34"
    gives: ClassVar[str] = "labels"
    example: ClassVar[str] = "monthly_enso: {use: index.nino34, from: anomaly}"

    def fit(self, context: Context) -> xr.Dataset:
        from geoxai.statistics.indices import looks_absolute

        values = self._nino34(context)
        if self.thresholds is not None and looks_absolute(values):
            raise OptionError(
                f"the index is {float(values.mean()):.1f} on average: these are temperatures, not anomalies",
                fix="read from an anomaly stage, or set thresholds: null for the values alone",
                option="from",
            )
        return self._labels(values)


class IndexOni(_GridIndex):
    """Oceanic Nino Index after NOAA CPC: Nino3.4 against sliding 30-year bases, three-month means.

    Every month is compared with the mean of its calendar month over the 30 years around it (1936-1965 for 1951-1955,
    and so on every five years; at the ends of the record the nearest such period that the record holds in full, or all
    years where it holds none). Fields may be temperatures or anomalies. A month is El Nino or La Nina where the mean of
    it and its neighbours, rounded to 0.1, reaches the threshold in at least five such overlapping seasons in a row.
    """

    use: ClassVar[str] = "index.oni"
    gives: ClassVar[str] = "labels"
    example: ClassVar[str] = "enso: {use: index.oni, from: sst}"

    min_seasons: int = Field(5, ge=1, description="Shortest run of overlapping seasons; a shorter one is neutral.")
    decimals: int | None = Field(
        1,
        ge=0,
        description="Decimals that values are rounded to before they meet the thresholds, halves away from zero; "
        "null: not rounded.",
    )

    def skeleton(self, context: Context) -> xr.Dataset:
        self._monthly(context)
        return super().skeleton(context)

    def fit(self, context: Context) -> xr.Dataset:
        from geoxai.statistics.indices import oni

        self._monthly(context)
        return self._labels(oni(self._nino34(context)))

    def _monthly(self, context: Context) -> None:
        from geoxai.grid.time import is_every_month, time_text

        time = self._field(context)["time"]
        if not is_every_month(time):
            shown = ", ".join(time_text(value) for value in time.values[:3])
            raise OptionError(
                f"the ONI needs monthly fields, month after month; these are of {shown}{', ...' * (time.size > 3)}",
                fix="use index.nino34, which takes any times, or read monthly fields",
                option="from",
            )


class IndexTable(_Classes):
    """An index from a published table: NOAA's ONI or Nino3.4 (`nino34.long`) text files as they are.

    The ONI of a season belongs to its middle month. Months are joined with fields by year and month. The defaults make
    classes from the ONI as NOAA does; for a table of monthly values consider `min_seasons: 1` and `decimals: null`.
    """

    use: ClassVar[str] = "index.table"
    gives: ClassVar[str] = "labels"
    example: ClassVar[str] = "oni: {use: index.table, path: oni.ascii.txt}"
    example_files: ClassVar[str] = """\
from pathlib import Path
# in place of https://www.cpc.ncep.noaa.gov/data/indices/oni.ascii.txt
seasons = "DJF JFM FMA MAM AMJ MJJ JJA JAS ASO SON OND NDJ".split()
rows = [f"{season} {year} 26.50 {(-1) ** (year // 2)}" for year in range(1950, 2023) for season in seasons]
Path("oni.ascii.txt").write_text("\\n".join(["SEAS YR TOTAL ANOM", *rows]))"""

    path: Annotated[str, InputPath()] = Field(description="The text file.")
    format: Literal["auto", "oni", "nino34_long"] = Field(
        "auto",
        description="`oni`: NOAA CPC's oni.ascii.txt; `nino34_long`: NOAA PSL's table of years by months; "
        "`auto`: by its first line.",
    )
    min_seasons: int = Field(5, ge=1, description="Shortest run of cold or warm months; a shorter one is neutral.")
    decimals: int | None = Field(
        1,
        ge=0,
        description="Decimals that values are rounded to before they meet the thresholds, halves away from zero; "
        "null: not rounded.",
    )

    def open(self, context: Context) -> xr.Dataset:
        from pathlib import Path

        from geoxai.readers.tables import read_index_table

        return self._labels(read_index_table(Path(self.path), self.format))


STAGES: tuple[type[Stage], ...] = (IndexNino34, IndexOni, IndexTable)
