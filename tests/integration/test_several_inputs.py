"""Networks of several inputs, on one grid and on several, from files to maps."""

import json

import numpy as np
import pytest
import torch
import xarray as xr

import geoxai
from tests.integration.fields import GRIDS, Two, area_inside, field, geoxai_, store, write_fields

CONFIG = """\
version: 1
name: two
output: {{dir: {folder}/run}}
compute: {{executor: serial}}
stages:
  sst: {{use: load.netcdf, path: {folder}/sst.nc}}
  slp: {{use: load.netcdf, path: {folder}/slp.nc}}
  z500: {{use: load.netcdf, path: {folder}/z500.nc}}
  rain: {{use: load.netcdf, path: {folder}/rain.nc}}
  labels: {{use: labels.table, path: {folder}/labels.csv, from: sst}}
  samples: {{use: samples, {samples}}}
  network: {{use: model, path: {folder}/net.pt, architecture: "tests.integration.fields:Two", {network}}}
  {more}
"""
BOTH = "inputs: {surface: [sst, slp], upper: z500}"


@pytest.fixture
def config(tmp_path):
    def write(grid="coarse", samples="labels: labels", network="args: {first: 2}", more=(), **options):
        sst = field("sst", 0, units="K")
        sst[:, :2, :3] = np.nan
        fields = {"sst": sst, "slp": field("slp", 1), "z500": field("z500", 2, grid), "rain": field("rain", 3)}
        write_fields(tmp_path, **fields)
        torch.save(Two(first=2).state_dict(), tmp_path / "net.pt")
        path = tmp_path / "config.yaml"
        text = CONFIG.format(folder=tmp_path, samples=f"{BOTH}, {samples}", network=network, more="\n  ".join(more))
        path.write_text(text)
        return path

    return write


def own(grid, name):
    """The dims of one input."""
    end = "" if grid == "coarse" else f"_{name}"
    return (f"channel_{name}", f"lat{end}", f"lon{end}")


