"""Normalisation: closed forms, and that one large sample does not decide."""

import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st

from geoxai.errors import OptionError
from geoxai.statistics.normalize import normalize


def maps(values):
    return xr.DataArray(np.asarray(values, float), dims=("sample", "channel", "lat"))


def test_closed_forms():
    r = maps([[[1.0, -4.0], [3.0, np.nan]]])
    value = xr.DataArray([-2.0], dims="sample")
    for how, size in (("max", 4), ("l1", 8), ("percent", 0.08), ("target", -2), ("none", 1)):
        scaled, empty = normalize(r, how, value)
        np.testing.assert_allclose(scaled, r / size)
        assert not empty.any()
    np.testing.assert_allclose(normalize(abs(r), "sum")[0], abs(r) / 8)


def test_sum_of_signed_maps_is_refused():
    with pytest.raises(OptionError, match="both signs") as error:
        normalize(maps([[[1.0, -1.0]]]), "sum")
    assert error.value.option == "normalize"
    assert "l1" in error.value.fix


@pytest.mark.parametrize("how", ["max", "l1", "percent", "sum"])
def test_maps_of_zeros_are_reported(how):
    scaled, empty = normalize(maps([[[0.0, 0.0]], [[2.0, 0.0]]]), how)
    assert empty.values.tolist() == [True, False]
    assert np.isnan(scaled[0]).all()


def test_zero_targets_are_reported():
    _, empty = normalize(maps([[[1.0, 2.0]]]), "target", xr.DataArray([0.0], dims="sample"))
    assert empty.all()


@settings(max_examples=50, deadline=None)
@given(factor=st.floats(1e-6, 1e6), seed=st.integers(0, 1000), how=st.sampled_from(["max", "l1", "percent"]))
def test_the_size_of_a_sample_does_not_matter(factor, seed, how):
    r = maps(np.random.default_rng(seed).normal(size=(5, 2, 4)))
    scaled = r.copy(deep=True)
    scaled[2] *= factor
    np.testing.assert_allclose(normalize(scaled, how)[0], normalize(r, how)[0], rtol=1e-12)
