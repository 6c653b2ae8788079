"""What ``geoxai.run`` of a script or notebook needs beyond the command line."""

from __future__ import annotations

import ast
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from geoxai.config import dump
from geoxai.errors import OptionError


def assignments(values: Mapping[str, Any]) -> tuple[str, ...]:
    """Values by dotted names as ``--set`` takes them."""
    if not isinstance(values, Mapping):
        raise OptionError(f"set is a {type(values).__name__}, expected a mapping such as {{'stages.a.b': 1}}")
    return tuple(f"{name}={_written(value)}" for name, value in values.items())


def _written(value: Any) -> str:
    """A value in YAML, whatever it is: a path is its text, numpy's numbers are numbers."""
    value = str(value) if isinstance(value, Path) else value.item() if hasattr(value, "item") else value
    if isinstance(value, tuple):
        value = list(value)
    return dump(value).removesuffix("...\n").strip()


def unguarded_line() -> str | None:
    """The line of the running script that called, as ``file:line``, if it is outside ``if __name__ == "__main__":``.

    None in a notebook, at a prompt, for a program of modules, and where the call does not come from the script: worker
    processes run the file of ``__main__`` again, from top to bottom.
    """
    main = sys.modules.get("__main__") or sys.modules.get("__mp_main__")
    file = getattr(main, "__file__", None)
    frame = sys._getframe()
    while frame is not None:
        inside = frame.f_globals.get("__name__") in ("__main__", "__mp_main__")
        if inside and frame.f_code.co_name == "<module>" and frame.f_code.co_filename == file:
            return None if _is_guarded(Path(file), frame.f_lineno) else f"{file}:{frame.f_lineno}"
        frame = frame.f_back  # type: ignore[assignment]
    return None


def _is_guarded(file: Path, line: int) -> bool:
    """Whether a line of a script is below ``if __name__ == ...``."""
    try:
        tree = ast.parse(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, SyntaxError):
        return True  # not a script that workers could run
    guards = (node for node in ast.walk(tree) if isinstance(node, ast.If) and "__name__" in ast.unparse(node.test))
    return any(guard.lineno <= line <= (guard.end_lineno or line) for guard in guards)
