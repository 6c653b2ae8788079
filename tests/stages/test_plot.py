"""plot.maps: the right field, the right cases, whole files."""

import cftime
import numpy as np
import pytest
import xarray as xr
from pydantic import ValidationError

import geoxai.plotting.maps
from geoxai.errors import OptionError
from geoxai.plotting.titles import panel_titles
from geoxai.stages.plot import Maps
from geoxai.stages.stage import Context

LAT, LON = np.arange(-80.0, 81, 20), np.arange(10.0, 360, 20)


@pytest.fixture
def composite() -> xr.Dataset:
    dims = ("network", "class", "channel", "lat", "lon")
    random = np.random.default_rng(0)
    maps = random.standard_normal((3, 2, 1, 9, 18))
    counts = np.broadcast_to(np.array([7, 5])[None, :, None, None, None], maps.shape).astype("int32")
    return xr.Dataset(
        {
            "relevance_mean": (dims, maps, {"long_name": "mean relevance", "units": "1"}),
            "relevance_std": (dims, abs(maps)),
            "relevance_count": (dims, counts),
            "inputs_mean": (dims[1:], maps.mean(0), {"long_name": "sea surface temperature anomaly", "units": "K"}),
        },
        coords={"class": ["la_nina", "el_nino"], "channel": ["sst"], "lat": LAT, "lon": LON},
    )


@pytest.fixture
def relevance() -> xr.Dataset:
    time = xr.date_range("1998-01", periods=6, freq="MS", use_cftime=True, calendar="noleap")
    field = np.arange(6 * 9 * 18, dtype="float32").reshape(6, 1, 9, 18)
    return xr.Dataset(
        {"relevance": (("sample", "channel", "lat", "lon"), field), "confidence": (("sample",), np.ones(6))},
        coords={"sample": np.arange(10, 16), "time": ("sample", time), "channel": ["sst"], "lat": LAT, "lon": LON},
    ).chunk(sample=2)


@pytest.fixture
def drawn(monkeypatch):
    """What plot_maps was asked to draw."""
    calls = []
    plot_maps = geoxai.plotting.maps.plot_maps

    def spy(data, **kwargs):
        if not kwargs["narrow"]:
            calls.append((data.compute(), kwargs))
        return plot_maps(data, **kwargs)

    monkeypatch.setattr(geoxai.plotting.maps, "plot_maps", spy)
    return calls


def test_files_are_named_after_the_stage(composite, tmp_path):
    stage = Maps.model_validate({"format": ["png", "pdf"]})
    context = Context("maps", tmp_path, {"from": composite})
    stage.skeleton(context)
    paths = stage.write(context)
    files = ["maps.png", "maps.pdf", "narrow/maps.png", "maps.txt"]
    assert paths == [tmp_path / "figures" / file for file in files]
    assert paths[0].read_bytes().startswith(b"\x89PNG")
    assert paths[1].read_bytes().startswith(b"%PDF")
    assert sorted(p for p in (tmp_path / "figures").rglob("*") if p.is_file()) == sorted(paths)


def test_networks_are_averaged_and_cases_counted(composite, tmp_path, drawn):
    Maps().write(Context("maps", tmp_path, {"from": composite}))
    ((field, _),) = drawn
    xr.testing.assert_allclose(field.drop_vars("n"), composite["relevance_mean"].mean("network"))
    assert field.attrs["long_name"] == "mean relevance"
    assert field["n"].values.tolist() == [7, 5]


def test_a_panel_names_the_cases_of_its_own_target_class_and_network(tmp_path, monkeypatch):
    figures = []
    monkeypatch.setattr(geoxai.plotting.maps, "save_figure", lambda figure, *_: figures.append(figure))
    dims = ("network", "target", "class", "channel", "lat", "lon")
    used = np.array([[[4, 0], [3, 9]], [[5, 0], [3, 8]]])
    counts = np.broadcast_to(used[..., None, None, None], (2, 2, 2, 1, 9, 18)).astype("int32")
    data = xr.Dataset(
        {"relevance_mean": (dims, np.ones(counts.shape)), "relevance_count": (dims, counts)},
        coords={"class": ["cold", "warm"], "target": ["x", "y"], "channel": ["sst"], "lat": LAT, "lon": LON},
    )
    for options in ({}, {"networks": "each", "select": {"network": 1}}, {"select": {"target": "y"}}):
        Maps.model_validate(options).write(Context("maps", tmp_path, {"from": data}))
    titles = [[axes.get_title().split(", n = ") for axes in figure.axes if axes.get_title()] for figure in figures[::2]]
    assert titles[0] == [
        ["(a) x, cold", "4 to 5"],
        ["(b) x, warm", "0"],
        ["(c) y, cold", "3"],
        ["(d) y, warm", "8 to 9"],
    ]
    assert titles[1] == [["(a) x, cold", "5"], ["(b) x, warm", "0"], ["(c) y, cold", "3"], ["(d) y, warm", "8"]]
    assert titles[2] == [["(a) cold", "3"], ["(b) warm", "8 to 9"]]


