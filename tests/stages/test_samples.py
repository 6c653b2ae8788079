"""Samples: what becomes a sample, in which split, scaled how. Truth is slow numpy on the fields themselves."""

import logging

import cftime
import numpy as np
import pandas as pd
import pytest
import xarray as xr
from pydantic import ValidationError

from geoxai.errors import InputError, OptionError
from geoxai.stages.samples import Samples
from geoxai.stages.stage import Context

LAT, LON = np.array([30.0, 10.0, -10.0]), np.array([0.0, 90.0, 180.0, 270.0])


def grid(years=(2000, 2007), seed=0, land=(), name="sst", day=1, calendar=None):
    """A monthly field, latitude from north to south, NaN at ``land``."""
    months = [(y, m) for y in range(years[0], years[1] + 1) for m in range(1, 13)]
    if calendar:
        time = np.array([cftime.datetime(y, m, day, calendar=calendar) for y, m in months])
    else:
        time = np.array([np.datetime64(f"{y}-{m:02d}-{day:02d}", "ns") for y, m in months])
    values = np.random.default_rng(seed).normal(20, 3, (len(months), 3, 4)).astype(np.float32)
    for cell in land:
        values[(slice(None), *cell)] = np.nan
    coords = {
        "time": time,
        "lat": ("lat", LAT, {"units": "degrees_north"}),
        "lon": ("lon", LON, {"units": "degrees_east"}),
    }
    array = xr.DataArray(values, coords, ("time", "lat", "lon"), attrs={"units": "degC"})
    return xr.Dataset({name: array}).chunk(time=10)


def labels(years=(2000, 2007), day=15):
    time = [np.datetime64(f"{y}-{m:02d}-{day:02d}", "ns") for y in range(years[0], years[1] + 1) for m in range(1, 13)]
    value = np.sin(np.arange(len(time)) * 0.7)
    label = np.select([value > 0.5, value < -0.5], [7, 3], 5).astype(np.int16)
    label[4] = -1
    attrs = {"flag_values": np.array([3, 5, 7], np.int16), "flag_meanings": "la_nina neutral el_nino"}
    return xr.Dataset({"label": ("time", label, attrs), "value": ("time", value, {"units": "degC"})}, {"time": time})


SPLIT = {"train": [2000, 2003], "validation": [2004, 2004], "test": [2006, 2007]}


def build(tmp_path, sources, block=None, **options):
    """The store of a samples stage as the pipeline would fill it, in memory."""
    stage = Samples(inputs=["a", "b"][: len(sources["inputs"])], **options)
    context = Context("samples", tmp_path, sources)
    sketch = stage.skeleton(context)
    path = tmp_path / "fit.zarr"
    stage.fit(context).to_zarr(path, mode="w", consolidated=False)
    context = Context("samples", tmp_path, sources, fitted=xr.open_zarr(path, consolidated=False))
    layout = stage.layout(context)
    size, step = layout.template.sizes["sample"], block or layout.block
    parts = [stage.compute(context, s, min(s + step, size)) for s in range(0, size, step)]
    filled = xr.concat(parts, "sample")
    store = layout.template.assign({name: filled[name].assign_attrs(layout.template[name].attrs) for name in filled})
    assert sketch.sizes["sample"] >= size
    assert {n: (v.dims, v.dtype) for n, v in sketch.variables.items() if n != "time"} == {
        n: (v.dims, v.dtype) for n, v in store.variables.items() if n != "time"
    }
    return store


def test_inputs_are_the_fields_back_in_physical_units(tmp_path):
    a, b = grid(seed=1, land=[(0, 1)]), grid(seed=2, name="slp", day=28, calendar="noleap")
    store = build(
        tmp_path, {"inputs": [a, b], "labels": labels()}, labels="l", classes=["la_nina", "el_nino"], split=SPLIT
    )
    physical = store["inputs"] * store["scaling_sd"] + store["scaling_mean"]
    months = {(t.dt.year.item(), t.dt.month.item()): i for i, t in enumerate(a["time"])}
    for i, time in enumerate(store["time"]):
        at = months[time.dt.year.item(), time.dt.month.item()]
        for channel, source in (("sst", a["sst"]), ("slp", b["slp"])):
            expected = source.isel(time=at).values
            got = physical.isel(sample=i).sel(channel=channel).where(store["valid"].sel(channel=channel)).values
            np.testing.assert_allclose(got, expected, rtol=1e-5)
    assert store["inputs"].dtype == np.float32
    assert store["inputs"].isel(lat=0, lon=1).sel(channel="sst").values.tolist() == [0.0] * store.sizes["sample"]
    assert not store["valid"].sel(channel="sst")[0, 1]
    assert store["valid"].sum() == 23
    np.testing.assert_array_equal(store["lat"], LAT)
    assert store["lat"].attrs["units"] == "degrees_north"
    assert store["units"].values.tolist() == ["degC", "degC"]


