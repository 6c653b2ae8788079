"""Options checked against a pydantic model, every mismatch reported in plain words at its place."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar, get_args

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

from geoxai.config.diagnostic import Diagnostic, suggestion
from geoxai.config.document import Document, Path_, Spot
from geoxai.errors import GeoxaiError
from geoxai.names import closest

Model = TypeVar("Model", bound=BaseModel)

_KINDS = {
    "int_type": "a whole number",
    "int_parsing": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "float_parsing": "a number",
    "finite_number": "a finite number",
    "bool_type": "true or false",
    "bool_parsing": "true or false",
    "string_type": "text",
    "list_type": "a list",
    "tuple_type": "a list",
    "set_type": "a list",
    "frozen_set_type": "a list",
    "dict_type": "a mapping (key: value)",
    "model_type": "a mapping (key: value)",
    "model_attributes_type": "a mapping (key: value)",
    "none_required": "null",
}
_BOUNDS = {
    "greater_than": "greater than {gt}",
    "greater_than_equal": "at least {ge}",
    "less_than": "less than {lt}",
    "less_than_equal": "at most {le}",
    "multiple_of": "a multiple of {multiple_of}",
    "string_too_short": "text of at least {min_length} character(s)",
    "string_too_long": "text of at most {max_length} characters",
    "string_pattern_mismatch": "of the form {pattern}",
}


@dataclass(frozen=True)
class _Fault:
    """One pydantic error: the path in the data, and the branches of unions passed on the way, each with its depth."""

    path: Path_
    branches: tuple[tuple[int, str], ...]
    kind: str
    context: dict[str, Any]
    text: str

    @property
    def mismatch(self) -> bool:
        """Whether the value is of the wrong kind, rather than of the right kind but wrong."""
        return self.kind in _KINDS or self.kind in ("literal_error", "enum")


def validate(model: type[Model], data: Any, document: Document, base: Path_) -> tuple[Model | None, list[Diagnostic]]:
    """The model of the data at ``base`` in a document, or None and what is wrong with them.

    Validation is strict and reads lists as tuples where a tuple is wanted: text is never taken for a number.
    """
    try:
        return model.model_validate_json(json.dumps(data), strict=True, by_alias=True, by_name=False), []
    except ValidationError as error:
        told = _Telling(model, data, document, base)
        errors = error.errors(include_url=False, include_input=False)
        faults = [_fault(e["loc"], data, e["type"], e.get("ctx", {}), e["msg"]) for e in errors]
        return None, [told.diagnostic(group) for group in _settle(faults)]
    except GeoxaiError as error:
        path = base + (tuple(error.option.split(".")) if error.option else ())
        place = document.value_place(path) if error.option else document.key_place(base)
        return None, [Diagnostic(place, f"{'.'.join(path)}: {error.message}", error.fix, exit_code=error.exit_code)]


def _fault(loc: Sequence[int | str], data: Any, kind: str, context: dict[str, Any], text: str) -> _Fault:
    """Separates keys of the data from the names of union branches, which pydantic puts into its path."""
    path: list[str] = []
    branches: list[tuple[int, str]] = []
    here = data
    for i, part in enumerate(loc):
        if _holds(here, part):
            here = here[part]
            path.append(str(part))
        elif kind == "missing" and i == len(loc) - 1:
            path.append(str(part))
        elif part == "[key]":
            kind = f"key_{kind}"
        else:
            branches.append((len(path), str(part)))
            here = here if isinstance(here, dict | list) else None
    return _Fault(tuple(path), tuple(branches), kind, context, text)


def _holds(data: Any, key: int | str) -> bool:
    if isinstance(data, list):
        return isinstance(key, int) and key < len(data)
    return isinstance(data, dict) and key in data


def _settle(faults: Iterable[_Fault]) -> list[list[_Fault]]:
    """Groups of faults to tell as one: of a union only the branch that was meant, or all that might have been."""
    settled: list[list[_Fault]] = []
    unions: dict[Path_, dict[str, list[_Fault]]] = {}
    for fault in faults:
        if not fault.branches:
            settled.append([fault])
            continue
        (depth, branch), *rest = fault.branches
        union = unions.setdefault(fault.path[:depth], {})
        union.setdefault(branch, []).append(replace(fault, branches=tuple(rest)))
    for path, union in unions.items():
        told = [_settle(branch) for branch in union.values()]
        inside = [groups for groups in told if any(len(fault.path) > len(path) for group in groups for fault in group)]
        if inside:
            meant: list[list[_Fault]] = min(inside, key=len)
            settled += meant
            continue
        alternatives = [fault for groups in told for group in groups for fault in group]
        wrong = [fault for fault in alternatives if not fault.mismatch]
        settled.append(wrong[:1] or alternatives)
    return settled


class _Telling:
    """The words for faults of one model's data."""

    def __init__(self, model: type[BaseModel], data: Any, document: Document, base: Path_):
        self.model, self.data, self.document, self.base = model, data, document, base

    def diagnostic(self, group: list[_Fault]) -> Diagnostic:
        fault = group[0]
        path = self.base + fault.path
        if fault.kind == "extra_forbidden":
            return self.unknown(fault, path)
        if fault.kind == "missing":
            return self.missing(fault, path)
        if fault.kind.startswith("key_"):
            words = re.findall(r"'([^']*)'", str(fault.context.get("expected", "")))
            message = f"unknown key {path[-1]!r} in {'.'.join(path[:-1])}"
            fix = suggestion(path[-1], words) if words else fault.text
            return Diagnostic(self.document.key_place(path), message, fix)
        place = self.document.value_place(path) if fault.path else self.document.key_place(path)
        name = ".".join(path) or "the config"
        if fault.kind in ("value_error", "assertion_error"):
            return Diagnostic(place, f"{name}: {fault.context.get('error', fault.text)}")
        if fault.kind == "union_tag_invalid":
            tag, place = fault.context["tag"], self.document.value_place((*path, _unquoted(fault)))
            return Diagnostic(place, f"{name} has unknown {_unquoted(fault)} {tag!r}", _nearest(tag, fault))
        value = _at(self.data, fault.path)
        spot = self.document.spots.get(path)
        if fault.kind in ("too_short", "too_long"):
            return Diagnostic(place, f"{name} {_length(fault.context, value)}")
        if fault.kind in _BOUNDS:
            wanted = _BOUNDS[fault.kind].format(**fault.context)
        elif all(alternative.mismatch for alternative in group):
            wanted = _alternatives(group)
        else:
            return Diagnostic(place, f"{name}: {fault.text}")
        message = f"{name} must be {wanted}, {'but is empty' if value is None else f'not {_found(value, spot)}'}"
        return Diagnostic(place, message, _remedy(value, spot, group))

    def unknown(self, fault: _Fault, path: Path_) -> Diagnostic:
        name = path[-1]
        known = [name for model in _models(self.model, fault.path[:-1]) for name in _options(model)]
        where = f" in {'.'.join(path[:-1])}" if len(path) > 1 else ""
        what = "key" if path[0] != "stages" else "option"
        if ":" in name:
            fix = f"write a space after the colon: {name.replace(':', ': ', 1)}"
        else:
            fix = suggestion(name, dict.fromkeys(known))
        return Diagnostic(self.document.key_place(path), f"unknown {what} {name!r}{where}", fix)

    def missing(self, fault: _Fault, path: Path_) -> Diagnostic:
        *parents, name = path
        where = ".".join(parents) or "the config"
        place = self.document.key_place(tuple(parents))
        if name.isdigit():
            count = len(_at(self.data, fault.path[:-1]))
            place = self.document.value_place(tuple(parents))
            return Diagnostic(place, f"{where} has {count} item(s), which is too few")
        fields = [_options(model).get(name) for model in _models(self.model, fault.path[:-1])]
        about = next((field.description for field in fields if field and field.description), None)
        return Diagnostic(place, f"{where} needs {name!r}", f"{name}: {about}" if about else f"add {name}: ...")


