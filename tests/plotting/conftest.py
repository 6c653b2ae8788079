"""Plotting never uses the network: sockets are closed while its tests run."""

import socket

import numpy as np
import pytest
import xarray as xr


@pytest.fixture(autouse=True)
def _no_network(monkeypatch):
    def refuse(*args, **kwargs):
        raise AssertionError("a figure opened a socket")

    monkeypatch.setattr(socket, "socket", refuse)
    monkeypatch.setattr(socket, "create_connection", refuse)


@pytest.fixture
def globe() -> xr.DataArray:
    """A field that says where each cell is: value = lat + lon / 1000, 4 x 5 degrees, -90..90 and 0..360."""
    lat, lon = np.arange(-88.0, 89, 4), np.arange(2.5, 360, 5)
    return xr.DataArray(
        lat[:, None] + lon / 1000,
        coords={"lat": lat, "lon": lon},
        dims=("lat", "lon"),
        name="relevance_mean",
        attrs={"long_name": "mean relevance", "units": "1"},
    )
