"""The config that ends the manual of a stage: its example, with the examples of the stages that it reads."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Mapping
from typing import Any

from geoxai.config.document import parse
from geoxai.config.markers import class_marks
from geoxai.stages.stage import Reference, Stage


def example(use: str, stages: Mapping[str, type[Stage]]) -> str:
    """A whole config for a stage, which runs in a folder where ``geoxai init`` was run; empty where the stage has no
    example.
    """
    if not stages[use].example:
        return ""
    needed = [one for one in stages if one in _with_sources(use, stages)]
    texts = [textwrap.indent(stages[one].example, "  ") for one in sorted(needed, key=lambda one: one == use)]
    return "\n".join(["version: 1", f"output: {{dir: runs/{use}}}", "stages:", *texts])


def example_files(use: str, stages: Mapping[str, type[Stage]]) -> str:
    """Python that writes the files which a stage's example reads and ``geoxai init`` does not make; mostly empty."""
    return "\n".join(stages[one].example_files for one in _with_sources(use, stages) if stages[one].example_files)


def _with_sources(use: str, stages: Mapping[str, type[Stage]]) -> list[str]:
    """The stages whose examples a stage's example reads, directly or not, and the stage itself."""
    entries = {one: _entries(stage) for one, stage in stages.items()}
    owners = {name: one for one, named in entries.items() for name in named}
    found: list[str] = []
    waiting = [use]
    while waiting:
        one = waiting.pop()
        if one in found:
            continue
        found.append(one)
        for options in entries[one].values():
            waiting += [owners[word] for word in _words(options) if word in owners]
            waiting += _nearest(stages.get(options.get("use", "")), options, stages)
    return found


def _entries(stage: type[Stage]) -> dict[str, dict[str, Any]]:
    """The entries of ``stages`` in an example, by their names."""
    return parse(stage.example, stage.use).data if stage.example else {}


def _words(options: Any) -> Iterator[str]:
    """Every text among the values of options, but for ``use``: names of stages are among them."""
    if isinstance(options, str):
        yield options
    elif isinstance(options, Mapping):
        for key, value in options.items():
            yield from _words(value) if key != "use" else ()
    elif isinstance(options, list):
        for value in options:
            yield from _words(value)


def _nearest(stage: type[Stage] | None, options: Mapping[str, Any], stages: Mapping[str, type[Stage]]) -> list[str]:
    """For every reference that is left out and means the nearest stage above: the first that gives such a kind."""
    found = []
    for option, mark in class_marks(stage, Reference) if stage else ():
        if mark.nearest and option not in options:
            found += [use for use, one in stages.items() if one.gives in mark.kinds and one.example][:1]
    return found
