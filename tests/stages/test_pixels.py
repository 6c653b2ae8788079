"""select.pixels: the pixels that stand out, apart from each other and from the border."""

import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st

from geoxai.errors import OptionError
from geoxai.stages.pixels import SelectPixels
from geoxai.statistics.pixels import top_pixels
from tests.stages.network_samples import context, filled, samples, stored


def predictions(truth, shift=1.0, networks=None, seed=1):
    rng = np.random.default_rng(seed)
    images = truth["target"] + shift * rng.normal(size=truth["target"].shape).astype(np.float32)
    if networks:
        images = xr.concat([images, -images], "network").assign_coords(network=[0, 1])
    return images.astype("float32").rename("prediction").to_dataset()


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 9999), st.integers(1, 5), st.floats(0, 6), st.integers(0, 3))
def test_greedy_choice_by_a_slow_loop(seed, count, separation, border):
    rng = np.random.default_rng(seed)
    score, allowed = rng.integers(0, 20, (2, 9, 8)).astype(float), rng.random((2, 9, 8)) < 0.7
    score[0, 4, 4] = np.nan
    found = top_pixels(score, allowed, count, separation, border)
    for s in range(2):
        chosen = []
        for _ in range(count):
            best = None
            for i in range(border, 9 - border):
                for j in range(border, 8 - border):
                    far = all(np.hypot(i - a, j - b) >= max(separation, 1) for a, b in chosen)
                    free = allowed[s, i, j] and not np.isnan(score[s, i, j]) and far
                    if free and (best is None or score[s, i, j] > score[s, best[0], best[1]]):
                        best = (i, j)
            if best is None:
                break
            chosen.append(best)
        assert [tuple(p) for p in found[s] if p[0] >= 0] == chosen


def test_argmax_of_prediction_where_both_are_high(tmp_path):
    truth = stored(samples(12, kind="image"), tmp_path / "samples.zarr")
    images = predictions(truth.load())
    stage = SelectPixels(where="prediction > 41 and target > 41", count=2, separation=2, chunk=5)
    store = filled(stage, context(tmp_path, from_=images, samples=truth)).load()
    assert store["row"].dims == ("sample", "pixel")
    for s in range(12):
        field = images["prediction"].values[s, 0].copy()
        field[~((field > 41) & (truth["target"].values[s, 0] > 41))] = -np.inf
        row, column = np.unravel_index(field.argmax(), field.shape)
        if field.max() == -np.inf:
            assert int(store["row"][s, 0]) == -1
            assert bool(store["value"][s, 0].isnull())
            continue
        assert (int(store["row"][s, 0]), int(store["column"][s, 0])) == (row, column)
        assert float(store["value"][s, 0]) == pytest.approx(float(field[row, column]))
        assert float(store["pixel_lat"][s, 0]) == float(truth["lat"][row])
        assert float(store["pixel_lon"][s, 0]) == float(truth["lon"][column])


def test_networks_and_the_largest_error(tmp_path):
    truth = samples(6, kind="image")
    images = predictions(truth, networks=2)
    store = filled(SelectPixels(by="absolute_difference"), context(tmp_path, from_=images, samples=truth)).load()
    difference = np.abs(images["prediction"].values - truth["target"].values)[:, :, 0]
    for n in range(2):
        for s in range(6):
            at = np.unravel_index(difference[n, s].argmax(), difference[n, s].shape)
            assert (int(store["row"][n, s, 0]), int(store["column"][n, s, 0])) == at
    low = filled(SelectPixels(order="lowest", chunk=6), context(tmp_path, "low", from_=images)).load()
    assert float(low["value"][0, 0, 0]) == pytest.approx(float(images["prediction"][0, 0].min()))


def test_conditions_on_samples(tmp_path):
    truth = samples(8, kind="image")
    stage = SelectPixels(where="split == 'train' and prediction > 0")
    store = filled(stage, context(tmp_path, from_=predictions(truth), samples=truth)).load()
    np.testing.assert_array_equal((store["row"] >= 0).values[:, 0], truth["split"].values == 0)


def test_a_condition_that_no_pixel_meets_is_reported(tmp_path, caplog):
    truth = samples(4, kind="image")
    where = context(tmp_path, "peaks", from_=predictions(truth), samples=truth)
    for condition, told in (
        ("prediction > 1e6", ["peaks: no pixel of any sample meets where: prediction > 1e6"]),
        ("prediction > -1e6", []),
    ):
        caplog.clear()
        stage = SelectPixels(where=condition)
        assert stage.summarise(where, stage.compute(where, 0, 4)) is None
        assert [record.getMessage() for record in caplog.records] == told


def test_mistakes(tmp_path):
    truth = samples(4, kind="image")
    images = predictions(truth)
    with pytest.raises(ValueError, match="not a condition"):
        SelectPixels(where="prediction + 1")
    for stage, message in (
        (SelectPixels(border=3), "no pixel of 6 x 8 is 3 from the border"),
        (SelectPixels(channel="dbz"), "unknown channel 'dbz'"),
    ):
        with pytest.raises(OptionError, match=message):
            stage.skeleton(context(tmp_path, from_=images, samples=truth))
    with pytest.raises(OptionError, match="needs samples with true images"):
        SelectPixels(by="target").skeleton(context(tmp_path, from_=images))
    with pytest.raises(OptionError, match="unknown variable 'predicton'"):
        SelectPixels(where="predicton > 1").compute(context(tmp_path, from_=images), 0, 2)
    with pytest.raises(OptionError, match="not images"):
        SelectPixels().skeleton(context(tmp_path, from_=images.isel(target_channel=0, lat=0, lon=0, drop=True)))


@pytest.mark.parametrize("chunk", [0, -3])
def test_a_chunk_without_samples_is_refused(chunk):
    with pytest.raises(ValueError, match="at least one sample"):
        SelectPixels(chunk=chunk)
