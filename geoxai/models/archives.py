"""Zip archives of networks: whether they are whole, and whether loading one would run code that is in it."""

from __future__ import annotations

import ast
import io
import json
import re
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from geoxai.errors import InputError

# Where torch.export keeps what it unpickles or runs: prefixes of members below the archive's root folder.
_OBJECTS = {"custom_obj_": "a script object", "opaque_obj_": "a pickled object"}
_COMPILED = "data/aotinductor/"
_WORD = re.compile(r"[A-Za-z]\w*|[-+]?[0-9.]+(e[-+]?[0-9]+)?")  # a symbol or a number
_TREES = ("__enum__", "default_factory_module")  # keys by which a description of arguments imports modules
# Functions of symbolic shapes that do not start with a capital letter.
_FUNCTIONS = ("floor", "ceiling", "sqrt", "log", "exp", "sin", "cos", "tan", "Abs")


def check_whole(path: Path) -> None:
    """Raise InputError if a zip archive is damaged: torch and Keras load such a file and give other numbers.

    Every member is read and compared with its checksum. Files that are not zip archives have none.
    """
    if not zipfile.is_zipfile(path):
        with path.open("rb") as handle:
            if handle.read(4) == b"PK\x03\x04":
                raise InputError(f"{path} is a zip archive cut short or damaged", fix="copy or save it again")
        return
    try:
        with zipfile.ZipFile(path) as archive:
            names, begin = archive.namelist(), min((info.header_offset for info in archive.infolist()), default=0)
            damaged = archive.testzip()
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError, EOFError, OSError, ValueError) as error:
        raise InputError(f"{path} is a damaged zip archive: {error}", fix="copy or save it again") from error
    except Exception as error:  # the decompressors raise errors of their own types
        raise InputError(f"{path} cannot be unpacked: {error}", fix="copy or save it again") from error
    if begin != 0:  # this is the directory of an archive inside this one, whose own directory is gone
        raise InputError(f"{path} is a zip archive cut short or damaged", fix="copy or save it again")
    if damaged is not None:
        raise InputError(f"{path} is damaged: the checksum of {damaged} does not match", fix="copy or save it again")
    if len(set(names)) < len(names):
        raise InputError(f"{path} holds two members of the same name, which no version of torch or Keras writes")


def code_in_program(path: Path) -> str | None:
    """What loading a ``torch.export`` program would run, in words; None if it holds only numbers and a graph.

    ``torch.export.load`` unpickles the example inputs, weights and constants marked ``use_pickle`` and custom objects,
    loads compiled libraries, evaluates the text of symbolic sizes, and imports modules that arguments name. Example
    inputs of plain tensors, which every program has, are safe: torch reads them as weights only.
    """
    with zipfile.ZipFile(path) as archive:
        members = {_inside(name): name for name in archive.namelist()}
        for name in members:
            last = name.rsplit("/", 1)[-1]
            for prefix, what in _OBJECTS.items():
                if last.startswith(prefix):
                    return f"{what} ({name})"
            if name.startswith(_COMPILED) or last.endswith((".so", ".dll", ".dylib", ".pyd")):
                return f"compiled code ({name})"
        for name, member in members.items():
            if name.startswith(("archive_", ".data/", "byteorder")):
                continue
            if name.endswith(".json") or "models/" in name:
                if (found := _code_in_json(json.loads(archive.read(member)), name)) is not None:
                    return found
            elif name.endswith((".pt", ".pkl", ".pickle")) and not _plain(archive.read(member)):
                return f"a pickle that is more than tensors ({name})"
    return None


def _inside(name: str) -> str:
    """A member's name without the archive's root folder; programs of older versions have none."""
    first, _, rest = name.partition("/")
    return rest if rest and first not in ("data", "models", "extra", "extra_files") else name


def _plain(content: bytes) -> bool:
    """Whether a torch file holds nothing but tensors and plain Python values."""
    if not content:
        return True
    try:
        torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except Exception:  # whatever torch meets in the file
        return False
    return True


def _code_in_json(value: Any, name: str) -> str | None:
    for key, item in _entries(value):
        if key == "use_pickle" and item:
            return f"a pickle in place of a tensor ({name})"
        if key == "path_name":
            for prefix, what in _OBJECTS.items():
                if str(item).startswith(prefix):
                    return f"{what} ({name})"
        if key == "expr_str" and not _is_arithmetic(item):
            return f"text that would be evaluated as Python ({name}: {str(item)[:60]!r})"
        if key in ("in_spec", "out_spec") and any(word in str(item) for word in _TREES):
            return f"arguments that import a module ({name})"
        if key == "range_constraints" and isinstance(item, dict) and not all(map(_is_arithmetic, item)):
            return f"text that would be evaluated as Python ({name})"
    return None


def _entries(value: Any) -> Iterator[tuple[str, Any]]:
    """Every key and value of nested plain data."""
    waiting = [value]
    while waiting:
        here = waiting.pop()
        if isinstance(here, dict):
            yield from here.items()
            waiting += here.values()
        elif isinstance(here, list):
            waiting += here


def _is_arithmetic(text: Any) -> bool:
    """Whether the text of a symbolic size is an expression of names, numbers and functions of these.

    Functions of sympy and torch start with a capital letter, those of Python do not. Text is a name.
    """
    try:
        tree = ast.parse(str(text).strip(), mode="eval").body
        return all(map(_harmless, ast.walk(tree)))
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False


def _harmless(node: ast.AST) -> bool:
    if isinstance(node, ast.Call):
        function = node.func.id if isinstance(node.func, ast.Name) else ""
        return function[:1].isupper() or function in _FUNCTIONS
    if isinstance(node, ast.keyword):  # Symbol('s0', positive=True, integer=True)
        return isinstance(node.value, ast.Constant) and isinstance(node.value.value, int)
    if isinstance(node, ast.Constant):
        return isinstance(node.value, int | float) or _WORD.fullmatch(str(node.value)) is not None
    if isinstance(node, ast.Name):
        return "__" not in node.id
    wanted = (ast.BinOp, ast.UnaryOp, ast.BoolOp, ast.Compare, ast.Tuple, ast.Load)
    return isinstance(node, (*wanted, ast.operator, ast.unaryop, ast.boolop, ast.cmpop))