def test_classes_splits_and_order(tmp_path):
    table = labels()
    store = build(
        tmp_path, {"inputs": [grid()], "labels": table}, labels="l", classes=["el_nino", "la_nina"], split=SPLIT
    )
    expected = []
    for i, time in enumerate(pd.DatetimeIndex(table["time"].values)):
        part = next((k for k, (a, b) in enumerate(SPLIT.values()) if a <= time.year <= b), None)
        if part is not None and int(table["label"][i]) in (7, 3):
            expected.append((time.year, time.month, part, {7: 0, 3: 1}[int(table["label"][i])]))
    got = zip(store["time"].dt.year.values, store["time"].dt.month.values, store["split"].values, store["label"].values)
    assert [tuple(map(int, row)) for row in got] == expected
    assert store["label"].attrs["flag_meanings"] == "el_nino la_nina"
    assert store["sample"].values.tolist() == list(range(len(expected)))
    assert "target" not in store  # the class is the target; the value stands beside it
    np.testing.assert_array_equal(store["value"] > 0.5, store["label"] == 0)


def test_other_becomes_a_class_of_its_own(tmp_path):
    options = {"labels": "l", "classes": ["el_nino"], "other": "rest", "split": SPLIT, "target": "class"}
    store = build(tmp_path, {"inputs": [grid()], "labels": labels()}, **options)
    assert store.sizes["sample"] == 12 * 7
    assert store["label"].attrs["flag_meanings"] == "el_nino rest"
    wanted = labels()["label"].values == 7
    used = np.array([y != 2005 for y in labels()["time"].dt.year.values])
    np.testing.assert_array_equal(store["label"].values == 0, wanted[used])


def test_value_targets_keep_samples_without_a_class(tmp_path):
    table = labels()
    table["value"][9] = np.nan
    store = build(tmp_path, {"inputs": [grid()], "labels": table}, labels="l", target="value", split=SPLIT)
    assert store.sizes["sample"] == 12 * 7 - 1
    assert (store["label"] == -1).sum() == 1
    assert store["target"].attrs["units"] == "degC"


def test_image_targets(tmp_path):
    image = grid(seed=5, name="precip", years=(2001, 2007))
    store = build(tmp_path, {"inputs": [grid()], "image": image}, image="i", split=SPLIT, block=7)
    assert store["target"].dims == ("sample", "target_channel", "lat", "lon")
    at = image["precip"].sel(time=store["time"].values).values
    np.testing.assert_array_equal(store["target"].values[:, 0], at)
    assert store["time"].dt.year.min() == 2001


def test_target_maps_may_miss_land_but_not_more_than_declared(tmp_path):
    def make(image, **options):
        return build(tmp_path, {"inputs": [grid()], "image": image}, image="i", split=SPLIT, **options)

    land = grid(seed=5, land=[(1, 2)])
    target = make(land)["target"]
    assert target[:, 0, 1, 2].isnull().all()
    assert target.notnull().sum() == target.sizes["sample"] * 11
    with pytest.raises(InputError, match="sst has 1 missing values at 2000-01-01"):
        make(land, missing="refuse")
    gap = grid(seed=5).load()
    gap["sst"][3, 0, 0] = np.nan
    with pytest.raises(InputError, match="at 2000-04-01 in cells that have data at other times"):
        make(gap)
    assert make(gap, missing="varying")["target"].isnull().sum() == 1


def test_labels_that_name_no_class_of_any_time_are_reported(tmp_path):
    table = labels()
    table["label"][:] = -1
    with pytest.raises(OptionError, match="none of the 96 times of the inputs has a label of class"):
        build(tmp_path, {"inputs": [grid()], "labels": table}, labels="l")


@pytest.mark.parametrize("block", [1, 7, 1000])
def test_units_of_any_size_give_the_same(tmp_path, block):
    whole = build(tmp_path, {"inputs": [grid(land=[(1, 1)])]}, split=SPLIT)
    parts = build(tmp_path, {"inputs": [grid(land=[(1, 1)])]}, split=SPLIT, block=block)
    xr.testing.assert_identical(whole.load(), parts.load())