def _options(model: type[BaseModel]) -> dict[str, FieldInfo]:
    """The fields of a model by their YAML names."""
    return {field.alias or name: field for name, field in model.model_fields.items()}


def _models(model: type[BaseModel], path: Path_) -> list[type[BaseModel]]:
    """The models that may occur at a path below a model."""
    found = [model]
    for key in path:
        annotations: list[Any] = []
        for candidate in found:
            field = _options(candidate).get(key)
            # A key that is not a field is an item of a list or mapping of the same models.
            annotations.append(field.annotation if field else candidate)
        found = [inner for annotation in annotations for inner in _inner_models(annotation)]
    return found


def _inner_models(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for part in get_args(annotation):
        yield from _inner_models(part)


def _at(data: Any, path: Path_) -> Any:
    for key in path:
        data = data[int(key)] if isinstance(data, list) else data[key]
    return data


def _unquoted(fault: _Fault) -> str:
    return str(fault.context["discriminator"]).strip("'")


def _nearest(name: str, fault: _Fault) -> str:
    return suggestion(name, re.findall(r"'([^']*)'", str(fault.context.get("expected_tags", ""))))


def _alternatives(group: list[_Fault]) -> str:
    """``'auto' or a whole number``"""
    wanted: list[str] = []
    for fault in group:
        literal = fault.kind in ("literal_error", "enum")
        wanted += re.split(r", | or ", str(fault.context["expected"])) if literal else [_KINDS[fault.kind]]
    words = [word for word in dict.fromkeys(wanted) if word != "null"] or ["null"]
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} or {words[-1]}"


