"""The registry of stages: those shipped here and those that other packages offer.

Another package adds a stage through the entry-point group ``geoxai.stages``; the name is the ``use`` of the stage and
the value its class.
"""

from functools import cache
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points

from geoxai.errors import GeoxaiError
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
    "pixels",
    "explain",
    "composite",
    "write",
    "plot",
)


@cache
def registry() -> dict[str, type[Stage]]:
    """Every stage by its ``use`` name, in the order of the way through a run.

    Raises
    ------
    GeoxaiError
        A stage of another package cannot be loaded, is called otherwise than its entry point, or hides one of ours.
    """
    found: dict[str, type[Stage]] = {}
    for module in _BUILTIN:
        for stage in import_module(f"geoxai.stages.{module}").STAGES:
            found[stage.use] = stage
    for point in entry_points(group="geoxai.stages"):
        if point.name in found:
            raise _broken(point, f"there is a stage {point.name!r} already", "give it another name")
        found[point.name] = _load(point)
    return found


def _load(point: EntryPoint) -> type[Stage]:
    try:
        stage = point.load()
    except Exception as error:
        raise _broken(point, f"{type(error).__name__}: {error}", "repair or uninstall that package") from error
    if not (isinstance(stage, type) and issubclass(stage, Stage) and getattr(stage, "use", None) == point.name):
        raise _broken(point, "it is no Stage class with that name as its `use`", "make both the same")
    return stage


def _broken(point: EntryPoint, why: str, fix: str) -> GeoxaiError:
    package = f" of the package {point.dist.name}" if point.dist else ""
    return GeoxaiError(f"the stage {point.name!r} ({point.value}){package} cannot be loaded: {why}", fix=fix)
