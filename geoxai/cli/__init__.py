"""The command line: thin commands over the config and the pipeline. Importing it loads neither torch nor xarray."""

from geoxai.cli.commands import app


def main() -> None:
    """The ``geoxai`` command."""
    app(prog_name="geoxai")


__all__ = ["app", "main"]
