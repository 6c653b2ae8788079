"""Indices against slow loops and against the tables that NOAA publishes."""

from pathlib import Path

import numpy as np
import pytest
import xarray as xr

from geoxai.errors import GeoxaiError
from geoxai.grid.time import year_month
from geoxai.readers.netcdf import Wanted, open_netcdf
from geoxai.readers.tables import read_nino34_long, read_oni
from geoxai.statistics.indices import base_period, classify, nino34, oni, round_half_away


def series(values: np.ndarray, start: str = "1950-01") -> xr.DataArray:
    time = (np.datetime64(start, "M") + np.arange(len(values))).astype("M8[ns]")
    return xr.DataArray(values, {"time": time}, ("time",), attrs={"units": "degC"})


def by_month(da: xr.DataArray) -> dict[int, float]:
    return {m: v for m, v in zip(year_month(da["time"]).tolist(), da.values.tolist()) if not np.isnan(v)}


def agreement(a: xr.DataArray, b: xr.DataArray) -> tuple[int, float, float]:
    """Months in common, correlation, root mean square difference."""
    one, other = by_month(a), by_month(b)
    common = sorted(one.keys() & other.keys())
    x, y = (np.array([d[m] for m in common]) for d in (one, other))
    return len(common), float(np.corrcoef(x, y)[0, 1]), float(np.sqrt(((x - y) ** 2).mean()))


def test_base_periods_are_those_that_noaa_names() -> None:
    whole = {y: base_period(y, 1900, 2050) for y in (1951, 1955, 1956, 1960, 2001, 2005, 2006)}
    assert whole == {1951: (1936, 1965), 1955: (1936, 1965), 1956: (1941, 1970), 1960: (1941, 1970),
                     2001: (1986, 2015), 2005: (1986, 2015), 2006: (1991, 2020)}  # fmt: skip
    assert base_period(2019, 1950, 2022) == (1991, 2020)
    assert base_period(1950, 1950, 2022) == (1951, 1980)
    assert base_period(2000, 1981, 2010) == (1981, 2010)
    assert base_period(2000, 1982, 2011) is None


def test_the_published_table_changes_its_base_where_base_period_does(shared_data: Path) -> None:
    rows = [line.split() for line in (shared_data / "enso_indices/oni.ascii.txt").read_text().splitlines()[1:]]
    base = {int(y): round(float(total) - float(anomaly), 2) for season, y, total, anomaly in rows if season == "JJA"}
    for year in range(1952, 2024):  # JJA lies within one year, so its base is that of the year alone
        same = base_period(year, 1936, 2020) == base_period(year - 1, 1936, 2020)
        if same:
            assert abs(base[year] - base[year - 1]) < 0.015, year


