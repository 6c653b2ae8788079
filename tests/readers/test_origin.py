"""One series from one origin, and without holes that nobody hears of."""

from pathlib import Path

import cftime
import netCDF4
import numpy as np
import pytest

from geoxai.errors import InputError
from geoxai.grid.time import holes
from geoxai.readers.netcdf import open_netcdf
from tests.readers.test_netcdf import field, write

CMIP6 = {
    "source_id": "CanESM5", "experiment_id": "historical", "variant_label": "r1i1p1f1", "grid_label": "gn",
    "table_id": "Amon", "frequency": "mon",
}  # fmt: skip
CMIP5 = {
    "model_id": "CanESM2", "experiment_id": "historical", "realization": 1, "initialization_method": 1,
    "physics_version": 1, "table_id": "Table Amon (31 January 2011) 53b766", "frequency": "mon",
    "source": "CanESM2 2010",
}  # fmt: skip


def pair(tmp_path: Path, first: dict, second: dict) -> str:
    tmp_path = tmp_path / f"pair{len(list(tmp_path.iterdir()))}"  # a file that is still open is not written over
    tmp_path.mkdir()
    for number, attrs in enumerate((first, second)):
        path = write(tmp_path / f"{'ab'[number]}.nc", field(3), np.array([15, 45, 75]) + 91 * number)
        with netCDF4.Dataset(path, "a") as ds:
            ds.setncatts(attrs)
    return str(tmp_path / "[ab].nc")


@pytest.mark.parametrize(
    ("base", "change", "aspect"),
    [(CMIP6, {"source_id": "MIROC6"}, "model"), (CMIP6, {"experiment_id": "ssp585"}, "experiment"),
     (CMIP6, {"variant_label": "r2i1p1f1"}, "variant"), (CMIP6, {"grid_label": "gr"}, "grid"),
     (CMIP6, {"table_id": "day"}, "table"), (CMIP6, {"frequency": "day"}, "frequency"),
     (CMIP5, {"model_id": "MIROC5"}, "model"), (CMIP5, {"experiment_id": "rcp85"}, "experiment"),
     (CMIP5, {"realization": 2}, "variant"), (CMIP5, {"physics_version": 3}, "variant"),
     (CMIP5, {"table_id": "Table day (31 January 2011) 53b766"}, "table"),
     ({"source": "one"}, {"source": "two"}, "model")],
)  # fmt: skip
def test_files_of_different_origin_are_not_joined_unless_asked(
    tmp_path: Path, base: dict, change: dict, aspect: str
) -> None:
    ((name, value),) = change.items()
    path = pair(tmp_path, base, base | change)
    with pytest.raises(InputError, match="different origin") as caught:
        open_netcdf(path)
    for part in (
        "a.nc",
        "b.nc",
        name if aspect != "variant" or "variant_label" in base else "realization",
        f"join: [{aspect}]",
    ):
        assert part in str(caught.value)
    if aspect not in ("table", "variant"):
        assert repr(value) in caught.value.message
    assert open_netcdf(path, join=[aspect]).sizes["time"] == 6


def test_all_differences_are_said_at_once(tmp_path: Path) -> None:
    path = pair(tmp_path, CMIP6, CMIP6 | {"source_id": "MIROC6", "grid_label": "gr"})
    with pytest.raises(InputError, match="source_id is 'CanESM5' and 'MIROC6', grid_label is 'gn' and 'gr'"):
        open_netcdf(path)


@pytest.mark.parametrize(
    "change", [{"table_id": "Table Amon (26 July 2011) 976b7"}, {"source": "CanESM2 2011"}, {"frequency": ""}]
)
def test_attributes_that_are_missing_or_mean_the_same_do_not_differ(tmp_path: Path, change: dict) -> None:
    assert open_netcdf(pair(tmp_path, CMIP5, CMIP5 | change)).sizes["time"] == 6


def test_a_scenario_continues_only_its_own_parent(tmp_path: Path) -> None:
    scenario = CMIP6 | {"experiment_id": "ssp585", "parent_experiment_id": "historical"}
    assert open_netcdf(pair(tmp_path, CMIP6, scenario), join=["experiment"]).sizes["time"] == 6
    other = CMIP6 | {"experiment_id": "ssp126"}
    with pytest.raises(InputError, match=r"b\.nc does not continue .*a\.nc: its parent_experiment_id is 'historical'"):
        open_netcdf(pair(tmp_path, other, scenario), join=["experiment"])


