"""Conditions: what they mean, and that nothing else is understood."""

import numpy as np
import pytest
import xarray as xr

from geoxai.errors import OptionError
from geoxai.statistics.conditions import evaluate, parse_condition

LABEL = xr.DataArray([0, 1, 2, -1], dims="sample", attrs={"flag_values": [0, 1, 2], "flag_meanings": "cold mild warm"})
VARIABLES = {
    "label": LABEL,
    "confidence": xr.DataArray([[0.9, 0.2, np.nan, 0.7], [0.1, 0.2, 0.3, 0.4]], dims=("network", "sample")),
    "month": xr.DataArray([1, 6, 12, 3], dims="sample"),
    "model": xr.DataArray(np.array(["a", "b", "a", "c"], dtype=object), dims="sample"),
    "late": xr.DataArray([True, False, True, False], dims="sample"),
}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("month > 3", [0, 1, 1, 0]),
        ("3 <= month < 12", [0, 1, 0, 1]),
        ("label == 'warm'", [0, 0, 1, 0]),
        ("label != 'warm'", [1, 1, 0, 1]),
        ("label in ['cold', 'warm']", [1, 0, 1, 0]),
        ("'cold' == label", [1, 0, 0, 0]),
        ("label == 1", [0, 1, 0, 0]),
        ("model == 'a' and not late", [0, 0, 0, 0]),
        ("model not in ('a', 'b') or month == 1", [1, 0, 0, 1]),
        ("not (late or month == 6)", [0, 0, 0, 1]),
        ("late and month > -1 and model < 'b'", [1, 0, 1, 0]),
    ],
)
def test_meaning(text, expected):
    assert evaluate(parse_condition(text), VARIABLES).values.astype(int).tolist() == expected


def test_comparisons_with_nan_are_false_and_networks_are_kept():
    holds = evaluate(parse_condition("confidence > 0.25"), VARIABLES)
    assert holds.dims == ("network", "sample")
    assert holds.values.astype(int).tolist() == [[1, 0, 0, 1], [0, 0, 1, 1]]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("month >", "not a condition"),
        ("month", None),
        ("month = 3", "not a condition"),
        ("__import__('os')", "neither true nor false"),
        ("month + 1 > 3", "not allowed"),
        ("month.values > 3", "not allowed"),
        ("late[0] == 1", "not allowed"),
        ("(lambda: 1)() == 1", "not allowed"),
        ("month in label", "needs a list"),
        ("late is True", "write '=='"),
        ("3", "neither true nor false"),
        ("", "not a condition"),
    ],
)
def test_only_conditions_are_understood(text, message):
    if message is None:
        with pytest.raises(OptionError, match="neither true nor false"):
            evaluate(parse_condition(text), VARIABLES)
    else:
        with pytest.raises(ValueError, match=message):
            parse_condition(text)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("moonth > 3", "unknown variable 'moonth'; did you mean 'month'"),
        ("label == 'wram'", "unknown class 'wram'; did you mean 'warm'"),
        ("label > 'cold'", "no order"),
        ("month and late", "neither true nor false"),
        ("not month", "neither true nor false"),
        ("month > 'a'", "cannot be compared"),
    ],
)
def test_what_has_no_meaning_is_named(text, message):
    with pytest.raises(OptionError, match=message):
        evaluate(parse_condition(text), VARIABLES)
