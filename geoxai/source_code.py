"""The code behind a module: digests of the sources outside site-packages, versions of what is installed inside.

Code that is not geoxai's makes numbers too: an architecture, the stage of another package. Its imports are followed
wherever they stand, those inside functions as well; an editable install counts by its sources. geoxai's own code counts
by its revisions and Python's by its version elsewhere.
"""

from __future__ import annotations

import ast
import hashlib
import importlib
import io
import json
import os
import pickletools
import re
import sys
import sysconfig
import zipfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cache, lru_cache
from importlib.machinery import ModuleSpec
from importlib.metadata import PackageNotFoundError, packages_distributions, version
from importlib.util import resolve_name
from pathlib import Path
from types import ModuleType
from typing import Any
from weakref import WeakKeyDictionary

from geoxai.errors import GeoxaiError

_OURS = Path(__file__).parent
_STDLIB = tuple(Path(sysconfig.get_path(kind)).resolve() for kind in ("stdlib", "platstdlib"))
_INSTALLED = {"site-packages", "dist-packages"}
_BY_NAME = {"import_module", "__import__"}
_BY_SEARCH = {"iter_modules", "walk_packages", "spec_from_file_location", "SourceFileLoader", "run_path", "run_module"}

# The file and digest of each module outside site-packages when it was first seen loaded in this process.
_loaded: WeakKeyDictionary[ModuleType, tuple[str, str]] = WeakKeyDictionary()


@dataclass(frozen=True)
class _Place:
    """Where a module is: its file, whether it is a package; neither for a namespace package."""

    file: Path | None
    package: bool


def code_of(modules: Iterable[str], *, reload: bool = True) -> dict[str, str]:
    """Digests and versions of the code of modules and of all they import, by module or distribution.

    Parameters
    ----------
    modules
        Dotted names, found in the current folder too. Those outside site-packages are imported, as whatever uses them
        will, so that the paths they add are known; those that cannot be found or imported are passed over.
    reload
        Whether a module whose source has changed since this process loaded it is imported anew.

    Returns
    -------
    dict
        ``{"mynet": "source 91b1...", "mynet.blocks": "source 02fe...", "timm": "1.0.9"}``

    Raises
    ------
    GeoxaiError
        A module has no file, or has changed since it was loaded and cannot be loaded again.
    """
    found: dict[str, str] = {}
    with importable_here():
        for name in modules:
            if name in sys.modules and name not in sys.builtin_module_names and _locate(name) is None:
                raise GeoxaiError(f"{name} is not in a file, so nobody can tell when it changes", fix="write it to one")
            sources = _import_current(name) if reload else _checked(_sources([name]))
            found |= {module: f"source {digest}" for module, (_, digest) in sources.items()}
            found |= _versions(_installed_of([name]))
    return dict(sorted(found.items()))


@contextmanager
def importable_here() -> Iterator[None]:
    """The current folder on the path of modules; last, so that it hides nothing installed."""
    here = str(Path.cwd())
    added = here not in sys.path
    if added:
        sys.path.append(here)
    try:
        yield
    finally:
        if added and here in sys.path:
            sys.path.remove(here)


def modules_in_pickle(path: Path) -> tuple[str, ...]:
    """The modules that unpickling a file of torch imports, read without running any of it."""
    try:
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                texts = [archive.read(name) for name in archive.namelist() if name.endswith("/data.pkl")]
        else:
            texts = [path.read_bytes()]
    except (OSError, zipfile.BadZipFile):
        return ()
    named: dict[str, None] = {}
    for stream in map(io.BytesIO, texts):
        with suppress(ValueError):  # what follows is not a pickle but weights; older files are several pickles in a row
            while True:
                for opcode, argument, _ in pickletools.genops(stream):
                    if opcode.name == "GLOBAL":
                        named[str(argument).split(" ")[0]] = None
                    elif "UNICODE" in opcode.name and re.fullmatch(r"[A-Za-z_]\w*(\.\w+)*", str(argument)):
                        named[str(argument)] = None  # newer pickles name modules by texts like any other
    return tuple(named)


