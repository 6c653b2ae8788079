"""Composites against slow loops, closed forms and any cut into blocks."""

import datetime
from itertools import pairwise

import cftime
import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st

from geoxai.statistics.composites import composite, merge_sums, partial_sums
from geoxai.statistics.events import effective_fraction, find_events, lag_counts, time_steps
from geoxai.statistics.moments import merge, moments, pool


def build(maps, group, used, steps, cuts=(), inputs=None):
    """The composite of maps (network, sample, cell), reduced in the blocks that ``cuts`` make."""
    data = xr.DataArray(maps, dims=("network", "sample", "cell"))
    groups, flags = (xr.DataArray(a, dims=("network", "sample")) for a in (group, used))
    fields = None if inputs is None else xr.DataArray(inputs, dims=("sample", "cell"))
    edges = [0, *sorted(cuts), maps.shape[1]]
    parts = []
    for start, stop in pairwise(edges):
        one = {"sample": slice(start, stop)}
        block = None if fields is None else fields.isel(one)
        parts.append(partial_sums(data.isel(one), groups.isel(one), flags.isel(one), steps[start:stop], 2, block))
    event = np.stack([find_events(row, steps) for row in group])
    return composite(merge_sums(iter(parts), group, event), group, event, steps)


def case(seed, samples=60, networks=2, cells=5):
    rng = np.random.default_rng(seed)
    maps = rng.normal(rng.normal(size=cells), 1, (networks, samples, cells))
    maps[rng.random(maps.shape) < 0.1] = np.nan
    maps[rng.random(maps.shape) < 0.05] = 0.0
    group = np.repeat(rng.integers(-1, 2, samples), rng.integers(1, 5, samples))[:samples]
    group = np.stack([group] * networks)
    used = rng.random(group.shape) < 0.8
    steps = np.cumsum(rng.choice([1, 1, 1, 1, 3], samples))
    return maps, group, used & (group >= 0), steps


def slow(maps, group, used, steps, class_, network, cell):
    """One cell of a composite, by its definition."""
    series = [
        (i, maps[network, i, cell])
        for i in range(maps.shape[1])
        if used[network, i] and group[network, i] == class_ and np.isfinite(maps[network, i, cell])
    ]
    values = [v for _, v in series]
    mean = sum(values) / len(values)
    std = (sum((v - mean) ** 2 for v in values) / (len(values) - 1)) ** 0.5 if len(values) > 1 else np.nan
    agreement = sum(v * mean > 0 for v in values) / len(values)
    indices = {i for i in range(maps.shape[1]) if used[network, i] and group[network, i] == class_}

    def same_event(i, j):
        return all(group[network, k] == class_ and (k == i or steps[k] - steps[k - 1] == 1) for k in range(i, j + 1))

    by_index = dict(series)
    pairs = [(v, by_index[i + 1]) for i, v in series if i + 1 in by_index and same_event(i, i + 1)]
    variance = sum((v - mean) ** 2 for v in values) / len(values)
    r = 1.0
    if pairs and variance > 0:
        r = min(max(sum((a - mean) * (b - mean) for a, b in pairs) / len(pairs) / variance, 0.0), 1.0)
    total = float(len(indices))
    for i in sorted(indices):
        for j in sorted(indices):
            if j > i and same_event(i, j):
                total += 2 * r ** (steps[j] - steps[i])
    return mean, std, len(values), agreement, len(values) * len(indices) / total


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_equals_a_slow_loop(seed):
    maps, group, used, steps = case(seed)
    result = build(maps, group, used, steps, cuts=(7, 8, 31))
    for network, class_, cell in np.ndindex(2, 2, 5):
        expected = slow(maps, group, used, steps, class_, network, cell)
        got = [float(result[n][network, class_, cell]) for n in NAMES]
        np.testing.assert_allclose(got, expected, rtol=1e-9)


NAMES = [f"relevance_{n}" for n in ("mean", "std", "count", "sign_agreement", "n_eff")]


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10**6), cuts=st.sets(st.integers(1, 39), max_size=39))
def test_any_cut_into_blocks_equals_the_whole(seed, cuts):
    maps, group, used, steps = case(seed, samples=40, networks=1, cells=3)
    inputs = np.random.default_rng(seed + 1).normal(280, 5, (40, 3))
    whole = build(maps, group, used, steps, inputs=inputs)
    parts = build(maps, group, used, steps, cuts, inputs)
    for name in whole.data_vars:
        np.testing.assert_allclose(parts[name], whole[name], rtol=1e-12, atol=1e-12, err_msg=str(name))


def test_inputs_are_averaged_over_the_same_samples():
    maps, group, used, steps = case(4)
    inputs = np.random.default_rng(5).normal(280, 5, (60, 5))
    result = build(maps, group, used, steps, cuts=(11,), inputs=inputs)
    for network, class_ in np.ndindex(2, 2):
        which = used[network] & (group[network] == class_)
        np.testing.assert_allclose(result["inputs_mean"][network, class_], inputs[which].mean(0), rtol=1e-13)


def test_a_class_without_samples_is_nan_not_zero():
    maps, group, used, steps = case(4)
    used &= group != 1
    result = build(maps, group, used, steps)
    assert np.isnan(result["relevance_mean"][:, 1]).all()
    assert (result["relevance_count"][:, 1] == 0).all()
    assert np.isnan(result["relevance_n_eff"][:, 1]).all()
    assert (result["n_events"][:, 1] == 0).all()


def test_events_end_at_a_gap_and_at_another_class():
    group = np.array([0, 0, 1, 1, -1, 1, 1, 0])
    steps = np.array([5, 6, 7, 8, 9, 10, 12, 13])
    assert find_events(group, steps).tolist() == [0, 0, 1, 1, -1, 3, 4, 5]


