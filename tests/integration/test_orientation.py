"""However a field is stored, the same relevance is at the same place."""

from collections.abc import Callable
from itertools import product
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

from geoxai.pipeline import run
from tests.integration.conftest import ROOT

ORIENTATIONS = list(product(("ascending", "descending"), ("0..360", "-180..180")))


@pytest.fixture(scope="module")
def turned(tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[str, str], Path]:
    """The sample data as one file, stored in every latitude direction and longitude convention."""
    files = sorted((ROOT / "data_samples").glob("sst_*.nc"))
    data = xr.concat([xr.load_dataset(file)[["sst"]] for file in files], "time").drop_encoding()
    folder = tmp_path_factory.mktemp("turned")
    paths = {}
    for lat, lon in ORIENTATIONS:
        out = data if lat == "ascending" else data.isel(lat=slice(None, None, -1))
        if lon == "-180..180":
            out = out.assign_coords(lon=((out.lon + 180) % 360 - 180).assign_attrs(out.lon.attrs)).sortby("lon")
        paths[lat, lon] = folder / f"sst_{lat}_{lon.replace('..', '_to_')}.nc"
        out.to_netcdf(paths[lat, lon])
    return paths


def turned_back(relevance: xr.DataArray) -> np.ndarray:
    """Values with latitude ascending and longitude 0 to 360."""
    return relevance.assign_coords(lon=relevance.lon % 360).sortby(["lat", "lon"]).values


def result(run_dir: Path, stage: str, variable: str) -> xr.DataArray:
    return xr.open_zarr(run_dir / f"{stage}.zarr", consolidated=False)[variable].load()


@pytest.mark.slow
def test_orientation_does_not_move_relevance(
    small: Callable[..., Path], tmp_path: Path, turned: dict[tuple[str, str], Path]
) -> None:
    expected = None
    for i, key in enumerate(ORIENTATIONS):
        done = run(small(f"way{i}", data=str(turned[key]), epochs=5))
        assert done.exit_code == 0, done.message
        relevance = result(tmp_path / f"way{i}", "relevance", "relevance")
        assert bool(relevance.lat[0] < relevance.lat[-1]) == (key[0] == "ascending")
        assert bool(relevance.lon.min() < 0) == (key[1] == "-180..180")
        values = turned_back(relevance)
        composite = turned_back(result(tmp_path / f"way{i}", "composite", "relevance_mean"))
        if expected is None:
            expected = values, composite
            assert np.nanmax(np.abs(values)) > 0
        np.testing.assert_array_equal(values, expected[0], err_msg=str(key))
        np.testing.assert_array_equal(composite, expected[1], err_msg=str(key))


MODEL = """
  own:
    use: model
    from: samples
    path: {weights}
    architecture: geoxai.models.architectures:MLP
    args: {{channels: 1, grid: [45, 72], outputs: [2], hidden: [8, 8]}}
    lat: {lat}
    lon: {lon}
    classes: [la_nina, el_nino]
  own_relevance: {{use: explain.lrp, from: samples, model: own, subset: test, batch_size: 16, chunk: 32}}
"""


@pytest.mark.parametrize("key", ORIENTATIONS[1:], ids=str)
def test_a_model_that_declares_its_orientation(
    small: Callable[..., Path], tmp_path: Path, turned: dict[tuple[str, str], Path], key: tuple[str, str]
) -> None:
    """A network that wants latitude ascending and longitude 0..360 explains data stored in any other way alike."""
    assert run(small("trained", data=str(turned[ORIENTATIONS[0]]), epochs=5), only=["relevance"]).exit_code == 0
    config = small("own", data=str(turned[key]), epochs=5)
    weights = tmp_path / "trained" / "network" / "network-0.pt"
    own = MODEL.format(weights=weights, lat="ascending", lon="0..360")
    config.write_text(config.read_text().split("  network:")[0] + own)
    done = run(config)
    assert done.exit_code == 0, done.message
    expected = result(tmp_path / "trained", "relevance", "relevance").isel(network=0)
    found = result(tmp_path / "own", "own_relevance", "relevance")
    np.testing.assert_array_equal(turned_back(found), turned_back(expected))
