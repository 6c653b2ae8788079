"""``labels.table``: labels from a CSV file."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Annotated, ClassVar

from pydantic import Field, field_validator

from geoxai.errors import OptionError
from geoxai.names import unknown
from geoxai.stages.options import Distinct
from geoxai.stages.stage import Context, InputPath, LazyStage, Reference, Stage

if TYPE_CHECKING:
    import xarray as xr

    from geoxai.readers.tables import LabelTable

log = logging.getLogger("geoxai.labels")
_SHOWN = 10


class LabelsTable(LazyStage):
    """Labels from a CSV file with a header: a class or a value, or both, for each time or sample.

    Times are written YYYY-MM or YYYY-MM-DD, in one column or as columns year and month. Monthly tables are joined with
    monthly fields by year and month, others by date. Blank cells mean no label. Rows that match no time of `from` are
    listed in a warning.
    """

    use: ClassVar[str] = "labels.table"
    gives: ClassVar[str] = "labels"
    libraries: ClassVar[tuple[str, ...]] = ("grid", "readers", "statistics")
    example: ClassVar[str] = (
        "halves: {use: labels.table, path: halves.csv, from: sst, classes: [first_half, second_half]}"
    )
    example_files: ClassVar[str] = """\
from pathlib import Path
rows = [f"{y}-{m:02},{'first_half' if m < 7 else 'second_half'}" for y in range(1950, 2023) for m in range(1, 13)]
Path("halves.csv").write_text("\\n".join(["time,class", *rows]))"""

    path: Annotated[str, InputPath()] = Field(
        description="CSV file, separated by commas, semicolons or tabs; `#` starts a comment line."
    )
    from_: Annotated[str | None, Reference("grid", nearest=True)] = Field(
        None, alias="from", description="Stage whose times the rows should match."
    )
    time: str | None = Field(
        None, description="Column of times. Default: time, date or month, or the two columns year and month."
    )
    sample: str | None = Field(None, description="Column of sample numbers, from 0, instead of times. Default: sample.")
    class_: str | None = Field(None, alias="class", description="Column of class names. Default: class or label.")
    value: str | None = Field(None, description="Column of values. Default: value or index.")
    units: str | None = Field(None, description="Unit of the values.")
    classes: Distinct = Field(
        None, description="The classes in the order of the network's outputs. Default: in alphabetical order."
    )

    @field_validator("classes")
    @classmethod
    def _words(cls, value: list[str] | None) -> list[str] | None:
        if value is not None and (not value or any(" " in name for name in value)):
            raise ValueError("class names are needed, without spaces")
        return value

    def open(self, context: Context) -> xr.Dataset:
        from pathlib import Path

        import xarray as xr

        from geoxai.readers.tables import read_label_table

        table = read_label_table(
            Path(self.path), time=self.time, sample=self.sample, class_=self.class_, value=self.value
        )
        ds = xr.Dataset(coords={table.dim: (table.dim, table.keys)})
        if table.classes is not None:
            ds["label"] = self._label(table)
        if table.values is not None:
            ds["value"] = (table.dim, table.values, {"units": self.units} if self.units else {})
        grid = context.sources.get("from")
        if grid is not None:
            self._list_unmatched(table, grid)
        return ds

    def _label(self, table: LabelTable) -> xr.DataArray:
        import numpy as np
        import xarray as xr

        from geoxai.statistics.flags import NO_CLASS, flag_attrs

        assert table.classes is not None
        plain = [name.replace(" ", "_") if name is not None else None for name in table.classes]
        found = sorted({name for name in plain if name is not None})
        if not found:
            raise OptionError(f"{self.path}: no row has a class", option="path")
        classes = self.classes or found
        strange = [name for name in found if name not in classes]
        if strange:
            raise OptionError(f"{self.path}: {unknown('class', strange[0], classes)}", option="classes")
        number = {name: i for i, name in enumerate(classes)}
        label = np.array([NO_CLASS if name is None else number[name] for name in plain], dtype=np.int16)
        return xr.DataArray(label, dims=(table.dim,), attrs=flag_attrs(classes))

    def _list_unmatched(self, table: LabelTable, grid: xr.Dataset) -> None:
        """Warn of rows whose time or sample number the fields do not have."""
        import numpy as np

        from geoxai.grid.time import match_times, time_text

        if "time" not in grid.dims:
            return
        if table.dim == "time":
            lost = [time_text(key) for key in table.keys[match_times(table.keys, grid["time"]) < 0]]
        else:
            outside = (table.keys < 0) | (table.keys >= grid.sizes["time"])
            lost = [str(key) for key in np.asarray(table.keys)[outside]]
        if len(lost) == len(table.keys):
            raise OptionError(
                f"{self.path}: none of its {len(lost)} rows matches a {table.dim} of the fields", option="path"
            )
        if lost:
            more = f" and {len(lost) - _SHOWN} more" if len(lost) > _SHOWN else ""
            log.warning(
                "%s: %d of %d rows match no %s of the fields: %s",
                self.path, len(lost), len(table.keys), table.dim, ", ".join(lost[:_SHOWN]) + more,
            )  # fmt: skip


STAGES: tuple[type[Stage], ...] = (LabelsTable,)