def modules_in_keras(path: Path) -> tuple[str, ...]:
    """The modules of custom layers that a ``.keras`` file names."""
    try:
        with zipfile.ZipFile(path) as archive:
            config = json.loads(archive.read("config.json"))
    except (OSError, KeyError, ValueError, RecursionError, zipfile.BadZipFile):
        return ()
    return modules_in_config(config)


def modules_in_config(config: Any) -> tuple[str, ...]:
    """The modules of custom layers that the configuration of a Keras network names."""
    modules = (item.get("module") for item in mappings(config))
    named = {module for module in modules if isinstance(module, str) and module}
    return tuple(sorted(one for one in named if one.partition(".")[0] not in ("keras", "builtins")))


def mappings(config: Any) -> Iterator[dict[str, Any]]:
    """Every mapping in nested plain data."""
    todo = [config]
    while todo:
        item = todo.pop()
        if isinstance(item, dict):
            yield item
            todo += item.values()
        elif isinstance(item, list):
            todo += item


def _import_current(name: str) -> dict[str, tuple[str, str]]:
    """Import a module unless it is installed, anew where its source has changed; the sources it then has."""
    place = _locate(name)
    if place is None or (place.file is not None and not _is_outside(name, place.file)):
        return {}
    sources = _sources([name])
    stale = _stale(sources)
    before = {module: sys.modules.pop(module) for module in sources if stale and module in sys.modules}
    try:
        importlib.import_module(name)
    except Exception as error:  # whatever the user's code raises; whoever loads it next says so
        if before:
            sys.modules.update(before)
            raise _changed(stale) from error
        return sources
    return _noted(_sources([name]))


def _checked(sources: dict[str, tuple[str, str]]) -> dict[str, tuple[str, str]]:
    """Sources of what is loaded, which must be those it was loaded from."""
    if stale := _stale(sources):
        raise _changed(stale)
    return _noted(sources)


def _stale(sources: dict[str, tuple[str, str]]) -> list[str]:
    """The modules that were loaded from another source than they have now."""
    loaded = {name: sys.modules[name] for name in sources if name in sys.modules}
    return [name for name, module in loaded.items() if _loaded.get(module, sources[name]) != sources[name]]


def _noted(sources: dict[str, tuple[str, str]]) -> dict[str, tuple[str, str]]:
    for name, source in sources.items():
        if isinstance(module := sys.modules.get(name), ModuleType):
            _loaded.setdefault(module, source)
    return sources


def _changed(modules: list[str]) -> GeoxaiError:
    return GeoxaiError(
        f"the source of {', '.join(modules)} has changed since this process loaded it", fix="start Python again"
    )


def _sources(modules: Iterable[str]) -> dict[str, tuple[str, str]]:
    """File and digest of every module outside site-packages that modules are or import."""
    return {name: (str(file), _digest(file)) for name, file in _graph(modules) if _is_outside(name, file)}


def _installed_of(modules: Iterable[str]) -> set[str]:
    """Top-level names of what modules are or import inside site-packages."""
    return {name.partition(".")[0] for name, file in _graph(modules) if not _is_outside(name, file)}


def _graph(modules: Iterable[str]) -> list[tuple[str, Path]]:
    """Modules and all they import, with their files; Python's and geoxai's left out, what is installed not followed."""
    importlib.invalidate_caches()
    found, seen, todo = [], set(), list(modules)
    while todo:
        name = todo.pop()
        if not name or name in seen:
            continue
        seen.add(name)
        todo.append(name.rpartition(".")[0])  # importing a module imports the packages it is in
        place = _locate(name)
        if place is None or place.file is None or _is_python_or_ours(place.file):
            continue
        found.append((name, place.file))
        if place.file.suffix == ".py" and _is_outside(name, place.file):
            package = name if place.package else name.rpartition(".")[0]
            named, searched = _imports(place.file, _stamp(place.file), package)
            todo += named
            if searched:
                todo += _beside(place.file, package)
    return found