def test_scaling_is_of_training_samples_alone(tmp_path):
    data = grid().load()
    other = data.copy(deep=True)
    late = other["time"].dt.year >= 2004
    other["sst"] = other["sst"].where(~late, other["sst"] * 100 + 7)
    for per in ("channel", "cell"):
        a, b = (build(tmp_path, {"inputs": [d]}, split=SPLIT, per=per) for d in (data, other))
        train = data["sst"].sel(time=slice("2000", "2003")).values.astype(np.float64)
        axis = (0, 1, 2) if per == "channel" else 0
        np.testing.assert_allclose(a["scaling_mean"][0], train.mean(axis), rtol=1e-12)
        np.testing.assert_allclose(a["scaling_sd"][0], train.std(axis), rtol=1e-12)
        np.testing.assert_array_equal(a["scaling_mean"], b["scaling_mean"])
        np.testing.assert_array_equal(a["scaling_sd"], b["scaling_sd"])
        first = a["split"] == 0
        np.testing.assert_array_equal(a["inputs"][first], b["inputs"][first])
        assert not np.array_equal(a["inputs"][~first], b["inputs"][~first])


def test_cells_that_do_not_vary_in_training_are_masked(tmp_path):
    data = grid().load()
    data["sst"][:48, 2, 3] = 271.35
    store = build(tmp_path, {"inputs": [data]}, split=SPLIT, per="cell")
    assert not store["valid"][0, 2, 3]
    assert store["valid"].sum() == 11
    assert (store["inputs"][:, 0, 2, 3] == 0).all()
    assert np.isfinite(store["inputs"]).all()


def test_constants_and_fields_from_a_file(tmp_path):
    data = grid()
    constants = build(tmp_path, {"inputs": [data]}, scale={"sst": [10, 4]})
    np.testing.assert_allclose(constants["inputs"][:, 0], (data["sst"].values - 10) / 4, rtol=1e-6)
    sd = xr.DataArray(
        np.full((3, 4), 4.0), {"latitude": LAT[::-1], "longitude": [-180.0, -90, 0, 90]}, ("latitude", "longitude")
    )
    sd[0, 1] = 0.0  # 10 S, 270 E
    path = tmp_path / "scaling.nc"
    xr.Dataset({"scaling_mean": xr.full_like(sd, 10.0), "scaling_sd": sd}).to_netcdf(path)
    fields = build(tmp_path, {"inputs": [data]}, scale_file=str(path))
    masked = np.zeros((3, 4), bool)
    masked[2, 3] = True
    np.testing.assert_array_equal(~fields["valid"][0], masked)
    np.testing.assert_array_equal(
        fields["inputs"].values[:, 0][:, ~masked], constants["inputs"].values[:, 0][:, ~masked]
    )


def test_fill_with_the_training_mean(tmp_path):
    data = grid(land=[(0, 0)])
    store = build(tmp_path, {"inputs": [data]}, split=SPLIT, scale={"sst": [10, 4]}, fill="mean")
    train = data["sst"].sel(time=slice("2000", "2003"))
    np.testing.assert_allclose(
        store["inputs"][:, 0, 0, 0], (np.nanmean(train.values.astype(float)) - 10) / 4, rtol=1e-6
    )


def test_gaps_that_vary_are_refused_unless_declared(tmp_path):
    data = grid(land=[(0, 0)]).load()
    data["sst"][3, 1, 1] = np.nan
    with pytest.raises(
        InputError, match=r"sst has 1 missing values at 2000-04-01 in cells that have data at other times"
    ):
        build(tmp_path, {"inputs": [data]}, split=SPLIT)
    with pytest.raises(InputError, match="sst has 1 missing values at 2000-01-01"):
        build(tmp_path, {"inputs": [data]}, split=SPLIT, missing="refuse")
    store = build(tmp_path, {"inputs": [data]}, split=SPLIT, missing="varying", block=5)
    assert store["valid"].dims == ("sample", "channel", "lat", "lon")
    np.testing.assert_array_equal(store["valid"][:, 0], np.isfinite(data["sst"].sel(time=store["time"].values)))
    assert (store["inputs"].where(~store["valid"], 0) == 0).all()


def test_an_empty_field_is_named(tmp_path):
    data = grid().load()
    data["sst"][5] = np.nan
    for missing in ("constant", "varying"):
        with pytest.raises(InputError, match="sst has no value at all at 2000-06-01"):
            build(tmp_path, {"inputs": [data]}, split=SPLIT, missing=missing)