def test_oni_equals_a_slow_loop_with_gaps() -> None:
    rng = np.random.default_rng(1)
    values = 26 + np.sin(np.arange(780) / 9) + 0.002 * np.arange(780) + rng.normal(0, 0.3, 780)
    monthly = series(values).isel(time=np.r_[0:100, 103:780])
    table = by_month(monthly)
    result = by_month(oni(monthly))
    first, last = 1950, 2014
    for month in sorted(table):
        neighbours = [month - 1, month, month + 1]
        if not all(m in table for m in neighbours):
            assert month not in result
            continue
        anomalies = []
        for m in neighbours:
            start, stop = base_period(m // 12, first, last) or (0, 0)
            sample = [table[k] for k in table if k % 12 == m % 12 and start <= k // 12 <= stop]
            anomalies.append(table[m] - sum(sample) / len(sample))
        assert result[month] == pytest.approx(sum(anomalies) / 3, abs=1e-10)


def test_a_short_record_uses_all_of_it_and_says_so(caplog: pytest.LogCaptureFixture) -> None:
    result = oni(series(np.tile(np.arange(12.0), 10)))
    np.testing.assert_allclose(result.values[1:-1], 0, atol=1e-12)
    assert "no base period of 30 years" in caplog.text
    with pytest.raises(GeoxaiError, match="one value per month"):
        oni(series(np.zeros(4)).isel(time=[0, 1, 1, 2]))


def test_nino34_weighs_cells_by_their_part_in_the_box() -> None:
    lat, lon = np.arange(-10.0, 11, 5), np.arange(180.0, 251, 5)
    rng = np.random.default_rng(0)
    da = xr.DataArray(rng.normal(size=(3, 5, 15)), {"time": range(3), "lat": lat, "lon": lon}, ("time", "lat", "lon"))
    total = weight = 0.0
    fine = 0.05
    for south in np.arange(-5, 5, fine):
        for west in np.arange(190, 240, 1.25):
            i = int(np.argmin(np.abs(lat - (south + fine / 2))))
            j = int(np.argmin(np.abs(lon - (west + 0.625))))
            total += da.values[:, i, j] * np.cos(np.deg2rad(south + fine / 2))
            weight += np.cos(np.deg2rad(south + fine / 2))
    np.testing.assert_allclose(nino34(da), total / weight, atol=1e-6)
    west = da.assign_coords(lon=lon - 360).isel(lat=slice(None, None, -1))
    np.testing.assert_allclose(nino34(west), nino34(da), atol=1e-12)


def test_rounding_takes_halves_away_from_zero() -> None:
    values = np.array([0.45, -0.45, 0.44, -0.44, 0.35, 2.25, -0.05, 0.449999])
    np.testing.assert_allclose(round_half_away(values, 1), [0.5, -0.5, 0.4, -0.4, 0.4, 2.3, -0.1, 0.4])


def test_classes_need_thresholds_and_seasons_in_a_row() -> None:
    values = np.array([0.45, 0.5, 0.9, 1.2, 0.6, 0.44, -0.5, -0.6, -0.7, -0.8, np.nan, -0.5, -0.5, 0.3])
    label = classify(series(values))
    assert label.values.tolist() == [2, 2, 2, 2, 2, 1, 1, 1, 1, 1, -1, 1, 1, 1]
    assert label.attrs["flag_meanings"] == "la_nina neutral el_nino"
    assert label.dtype == label.attrs["flag_values"].dtype == np.int16
    loose = classify(series(values), decimals=None, min_seasons=1)
    assert loose.values.tolist() == [1, 2, 2, 2, 2, 1, 0, 0, 0, 0, -1, 0, 0, 1]
    split = series(np.full(6, 1.0)).isel(time=[0, 1, 2, 4, 5])
    assert classify(split).values.tolist() == [1] * 5
    with pytest.raises(GeoxaiError, match="must be the lower"):
        classify(series(values), (0.5, -0.5))


def test_classes_of_the_published_oni(shared_data: Path) -> None:
    table = read_oni(shared_data / "enso_indices/oni.ascii.txt")
    years = table["time"].dt.year
    plain = classify(table, decimals=None, min_seasons=1).where((years >= 1980) & (years <= 2018), -1)
    assert [int((plain == c).sum()) for c in (0, 1, 2)] == [123, 227, 118]  # as data/README of the ERSSTv5 grid counts
    official = classify(table)
    warm = {str(t)[:7] for t in table["time"].values[official.values == 2]}
    cold = {str(t)[:7] for t in table["time"].values[official.values == 0]}
    assert {"1972-11", "1982-12", "1987-06", "1997-12", "2015-12", "2023-12"} <= warm
    assert {"1973-12", "1988-12", "1999-12", "2007-12", "2010-12", "2021-12"} <= cold
    assert not {"2001-06", "2012-12", "2013-06", "1993-06"} & (warm | cold)


def test_indices_of_real_sst_agree_with_the_published_ones(shared_data: Path) -> None:
    published = read_oni(shared_data / "enso_indices/oni.ascii.txt")
    long = read_nino34_long(shared_data / "enso_indices/nino34.long.anom.data.txt")
    had = open_netcdf(shared_data / "sst_hadisst_tropics_5deg/*.nc", {"sst": Wanted(units="degC", file_units="C")})
    ersst = open_netcdf(shared_data / "sst_ersstv5_global_5deg/*.nc", {"sst": Wanted("tos")})

    def close(found: tuple[int, float, float], months: int, correlation: float, difference: float) -> None:
        assert found[0] == months
        assert found[1] > correlation
        assert found[2] < difference

    close(agreement(oni(long), published), 828, 0.987, 0.14)
    close(agreement(oni(nino34(had["sst"])), published), 370, 0.992, 0.13)
    close(agreement(oni(nino34(ersst["sst"])), published), 466, 0.995, 0.10)
    close(agreement(nino34(ersst["sst"]), long), 468, 0.988, 0.14)
