"""The report stands alone, escapes what users wrote, and puts numbers beside what they compare with."""

import base64
from dataclasses import replace
from html.parser import HTMLParser

import pytest

from geoxai.pipeline.experiment import _file_words
from geoxai.plotting.charts import line_chart
from geoxai.plotting.report import Report, StageLine, Store, duration, render_report
from geoxai.plotting.story import LOSS_COLORS, account, curves_of, left_out, shares, skill
from geoxai.plotting.tables import Chart, Section, Table, blocks_of, show

PIXEL = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNkYPhfDwAChwGA60e6kgAAAABJRU5ErkJggg=="
)


class Page(HTMLParser):
    """Tags in balance, links, and text of a page."""

    def __init__(self, html):
        super().__init__()
        self.open, self.sources, self.text = [], [], ""
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        self.sources += [value for key, value in attrs if key in ("src", "href", "srcset")]
        if tag not in ("meta", "img", "polyline", "source"):
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        pass

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data


@pytest.fixture
def report(tmp_path):
    (tmp_path / "maps.png").write_bytes(PIXEL)
    return Report(
        title="enso <lrp>",
        status="partial",
        message="2 units failed",
        started="2026-11-21 12:00",
        seconds=200,
        stages=(StageLine("relevance", "explain.lrp", "partial", 4, 6, 12.3), StageLine("sst", "load.netcdf", "read")),
        warnings=("years 1951-1994 meet <test> years",),
        figures=(tmp_path / "maps.png", tmp_path / "maps.pdf", tmp_path / "gone.png"),
        summaries={"composite": {"classes": {"el_nino": {"samples": 3}, "la_nina": {"samples": 4}}}, "empty": {}},
        stores=(
            Store("composite.zarr", "maps by class"),
            Store("enso.nc"),
            Store("all.zarr", groups=("relevance", "composite")),
        ),
        config="version: 1\nname: <enso>\n",
        provenance={"seed": 0, "versions": {"torch": "2.13"}},
    )


def test_the_page_needs_nothing_else(report):
    page = Page(render_report(report))
    assert page.open == []
    assert len(page.sources) == 1
    assert base64.b64decode(page.sources[0].removeprefix("data:image/png;base64,")) == PIXEL
    assert "<script" not in render_report(report)


def test_the_page_describes_the_run(report):
    text = Page(render_report(report)).text
    for words in (
        "enso <lrp>",
        "partial",
        "2 units failed",
        "3 min 20 s",
        "4 of 6",
        "years 1951-1994 meet <test> years",
        "maps.pdf",
        "xr.open_zarr('composite.zarr')",
        "# maps by class",
        "xr.open_dataset('enso.nc')",
        "xr.open_zarr('all.zarr', group='relevance')",
        "xr.open_zarr('all.zarr', group='composite')",
        "name: <enso>",
        "torch",
    ):
        assert words in text


def test_a_report_of_nothing_is_a_page():
    page = Page(render_report(Report("empty", "failed")))
    assert page.open == []
    assert "Figures" not in page.text


def test_networks_are_beside_simpler_models():
    summary = {
        "task": "classification",
        "networks": [{"seed": 0, "test": {"accuracy": 0.98}}, {"seed": 1, "test": {"accuracy": 0.97}}],
        "baselines": {"linear": {"test": {"accuracy": 0.96}}, "majority_class": {"test": {"accuracy": 0.5}}},
    }
    *_, table = blocks_of(summary)
    assert table.header == ("", "seed", "test: accuracy")
    assert table.rows == (
        ("network 0", "0", "0.98"),
        ("network 1", "1", "0.97"),
        ("linear", "–", "0.96"),
        ("majority class", "–", "0.5"),
    )


def test_shares_are_beside_area_shares():
    shares = {
        "nino34": {"relevance_share": 0.21, "area_share": 0.03},
        "nino12": {"relevance_share": 0.1, "area_share": 0.01},
    }
    (section,) = blocks_of({"el_nino": {"samples": 111, "regions": shares}})
    assert isinstance(section, Section)
    counts, regions = section.blocks
    assert counts == Table("", (), (("samples", "111"),))
    assert regions == Table(
        "regions", ("", "relevance share", "area share"), (("Niño 3.4", "0.21", "0.03"), ("Niño 1+2", "0.1", "0.01"))
    )


