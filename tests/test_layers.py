"""Imports go downward only, and what must start at once stays light."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[1] / "geoxai"

# Top to bottom. A part may import the parts below it, never one above.
LAYERS = (
    ("cli",),
    ("pipeline",),
    ("config",),
    ("stages",),
    ("explaining",),
    ("explained", "soundness"),
    ("synthetic",),
    ("plotting", "readers", "models", "attribution", "statistics"),
    ("grid", "storage"),
    ("source_code",),
    ("errors", "names", "paths", "revisions", "signals", "version"),
)
# Libraries of one layer stand alone.
DEPTH = {part: depth for depth, parts in enumerate(LAYERS) for part in parts}
HEAVY = {"torch", "xarray", "numpy", "pandas", "dask", "distributed", "matplotlib", "zarr", "netCDF4", "cftime"}


def imported(path: Path, *, top_level_only: bool = False) -> set[str]:
    """Names of the modules that a file imports at run time; type-checking imports do not count."""
    found = set()
    tree = ast.parse(path.read_text())
    nodes: list[ast.AST] = list(tree.body)
    while nodes:
        node = nodes.pop()
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            continue
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
        if not (top_level_only and isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)):
            nodes.extend(ast.iter_child_nodes(node))
    return found


def part_of(module: str) -> str | None:
    pieces = module.split(".")
    return pieces[1] if pieces[0] == "geoxai" and len(pieces) > 1 and pieces[1] in DEPTH else None


FILES = [p for p in sorted(PACKAGE.rglob("*.py")) if len(p.relative_to(PACKAGE).parts) > 1 or p.stem in DEPTH]


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_imports_go_downward(path: Path) -> None:
    own = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
    for module in imported(path):
        other = part_of(module)
        if other is None or other == own:
            continue
        assert DEPTH[other] > DEPTH[own], f"{own} imports {module}, which is not below it"


def test_every_part_has_a_layer() -> None:
    parts = {p.name.removesuffix(".py") for p in PACKAGE.iterdir() if p.suffix == ".py" or (p / "__init__.py").exists()}
    assert parts - {"__init__", "__main__"} == set(DEPTH)


@pytest.mark.parametrize("path", sorted((PACKAGE / "stages").glob("*.py")), ids=lambda p: p.name)
def test_stages_start_light(path: Path) -> None:
    heavy = {module.split(".")[0] for module in imported(path, top_level_only=True)} & HEAVY
    assert not heavy, f"{path.name} imports {heavy} at its top"


def test_import_of_the_package_is_light() -> None:
    code = f"import geoxai, geoxai.stages, sys; print({HEAVY!r} & set(sys.modules))"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "set()"
