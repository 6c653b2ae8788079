"""The command line: thin commands over the config and the pipeline. Importing it loads neither torch nor xarray."""

import atexit
import os
import sys

from geoxai.cli.commands import app
from geoxai.cli.streams import steady_streams


def main() -> None:
    """The ``geoxai`` command."""
    atexit.register(_end)  # before the imports whose own ends must come first
    sys.path.append(os.getcwd())  # last; a network may import what is beside it when it is first called
    steady_streams()
    app(prog_name="geoxai")


def _end() -> None:
    """Leave no process behind, where one that starts others was imported at all."""
    if "geoxai.pipeline.cluster" in sys.modules:
        from geoxai.pipeline.cluster import end_resource_tracker

        end_resource_tracker()


__all__ = ["app", "main"]