def test_each_network_may_have_its_row(composite, tmp_path, drawn):
    stage = Maps(networks="each", panels=["network", "class"], variable="relevance_std")
    stage.write(Context("maps", tmp_path, {"from": composite}))
    ((field, _),) = drawn
    assert field.sizes["network"] == 3
    assert field.name == "relevance_std"


def test_contours_default_to_the_mean_inputs(composite, tmp_path, drawn):
    stage = Maps.model_validate({"select": {"class": "el_nino"}, "contours": {"levels": [-1, 1]}})
    stage.write(Context("maps", tmp_path, {"from": composite}))
    ((field, kwargs),) = drawn
    xr.testing.assert_equal(kwargs["contours"], composite["inputs_mean"].sel({"class": "el_nino"}))
    assert kwargs["levels"] == [-1, 1]
    assert field["class"] == "el_nino"


def test_contours_of_another_stage_are_taken_at_the_same_time(relevance, tmp_path, drawn):
    anomaly = xr.Dataset({"sst": relevance["relevance"].isel(channel=0, drop=True).swap_dims(sample="time") * 2})
    stage = Maps.model_validate({"select": {"time": "1998-03"}, "contours": {"from": "anomaly", "variable": "sst"}})
    stage.write(Context("maps", tmp_path, {"from": relevance, "contours.from": anomaly}))
    ((field, kwargs),) = drawn
    np.testing.assert_array_equal(field.squeeze(), relevance["relevance"].values[2, 0])
    np.testing.assert_array_equal(kwargs["contours"], 2 * relevance["relevance"].values[2, 0])


@pytest.mark.parametrize("select", [{}, {"time": ["1998-03", "1998-05"]}])
@pytest.mark.parametrize("maps", ["relevance", "grid"])
def test_contours_are_matched_by_month_in_every_calendar(relevance, tmp_path, drawn, maps, select):
    months = xr.date_range("1997-11-16", periods=10, freq="MS").shift(15, "D")
    field = np.random.default_rng(0).standard_normal((10, 9, 18))
    anomaly = xr.Dataset({"sst": (("time", "lat", "lon"), field)}, {"time": months, "lat": LAT, "lon": LON})
    if maps == "grid":
        relevance = relevance.swap_dims(sample="time").drop_vars("sample")
    stage = Maps.model_validate({"select": select, "contours": {"from": "anomaly", "variable": "sst"}})
    stage.write(Context("maps", tmp_path, {"from": relevance, "contours.from": anomaly}))
    wanted = [(t.year, t.month) for t in drawn[0][0]["time"].values]
    places = [[(t.year, t.month) for t in months].index(month) for month in wanted]
    np.testing.assert_array_equal(drawn[0][1]["contours"], field[places])


def test_contours_that_lack_a_time_are_refused(relevance, tmp_path):
    early = xr.Dataset({"sst": relevance["relevance"].isel(channel=0, drop=True).swap_dims(sample="time")[:3]})
    stage = Maps.model_validate({"contours": {"from": "anomaly", "variable": "sst"}})
    with pytest.raises(OptionError, match="the maps have the time 1998-04-01, but the contours do not"):
        stage.write(Context("maps", tmp_path, {"from": relevance, "contours.from": early}))


def test_an_absent_time_is_reported_with_the_known_range(relevance, tmp_path):
    time = xr.date_range("1998-01", periods=20, freq="MS")
    long = xr.Dataset({"sst": (("time", "lat", "lon"), np.zeros((20, 9, 18)))}, {"time": time, "lat": LAT, "lon": LON})
    with pytest.raises(OptionError, match=r"time has no 1971-01: it runs from 1998-01-01 to 1999-08-01$"):
        Maps(select={"time": "1971-01"}).write(Context("maps", tmp_path, {"from": long}))


