"""Passwords and tokens, which a run keeps out of every file it writes."""

from __future__ import annotations

import html
import json
import re
from collections.abc import Iterable, Iterator
from typing import Any
from urllib.parse import quote

import yaml

MASK = "***"
_NAME = re.compile(
    r"(^|.*[_-])(password|passwd|passphrase|pwd|secret|token|credentials?|signature|auth|authorization"
    r"|(api|access|private|secret)[_-]?key)$"
)
_HUMP = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")  # apiToken
_IN_URL = (
    re.compile(r"(?i)(\b[a-z][a-z0-9+.-]*://)[^/\s@'\"]+(?=@)"),  # scheme://user:password@host
    re.compile(r"(?i)([?&][\w.-]*(?:password|secret|token|credential|signature|key|sig)=)[^&\s'\"#]+"),
)
_ASSIGNMENT = re.compile(r"(?s)((?:--set=)?([\w.-]+)=)(.*)")
_VARIABLE = re.compile(r"\$\{[^{}]*\}")
_NO_SECRET = ("tag:yaml.org,2002:bool", "tag:yaml.org,2002:null")
_SHORTEST, _SHORTEST_NUMBER = 4, 6  # shorter ones would take harmless words along


def secrets_in(*data: Any) -> frozenset[str]:
    """The texts and long numbers in configs whose keys say that they are secret, such as ``vars.token``."""
    found: set[str] = set()
    for value in (one for item in data for one in _secrets(item, False)):
        if len(str(value)) >= (_SHORTEST if isinstance(value, str) else _SHORTEST_NUMBER):
            found.update(_written(str(value)))
    return frozenset(found)


def masked(text: str, secrets: Iterable[str]) -> str:
    """A text with ``***`` in place of secrets, and of user names, passwords and signatures in URLs.

    >>> masked("https://me:abc@host/?token=x", ())
    'https://***@host/?token=***'
    """
    for secret in sorted(secrets, key=len, reverse=True):
        text = text.replace(secret, MASK)
    for pattern in _IN_URL:
        text = pattern.sub(rf"\1{MASK}", text)
    return text


def masked_data(value: Any, secrets: Iterable[str]) -> Any:
    """Nested plain data with ``***`` in place of what has a secret's key, and of secrets in other texts.

    >>> masked_data({"pwd": 12, "words": "say abcd"}, {"abcd"})
    {'pwd': '***', 'words': 'say ***'}
    """
    return _masked_data(value, secrets, False)


def masked_yaml(text: str, secrets: Iterable[str]) -> str:
    """The text of a config with ``'***'`` in place of every value below a secret's key, however it is written."""
    spans = _spans(yaml.compose(text, Loader=yaml.SafeLoader), False)
    for begin, end in sorted(spans, reverse=True):
        end -= len(text[begin:end]) - len(text[begin:end].rstrip())
        text = f"{text[:begin]}'{MASK}'{text[end:]}"
    return masked(text, secrets)


def masked_word(word: str, secrets: Iterable[str]) -> str:
    """A word of a command line: the value of ``--set vars.token=...`` is masked, however short or quoted it is."""
    if (found := _ASSIGNMENT.fullmatch(word)) and any(map(_is_secret, found[2].split("."))):
        return f"{found[1]}{MASK}"
    return masked(word, secrets)


def _masked_data(value: Any, secrets: Iterable[str], secret: bool) -> Any:
    if isinstance(value, dict):
        return {key: _masked_data(item, secrets, secret or _is_secret(key)) for key, item in value.items()}
    if isinstance(value, list):
        return [_masked_data(item, secrets, secret) for item in value]
    if secret and _is_value(value):
        return MASK
    return masked(value, secrets) if isinstance(value, str) else value


def _is_secret(key: Any) -> bool:
    return _NAME.match(_HUMP.sub("_", str(key)).lower()) is not None


def _is_value(value: Any) -> bool:
    """Whether something can be a secret: it is a text or number, and not the name of a variable that holds it."""
    if isinstance(value, str):
        return _VARIABLE.fullmatch(value) is None
    return isinstance(value, int | float) and not isinstance(value, bool)


def _secrets(value: Any, secret: bool) -> Iterator[str | int | float]:
    if isinstance(value, dict):
        for key, item in value.items():
            yield from _secrets(item, secret or _is_secret(key))
    elif isinstance(value, list):
        for item in value:
            yield from _secrets(item, secret)
    elif secret and _is_value(value):
        yield value


def _written(secret: str) -> Iterator[str]:
    """A secret as it may be written in other texts: in JSON, Python, YAML, HTML and URLs."""
    yield secret
    yield from (json.dumps(secret, ensure_ascii=ascii_)[1:-1] for ascii_ in (True, False))
    yield repr(secret)[1:-1]
    yield secret.replace("'", "''")
    yield from (html.escape(secret), quote(secret), quote(secret, safe=""))


def _spans(node: yaml.Node | None, secret: bool) -> Iterator[tuple[int, int]]:
    """Where in a text the single values below secret keys are."""
    if isinstance(node, yaml.MappingNode):
        for key, item in node.value:
            yield from _spans(item, secret or _is_secret(key.value))
    elif isinstance(node, yaml.SequenceNode):
        for item in node.value:
            yield from _spans(item, secret)
    elif node is not None and secret and node.value and _is_value(node.value) and node.tag not in _NO_SECRET:
        yield node.start_mark.index, node.end_mark.index
