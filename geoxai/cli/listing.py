"""The registered stages and their options as text: the manual on the command line."""

from __future__ import annotations

import inspect
import json
import textwrap
from collections.abc import Mapping
from typing import Any

from geoxai.cli.example import example, example_files
from geoxai.config.markers import class_marks
from geoxai.config.schema import stage_schema
from geoxai.stages.stage import InputPath, Reference, Stage

WIDTH = 100
_TYPES = {"integer": "whole number", "number": "number", "string": "text", "boolean": "true | false", "null": "null"}
_BOUNDS = {"minimum": ">=", "exclusiveMinimum": ">", "maximum": "<=", "exclusiveMaximum": "<"}


def overview(stages: Mapping[str, type[Stage]]) -> str:
    """One line a stage: its name, the kinds it takes and gives, what it does."""
    flows = {use: f"{_brief(_takes(stage))} -> {stage.gives}" for use, stage in stages.items()}
    names, kinds = (max(len(word) for word in words) for words in (flows, flows.values()))
    return "\n".join(
        f"{use:{names}}  {flows[use]:{kinds}}  {_summary(stage)}".rstrip() for use, stage in stages.items()
    )


def manual(use: str, stages: Mapping[str, type[Stage]]) -> str:
    """What a stage does, the kinds it takes and gives, every option with its type, default and description, and an
    example that runs.
    """
    stage = stages[use]
    schema = stage_schema(use)
    flow = f"takes {', '.join(_takes(stage)) or 'nothing'}; gives {stage.gives}"
    options = _options(schema, schema.get("$defs", {}), _marked_words(stage, schema), "  ", ())
    parts = [use, "", inspect.cleandoc(stage.__doc__ or ""), "", flow, "", "options:", *options]
    return "\n".join([*parts, *_example(use, stages)])


def _example(use: str, stages: Mapping[str, type[Stage]]) -> list[str]:
    """A config to copy and, where it reads files that nobody has, what writes them."""
    config, files = example(use, stages), example_files(use, stages)
    if not config:
        return []
    lines = ["", "an example that runs in a folder where `geoxai init` was run:", "", textwrap.indent(config, "  ")]
    return [*lines, "", "with files such as this Python writes:", "", textwrap.indent(files, "  ")] if files else lines


def _summary(stage: type[Stage]) -> str:
    return inspect.cleandoc(stage.__doc__ or "").split("\n")[0]


def _takes(stage: type[Stage]) -> list[str]:
    """The kinds of other stages that a stage reads."""
    return list(dict.fromkeys(kind for _, mark in class_marks(stage, Reference) for kind in mark.kinds))


def _brief(kinds: list[str]) -> str:
    return "-" if not kinds else ", ".join(kinds) if len(kinds) <= 3 else "any"


def _marked_words(stage: type[Stage], schema: dict[str, Any]) -> dict[str, str]:
    """The values of options that name files or other stages."""
    words = {}
    for option, _ in class_marks(stage, InputPath):
        words[option] = _one_or_list("file or glob", schema["properties"][option])
    for option, mark in class_marks(stage, Reference):
        one = f"stage that gives {', '.join(mark.kinds[:-1])}{' or ' if mark.kinds[:-1] else ''}{mark.kinds[-1]}"
        nearest = ", default the nearest above" if mark.nearest else ""
        words[option] = _one_or_list(one, schema["properties"][option]) + nearest
    return words


def _one_or_list(one: str, option: dict[str, Any]) -> str:
    kinds = {branch.get("type") for branch in option.get("anyOf", [option])}
    if "array" not in kinds:
        return one
    if "object" in kinds:
        return f"{one}, a list, or a mapping of these"
    return f"{one}, or a list" if "string" in kinds else f"list of: {one}"


def _options(
    schema: dict[str, Any], shared: dict[str, Any], words: dict[str, str], indent: str, within: tuple[str, ...]
) -> list[str]:
    """The options of one model, those of models inside it indented below; ``within`` stops at recursion."""
    lines: list[str] = []
    below = indent + "    "
    for name, option in schema.get("properties", {}).items():
        values = words.get(name) or _words(option, shared)
        head = f"{indent}{name}: {values}{_default(name, option, schema)}"
        lines += textwrap.wrap(head, WIDTH, subsequent_indent=below, break_on_hyphens=False)
        lines += textwrap.wrap(option.get("description", ""), WIDTH, initial_indent=below, subsequent_indent=below)
        for model in dict.fromkeys(_models(option)):
            if model not in within:
                lines += _options(shared[model], shared, {}, below + "  ", (*within, model))
    return lines


def _default(name: str, option: dict[str, Any], schema: dict[str, Any]) -> str:
    if name in schema.get("required", ()):
        return ", required"
    default = option.get("default")
    return "" if default is None or default in ("", [], {}) else f", default {json.dumps(default)}"


def _words(schema: dict[str, Any], shared: dict[str, Any]) -> str:
    """The values an option takes."""
    if "$ref" in schema:
        target = shared[schema["$ref"].rsplit("/", 1)[1]]
        return _words(target, shared) if "enum" in target else "mapping"
    if "const" in schema or "enum" in schema:
        return " | ".join(str(value) for value in schema.get("enum", [schema.get("const")]))
    for key in ("anyOf", "oneOf", "allOf"):
        if key in schema:
            branches = [branch for branch in schema[key] if branch.get("type") != "null"]
            return " | ".join(dict.fromkeys(_words(branch, shared) for branch in branches))
    if schema.get("type") == "array":
        if "prefixItems" in schema:
            return f"[{', '.join(_words(item, shared) for item in schema['prefixItems'])}]"
        return f"list of {_grouped(_words(schema.get('items', {}), shared))}"
    if schema.get("type") == "object":
        inner = schema.get("additionalProperties")
        return f"mapping of {_grouped(_words(inner, shared))}" if isinstance(inner, dict) else "mapping"
    bounds = " ".join(f"{sign} {schema[key]}" for key, sign in _BOUNDS.items() if key in schema)
    return f"{_TYPES.get(schema.get('type', ''), 'any value')} {bounds}".strip()


def _grouped(words: str) -> str:
    return f"({words})" if " | " in words else words


def _models(schema: Any) -> list[str]:
    """The names of the models that an option may hold."""
    if isinstance(schema, dict):
        own = [schema["$ref"].rsplit("/", 1)[1]] if "$ref" in schema else []
        return own + [name for key, part in schema.items() if key != "default" for name in _models(part)]
    return [name for part in schema for name in _models(part)] if isinstance(schema, list) else []
