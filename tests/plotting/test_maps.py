"""Maps put every cell at its place, share honest colours, and fit on the page."""

from io import BytesIO

import matplotlib
import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.collections import LineCollection, PolyCollection, QuadMesh

from geoxai.errors import OptionError
from geoxai.plotting.maps import plot_maps, save_figure
from geoxai.plotting.scales import contour_levels


def panels_of(figure):
    """The axes of the maps, without that of the colour bar."""
    cells = QuadMesh | PolyCollection
    return [axes for axes in figure.axes if any(isinstance(c, cells) for c in axes.collections)][: len(figure.axes) - 1]


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
    titles = [axes.get_title() for axes in panels_of(plot_maps(field))]
    assert titles == ["(a) La Niña, n = 120", "(b) El Niño, n = 98"]
    field = field.assign_coords(events=("class", [1, 7]))
    titles = [axes.get_title() for axes in panels_of(plot_maps(field))]
    assert titles == ["(a) La Niña, n = 120, 1 event", "(b) El Niño, n = 98, 7 events"]
    (axes,) = panels_of(plot_maps(field.sel({"class": "el_nino"})))
    assert axes.get_title() == "El Niño, n = 98, 7 events"
    start = np.datetime64("1998-01-01", "ns")
    month = globe.assign_coords(time=np.datetime64("1998-05-01", "ns"), forecast_reference_time=start)
    assert [axes.get_title() for axes in panels_of(plot_maps(month))] == ["1 May 1998"]


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
    assert titles == ["(a) x, a", "(b) x, b", "(c) y, a", "(d) y, b", "(e) z, a", "(f) z, b"]
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


@pytest.fixture
def turned() -> xr.DataArray:
    """The globe on a grid whose poles lie at 60 N and S, as ocean models have it; the field is the cells' latitude."""
    lat, lon = np.deg2rad(np.meshgrid(np.arange(-87.5, 90, 5), np.arange(2.5, 360, 5), indexing="ij"))
    x, y, z = np.cos(lat) * np.cos(lon), np.cos(lat) * np.sin(lon), np.sin(lat)
    tilt = np.deg2rad(30)
    x, z = np.cos(tilt) * x + np.sin(tilt) * z, np.cos(tilt) * z - np.sin(tilt) * x
    north, east = np.rad2deg(np.arcsin(z)), np.rad2deg(np.arctan2(y, x)) % 360
    coords = {"lat": (("y", "x"), north), "lon": (("y", "x"), east)}
    return xr.DataArray(north, coords, ("y", "x"), "relevance")


def patches_at(axes, lat, lon):
    """Values of the cells drawn at a place."""
    (drawn,) = (c for c in axes.collections if isinstance(c, PolyCollection))
    values = np.asarray(drawn.get_array())
    return [value for path, value in zip(drawn.get_paths(), values) if path.contains_point((lon, lat))]


@pytest.mark.parametrize(("center", "west"), [("auto", 0), (0, -180), (-100, -280)])
def test_curvilinear_grids_round_the_globe_have_every_cell_at_its_place(turned, center, west):
    (axes,) = panels_of(plot_maps(turned, center_lon=center))
    assert axes.get_xlim() == (west, west + 360)
    for lat, lon in [(0, 1), (3, 90), (-45, 200), (50, 300), (-70, 359), (20, 181)]:
        place = west + (lon - west) % 360
        found = patches_at(axes, lat, place)
        assert found
        np.testing.assert_allclose(found, lat, atol=5)


def test_cells_without_a_place_are_left_out_of_a_curvilinear_map(turned):
    lost = (turned["lat"] > 20) & (turned["lat"] < 40)
    field = turned.assign_coords({name: turned[name].where(~lost) for name in ("lat", "lon")})
    (axes,) = panels_of(plot_maps(field, contours=field, levels=[-30, 0], extent=(150, 250, -50, 60)))
    assert not patches_at(axes, 30, 200)
    assert patches_at(axes, 50, 200)
    assert patches_at(axes, -20, 200)
    with pytest.raises(OptionError, match="no cell of the grid"):
        plot_maps(field, extent=(150, 250, 26, 34))


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


