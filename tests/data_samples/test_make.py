"""The sample data are what their README says, and the script gives them again."""

import csv
import importlib.util
import sys
from pathlib import Path

import netCDF4
import numpy as np
import pytest
import xarray as xr

FOLDER = Path(__file__).resolve().parents[2] / "data_samples"


@pytest.fixture(scope="module")
def make():
    spec = importlib.util.spec_from_file_location("make", FOLDER / "make.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules["make"] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    yield module
    del sys.modules["make"]


@pytest.fixture(scope="module")
def sst():
    paths = sorted(FOLDER.glob("sst_*.nc"))
    return xr.concat([xr.load_dataset(path)["sst"] for path in paths], "time")


@pytest.fixture(scope="module")
def nino34(sst):
    """Detrended monthly anomalies over Nino 3.4, smoothed over three months."""
    mean = sst.sel(lat=slice(-5, 5), lon=slice(190, 240)).mean(("lat", "lon"))
    anomaly = mean.groupby("time.month") - mean.groupby("time.month").mean()
    months = np.arange(len(anomaly))
    anomaly = anomaly - np.polyval(np.polyfit(months, anomaly.values, 1), months)
    return anomaly.rolling(time=3, center=True).mean()


def test_the_script_gives_the_committed_values(make, tmp_path):
    for path in make.write(make.make_sample(), tmp_path):
        if path.suffix == ".csv":
            assert path.read_text() == (FOLDER / path.name).read_text()
        else:
            xr.testing.assert_identical(xr.load_dataset(path), xr.load_dataset(FOLDER / path.name))


def test_the_files_are_small():
    assert sum(path.stat().st_size for path in FOLDER.iterdir() if path.is_file()) < 3e6


def test_the_files_have_the_true_format():
    for path in FOLDER.glob("sst_*.nc"):
        with netCDF4.Dataset(path) as file:
            assert file["sst"].dtype == np.int16
            assert file["sst"].units == "degC"
            assert file["sst"].scale_factor == 0.01
            assert file["sst"].dimensions == ("time", "lat", "lon")
            assert file["lon"].units == "degrees_east"
            assert "Synthetic" in file.title


def test_the_record_is_whole_and_plausible(sst):
    assert sst.sizes == {"time": 876, "lat": 45, "lon": 72}
    assert (np.diff(sst["time"]) > np.timedelta64(0)).all()
    land = sst.isnull()
    assert (land.all("time") == land.any("time")).all()
    assert float(sst.min()) == pytest.approx(-1.8)
    assert 26 < float(sst.max()) < 35


def test_months_are_a_quarter_warm_a_quarter_cold(nino34):
    assert float((nino34 >= 0.5).mean()) == pytest.approx(0.27, abs=0.05)
    assert float((nino34 <= -0.5).mean()) == pytest.approx(0.27, abs=0.05)


def test_events_have_memory(nino34, sst):
    series = sst.sel(lat=slice(-5, 5), lon=slice(190, 240)).mean(("lat", "lon"))
    series = (series.groupby("time.month") - series.groupby("time.month").mean()).values
    assert np.corrcoef(series[:-1], series[1:])[0, 1] == pytest.approx(0.9, abs=0.04)


def test_flavours_differ_in_where_the_water_is_warm(sst):
    anomaly = sst.groupby("time.month") - sst.groupby("time.month").mean()
    with (FOLDER / "flavours.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    warmest = {}
    for flavour in ("east_pacific", "central_pacific"):
        times = np.array([row["time"] for row in rows if row["flavour"] == flavour], dtype="datetime64[ns]")
        assert len(times) > 60
        warmest[flavour] = float(anomaly.sel(time=times).mean("time").sel(lat=slice(-5, 5)).mean("lat").idxmax("lon"))
    assert warmest["east_pacific"] == pytest.approx(250, abs=8)
    assert warmest["central_pacific"] == pytest.approx(205, abs=8)
