"""Images over time steps: one step is explained, at its place, whatever the orientation of the network."""

import numpy as np
import pytest
import torch
import xarray as xr

from tests.integration.fields import Steps, area_inside, field, geoxai_, store, write_fields

CONFIG = """\
version: 1
name: steps
output: {{dir: {folder}/run}}
compute: {{executor: serial}}
stages:
  sst: {{use: load.netcdf, path: {folder}/sst.nc}}
  storms: {{use: load.netcdf, path: {folder}/storms.nc}}
  samples: {{use: samples, inputs: [sst], scale: none, image: storms}}
  network: {{use: model, path: {folder}/net.pt, architecture: "tests.integration.fields:Steps", lat: ascending}}
  {more}
"""


@pytest.fixture
def config(tmp_path):
    write_fields(tmp_path, sst=field("sst", 0))
    xr.merge([field("rain", 1), field("hail", 2)]).to_netcdf(tmp_path / "storms.nc")
    torch.save(Steps().state_dict(), tmp_path / "net.pt")

    def write(more):
        path = tmp_path / "config.yaml"
        path.write_text(CONFIG.format(folder=tmp_path, more=more))
        return path

    return write


def test_a_step_of_a_channel_is_explained(tmp_path, config):
    point, box = "point: {lat: 50, lon: 0}", "box: {lat: [-40, 40], lon: [-60, 60]}"
    targets = f"[{{{point}, channel: hail, step: 2}}, {{{box}, channel: rain, step: -1}}, [1, 0, 6, 6]]"
    done = geoxai_("run", config(f"maps: {{use: explain.lrp, rules: epsilon, target: {targets}}}"))
    assert done.exit_code == 0, done.output
    samples, maps = store(tmp_path / "run", "samples"), store(tmp_path / "run", "maps")
    with torch.no_grad():
        own = Steps()(torch.tensor(samples["inputs"].values[:, :, ::-1].copy())).numpy()
    here = own[..., ::-1, :]  # from the north, as the samples are
    lat, lon = samples["lat"].values, samples["lon"].values
    row, column = abs(lat - 50).argmin(), abs(lon).argmin()
    inside = area_inside(lat, lon, (-40, 40), (-60, 60))
    expected = [
        here[:, 2, 1, row, column],
        (here[:, 2, 0] * inside).sum((1, 2)) / inside.sum(),
        own[:, 1, 0, 6, 6],  # an index counts as the network itself does: seventh row from the south
    ]
    np.testing.assert_allclose(maps["target_value"], expected, rtol=1e-4, atol=1e-6)
    for number, (at_row, at_column) in {0: (row, column), 2: (lat.size - 1 - 6, 6)}.items():
        reached = abs(maps["relevance"][number]).sum(("sample", "channel")).values > 0
        window = np.zeros_like(reached)
        window[max(0, at_row - 1) : at_row + 2, at_column - 1 : at_column + 2] = True
        np.testing.assert_array_equal(reached, window)


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ("maps: {use: explain.lrp, target: {point: {lat: 0, lon: 0}, channel: rain}}", "3 steps"),
        ("maps: {use: explain.lrp, target: {point: {lat: 0, lon: 0}, channel: rain, step: 3}}", "target step 3"),
        ("forecast: {use: predict}", "the network gives 3 time steps of images"),
    ],
)
def test_steps_that_are_missing_or_too_many_are_reported(config, more, words):
    told = geoxai_("plan", config(more))
    assert told.exit_code == 2, told.output
    assert words in told.output