@lru_cache(maxsize=4096)
def _imports(file: Path, stamp: tuple[int, ...], package: str) -> tuple[tuple[str, ...], bool]:
    """Names that a file may import, wherever in it, and whether it also imports by names that it computes."""
    try:
        tree = ast.parse(file.read_bytes())
    except (SyntaxError, ValueError, OSError):
        return (), False
    named: list[str] = []
    searched = False
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            named += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = _resolved("." * node.level + (node.module or ""), package)
            named += [base, *(f"{base}.{alias.name}" for alias in node.names)]  # a name, or a module of the package
        elif isinstance(node, ast.Call):
            called = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            first = node.args[0] if node.args else None
            if called in _BY_NAME and isinstance(first, ast.Constant) and isinstance(first.value, str):
                named.append(_resolved(first.value, package))
            searched |= called in _BY_SEARCH or (called in _BY_NAME and not isinstance(first, ast.Constant))
    return tuple(dict.fromkeys(named)), searched


def _resolved(name: str, package: str) -> str:
    with suppress(ImportError):
        return resolve_name(name, package or None)
    return ""


def _beside(file: Path, package: str) -> list[str]:
    """The modules that a file may find by a search: those of its package, or beside it where it is in none."""
    inside = file.parent.rglob("*.py") if package else file.parent.glob("*.py")
    names = (path.relative_to(file.parent).with_suffix("").parts for path in inside)
    return [".".join([*([package] if package else []), *parts]).removesuffix(".__init__") for parts in names]


def _locate(name: str) -> _Place | None:
    """Where a module is, without importing anything; None where nobody finds it or it is built in."""
    if (loaded := sys.modules.get(name)) is not None:
        file = getattr(loaded, "__file__", None)
        if file and os.path.exists(file):
            return _Place(Path(file), hasattr(loaded, "__path__"))
    spec: ModuleSpec | None = None
    path: Iterable[str] | None = None
    parts = name.split(".")
    for end in range(1, len(parts) + 1):
        if end > 1 and path is None:
            return None
        spec = _spec(".".join(parts[:end]), path)
        if spec is None:
            return None
        path = spec.submodule_search_locations
    if spec is None or spec.origin in ("built-in", "frozen"):
        return None
    file = Path(spec.origin) if spec.origin and spec.has_location else None
    return _Place(file if file is None or file.exists() else None, path is not None)


def _spec(name: str, path: Iterable[str] | None) -> ModuleSpec | None:
    for finder in sys.meta_path:
        if hasattr(finder, "find_spec"):
            with suppress(Exception):  # finders of other packages raise what they like
                if (spec := finder.find_spec(name, list(path) if path is not None else None)) is not None:
                    return spec
    return None


def _is_python_or_ours(file: Path) -> bool:
    if file.is_relative_to(_OURS):
        return True
    resolved = file.resolve()
    return any(resolved.is_relative_to(folder) for folder in _STDLIB) and not _INSTALLED & set(resolved.parts)


def _is_outside(name: str, file: Path) -> bool:
    """Whether a module counts by its source: it is not in site-packages, or there by nobody's installation."""
    return not _INSTALLED & set(file.parts) or name.partition(".")[0] not in _distributions()


@cache
def _distributions() -> dict[str, list[str]]:
    return {name: sorted(set(found)) for name, found in packages_distributions().items()}


def _versions(names: Iterable[str]) -> dict[str, str]:
    """Versions of the distributions that top-level names belong to."""
    found = {}
    for distribution in {one for name in names for one in _distributions().get(name, ())}:
        with suppress(PackageNotFoundError):
            found[distribution] = version(distribution)
    return found


def _stamp(file: Path) -> tuple[int, ...]:
    stat = file.stat()
    return stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns, stat.st_ino


def _digest(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()[:16]
