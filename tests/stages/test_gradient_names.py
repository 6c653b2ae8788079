"""A gradient is called what it is, in the units it has, wherever a person reads of it."""

import numpy as np
import pytest
import xarray as xr

import geoxai
from geoxai.explained import quantity, units_of
from geoxai.stages.composite import Composite
from geoxai.stages.explain import Gradient, Lrp
from geoxai.stages.model import Model
from tests.stages.network_samples import Signal, context, samples
from tests.stages.test_model import exported

NAMES = {"plain": "gradient", "squared": "squared gradient", "times_input": "gradient times input"}


def texts(dataset: xr.Dataset) -> str:
    return " ".join(str(value) for variable in dataset.variables.values() for value in variable.attrs.values())


def filled(stage, where) -> xr.Dataset:
    """The store of an explanation, in memory."""
    template = stage.layout(where).template
    found = stage.compute(where, 0, template.sizes["sample"])
    return template.assign({n: found[n].assign_attrs(template[n].attrs) for n in template.data_vars})


@pytest.mark.parametrize("variant", NAMES)
def test_stores_and_composites_of_gradients_never_speak_of_relevance(tmp_path, variant, caplog):
    data = samples().assign(valid=(("channel", "lat", "lon"), np.ones((2, 6, 8), bool)))
    networks = Model(path=exported(Signal(), tmp_path / "net.pt2")).open(context(tmp_path, from_=data))
    stage = Gradient(variant=variant)
    store = filled(stage, context(tmp_path, "maps", from_=data, model=networks))
    assert store["relevance"].attrs["long_name"] == NAMES[variant]
    assert "relevance" not in texts(store)
    composite = Composite(regions=["nino34"])
    where = context(tmp_path, "composite", from_=store)
    size, _ = composite.extent(where)
    result = composite.merge(where, iter([composite.partial(where, 0, size)]))
    assert result["relevance_mean"].attrs["long_name"].startswith(f"mean {NAMES[variant]}, each map divided by")
    assert "relevance" not in texts(result)
    summary = str(composite.summarise(where, result))
    assert "relevance" not in summary
    assert f"{NAMES[variant].replace(' ', '_')}_share" in summary


def test_relevance_stays_relevance(tmp_path):
    data = samples().assign(valid=(("channel", "lat", "lon"), np.ones((2, 6, 8), bool)))
    networks = Model(path=exported(Signal(), tmp_path / "net.pt2")).open(context(tmp_path, from_=data))
    store = filled(Lrp(rules="epsilon"), context(tmp_path, "maps", from_=data, model=networks))
    assert store["relevance"].attrs["long_name"] == "relevance"
    assert store["relevance"].attrs["units"] == "1"


@pytest.mark.parametrize(
    ("method", "output", "inputs", "units"),
    [
        ("lrp", "K", "hPa", "K"),
        ("gradient_x_input", "K", "hPa", "K"),
        ("gradient", "K", "hPa", "K hPa-1"),
        ("gradient", "K", "1", "K"),
        ("gradient", "1", "K", "K-1"),
        ("gradient", "1", "1", "1"),
        ("gradient_squared", "K", "m s-1", "K2 (m s-1)-2"),
        ("gradient", "", "K", ""),
    ],
)
def test_units_of_maps_follow_the_method(method, output, inputs, units):
    assert units_of(method, output, inputs) == units


def test_explain_in_a_notebook_calls_a_gradient_so():
    data = samples(8)
    found = geoxai.explain(Signal().eval(), data["inputs"], method="gradient", target=0, units="K")
    assert found["relevance"].attrs["long_name"] == quantity("gradient") == "gradient"
    assert "relevance" not in texts(found)
