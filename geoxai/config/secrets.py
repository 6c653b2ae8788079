"""Passwords and tokens, which a run leaves in no file it writes."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Any

MASK = "***"
_NAME = re.compile(
    r"(?i)(^|.*[_-])(password|passwd|passphrase|secret|token|credentials?|signature|(api|access|private|secret)[_-]?key)$"
)
_IN_URL = (
    re.compile(r"(?i)(\b[a-z][a-z0-9+.-]*://)[^/\s@'\"]+(?=@)"),  # scheme://user:password@host
    re.compile(r"(?i)([?&][\w.-]*(?:password|secret|token|credential|signature|key|sig)=)[^&\s'\"#]+"),
)
_SHORTEST = 4  # shorter texts would take harmless words along


def secrets_in(data: Any) -> frozenset[str]:
    """The texts of a config whose key says that they are secret, such as ``vars.token``."""
    return frozenset(text for text in _secrets(data, False) if len(text) >= _SHORTEST)


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


def _secrets(value: Any, secret: bool) -> Iterator[str]:
    if isinstance(value, dict):
        for key, item in value.items():
            yield from _secrets(item, secret or _NAME.match(key) is not None)
    elif isinstance(value, list):
        for item in value:
            yield from _secrets(item, secret)
    elif secret and isinstance(value, str):
        yield value
