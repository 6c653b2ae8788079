"""The version of geoxai: tag and commit of the repository it runs from, else that of the installed distribution."""

from __future__ import annotations

import os
import re
import subprocess
from functools import cache
from importlib.metadata import PackageNotFoundError
from importlib.metadata import version as installed
from pathlib import Path

DISTRIBUTION = "geoxai-pipeline"  # on PyPI; the name geoxai there belongs to another project
_SECONDS = 10  # for git to answer


@cache
def version() -> str:
    """The version as in PEP 440, determined on first use.

    In a checkout, an editable install included, git says it: ``1.2.0`` at the tag ``v1.2.0``, ``1.2.1.dev3+g4f1c2ab``
    three commits later, ``0.1.dev250+g4f1c2ab`` without a tag, ``.dirty`` at the end with changes that are not
    committed. Elsewhere, and where git is absent, it is what the build found.
    """
    root = Path(__file__).resolve().parents[1]
    if (root / ".git").exists() and (root / "pyproject.toml").is_file() and (found := _described(root)):
        return found
    try:
        return installed(DISTRIBUTION)
    except PackageNotFoundError:
        return "0+unknown"


def _described(root: Path) -> str | None:
    text = _git(root, "describe", "--tags", "--long", "--always", "--dirty", "--match", "v[0-9]*")
    if text is None:
        return None
    if tagged := re.fullmatch(r"v(\d+(?:\.\d+)*)-(\d+)-g([0-9a-f]+)(-dirty)?", text):
        number, distance, commit, dirty = tagged.groups()
        if distance == "0" and not dirty:
            return number
        *first, last = number.split(".")
        number = ".".join([*first, str(int(last) + 1)])
    elif untagged := re.fullmatch(r"([0-9a-f]+)(-dirty)?", text):
        commit, dirty = untagged.groups()
        number, distance = "0.1", _git(root, "rev-list", "--count", "HEAD") or "0"
    else:
        return None
    return f"{number}.dev{distance}+g{commit}{'.dirty' if dirty else ''}"


def _git(root: Path, *words: str) -> str | None:
    """The output of a git command in the checkout at ``root``; None if there is no git, or it refuses."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    try:
        done = subprocess.run(
            ["git", "-C", str(root), *words], capture_output=True, text=True, timeout=_SECONDS, env=environment
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip() if done.returncode == 0 else None
