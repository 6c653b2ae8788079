"""The registry of stages: those shipped here and those that other packages offer.

Another package adds a stage through the entry-point group ``geoxai.stages``; the name is the ``use`` of the stage and
the value its class.
"""

from functools import cache
from importlib import import_module
from importlib.metadata import entry_points

from geoxai.stages.stage import Stage

_BUILTIN = (
    "load",
    "region",
    "anomaly",
    "index",
    "labels",
    "samples",
    "train",
    "model",
    "predict",
    "explain",
    "composite",
    "write",
    "plot",
)


@cache
def registry() -> dict[str, type[Stage]]:
    """Every stage by its ``use`` name, in the order of the way through a run."""
    found: dict[str, type[Stage]] = {}
    for module in _BUILTIN:
        for stage in import_module(f"geoxai.stages.{module}").STAGES:
            found[stage.use] = stage
    for point in entry_points(group="geoxai.stages"):
        found[point.name] = point.load()
    return found