@pytest.mark.parametrize("grid", GRIDS)
def test_from_files_to_maps_and_composites(tmp_path, config, grid):
    more = [
        "forecast: {use: predict}",
        "relevance: {use: explain.lrp, rules: epsilon, target: warm, score: logit, chunk: 16, batch_size: 16}",
        "slope: {use: explain.gradient, target: warm, score: logit}",
        "composite: {use: composite, from: relevance, where: all, normalize: l1, regions: [tropics], chunk: 16}",
        "result: {use: write.zarr, from: [relevance, composite], path: out.zarr}",
        "flat: {use: write.netcdf, from: composite}",
        "maps: {use: plot.maps, from: composite, variable: relevance_mean_upper, contours: {}}",
    ]
    split = "labels: labels, split: {train: [1990, 1991], test: [1992, 1993]}"
    done = geoxai_("run", path := config(grid, samples=split, more=more))
    assert done.exit_code == 0, done.output
    run = tmp_path / "run"
    samples = store(run, "samples")
    assert samples.attrs["network_inputs"] == "surface upper"
    assert samples["inputs_surface"].dims == ("sample", *own(grid, "surface"))
    assert samples["inputs_upper"].shape[-2:] == GRIDS[grid]
    assert list(samples["channel_surface"].values) == ["sst", "slp"]
    assert list(samples["units_surface"].values) == ["K", "1"]
    for name, channel in (("surface", "sst"), ("upper", "z500")):
        given = field(channel, {"sst": 0, "z500": 2}[channel], "coarse" if name == "surface" else grid)
        part = samples[f"inputs_{name}"].sel({f"channel_{name}": channel})
        mean, sd = (samples[f"scaling_{k}_{name}"].sel({f"channel_{name}": channel}) for k in ("mean", "sd"))
        there = samples[f"valid_{name}"].sel({f"channel_{name}": channel}).values
        back = (part * sd + mean).values
        np.testing.assert_allclose(back[:, there], given.values[:, there], rtol=1e-5, atol=1e-6)
        lat = samples[own(grid, name)[1]]
        np.testing.assert_array_equal(lat, given["lat"])
        assert lat.attrs["standard_name"] == "latitude"
        assert lat.attrs["units"] == "degrees_north"

    x = [torch.tensor(samples[f"inputs_{name}"].values).requires_grad_() for name in ("surface", "upper")]
    logits = Two(first=2).eval()
    logits.load_state_dict(torch.load(tmp_path / "net.pt"))
    out = logits(*x)
    out[:, 1].sum().backward()
    np.testing.assert_array_equal(store(run, "forecast")["prediction"], out.argmax(1))
    maps, slope = store(run, "relevance"), store(run, "slope")
    np.testing.assert_allclose(maps["target_value"], out[:, 1].detach(), rtol=1e-4, atol=1e-6)
    total = maps["bias_relevance"] + maps["stabiliser_relevance"] + maps["lost_relevance"]
    for name, tensor in zip(("surface", "upper"), x):
        relevance, inputs = maps[f"relevance_{name}"], samples[f"inputs_{name}"]
        assert relevance.dims == inputs.dims
        assert set(relevance.coords) >= set(inputs.coords)
        for key in inputs.coords:
            np.testing.assert_array_equal(relevance[key], inputs[key])
        assert (relevance.isnull() == ~samples[f"valid_{name}"]).all()
        total = total + relevance.astype(float).sum(relevance.dims[1:])
        gradient = slope[f"relevance_{name}"].values
        np.testing.assert_allclose(np.nan_to_num(gradient - tensor.grad.numpy()), 0, atol=1e-6)
    np.testing.assert_allclose(total, maps["target_value"], rtol=1e-4, atol=1e-5)
    assert "bias_relevance" not in slope

    check_composite(run, maps, samples)
    tree = xr.open_datatree(run / "out.zarr", engine="zarr")
    assert tree["relevance"].attrs["network_inputs"] == "surface upper"
    assert (run / "figures" / "maps.png").stat().st_size > 5000
    assert "conv2d" in geoxai_("rules", path).output
    stamp = (run / "relevance.zarr" / "relevance_upper" / "zarr.json").stat().st_mtime_ns
    assert geoxai_("run", path).exit_code == 0
    assert (run / "relevance.zarr" / "relevance_upper" / "zarr.json").stat().st_mtime_ns == stamp


def check_composite(run, maps, samples):
    """One norm for all inputs of a sample: their relevances stay comparable."""
    found, numbers = store(run, "composite"), json.loads((run / "composite.json").read_text())
    names = ("surface", "upper")
    told = found["relevance_mean_upper"].attrs["long_name"]
    assert told == "mean relevance, each map divided by its sum of |relevance| over all inputs"
    size = sum(abs(maps[f"relevance_{n}"].astype(float)).sum(maps[f"relevance_{n}"].dims[1:]) for n in names)
    for number, class_ in enumerate(found["class"].values):
        members = (maps["label"] == number).values
        used = members & ~maps["nonpositive_target"].values
        assert numbers["classes"][class_]["n_all"] == members.sum()
        assert numbers["classes"][class_]["n_used"] == used.sum()
        share = {}
        for name in names:
            expected = (maps[f"relevance_{name}"].astype(float) / size).values[used].mean(axis=0)
            got = found[f"relevance_mean_{name}"].sel({"class": class_})
            np.testing.assert_allclose(got, expected, rtol=1e-6, atol=1e-9)
            share[name] = np.nansum(abs(expected))
            told = numbers["classes"][class_]["inputs"][name]
            assert 0 < told["regions"]["tropics"]["relevance_share"] < 1
            physical = samples[f"inputs_{name}"] * samples[f"scaling_sd_{name}"] + samples[f"scaling_mean_{name}"]
            there = samples[f"valid_{name}"].values
            mean = physical.transpose(*samples[f"inputs_{name}"].dims).values[used].mean(axis=0)
            inputs = found[f"inputs_mean_{name}"].sel({"class": class_}).values
            np.testing.assert_allclose(inputs[there], mean[there], rtol=1e-5, atol=1e-6)
        for name in names:
            told = numbers["classes"][class_]["inputs"][name]["input_share"]
            assert told == pytest.approx(share[name] / sum(share.values()), rel=1e-6)