def _found(value: Any, spot: Spot | None) -> str:
    """What is in the file, in words."""
    if isinstance(value, dict | list):
        return "a mapping" if isinstance(value, dict) else "a list"
    if isinstance(value, str):
        return f"the text {value!r}"
    return spot.text if spot and spot.text and "$" not in spot.text else json.dumps(value)


def _length(context: dict[str, Any], value: Any) -> str:
    least, most = context.get("min_length"), context.get("max_length")
    wanted = f"at least {least}" if least is not None else f"at most {most}"
    return f"must have {wanted} item(s), not {len(value) if isinstance(value, dict | list) else 'fewer'}"


def _remedy(value: Any, spot: Spot | None, group: list[_Fault]) -> str | None:
    """What to write instead, where a guess is safe."""
    kinds = {fault.kind for fault in group}
    words = [
        w for f in group if f.kind in ("literal_error", "enum") for w in re.findall(r"'([^']*)'", f.context["expected"])
    ]
    if isinstance(value, str):
        best = closest(value, words)
        if best:
            return f"did you mean {best!r}?"
        return _meant(value, bool(spot and spot.quoted), kinds)
    if kinds == {"string_type"} and isinstance(value, int | float):
        return f'put it in quotes: "{_found(value, spot)}"'
    return None


def _meant(text: str, quoted: bool, kinds: set[str]) -> str | None:
    """What text that is not the number or truth value it looks like should be."""
    numeric = bool(kinds & {"int_type", "int_parsing", "float_type", "float_parsing"})
    if kinds & {"bool_type", "bool_parsing"} and text.lower() in ("on", "yes", "y", "off", "no", "n", "true", "false"):
        return f"write {'true' if text.lower() in ('on', 'yes', 'y', 'true') else 'false'}"
    if not numeric:
        return None
    if quoted and re.fullmatch(r"[-+]?\d+(\.\d*)?([eE][-+]?\d+)?", text):
        return f"without quotes: {text}"
    if re.fullmatch(r"[-+]?0\d+(\.\d*)?", text):
        return f"a number has no leading zero: {re.sub(r'0+(?=[0-9])', '', text, count=1)}"
    if re.fullmatch(r"[-+]?\d+,\d+", text):
        return f"decimals have a point: {text.replace(',', '.')}"
    if re.fullmatch(r"[-+]?\d+(_\d+)+", text):
        return f"a number has no underscores: {text.replace('_', '')}"
    if re.fullmatch(r"\d+(:\d+)+", text):
        return "clock times are plain text here; write a decimal number"
    return None