@pytest.mark.parametrize(
    ("select", "samples"),
    [
        ({"sample": 12}, [12]),
        ({"sample": [15, 10]}, [15, 10]),
        ({"time": "1998-05-01"}, [14]),
        ({"time": ["1998-01", "1998-06"]}, [10, 15]),
        ({"time": 1998}, [10, 11, 12, 13, 14, 15]),
    ],
)
def test_selection_by_value(relevance, tmp_path, drawn, select, samples):
    Maps(select=select).write(Context("maps", tmp_path, {"from": relevance}))
    assert np.atleast_1d(drawn[0][0]["sample"].values).tolist() == samples


def test_noleap_dates_are_titles(relevance):
    assert isinstance(relevance["time"].values[0], cftime.DatetimeNoLeap)
    figure = geoxai.plotting.maps.plot_maps(relevance["relevance"].isel(channel=0))
    assert figure.axes[1].get_title() == "(b) February 1998"


@pytest.mark.parametrize(
    ("options", "words", "option"),
    [
        ({"variable": "relevance_men"}, "did you mean 'relevance_mean'", "variable"),
        ({"panels": "clas"}, "did you mean 'class'", "panels"),
        ({"select": {"season": "DJF"}}, "there are: channel, class, network", "select.season"),
        ({"contours": {"variable": "sst"}}, "there are: inputs_mean", "contours.variable"),
    ],
)
def test_names_are_checked_before_anything_is_computed(composite, tmp_path, options, words, option):
    with pytest.raises(OptionError) as error:
        Maps.model_validate(options).skeleton(Context("maps", tmp_path, {"from": composite}))
    assert words in str(error.value)
    assert error.value.option == option


def test_an_absent_value_is_reported_with_the_known_ones(composite, tmp_path):
    with pytest.raises(OptionError, match="there are: el_nino, la_nina"):
        Maps(select={"class": "neutral"}).write(Context("maps", tmp_path, {"from": composite}))


def test_a_failed_figure_leaves_nothing(composite, tmp_path):
    stage = Maps(panels=["network", "class"], networks="mean")
    with pytest.raises(OptionError):
        stage.write(Context("maps", tmp_path, {"from": composite}))
    assert not (tmp_path / "figures").exists()


def test_the_caption_says_what_how_and_of_which_cases(composite, tmp_path):
    explained = {"method": "lrp", "rules": "epsilon_plus", "target": '"predicted"', "score": "contrast"}
    data = composite.assign_attrs(explained, subset="test", where="correct")
    Maps.model_validate({"contours": {"levels": [-1, 1]}}).write(Context("maps", tmp_path, {"from": data}))
    assert (tmp_path / "figures" / "maps.txt").read_text(encoding="utf-8").split(". ")[:-1] == [
        "Mean relevance",
        "Layer-wise relevance propagation, rules epsilon_plus",
        "Explained: the predicted class (its logit minus that of the runner-up)",
        "Samples: test split, classified correctly",
        "Mean of 3 networks",
        "(a) La Niña, n = 7; (b) El Niño, n = 5",
        "Contours: sea surface temperature anomaly (K) at −1, 1; negative dashed",
    ]


def test_months_have_no_day_in_titles_and_places_no_braces(relevance, tmp_path, drawn):
    names = ['{"point": {"lat": 0.0, "lon": 220.0}}', '{"box": "nino34"}']
    two = xr.concat([relevance[["relevance"]]] * 2, xr.DataArray(names, dims="target", name="target"))
    Maps(select={"time": "1998-03"}).write(Context("maps", tmp_path, {"from": two}))
    ((field, kwargs),) = drawn
    assert kwargs["title"] == "March 1998"
    assert panel_titles(field, ("target",)) == ["(a) 0°, 140°W", "(b) Niño 3.4"]


@pytest.mark.parametrize(
    ("attrs", "units", "label"),
    [
        ({"target": '"predicted"', "score": "contrast"}, "1", "relevance (shares of a difference of logits)"),
        ({"target": '"el_nino"', "score": "logit"}, "1", "relevance (shares of a logit)"),
        ({"target": "[0, 3]", "score": "contrast"}, "dBZ", None),  # its label says "relevance (dBZ)"
        ({"target": "3", "score": "contrast"}, "1", None),
        ({"target": '"predicted"', "score": "contrast", "normalize": "max"}, "1", None),
    ],
)
def test_the_colour_bar_says_what_is_shared_out(relevance, tmp_path, drawn, attrs, units, label):
    relevance["relevance"].attrs.update(long_name="relevance", units=units)
    Maps(select={"time": "1998-03"}).write(Context("maps", tmp_path, {"from": relevance.assign_attrs(attrs)}))
    assert drawn[0][1]["label"] == label