def test_contours_on_a_different_grid_are_refused(globe):
    with pytest.raises(OptionError, match="a different grid"):
        plot_maps(globe, contours=globe.isel(lon=slice(None, None, 2)))


@pytest.fixture
def arctic() -> xr.DataArray:
    """A field that says where each cell is, 60 N to the pole."""
    lat, lon = np.arange(61.0, 90, 2), np.arange(2.5, 360, 5)
    return xr.DataArray(
        lat[:, None] + lon / 1000, coords={"lat": lat, "lon": lon}, dims=("lat", "lon"), name="relevance"
    )


@pytest.mark.parametrize("hemisphere", [1, -1])
@pytest.mark.parametrize("west", [0.0, -180.0])
def test_polar_domains_are_seen_from_above_with_every_cell_in_place(arctic, hemisphere, west):
    given = arctic.assign_coords(lat=hemisphere * arctic.lat, lon=(arctic.lon - west) % 360 + west).sortby("lon")
    (axes,) = panels_of(plot_maps(given))
    mesh = mesh_of(axes)
    corners = np.asarray(mesh.get_coordinates())
    centres = (corners[1:, 1:] + corners[:-1, :-1] + corners[1:, :-1] + corners[:-1, 1:]) / 4
    values = np.ma.filled(mesh.get_array(), np.nan).reshape(centres.shape[:2])
    for lat, lon in [(61.0, 2.5), (75.0, 92.5), (87.0, 182.5), (61.0, 272.5)]:
        radius = np.sin(np.deg2rad(90 - lat) / 2) / np.sin(np.deg2rad(30) / 2)
        place = radius * np.array([np.sin(np.deg2rad(lon)), -hemisphere * np.cos(np.deg2rad(lon))])
        nearest = np.unravel_index(np.argmin(((centres - place) ** 2).sum(-1)), values.shape)
        assert values[nearest] == pytest.approx(float(arctic.sel(lat=lat, lon=lon)), abs=1e-9)
    one, other = corners[1:, 1:] - corners[:-1, :-1], corners[1:, :-1] - corners[:-1, 1:]
    areas = np.abs(one[..., 0] * other[..., 1] - one[..., 1] * other[..., 0])  # of quadrilaterals by their diagonals
    south, north = np.deg2rad(arctic.lat - 1), np.deg2rad(arctic.lat + 1)
    expected = (np.sin(north) - np.sin(south)).values
    expected = expected if hemisphere == 1 else expected[::-1]
    np.testing.assert_allclose(areas.sum(1) / areas.sum(), expected / expected.sum(), rtol=0.01)


def test_polar_contours_close_round_the_pole_and_globes_stay_plate_carree(arctic, globe):
    (axes,) = panels_of(plot_maps(arctic, contours=arctic.lat + 0 * arctic.lon, levels=[75.0]))
    lines = next(c for c in axes.collections if type(c).__name__ == "QuadContourSet")
    (path,) = lines.get_paths()
    radius = np.hypot(*path.vertices.T)
    assert np.ptp(radius) < 0.01
    np.testing.assert_allclose(path.vertices[0], path.vertices[-1], atol=1e-9)
    assert panels_of(plot_maps(globe))[0].get_xlim() == (0, 360)
    assert panels_of(plot_maps(arctic.sel(lon=slice(0, 90))))[0].get_ylim() == (60, 90)
    with pytest.raises(OptionError, match="goes round a pole"):
        plot_maps(globe, projection="polar")


def test_contours_are_drawn_on_two_dimensional_grids():
    y, x = np.meshgrid(np.arange(20.0, 41), np.arange(250.0, 281), indexing="ij")
    field = xr.DataArray(x - 265, dims=("y", "x"), coords={"lat": (("y", "x"), y), "lon": (("y", "x"), x)})
    (axes,) = panels_of(plot_maps(field, contours=field, levels=[0.5]))
    lines = next(c for c in axes.collections if type(c).__name__ == "QuadContourSet")
    west = axes.get_xlim()[0]
    reach = np.concatenate([path.vertices for path in lines.get_paths()])
    np.testing.assert_allclose(reach[:, 0] - west, 265.5 - 249.5, atol=1e-6)


