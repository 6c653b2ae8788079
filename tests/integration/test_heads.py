"""Networks that return several outputs: one is named, and everything is about that one."""

import json

import numpy as np
import pytest
import torch

from geoxai.errors import OptionError
from geoxai.models.heads import pick
from tests.integration.fields import Heads, field, geoxai_, store, write_fields

CONFIG = """\
version: 1
name: heads
output: {{dir: {folder}/run}}
compute: {{executor: serial}}
stages:
  sst: {{use: load.netcdf, path: {folder}/sst.nc}}
  rain: {{use: load.netcdf, path: {folder}/rain.nc}}
  labels: {{use: labels.table, path: {folder}/labels.csv, from: sst}}
  samples: {{use: samples, inputs: [sst], scale: none, {about}}}
  network:
    {{use: model, path: {folder}/net.pt, architecture: "tests.integration.fields:Heads", {options}}}
  {more}
"""
CLASSES = "labels: labels"
IMAGE = "image: rain"


@pytest.fixture
def config(tmp_path):
    write_fields(tmp_path, sst=field("sst", 0), rain=field("rain", 1))
    torch.save(Heads().state_dict(), tmp_path / "net.pt")

    def write(about, options, *more):
        path = tmp_path / "config.yaml"
        path.write_text(CONFIG.format(folder=tmp_path, about=about, options=options, more="\n  ".join(more)))
        return path

    return write


@pytest.fixture
def output(tmp_path):
    """What the network itself returns for the samples of the run."""

    def returned(name):
        with torch.no_grad():
            return Heads().eval()(torch.tensor(store(tmp_path / "run", "samples")["inputs"].values))[name].numpy()

    return returned


PREDICT = "forecast: {use: predict}"


def test_classes_are_predicted_and_explained_from_their_head(tmp_path, config, output):
    relevance = "relevance: {use: explain.lrp, rules: epsilon, target: warm, score: logit}"
    done = geoxai_("run", path := config(CLASSES, "head: classes", PREDICT, relevance))
    assert done.exit_code == 0, done.output
    logits = output("classes")
    found = store(tmp_path / "run", "forecast")
    np.testing.assert_array_equal(found["prediction"], logits.argmax(1))
    maps = store(tmp_path / "run", "relevance")
    np.testing.assert_allclose(maps["target_value"], logits[:, 1], rtol=1e-4, atol=1e-6)
    parts = maps["bias_relevance"] + maps["stabiliser_relevance"] + maps["lost_relevance"]
    total = maps["relevance"].astype(float).sum(("channel", "lat", "lon")) + parts
    np.testing.assert_allclose(total, maps["target_value"], rtol=1e-4, atol=1e-5)
    table = geoxai_("rules", path).output
    assert "classes" in table
    assert "epsilon: for dense layers" in table
    assert "doi:10.1371/journal.pone.0130140" in table
    rows = json.loads(maps.attrs["rule_table"])
    assert {row["path"] for row in rows if row["rule"]} >= {"body", "classes"}
    assert not {row["path"] for row in rows} & {"image", "value"}


def test_a_place_on_the_image_of_one_head(tmp_path, config, output):
    place = "{point: {lat: 30, lon: 60}}"
    more = [
        PREDICT,
        "storms: {use: select.pixels, count: 2, separation: 2}",
        f"relevance: {{use: explain.lrp, rules: epsilon, target: [{place}, {{pixels: storms}}]}}",
        f"slope: {{use: explain.gradient, target: {place}}}",
    ]
    done = geoxai_("run", config(IMAGE, "head: image", *more))
    assert done.exit_code == 0, done.output
    images = output("image")[:, 0]
    maps, pixels = store(tmp_path / "run", "relevance"), store(tmp_path / "run", "storms")
    assert maps.sizes["target"] == 3
    row, column = abs(maps["lat"].values - 30).argmin(), abs(maps["lon"].values - 60).argmin()
    np.testing.assert_allclose(maps["target_value"][0], images[:, row, column], rtol=1e-4, atol=1e-6)
    flat = images.reshape(len(images), -1)
    np.testing.assert_allclose(maps["target_value"][1], flat.max(1), rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(pixels["value"][:, 0], flat.max(1), rtol=1e-5)
    np.testing.assert_allclose(
        store(tmp_path / "run", "slope")["target_value"], images[:, row, column], rtol=1e-4, atol=1e-6
    )


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ("task: classification", ["'classes' (2 per sample)", "'image' (1 x 8 x 12 per sample)", "head: classes"]),
        ("head: clases", ["head 'clases' is not in", "'classes' (2 per sample)", "for instance head: classes"]),
        (
            "head: image",
            ["head 'image' gives a 1 x 8 x 12 image, but there are 2 classes", "take another head", "set image"],
        ),
        ("head: [value], args: {nested: true}", ["a tuple of 0 (1 per sample), 1 (a dict of 'classes'"]),
        ("head: [1, 7], args: {nested: true}", ["head 7 is not in", "for instance head: [1, classes]"]),
    ],
)
def test_choices_are_listed_where_none_or_no_such_head_is_named(config, options, words):
    told = geoxai_("plan", path := config(CLASSES, options))
    assert told.exit_code == 2
    assert all(word in told.output for word in words), told.output
    line = next(n for n, text in enumerate(path.read_text().splitlines(), 1) if options in text)
    assert f"{path}:{line}:" in told.output or f"{path}:{line - 1}:" in told.output


