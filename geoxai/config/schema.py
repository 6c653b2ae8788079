"""The JSON Schema of a whole config, for editors and for the lists of options on the command line."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from geoxai.config.envelope import Envelope
from geoxai.stages import registry

_VARIABLE = {"$ref": "#/$defs/variable"}


def json_schema() -> dict[str, Any]:
    """JSON Schema (2020-12) of a config: the envelope, and for every stage one branch chosen by its ``use``.

    Any value may be a ``${vars.x}`` instead.
    """
    kinds = registry()
    models: list[type[BaseModel]] = [Envelope, *kinds.values()]
    references, shared = models_json_schema([(model, "validation") for model in models], by_alias=True)
    definitions = {name: _with_variables(schema) for name, schema in shared.get("$defs", {}).items()}
    where = {model: reference["$ref"].rsplit("/", 1)[1] for (model, _), reference in references.items()}
    for use, kind in kinds.items():
        _name_stage(definitions[where[kind]], use)
    envelope = definitions.pop(where[Envelope])
    branches = [{"$ref": f"#/$defs/{where[kind]}"} for kind in kinds.values()]
    envelope["properties"]["stages"] = {
        "type": "object",
        "description": Envelope.model_fields["stages"].description,
        "minProperties": 1,
        "propertyNames": {"pattern": "^[A-Za-z][A-Za-z0-9_-]*$"},
        "additionalProperties": {
            "type": "object",
            "required": ["use"],
            "properties": {"use": {"enum": list(kinds), "description": "What the stage does."}},
            "oneOf": branches,
        },
    }
    definitions["variable"] = {"type": "string", "pattern": r"^\$\{vars\.[^{}]+\}$"}
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **envelope, "$defs": definitions}


def stage_schema(use: str) -> dict[str, Any]:
    """JSON Schema of the options of one registered stage."""
    return registry()[use].model_json_schema(by_alias=True)


def _name_stage(schema: dict[str, Any], use: str) -> None:
    """Adds ``use`` to the schema of a stage's options."""
    named = {"const": use, "type": "string", "description": _first_line(schema.get("description", ""))}
    schema["properties"] = {"use": named, **schema.get("properties", {})}
    schema["required"] = ["use", *schema.get("required", [])]


def _first_line(text: str) -> str:
    return text.strip().split("\n")[0]


def _with_variables(schema: Any) -> Any:
    """The schema with a variable allowed wherever a value is that is not text anyway."""
    if not isinstance(schema, dict):
        return schema
    result = dict(schema)
    for key in ("properties",):
        if key in schema:
            result[key] = {name: _or_variable(option) for name, option in schema[key].items()}
    for key in ("items", "additionalProperties"):
        if isinstance(schema.get(key), dict):
            result[key] = _or_variable(schema[key])
    if "prefixItems" in schema:
        result["prefixItems"] = [_or_variable(item) for item in schema["prefixItems"]]
    for key in ("anyOf", "oneOf", "allOf"):
        if key in schema:
            result[key] = [_with_variables(branch) for branch in schema[key]]
    return result


def _or_variable(schema: dict[str, Any]) -> dict[str, Any]:
    inner = _with_variables(schema)
    if not inner or _takes_any_text(inner):
        return inner
    outside = {key: inner.pop(key) for key in ("title", "description", "default") if key in inner}
    branches = inner["anyOf"] if set(inner) == {"anyOf"} else [inner]
    return {**outside, "anyOf": [*branches, _VARIABLE]}


def _takes_any_text(schema: dict[str, Any]) -> bool:
    if schema.get("type") == "string":
        return not {"enum", "const", "pattern", "format", "maxLength"} & set(schema)
    return any(_takes_any_text(branch) for branch in schema.get("anyOf", ()))
