"""The composite stage, as the pipeline runs it: partial results of units, merged in order."""

import logging

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from pydantic import ValidationError

from geoxai.errors import OptionError
from geoxai.pipeline.stores import write_whole
from geoxai.stages.composite import Composite
from geoxai.stages.stage import Context
from geoxai.storage.encoding import storable

CLASSES = {"flag_values": [0, 1], "flag_meanings": "la_nina el_nino"}
LAT, LON = np.array([2.5, -2.5, -30.0]), np.array([10.0, 190.0, 210.0, 330.0])


def stores(samples=48, networks=2, seed=0):
    """A relevance store and the samples it explains; one land cell."""
    rng = np.random.default_rng(seed)
    dims, shape = ("sample", "channel", "lat", "lon"), (samples, 1, 3, 4)
    valid = np.ones(shape[1:], bool)
    valid[0, 2, 0] = False
    label = np.repeat(rng.integers(0, 2, samples // 4), 4).astype(np.int16)
    time = np.array([np.datetime64("2000-01-15") + np.timedelta64(30 * i + i // 2, "D") for i in range(samples)])
    coords = {
        "network": np.arange(networks),
        "sample": np.arange(10, 10 + samples),
        "time": ("sample", time.astype("datetime64[ns]")),
        "label": ("sample", label, CLASSES),
        "channel": np.array(["sst"], dtype=object),
        "units": ("channel", np.array(["degC"], dtype=object)),
        "lat": LAT,
        "lon": LON,
    }
    cells = ("channel", "lat", "lon")
    of_samples = {name: value for name, value in coords.items() if name != "network"}
    samples_store = xr.Dataset(
        {
            "inputs": (dims, rng.normal(size=shape).astype(np.float32)),
            "valid": (cells, valid),
            "scaling_mean": ("channel", [20.0]),
            "scaling_sd": ("channel", [3.0]),
        },
        of_samples,
    )
    relevance = np.where(valid, rng.normal(0.5, 1, (networks, *shape)), np.nan).astype(np.float32)
    flip = rng.random((networks, samples)) < 0.2
    series = ("network", "sample")
    store = xr.Dataset(
        {
            "relevance": (("network", *dims), relevance),
            "prediction": (series, np.where(flip, 1 - label, label).astype(np.int16), CLASSES),
            "confidence": (series, rng.uniform(0.5, 1, (networks, samples))),
            "target_value": (series, rng.uniform(1, 2, (networks, samples))),
            "nonpositive_target": (series, rng.random((networks, samples)) < 0.1),
        },
        coords,
    )
    store = store if networks > 1 else store.isel(network=0, drop=True)
    lazy = {name: store[name].chunk() for name in ("time", "label", "units")}
    return store.chunk(sample=10).assign_coords(lazy), samples_store.chunk(sample=10)


def build(tmp_path, relevance, samples=None, by=None, block=None, **options):
    stage = Composite(by=None if by is None else "labels", **options)
    context = Context("composite", tmp_path, {"from": relevance, "samples": samples, "by": by})
    size, step = stage.extent(context)
    step = block or step
    parts = [stage.partial(context, s, min(s + step, size)) for s in range(0, size, step)]
    return stage, context, stage.merge(context, iter(parts))


def test_means_of_normalised_maps_of_correct_samples(tmp_path):
    relevance, samples = stores()
    _, _, result = build(tmp_path, relevance, samples)
    r, physical = relevance["relevance"].values.astype(float), samples["inputs"].values.astype(float) * 3 + 20
    for network in range(2):
        for class_, name in enumerate(["la_nina", "el_nino"]):
            maps, fields = [], []
            for i in range(48):
                right = relevance["prediction"].values[network, i] == relevance["label"].values[i] == class_
                if right and not relevance["nonpositive_target"].values[network, i]:
                    maps.append(r[network, i] / np.nanmax(np.abs(r[network, i])))
                    fields.append(physical[i])
            one = result.sel({"class": name}).isel(network=network)
            np.testing.assert_allclose(one["relevance_mean"], np.mean(maps, 0), rtol=1e-12)
            np.testing.assert_allclose(one["relevance_std"], np.std(maps, 0, ddof=1), rtol=1e-12)
            land = np.isnan(maps[0])
            np.testing.assert_allclose(one["inputs_mean"].values[~land], np.mean(fields, 0)[~land], rtol=1e-6)
            assert np.isnan(one["inputs_mean"].values[land]).all()
            assert int(one["n_used"]) == len(maps) == int(one["relevance_count"].max())
            members = relevance["label"].values == class_
            assert int(one["n_all"]) == members.sum()
            assert int(one["n_correct"]) == (members & (relevance["prediction"].values[network] == class_)).sum()
    assert result["relevance_mean"].dims == ("network", "class", "channel", "lat", "lon")
    assert result.attrs["where"] == "correct"
    assert result["units"].values.tolist() == ["degC"]


@pytest.mark.parametrize("block", [1, 7, 48])
def test_units_of_any_size_agree_and_equal_units_agree_in_every_bit(tmp_path, block):
    relevance, samples = stores()
    whole = build(tmp_path, relevance, samples, block=48)[2]
    parts = build(tmp_path, relevance, samples, block=block)[2]
    again = build(tmp_path, relevance, samples, block=block)[2]
    xr.testing.assert_identical(parts, again)
    xr.testing.assert_allclose(parts, whole, rtol=1e-12, atol=1e-12)


def test_partial_results_survive_a_store(tmp_path):
    relevance, samples = stores()
    stage, context, direct = build(tmp_path, relevance, samples)
    parts = []
    for start in range(0, 48, 10):
        path = tmp_path / f"{start}.zarr"
        stage.partial(context, start, min(start + 10, 48)).to_zarr(path, consolidated=False)
        parts.append(xr.open_zarr(path, consolidated=False))
    xr.testing.assert_identical(stage.merge(context, iter(parts)), direct)


def test_the_sketch_has_the_shape_of_the_result(tmp_path):
    for networks in (1, 2):
        relevance, samples = stores(networks=networks)
        stage, context, result = build(tmp_path, relevance, samples)
        sketch = stage.skeleton(context)
        for name in sketch.data_vars:
            assert sketch[name].dims == result[name].dims
            assert sketch[name].shape == result[name].shape
            assert sketch[name].dtype == result[name].dtype
            assert sketch[name].attrs == result[name].attrs
        assert set(sketch.coords) == set(result.coords)
        assert all(coord.chunks is None for one in (sketch, result) for coord in one.coords.values())


def test_an_outlier_does_not_dominate(tmp_path):
    relevance, _ = stores(networks=1)
    large = relevance.copy()
    large["relevance"] = relevance["relevance"] * xr.where(relevance["sample"] == 20, 100, 1).astype(np.float32)
    for how, same in (("max", True), ("l1", True), ("percent", True), ("none", False)):
        a, b = (build(tmp_path, r, normalize=how, where="all")[2]["relevance_mean"] for r in (relevance, large))
        assert np.allclose(a, b, rtol=1e-5, atol=1e-6, equal_nan=True) == same


def test_conditions_and_confidence(tmp_path):
    relevance, _ = stores(networks=1)
    result = build(tmp_path, relevance, where=["confident", "year == 2001", "label == 'el_nino'"], confidence=0.7)[2]
    chosen = (
        (relevance["confidence"] >= 0.7)
        & (relevance["time"].dt.year == 2001)
        & (relevance["label"] == 1)
        & ~relevance["nonpositive_target"]
    )
    assert result["n_used"].values.tolist() == [0, int(chosen.sum())]
    assert np.isnan(result["relevance_mean"].sel({"class": "la_nina"})).all()
    assert result.attrs["where"] == "confidence >= 0.7 and year == 2001 and label == 'el_nino'"


def test_empty_maps_and_nonpositive_targets_are_counted(tmp_path):
    relevance, _ = stores(networks=1)
    relevance = relevance.load()
    relevance["nonpositive_target"][:] = False
    relevance["nonpositive_target"][3] = True
    relevance["relevance"][5] = relevance["relevance"][5] * 0
    result = build(tmp_path, relevance, where="all", by_variable="all")[2]
    assert [int(result[n].item()) for n in ("n_all", "n_nonpositive", "n_empty", "n_used")] == [48, 1, 1, 46]
    assert int(result["relevance_count"].max()) == 46
    assert result["class"].values.tolist() == ["all"]


def test_classes_of_a_labels_stage_are_joined_by_month(tmp_path):
    relevance, _ = stores(networks=1)
    months = np.arange("1999-01", "2005-01", dtype="datetime64[M]").astype("datetime64[ns]")
    label = np.where(months < np.datetime64("2001-01"), 4, 2).astype(np.int16)
    attrs = {"flag_values": [2, 3, 4], "flag_meanings": "late never early"}
    labels = xr.Dataset({"label": ("time", label, attrs)}, {"time": months})
    result = build(tmp_path, relevance, by=labels)[2]
    assert result["class"].values.tolist() == ["late", "early"]  # no sample is in 'never'
    early = int((relevance["time"].dt.year < 2001).sum())
    assert result["n_all"].values.tolist() == [48 - early, early]


def test_grouped_by_prediction_each_network_has_its_own_samples(tmp_path):
    relevance, _ = stores()
    result = build(tmp_path, relevance, by_variable="prediction", where="all")[2]
    expected = [[(p == k).sum() for k in (0, 1)] for p in relevance["prediction"].values]
    np.testing.assert_array_equal(result["n_all"], expected)


def test_signed_relevance_is_not_divided_by_its_sum(tmp_path):
    with pytest.raises(OptionError, match="both signs"):
        build(tmp_path, stores()[0], normalize="sum")


def test_summary_has_shares_beside_those_of_cells_and_area(tmp_path, caplog):
    relevance, samples = stores(networks=1)
    stage, context, result = build(tmp_path, relevance, samples, regions=["nino34"])
    with caplog.at_level(logging.WARNING):
        summary = stage.summarise(context, result)
    size = np.abs(result["relevance_mean"].sel({"class": "el_nino"}).values[0])
    # rows reach from 5 to 0, 0 to -16.25 and -16.25 to -43.75, columns from 100 to 200 and 200 to 270: the part inside
    sines = np.sin(np.deg2rad([5, 0, -5, -16.25]))
    rows = np.array([1, (sines[1] - sines[2]) / (sines[1] - sines[3]), 0])
    box = np.outer(rows, [0, 10 / 100, 40 / 70, 0])
    valid = ~np.isnan(size)
    area = np.outer(-np.diff([*sines[[0, 1, 3]], np.sin(np.deg2rad(-43.75))]), [125, 100, 70, 65])
    numbers = summary["classes"]["el_nino"]
    shares = numbers["regions"]["nino34"]
    assert shares["relevance_share"] == pytest.approx(np.nansum(size * box) / np.nansum(size))
    assert shares["cell_share"] == pytest.approx(box.sum() / 11)
    assert shares["area_share"] == pytest.approx((area * box)[valid].sum() / area[valid].sum())
    angle = np.nansum(size * np.exp(1j * np.deg2rad(LON)))
    assert numbers["centroid_longitude"] == pytest.approx(np.rad2deg(np.angle(angle)) % 360)
    assert numbers["n_events"] == int(result["n_events"].sel({"class": "el_nino"}))
    assert "too few to generalise" in caplog.text


def test_a_region_without_a_cell_of_the_maps_is_warned_of(tmp_path, caplog):
    relevance, samples = stores(networks=1)
    stage, context, result = build(tmp_path, relevance, samples, regions=["arctic", "nino34"])
    numbers = stage.summarise(context, result)["classes"]["el_nino"]["regions"]
    assert "composite: region arctic contains no cell of the maps and is left out" in caplog.text
    assert list(numbers) == ["nino34"]  # a share of 0 would say that it was looked at


def test_summary_lists_networks(tmp_path):
    stage, context, result = build(tmp_path, *stores(), regions=["nino34"])
    numbers = stage.summarise(context, result)["classes"]["la_nina"]
    shares = numbers["regions"]["nino34"]
    assert len(shares["relevance_share"]) == len(numbers["n_used"]) == 2
    assert isinstance(shares["cell_share"], float)


def test_maps_left_out_are_reported(tmp_path, caplog):
    relevance, _ = stores()
    relevance["relevance"] = relevance["relevance"].where(relevance["network"] == 0, 0)
    stage, context, result = build(tmp_path, relevance, where="all")
    with caplog.at_level(logging.WARNING):
        stage.summarise(context, result)
    assert "no sample is left for the composite of la_nina in network 1" in caplog.text
    assert "(a map of zeros)" in caplog.text


def test_few_events_are_warned_of_also_where_one_network_has_none(tmp_path, caplog):
    relevance, _ = stores()
    relevance["nonpositive_target"] = relevance["nonpositive_target"] | (relevance["network"] == 1)
    stage, context, result = build(tmp_path, relevance, where="all")
    with caplog.at_level(logging.WARNING):
        summary = stage.summarise(context, result)
    events = int(result["n_events"].sel({"class": "el_nino"})[0])
    assert 1 < events < 10
    assert f"the composite of el_nino rests on {events} events: too few to generalise" in caplog.text
    assert "no sample is left for the composite of el_nino in network 1" in caplog.text
    assert summary["classes"]["el_nino"]["n_eff_median"][1] is None


@pytest.mark.parametrize("form", ["memory", "zarr", "netcdf"])
def test_a_class_is_selected_by_its_name(tmp_path, form):
    result = build(tmp_path, *stores())[2]
    if form == "zarr":
        write_whole(tmp_path / "c.zarr", result, {})
        result = xr.open_zarr(tmp_path / "c.zarr")
    elif form == "netcdf":
        storable(result).to_netcdf(tmp_path / "c.nc")
        result = xr.open_dataset(tmp_path / "c.nc")
    assert result["class"].dtype.kind in "UT"
    assert type(result.indexes["class"]) is pd.Index
    one = result.sel({"class": "el_nino"})
    assert one["class"].item() == "el_nino"
    np.testing.assert_array_equal(one["n_used"], result["n_used"].isel({"class": 1}))


def test_land_has_no_effective_number_and_no_part_in_its_median(tmp_path):
    stage, context, result = build(tmp_path, *stores(networks=1))
    n_eff = result["relevance_n_eff"].sel({"class": "el_nino"})
    assert np.isnan(n_eff.values[0, 2, 0])
    numbers = stage.summarise(context, result)["classes"]["el_nino"]
    assert numbers["n_eff_median"] == np.median(n_eff.values[~np.isnan(n_eff.values)])


def test_annual_samples_are_one_event_in_units_of_any_size(tmp_path):
    """Middles of years, which lie on 2 July or, in leap years, half a day before."""
    relevance, _ = stores(networks=1)
    bounds = np.array([f"{year}-01-01" for year in range(1950, 1999)], "datetime64[ns]")
    middles = bounds[:-1] + (bounds[1:] - bounds[:-1]) / 2
    drifting = relevance.assign_coords(time=("sample", middles - np.timedelta64(1, "D")))
    for block in (1, 10, 48):
        result = build(tmp_path, drifting, by_variable="all", where="all", block=block)[2]
        assert result["n_events"].values.tolist() == [1]


def test_effective_numbers_lie_between_events_and_samples(tmp_path):
    result = build(tmp_path, *stores(samples=240))[2]
    n_eff = result["relevance_n_eff"].where(result["relevance_count"] > 0)
    assert (n_eff <= result["relevance_count"] + 1e-9).where(n_eff.notnull(), True).all()
    assert (n_eff > 1).where(n_eff.notnull(), True).all()
    assert (result["n_events"] < result["n_used"]).all()


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"where": "confidence >"}, ValidationError, "not a condition"),
        ({"by_variable": "lable"}, OptionError, "unknown variable 'lable'; did you mean 'label'"),
        ({"by_variable": "confidence"}, OptionError, "holds no classes"),
        ({"where": "confidense > 0.5"}, OptionError, "did you mean 'confidence'"),
        ({"regions": ["nino35"]}, ValidationError, "unknown region 'nino35'"),
        ({"normalize": "maximum"}, ValidationError, "max"),
    ],
)
def test_mistakes_are_reported_before_anything_is_computed(tmp_path, options, error, message):
    relevance, samples = stores()
    with pytest.raises(error, match=message):
        Composite(**options).skeleton(Context("composite", tmp_path, {"from": relevance, "samples": samples}))


def test_variables_say_what_they_hold(tmp_path):
    relevance, samples = stores()
    result = build(tmp_path, relevance, samples, normalize="max")[2]
    assert result["relevance_mean"].attrs["long_name"] == "mean relevance, each map divided by its largest |relevance|"
    assert result["relevance_mean"].attrs["units"] == "1"
    assert result["inputs_mean"].attrs["units"] == "degC"
    for name in ("n_all", "n_used", "n_correct", "n_empty", "n_nonpositive", "n_events"):
        assert set(result[name].attrs) == {"long_name", "units"}, name
    assert "units" not in build(tmp_path, relevance, normalize="none")[2]["relevance_mean"].attrs
    relevance["relevance"].attrs["units"] = "K"
    assert build(tmp_path, relevance, normalize="none")[2]["relevance_mean"].attrs["units"] == "K"
    assert build(tmp_path, relevance, normalize="percent")[2]["relevance_mean"].attrs["units"] == "%"


def test_relevance_of_other_samples_is_refused(tmp_path):
    relevance, samples = stores()
    with pytest.raises(OptionError, match="not computed from these samples"):
        build(tmp_path, relevance, samples.isel(sample=slice(0, 20)))
