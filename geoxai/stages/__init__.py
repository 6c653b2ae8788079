"""The registry of stages: those shipped here and those that other packages offer.

Another package adds a stage through the entry-point group ``geoxai.stages``; the name is the ``use`` of the stage and
the value its class.
"""

from functools import cache
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points

from geoxai.errors import GeoxaiError
from geoxai.stages.stage import KINDS, Stage

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


def registry() -> dict[str, type[Stage]]:
    """Every stage by its ``use`` name, in the usual order of a run; without those in ``refused``."""
    return discovered()[0]


def refused() -> tuple[GeoxaiError, ...]:
    """What is wrong with stages of other packages that are left out: they cannot be loaded, are not named like their
    entry point, give no known kind, or would hide another stage.
    """
    return discovered()[1]


@cache
def discovered() -> tuple[dict[str, type[Stage]], tuple[GeoxaiError, ...]]:
    """The stages, and what is wrong with those left out; looked up once per process."""
    found: dict[str, type[Stage]] = {}
    broken: list[GeoxaiError] = []
    for module in _BUILTIN:
        for stage in import_module(f"geoxai.stages.{module}").STAGES:
            found[stage.use] = stage
    for point in entry_points(group="geoxai.stages"):
        try:
            if point.name in found:
                raise _broken(point, f"there is a stage {point.name!r} already", "give it another name")
            found[point.name] = _load(point)
        except GeoxaiError as error:
            broken.append(error)
    return found, tuple(broken)


def _load(point: EntryPoint) -> type[Stage]:
    try:
        stage = point.load()
    except (Exception, SystemExit) as error:
        raise _broken(point, f"{type(error).__name__}: {error}", "repair or uninstall that package") from error
    if not (isinstance(stage, type) and issubclass(stage, Stage)):
        raise _broken(point, "it is not a Stage class", "derive it from one in geoxai.stages.stage")
    if (use := getattr(stage, "use", None)) != point.name:
        named = "has no `use`" if use is None else f"has {use!r} as its `use`"
        raise _broken(point, f"it {named}, but its entry point is called {point.name!r}", "make both the same")
    if (gives := getattr(stage, "gives", None)) not in KINDS:
        named = "does not say what it `gives`" if gives is None else f"gives {gives!r}, which is not a kind"
        raise _broken(point, f"it {named}", f"the kinds are: {', '.join(KINDS)}")
    return stage


def _broken(point: EntryPoint, why: str, fix: str) -> GeoxaiError:
    package = f" of the package {point.dist.name}" if point.dist else ""
    return GeoxaiError(f"the stage {point.name!r} ({point.value}){package} is left out: {why}", fix=fix)
