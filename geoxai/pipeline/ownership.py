"""Whose run is in a folder: one experiment does not replace the results of another unasked."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from geoxai.config import ConfigError, Diagnostic
from geoxai.pipeline.ledger import Ledger
from geoxai.pipeline.workspace import Workspace, with_upstream
from geoxai.stages.stage import ReducedStage, StoredStage
from geoxai.storage.files import read_json


def refuse_another(workspace: Workspace, chosen: Iterable[str], forced: Iterable[str] = ()) -> None:
    """Refuse a config that would recompute what another experiment has stored in the same folder.

    A config belongs to the experiment in the folder if it has its ``name``, and is in the same file, has the same text,
    or still shares a stored result with it. So a config that was edited, moved or had its stages renamed is not
    refused; nor is one with another name that replaces nothing.

    Raises
    ------
    ConfigError
        At ``output.dir``, with what would be lost and how to allow it.
    """
    config, before = workspace.config, read_json(workspace.run_dir / "run.json")
    if not isinstance(before, dict):
        return
    forced = tuple(forced)
    stored = _stored(workspace)
    if not stored:
        return
    try:
        kept = [name for name, found in stored.items() if found == workspace.fingerprint(name)]
    except Exception:  # code or files of the user that cannot be read: the run itself says so, and replaces nothing
        return
    lost = [name for name in chosen if name in stored and name not in (*kept, *forced)]
    if not lost or (before.get("name") == config.name and (kept or _is_same(workspace, before))):
        return
    first = [name for name in lost if not set(lost) & set(with_upstream(config, [name])[:-1])]
    message = (
        f"output.dir {workspace.run_dir} holds another experiment, {before.get('name')!r} of {before.get('config')}; "
        f"{config.name!r} of {config.path} would replace its {', '.join(lost)}"
    )
    go = " ".join(f"--force {name}" for name in first)
    fix = (
        f"choose another output.dir, or let those results go with {go}; "
        "an edited config keeps its folder as long as it keeps its name"
    )
    raise ConfigError([Diagnostic(config.place("output.dir"), message, fix)])


def _is_same(workspace: Workspace, before: dict[str, Any]) -> bool:
    """Whether a config of the same name is the one that the folder belongs to."""
    config = workspace.config
    file = Path(str(before.get("directory", "")), str(before.get("config", "")))
    if os.path.realpath(file) == os.path.realpath(config.path):
        return True
    text = workspace.run_dir / "config.yaml"
    return text.is_file() and text.read_bytes() == config.text.encode()


def _stored(workspace: Workspace) -> dict[str, str]:
    """The stages that have results in the run folder, with the fingerprints of those results."""
    found = {}
    for name, stage in workspace.config.stages.items():
        ledger = Ledger(workspace.run_dir, name)
        if (
            isinstance(stage, StoredStage | ReducedStage)
            and (entry := ledger.read())
            and ledger.done(entry.fingerprint)
        ):
            found[name] = entry.fingerprint
    return found
