"""The version comes from the repository, and is in everything a run writes."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import xarray as xr

import geoxai
from geoxai import version as module
from geoxai.pipeline import plan, run
from geoxai.pipeline.ledger import Ledger


def git(folder: Path, *words: str) -> str:
    who = {"GIT_AUTHOR_NAME": "a", "GIT_AUTHOR_EMAIL": "a@b", "GIT_COMMITTER_NAME": "a", "GIT_COMMITTER_EMAIL": "a@b"}
    return subprocess.run(
        ["git", "-C", str(folder), *words], check=True, capture_output=True, text=True, env={**os.environ, **who}
    ).stdout.strip()


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A repository that holds nothing of geoxai but its version."""
    if shutil.which("git") is None:
        pytest.skip("needs git")
    (tmp_path / "geoxai").mkdir()
    (tmp_path / "pyproject.toml").write_text("")
    (tmp_path / "geoxai" / "__init__.py").write_text("")
    shutil.copy(module.__file__, tmp_path / "geoxai" / "version.py")
    git(tmp_path, "init", "-q")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-qm", "first")
    return tmp_path


def told(folder: Path, **environment: str) -> str:
    code = "from geoxai.version import version; print(version())"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=folder, check=True, capture_output=True, text=True,
        env={**os.environ, "PYTHONPATH": str(folder), **environment},
    )  # fmt: skip
    return done.stdout.strip()


def test_of_a_checkout(checkout: Path) -> None:
    commit = git(checkout, "rev-parse", "--short", "HEAD")
    assert told(checkout) == f"0.1.dev1+g{commit}"
    git(checkout, "tag", "other")
    assert told(checkout) == f"0.1.dev1+g{commit}"
    git(checkout, "tag", "v1.2.0")
    assert told(checkout) == "1.2.0"
    (checkout / "geoxai" / "__init__.py").write_text("changed = 1\n")
    assert told(checkout) == f"1.2.1.dev0+g{commit}.dirty"
    git(checkout, "commit", "-qam", "second")
    commit = git(checkout, "rev-parse", "--short", "HEAD")
    assert told(checkout) == f"1.2.1.dev1+g{commit}"
    assert told(checkout, GIT_DIR="/nowhere") == f"1.2.1.dev1+g{commit}"


def test_without_git_or_a_checkout_it_is_that_of_the_installation(checkout: Path, tmp_path_factory) -> None:
    installed = told(checkout, PATH="/nowhere")
    shutil.rmtree(checkout / ".git")
    assert told(checkout) == installed
    assert installed == "0+unknown" or installed[0].isdigit()


def test_it_is_in_what_a_run_writes_and_plan_names_another(fake, monkeypatch) -> None:
    assert run(fake()).exit_code == 0
    assert geoxai.__version__ == module.version()
    assert json.loads((fake.run / "run.json").read_text())["versions"]["geoxai"] == geoxai.__version__
    for store in ("square", "mean", "numbers.fit"):
        assert xr.open_zarr(fake.run / f"{store}.zarr").attrs["geoxai_version"] == geoxai.__version__
    assert "made by" not in plan(geoxai.config.load(fake())).render()
    for stage in ("square", "numbers.fit"):
        path = Ledger(fake.run, stage).folder / "stage.json"
        path.write_text(path.read_text().replace(geoxai.__version__, "0.0.1"))
    rows = {line.split()[0]: line for line in plan(geoxai.config.load(fake())).render().splitlines()[1:]}
    assert rows["square"].endswith("done, made by geoxai 0.0.1")
    assert rows["numbers"].endswith("fit is stored, made by geoxai 0.0.1")
    assert rows["mean"].endswith("done")
    assert run(fake()).exit_code == 0
    assert fake.computed == []  # another version alone recomputes nothing
