"""From a YAML file to a config; all its mistakes are reported in one pass."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from geoxai.config.config import Config, plain
from geoxai.config.diagnostic import ConfigError, Diagnostic, suggestion
from geoxai.config.document import Document, Path_, parse, read
from geoxai.config.envelope import MAX_NAME, Envelope
from geoxai.config.files import absolute, is_remote, missing, remote, too_long
from geoxai.config.markers import Mark, marks
from geoxai.config.outputs import collisions
from geoxai.config.overrides import override
from geoxai.config.references import dependency_order, link
from geoxai.config.run_folder import unfit
from geoxai.config.validation import validate
from geoxai.config.variables import substitute
from geoxai.stages import registry
from geoxai.stages.stage import InputPath, Stage

# Files and folders of a run folder that those of a stage must not collide with.
RESERVED = ("config", "figures", "ledger", "report", "run")


def load(path: Path | str, overrides: Iterable[str] = ()) -> Config:
    """The config in a YAML file.

    Parameters
    ----------
    path
        The file.
    overrides
        Assignments ``a.b=value`` as of ``--set``, applied in order before variables are replaced.

    Raises
    ------
    ConfigError
        With every mistake found, each at its place: exit code 2, or 3 where only input files are missing.
    """
    overrides = tuple(overrides)
    document = _mapping(read(path))
    document.findings += filter(None, [override(document, assignment) for assignment in overrides])
    substitute(document)
    return _build(document, Path(path), overrides, fresh=True)


def load_resolved(path: Path | str, text: str | None = None) -> Config:
    """The config in a ``config.resolved.yaml``, quickly: no variables, no search for files, no advice.

    ``text`` is what the file would contain if secrets were not left out.
    """
    document = read(path) if text is None else parse(text, str(path))
    return _build(_mapping(document), Path(path), (), fresh=False)


def _mapping(document: Document) -> Document:
    """A document, which must be a mapping and free of syntax errors."""
    if document.data is None and not document.findings:
        fix = "geoxai init writes a config to start from"
        document.findings.append(Diagnostic(document.key_place(()), "the config is empty", fix))
    elif document.data is not None and not isinstance(document.data, dict):
        message = "a config is a mapping with the keys version, name, output, compute, vars and stages"
        document.findings.append(Diagnostic(document.key_place(()), message))
    if not isinstance(document.data, dict):
        raise ConfigError(document.findings)
    return document


def _build(document: Document, path: Path, overrides: tuple[str, ...], *, fresh: bool) -> Config:
    findings = document.findings
    envelope, wrong = validate(Envelope, document.data, document, ())
    given = document.data.get("stages")
    stages: dict[str, Stage | None] = {}
    for name, options in given.items() if isinstance(given, dict) else ():
        stages[name], more = _stage(name, options, document)
        wrong += more
    unresolved = {document.value_place(p) for p in document.unresolved}
    findings += [finding for finding in wrong if finding.place not in unresolved]
    links = link(stages, document)
    findings += links.findings
    if fresh:
        for name, stage in stages.items():
            findings += _missing_files(name, stage, document) if stage else ()
    if envelope is not None:
        title = envelope.name or re.sub(r"[^\w.-]", "-", path.stem)
        folder = absolute(envelope.output.dir or f"runs/{title}", Path.cwd())
        findings += _misplaced(folder, stages, document) if fresh else ()
    if findings or envelope is None:
        raise ConfigError(_in_order(findings))

    done: dict[str, Stage] = {}
    for name in dependency_order(links.reads):
        done[name], more = _filled(name, stages[name], links.filled[name], document)
        findings += more
    if findings:
        raise ConfigError(_in_order(findings))
    config = Config(
        path=path,
        text=document.text,
        name=title,
        output=envelope.output.model_copy(update={"dir": folder}),
        compute=envelope.compute,
        stages=done,
        overrides=overrides,
        _document=document,
    )
    return config.advised() if fresh else config


def _stage(name: str, options: Any, document: Document) -> tuple[Stage | None, list[Diagnostic]]:
    """One stage and what is wrong with it. A stage with mistakes keeps its references, so that they can be followed."""
    path = ("stages", name)
    wrong: list[Diagnostic] = []
    if not re.fullmatch(r"[A-Za-z][A-Za-z0-9_-]*", name):
        fix = "use letters, digits, _ and -, starting with a letter: it becomes a file name"
        wrong.append(Diagnostic(document.key_place(path), f"{name!r} cannot be the name of a stage", fix))
    elif len(name) > MAX_NAME:
        message = f"the name of a stage has at most {MAX_NAME} characters, this one has {len(name)}"
        wrong.append(Diagnostic(document.key_place(path), message, "it becomes a file name; shorten it"))
    elif name.lower() in RESERVED:
        message = f"a stage cannot be called {name!r}: the run folder uses that name"
        wrong.append(Diagnostic(document.key_place(path), message, "choose another name"))
    if not isinstance(options, dict):
        message = f"stage {name!r} must be a mapping with the key 'use'"
        wrong.append(Diagnostic(document.value_place(path), message, f"{name}: {{use: ...}}"))
        return None, wrong
    use = options.get("use")
    if use is None:
        message = f"stage {name!r} needs 'use'"
        glued = next((key for key in options if key.startswith("use:")), None)
        fix = f"write a space after the colon: use: {glued[4:]}" if glued else f"use: one of {', '.join(registry())}"
        wrong.append(Diagnostic(document.key_place(path), message, fix))
        return None, wrong
    if not isinstance(use, str) or use not in registry():
        place = document.value_place((*path, "use"))
        wrong.append(Diagnostic(place, f"unknown stage type {str(use)!r}", suggestion(str(use), registry())))
        return None, wrong
    kind = registry()[use]
    rest = {option: value for option, value in options.items() if option != "use"}
    stage, more = validate(kind, rest, document, path)
    return stage or kind.model_construct(**{o: v for o, v in rest.items() if _is_text(v)}), wrong + more


def _is_text(value: Any) -> bool:
    return isinstance(value, str) or (isinstance(value, list) and all(isinstance(item, str) for item in value))


def _files(mark: Mark) -> list[tuple[Path_, str]]:
    """The paths in one option, each with the place of its item."""
    if isinstance(mark.value, list):
        return [((*mark.path, str(i)), item) for i, item in enumerate(mark.value)]
    return [(mark.path, mark.value)] if mark.value else []


def _missing_files(name: str, stage: Stage, document: Document) -> list[Diagnostic]:
    findings = []
    for mark in marks(stage, InputPath):
        for option, file in _files(mark):
            path = ("stages", name, *option)
            if any(path[: len(p)] == p for p in document.unresolved):
                continue
            if is_remote(file):
                message = f"{'.'.join(path)} is {remote(file)}, which is not supported yet"
                findings.append(Diagnostic(document.value_place(path), message, "fetch the file and give its path"))
                continue
            if long := too_long(file):
                findings.append(Diagnostic(document.value_place(path), f"{'.'.join(path)}: {long}", "shorten it"))
                continue
            problem = None if mark.marker.later else missing(absolute(file, Path.cwd()))
            if problem:
                findings.append(Diagnostic(document.value_place(path), *problem, exit_code=3))
    return findings


def _misplaced(folder: str, stages: Mapping[str, Stage | None], document: Document) -> list[Diagnostic]:
    """What is wrong with where the run and its output stages are to write."""
    findings = []
    if ("output", "dir") not in document.unresolved and (problem := unfit(folder)):
        findings.append(Diagnostic(document.value_place(("output", "dir")), *problem))
    for (name, option), problem in collisions(stages, Path(folder)):
        path = ("stages", name, option)
        if path not in document.unresolved:
            findings.append(Diagnostic(document.value_place(path), *problem))
    return findings


def _filled(
    name: str, stage: Stage | None, references: dict[Path_, str | list[str]], document: Document
) -> tuple[Stage, list[Diagnostic]]:
    """A stage with the references that were left out, and absolute input files."""
    assert stage is not None
    options = plain(stage)
    changes: dict[Path_, Any] = dict(references)
    changes |= {path: absolute(file, Path.cwd()) for mark in marks(stage, InputPath) for path, file in _files(mark)}
    for (*parents, key), value in changes.items():
        here: Any = options
        for parent in parents:
            here = here[int(parent)] if isinstance(here, list) else here[parent]
        here[int(key) if isinstance(here, list) else key] = value
    filled, wrong = validate(type(stage), options, document, ("stages", name))
    return filled or stage, wrong


def _in_order(findings: Iterable[Diagnostic]) -> list[Diagnostic]:
    """Each finding once, in the order of the file; those of ``--set`` first."""
    return sorted(dict.fromkeys(findings), key=lambda finding: (finding.place.line, finding.place.column))
