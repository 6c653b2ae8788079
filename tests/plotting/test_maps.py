"""Maps put every cell at its place, share honest colours, and fit on the page."""

from io import BytesIO

import matplotlib
import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.collections import LineCollection, QuadMesh

from geoxai.errors import OptionError
from geoxai.plotting.maps import plot_maps, save_figure
from geoxai.plotting.scales import contour_levels


def panels_of(figure):
    """The axes of the maps, without that of the colour bar."""
    return [axes for axes in figure.axes if any(isinstance(c, QuadMesh) for c in axes.collections)][
        : len(figure.axes) - 1
    ]


def mesh_of(axes):
    return next(c for c in axes.collections if isinstance(c, QuadMesh))


def edges_of(axes):
    """West to east and south to north edges of the cells."""
    corners = np.asarray(mesh_of(axes).get_coordinates())
    return corners[0, :, 0], corners[:, 0, 1]


def drawn_at(axes, lat, lon):
    """The value drawn at a place, NaN where it is masked or outside the mesh."""
    x, y = edges_of(axes)
    west = axes.get_xlim()[0]
    place = (lon - west) % 360 + west
    column, row = np.searchsorted(x, place) - 1, np.searchsorted(y, lat) - 1
    values = np.ma.filled(mesh_of(axes).get_array(), np.nan).reshape(len(y) - 1, len(x) - 1)
    inside = 0 <= column < values.shape[1] and 0 <= row < values.shape[0]
    return values[row, column] if inside else np.nan


def coast_of(axes):
    return next(c for c in axes.collections if isinstance(c, LineCollection) and c.get_gid() == "coastlines")


@settings(deadline=None, max_examples=12)
@given(
    center=st.sampled_from(["auto", 0, -30, 180, 200.0, 359.0, -123.4]),
    flip=st.booleans(),
    west=st.sampled_from([0.0, -180.0, -77.5]),
)
def test_every_cell_is_at_its_place(center, flip, west):
    lat, lon = np.arange(-85.0, 90, 10), np.arange(5.0, 360, 10)
    globe = xr.DataArray(lat[:, None] + lon / 1000, coords={"lat": lat, "lon": lon}, dims=("lat", "lon"))
    given_field = (
        globe.assign_coords(lon=(globe.lon - west) % 360 + west).sortby("lon").sortby("lat", ascending=not flip)
    )
    (axes,) = panels_of(plot_maps(given_field, center_lon=center))
    middle = 180 if center == "auto" else center
    assert axes.get_xlim() == pytest.approx((middle - 180, middle + 180))
    for place_lat, place_lon in [(-85, 5), (85, 355), (5, 175), (-15, 185), (35, 245)]:
        expected = float(globe.sel(lat=place_lat, lon=place_lon))
        assert drawn_at(axes, place_lat, place_lon) == pytest.approx(expected)


@pytest.mark.parametrize("center", [180, -30, 33.3])
def test_the_mesh_fills_the_globe_without_a_seam(globe, center):
    (axes,) = panels_of(plot_maps(globe, center_lon=center))
    x, y = edges_of(axes)
    assert (x[0], x[-1]) == pytest.approx((center - 180, center + 180))
    assert np.diff(x).min() > 0
    assert np.diff(x).max() <= 5 + 1e-6
    assert (y[0], y[-1]) == pytest.approx((-90, 90))


def test_a_cyclic_point_is_left_out(globe):
    closed = xr.concat([globe, globe.isel(lon=[0]).assign_coords(lon=[362.5])], "lon")
    (axes,), (plain,) = panels_of(plot_maps(closed)), panels_of(plot_maps(globe))
    assert edges_of(axes)[0] == pytest.approx(edges_of(plain)[0])


