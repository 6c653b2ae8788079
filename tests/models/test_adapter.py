"""What a network gets, cell by cell, and the way back: exact for every layout, orientation and channel order."""

import itertools

import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st

from geoxai.errors import OptionError
from geoxai.grid.coordinates import orient
from geoxai.models import Adapter, parse_layout

NAMES = ("a", "b", "c")
LAYOUTS = [("sample", *axes) for axes in itertools.permutations(("channel", "lat", "lon"))]


def field(n=2, channels=3, lat=3, lon=8, descending=False, west=0.0):
    """Every cell holds a number of its own."""
    values = np.arange(n * channels * lat * lon, dtype=np.float32).reshape(n, channels, lat, lon)
    rows = np.linspace(-40, 40, lat)
    return xr.DataArray(
        values,
        {
            "sample": np.arange(n),
            "channel": list(NAMES[:channels]),
            "lat": rows[::-1] if descending else rows,
            "lon": west + np.arange(lon) * 360 / lon,
        },
        ("sample", "channel", "lat", "lon"),
    )


adapters = st.builds(
    Adapter,
    layout=st.sampled_from(LAYOUTS),
    flat=st.booleans(),
    lat=st.sampled_from(["ascending", "descending", None]),
    lon=st.sampled_from(["0..360", "-180..180", None]),
    channels=st.one_of(st.none(), st.permutations(NAMES).map(tuple)),
)
fields = st.builds(
    field,
    n=st.integers(1, 3),
    lat=st.integers(1, 5),
    lon=st.integers(2, 9),
    descending=st.booleans(),
    west=st.sampled_from([0.0, -180.0]),
)


@given(adapters, fields)
@settings(max_examples=200, deadline=None)
def test_relevance_comes_back_to_the_cells_the_network_saw(adapter, inputs):
    assert np.array_equal(adapter.to_samples(adapter.to_network(inputs), inputs), inputs.values)


@given(adapters, fields)
@settings(max_examples=100, deadline=None)
def test_the_network_sees_each_value_at_the_place_it_declares(adapter, inputs):
    """A slow loop: look each cell up by its coordinates."""
    seen = adapter.to_network(inputs)
    turned = orient(inputs, lat=adapter.lat, lon=adapter.lon)
    names = adapter.channels or NAMES
    sizes = dict(zip(("channel", "lat", "lon"), (3, *turned.shape[2:])))
    if adapter.flat:
        seen = seen.reshape(len(seen), *[sizes[axis] for axis in adapter.layout[1:]])
    for place in itertools.product(*(range(sizes[axis]) for axis in adapter.layout[1:])):
        at = dict(zip(adapter.layout[1:], place))
        cell = turned.sel(channel=names[at["channel"]]).isel(lat=at["lat"], lon=at["lon"])
        assert np.array_equal(seen[(slice(None), *place)], cell.values)


@given(fields, st.sampled_from(["ascending", "descending"]), st.sampled_from(["0..360", "-180..180"]))
@settings(max_examples=100, deadline=None)
def test_a_network_sees_the_same_however_the_samples_are_stored(inputs, lat, lon):
    adapter = Adapter(lat="descending", lon="-180..180")
    assert np.array_equal(adapter.to_network(orient(inputs, lat=lat, lon=lon)), adapter.to_network(orient(inputs)))


@given(adapters, fields)
@settings(max_examples=100, deadline=None)
def test_images_come_back_to_the_grid_of_the_samples(adapter, inputs):
    """A network that gives one of its channels back unchanged."""
    seen = adapter.to_network(inputs)
    names = adapter.channels or NAMES
    back = adapter.outputs_to_samples(seen, inputs)
    assert np.array_equal(back, inputs.sel(channel=list(names)).values)
    mask = inputs.values[0, 0] > inputs.values[0, 0].mean()
    turned = adapter.targets_to_network(mask, inputs)
    plain = Adapter(lat=adapter.lat, lon=adapter.lon)
    assert np.array_equal(plain.outputs_to_samples(turned[None, None], inputs)[0, 0], mask)


