"""``labels.table``: labels from CSV, unmatched rows listed."""

from pathlib import Path

import cftime
import numpy as np
import pytest
import xarray as xr

from geoxai.errors import OptionError
from geoxai.stages.labels import LabelsTable
from geoxai.stages.stage import Context


def grid() -> xr.Dataset:
    times = [cftime.datetime(2000, m, 30 if m != 2 else 28, calendar="360_day") for m in range(1, 7)]
    return xr.Dataset({"sst": (("time", "lat", "lon"), np.zeros((6, 1, 1)))}, {"time": times, "lat": [0], "lon": [0]})


def run(tmp_path: Path, text: str, source: xr.Dataset | None = None, **options: object) -> xr.Dataset:
    (tmp_path / "labels.csv").write_text(text)
    stage = LabelsTable.model_validate({"path": str(tmp_path / "labels.csv"), **options})
    context = Context("labels", tmp_path, {"from": source})
    xr.testing.assert_identical(stage.skeleton(context), stage.open(context))
    return stage.open(context)


def test_classes_and_values(tmp_path: Path) -> None:
    ds = run(tmp_path, "time,class,value\n2000-02,wet,3\n2000-01,dry,1\n2000-03,,2\n", units="mm")
    assert ds["label"].attrs["flag_meanings"] == "dry wet"
    assert ds["label"].values.tolist() == [0, 1, -1]
    assert ds["label"].dtype == np.int16
    assert ds["value"].values.tolist() == [1, 3, 2]
    assert ds["value"].attrs["units"] == "mm"
    assert run(tmp_path, "time,class\n2000-02,wet\n", classes=["wet", "dry"])["label"].values.tolist() == [0]
    with pytest.raises(OptionError, match="unknown class 'wet'") as caught:
        run(tmp_path, "time,class\n2000-02,wet\n", classes=["damp", "dry"])
    assert caught.value.option == "classes"


def test_unmatched_months_are_listed_and_days_do_not_matter(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    run(tmp_path, "date,class\n2000-01-01,a\n2000-06-15,b\n", grid())
    assert not caplog.records
    run(tmp_path, "date,class\n1999-12-01,a\n2000-06-15,b\n2001-01-01,a\n", grid())
    assert "2 of 3 rows match no time of the fields: 1999-12-01, 2001-01-01" in caplog.text
    with pytest.raises(OptionError, match="none of its 1 rows"):
        run(tmp_path, "date,class\n1999-12-01,a\n", grid())


def test_samples_by_number(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    ds = run(tmp_path, "sample,value\n2,5\n0,1\n7,3\n", grid())
    assert ds["sample"].values.tolist() == [0, 2, 7]
    assert ds["value"].values.tolist() == [1, 5, 3]
    assert "1 of 3 rows match no sample of the fields: 7" in caplog.text
