"""Configs to start from."""

from __future__ import annotations

import json
import re
from importlib import resources
from pathlib import Path

from geoxai.config import json_schema
from geoxai.errors import OptionError
from geoxai.names import unknown

SCHEMA_FILE = "geoxai.schema.json"


def templates() -> dict[str, str]:
    """The starters by name; ``EXPERIMENT`` in their text stands for the name of the experiment."""
    folder = resources.files("geoxai.cli") / "templates"
    files = (file for file in folder.iterdir() if file.name.endswith(".yaml"))
    return {file.name.removesuffix(".yaml"): file.read_text(encoding="utf-8") for file in files}


def write_starter(name: str, template: str, *, force: bool = False) -> tuple[Path, Path]:
    """Writes ``<name>.yaml`` and beside it the JSON Schema that editors read; returns both paths.

    Raises
    ------
    OptionError
        The template is unknown, the name cannot be a file's, or the file is there and ``force`` is not given.
    """
    known = templates()
    if template not in known:
        raise OptionError(unknown("template", template, known))
    target = Path(name if name.endswith((".yaml", ".yml")) else f"{name}.yaml")
    if not re.fullmatch(r"\w[\w.+-]*", target.stem):
        raise OptionError(f"{target.stem!r} cannot be the name of an experiment", fix="use letters, digits, . _ + -")
    if target.exists() and not force:
        raise OptionError(f"{target} is already there", fix="choose another name, or --force to overwrite it")
    if not target.parent.is_dir():
        raise OptionError(f"there is no folder {target.parent}", fix="make it first")
    target.write_text(known[template].replace("EXPERIMENT", target.stem), encoding="utf-8")
    schema = target.parent / SCHEMA_FILE
    schema.write_text(json.dumps(json_schema(), indent=1) + "\n", encoding="utf-8")
    return target, schema