def test_historical_and_scenario_of_cmip5_join_when_asked(shared_data: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = shared_data / "cmip5_hadgem2es_2x2/*.nc"
    with pytest.raises(InputError, match="experiment_id is 'historical' and 'rcp85'"):
        open_netcdf(path)
    assert open_netcdf(path, join=["experiment"]).sizes["time"] == 2881
    assert not caplog.text
    with pytest.raises(InputError, match="source_id is 'CanESM2' and 'CanESM5'"):
        open_netcdf([shared_data / f"cmip_samples/tas_Amon_CanESM{n}*.nc" for n in (2, 5)])


def test_a_hole_between_files_is_said_with_where_and_how_long(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    months = np.array([15, 45, 75, 105, 135, 165])
    for calendar in ("standard", "noleap", "360_day"):
        caplog.clear()
        write(tmp_path / f"{calendar}1.nc", field(6), months, calendar=calendar)
        write(tmp_path / f"{calendar}2.nc", field(6), months + 400, calendar=calendar)
        open_netcdf(str(tmp_path / f"{calendar}[12].nc"))
        assert "the time axis has a hole: 2000-06-" in caplog.text
        assert "is followed by 2001-02-" in caplog.text
        assert "7 x 1 month missing" in caplog.text
        caplog.clear()
        open_netcdf(str(tmp_path / f"{calendar}[12].nc"), time=(2000, 2000))
        assert not caplog.text


def dates(*texts: str) -> np.ndarray:
    return np.array(texts, "M8[ns]")


def monthly(start: str, stop: str) -> np.ndarray:
    return np.arange(start, stop, dtype="M8[M]").astype("M8[ns]")


def test_holes_are_counted_in_the_steps_of_the_axis() -> None:
    assert holes(monthly("2000-01", "2005-01")) == []
    assert [h.missing for h in holes(np.delete(monthly("2000-01", "2005-01"), [5, 20, 21]))] == [1, 2]
    days = np.arange("2000-01-01", "2001-01-01", dtype="M8[D]").astype("M8[ns]")
    assert holes(days) == []
    (hole,) = holes(np.delete(days, slice(30, 40)))
    assert str(hole) == "2000-01-30 is followed by 2000-02-10, 10 x 1 day missing"
    (hole,) = holes(np.delete(np.arange("2000-01-01", "2000-01-03", dtype="M8[h]")[::6].astype("M8[ns]"), 3))
    assert (hole.missing, hole.step) == (1, "6 hours")
    years = dates(*(f"{1890 + i}-07-{11 - i % 10:02d}" for i in range(20)))
    assert holes(years) == []
    (hole,) = holes(np.delete(years, 7))
    assert (hole.missing, hole.step) == (1, "12 months")
    cf = np.array([cftime.Datetime360Day(2000 + m // 12, m % 12 + 1, 30 if m % 2 else 1) for m in range(40) if m != 13])
    assert [h.missing for h in holes(cf)] == [1]


def test_winters_alone_have_no_holes_but_a_missing_winter_is_one() -> None:
    winters = np.concatenate([monthly(f"{y}-11", f"{y + 1}-04") for y in range(1990, 2000)])
    assert holes(winters) == []
    assert len(holes(np.delete(winters, slice(20, 25)))) == 1
    cold = np.concatenate([np.arange(f"{y}-12-01", f"{y + 1}-03-01", dtype="M8[D]") for y in range(1990, 2000)])
    assert holes(cold.astype("M8[ns]")) == []
    assert [h.missing for h in holes(np.delete(cold, [100, 101]).astype("M8[ns]"))] == [2]


def test_real_series_have_no_holes(shared_data: Path, caplog: pytest.LogCaptureFixture) -> None:
    for path in (
        "sst_ersstv5_global_5deg/*.nc",
        "sst_hadisst_tropics_5deg/*.nc",
        "eofs_examples/hgt_djf.nc",
        "hadgem2ao_north_america_a1b/*.nc",
        "pcm_ensemble_annual_tas/*57*.nc",
        "pcm_ensemble_annual_tas/*66*.nc",
    ):
        open_netcdf(shared_data / path)
    assert not caplog.text