def test_the_gap_takes_training_samples_away(tmp_path):
    split = {"train": [2000, 2003], "test": [2004, 2007]}
    store = build(tmp_path, {"inputs": [grid()]}, split=split, gap=5)
    last = store["time"][store["split"] == 0][-1]
    assert (last.dt.year.item(), last.dt.month.item()) == (2003, 7)
    assert (store["split"] == 2).sum() == 48


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"split": {"train": [1951, 1990], "test": [1989, 2000]}}, "train and test share 1989, 1990"),
        ({"split": {"train": [1990, 1951]}}, "runs backwards"),
        ({"target": "class"}, "needs labels"),
        ({"classes": ["a"]}, "need labels"),
        ({"target": "image"}, "belong together"),
        ({"chunk": 0}, "at least one"),
    ],
)
def test_options_that_do_not_fit(options, message):
    with pytest.raises(ValidationError, match=message):
        Samples(**options)


def test_what_does_not_fit_the_data(tmp_path):
    turned = grid(name="slp").isel(lat=slice(None, None, -1))
    with pytest.raises(OptionError, match=r"sst of a and slp of b are on different grids: lat runs from 30 to -30|10"):
        build(tmp_path, {"inputs": [grid(), turned]})
    with pytest.raises(OptionError, match="no time in common"):
        build(tmp_path, {"inputs": [grid(), grid(years=(1990, 1992), name="slp")]})
    with pytest.raises(OptionError, match="unknown class 'el_ninio'; did you mean 'el_nino'"):
        build(tmp_path, {"inputs": [grid()], "labels": labels()}, labels="l", classes=["el_ninio"])
    with pytest.raises(OptionError, match="no constants for channel 'sst'"):
        build(tmp_path, {"inputs": [grid()]}, scale={})
    with pytest.raises(OptionError, match="the factor of channel 'sst' is 0"):
        build(tmp_path, {"inputs": [grid()]}, scale={"sst": [0, 0]})
    with pytest.raises(OptionError, match="the train split 1900 to 1910 lies outside the record: the inputs have 2000"):
        build(tmp_path, {"inputs": [grid()]}, split={"train": [1900, 1910]})
    with pytest.raises(OptionError, match="no training samples"):
        build(tmp_path, {"inputs": [grid()]}, split={"test": [2000, 2001]})
    with pytest.raises(InputError, match="out of order: 2000-03-01 is followed by 2000-02-01"):
        build(tmp_path, {"inputs": [grid().isel(time=[0, 2, 1, 3])]})


def test_two_variables_of_one_name_are_told_apart(tmp_path):
    store = build(tmp_path, {"inputs": [grid(), grid(seed=3)]})
    assert store["channel"].values.tolist() == ["a.sst", "b.sst"]


def test_labels_by_number(tmp_path):
    table = xr.Dataset(
        {"label": ("sample", np.array([1, 0], np.int16), {"flag_values": [0, 1], "flag_meanings": "calm storm"})},
        {"sample": [7, 3]},
    )
    store = build(tmp_path, {"inputs": [grid()], "labels": table}, labels="l", scale="none")
    assert store["time"].dt.month.values.tolist() == [4, 8]
    assert store["label"].values.tolist() == [0, 1]


def test_splits_that_touch_are_advised_against():
    touching = {"train": [[2000, 2003], [2006, 2006]], "test": [2004, 2005]}
    found = list(Samples(split=touching).advise("samples", {}))
    assert [(option, text[:30]) for option, text, _ in found] == [
        ("split", "train ends in 2003 and test be"),
        ("split", "test ends in 2005 and train be"),
    ]
    assert not list(Samples(split=touching, gap=6).advise("samples", {}))
    assert not list(Samples(split=SPLIT | {"validation": [2004, 2004], "train": [2000, 2002]}).advise("samples", {}))


def test_a_class_without_training_samples_is_reported(tmp_path, caplog):
    table = labels()
    table["label"] = table["label"].where(table["time"].dt.year > 2003, 5)
    with caplog.at_level(logging.WARNING):
        build(tmp_path, {"inputs": [grid()], "labels": table}, labels="l", split=SPLIT)
    assert "class 'el_nino' has no training sample" in caplog.text


def test_counts_in_the_summary(tmp_path):
    stage = Samples(split=SPLIT)
    store = build(tmp_path, {"inputs": [grid()], "labels": labels()}, labels="l", split=SPLIT)
    summary = stage.summarise(Context("samples", tmp_path), store)
    assert summary["splits"] == {"train": 47, "validation": 12, "test": 24}
    assert sum(of["samples"] for of in summary["classes"].values()) == summary["samples"] == 83


