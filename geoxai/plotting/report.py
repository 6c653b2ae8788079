"""One HTML file about a run: what was done, the results, and how to open them. Numbers only, no verdicts."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

from jinja2 import Environment, StrictUndefined, Template

from geoxai.plotting.charts import Comparison, LineChart, Stacks
from geoxai.plotting.glossary import GLOSSARY
from geoxai.plotting.tables import Table, blocks_of, show


@dataclass(frozen=True)
class StageLine:
    """A stage in the list of stages that ran; units and seconds are None if a stage has none."""

    name: str
    use: str
    state: str
    units_done: int | None = None
    units: int | None = None
    seconds: float | None = None
    note: str = ""


@dataclass(frozen=True)
class Store:
    """An output that a reader may want to open: its path relative to the report, its contents and its groups."""

    path: str
    content: str = ""
    groups: tuple[str, ...] = ()

    @property
    def commands(self) -> tuple[str, ...]:
        """The lines of Python that open it, one per group."""
        opener = "open_zarr" if self.path.endswith(".zarr") else "open_dataset"
        groups = [f", group={group!r}" for group in self.groups] or [""]
        return tuple(f"xr.{opener}({self.path!r}{group})" for group in groups)


@dataclass(frozen=True)
class Report:
    """The contents of a report, in its order.

    ``status`` is one word or two (``complete``, ``partial``, ``failed``), ``message`` a sentence about it; ``asked`` is
    what the experiment asks, as (term, words). ``figures`` are PNG files, put into the page with the caption in the
    text file beside each and its narrow copy for phones, or others, only named; ``summaries`` are the ``<stage>.json``
    of each stage.
    """

    title: str
    status: str
    message: str = ""
    started: str = ""
    seconds: float | None = None
    asked: tuple[tuple[str, str], ...] = ()
    skill: tuple[Comparison, ...] = ()
    losses: tuple[LineChart, ...] = ()
    shares: tuple[tuple[str, tuple[Comparison, ...]], ...] = ()
    accounts: tuple[Stacks, ...] = ()
    left_out: tuple[tuple[str, Table], ...] = ()
    stages: tuple[StageLine, ...] = ()
    warnings: tuple[str, ...] = ()
    figures: tuple[Path, ...] = ()
    summaries: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    stores: tuple[Store, ...] = ()
    config: str = ""
    provenance: Mapping[str, Any] = field(default_factory=dict)


def render_report(report: Report) -> str:
    """The report as one HTML page that needs no other file and no network."""
    pictures = [path for path in report.figures if path.suffix == ".png" and path.is_file()]
    images = [_Image.of(path) for path in pictures if path.parent.name != "narrow"]
    others = [path.name for path in report.figures if path.suffix not in (".png", ".txt")]
    return _template().render(
        report=report,
        duration=duration(report.seconds),
        stages=[(stage, duration(stage.seconds)) for stage in report.stages],
        images=images,
        others=others,
        summaries=[(stage, blocks_of(summary)) for stage, summary in report.summaries.items() if summary],
        provenance=blocks_of(report.provenance),
        glossary=GLOSSARY,
    )


@dataclass(frozen=True)
class _Image:
    """A figure in the page, with its copy for narrow screens and its caption."""

    name: str
    wide: str
    narrow: str
    caption: str

    @classmethod
    def of(cls, path: Path) -> _Image:
        narrow, text = path.parent / "narrow" / path.name, path.with_suffix(".txt")
        return cls(
            path.stem,
            _data_uri(path),
            _data_uri(narrow) if narrow.is_file() else "",
            text.read_text(encoding="utf-8").strip() if text.is_file() else "",
        )


def duration(seconds: float | None) -> str:
    """A time span as people write it: ``0.4 s``, ``3 min 20 s``, ``2 h 5 min``."""
    if seconds is None:
        return ""
    if seconds < 10:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def _data_uri(path: Path) -> str:
    return f"data:image/png;base64,{base64.b64encode(path.read_bytes()).decode('ascii')}"


@cache
def _template() -> Template:
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters["show"] = show
    return environment.from_string((files("geoxai.plotting") / "report.html.j2").read_text(encoding="utf-8"))
