"""Whether conservation is checked at every node (see ``conservation``); set in the environment for workers."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

CHECK_NODES = "GEOXAI_CHECK_NODES"


def nodes_are_checked() -> bool:
    """Whether the environment asks for the check."""
    return os.environ.get(CHECK_NODES, "") not in ("", "0")


@contextmanager
def checked_nodes() -> Iterator[None]:
    """Inside this context, this process and those it starts check every node."""
    before = os.environ.get(CHECK_NODES)
    os.environ[CHECK_NODES] = "1"
    try:
        yield
    finally:
        if before is None:
            del os.environ[CHECK_NODES]
        else:
            os.environ[CHECK_NODES] = before