@pytest.mark.parametrize("grid", GRIDS)
def test_images_lie_on_the_grid_of_the_first_input(tmp_path, config, grid):
    place = "{box: {lat: [0, 60], lon: [0, 90]}}"
    more = [
        "forecast: {use: predict}",
        "storms: {use: select.pixels, by: difference, where: target > 0, count: 2, separation: 3}",
        f"relevance: {{use: explain.lrp, rules: epsilon, reference: {{climatology: all}}, target: [{place}, "
        "{pixels: storms}]}",
        "composite: {use: composite, from: relevance, normalize: l1}",
        "maps: {use: plot.maps, from: composite, variable: relevance_mean_surface}",
    ]
    done = geoxai_("run", config(grid, "image: rain", "args: {first: 2, head: image}", more))
    assert done.exit_code == 0, done.output
    run = tmp_path / "run"
    samples, forecast, maps, pixels = (store(run, name) for name in ("samples", "forecast", "relevance", "storms"))
    network = Two(first=2, head="image").eval()
    network.load_state_dict(torch.load(tmp_path / "net.pt"))
    x = [torch.tensor(samples[f"inputs_{name}"].values) for name in ("surface", "upper")]
    with torch.no_grad():
        images = network(*x)[:, 0].numpy()
        mean = network(*(a.double().mean(0, keepdim=True).float() for a in x))[:, 0].numpy()
    assert forecast["prediction"].dims == ("sample", "target_channel", "lat", "lon")
    np.testing.assert_allclose(forecast["prediction"][:, 0], images, rtol=1e-4, atol=1e-5)
    lat, lon = forecast["lat"].values, forecast["lon"].values
    weights = area_inside(lat, lon, (0, 60), (0, 90))
    expected = ((images - mean) * weights).sum((1, 2)) / weights.sum()
    np.testing.assert_allclose(maps["target_value"][0], expected, rtol=1e-3, atol=1e-5)
    row, column = pixels["row"].values[:, 0], pixels["column"].values[:, 0]
    truth = field("rain", 3).values
    best = np.where(truth > 0, images - truth, -np.inf).reshape(len(images), -1).argmax(1)
    np.testing.assert_array_equal(row * lon.size + column, best)
    at = np.arange(len(images)), row, column
    np.testing.assert_allclose(maps["target_value"][1], images[at] - mean[0, row, column], rtol=1e-3, atol=1e-5)
    assert maps["relevance_upper"].shape == (3, 48, 1, *GRIDS[grid])
    composite = store(run, "composite")
    for number in range(3):
        used = ~maps["nonpositive_target"].values[number]
        relevance = [maps[f"relevance_{name}"][number].values.astype(float) for name in ("surface", "upper")]
        size = sum(np.nansum(abs(r), axis=(1, 2, 3), keepdims=True) for r in relevance)
        for name, values in zip(("surface", "upper"), relevance):
            got = composite[f"relevance_mean_{name}"].isel({"target": number, "class": 0})
            np.testing.assert_allclose(got, (values / size)[used].mean(0), rtol=1e-6, atol=1e-9)


