"""The JSON Schema of a whole config, for editors and for the lists of options on the command line."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from geoxai.config.envelope import Envelope
from geoxai.stages import registry

_VARIABLE = {"$ref": "#/$defs/variable"}


def json_schema() -> dict[str, Any]:
    """JSON Schema (2020-12) of a config: the envelope, and for every stage the options that its ``use`` chooses.

    Any value may be a ``${vars.x}`` instead. What a validator says of a misspelt option names that option: where
    several schemas are possible, ``if`` and ``then`` choose one, since of an ``anyOf`` it is only said that none fits.
    """
    kinds = registry()
    models: list[type[BaseModel]] = [Envelope, *kinds.values()]
    references, shared = models_json_schema([(model, "validation") for model in models], by_alias=True)
    definitions = {name: _with_variables(schema) for name, schema in shared.get("$defs", {}).items()}
    where = {model: reference["$ref"].rsplit("/", 1)[1] for (model, _), reference in references.items()}
    for use, kind in kinds.items():
        _name_stage(definitions[where[kind]], use)
    envelope = definitions.pop(where[Envelope])
    chosen = [
        {"if": {"properties": {"use": {"const": use}}, "required": ["use"]}, "then": {"$ref": f"#/$defs/{where[kind]}"}}
        for use, kind in kinds.items()
    ]
    envelope["properties"]["stages"] = {
        "type": "object",
        "description": Envelope.model_fields["stages"].description,
        "minProperties": 1,
        "propertyNames": {"pattern": "^[A-Za-z][A-Za-z0-9_-]*$"},
        "additionalProperties": {
            "type": "object",
            "required": ["use"],
            "properties": {"use": {"enum": list(kinds), "description": "What the stage does."}},
            "allOf": chosen,
        },
    }
    definitions["variable"] = {"type": "string", "pattern": r"^\$\{vars\.[^{}]+\}$"}
    whole = _chosen_by_type({**envelope, "$defs": definitions}, definitions)
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **whole}


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
    """The schema with a variable allowed instead of any value that is not text anyway."""
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


def _chosen_by_type(schema: Any, definitions: dict[str, Any]) -> Any:
    """The schema with every ``anyOf`` and ``oneOf`` replaced by ``if`` and ``then`` on the type of the value, as far as
    that tells the branches apart.
    """
    if isinstance(schema, list):
        return [_chosen_by_type(part, definitions) for part in schema]
    if not isinstance(schema, dict):
        return schema
    result = {key: _chosen_by_type(part, definitions) for key, part in schema.items() if key not in ("anyOf", "oneOf")}
    if branches := _flat(schema):
        result |= _by_type([_chosen_by_type(branch, definitions) for branch in branches], definitions)
    return result


def _flat(schema: dict[str, Any]) -> list[dict[str, Any]]:
    """The branches of a schema, those within branches too."""
    found: list[dict[str, Any]] = []
    for branch in (*schema.get("anyOf", ()), *schema.get("oneOf", ())):
        found += _flat(branch) if set(branch) <= {"anyOf", "oneOf", "description", "title"} else [branch]
    return found


def _by_type(branches: list[dict[str, Any]], definitions: dict[str, Any]) -> dict[str, Any]:
    """One schema for several branches: mappings and lists each go to their own."""
    types = [_types(branch, definitions) for branch in branches]
    for container in ("object", "array"):
        inside = [branch for branch, one in zip(branches, types) if one == {container}]
        outside = [branch for branch, one in zip(branches, types) if one != {container}]
        others = set().union(*(one for one in types if one != {container}))
        if inside and outside and not {container, ""} & others:
            return {
                "if": {"type": sorted(others)},
                "then": _by_type(outside, definitions),
                "else": _by_type(inside, definitions),
            }
    return branches[0] if len(branches) == 1 else {"anyOf": branches}


def _types(schema: dict[str, Any], definitions: dict[str, Any]) -> set[str]:
    """The JSON types that a schema takes; an empty name where it does not say."""
    if "$ref" in schema:
        return _types(definitions[schema["$ref"].rsplit("/", 1)[1]], definitions)
    if "anyOf" in schema:
        return set().union(*(_types(branch, definitions) for branch in schema["anyOf"]))
    if "if" in schema:
        return _types(schema["then"], definitions) | _types(schema["else"], definitions)
    found = schema.get("type", "")
    return set(found) if isinstance(found, list) else {found}