def test_numbers_of_several_networks_are_reported_by_mean_and_range():
    regions = {
        "nino34": {"relevance_share": [0.2, 0.3, 0.4], "cell_share": 0.03, "area_share": 0.05},
        "nino3": {"relevance_share": [0.1, None, 0.2], "cell_share": 0.04, "area_share": 0.06},
    }
    of_class = {"n_used": [9, 9, 9], "centroid_longitude": [359.0, 1.0, 3.0], "regions": regions}
    networks, section = blocks_of({"networks": 3, "classes": {"el_nino": of_class}})
    assert networks.rows == (("networks", "3; numbers are means over them, with lowest and highest"),)
    ((numbers, shares),) = (block.blocks for block in section.blocks)
    assert numbers.rows == (("n used", "9"), ("centroid longitude", "1 (359 to 3)"))
    assert shares.header == ("", "relevance share", "cell share", "area share")
    assert shares.rows == (
        ("Niño 3.4", "0.3 (0.2 to 0.4)", "0.03", "0.05"),
        ("Niño 3", "0.15 (0.1 to 0.2, 1 without)", "0.04", "0.06"),
    )


def test_long_series_become_curves():
    (chart,) = blocks_of({"loss": {"train": [10.0 / (i + 1) for i in range(20)], "validation": [5.0] * 19 + [None]}})
    assert isinstance(chart, Chart)
    assert [curve.name for curve in chart.curves] == ["train", "validation"]
    assert chart.curves[0].points.startswith("0.00,0.00 ")
    assert chart.curves[0].points.endswith(" 100.00,30.00")
    assert len(chart.curves[1].points.split()) == 19


def test_any_json_has_a_layout():
    odd = {
        "a": [],
        "b": {},
        "c": [{"x": 1}, {"y": 2}],
        "d": [[1, 2], [3, 4]],
        "e": {"f": {"g": {"h": None}}},
        "i": [1.0] * 20,
    }
    page = Page(render_report(Report("odd", "complete", summaries={"odd": odd})))
    assert page.open == []


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "–"),
        (True, "yes"),
        (0.98765432, "0.9877"),
        (-1.5e-7, "−1.5e−7"),
        (12, "12"),
        ([1, 2.5], "1, 2.5"),
        ("a", "a"),
    ],
)
def test_values_as_text(value, text):
    assert show(value) == text


@pytest.mark.parametrize(("seconds", "text"), [(None, ""), (0.04, "0.0 s"), (59.6, "1 min 0 s"), (7500, "2 h 5 min")])
def test_durations(seconds, text):
    assert duration(seconds) == text


CURVES = {"training_loss": [[1.0, 0.5, 0.2], [1.1, 0.6, 0.3]], "validation_loss": [[float("nan")] * 3] * 2}


def test_skill_is_shown_beside_simpler_models_with_its_spread():
    summary = {
        "networks": [
            {"seed": n, "train": {"samples": 9, "accuracy": 1.0}, "test": t}
            for n, t in enumerate([{"samples": 40, "accuracy": 0.9}, {"samples": 40, "accuracy": 0.8}])
        ],
        "baselines": {
            "linear": {"test": {"samples": 40, "accuracy": 0.95}},
            "majority_class": {"test": {"accuracy": 0.5}},
        },
    }
    chart = skill("network", summary)
    assert chart is not None
    assert [(row.label, row.text) for row in chart.rows] == [
        ("2 networks", "85.0 % (80.0 % to 90.0 %)"),
        ("linear", "95.0 %"),
        ("majority class", "50.0 %"),
    ]
    assert chart.rows[0].dots == (90.0, 80.0)
    assert chart.rows[0].spread == (80.0, 90.0)
    assert chart.note.startswith("40 samples of the test split.")
    assert skill("network", {"task": "classification"}) is None
    alone = {"networks": [{"all": {"samples": 3, "rmse": 1.5}}]}
    assert "No simpler model" in skill("forecast", alone, "K").note
    assert skill("forecast", alone, "K").rows[0].text == "1.5 K"


