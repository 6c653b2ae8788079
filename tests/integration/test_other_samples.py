"""A network meets samples it was not trained on: what has a name is matched by it, what differs is refused."""

import json
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

from tests.integration.fields import field, geoxai_, store, write_fields

CONFIG = """version: 1
output: {{dir: {run}}}
compute: {{executor: serial}}
stages:
  a: {{use: load.netcdf, path: {folder}/a.nc}}
  b: {{use: load.netcdf, path: {folder}/b.nc}}
  labels: {{use: labels.table, from: a, path: {folder}/labels.csv}}
  own: {{use: samples, inputs: [a], labels: labels, split: {{train: [1990, 1992], test: [1993, 1993]}}, {own}}}
  network: {{use: train, from: own, epochs: 20, learning_rate: 0.01, architecture: {architecture}}}
  other: {{use: samples, inputs: [b], labels: labels, {other}}}
  here: {{use: predict, from: own, model: network}}
  there: {{use: predict, from: other, model: network}}
  maps: {{use: explain.lrp, from: other, model: network, target: label, rules: epsilon}}
  composite: {{use: composite, from: maps, samples: other, where: all}}
"""
MLP = "{mlp: {hidden: [4]}}"


@pytest.fixture
def config(tmp_path):
    """Writes fields and a config: ``b`` is ``a`` unless another field is given."""

    def write(own="scale: standard", other="scale: {like: own}", architecture=MLP, b=None, drop=(), run="run"):
        a = field("sst", 0, units="K") + np.sin(np.arange(48))[:, None, None].astype(np.float32)
        a.attrs["units"] = "K"
        write_fields(tmp_path, a=a.rename("sst"))
        (a if b is None else b(a)).to_netcdf(tmp_path / "b.nc")
        text = CONFIG.format(run=tmp_path / run, folder=tmp_path, own=own, other=other, architecture=architecture)
        text = "\n".join(line for line in text.splitlines() if line.strip().split(":")[0] not in drop)
        (tmp_path / f"{run}.yaml").write_text(text)
        return tmp_path / f"{run}.yaml"

    return write


def refused(path, *words, code=2):
    done = geoxai_("run", path)
    told = " ".join(done.output.split())
    assert done.exit_code == code, done.output
    assert "Traceback" not in told
    for word in words:
        assert word in told, told


def turned(a):
    """The same field written from the south and from Greenwich."""
    b = a.isel(lat=slice(None, None, -1))
    return b.assign_coords(lon=b.lon % 360).sortby("lon")


@pytest.mark.parametrize("classes", ["[cold, warm]", "[warm, cold]"])
@pytest.mark.parametrize("b", [None, turned])
def test_classes_and_orientation_are_matched_by_name(config, tmp_path, classes, b):
    done = geoxai_("run", config(other=f"scale: {{like: own}}, classes: {classes}", b=b))
    assert done.exit_code == 0, done.output
    run = tmp_path / "run"
    here, there, maps = (store(run, name) for name in ("here", "there", "maps"))
    days = {"time": here["time"].values}
    order = there.swap_dims(sample="time").sel(days)
    np.testing.assert_array_equal(here["prediction"], order["prediction"])
    np.testing.assert_allclose(here["probability"], order["probability"], atol=1e-6)
    np.testing.assert_array_equal(here["label"], order["label"])
    here, there = (json.loads((run / f"{name}.json").read_text()) for name in ("here", "there"))
    assert there["networks"][0]["all"]["accuracy"] > 0.9
    composite = store(run, "composite")
    assert composite["n_correct"].sum() == round(48 * there["networks"][0]["all"]["accuracy"])
    label = maps["label"].values == 1
    assert label.any()
    assert (maps["target_value"].values > 0)[label].mean() > 0.9  # the warm are explained as warm


