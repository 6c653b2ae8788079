"""Configs to start from, with data to run them on."""

from __future__ import annotations

import json
import re
from importlib import resources
from pathlib import Path

from geoxai.config import json_schema
from geoxai.errors import OptionError
from geoxai.names import unknown
from geoxai.storage.files import write_text

SCHEMA_FILE = "geoxai.schema.json"
DATA = Path("data_samples")  # as the starters name it, in the folder where the command is typed


def templates() -> dict[str, str]:
    """The starters by name; ``EXPERIMENT`` in their text stands for the name of the experiment."""
    folder = resources.files("geoxai.cli") / "templates"
    files = (file for file in folder.iterdir() if file.name.endswith(".yaml"))
    return {file.name.removesuffix(".yaml"): file.read_text(encoding="utf-8") for file in files}


def write_starter(name: str, template: str, *, force: bool = False) -> list[Path]:
    """Write ``<name>.yaml``, beside it the JSON Schema that editors read, and synthetic data that it runs on.

    Existing files are left as they are, except the config and the schema with ``force``. Returns the paths written.

    Raises
    ------
    OptionError
        The template is unknown, the name cannot be a file name, or the file exists and ``force`` is not given.
    """
    known = templates()
    if template not in known:
        raise OptionError(unknown("template", template, known))
    target = Path(name if name.endswith((".yaml", ".yml")) else f"{name}.yaml")
    if not re.fullmatch(r"\w[\w.+-]*", target.stem):
        raise OptionError(f"{target.stem!r} cannot be the name of an experiment", fix="use letters, digits, . _ + -")
    if target.exists() and not force:
        raise OptionError(f"{target} exists already", fix="choose another name, or use --force to overwrite it")
    if not target.parent.is_dir():
        raise OptionError(f"there is no folder {target.parent}", fix="make it first")
    if DATA.exists() and not DATA.is_dir():
        raise OptionError(f"{DATA} is a file, but the folder of the data has that name", fix="use another folder")
    write_text(target, known[template].replace("EXPERIMENT", target.stem))
    schema = target.parent / SCHEMA_FILE
    written = [target]
    if force or not schema.exists():
        write_text(schema, json.dumps(json_schema(), indent=1) + "\n")
        written.append(schema)
    return written + _write_data()


def _write_data() -> list[Path]:
    """Synthetic temperatures, unless there are some."""
    if any(DATA.glob("sst_*.nc")):
        return []
    from geoxai.synthetic import make_sample, write_fields

    DATA.mkdir(exist_ok=True)
    return write_fields(make_sample(), DATA, "geoxai init")
