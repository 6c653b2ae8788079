"""Files as people have them, through the command line: what cannot be is said, what files say is used to the end."""

from pathlib import Path

import netCDF4
import numpy as np
import pytest
import xarray as xr

import geoxai
from tests.integration.running import geoxai as command

CONFIG = """version: 1
name: files
output: {{dir: {run}}}
compute: {{executor: serial}}
stages:
  tas: {{use: load.netcdf, path: "{path}"{more}}}
  samples: {{use: samples, split: {{train: [2000, 2003], test: [2004, 2005]}}, image: tas, scale: none}}
  network: {{use: train, architecture: {{unet: {{filters: [2, 2]}}}}, epochs: 1}}
  relevance: {{use: explain.lrp, subset: test, target: {{box: nino34}}, rules: epsilon}}
  composite: {{use: composite, by_variable: all, where: all, regions: [nino34, arctic]}}
"""

LAT, LON = np.array([-12.0, -4, 4, 12]), np.arange(150.0, 270, 10)
SOUTH, NORTH = np.array([-20.0, -8, 0, 6]), np.array([-8.0, 0, 6, 14])


def file(path: Path, years: range, attrs: dict[str, str], *, units: str | None = None) -> Path:
    """A monthly field in cells with bounds that are not halfway between their centres."""
    months = np.arange(f"{years[0]}-01", f"{years[-1] + 1}-01", dtype="M8[M]").astype("M8[ns]")
    values = np.random.default_rng(years[0]).normal(0, 1, (months.size, 4, 12)).astype("f4")
    ds = xr.Dataset(
        {"tas": (("time", "lat", "lon"), values, {"units": units} if units else {}),
         "lat_bnds": (("lat", "bnds"), np.stack([SOUTH, NORTH], 1))},
        {"time": months, "lat": ("lat", LAT, {"units": "degrees_north", "bounds": "lat_bnds"}),
         "lon": ("lon", LON, {"units": "degrees_east"})}, attrs,
    )  # fmt: skip
    ds.to_netcdf(path, engine="netcdf4", encoding={"tas": {"_FillValue": None}})
    return path


def config(tmp_path: Path, path: str, more: str = "") -> Path:
    written = tmp_path / "c.yaml"
    written.write_text(CONFIG.format(run=tmp_path / "run", path=path, more=more))
    return written


@pytest.mark.slow
def test_bounds_reach_the_shares_of_a_composite_and_units_are_not_made_up(tmp_path: Path) -> None:
    path = file(tmp_path / "a.nc", range(2000, 2006), {})
    done = geoxai.run(config(tmp_path, str(path)))
    assert done.exit_code == 0
    with geoxai.open_run(tmp_path / "run") as run:
        composite, samples = run["composite"].to_dataset(), run["samples"].to_dataset()
        np.testing.assert_array_equal(composite["lat_south"], SOUTH)
        assert "units" not in samples.coords
        assert "units" not in run["relevance"]["relevance"].attrs
    from geoxai.storage.files import read_json

    found = read_json(tmp_path / "run" / "composite.json")
    (entry,) = found["classes"].values()
    sine = np.sin(np.deg2rad([-5, 5, -20, 14]))
    # the box is 50 degrees wide, the grid 120: from 145 to 265
    expected = (sine[1] - sine[0]) * 50 / ((sine[3] - sine[2]) * 120)
    assert entry["regions"]["nino34"]["area_share"] == pytest.approx(expected)
    told = read_json(tmp_path / "run" / "run.json")["warnings"]
    assert sum("tas: the units are not known" in warning for warning in told) == 1
    assert sum("region arctic contains no cell of the maps" in warning for warning in told) == 1


@pytest.mark.slow
def test_an_undeclared_fill_value_ends_a_run_with_a_remedy_that_works(tmp_path: Path) -> None:
    path = file(tmp_path / "a.nc", range(2000, 2006), {})
    with netCDF4.Dataset(path, "a") as ds:
        ds["tas"][:, 0, 0] = 1e20
    done = command("run", config(tmp_path, str(path)))
    assert done.returncode == 3
    assert "Traceback" not in done.stderr
    assert "variable 'tas' of" in done.stderr
    assert "has 72 of 3456 values beyond 1e+15, such as 1e+20" in done.stderr
    remedy = "variables: {tas: {missing: [1e+20]}}"
    assert remedy in done.stderr
    done = command("run", config(tmp_path, str(path), f", {remedy}"))
    assert done.returncode == 0, done.stderr


def test_two_models_and_a_point_target_off_the_grid_are_found_while_planning(tmp_path: Path) -> None:
    file(tmp_path / "a.nc", range(2000, 2003), {"source_id": "CanESM5", "experiment_id": "historical"})
    file(tmp_path / "b.nc", range(2004, 2006), {"source_id": "MIROC6", "experiment_id": "historical"})
    done = command("plan", config(tmp_path, f"{tmp_path}/[ab].nc"))
    assert done.returncode == 3
    assert "source_id is 'CanESM5' and 'MIROC6'" in done.stderr
    written = config(tmp_path, f"{tmp_path}/[ab].nc", ", join: [model]")
    written.write_text(written.read_text().replace("{box: nino34}", "{point: {lat: 60, lon: 200}}"))
    done = command("plan", written)
    assert done.returncode == 2
    assert "latitude 60, longitude 200 lies outside the grid" in done.stderr
    assert f"{written}:9:" in done.stderr
    assert "the time axis has a hole: 2002-12-01 is followed by 2004-01-01, 12 x 1 month missing" in done.stderr
    written.write_text(written.read_text().replace("lat: 60", "lat: 95"))
    done = command("check", written)
    assert done.returncode == 2
    assert "latitude 95 is beyond a pole" in done.stderr