@pytest.mark.parametrize(
    ("west", "east", "expected"),
    [(120, 290, (120, 290)), (340, 380, (-20, 20)), (-60, 20, (-60, 20)), (170, 190, (170, 190))],
)
@pytest.mark.parametrize("convention", ["0..360", "-180..180"])
def test_a_region_is_shown_whole_with_its_outer_edges(west, east, expected, convention):
    lon = np.arange(west + 2.5, east, 5.0)
    lon = lon % 360 if convention == "0..360" else (lon + 180) % 360 - 180
    lat = np.arange(30.0, -31, -4)
    field = xr.DataArray(np.ones((len(lat), len(lon))), coords={"lat": lat, "lon": lon}, dims=("lat", "lon")).sortby(
        "lon"
    )
    (axes,) = panels_of(plot_maps(field))
    assert axes.get_xlim() == pytest.approx(expected)
    assert axes.get_ylim() == pytest.approx((-32, 32))
    assert edges_of(axes)[0][[0, -1]] == pytest.approx(expected)


def test_an_extent_cuts_cells_and_leaves_gaps_empty(globe):
    region = globe.sel(lon=slice(150, 300))
    (axes,) = panels_of(plot_maps(region, extent=(100, 320, -30, 30)))
    assert axes.get_xlim() == (100, 320)
    assert axes.get_ylim() == (-30, 30)
    assert np.isnan(drawn_at(axes, 0, 110))
    assert drawn_at(axes, 0, 200) == pytest.approx(float(globe.sel(lat=0, lon=200, method="nearest")), abs=1e-2)


def test_the_coast_is_clipped_and_has_no_long_segment(globe):
    for field, kwargs in [(globe, {}), (globe, {"center_lon": -30}), (globe.sel(lon=slice(150, 250)), {})]:
        (axes,) = panels_of(plot_maps(field, **kwargs))
        (west, east), (south, north) = axes.get_xlim(), axes.get_ylim()
        for line in coast_of(axes).get_segments():
            assert np.abs(np.diff(line, axis=0)).max() < 15
            assert line[:, 0].min() >= west - 1e-6
            assert line[:, 0].max() <= east + 1e-6
            assert line[:, 1].min() >= south - 1e-6
            assert line[:, 1].max() <= north + 1e-6


def test_signed_fields_are_symmetric_and_share_their_scale(globe):
    classes = xr.concat([globe * 0.5, -globe * 2], xr.DataArray(["a", "b"], dims="class", name="class"))
    figure = plot_maps(classes, limits="max")
    norms = {(mesh_of(axes).norm.vmin, mesh_of(axes).norm.vmax) for axes in panels_of(figure)}
    largest = float(abs(globe).max()) * 2
    assert norms == {(-largest, largest)}
    assert mesh_of(panels_of(figure)[0]).get_cmap().name == "RdBu_r"


@pytest.mark.parametrize(("offset", "begins_at_0"), [(0.0, True), (270.0, False)])
def test_non_negative_fields_are_sequential(globe, offset, begins_at_0):
    (axes,) = panels_of(plot_maps(abs(globe) / 10 + offset))
    norm = mesh_of(axes).norm
    assert (norm.vmin == 0) == begins_at_0
    assert norm.vmin >= 0
    assert mesh_of(axes).get_cmap().name == "YlOrRd"


def test_robust_limits_ignore_one_wild_cell(globe):
    field = globe / 90
    field[10, 10] = 1e6
    (axes,) = panels_of(plot_maps(field))
    assert mesh_of(axes).norm.vmax < 2
    (axes,) = panels_of(plot_maps(field, limits="max"))
    assert mesh_of(axes).norm.vmax == 1e6


def test_missing_cells_are_grey_not_coloured(globe):
    field = globe.where(globe.lat > 0)
    figure = plot_maps(field)
    (axes,) = panels_of(figure)
    assert np.isnan(drawn_at(axes, -40, 100))
    assert mesh_of(axes).get_cmap().get_bad() == pytest.approx(matplotlib.colors.to_rgba("0.82"))
    masked = plot_maps(globe, mask=globe.lat > 0)
    assert np.isnan(drawn_at(panels_of(masked)[0], -40, 100))


def test_fields_without_values_or_variation_are_drawn(globe):
    for field in (globe * np.nan, globe * 0, globe * 0 + 3):
        norm = mesh_of(panels_of(plot_maps(field, contours=field))[0]).norm
        assert norm.vmin < norm.vmax