def test_channels_are_matched_by_name(config, tmp_path):
    path = config()
    text = path.read_text().replace("inputs: [a]", "inputs: [a, c]").replace("inputs: [b]", "inputs: [c, b]")
    text = text.replace("  labels:", f"  c: {{use: load.netcdf, path: {tmp_path}/c.nc}}\n  labels:")
    path.write_text(text)
    field("slp", 5, units="hPa").to_netcdf(tmp_path / "c.nc")
    done = geoxai_("run", path)
    assert done.exit_code == 0, done.output
    here, there = (store(tmp_path / "run", name) for name in ("here", "there"))
    np.testing.assert_allclose(
        here["probability"], there.swap_dims(sample="time").sel(time=here["time"].values)["probability"], atol=1e-6
    )


def test_another_scaling_is_refused_with_both_and_advised_against_before(config):
    path = config(other="split: {train: [1990, 1990], test: [1991, 1993]}")
    told = " ".join(geoxai_("check", path).output.split())
    assert "'network' is trained on 'own', but 'other' has a scaling fitted on its own samples" in told
    assert "scale: {like: own}" in told
    assert geoxai_("plan", path).exit_code == 0
    refused(path, "the network was trained on 'sst' as (value -", "these samples have it as (value -", "scale: {like:")


@pytest.mark.parametrize(
    ("b", "words"),
    [
        (lambda a: a.assign_coords(lat=a.lat + 5), ("a different grid", "lat runs from -70 to 70 against -65 to 75")),
        (lambda a: a.assign_coords(lon=a.lon + 15), ("a different grid", "lon runs from")),
        (lambda a: (a - 273.15).assign_attrs(units="degC"), ("is in degC", "but in K in the samples")),
        (lambda a: a.rename("tas"), ("'tas'",)),
    ],
    ids=["lat", "lon", "units", "name"],
)
def test_what_differs_is_named_on_both_sides_while_planning(config, b, words):
    path = config(b=b)
    assert geoxai_("plan", path).exit_code == 2
    refused(path, *words)


def test_units_differ_also_where_constants_are_the_same(config):
    scale = "scale: {sst: [0, 1]}"
    path = config(own=scale, other=scale, b=lambda a: (a - 273.15).assign_attrs(units="degC"))
    refused(path, "the network was trained on 'sst' in K, the samples have it in degC")


def test_a_class_the_network_does_not_know_is_refused(config):
    refused(
        config(other="scale: {like: own}, other: neither, classes: [warm]"), "does not know 'neither'", "cold, warm"
    )


def test_data_where_the_network_saw_none_are_refused(config, tmp_path):
    path = config()
    a = xr.load_dataarray(tmp_path / "a.nc")
    a.where(a.lat > -60).to_netcdf(tmp_path / "a.nc")
    refused(path, "data in 12 cells where those the network was trained on had none", "region")


def test_a_network_of_neighbourhoods_takes_another_grid_when_asked(config, tmp_path):
    path = config(
        own="image: a, scale: {sst: [0, 2]}",
        other="image: b, scale: {sst: [0, 2]}",
        architecture="{unet: {filters: [2]}}",
        b=lambda a: a.assign_coords(lat=a.lat / 2),
        drop=("labels", "maps", "composite"),
    )
    path.write_text(path.read_text().replace("labels: labels, ", ""))
    refused(path, "a different grid", "any_grid: true")
    path.write_text(
        path.read_text().replace("from: other, model: network", "from: other, model: network, any_grid: true")
    )
    done = geoxai_("run", path)
    assert done.exit_code == 0, done.output
    np.testing.assert_allclose(
        store(tmp_path / "run", "there")["prediction"], store(tmp_path / "run", "here")["prediction"]
    )


