"""The YAML dialect: JSON with YAML's looks."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from geoxai.config.document import dump, parse


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-3", 0.001),
        ("-2.5E+3", -2500.0),
        (".5", 0.5),
        ("5.", 5.0),
        ("+7", 7),
        ("-.inf", -math.inf),
        ("true", True),
        ("~", None),
        ("null", None),
        ("", None),
        ("'1'", "1"),
        ("010", "010"),
        ("0x1F", "0x1F"),
        ("1_000", "1_000"),
        ("12:30:00", "12:30:00"),
        ("1997-12-01", "1997-12-01"),
        ("on", "on"),
        ("no", "no"),
        ("yes", "yes"),
        ("<<", "<<"),
        ("=", "="),
    ],
)
def test_scalars(text, value):
    found = parse(f"a: {text}", "f").data["a"]
    assert found == value
    assert type(found) is type(value)


def test_keys_are_text():
    assert parse("{1: a, true: b, 1997-12: c}", "f").data == {"1": "a", "true": "b", "1997-12": "c"}


def test_byte_order_mark_and_windows_lines(tmp_path):
    from geoxai.config.document import read

    (tmp_path / "f.yaml").write_bytes(b"\xef\xbb\xbfa: 1\r\nb: {c: x}\r\n")
    document = read(tmp_path / "f.yaml")
    assert document.data == {"a": 1, "b": {"c": "x"}}
    place = document.value_place(("b", "c"))
    assert (place.line, place.column, place.snippet) == (2, 8, "b: {c: x}")


plain = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.text("abN01 -:#{}[]'\"\né&*!|>%@`$,=")
    | st.sampled_from(["010", "1e-3", "on", "12:30", "${vars.x}", "~", "# no", "- a", "1997-12-01", "0x1F", ".inf"]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text("abc.: -#{1", min_size=1), inner, max_size=4),
)


@given(st.dictionaries(st.text("abcxyz_0", min_size=1), plain))
def test_what_is_dumped_is_read_back(data):
    document = parse(dump(data), "f")
    assert document.findings == []
    assert (document.data or {}) == data


@given(st.text("ab:{}[],'\"\n -#&*!|>%@`${}.1", max_size=40))
def test_any_text_is_read_or_reported_at_a_place(text):
    document = parse(text, "f")
    lines = text.count("\n") + 1
    assert all(1 <= finding.place.line <= lines and finding.place.column >= 1 for finding in document.findings)