@pytest.mark.parametrize(
    ("name", "units", "diverging"),
    [
        ("sea surface temperature", "degC", False),
        ("composite reflectivity", "dBZ", False),
        ("sea surface temperature anomaly", "degC", True),
        ("mean relevance", "dBZ", True),
        ("eastward wind", "m s-1", True),
    ],
)
def test_fields_without_a_natural_zero_are_sequential(globe, name, units, diverging):
    field = (globe / 3).rename("field").assign_attrs(long_name=name, units=units)
    mesh = mesh_of(panels_of(plot_maps(field))[0])
    assert (mesh.get_cmap().name == "RdBu_r") == diverging
    assert (mesh.norm.vmin == -mesh.norm.vmax) == diverging


def test_rounding_below_zero_gives_no_sign(globe):
    rain = abs(globe).where(globe.lat > -80, -1e-6)
    assert mesh_of(panels_of(plot_maps(rain))[0]).norm.vmin == 0


def test_what_colours_do_not_show_is_said(globe):
    field = globe / 90
    field[10, 10] = 1e6
    (note,) = plot_maps(field).notes
    assert note.startswith("Colours end at ±0.98")
    assert note.endswith("the 99.5th percentile; values go up to 1e+06.")
    assert plot_maps(field, limits="max").notes == ()
    assert plot_maps(globe.where(globe.lat > 0), limits="max").notes == ("Grey: no data.",)


def test_ends_of_colours_are_plain_numbers_with_their_percentiles(globe):
    heights = 5300 + 4 * globe
    (note,) = plot_maps(heights.assign_attrs(units="m")).notes
    assert "e+" not in note
    assert "the 0.5th and the 99.5th percentile" in note
    assert f"values go from {float(heights.min()):.4g} to {float(heights.max()):.4g}" in note


@pytest.mark.parametrize("dims", [{"lat": [10]}, {"lon": [10]}, {"lat": [10], "lon": [10]}])
def test_one_row_and_one_column_are_drawn_as_high_as_wide(globe, dims):
    (axes,) = panels_of(plot_maps(globe.isel(dims), title="one"))
    x, y = edges_of(axes)
    assert np.diff(y).min() == pytest.approx(5 if list(dims) == ["lat"] else 4 if list(dims) == ["lon"] else 1)
    assert np.diff(x).min() == pytest.approx(5 if list(dims) == ["lat"] else 4 if list(dims) == ["lon"] else 1)
    width, height = axes.figure.get_size_inches()
    assert 0.1 < width / height < 10


@pytest.mark.parametrize("count", [2, 5])
@pytest.mark.parametrize("region", [(0, 360), (120, 290), (110, 180)])
def test_no_labels_collide(globe, count, region):
    names = [f"a_rather_long_class_name_that_has_to_be_wrapped_{i}" for i in range(count)]
    field = xr.concat([globe] * count, xr.DataArray(names, dims="class", name="class")).sel(lon=slice(*region))
    hills = xr.ones_like(field) * np.sin(np.deg2rad(globe.lon * 6)) * np.cos(np.deg2rad(globe.lat * 4))
    figure = plot_maps(field, contours=hills, title="As given, however long it is: " + "word " * 30)
    assert "…" not in "".join(text.get_text() for text in figure.findobj(matplotlib.text.Text))
    figure.draw_without_rendering()
    texts = [t for t in figure.findobj(matplotlib.text.Text) if t.get_text().strip() and t.get_visible()]
    boxes = [text.get_window_extent() for text in texts]
    for i, box in enumerate(boxes):
        for j in range(i):
            assert not box.overlaps(boxes[j]), (texts[i].get_text(), texts[j].get_text())