def test_contours_have_the_levels_asked_for_and_say_what_they_are(globe):
    anomaly = (globe / 10).assign_attrs(long_name="sea surface temperature anomaly", units="degC")
    figure = plot_maps(globe, contours=anomaly, levels=[-4, -2, 2, 4])
    (axes,) = panels_of(figure)
    lines = next(c for c in axes.collections if type(c).__name__ == "QuadContourSet")
    assert list(lines.levels) == [-4, -2, 2, 4]
    assert lines.get_linestyle()[0] != lines.get_linestyle()[-1]
    reach = np.concatenate([path.vertices for path in lines.get_paths()])
    assert (reach[:, 0].min(), reach[:, 0].max()) == pytest.approx((-2.5, 362.5))  # past the frame: no gap at its sides
    words = " ".join(text.get_text() for text in figure.texts)
    assert "sea surface temperature anomaly (degC) at −4, −2, 2, 4" in words


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (-0.4, 1.9, [0.5, 1.0, 1.5]),
        (-3.1, 3.1, [-3, -2, -1, 1, 2, 3]),
        (271.3, 299.8, [275, 280, 285, 290, 295]),
        (0, 4e-5, [1e-5, 2e-5, 3e-5]),
        (1.234, 1.234, []),
    ],
)
def test_levels_chosen_are_round_and_few(low, high, expected):
    assert contour_levels(np.linspace(low, high, 100), 6) == pytest.approx(expected)


def test_contours_follow_the_class_of_their_panel(globe):
    names = xr.DataArray(["la_nina", "el_nino"], dims="class", name="class")
    field = xr.concat([globe, globe], names)
    lines = xr.concat([globe * 0 + abs(globe.lon - 180), globe], names).isel({"class": [1, 0]})  # in another order
    figure = plot_maps(field, contours=lines, levels=[45.0])
    first, second = (
        np.concatenate(
            [p.vertices for c in axes.collections if type(c).__name__ == "QuadContourSet" for p in c.get_paths()]
        )
        for axes in panels_of(figure)
    )
    assert set(np.round(first[:, 0])) == {135, 225}  # la_nina: meridians
    assert np.ptp(second[:, 1]) < 1  # el_nino: a parallel


def test_titles_come_from_coordinates(globe):
    names = xr.DataArray(["la_nina", "el_nino"], dims="class", name="class")
    field = xr.concat([globe, globe], names).assign_coords(n=("class", [120, 98]))
    assert [axes.get_title() for axes in panels_of(plot_maps(field))] == ["La Niña, n = 120", "El Niño, n = 98"]
    field = field.assign_coords(events=("class", [1, 7]))
    titles = [axes.get_title() for axes in panels_of(plot_maps(field))]
    assert titles == ["La Niña, n = 120, 1 event", "El Niño, n = 98, 7 events"]
    (axes,) = panels_of(plot_maps(field.sel({"class": "el_nino"})))
    assert axes.get_title() == "El Niño, n = 98, 7 events"
    start = np.datetime64("1998-01-01", "ns")
    month = globe.assign_coords(time=np.datetime64("1998-05-01", "ns"), forecast_reference_time=start)
    assert [axes.get_title() for axes in panels_of(plot_maps(month))] == ["1998-05-01"]


def test_units_of_inputs_may_stand_with_their_channel(globe):
    inputs = (
        globe.drop_attrs().rename("inputs_mean").expand_dims(channel=["sst"]).assign_coords(units=("channel", ["degC"]))
    )
    figure = plot_maps(globe, contours=inputs)
    assert "contours: inputs mean (degC) at" in figure.texts[1].get_text()
    (axes,) = panels_of(plot_maps(inputs))
    assert axes.get_title() == "sst"


def test_two_dims_make_rows_and_columns(globe):
    field = globe.expand_dims({"class": ["a", "b"], "channel": ["x", "y", "z"]})
    figure = plot_maps(field, panels=("channel", "class"))
    titles = [axes.get_title() for axes in panels_of(figure)]
    assert titles == ["x, a", "x, b", "y, a", "y, b", "z, a", "z, b"]
    tops = {round(axes.get_position().y1, 6) for axes in panels_of(figure)}
    assert len(tops) == 3


