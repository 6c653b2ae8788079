"""``anomaly``: fit once, apply lazily, warn of fits that see the test years."""

from pathlib import Path

import numpy as np
import pytest
import xarray as xr
from pydantic import ValidationError

from geoxai.errors import OptionError
from geoxai.stages.anomaly import Anomaly
from geoxai.stages.load import LoadNetcdf
from geoxai.stages.region import CropRegion
from geoxai.stages.samples import Samples
from geoxai.stages.stage import Context, Stage


def source() -> xr.Dataset:
    time = np.arange("1980-01", "1990-01", dtype="M8[M]").astype("M8[ns]")
    values = np.random.default_rng(0).normal(size=(120, 2, 3)) + np.arange(120)[:, None, None] * 0.1
    da = xr.DataArray(values, {"time": time, "lat": [0.0, 5], "lon": [0.0, 5, 10]}, ("time", "lat", "lon"))
    return da.assign_attrs(units="K").to_dataset(name="sst").chunk(time=40)


def test_fit_years_have_no_mean_and_the_skeleton_needs_no_fit(tmp_path: Path) -> None:
    stage = Anomaly.model_validate({"fit": [1981, 1985], "detrend": "linear"})
    context = Context("anomaly", tmp_path, {"from": source()})
    fitted = stage.fit(context)
    fitted.to_zarr(tmp_path / "anomaly.zarr", consolidated=False)
    stored = xr.open_zarr(tmp_path / "anomaly.zarr", consolidated=False)
    result = stage.open(Context("anomaly", tmp_path, {"from": source()}, fitted=stored))
    inside = result["sst"].sel(time=slice("1981", "1985"))
    np.testing.assert_allclose(inside.groupby("time.month").mean(), 0, atol=1e-12)
    skeleton = stage.skeleton(context)
    assert skeleton["sst"].chunks == result["sst"].chunks
    assert (skeleton["sst"].dtype, skeleton["sst"].attrs) == (result["sst"].dtype, result["sst"].attrs)


def test_years_that_the_data_have_not_are_heard_before_anything_runs(tmp_path: Path) -> None:
    stage = Anomaly.model_validate({"fit": [1950, 1960]})
    with pytest.raises(OptionError, match="no time in the fit years 1950 to 1960") as caught:
        stage.skeleton(Context("anomaly", tmp_path, {"from": source()}))
    assert caught.value.option == "fit"
    with pytest.raises(ValidationError, match="runs backwards"):
        Anomaly.model_validate({"fit": [1990, 1980]})


def config(fit: list[int] | None, split: dict) -> dict[str, Stage]:
    return {
        "sst": LoadNetcdf.model_validate({"path": "a.nc"}),
        "anomaly": Anomaly.model_validate({"from": "sst", "fit": fit}),
        "box": CropRegion.model_validate({"from": "anomaly", "region": "tropics"}),
        "samples": Samples.model_validate({"inputs": ["box"], "split": split}),
        "raw": Samples.model_validate({"inputs": ["sst"], "split": {"test": [1980, 1989]}}),
    }


def advice(fit: list[int] | None, split: dict) -> list[str]:
    stages = config(fit, split)
    found = list(stages["anomaly"].advise("anomaly", stages))
    assert {option for option, _, _ in found} <= {"fit"}
    return [message for _, message, _ in found]


def test_a_fit_that_meets_the_test_years_is_warned_of() -> None:
    assert advice([1951, 1985], {"train": [1951, 1985], "test": [1990, 2000]}) == []
    (message,) = advice([1951, 1991], {"train": [1951, 1985], "test": [[1990, 1992], [1995, 1999]]})
    assert message.endswith("overlaps the test years of 'samples' (2 years from 1990 to 1991)")
    assert len(advice(None, {"train": [1951, 1985], "validation": [1987, 1988], "test": [1990, 2000]})) == 2


@pytest.mark.parametrize("inputs", [{"surface": ["box"], "upper": ["sst"]}, {"surface": "sst", "upper": "box"}, "box"])
def test_the_warning_stays_where_inputs_are_named(inputs: dict[str, str | list[str]] | str) -> None:
    stages = config([1951, 1991], {"train": [1951, 1985], "test": [1990, 1992]})
    stages["samples"] = Samples.model_validate({"inputs": inputs, "split": {"test": [1990, 1992]}})
    (found,) = stages["anomaly"].advise("anomaly", stages)
    assert "overlaps the test years of 'samples'" in found[1]
