"""One output of a network that returns several."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from geoxai.errors import OptionError

Head = int | str | tuple[int | str, ...]


def pick(returned: Any, head: Head | None) -> Tensor:
    """The tensor that ``head`` names: an index of a tuple or list, a key of a dict or field, or a tuple of these.

    Without ``head``, a single tensor is taken, also from a tuple of one.

    Raises
    ------
    OptionError
        There are several and none is named, or there is none at ``head``; the message lists what there is.
    """
    found = returned
    keys = head if isinstance(head, tuple) else () if head is None else (head,)
    for depth, key in enumerate(keys):
        listed = isinstance(found, tuple | list) and isinstance(key, int) and -len(found) <= key < len(found)
        if listed or (isinstance(found, Mapping) and key in found):
            found = found[key]
        elif isinstance(key, str) and isinstance(getattr(found, key, None), Tensor) and not isinstance(found, Tensor):
            found = getattr(found, key)
        else:
            alone = isinstance(returned, Tensor)
            fix = "leave head out" if alone else f"for instance head: {_example(found, keys[:depth])}"
            raise OptionError(
                f"head {key!r} is not in what the network returns: {_described(found)}", fix=fix, option="head"
            )
    while head is None and isinstance(found, tuple | list) and len(found) == 1:
        found = found[0]
    if not isinstance(found, Tensor):
        raise OptionError(
            f"the network returns {_described(found)}; one of them must be named",
            fix=f"say which counts, such as head: {_example(returned if head is None else found, keys)}",
            option="head",
        )
    return found


def _described(found: Any) -> str:
    if isinstance(found, Tensor):
        return f"{' x '.join(map(str, found.shape[1:])) or 'one value'} per sample"
    if isinstance(found, Mapping):
        return "a dict of " + ", ".join(f"{key!r} ({_described(value)})" for key, value in found.items())
    if isinstance(found, tuple | list):
        listed = ", ".join(f"{number} ({_described(value)})" for number, value in enumerate(found))
        return f"a {'list' if isinstance(found, list) else 'tuple'} of {listed}"
    return f"a {type(found).__name__}"


def head_text(head: Head) -> str:
    """A head as written in a config."""
    return f"[{', '.join(map(str, head))}]" if isinstance(head, tuple) else repr(head)


def _example(found: Any, before: tuple[int | str, ...]) -> str:
    """The keys of the first tensor in what is at the keys ``before``, as YAML takes them."""
    keys: list[Any] = list(before)
    while isinstance(found, Mapping | tuple | list) and found:
        key = next(iter(found)) if isinstance(found, Mapping) else 0
        keys.append(key)
        found = found[key]
    if not isinstance(found, Tensor):
        keys.append("the name of a field")
    return str(keys[0]) if len(keys) == 1 else head_text(tuple(keys))
