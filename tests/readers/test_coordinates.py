"""Whose latitude and longitude: only those of a field, and other kinds of grid by their names."""

from pathlib import Path

import netCDF4
import numpy as np
import pytest
import xarray as xr

from geoxai.errors import InputError
from geoxai.grid.area import EARTH_RADIUS, area_weights
from geoxai.readers.netcdf import Wanted, open_netcdf

TIME = np.array(["2000-01-01", "2000-02-01", "2000-03-01"], "M8[ns]")


def saved(ds: xr.Dataset, path: Path) -> Path:
    ds.to_netcdf(path, engine="netcdf4")
    return path


def plane(*dims: str, shape: tuple[int, ...] = (3, 4, 5)) -> tuple[tuple[str, ...], np.ndarray]:
    return dims, np.random.default_rng(0).normal(280, 5, shape)


def curvilinear(ny: int, nx: int) -> tuple[np.ndarray, np.ndarray]:
    y, x = np.mgrid[0:ny, 0:nx].astype(float)
    return 10 + 2 * y + 0.3 * x, 100 + 3 * x - 0.4 * y


def test_a_satellite_subpoint_is_not_the_latitude_of_an_image(tmp_path: Path) -> None:
    ds = xr.Dataset(
        {"CMI": plane("y", "x", shape=(4, 5)),
         "nominal_satellite_subpoint_lat": ((), 0.0, {"standard_name": "latitude", "units": "degrees_north"}),
         "nominal_satellite_subpoint_lon": ((), -75.0, {"standard_name": "longitude", "units": "degrees_east"}),
         "projection": ((), 0, {"grid_mapping_name": "geostationary"})},
        {"x": np.arange(5) * 1e-4, "y": np.arange(4) * 1e-4},
    )  # fmt: skip
    ds["CMI"].attrs["grid_mapping"] = "projection"
    path = saved(ds, tmp_path / "goes.nc")
    with pytest.raises(InputError, match=r"goes\.nc: a geostationary grid \(projection\)"):
        open_netcdf(path)
    told = {"lat": "nominal_satellite_subpoint_lat", "lon": "nominal_satellite_subpoint_lon"}
    with pytest.raises(InputError, match="a geostationary grid"):
        open_netcdf(path, coordinates=told)
    lat, lon = curvilinear(4, 5)
    lat[0, 0] = lon[0, 0] = np.nan  # off the disk
    ds = ds.assign_coords(lat=(("y", "x"), lat), lon=(("y", "x"), lon))
    read = open_netcdf(saved(ds, tmp_path / "with_places.nc"), {"CMI": Wanted()})
    np.testing.assert_array_equal(read["lat"].values, lat)
    assert np.isnan(read["CMI"].values[0, 0])
    assert int(read["CMI"].isnull().sum()) == 1


def test_real_files_of_other_grids_are_refused_by_their_names(shared_data: Path) -> None:
    kinds = {
        "goes_abi/OR_ABI-L1b*.nc": "a geostationary grid",
        "goes_abi/OR_ABI-L2*M3C01*.nc": "a geostationary grid",
        "goes_abi/*window24x24.nc": "a geostationary grid",
        "goes_glm/OR_GLM-L2-GLMC*.nc": "a geostationary grid",
        "goes_glm/OR_GLM-L2-GLMM1*.nc": "a geostationary grid",
        "goes_glm/OR_GLM-L2-LCFA_G19*.nc": "point data: event_lat and event_lon both lie along number_of_events",
        "cmip_samples/tas_rotated*.nc": "a rotated grid",
    }
    for path, kind in kinds.items():
        with pytest.raises(InputError, match=kind):
            open_netcdf(shared_data / path)


