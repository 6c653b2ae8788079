"""Finding the options of a model that carry a marker such as ``Reference`` or ``InputPath``."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any, Literal, NamedTuple, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from geoxai.config.document import Path_


class Mark(NamedTuple):
    """A marked option: its path in YAML names, its value, the marker, and whether it only takes a list."""

    path: Path_
    value: Any
    marker: Any
    listed: bool


def marked(model: BaseModel, marker: type) -> Iterator[tuple[str, Any]]:
    """Dotted YAML path and value of every option, in nested models too, whose annotation carries a marker.

    The marker may be on the whole option or inside it (``list[Annotated[str, Reference("grid")]]``,
    ``Annotated[str, InputPath()] | Literal["none"]``). The value is text, a list of texts, or None where unset.
    """
    for mark in marks(model, marker):
        yield ".".join(mark.path), mark.value


def marks(model: BaseModel, marker: type) -> Iterator[Mark]:
    """The same with the markers themselves."""
    for name, field in type(model).model_fields.items():
        yield from _in_option((field.alias or name,), getattr(model, name, None), field, marker)


def _in_option(path: Path_, value: Any, field: FieldInfo, marker: type) -> Iterator[Mark]:
    if isinstance(value, BaseModel):
        for mark in marks(value, marker):
            yield mark._replace(path=path + mark.path)
        return
    found = _marker(_whole(field), marker)
    if isinstance(value, dict):
        for key, item in value.items():
            yield from _in_option((*path, str(key)), item, field, marker)
    elif isinstance(value, list | tuple) and any(isinstance(item, BaseModel) for item in value):
        for i, item in enumerate(value):
            yield from _in_option((*path, str(i)), item, field, marker)
    elif found is not None and value not in _words(field.annotation):
        if isinstance(value, list | tuple):
            value = [item for item in value if isinstance(item, str)]
        if value is None or isinstance(value, str | list):
            yield Mark(path, value, found, not _takes_text(field.annotation))


def _whole(field: FieldInfo) -> Any:
    """The annotation of a field as written."""
    return Annotated[field.annotation, *field.metadata] if field.metadata else field.annotation


def _marker(annotation: Any, marker: type) -> Any:
    """The first marker of a type in an annotation, not looking into models."""
    if get_origin(annotation) is Annotated:
        for item in annotation.__metadata__:
            if isinstance(item, marker):
                return item
    for part in get_args(annotation):
        found = _marker(part, marker) if get_origin(part) is not None else None
        if found is not None:
            return found
    return None


def _words(annotation: Any) -> list[str]:
    """The literal texts an annotation takes at its top: such a value is a word, not a file or a stage."""
    if get_origin(annotation) is Literal:
        return [word for word in get_args(annotation) if isinstance(word, str)]
    if get_origin(annotation) in (list, tuple, dict, None):
        return []
    return [word for part in get_args(annotation) for word in _words(part)]


def _takes_text(annotation: Any) -> bool:
    """Whether an annotation takes a single text."""
    if get_origin(annotation) is Annotated:
        return _takes_text(get_args(annotation)[0])
    if get_origin(annotation) in (list, tuple, dict):
        return False
    return annotation is str or any(_takes_text(part) for part in get_args(annotation))


def class_marks(model: type[BaseModel], marker: type) -> Iterator[tuple[str, Any]]:
    """YAML name and marker of every marked option of a model class itself."""
    for name, field in model.model_fields.items():
        found = _marker(_whole(field), marker)
        if found is not None:
            yield field.alias or name, found