def test_steps_of_months_days_and_no_time():
    months = xr.DataArray(np.array(["2000-11-30", "2000-12-01", "2001-02-15"], "datetime64[ns]"), dims="sample")
    assert np.diff(time_steps(months, 3)).tolist() == [1, 2]
    days = xr.DataArray(np.array(["2000-01-01", "2000-01-02", "2000-01-05"], "datetime64[ns]"), dims="sample")
    assert np.diff(time_steps(days, 3)).tolist() == [1, 3]
    januaries = xr.DataArray(np.array(["2000-01-01", "2001-01-01", "2003-01-01"], "datetime64[ns]"), dims="sample")
    assert np.diff(time_steps(januaries, 3)).tolist() == [1, 2]
    assert (np.diff(time_steps(None, 4)) > 1).all()


def test_effective_number_between_events_and_samples():
    event, steps = np.repeat([0, 1, 2], 4), np.concatenate([np.arange(4) + 10 * k for k in range(3)])
    counts = lag_counts(event, steps, np.ones(12, bool))
    assert counts.tolist() == [12, 9, 6, 3]
    fraction = effective_fraction(counts, np.array([0.0, -0.4, 0.5, 1.0, np.nan]))
    exact = 12 / (12 + 2 * (9 * 0.5 + 6 * 0.25 + 3 * 0.125))
    np.testing.assert_allclose(12 * fraction, [12, 12, 12 * exact, 3, 3])


def test_effective_number_predicts_the_spread_of_means():
    """Means of 40 events of 6 autocorrelated samples scatter as those of n_eff independent ones."""
    rng, r, draws = np.random.default_rng(0), 0.7, 4000
    x = np.empty((draws, 40, 6))
    x[..., 0] = rng.normal(size=(draws, 40))
    for k in range(1, 6):
        x[..., k] = r * x[..., k - 1] + np.sqrt(1 - r**2) * rng.normal(size=(draws, 40))
    event, steps = np.repeat(np.arange(40), 6), np.concatenate([np.arange(6) + 10 * k for k in range(40)])
    n_eff = 240 * effective_fraction(lag_counts(event, steps, np.ones(240, bool)), np.array(r))
    assert abs(1 / x.mean((1, 2)).var() / n_eff - 1) < 0.08


def test_moments_of_blocks_and_cells():
    rng = np.random.default_rng(0)
    x = 1e6 + rng.normal(size=(50, 3))
    x[:20, 1] = np.nan
    together = merge(moments(x[:17]), moments(x[17:]))
    np.testing.assert_allclose(together.variance(1), np.nanvar(x, axis=0, ddof=1), rtol=1e-9)
    assert together.count.tolist() == [50, 30, 50]
    everything = pool(moments(x), axis=(0,))
    np.testing.assert_allclose(everything.mean, np.nanmean(x), rtol=1e-15)
    np.testing.assert_allclose(everything.variance(0), np.nanvar(x), rtol=1e-9)


def test_where_no_sample_has_relevance_there_is_no_effective_number():
    maps, group, used, steps = case(6)
    land = maps.copy()
    land[:, :, ..., 0] = np.nan
    n_eff, there = (build(m, group, used, steps)["relevance_n_eff"] for m in (land, maps))
    assert np.isnan(n_eff[..., 0]).all()
    np.testing.assert_array_equal(n_eff[..., 1:], there[..., 1:])


@pytest.mark.parametrize("calendar", ["standard", "noleap", "360_day"])
@pytest.mark.parametrize(("months", "count"), [(12, 80), (3, 200), (1, 240)])
def test_a_series_without_gaps_is_one_event_however_its_stamp_drifts(calendar, months, count):
    """Stamps in the middle between two bounds, and every 365 (or 91.25) days, which no calendar year is long."""
    first, last = (cftime.datetime(1900, 1, 1, calendar=calendar) for _ in range(2))
    bounds = [first.replace(year=1900 + i * months // 12, month=i * months % 12 + 1) for i in range(count + 1)]
    middle = [a + (b - a) / 2 for a, b in pairwise(bounds)]
    even = [last + datetime.timedelta(days=365 / 12 * months * i) for i in range(60)] if calendar != "360_day" else []
    for times in (bounds, middle, even):
        time = xr.DataArray(np.array(times), dims="sample")
        assert (np.diff(time_steps(time, len(times))) == 1).all()
        for gap in (3, 7):  # a time that is missing parts it in two
            assert np.diff(time_steps(time[np.arange(len(times)) != gap], len(times) - 1)).max(initial=2) == 2


def test_samples_step_as_the_record_they_are_taken_from():
    time = xr.DataArray(np.array(["2000-01-01", "2000-01-04", "2000-01-07"], "datetime64[ns]"), dims="sample")
    assert np.diff(time_steps(time, 3)).tolist() == [1, 1]
    assert np.diff(time_steps(time.assign_attrs(step="86400 seconds"), 3)).tolist() == [3, 3]
    jitter = np.datetime64("2000-01-01", "ns") + np.cumsum(np.tile([300, 299, 301], 400)).astype("timedelta64[s]")
    assert (np.diff(time_steps(xr.DataArray(jitter, dims="sample"), 1200)) == 1).all()


def test_means_of_eight_days_that_begin_anew_each_january_are_one_event():
    years = [np.datetime64(f"{y}-01-01", "ns") + np.arange(46) * np.timedelta64(8, "D") for y in range(2000, 2010)]
    time = xr.DataArray(np.concatenate(years), dims="sample")
    assert (np.diff(time_steps(time, time.size)) == 1).all()
    assert np.diff(time_steps(time[np.arange(460) != 99], 459)).max() == 2
