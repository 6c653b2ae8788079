"""Several inputs in one dataset: each comes back as it was put in."""

import numpy as np
import pytest
import xarray as xr

from geoxai.grid.several import (
    alone,
    dataset_of,
    each,
    fields_of,
    inputs_of,
    names_of,
    parts,
    plain,
    together,
)


def part(seed, lat, lon, channels=("a",), curved=False, height=None):
    """Samples of one input."""
    rng = np.random.default_rng(seed)
    dims = ("y", "x") if curved else ("lat", "lon")
    shape = (5, len(channels), len(lat), len(lon))
    names = np.array(channels, dtype=object)
    coords = {
        "sample": np.arange(5),
        "label": ("sample", np.arange(5) % 2),
        "channel": names,
        "units": ("channel", names),
    }
    if curved:
        coords |= {"lat": (dims, np.outer(lat, np.ones(len(lon)))), "lon": (dims, np.outer(np.ones(len(lat)), lon))}
    else:
        coords |= {"lat": ("lat", lat, {"units": "degrees_north"}), "lon": ("lon", lon, {"units": "degrees_east"})}
    if height is not None:
        coords["height"] = height
    return xr.Dataset(
        {
            "inputs": (("sample", "channel", *dims), rng.normal(size=shape)),
            "valid": (("channel", *dims), rng.random(shape[1:]) > 0.5),
            "scaling_mean": ("channel", rng.normal(size=len(channels))),
            "position": (("channel", "sample"), rng.integers(0, 9, (len(channels), 5))),
            "target": ("sample", np.arange(5.0)),
        },
        coords,
        {"target": "value"},
    )


COARSE, FINE = (np.array([60.0, 0, -60]), np.arange(0, 360, 90.0)), (np.linspace(80, -80, 7), np.arange(0, 360, 40.0))
MOVED = (COARSE[0] + 1, COARSE[1])
CASES = {
    "one grid": ({"a": part(0, *COARSE), "b_a": part(1, *COARSE, channels=("u", "v"))}, False),
    "different sizes": ({"a": part(0, *COARSE), "b_a": part(1, *FINE)}, True),
    "moved": ({"sst": part(0, *COARSE), "slp": part(1, *MOVED), "z": part(2, *COARSE)}, True),
    "curved": ({"sst": part(0, *COARSE, curved=True), "slp": part(1, *FINE, curved=True)}, True),
    "heights": ({"a": part(0, *COARSE, height=2.0), "b_a": part(1, *COARSE, height=10.0)}, False),
    "one height": ({"a": part(0, *COARSE, height=2.0), "b": part(1, *FINE, height=2.0)}, True),
}


@pytest.mark.parametrize("case", CASES)
def test_each_comes_back_as_it_was(tmp_path, case):
    given, apart = CASES[case]
    whole = together(given)
    assert names_of(whole) == tuple(given)
    assert ("lat" in whole.coords) != apart
    whole.to_zarr(tmp_path / "store.zarr", consolidated=False)
    for dataset in (whole, xr.open_zarr(tmp_path / "store.zarr", consolidated=False).load()):
        back = parts(dataset)
        assert list(back) == list(given)
        for name, expected in given.items():
            for coord in ("lat", "lon"):  # CF attributes are added where names are
                back[name][coord].attrs = expected[coord].attrs
            xr.testing.assert_identical(back[name], expected)
            array = plain(dataset[f"inputs_{name}"])
            scalars = [key for key, coord in dataset.coords.items() if not coord.dims]
            xr.testing.assert_equal(array.drop_vars(scalars), expected["inputs"].drop_vars("height", errors="ignore"))
    assert list(each(inputs_of(whole))) == list(given)
    xr.testing.assert_identical(dataset_of(fields_of(whole, "inputs"), "inputs"), whole[list_of(whole, "inputs")])


def list_of(dataset, variable):
    return [f"{variable}_{name}" for name in names_of(dataset)]


def test_one_input_is_left_alone():
    dataset = part(0, *COARSE)
    assert together({"": dataset}) is dataset
    assert alone(dataset, "") is dataset
    assert parts(dataset) == {"": dataset}
    xr.testing.assert_identical(inputs_of(dataset), dataset["inputs"])
    assert plain(dataset["inputs"]) is not None


def test_a_store_without_coordinates_follows_another():
    given, _ = CASES["moved"]
    whole = together(given)
    bare = {name: one.drop_vars(list(one.coords)) for name, one in given.items()}
    joined = together(bare, like=whole)
    for name in given:
        assert joined[f"inputs_{name}"].dims == whole[f"inputs_{name}"].dims


def test_renamed_latitudes_are_still_latitudes():
    whole = together(CASES["different sizes"][0])
    assert whole["lat_a"].attrs == {"standard_name": "latitude", "units": "degrees_north"}
    assert whole["lon_b_a"].attrs == {"standard_name": "longitude", "units": "degrees_east"}
