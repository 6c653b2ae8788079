"""What a run asks and what came out, as its report says it: from options, summaries and the coordinates of stores."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from geoxai.config import marked
from geoxai.grid.places import words
from geoxai.pipeline.workspace import Workspace
from geoxai.plotting import story
from geoxai.plotting.captions import explained, method_words
from geoxai.plotting.charts import Comparison, LineChart, Stacks, line_chart
from geoxai.plotting.tables import Table, show
from geoxai.stages.stage import InputPath

Summaries = Mapping[str, Mapping[str, Any]]
_MOST_FILES = 4  # files to list by name


def asked(workspace: Workspace, summaries: Summaries) -> tuple[tuple[str, str], ...]:
    """What the experiment asks: data, samples, classes, networks, what is explained and how it is composited."""
    kinds: dict[str, tuple[str, Callable[[str], str]]] = {
        "samples": ("Samples", lambda name: _samples(workspace, name, summaries.get(name, {}))),
        "network": ("Networks", lambda name: _network(workspace, name)),
        "relevance": ("Explained", lambda name: _explained(workspace, name)),
        "composite": ("Composite", lambda name: _composite(workspace, name)),
    }
    rows = [("Data", data)] if (data := "; ".join(_data(workspace))) else []
    for kind, (term, told) in kinds.items():
        names = [name for name, stage in workspace.config.stages.items() if stage.gives == kind]
        said = [(name, text) for name in names if (text := told(name))]
        if said:
            parts = [text if len(said) == 1 else f"{name}: {text}" for name, text in said]
            rows.append((term, "; ".join(parts)))
    return tuple(rows)


def skill(workspace: Workspace, summaries: Summaries) -> tuple[Comparison, ...]:
    """Scores of each stage that has any, beside those of simpler models."""
    scored = _of_kind(workspace, summaries, "network", "prediction")
    found = (story.skill(name, summary, _units(workspace, name)) for name, summary in scored.items())
    return tuple(chart for chart in found if chart is not None)


def losses(workspace: Workspace) -> tuple[LineChart, ...]:
    """Loss curves of every training that is complete."""
    charts = []
    for name, stage in workspace.config.stages.items():
        if stage.use != "train" or not workspace.complete(name):
            continue
        with _store(workspace, name) as store:
            curves = {key: store[key].values.tolist() for key in ("training_loss", "validation_loss")}
        charts.append(line_chart(f"{name}: loss", story.curves_of(curves), story.LOSS_COLORS))
    return tuple(chart for chart in charts if chart is not None)


def shares(workspace: Workspace, summaries: Summaries) -> tuple[tuple[str, tuple[Comparison, ...]], ...]:
    """Shares of regions of each composite that has any."""
    composites = _of_kind(workspace, summaries, "composite")
    found = ((name, tuple(story.shares(summary))) for name, summary in composites.items())
    return tuple((name, charts) for name, charts in found if charts)


def accounts(workspace: Workspace, summaries: Summaries) -> tuple[Stacks, ...]:
    """The account of each explanation that has one."""
    explanations = _of_kind(workspace, summaries, "relevance")
    found = (story.account(name, summary) for name, summary in explanations.items())
    return tuple(chart for chart in found if chart is not None)


def left_out(workspace: Workspace, summaries: Summaries) -> tuple[tuple[str, Table], ...]:
    """What each composite leaves out."""
    found = ((name, story.left_out(summary)) for name, summary in _of_kind(workspace, summaries, "composite").items())
    return tuple((name, table) for name, table in found if table is not None)


def _of_kind(workspace: Workspace, summaries: Summaries, *kinds: str) -> Summaries:
    """The summaries of the stages that give one of some kinds."""
    return {name: summary for name, summary in summaries.items() if workspace.stage(name).gives in kinds}


def _data(workspace: Workspace) -> Iterator[str]:
    for name, stage in workspace.config.stages.items():
        if stage.gives not in ("grid", "labels"):
            continue
        for _, value in marked(stage, InputPath):
            paths = [_file_words(path) for path in ([value] if isinstance(value, str) else value or [])]
            if paths:
                more = f" and {len(paths) - _MOST_FILES} more" if len(paths) > _MOST_FILES else ""
                yield f"{name} from {', '.join(paths[:_MOST_FILES])}{more}"


def _file_words(path: str) -> str:
    """The name of a file; of a pattern that names none, such as ``*.nc``, its folder too."""
    name = Path(path).name
    return f"{Path(path).parent.name}/{name}" if name.startswith("*") else name


def _samples(workspace: Workspace, name: str, summary: Mapping[str, Any]) -> str:
    if "samples" not in summary and "splits" not in summary:  # a stage of another package may summarise otherwise
        return ""
    years = _years(workspace, name) if workspace.complete(name) else {}
    splits = summary.get("splits") or {"": summary["samples"]}
    parts = [" ".join(filter(None, (split, str(count), years.get(split, "")))) for split, count in splits.items()]
    text = f"{', '.join(parts)}" if summary.get("splits") else f"{parts[0]} in all"
    classes = [f"{words(one)} {counts['samples']}" for one, counts in summary.get("classes", {}).items()]
    return text + (f". Classes: {', '.join(classes)}" if classes else "")


def _years(workspace: Workspace, name: str) -> dict[str, str]:
    """The years of each split in words, of all samples under the empty name."""
    import numpy as np

    from geoxai.grid.time import years
    from geoxai.statistics.flags import flag_classes

    with _store(workspace, name) as store:
        if "time" not in store.coords or store.sizes["sample"] == 0:
            return {}
        year = years(store["time"].load())
        members = {"": np.ones(year.size, bool)}
        if "split" in store.variables:
            split = store["split"].values
            members |= {key: split == number for key, number in flag_classes(store["split"]).items()}
    return {key: f"({year[of].min()} to {year[of].max()})" for key, of in members.items() if of.any()}


def _network(workspace: Workspace, name: str) -> str:
    stage: Any = workspace.stage(name)
    if stage.use == "train":
        kind, options = stage.architecture.chosen
        told = ", ".join(f"{words(key)} {show(value)}" for key, value in options.items() if value not in (None, False))
        count = f"{stage.seeds} networks" if stage.seeds > 1 else "one network"
        return f"{count} {kind}{f' ({told})' if told else ''}, trained for {stage.epochs} epochs"
    paths = [value for _, value in marked(stage, InputPath) if value]
    return ", ".join(Path(path).name for value in paths for path in ([value] if isinstance(value, str) else value))


def _explained(workspace: Workspace, name: str) -> str:
    if not workspace.complete(name):
        return ""
    with _store(workspace, name) as store:
        return f"{explained(store.attrs)}, by {method_words(store.attrs)}" if "target" in store.attrs else ""


def _composite(workspace: Workspace, name: str) -> str:
    if not workspace.complete(name):
        return ""
    with _store(workspace, name) as store:
        long_name = next(
            (v.attrs.get("long_name", "") for k, v in store.items() if str(k).startswith("relevance_mean")), ""
        )
        where = store.attrs.get("where")
    return f"{long_name}{f', of samples where {where}' if where else ''}"


def _units(workspace: Workspace, name: str) -> str:
    stage = workspace.stage(name)
    if stage.gives not in ("network", "prediction") or not workspace.complete(name):
        return ""
    units = getattr(workspace.open(name), "units", "")
    return units if isinstance(units, str) else ""


def _store(workspace: Workspace, name: str) -> Any:
    import xarray as xr

    return xr.open_zarr(workspace.run_dir / f"{name}.zarr", consolidated=False)