def test_every_input_has_its_own_orientation_and_scaling(tmp_path, config):
    """The second is wanted south first, from 0 to 360, flat, and in physical units over 10."""
    program = torch.export.export(Turned().eval(), (torch.zeros(7, 2, 8, 12), torch.zeros(7, 180)))
    torch.export.save(program, tmp_path / "turned.pt2")
    wishes = "{lat: ascending, lon: 0..360, layout: flat, scaling: {z500: {factor: 10}}}"
    network = f"task: regression, inputs: {{upper: {wishes}}}"
    more = ["relevance: {use: explain.lrp, rules: epsilon, target: 0}", "forecast: {use: predict}"]
    path = config("fine", "labels: labels, target: value", network, more)
    path.write_text(path.read_text().replace('net.pt, architecture: "tests.integration.fields:Two"', "turned.pt2"))
    done = geoxai_("run", path)
    assert done.exit_code == 0, done.output
    maps, forecast = store(tmp_path / "run", "relevance"), store(tmp_path / "run", "forecast")
    z500 = field("z500", 2, "fine")
    value = 0.3 * z500.sel(lat=z500["lat"][2], lon=-160).values  # third from the north, second from the date line
    np.testing.assert_allclose(forecast["prediction"], value, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(maps["target_value"], value, rtol=1e-4, atol=1e-5)
    upper = abs(maps["relevance_upper"]).sum(("sample", "channel_upper"))
    place = {dim: int(at) for dim, at in zip(upper.dims, np.unravel_index(int(upper.values.argmax()), upper.shape))}
    assert float(upper["lat_upper"][place["lat_upper"]]) == pytest.approx(float(z500["lat"][2]))
    assert float(upper["lon_upper"][place["lon_upper"]]) == -160
    assert float(abs(maps["relevance_surface"]).sum()) == 0
    assert geoxai_("rules", path).exit_code == 0


class Turned(torch.nn.Module):
    """Three times one value of the second input."""

    def forward(self, a, b):
        column = (-160 % 360) // 20  # of 0, 20, ..., 340
        return 3 * b.reshape(-1, 10, 18)[:, 10 - 1 - 2, column : column + 1] + 0 * a.sum((1, 2, 3))[:, None]


def test_gaps_that_vary_in_time(tmp_path, config):
    path = config("fine", "labels: labels, missing: varying", more=["maps: {use: explain.lrp, rules: epsilon}"])
    with xr.open_dataset(tmp_path / "z500.nc") as opened:
        z500 = opened.load()
    z500["z500"][3, 4, 5] = np.nan
    z500.to_netcdf(tmp_path / "z500.nc")
    done = geoxai_("run", path)
    assert done.exit_code == 0, done.output
    samples, maps = store(tmp_path / "run", "samples"), store(tmp_path / "run", "maps")
    assert samples["valid_upper"].dims == samples["inputs_upper"].dims
    assert np.argwhere(maps["relevance_upper"].isnull().values).tolist() == [[3, 0, 4, 5]]
    total = maps["bias_relevance"] + maps["stabiliser_relevance"] + maps["lost_relevance"]
    for name in ("surface", "upper"):
        total = total + maps[f"relevance_{name}"].astype(float).sum(maps[f"relevance_{name}"].dims[1:])
    np.testing.assert_allclose(total, maps["target_value"], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("samples", "network", "more", "words"),
    [
        ("labels: labels", "args: {first: 2}, inputs: {uper: {lat: ascending}}", (), ["surface, upper, not 'uper'"]),
        (
            "labels: labels",
            "args: {first: 2}, inputs: {surface: {channels: [sst]}}",
            (),
            ["(1, 1, 8, 12) and (1, 1, 8, 12)", "2 channel x 8 lat x 12 lon and 1 channel", "order of inputs"],
        ),
        (
            "labels: labels",
            "args: {first: 2}, inputs: {upper: {layout: [lat, sample, lon]}}",
            (),
            ["layout must name sample first"],
        ),
        (
            "labels: labels",
            "args: {first: 2}",
            ["own: {use: train, architecture: {mlp: {}}, from: samples}"],
            ["the networks that train builds take one input", "use: model"],
        ),
        (
            "labels: labels",
            "args: {first: 2}",
            ["maps: {use: plot.maps, from: samples}"],
            ["several variables could be drawn: inputs_surface, "],
        ),
        (
            "labels: labels",
            "args: {first: 2}",
            ["one: {use: samples, inputs: sst, labels: labels}", "forecast: {use: predict, from: one, model: network}"],
            ["the network takes the inputs surface, upper, but the samples have one without a name"],
        ),
        ("labels: labels, scale: {sst: [0, 1], slp: [0, 1]}", "args: {first: 2}", (), ["no constants for channel"]),
    ],
)
def test_mistakes_are_reported_before_anything_is_computed(config, samples, network, more, words):
    told = geoxai_("plan", config(samples=samples, network=network, more=more))
    assert told.exit_code == 2, told.output
    assert all(word in told.output for word in words), told.output


@pytest.mark.parametrize(
    ("inputs", "words"),
    [
        ("{only: [sst]}", "a single one is a list of stages"),
        ("{a-b: [sst], c: [slp]}", "'a-b' cannot be the name of an input"),
        ("{a: [sst], b: [slpp]}", "there is no stage 'slpp'"),
    ],
)
def test_inputs_are_checked_without_data(config, inputs, words):
    path = config()
    path.write_text(path.read_text().replace("{surface: [sst, slp], upper: z500}", inputs))
    told = geoxai_("check", path)
    assert told.exit_code == 2
    assert words in told.output


def test_a_program_of_another_number_of_inputs(tmp_path, config):
    class One(torch.nn.Module):
        def forward(self, x):
            return x.mean((2, 3))

    torch.export.save(torch.export.export(One(), (torch.zeros(2, 2, 8, 12),)), tmp_path / "one.pt2")
    path = config(network="classes: [cold, warm]")
    path.write_text(path.read_text().replace('net.pt, architecture: "tests.integration.fields:Two"', "one.pt2"))
    told = geoxai_("plan", path)
    assert told.exit_code == 2
    assert "the network takes 1 input, the samples have surface, upper" in told.output


class Named(torch.nn.Module):
    """Two fields of one shape, of which the order matters."""

    def forward(self, sst, slp):
        return 2 * sst.mean((1, 2, 3))[:, None] + 0.5 * slp.mean((1, 2, 3))[:, None]


@pytest.fixture
def named(tmp_path, config):
    """A config for a network whose arguments are sst and slp, from a program or a module, for these inputs."""

    def write(inputs, kind="program", examples=2):
        given = [torch.ones(4, 1, 8, 12) for _ in range(examples)]
        program = torch.export.export(Named().eval(), (given[0], given[-1]))
        torch.export.save(program, tmp_path / "net.pt2")
        path = config(
            samples="labels: labels, target: value, scale: none",
            network="task: regression",
            more=["maps: {use: explain.lrp, rules: epsilon, target: 0, chunk: 8, batch_size: 4}"],
        )
        text = path.read_text().replace(BOTH, f"inputs: {inputs}")
        torch.save(Named().state_dict(), tmp_path / "net.pt")
        if kind == "program":
            text = text.replace('net.pt, architecture: "tests.integration.fields:Two"', "net.pt2")
        path.write_text(text.replace("tests.integration.fields:Two", f"{__name__}:Named"))
        return path

    return write


@pytest.mark.parametrize("kind", ["program", "state dict"])
@pytest.mark.parametrize(
    ("inputs", "words"),
    [
        (
            "{slp: [slp], sst: [sst]}",
            [
                "arguments are sst, slp",
                "samples are slp, sst: slp would be taken as sst",
                "inputs: {sst: ..., slp: ...}",
            ],
        ),
        ("{slp: [slp], upper: [z500]}", ["arguments are sst, slp", "samples are slp, upper", "in the order of"]),
        ("{lower: [slp], sst: [sst]}", ["samples are lower, sst: sst would be taken as slp"]),
    ],
)
def test_inputs_in_another_order_than_the_arguments_are_refused(named, kind, inputs, words):
    told = geoxai_("plan", named(inputs, kind))
    assert told.exit_code == 2, told.output
    assert all(word in told.output for word in words), told.output


@pytest.mark.parametrize(
    ("inputs", "note"),
    [
        ("{sst: [sst], slp: [slp]}", None),
        ("{a: [sst], b: [slp]}", "inputs by their order: a -> argument 1 sst, b -> argument 2 slp"),
    ],
)
def test_a_note_says_which_input_is_which_argument(tmp_path, named, inputs, note):
    done = geoxai_("run", named(inputs))
    assert done.exit_code == 0, done.output
    assert "does not reach" not in (tmp_path / "run" / "run.log").read_text()
    notes = json.loads(store(tmp_path / "run", "maps").attrs["notes"])
    assert [n for n in notes if n.startswith("inputs by")] == ([note] if note else [])


def test_an_input_that_the_network_never_reads_is_reported_once(tmp_path, named):
    done = geoxai_("run", named("{sst: [sst], slp: [slp]}", examples=1))
    assert done.exit_code == 0, done.output
    log = (tmp_path / "run" / "run.log").read_text()
    maps = store(tmp_path / "run", "maps")
    unread = [name for name in ("sst", "slp") if not maps[f"relevance_{name}"].fillna(0).any()]
    assert len(unread) == 1
    assert log.count(f"input '{unread[0]}' does not reach the explained output") == 1, log


def test_an_input_of_negative_contributions_alone_is_read(caplog):
    """It gets no relevance from a rule for positive contributions, but the network does use it."""

    class Difference(torch.nn.Module):
        def forward(self, a, b):
            return a.mean((1, 2, 3))[:, None] - b.mean((1, 2, 3))[:, None]

    a, b = (np.full((3, 1, 4, 5), value, np.float32) for value in (2, 1))
    inputs = xr.Dataset({"a": (("sample", "channel", "lat", "lon"), a), "b": (("sample", "channel", "lat", "lon"), b)})
    maps = geoxai.explain(Difference().eval(), inputs, rules="z_plus", target=0)
    assert not maps["relevance_b"].any()
    assert maps["relevance_a"].any()
    assert "does not reach" not in caplog.text


def test_keras_takes_its_inputs_as_a_list_or_by_name(tmp_path, config):
    keras = pytest.importorskip("keras")
    if keras.backend.backend() != "torch":
        pytest.skip("keras runs on another backend here")
    a, b = keras.Input((8, 12, 2), name="zz"), keras.Input((10, 18, 1), name="aa")
    x = [keras.layers.GlobalAveragePooling2D()(keras.layers.Conv2D(3, 3, activation="relu")(i)) for i in (a, b)]
    outputs = keras.layers.Dense(2)(keras.layers.Concatenate()(x))
    for form in ([a, b], {"zz": a, "aa": b}):
        network = keras.Model(form, outputs)
        network.save(tmp_path / "two.keras")
        relevance = "relevance: {use: explain.lrp, rules: epsilon, target: warm, score: logit}"
        path = config("fine", network="layout: [sample, lat, lon, channel]", more=[relevance])
        source = path.read_text().replace('net.pt, architecture: "tests.integration.fields:Two"', "two.keras")
        path.write_text(source)
        if isinstance(form, dict):  # Keras sorts the names of a dict: aa, zz
            path.write_text(source.replace("surface: [sst, slp], upper: z500", "upper: z500, surface: [sst, slp]"))
        done = geoxai_("run", path)
        assert done.exit_code == 0, done.output
        samples, maps = store(tmp_path / "run", "samples"), store(tmp_path / "run", "relevance")
        given = [np.moveaxis(samples[f"inputs_{n}"].values, 1, -1) for n in ("surface", "upper")]
        expected = network(dict(zip(("zz", "aa"), given)) if isinstance(form, dict) else given)[:, 1]
        np.testing.assert_allclose(maps["target_value"], expected.detach(), rtol=1e-3, atol=1e-5)
        assert maps["relevance_surface"].dims[1:] == ("channel_surface", "lat_surface", "lon_surface")
        paths = {row["path"] for row in json.loads(maps.attrs["rule_table"])}
        assert {layer.name for layer in network.layers if "conv" in layer.name or "dense" in layer.name} <= paths
