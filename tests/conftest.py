"""Fixtures shared by all tests."""

import os
import tempfile
from pathlib import Path

import pytest

os.environ.setdefault("KERAS_BACKEND", "torch")  # Keras reads it once, at its first import

# Digests of the files of tests stay out of the user's cache, of the processes that tests start too.
os.environ["XDG_CACHE_HOME"] = (_cache := tempfile.TemporaryDirectory(prefix="geoxai-tests-")).name

SHARED = Path(__file__).resolve().parents[2] / "shared"


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real data beside the checkout; tests that need it are skipped where it is absent."""
    if not (SHARED / "data").is_dir():
        pytest.skip(f"needs the real data in {SHARED / 'data'}")
    return SHARED / "data"
