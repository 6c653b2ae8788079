"""The commands. Each loads a config, calls one function of the layer below, and shows what it returns."""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

import geoxai
from geoxai.cli.failures import plainly, show, show_refused
from geoxai.errors import OptionError
from geoxai.names import unknown

if TYPE_CHECKING:
    from geoxai.config import Config

app = typer.Typer(
    name="geoxai",
    help="Explain networks on gridded geoscience data: from NetCDF and a trained network to relevance maps.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

ConfigFile = Annotated[str, typer.Argument(metavar="CONFIG", help="The YAML file of the experiment.")]
Set = Annotated[
    list[str] | None,
    typer.Option(
        "--set", metavar="KEY=VALUE", help="Replace one value, for example stages.network.epochs=50. Repeatable."
    ),
]
Debug = Annotated[bool, typer.Option("--debug", help="Show the traceback of an error; check each step of LRP.")]


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"geoxai {geoxai.__version__}")
        raise typer.Exit


@app.callback()
def _geoxai(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    pass


@app.command()
def run(
    config: ConfigFile,
    set_: Set = None,
    only: Annotated[
        list[str] | None, typer.Option("--only", metavar="STAGE", help="Run this stage and what it needs. Repeatable.")
    ] = None,
    force: Annotated[
        list[str] | None,
        typer.Option("--force", metavar="STAGE", help="Compute this stage again although it is done. Repeatable."),
    ] = None,
    debug: Debug = False,
) -> None:
    """Run an experiment; the same command again goes on where it stopped.

    Exit codes: 0 done, 1 failed, 2 bad config, 3 input missing or unreadable, 4 partial (run again), 130 and 143
    interrupted.
    """
    with plainly(debug):
        loaded = _load(config, set_)
        from geoxai import pipeline

        result = pipeline.run(loaded, only=tuple(only or ()), force=tuple(force or ()), debug=debug)
        if result.message:
            with suppress(OSError):  # what matters is in the run folder
                typer.echo(result.message, err=result.exit_code != 0)
        raise typer.Exit(result.exit_code)


@app.command()
def check(config: ConfigFile, set_: Set = None, debug: Debug = False) -> None:
    """Check a config: YAML, options, references, files. Reads no data and reports all mistakes at once."""
    with plainly(debug):
        loaded = _load(config, set_)
        typer.echo(f"{config}: fine, {len(loaded.stages)} stages: {', '.join(loaded.stages)}")


@app.command()
def plan(config: ConfigFile, set_: Set = None, debug: Debug = False) -> None:
    """Show what a run would do: order, shapes, memory, units done and to do, and why."""
    with plainly(debug):
        loaded = _load(config, set_)
        from geoxai import pipeline

        typer.echo(pipeline.plan(loaded).render())


@app.command()
def verify(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="The folder of a run, output.dir of its config.")],
    debug: Debug = False,
) -> None:
    """Compare every file that a run has stored with what was written, and re-check the accounts of its relevance.

    Changes nothing. Exit codes: 0 all is as written, 1 something is damaged, 3 RUN is not the folder of a run.
    """
    with plainly(debug):
        from geoxai import pipeline

        found = pipeline.verify(run)
        typer.echo(found.render())
        raise typer.Exit(1 if found.problems else 0)


@app.command()
def rules(config: ConfigFile, set_: Set = None, debug: Debug = False) -> None:
    """Show, operation by operation, which relevance rule explains the network of a config, for every stage.

    Exit codes: 0 done, 2 a stage has no table because something in the config is wrong.
    """
    with plainly(debug):
        loaded = _load(config, set_)
        from geoxai import pipeline

        tables = pipeline.rules(loaded)
        if tables.text:
            typer.echo(tables.text)
        if tables.error is not None:
            raise tables.error


@app.command()
def schema(
    output: Annotated[Path | None, typer.Option("--output", "-o", help="Write it to a file.")] = None,
    debug: Debug = False,
) -> None:
    """Print the JSON Schema of a config, which editors use to complete and check it."""
    with plainly(debug):
        from geoxai.config import json_schema

        show_refused()
        text = json.dumps(json_schema(), indent=1)
        if output is None:
            typer.echo(text)
        else:
            output.write_text(text + "\n", encoding="utf-8")


@app.command()
def init(
    name: Annotated[str, typer.Argument(help="Name of the experiment and of its file.")] = "enso",
    template: Annotated[str, typer.Option("--template", help="Which starter to write.")] = "enso",
    force: Annotated[bool, typer.Option("--force", help="Overwrite an existing file.")] = False,
    debug: Debug = False,
) -> None:
    """Write a commented config to start from, the schema that editors complete it with, and synthetic data for it.

    Existing files are left as they are.
    """
    with plainly(debug):
        from geoxai.cli.starter import write_starter

        written = write_starter(name, template, force=force)
        typer.echo(f"wrote {', '.join(map(str, written))}")
        typer.echo(f"  next: geoxai check {written[0]}; geoxai run {written[0]}")


@app.command()
def stages(
    name: Annotated[str | None, typer.Argument(help="A stage, to see its options.")] = None,
    debug: Debug = False,
) -> None:
    """List the stages, or show what one does, its options and an example that runs."""
    with plainly(debug):
        from geoxai.cli.listing import manual, overview
        from geoxai.stages import registry

        show_refused()
        known = registry()
        if name is None:
            typer.echo(overview(known))
        elif name in known:
            typer.echo(manual(name, known))
        else:
            raise OptionError(unknown("stage", name, known))


def _load(path: str, overrides: list[str] | None) -> Config:
    """The config, its warnings shown."""
    from geoxai.config import load

    show_refused()
    config = load(path, overrides or ())
    show(config.warnings)
    return config