def test_shares_of_regions_are_shown_beside_their_areas_by_class_and_target():
    regions = {"nino34": {"relevance_share": [0.3, 0.4], "area_share": 0.02}}
    (chart,) = shares({"classes": {"el_nino": {"n_used": [5, 6], "regions": regions}}})
    assert chart.title == "El Niño"
    assert chart.rows[0].label == "Niño 3.4"
    assert chart.rows[0].text == "35.0 % (30.0 % to 40.0 %); area 2.0 %"
    assert chart.rows[0].reference == pytest.approx(100 * 0.02 / float(chart.high.split()[0]) * 100)
    targets = {'{"box": "nino3"}': 0.1, "3": 0.2}
    entry = {
        "n_used": dict.fromkeys(targets, 4),
        "regions": {"tropics": {"relevance_share": targets, "area_share": 0.3}},
    }
    assert [c.title for c in shares({"classes": {"all": entry}})] == ["all, Niño 3", "all, output 3"]


def test_the_account_is_a_bar_per_class_and_network_and_negative_terms_go_left():
    terms = {"bias": [0.5, -0.5], "stabiliser": [0.0, 0.0], "lost": [0.1, None]}
    chart = account("relevance", {"account": {"el_nino": terms}})
    assert chart is not None
    assert [(bar.label, bar.text) for bar in chart.bars] == [
        ("El Niño, network 0", "map 40.0 %, biases 50.0 %, lost 10.0 %")
    ]
    chart = account("relevance", {"account": {"all": {"bias": -0.5, "stabiliser": 0.0, "lost": 0.0}}})
    (bar,) = chart.bars
    assert (bar.label, bar.text) == ("all samples", "map 150 %, biases −50.0 %")
    places = {part.name: (part.left, part.left + part.width) for part in bar.parts}
    assert places == {"map": (25.0, 100.0), "biases": (0.0, 25.0)}
    assert (chart.zero, chart.whole) == (25.0, 75.0)
    nested = {"account": {"3": {"el_nino": {"bias": 0.0, "stabiliser": 0.0, "lost": 0.0}}}}
    assert account("relevance", nested).bars[0].label == "output 3, El Niño"


def test_what_was_left_out_is_said_with_its_reason():
    table = left_out({"classes": {"el_nino": {"n_used": [5, 5], "n_empty": [0, 3], "n_absent": [0, 0]}}})
    assert table.rows == (("El Niño", "0 to 3", "a map of zeros, so nothing to divide by"),)
    assert left_out({"classes": {"el_nino": {"n_used": 5, "n_empty": 0}}}) is None


def test_loss_curves_have_one_colour_per_split():
    chart = line_chart("loss", curves_of(CURVES), LOSS_COLORS)
    assert [(group.name, len(group.lines), group.text) for group in chart.groups] == [
        ("training", 2, "last 0.2 to 0.3")
    ]
    assert line_chart("loss", curves_of({"training_loss": [[float("nan")]]}), LOSS_COLORS) is None


def test_the_page_shows_the_experiment(report, tmp_path):
    (tmp_path / "maps.txt").write_text("Mean relevance of <el nino>.", encoding="utf-8")
    (tmp_path / "narrow").mkdir()
    (tmp_path / "narrow" / "maps.png").write_bytes(PIXEL)
    chart = skill("network", {"networks": [{"all": {"samples": 3, "accuracy": 0.5}}]})
    bars = account("relevance", {"account": {"all": {"bias": 0.2, "stabiliser": 0.0, "lost": 0.0}}})
    lines = line_chart("loss", curves_of(CURVES), LOSS_COLORS)
    html = render_report(
        replace(report, asked=(("Data", "sst <1>"),), skill=(chart,), losses=(lines,), accounts=(bars,))
    )
    page = Page(html)
    assert page.open == []
    assert len(page.sources) == 2  # the figure and its narrow copy
    for words in (
        "sst <1>",
        "Mean relevance of <el nino>.",
        "network: accuracy",
        "biases 20.0 %",
        "What the terms mean",
    ):
        assert words in page.text
    assert html.index("Data") < html.index("How good") < html.index("Figures") < html.index("All numbers")
    assert html.index("All numbers") < html.index("Provenance")


def test_a_pattern_that_names_no_file_is_told_with_its_folder():
    assert [_file_words(path) for path in ("/data/ersst/*.nc", "/data/sst_*.nc")] == ["ersst/*.nc", "sst_*.nc"]