@pytest.mark.parametrize(
    ("step", "title"), [("1 months", "January 1998"), ("12 months", "1998"), ("86400 seconds", "1 January 1998")]
)
def test_dates_are_to_the_step_of_the_record_that_samples_are_taken_from(relevance, tmp_path, drawn, step, title):
    time = xr.DataArray(np.arange("1998", "2004", dtype="M8[Y]").astype("M8[ns]"), dims="sample", attrs={"step": step})
    source = relevance.assign_coords(time=time)
    Maps(select={"sample": [10, 12]}).write(Context("maps", tmp_path, {"from": source}))
    assert panel_titles(drawn[0][0], ("sample",))[0] == f"(a) {title}"


@pytest.fixture
def targets(composite) -> xr.Dataset:
    """A composite over target, class and channel of a single network."""
    one = composite.isel(network=0, channel=0, drop=True)
    channels = xr.concat([one, 2 * one, 3 * one], xr.DataArray(["sst", "slp", "z"], dims="channel", name="channel"))
    both = xr.concat([channels, -channels], xr.DataArray(["peaks 0", "peaks 1"], dims="target", name="target"))
    return both.transpose("target", "class", "channel", ...)


def test_a_third_dim_gives_several_figures(targets, tmp_path, drawn):
    stage, context = Maps.model_validate({"contours": {}}), Context("maps", tmp_path, {"from": targets})
    stage.skeleton(context)
    paths = stage.write(context)
    assert [path.name for path in paths] == [
        file for end in ("peaks_0", "peaks_1") for file in (f"maps.{end}.png", f"maps.{end}.png", f"maps.{end}.txt")
    ]
    for place, (field, kwargs) in enumerate(drawn):
        np.testing.assert_array_equal(field, targets["relevance_mean"][place])
        np.testing.assert_array_equal(kwargs["contours"], targets["inputs_mean"][place])
        assert kwargs["title"] == f"peaks {place}"


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"panels": ["class", "channel"]}, r"target \(2\).*beside panels over class, channel"),
        ({"networks": "each"}, r"network \(2\), target \(2\), class \(2\), channel \(3\)"),
    ],
)
def test_more_dims_than_can_be_drawn_are_reported_while_planning(targets, tmp_path, options, words):
    networks = xr.concat([targets, targets], "network")
    with pytest.raises(OptionError, match=words) as error:
        Maps.model_validate(options).skeleton(Context("maps", tmp_path, {"from": networks}))
    dim = "network" if "networks" in options else "target"
    assert error.value.fix == f"take one value with select: {{{dim}: ...}}"
    chosen = Maps.model_validate(options | {"select": {dim: 0 if dim == "network" else "peaks 0"}})
    chosen.skeleton(Context("maps", tmp_path, {"from": networks}))
    assert chosen.write(Context("maps", tmp_path, {"from": networks}))


def test_what_was_selected_is_reported_once_over_several_panels(relevance, tmp_path, drawn):
    two = xr.concat([relevance[["relevance"]]] * 2, xr.DataArray(["sst", "slp"], dims="channel", name="channel"))
    Maps(select={"time": "1998-03"}).write(Context("maps", tmp_path, {"from": two}))
    Maps(select={"time": "1998-03"}).write(Context("maps", tmp_path, {"from": relevance}))
    assert [kwargs["title"] for _, kwargs in drawn] == ["March 1998", None]  # alone, a panel says it itself


def test_the_label_says_which_of_several_inputs_is_shown(composite, tmp_path, drawn):
    of_input = {name: f"{name}_upper" for name in ("relevance_mean", "relevance_count", "inputs_mean", "channel")}
    inputs = composite.drop_vars("relevance_std").rename(of_input).assign_attrs(network_inputs="upper surface")
    options = {"variable": "relevance_mean_upper", "contours": {}}
    Maps.model_validate(options).write(Context("maps", tmp_path, {"from": inputs}))
    ((field, kwargs),) = drawn
    assert field.attrs["long_name"] == "upper: mean relevance"
    assert kwargs["contours"].attrs["long_name"] == "upper: sea surface temperature anomaly"


def test_an_unknown_colour_map_is_refused():
    with pytest.raises(ValidationError, match="did you mean 'viridis'"):
        Maps(cmap="virids")