@pytest.mark.parametrize(
    ("head", "example"),
    [
        ((2, "deep"), "[2, deep, 0]"),
        (-1, "[-1, deep, 0]"),
        ((2, "deap"), "[2, deep, 0]"),
        ((2, "deep", 7), "[2, deep, 0]"),
        ((0, 0), "head: 0"),
        (None, "head: 0"),
        (7, "head: 0"),
    ],
)
def test_the_example_goes_on_from_the_head_that_was_named(head, example):
    score, image = torch.zeros(2, 1), torch.zeros(2, 1, 8, 12)
    with pytest.raises(OptionError) as error:
        pick((score, image, {"deep": [image]}), head)
    assert error.value.fix.endswith(example)


@pytest.mark.parametrize(
    ("about", "options", "target", "words"),
    [
        (CLASSES, "head: classes", "{point: {lat: 30, lon: 60}}", ["target is a place", "'classes'", "gives classes"]),
        (CLASSES, "head: classes", "{box: tropics}", ["name a class, predicted or label, or another head"]),
        (IMAGE, "head: image", "predicted", ["head 'image'", "gives images", "{box: {lat:", "{pixels: stage}"]),
    ],
)
def test_a_target_of_another_kind_of_head(config, about, options, target, words):
    told = geoxai_("plan", config(about, options, f"maps: {{use: explain.lrp, target: {target}}}"))
    assert told.exit_code == 2, told.output
    assert all(word in told.output for word in words), told.output


def test_classes_where_an_image_is_wanted(config):
    told = geoxai_("plan", config(IMAGE, "head: classes"))
    assert told.exit_code == 2
    assert "head 'classes' gives (2,) per sample, expected 1 image of 8 x 12" in told.output
    assert "take another head, or set task, or give the samples labels" in told.output


def test_a_stage_without_rules_does_not_hide_those_of_others(config):
    more = [
        "fine: {use: explain.lrp, target: warm, rules: epsilon}",
        "folded: {use: explain.lrp, target: warm, rules: [{match: last, rule: fold}, {preset: epsilon}]}",
        "place: {use: explain.lrp, target: {box: tropics}}",
        "other: {use: explain.lrp, target: cold, rules: z_plus}",
    ]
    told = geoxai_("rules", path := config(CLASSES, "head: classes", *more))
    assert told.exit_code == 2
    assert "fine\n" in told.stdout
    assert "other\n" in told.stdout
    assert told.stdout.count("conv2d") == 2
    lines = path.read_text().splitlines()
    for name, words in (("folded", "rule 'fold' does not apply to linear at classes"), ("place", "target is a place")):
        number = next(n for n, line in enumerate(lines, 1) if line.startswith(f"  {name}:"))
        option = lines[number - 1].index("[" if name == "folded" else "{box") + 1
        assert f"{path}:{number}:{option}: stage '{name}': {words}" in told.stderr
    assert "fold is for batch norms in eval right behind a dense layer or convolution: drop it" in told.stderr


def test_a_mistake_above_is_reported_once_at_its_stage(config):
    more = ["a: {use: explain.lrp, target: warm}", "b: {use: explain.lrp, target: cold}"]
    told = geoxai_("rules", path := config(CLASSES, "head: image", *more))
    assert (told.exit_code, told.stdout) == (2, "")
    assert told.stderr.count(f"{path}:") == 1
    assert "stage 'network': head 'image' gives" in told.stderr


def test_a_nested_head_is_named_by_a_list(tmp_path, config, output):
    options = "head: [1, classes], args: {nested: true}"
    done = geoxai_("run", config(CLASSES, options, "slope: {use: explain.gradient, target: warm, score: logit}"))
    assert done.exit_code == 0, done.output
    np.testing.assert_allclose(
        store(tmp_path / "run", "slope")["target_value"], output("classes")[:, 1], rtol=1e-4, atol=1e-6
    )


def test_an_exported_program_keeps_its_heads(tmp_path, config, output):
    program = torch.export.export(Heads().eval(), (torch.zeros(5, 1, 8, 12),))
    torch.export.save(program, tmp_path / "net.pt2")
    path = config(CLASSES, "head: value, task: regression", "maps: {use: explain.lrp, target: 0, rules: epsilon}")
    text = path.read_text().replace('net.pt, architecture: "tests.integration.fields:Heads"', "net.pt2")
    path.write_text(text.replace("labels: labels", "labels: labels, target: value"))
    done = geoxai_("run", path)
    assert done.exit_code == 0, done.output
    maps = store(tmp_path / "run", "maps")
    np.testing.assert_allclose(maps["target_value"], output("value")[:, 0], rtol=1e-4, atol=1e-6)
    table = geoxai_("rules", path)
    assert table.exit_code == 0, table.output
    assert "conv2d" in table.output


def test_keras_networks_have_heads_too(tmp_path, config):
    keras = pytest.importorskip("keras")
    if keras.backend.backend() != "torch":
        pytest.skip("keras runs on another backend here")
    inputs = keras.Input((8, 12, 1))
    x = keras.layers.Flatten()(keras.layers.Conv2D(2, 3, activation="relu")(inputs))
    model = keras.Model(inputs, [keras.layers.Dense(1)(x), keras.layers.Dense(2)(x)])
    model.save(tmp_path / "net.keras")
    path = config(CLASSES, "head: 1, layout: [sample, lat, lon, channel]", "maps: {use: explain.lrp, rules: epsilon}")
    path.write_text(path.read_text().replace('net.pt, architecture: "tests.integration.fields:Heads"', "net.keras"))
    done = geoxai_("run", path)
    assert done.exit_code == 0, done.output
    inputs = np.moveaxis(store(tmp_path / "run", "samples")["inputs"].values, 1, -1)
    logits = model.predict(inputs, verbose=0)[1]
    maps = store(tmp_path / "run", "maps")
    np.testing.assert_array_equal(maps["prediction"], logits.argmax(1))
    np.testing.assert_allclose(maps["target_value"], abs(logits[:, 1] - logits[:, 0]), rtol=1e-3, atol=1e-5)