def test_cells_of_a_bipolar_grid_without_a_place_are_missing(
    tmp_path: Path, shared_data: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "tos.nc"
    path.write_bytes((shared_data / "cmip_samples/tos_ocean_bipolar_grid.nc").read_bytes())
    with netCDF4.Dataset(path, "a") as ds:
        for name in ("lat", "lon"):
            values = ds[name][:]
            values.reshape(-1)[20000:36016] = 9.96921e36
            ds[name][:] = values
    read = open_netcdf(path)
    assert "16016 of 56320 cells have no latitude or longitude" in caplog.text
    places = read["lat"].notnull()
    assert int((~places).sum()) == 16016
    assert float(read["lat"].max()) < 90
    assert not bool((read["tos"].notnull() & ~places).any())
    assert int(read["tos"].notnull().sum()) > 1000
    area = area_weights(read["tos"])
    assert bool((area.notnull() | ~places).all())


def test_areas_of_a_curvilinear_grid_follow_its_corners(shared_data: Path) -> None:
    read = open_netcdf(shared_data / "cmip_samples/tos_ocean_bipolar_grid.nc")
    by_corners = area_weights(read["tos"])
    assert "cell_area" in read["tos"].coords
    by_centres = area_weights(read["tos"].drop_vars("cell_area"))
    assert float(by_corners.sum()) == pytest.approx(
        4 * np.pi * EARTH_RADIUS**2, rel=0.06
    )  # no cells near the south pole
    ratio = (by_centres / by_corners).values
    assert np.median(ratio) == pytest.approx(1, abs=0.02)


def test_bounds_of_the_file_make_the_cells(tmp_path: Path) -> None:
    ds = xr.Dataset(
        {"tas": plane("time", "lat", "lon", shape=(3, 2, 3)),
         "lat_bnds": (("lat", "bnds"), [[-30.0, -10.0], [-10.0, 40.0]]),
         "lon_bnds": (("lon", "bnds"), [[-5.0, 5.0], [5.0, 50.0], [50.0, 70.0]])},
        {"time": TIME, "lat": ("lat", [-20.0, 0.0], {"bounds": "lat_bnds"}),
         "lon": ("lon", [0.0, 10, 60], {"bounds": "lon_bnds"})},
    )  # fmt: skip
    read = open_netcdf(saved(ds, tmp_path / "a.nc"))
    band = np.diff(np.sin(np.deg2rad([-30, -10, 40])))
    expected = EARTH_RADIUS**2 * np.outer(band, np.deg2rad([10, 45, 20]))
    np.testing.assert_allclose(area_weights(read["tas"]).values, expected, rtol=1e-12)
    np.testing.assert_allclose(area_weights(read["tas"].isel(lat=[1])).values, expected[1:], rtol=1e-12)


def test_bounds_that_do_not_enclose_their_centres_are_left_out(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    ds = xr.Dataset(
        {"tas": plane("time", "lat", "lon", shape=(3, 2, 3)), "lat_bnds": (("lat", "bnds"), [[0.0, 1.0], [1.0, 2.0]])},
        {"time": TIME, "lat": ("lat", [-20.0, 0.5], {"bounds": "lat_bnds"}), "lon": [0.0, 10, 60]},
    )
    read = open_netcdf(saved(ds, tmp_path / "a.nc"))
    assert "bounds of lat do not enclose it" in caplog.text
    assert "lat_south" not in read.coords


def staggered(tmp_path: Path) -> Path:
    t_lat, t_lon = curvilinear(4, 5)
    u_lat, u_lon = curvilinear(4, 6)
    ds = xr.Dataset(
        {"T": plane("time", "south_north", "west_east"),
         "U": plane("time", "south_north", "west_east_stag", shape=(3, 4, 6))},
        {"time": TIME, "XLAT": (("south_north", "west_east"), t_lat), "XLONG": (("south_north", "west_east"), t_lon),
         "XLAT_U": (("south_north", "west_east_stag"), u_lat, {"units": "degree_north"}),
         "XLONG_U": (("south_north", "west_east_stag"), u_lon, {"units": "degree_east"})},
    )  # fmt: skip
    return saved(ds, tmp_path / "wrf.nc")


def test_a_staggered_grid_is_named_and_its_parts_load_alone(tmp_path: Path) -> None:
    path = staggered(tmp_path)
    with pytest.raises(InputError, match=r"a staggered grid: T on XLAT, XLONG; U on XLAT_U, XLONG_U") as caught:
        open_netcdf(path)
    assert "variables: [T]" in str(caught.value)
    assert open_netcdf(path, {"T": Wanted()})["T"].shape == (3, 4, 5)
    u = open_netcdf(path, {"U": Wanted()})["U"]
    assert u.shape == (3, 4, 6)
    np.testing.assert_allclose(u["lat"].values, curvilinear(4, 6)[0])


def test_unstructured_meshes_are_named(tmp_path: Path) -> None:
    ds = xr.Dataset(
        {"ts": plane("time", "ncells", shape=(3, 20))},
        {"time": TIME, "clat": ("ncells", np.linspace(-1, 1, 20), {"standard_name": "latitude", "units": "radian"}),
         "clon": ("ncells", np.linspace(-3, 3, 20), {"standard_name": "longitude", "units": "radian"})},
    )  # fmt: skip
    with pytest.raises(InputError, match="an unstructured grid: clat and clon both lie along ncells"):
        open_netcdf(saved(ds, tmp_path / "icon.nc"))
    with pytest.raises(InputError, match=r"an unstructured grid \(ncells\)"):
        open_netcdf(saved(ds.drop_vars(["clat", "clon"]), tmp_path / "bare.nc"))


def test_a_projection_without_places_is_named(tmp_path: Path) -> None:
    ds = xr.Dataset(
        {"t2m": plane("time", "y", "x"), "crs": ((), 0, {"grid_mapping_name": "lambert_conformal_conic"})},
        {"time": TIME, "y": np.arange(4.0), "x": np.arange(5.0)},
    )
    ds["t2m"].attrs["grid_mapping"] = "crs"
    with pytest.raises(InputError, match=r"a projected grid \(lambert_conformal_conic\)"):
        open_netcdf(saved(ds, tmp_path / "lcc.nc"))


@pytest.mark.parametrize(
    ("lat", "lon", "message"),
    [([0.0, 40.0, 95.0], [0.0, 90, 180, 270], "1 of 3 latitudes lie beyond the poles"),
     ([-20.0, 0.0, 20.0], [0.0, 180, 90, 270], "longitudes do not follow each other around the globe"),
     ([-20.0, 0.0, 20.0], [0.0, 90, 90, 270], "columns 2 and 3 of 4 are both at longitude 90"),
     ([-20.0, 0.0, 20.0], [0.0, 180, 360, 540], "more than a whole turn"),
     (["a", "b", "c"], [0.0, 90, 180, 270], "lat holds text"),
     ([-20.0, 0.0, 20.0], ["a", "b", "c", "d"], "lon holds text"),
     ([], [0.0, 90, 180, 270], "lat is empty")],
)  # fmt: skip
def test_degrees_that_cannot_be_name_the_file(tmp_path: Path, lat: list, lon: list, message: str) -> None:
    ds = xr.Dataset(
        {"tas": plane("time", "lat", "lon", shape=(3, len(lat), len(lon)))},
        {"time": TIME, "lat": ("lat", lat, {"units": "degrees_north"}), "lon": ("lon", lon, {"units": "degrees_east"})},
    )
    with pytest.raises(InputError, match=message) as caught:
        open_netcdf(saved(ds, tmp_path / "a.nc"))
    assert "a.nc" in caught.value.message
    assert caught.value.fix


def test_mixed_longitudes_become_one_convention(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    ds = xr.Dataset(
        {"tas": plane("time", "lat", "lon")}, {"time": TIME, "lat": [0.0, 1, 2, 3], "lon": [0.0, 90, 180, 200, -100]}
    )
    read = open_netcdf(saved(ds, tmp_path / "a.nc"))
    np.testing.assert_array_equal(read["lon"], [0, 90, 180, 200, 260])
    assert "mix conventions" in caplog.text


def test_latitudes_in_radians_are_refused(tmp_path: Path) -> None:
    ds = xr.Dataset(
        {"tas": plane("time", "lat", "lon")},
        {"time": TIME, "lat": ("lat", np.linspace(-1, 1, 4), {"units": "radians"}), "lon": np.arange(5.0)},
    )
    with pytest.raises(InputError, match="lat is in 'radians', expected degrees"):
        open_netcdf(saved(ds, tmp_path / "a.nc"))


def test_a_rotated_grid_with_its_places_loads(tmp_path: Path) -> None:
    lat, lon = curvilinear(4, 5)
    ds = xr.Dataset(
        {"tas": plane("time", "rlat", "rlon"),
         "rotated_pole": ((), 0, {"grid_mapping_name": "rotated_latitude_longitude"})},
        {"time": TIME, "rlat": ("rlat", np.arange(4.0), {"standard_name": "grid_latitude", "units": "degrees"}),
         "rlon": ("rlon", np.arange(5.0), {"standard_name": "grid_longitude", "units": "degrees"}),
         "lat": (("rlat", "rlon"), lat), "lon": (("rlat", "rlon"), lon)},
    )  # fmt: skip
    ds["tas"].attrs["grid_mapping"] = "rotated_pole"
    read = open_netcdf(saved(ds, tmp_path / "a.nc"))
    assert read["tas"].dims == ("time", "y", "x")
    np.testing.assert_array_equal(read["lat"], lat)


def test_a_grid_whose_places_have_a_time_is_named(tmp_path: Path) -> None:
    places = {name: (("Time", "y", "x"), np.zeros((3, 4, 5))) for name in ("XLAT", "XLONG")}
    ds = xr.Dataset({"T2": plane("Time", "y", "x")}, {**places, "XTIME": ("Time", TIME)})
    with pytest.raises(InputError, match=r"XLAT\(Time, y, x\) changes with Time: a moving grid"):
        open_netcdf(saved(ds, tmp_path / "wrf.nc"))


def test_lists_of_places_and_several_grids_are_named(tmp_path: Path) -> None:
    station = xr.Dataset(
        {"t": plane("time", "station", shape=(3, 5))},
        {"time": TIME, "lat": ("station", np.arange(5.0)), "lon": ("station", np.arange(5.0))},
        {"featureType": "timeSeries"},
    )
    with pytest.raises(InputError, match="timeseries data: lat and lon both lie along station"):
        open_netcdf(saved(station, tmp_path / "station.nc"))
    two = xr.Dataset(
        {"a": plane("time", "lat", "lon"), "b": plane("time", "lat2", "lon2", shape=(3, 8, 9))},
        {"time": TIME, "lat": np.arange(4.0), "lon": np.arange(5.0),
         "lat2": ("lat2", np.arange(8.0), {"units": "degrees_north"}),
         "lon2": ("lon2", np.arange(9.0), {"units": "degrees_east"})},
    )  # fmt: skip
    path = saved(two, tmp_path / "two.nc")
    with pytest.raises(InputError, match="several grids: a on lat, lon; b on lat2, lon2"):
        open_netcdf(path)
    assert open_netcdf(path, {"b": Wanted()})["b"].shape == (3, 8, 9)
