"""Shares of regions and centroid longitudes."""

import numpy as np
import pytest
import xarray as xr

from geoxai.grid.area import area_weights
from geoxai.grid.regions import region_mask
from geoxai.statistics.shares import centroid_longitude, region_shares


def field(values=1.0, lon=None):
    lat, lon = np.arange(-85.0, 90, 10), np.arange(0.0, 360, 10) if lon is None else lon
    coords = {"channel": ["sst"], "lat": lat, "lon": lon}
    return xr.DataArray(np.full((1, lat.size, lon.size), values), coords, ("channel", "lat", "lon"))


def test_even_relevance_has_the_share_of_cells_and_even_density_the_share_of_area():
    mask, even = region_mask(field(), "tropical_pacific"), field()
    area = area_weights(even)
    shares = region_shares(even, mask, area)
    assert float(shares["relevance_share"]) == pytest.approx(float(mask.sum()) / mask.size)
    assert float(shares["cell_share"]) == float(shares["relevance_share"])
    density = region_shares((even * area).transpose(*even.dims), mask, area)
    assert float(density["relevance_share"]) == pytest.approx(float(density["area_share"]))
    assert float(density["area_share"]) > float(density["cell_share"])


def test_cells_without_data_count_nowhere_and_signs_do_not_cancel():
    r = field()
    r[0, :9] = np.nan
    r[0, 9, ::2] *= -1
    mask = (r["lat"] > 0) & (r["lon"] < 180)
    shares = region_shares(r, mask, area_weights(r))
    assert float(shares["relevance_share"]) == pytest.approx(0.5)
    assert float(shares["cell_share"]) == pytest.approx(0.5)
    assert float(shares["area_share"]) == pytest.approx(0.5)


@pytest.mark.parametrize("convention", ["0..360", "-180..180"])
@pytest.mark.parametrize("centre", [0, 10, 180, 190, 350])
def test_centroid_across_every_seam(centre, convention):
    lon = np.arange(0.0, 360, 10) if convention == "0..360" else np.arange(-180.0, 180, 10)
    r = field(0.0, lon)
    for offset, weight in ((-20, 1.0), (0, -3.0), (20, 1.0)):
        r.loc[{"lon": lon[np.argmin(np.abs((lon - centre - offset + 180) % 360 - 180))]}] = weight
    found = float(centroid_longitude(r))
    assert (found - centre + 180) % 360 - 180 == pytest.approx(0, abs=1e-9)
    assert lon.min() - 1e-9 <= found <= lon.max() + 10


def test_no_relevance_has_no_centroid():
    r = field(0.0)
    assert np.isnan(centroid_longitude(r))
    assert np.isnan(centroid_longitude(field(1.0)))  # all around the Earth alike
