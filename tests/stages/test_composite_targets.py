"""Composites of several targets, and what gradients and accounts say of themselves."""

import json
import logging
import warnings

import numpy as np
import pytest
import xarray as xr

from geoxai.errors import OptionError
from geoxai.stages.composite import Composite
from geoxai.stages.composite_summary import warn, with_shares
from geoxai.stages.explain import Gradient, Lrp
from geoxai.stages.stage import Context
from tests.stages.test_explain import CLASSES, build, networks, samples

CELLS = ("channel", "lat", "lon")


def composite(tmp_path, stage, relevance, data, blocks=2):
    context = Context("composite", tmp_path, {"from": relevance, "samples": data})
    sketch = stage.skeleton(context)
    size = -(-relevance.sizes["sample"] // blocks)
    starts = range(0, relevance.sizes["sample"], size)
    partials = [stage.partial(context, s, min(s + size, relevance.sizes["sample"])) for s in starts]
    result = stage.merge(context, partials)
    for name in sketch.data_vars:
        assert result[name].dims == sketch[name].dims
    return result, stage.summarise(context, result)


@pytest.mark.parametrize("count", [1, 2])
@pytest.mark.parametrize("normalize", ["max", "l1", "target", "none"])
def test_each_target_is_composited_by_itself(tmp_path, count, normalize):
    data = samples(30)
    targets = ["la_nina", "el_nino"]
    relevance = build(tmp_path, Lrp(target=targets, score="logit", rules="epsilon"), data, networks(count))
    stage = Composite(normalize=normalize, where="all")
    result, numbers = composite(tmp_path, stage, relevance, data)
    lead = ("network", "target") if count > 1 else ("target",)
    assert result["relevance_mean"].dims == (*lead, "class", *CELLS)
    assert list(result["target"].values) == targets
    for place, name in enumerate(targets):
        alone, of_one = composite(tmp_path, stage, relevance.isel(target=place, drop=True), data)
        for key in alone.data_vars:
            np.testing.assert_array_equal(result[key].isel(target=place), alone[key], err_msg=str(key))
        for class_ in CLASSES:
            told = numbers["classes"][class_]
            assert told["n_used"][name] == of_one["classes"][class_]["n_used"]
            assert told["centroid_longitude"][name] == of_one["classes"][class_]["centroid_longitude"]
    if normalize == "max" and count == 1:
        one = relevance["relevance"].isel(target=0).astype(float)
        expected = (one / abs(one).max(CELLS)).where(relevance["label"] == 2).mean("sample")
        np.testing.assert_allclose(result["relevance_mean"][0].sel({"class": "el_nino"}), expected, rtol=1e-10)


def test_a_target_that_a_sample_does_not_have_is_left_out(tmp_path, caplog):
    data = samples(30)
    relevance = build(tmp_path, Lrp(target=["la_nina", "el_nino"], score="logit", rules="epsilon"), data, networks())
    there = relevance["sample"] % 3 > 0
    for name in ("relevance", "target_value"):
        relevance[name][1] = relevance[name][1].where(there)
    result, _ = composite(tmp_path, Composite(normalize="none", where="all"), relevance, data)
    label = data["label"].values
    assert result["n_used"].values.tolist() == [
        [(label == k).sum() for k in range(3)],
        [(there.values & (label == k)).sum() for k in range(3)],
    ]
    assert result["n_absent"].values.tolist() == [[0] * 3, [(~there.values & (label == k)).sum() for k in range(3)]]
    assert not result["n_empty"].any()
    assert "a map of zeros" not in caplog.text
    absent = (~there.values & (label == 1)).sum()
    assert (
        f"left out of the composite of neutral for target El Niño: {absent} maps (no pixel met `where`)" in caplog.text
    )


def test_warnings_name_places_in_words(caplog):
    counts = xr.Dataset(
        {name: (("target", "class"), [[3]]) for name in ("n_used", "n_events")},
        {"target": ['{"box": {"lat": [-10.0, 10.0], "lon": [170.0, -160.0]}}'], "class": ["all"]},
    )
    warn(counts, "tropics")
    assert "the composite of all for target 10°S to 10°N, 170°E to 160°W rests on 3 events" in caplog.text


def test_warnings_name_their_stage_and_target(tmp_path, caplog):
    data = samples(30)
    relevance = build(tmp_path, Lrp(target=["la_nina", "el_nino"], score="logit", rules="epsilon"), data, networks())
    relevance["relevance"][1] = 0 * relevance["relevance"][1]
    relevance.attrs["account"] = "approximate"  # of maps that were changed it does not close
    with caplog.at_level(logging.WARNING, logger="geoxai.composite"):
        composite(tmp_path, Composite(where="all"), relevance, data)
    assert "composite: no sample is left for the composite of neutral for target El Niño" in caplog.text
    assert all(record.getMessage().startswith("composite: ") for record in caplog.records)
    with pytest.raises(OptionError, match="cancel in a sum"):
        composite(tmp_path, Composite(where="all", normalize="sum"), relevance, data)


def test_a_class_without_a_sample_is_summarised_without_a_division_by_zero(tmp_path):
    inputs = {name: xr.DataArray(np.zeros((2, 3, 4)), dims=("class", "lat", "lon")) for name in ("a", "b")}
    for number, array in enumerate(inputs.values(), 1):
        array[1] = number
    result = xr.Dataset(
        {f"relevance_mean_{name}": array.expand_dims({f"channel_{name}": ["x"]}) for name, array in inputs.items()},
        {"class": ["cold", "warm"], "lat": [-10.0, 0, 10], "lon": [0.0, 90, 180, 270]},
        {"network_inputs": "a b"},
    ).chunk()
    empty = {name: xr.Dataset(coords={"class": result["class"]}) for name in inputs}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        shares = {name: found["input_share"].values for name, found in with_shares(empty, result).items()}
    np.testing.assert_allclose(shares["a"], [np.nan, 1 / 3])
    np.testing.assert_allclose(shares["b"], [np.nan, 2 / 3])


def test_gradients_have_no_account_and_claim_none(tmp_path, caplog):
    data = samples()
    with caplog.at_level(logging.WARNING, logger="geoxai.explain"):
        store = build(tmp_path, Gradient(target="el_nino", score="logit"), data, networks())
    assert not caplog.records
    assert float(abs(store["filled_relevance"]).min()) > 0
    context = Context("relevance", tmp_path, {})
    assert Gradient().summarise(context, store) is None
    with caplog.at_level(logging.WARNING, logger="geoxai.explain"):
        build(tmp_path, Lrp(rules="w_square", target="el_nino", score="logit"), data, networks())
    assert "counted as lost" in caplog.text


def test_shares_of_the_account_stand_in_the_summary(tmp_path):
    data = samples(30)
    stage = Lrp(target=["la_nina", "el_nino"], score="logit", rules="epsilon")
    store = build(tmp_path, stage, data, networks())
    told = json.loads(json.dumps(stage.summarise(Context("relevance", tmp_path, {}), store)))
    shares = told["shares_of_value"]
    assert set(shares) == {"la_nina", "el_nino"}
    assert set(shares["el_nino"]) == {"train", "test"}
    test = store.isel(target=1, sample=(store["split"] == 2).values)
    share = (test["bias_relevance"] / test["target_value"]).values
    expected = {"median": np.median(share), "lowest": share.min(), "highest": share.max()}
    assert shares["el_nino"]["test"]["bias"] == pytest.approx(expected)
    assert told["values"]["el_nino"]["test"]["explained"] == 15
    plain = store.isel(target=0, drop=True).drop_vars("split")
    assert set(stage.summarise(Context("relevance", tmp_path, {}), plain)["values"]) == {"all"}
