"""What determines the numbers of a stage, as a short hash: options, content of inputs, stages above, versions, seed.

Paths, stage names, executor and workers do not count, so a run can be moved, and two runs can be compared bit for bit.
"""

from __future__ import annotations

import glob
import hashlib
import json
from collections.abc import Callable, Iterable
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from geoxai.config import marked
from geoxai.config.markers import Mark, marks
from geoxai.errors import InputError
from geoxai.paths import expand
from geoxai.revisions import LIBRARIES
from geoxai.source_code import code_of
from geoxai.stages.stage import InputPath, OutputStage, Reference, Stage
from geoxai.storage.digests import file_digest

if TYPE_CHECKING:
    from geoxai.config import Config

# Options that cut the work but do not change a number.
_NOT_SCIENCE = {"chunk"}


def ingredients(
    config: Config, name: str, device: str, above: Callable[[str], str], outside: dict[str, str]
) -> dict[str, Any]:
    """What the fingerprint of a stage is made of, as plain data: shown by ``plan`` when it changed.

    ``above`` gives the fingerprint of a stage that this one reads, ``outside`` is what ``code`` returned. Files for
    people also contain the names of what they show, so those count there.
    """
    stage = config.stages[name]
    options = stage.model_dump(mode="json", by_alias=True)
    paths = {".".join(mark.path): _counted(mark) for mark in marks(stage, InputPath)}
    for dotted in [*paths, *dict(marked(stage, Reference)), *_NOT_SCIENCE]:
        _drop(options, dotted.split("."))
    names = {
        option: [value] if isinstance(value, str) else value for option, value in config.sources(name).items() if value
    }
    orders = {  # of a mapping of stages, such as the inputs of a network: canonical JSON forgets it
        field: list(value)
        for field, value in stage
        if isinstance(value, dict) and any(option.startswith(f"{field}.") for option in names)
    }
    return {
        "use": stage.use,
        "options": options,
        **({"order": orders} if orders else {}),
        "inputs": {option: digest_paths(value) for option, value in paths.items() if value},
        "stages above": {option: [above(source) for source in sources] for option, sources in names.items()},
        **({"names": names} if isinstance(stage, OutputStage) else {}),
        "seed": config.compute.seed,
        "device": device.split(":")[0],
        "versions": versions(),
        "revisions": revisions(stage),
        **({"code": outside} if outside else {}),
    }


def _counted(mark: Mark) -> str | list[str] | None:
    """The files of an option whose content counts."""
    if not mark.marker.within or not mark.value:
        return mark.value
    return [f"{glob.escape(mark.value)}/{pattern}" for pattern in mark.marker.within]


def science_hash(config: Config, fingerprint: Callable[[str], str]) -> str:
    """The hash of everything in a config that determines numbers, whatever its stages are called.

    Stages that write files for people do not.
    """
    return short_hash(
        sorted(fingerprint(n) for n, stage in config.stages.items() if not isinstance(stage, OutputStage))
    )


@cache
def versions() -> dict[str, str]:
    """Versions of what computes numbers, except geoxai itself, which has revisions."""
    return {"numpy": version("numpy"), "torch": version("torch"), "xarray": version("xarray")}


def revisions(stage: Stage) -> dict[str, int]:
    """The revision of a stage (as ``stage``) and of the libraries that its numbers depend on."""
    return {"stage": stage.revision, **{library: LIBRARIES[library] for library in stage.libraries}}


def code(stage: Stage) -> dict[str, str]:
    """What identifies the code that a stage's numbers depend on and that is not geoxai's."""
    own = () if type(stage).__module__.partition(".")[0] == "geoxai" else (type(stage).__module__,)
    return {**code_of(own, reload=False), **code_of(stage.code())}


def short_hash(value: Any) -> str:
    """16 hex digits of the SHA-256 of a value's canonical JSON."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=str).encode()).hexdigest()[:16]


def changed(old: dict[str, Any], new: dict[str, Any]) -> list[str]:
    """Which ingredients differ, in words: ``options.rules: epsilon -> gamma``."""
    return list(_differences(old, new, ""))


def digest_paths(value: str | Iterable[str]) -> list[str]:
    """Content digests of the files that paths and globs name, in the order of the files.

    Raises
    ------
    InputError
        A file is missing or cannot be read.
    """
    try:
        return [_digest_tree(path) for path in expand(value)]
    except OSError as error:
        raise InputError(f"{error.filename} cannot be read: {(error.strerror or str(error)).lower()}") from error


def _digest_tree(path: Path) -> str:
    if not path.is_dir():
        return file_digest(path)
    files = sorted(p for p in path.rglob("*") if p.is_file())
    return short_hash([[str(p.relative_to(path)), file_digest(p)] for p in files])


def _drop(options: Any, path: list[str]) -> None:
    for key in path[:-1]:
        options = options[int(key)] if isinstance(options, list) else options.get(key) or {}
    if isinstance(options, dict):
        options.pop(path[-1], None)


def _differences(old: Any, new: Any, at: str) -> Iterable[str]:
    if isinstance(old, dict) and isinstance(new, dict):
        for key in dict.fromkeys([*old, *new]):
            yield from _differences(old.get(key), new.get(key), f"{at}.{key}" if at else str(key))
    elif old != new:
        opaque = at.startswith(("inputs", "stages above")) or "source " in f"{old}{new}"
        yield f"{at} changed" if opaque else f"{at}: {_brief(old)} -> {_brief(new)}"


def _brief(value: Any) -> str:
    text = json.dumps(value, default=str)
    return text if len(text) <= 40 else f"{text[:37]}..."