def test_a_sketch_of_the_labels_is_enough_to_plan(tmp_path):
    sketch = labels()
    sketch["label"] = sketch["label"].copy(data=np.zeros(96, np.int16)).chunk()
    stage = Samples(inputs="a", labels="l", classes=["la_nina", "el_nino"], split=SPLIT)
    template = stage.skeleton(Context("samples", tmp_path, {"inputs": grid(), "labels": sketch}))
    assert template.sizes["sample"] == 84
    assert template["label"].attrs["flag_meanings"] == "la_nina el_nino"


def annual(years, month, day, name="sst"):
    """Annual fields whose stamp lies in the same month of every year."""
    time = np.array([np.datetime64(f"{year}-{month:02d}-{day:02d}", "ns") for year in years])
    coords = {"time": time, "lat": LAT, "lon": LON}
    values = np.random.default_rng(1).normal(size=(len(years), 3, 4)).astype(np.float32)
    return xr.Dataset({name: xr.DataArray(values, coords, ("time", "lat", "lon"), attrs={"units": "K"})})


def test_annual_series_join_by_year_whatever_the_day_of_their_stamp(tmp_path, caplog):
    fields, other = annual(range(1950, 1990), 7, 2), annual(range(1955, 1995), 12, 31, "slp")
    years = range(1940, 1980)
    labelled = xr.Dataset(
        {"value": ("time", np.array(years, dtype=float))},
        {"time": np.array([np.datetime64(f"{year}-01-01", "ns") for year in years])},
    )
    sources = {"inputs": [fields, other], "labels": labelled}
    with caplog.at_level(logging.INFO, "geoxai.samples"):
        store = build(tmp_path, sources, labels="l", split={"train": [1950, 1990]})
    np.testing.assert_array_equal(store["target"], store["time"].dt.year)
    assert store["target"].values.tolist() == list(range(1955, 1980))
    assert "a and b have 35 times in common; left out: 5 of 40 times of a and 5 of 40 times of b" in caplog.text
    assert "inputs and labels have 25 times in common; left out: 10 of 35 times of inputs and 15 of 40" in caplog.text


def test_a_join_that_drops_times_says_so_in_the_summary(tmp_path):
    sources = {"inputs": [grid((2000, 2007))], "labels": labels((2002, 2009))}
    stage = Samples(inputs=["a"], labels="l", scale="none")
    fitted = stage.fit(Context("samples", tmp_path, sources))
    fitted.to_zarr(tmp_path / "fit.zarr", consolidated=False)
    context = Context("samples", tmp_path, sources, fitted=xr.open_zarr(tmp_path / "fit.zarr", consolidated=False))
    (said,) = stage.summarise(context, stage.layout(context).template)["joins"]
    assert said == (
        "inputs and labels have 72 times in common; left out: 24 of 96 times of inputs and 24 of 96 times of labels"
    )


def test_samples_keep_the_step_of_their_record(tmp_path):
    store = build(tmp_path, {"inputs": [grid()], "labels": labels()}, labels="l", classes=["el_nino"], split=SPLIT)
    assert store["time"].attrs["step"] == "1 months"
    year = build(tmp_path, {"inputs": [annual(range(1950, 1990), 7, 2)]}, split={"train": [1950, 1990]})
    assert year["time"].attrs["step"] == "12 months"


def test_no_units_are_made_up(tmp_path, caplog):
    a, b = grid(seed=1), grid(seed=2, name="slp")
    del a["sst"].attrs["units"], b["slp"].attrs["units"]
    with caplog.at_level(logging.WARNING):
        store = build(tmp_path, {"inputs": [a, b], "labels": labels()}, labels="l", split=SPLIT)
    assert "units" not in store.coords
    assert [r.message for r in caplog.records].count(
        "sst, slp: the units are not known, and none are written; state them with file_units of load.netcdf"
    ) == 1
    (tmp_path / "one").mkdir()
    store = build(tmp_path / "one", {"inputs": [a, grid(name="slp")], "labels": labels()}, labels="l", split=SPLIT)
    assert store["units"].values.tolist() == ["", "degC"]


def test_edges_of_cells_stay_with_the_samples(tmp_path):
    a = grid().assign_coords(lat_south=("lat", [20.0, -5, -15]), lat_north=("lat", [31.0, 20, -5]))
    store = build(tmp_path, {"inputs": [a], "labels": labels()}, labels="l", split=SPLIT)
    np.testing.assert_array_equal(store["inputs"]["lat_north"], [31, 20, -5])
