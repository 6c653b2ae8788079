"""The JSON Schema, judged by an independent validator."""

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
