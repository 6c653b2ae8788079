"""Images from end to end: predict, pick the pixels that matter, explain them against the climatology."""

import numpy as np
import xarray as xr

import geoxai

CONFIG = """
version: 1
name: pixels
output: {{dir: {folder}/run}}
compute: {{executor: serial}}
stages:
  sst: {{use: load.netcdf, path: "{folder}/sst.nc"}}
  rain: {{use: load.netcdf, path: "{folder}/rain.nc"}}
  samples: {{use: samples, inputs: [sst], image: rain, split: {{train: [1990, 1991], test: [1993, 1993]}}, chunk: 8}}
  network: {{use: train, from: samples, architecture: {{unet: {{}}}}, epochs: 1}}
  predicted: {{use: predict}}
  storms: {{use: select.pixels, where: "target > 0.1", count: 2, separation: 4, border: 2, chunk: 8}}
  maps:
    use: explain.lrp
    target: [{{pixels: storms}}, {{box: {{lat: [-10, 10], lon: [-110, -100]}}}}]
    reference: {{climatology: train}}
    chunk: 8
    batch_size: 8
"""


def test_pixels_against_the_climatology(tmp_path):
    field = np.random.default_rng(0).normal(size=(48, 16, 24)).astype(np.float32)
    coords = {
        "time": xr.date_range("1990-01-01", periods=48, freq="MS"),
        "lat": ("lat", np.linspace(-30, 30, 16), {"units": "degrees_north"}),
        "lon": ("lon", np.arange(0, 360, 15.0), {"units": "degrees_east"}),
    }
    for name, values in (("sst", field), ("rain", np.maximum(field, 0))):
        xr.DataArray(values, coords, ("time", "lat", "lon"), name).to_netcdf(tmp_path / f"{name}.nc")
    config = tmp_path / "config.yaml"
    config.write_text(CONFIG.format(folder=tmp_path))
    geoxai.run(config)
    run = tmp_path / "run"
    maps, pixels = (xr.open_zarr(run / f"{name}.zarr", consolidated=False).load() for name in ("maps", "storms"))
    assert list(maps["target"].values[:2]) == ["storms 0", "storms 1"]
    np.testing.assert_allclose(maps["prediction"][:2].T, pixels["value"], rtol=1e-5, atol=1e-6)
    total = maps["relevance"].astype(float).sum(("channel", "lat", "lon"))
    account = total + maps["bias_relevance"] + maps["stabiliser_relevance"] + maps["lost_relevance"]
    size = np.maximum(abs(maps["target_value"]), abs(maps["relevance"]).sum(("channel", "lat", "lon")))
    assert (abs(account - maps["target_value"]) <= 1e-5 * size).all()
    difference = maps["prediction"] - maps["target_value"]  # the output for the mean input: one number per pixel
    same = (pixels["row"] == pixels["row"][0]) & (pixels["column"] == pixels["column"][0])
    for rank in range(2):
        chosen = difference[rank].values[same.values[:, rank]]
        np.testing.assert_allclose(chosen, chosen[0], rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(difference[2], difference[2][0], rtol=1e-4, atol=1e-6)
    stamp = (run / "maps.zarr" / "relevance" / "zarr.json").stat().st_mtime_ns
    geoxai.run(config)
    assert (run / "maps.zarr" / "relevance" / "zarr.json").stat().st_mtime_ns == stamp