def test_the_scaling_of_another_run_before_it_exists(config, tmp_path):
    """A second run takes scaling and weights of the first one; it can be checked and planned before that is there."""
    first = config(drop=("other", "there", "maps", "composite"))
    second = tmp_path / "second.yaml"
    text = config(other=f"scale: {{like: {tmp_path}/run}}, classes: [warm, cold]", run="again", b=turned).read_text()
    args = "{channels: 1, grid: [8, 12], outputs: [2], hidden: [4]}"
    network = f"network: {{use: model, path: {tmp_path}/run/network/network-0.pt, from: other, "
    network += f"architecture: 'geoxai.models.architectures:MLP', args: {args}}}"
    lines = [line for line in text.splitlines() if line.strip().split(":")[0] not in ("own", "here", "network")]
    second.write_text("\n".join(lines).replace("  there:", f"  {network}\n  there:"))
    samples_only = tmp_path / "samples.yaml"
    keep = [line for line in lines if line.strip().split(":")[0] not in ("there", "maps", "composite")]
    samples_only.write_text("\n".join(keep))
    assert geoxai_("check", samples_only).exit_code == 0
    assert geoxai_("plan", samples_only).exit_code == 0
    refused(samples_only, "there are no samples of a run in", "run it first", code=3)
    assert geoxai_("run", first).exit_code == 0
    done = geoxai_("run", second)
    assert done.exit_code == 0, done.output
    own, other = (store(tmp_path / run, name) for run, name in (("run", "own"), ("again", "other")))
    np.testing.assert_array_equal(own["scaling_mean"], other["scaling_mean"])
    here, there = store(tmp_path / "run", "here"), store(tmp_path / "again", "there")
    np.testing.assert_allclose(here["probability"], there["probability"], atol=1e-6)
    assert there["class"].values.tolist() == ["cold", "warm"]  # as trained, whatever the order of the samples
    wrong = second.read_text().replace("from: other, architecture", "from: other, classes: [warm, cold], architecture")
    second.write_text(wrong)
    refused(second, "the network was trained on the classes cold, warm, here they are warm, cold")
    second.write_text(
        wrong.replace(f"{{like: {tmp_path}/run}}", "{sst: [1, 2]}").replace(", classes: [warm, cold]", "")
    )
    refused(second, "the network was trained on 'sst' as (value -", "(value - 1) / 2")


def test_a_changed_scaling_of_another_run_makes_samples_anew(config, tmp_path):
    assert geoxai_("run", config(drop=("other", "there", "maps", "composite"))).exit_code == 0
    second = config(other=f"scale: {{like: {tmp_path}/run/own.zarr}}", run="again", drop=("there", "maps", "composite"))
    assert geoxai_("run", second).exit_code == 0
    assert "other done" in " ".join(w for w in geoxai_("plan", second).output.split() if w in ("other", "done"))
    config(own="scale: {sst: [3, 4]}", drop=("other", "there", "maps", "composite"))
    assert geoxai_("run", tmp_path / "run.yaml").exit_code == 0
    assert "inputs.scale.run changed" in geoxai_("plan", second).output
    assert geoxai_("run", second).exit_code == 0
    assert store(tmp_path / "again", "other")["scaling_mean"].values.tolist() == [3.0]


@pytest.mark.parametrize(
    ("scale", "told"),
    [
        ("{like: oen}", "there is no stage 'oen'"),
        ("{like: a}", "takes samples, but stage 'a' gives grid"),
        ("{like: 3}", "scale.like must be text"),
        ("{sst: 3}", "scale.sst must be a list"),
        ("{sst: [1, 2, 3]}", "scale.sst"),
        ("standart", "did you mean 'standard'"),
        ("{like: own, run: own.zarr}", "give one of like and run"),
    ],
)
def test_a_scale_that_makes_no_sense_is_reported_at_its_place(config, scale, told):
    done = geoxai_("check", config(other=f"scale: {scale}"))
    assert done.exit_code == 2
    assert told in " ".join(done.output.split())


def test_what_a_network_learned_from_is_in_its_store(config, tmp_path):
    assert geoxai_("run", config(drop=("other", "there", "maps", "composite"))).exit_code == 0
    network, own = store(tmp_path / "run", "network"), store(tmp_path / "run", "own")
    for name in ("scaling_mean", "scaling_sd", "valid", "lat", "lon", "channel", "units"):
        np.testing.assert_array_equal(network[name], own[name])
    assert network.attrs["classes"] == "cold warm"
    assert Path(tmp_path / "run" / "network" / "network-0.pt").is_file()
