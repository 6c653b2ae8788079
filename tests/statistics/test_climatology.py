"""Climatology and trend against an explicit least-squares fit, cell by cell."""

import cftime
import numpy as np
import pytest
import xarray as xr

from geoxai.errors import OptionError
from geoxai.statistics.climatology import anomalies, anomaly_skeleton, fit_climatology


def fields(n: int = 120, gaps: bool = True, calendar: str = "noleap", seed: int = 0) -> xr.Dataset:
    rng = np.random.default_rng(seed)
    times = [cftime.datetime(1990 + i // 12, i % 12 + 1, 16, calendar=calendar) for i in range(n)]
    values = 280 + 5 * np.sin(np.arange(n) * np.pi / 6)[:, None, None] + 0.01 * np.arange(n)[:, None, None]
    values = values + rng.normal(size=(n, 2, 3))
    if gaps:
        values[rng.random(values.shape) < 0.2] = np.nan
        values[:, 0, 0] = np.nan
    da = xr.DataArray(values, {"time": times, "lat": [0.0, 5.0], "lon": [0.0, 5.0, 10.0]}, ("time", "lat", "lon"))
    da.attrs = {"units": "K", "standard_name": "air_temperature"}
    return da.to_dataset(name="tas")


@pytest.mark.parametrize("detrend", ["none", "linear"])
@pytest.mark.parametrize("years", [None, (1991, 1996)])
def test_anomalies_are_residuals_of_an_explicit_fit(detrend: str, years: tuple[int, int] | None) -> None:
    ds = fields()
    time = np.arange(120)
    used = np.ones(120, bool) if years is None else (time // 12 >= 1) & (time // 12 <= 6)
    columns = [(time % 12 == m).astype(float) for m in range(12)] + ([time / 12] if detrend == "linear" else [])
    design = np.stack(columns, axis=1)
    fitted = fit_climatology(ds, years, detrend)  # type: ignore[arg-type]
    result = anomalies(ds.chunk(time=17), fitted)["tas"]
    assert result.chunks is not None
    assert set(result.coords) == {"time", "lat", "lon"}
    for i, j in np.ndindex(2, 3):
        x = ds["tas"].values[:, i, j]
        valid = used & ~np.isnan(x)
        if not valid.any():
            assert np.isnan(result.values[:, i, j]).all()
            continue
        coefficients = np.linalg.lstsq(design[valid], x[valid], rcond=None)[0]
        np.testing.assert_allclose(result.values[:, i, j], x - design @ coefficients, atol=1e-9)


def test_a_cycle_on_a_straight_line_leaves_nothing_also_outside_the_fit() -> None:
    ds = fields(gaps=False)
    exact = np.arange(120) * 0.02 + 3 * np.cos(np.arange(120) * np.pi / 6)
    ds["tas"] = ds["tas"].copy(data=np.broadcast_to(exact[:, None, None], (120, 2, 3)))
    fitted = fit_climatology(ds, (1993, 1995), "linear")
    assert float(fitted["tas_trend"].max()) == pytest.approx(0.24)
    assert fitted["tas_trend"].attrs["units"] == "K year-1"
    np.testing.assert_allclose(anomalies(ds, fitted)["tas"], 0, atol=1e-10)


def test_chunks_calendar_and_storage_do_not_matter(tmp_path) -> None:  # type: ignore[no-untyped-def]
    ds = fields()
    fitted = fit_climatology(ds, (1990, 1995), "linear")
    fitted.to_zarr(tmp_path / "fit.zarr", consolidated=False)
    stored = xr.open_zarr(tmp_path / "fit.zarr", consolidated=False)
    expected = anomalies(ds, fitted)["tas"].values
    np.testing.assert_array_equal(anomalies(ds.chunk(time=5), stored)["tas"].values, expected)
    other = fields(calendar="360_day").chunk(time=50)
    np.testing.assert_allclose(
        anomalies(other, fit_climatology(other, (1990, 1995), "linear"))["tas"].values, expected, atol=1e-12
    )


def test_the_skeleton_is_the_result_but_for_values() -> None:
    ds = fields().astype("f4").chunk(time=30)
    result, skeleton = anomalies(ds, fit_climatology(ds)), anomaly_skeleton(ds)
    assert result["tas"].dtype == skeleton["tas"].dtype == np.float32
    assert result["tas"].attrs == skeleton["tas"].attrs
    assert result["tas"].attrs["units"] == "K"
    assert "standard_name" not in result["tas"].attrs
    xr.testing.assert_identical(result.coords.to_dataset(), skeleton.coords.to_dataset())
    assert ds["tas"].attrs == fields()["tas"].attrs


def test_years_without_data_and_months_without_a_fit_are_refused(caplog: pytest.LogCaptureFixture) -> None:
    ds = fields()
    with pytest.raises(OptionError, match="the data run from 1990-01-16 to 1999-12-16"):
        fit_climatology(ds, (1950, 1960))
    with pytest.raises(OptionError, match="more than one year"):
        fit_climatology(ds, (1990, 1990), "linear")
    winter = ds.isel(time=np.flatnonzero(np.arange(120) % 12 < 2))
    with pytest.raises(OptionError, match="month 3"):
        anomalies(ds, fit_climatology(winter))
    fit_climatology(ds, (1980, 1995))
    assert "reaches beyond the data, which run from 1990 to 1999" in caplog.text


def test_other_dims_keep_their_own_climatology() -> None:
    ds = xr.concat([fields(gaps=False, seed=s) for s in range(2)], "member").transpose("time", "member", "lat", "lon")
    result = anomalies(ds.chunk(time=24), fit_climatology(ds))["tas"]
    one = fields(gaps=False, seed=1)
    np.testing.assert_allclose(result.isel(member=1), anomalies(one, fit_climatology(one))["tas"], atol=1e-10)
