"""The JSON Schema, judged by an independent validator."""

import re
from pathlib import Path

import pytest

from geoxai.config import json_schema
from geoxai.config.document import parse

jsonschema = pytest.importorskip("jsonschema", reason="needs jsonschema (extra test)")


@pytest.fixture
def validator(stages):
    schema = json_schema()
    jsonschema.Draft202012Validator.check_schema(schema)
    return jsonschema.Draft202012Validator(schema)


def test_a_good_config_is_valid(validator, good):
    assert list(validator.iter_errors(parse(good, "c.yaml").data)) == []


def test_variables_are_valid_anywhere(validator, good):
    text = good.replace("[1951, 1994]", '["${vars.first}", 1994]').replace("seed: 7", 'seed: "${vars.first}"')
    text = text.replace("variables: {sst: {units: degC}}", 'variables: "${vars.wanted}"')
    assert list(validator.iter_errors(parse(text, "c.yaml").data)) == []


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("use: index.oni", "use: index.onni"),
        ("fit: [1951, 1994]", "fitt: [1951, 1994]"),
        ("fit: [1951, 1994]", "fit: [1951, x]"),
        ("from: sst", "from_: sst"),
        ("seed: 7", "seed: x"),
        ("workers: 2", "executor: slurm"),
        ("version: 1", "version: 2"),
        ("vars:", "var:"),
        (", path: enso.zarr", ""),
        ("rule: z_box", "rule: zbox"),
    ],
)
def test_a_broken_config_is_not(validator, good, old, new):
    assert old in good
    assert list(validator.iter_errors(parse(good.replace(old, new), "c.yaml").data))


def test_every_option_is_described(stages):
    schema = json_schema()
    assert schema["properties"]["stages"]["additionalProperties"]["properties"]["use"]["enum"] == list(stages)
    options = schema["$defs"]["Anomaly"]["properties"]
    assert options["use"]["const"] == "anomaly"
    assert all(option["description"] for option in options.values())


@pytest.mark.parametrize(
    ("old", "new", "named"),
    [
        ("fit: [1951, 1994]", "fitt: [1951, 1994]", "'fitt' was unexpected"),
        ("fit: [1951, 1994]", "fit: [1951, x]", "'x' is not of type 'integer'|'x' does not match"),
        ("{sst: {units: degC}}", "{sst: {unit: degC}}", "'unit' was unexpected"),
        ("rule: z_box", "rule: zbox", "'zbox' is not one of|'zbox' does not match"),
        ("use: index.oni", "use: index.onni", "'index.onni' is not one of"),
        ("workers: 2", "wrokers: 2", "'wrokers' was unexpected"),
        (", path: enso.zarr", "", "'path' is a required property"),
    ],
)
def test_what_a_validator_says_names_what_is_wrong(validator, good, old, new, named):
    assert old in good
    (error,) = validator.iter_errors(parse(good.replace(old, new), "c.yaml").data)
    said = [error.message, *(part.message for part in error.context or ())]
    assert re.search(named, "\n".join(said))
    assert "unexpected" not in named or re.search(named, error.message)  # at the top, not in one branch of several


@pytest.mark.parametrize(
    "misspelt",
    [
        {"use": "train", "epoch": 5},
        {"use": "train", "architecture": {"mlp": {"hiden": [8]}}},
        {"use": "train", "early_stopping": {"patiense": 3}},
        {"use": "region", "mask": {"from": "a", "kep": [0]}},
        {"use": "model", "path": "x.pt", "expect": {"acuracy": 0.9}},
        {"use": "explain.lrp", "target": {"pont": {"lat": 0, "lon": 0}}},
        {"use": "plot.maps", "contours": {"variabel": "x"}},
        {"use": "load.netcdf", "path": "x.nc", "variables": {"sst": {"unitz": "K"}}},
    ],
)
def test_so_it_does_with_the_stages_there_are(misspelt):
    words = {"epoch", "hiden", "patiense", "kep", "acuracy", "pont", "variabel", "unitz"}
    (word,) = words & set(_keys(misspelt))
    validator = jsonschema.Draft202012Validator(json_schema())
    errors = list(validator.iter_errors({"version": 1, "stages": {"it": misspelt}}))
    assert any(f"'{word}' was unexpected" in error.message for error in errors), [error.message for error in errors]


@pytest.mark.parametrize("name", ["enso", "enso_demo"])
def test_shipped_configs_are_valid(name):
    path = Path(__file__).parents[2] / "configs" / f"{name}.yaml"
    validator = jsonschema.Draft202012Validator(json_schema())
    assert list(validator.iter_errors(parse(path.read_text(), "c.yaml").data)) == []


def _keys(value):
    if isinstance(value, dict):
        return [*value, *(key for one in value.values() for key in _keys(one))]
    return [key for one in value for key in _keys(one)] if isinstance(value, list) else []