def test_channels_a_network_does_not_take_get_no_relevance():
    inputs = field()
    adapter = Adapter(channels=("c",), layout=("sample", "lat", "lon"))
    seen = adapter.to_network(inputs)
    assert np.array_equal(seen, inputs.values[:, 2])
    back = adapter.to_samples(seen, inputs)
    assert np.array_equal(back[:, 2], inputs.values[:, 2])
    assert (back[:, :2] == 0).all()


def test_scaling_goes_through_physical_values():
    inputs = field()
    samples = xr.Dataset(
        {
            "inputs": inputs,
            "scaling_mean": ("channel", [10.0, 20.0, 30.0]),
            "scaling_sd": ("channel", [1.0, 2.0, 3.0]),
        },
        coords={"channel": list(NAMES)},
    )
    adapter = Adapter(scaling={"c": (5.0, -2.0), "a": (0.0, 1.0)}, channels=("c", "a")).for_samples(samples)
    seen = adapter.to_network(inputs)
    np.testing.assert_allclose(seen[:, 0], (inputs.values[:, 2] * 3 + 30 - 5) / -2)
    np.testing.assert_allclose(seen[:, 1], inputs.values[:, 0] + 10)


@pytest.mark.parametrize("varying", [False, True])
def test_filled_cells_keep_their_fill_value_whatever_the_network_scales(varying):
    inputs = field()
    valid = xr.ones_like(inputs, dtype=bool)
    valid[:, 1, 0, 2] = False
    valid[0, 0, 1, 1] = not varying
    inputs = inputs.where(valid, -7.0)
    constants = {"scaling_mean": ("channel", [10.0, 20.0, 30.0]), "scaling_sd": ("channel", [1.0, 2.0, 3.0])}
    samples = xr.Dataset({"inputs": inputs, "valid": valid if varying else valid[0], **constants})
    adapter = Adapter(scaling={"a": (1.0, 2.0), "b": (0.0, 5.0), "c": (0.0, 1.0)}).for_samples(samples)
    for part in (inputs, inputs.isel(sample=[1, 0])):
        seen = adapter.to_network(part)
        where = valid.sel(sample=part["sample"].values)
        assert (seen[~where.values] == -7).all()
        expected = np.stack([part[:, 0] + 10 - 1, part[:, 1] * 2 + 20, part[:, 2] * 3 + 30], 1)
        expected = expected / np.array([2, 5, 1])[:, None, None]
        np.testing.assert_allclose(seen[where.values], expected[where.values], rtol=1e-6)


def test_without_scaling_samples_reach_the_network_bit_by_bit():
    inputs = field() * np.float32(1 / 3)
    samples = xr.Dataset({"inputs": inputs, "scaling_mean": ("channel", [9.0] * 3)}, coords={"channel": list(NAMES)})
    assert np.array_equal(Adapter().for_samples(samples).to_network(inputs), inputs.values)


@pytest.mark.parametrize(
    ("written", "layout", "flat"),
    [
        ("flat", ("sample", "channel", "lat", "lon"), True),
        ({"flat": ["lat", "lon", "channel"]}, ("sample", "lat", "lon", "channel"), True),
        (["sample", "y", "x"], ("sample", "lat", "lon"), False),
        (["sample", "lat", "lon", "channel"], ("sample", "lat", "lon", "channel"), False),
    ],
)
def test_layouts_as_users_write_them(written, layout, flat):
    assert parse_layout(written) == (layout, flat)


@pytest.mark.parametrize(
    "written", ["flatten", ["lat", "lon"], ["sample", "lat", "lat", "lon"], {"flat": ["lat"]}, ["N"]]
)
def test_layouts_that_name_no_order_are_refused(written):
    with pytest.raises(OptionError) as error:
        parse_layout(written)
    assert error.value.option == "layout"


def test_a_curvilinear_grid_cannot_be_turned():
    inputs = field().rename(lat="y", lon="x").drop_vars(["y", "x"])
    two = np.ones((3, 8))
    inputs = inputs.assign_coords(lat=(("y", "x"), two), lon=(("y", "x"), two))
    assert np.array_equal(Adapter().to_network(inputs), inputs.values)
    with pytest.raises(OptionError, match="rectilinear"):
        Adapter(lat="ascending").to_network(inputs)