@pytest.mark.parametrize("count", [1, 2, 3, 7, 14])
def test_everything_is_on_the_page(globe, count):
    field = xr.concat(
        [globe] * count, xr.DataArray([f"a_rather_long_class_name_{i}" for i in range(count)], dims="class")
    )
    field = field.assign_coords({"class": [f"a_rather_long_class_name_{i}" for i in range(count)]})
    field = field.sel(lat=slice(-30, 30)).assign_attrs(long_name="mean relevance " * 12, units="1")
    figure = plot_maps(field, contours=field, title="Composites")
    page = figure.bbox
    figure.draw_without_rendering()
    for axes in figure.axes:
        box = axes.get_tightbbox()
        assert box.x0 >= page.x0
        assert box.x1 <= page.x1
        assert box.y0 >= page.y0
        assert box.y1 <= page.y1
    for text in figure.texts:
        box = text.get_window_extent()
        assert box.x0 >= page.x0
        assert box.x1 <= page.x1
        assert box.y0 >= page.y0


def test_a_degree_is_as_long_east_as_north(globe):
    figure = plot_maps(globe)
    width, height = figure.get_size_inches()
    box = panels_of(figure)[0].get_position()
    assert (box.width * width) / (box.height * height) == pytest.approx(2)


def test_tick_labels_name_hemispheres(globe):
    (axes,) = panels_of(plot_maps(globe))
    assert [t.get_text() for t in axes.get_xticklabels()] == ["0°", "60°E", "120°E", "180°", "120°W", "60°W", "0°"]
    assert {"60°S", "0°", "60°N"} <= {t.get_text() for t in axes.get_yticklabels()}


@pytest.mark.parametrize("kind", ["png", "pdf"])
def test_equal_figures_are_equal_files(globe, kind):
    files = [BytesIO(), BytesIO()]
    for file in files:
        save_figure(plot_maps(globe, contours=globe), file, kind)
    assert files[0].getvalue() == files[1].getvalue()
    assert len(files[0].getvalue()) > 10_000


def test_two_dimensional_coordinates_are_drawn_across_the_date_line():
    y, x = np.meshgrid(np.arange(-10.0, 11), np.arange(170.0, 191), indexing="ij")
    lon = xr.DataArray((x + 0.2 * y + 180) % 360 - 180, dims=("y", "x"))
    field = xr.DataArray(x, dims=("y", "x"), coords={"lat": (("y", "x"), y), "lon": lon})
    (axes,) = panels_of(plot_maps(field))
    assert np.diff(axes.get_xlim())[0] == pytest.approx(20 + 4 + 1.2)
    assert np.abs(np.diff(mesh_of(axes).get_coordinates()[..., 0], axis=1)).max() < 2


def test_a_figure_shows_itself_in_a_notebook(globe):
    assert plot_maps(globe)._repr_png_().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("change", "kwargs", "words"),
    [
        (lambda f: f.drop_vars(["lat", "lon"]), {}, "needs coordinates lat and lon"),
        (lambda f: f.expand_dims(a=2, b=2, c=2), {}, "a (2), b (2), c (2)"),
        (lambda f: f.expand_dims(a=2, b=2), {"panels": "a"}, "b (2)"),
        (lambda f: f.expand_dims(a=2), {"panels": "lat"}, "there are: a"),
        (lambda f: f.expand_dims(time=100), {}, "100 panels over time"),
        (lambda f: f, {"extent": (10, 20, 30, -30)}, "not (west, east, south, north)"),
        (lambda f: f.sel(lon=slice(0, 90)), {"extent": (180, 200, -30, 30)}, "no cell of the grid"),
    ],
)
def test_what_cannot_be_drawn_is_said(globe, change, kwargs, words):
    with pytest.raises(OptionError) as error:
        plot_maps(change(globe), **kwargs)
    assert words in str(error.value)


def test_contours_on_another_grid_are_refused(globe):
    with pytest.raises(OptionError, match="another grid"):
        plot_maps(globe, contours=globe.isel(lon=slice(None, None, 2)))
