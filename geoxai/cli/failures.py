"""How a command ends when something goes wrong: one clear sentence, an exit code, and no traceback."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, nullcontext

import typer

from geoxai.attribution.lrp.checking import checked_nodes
from geoxai.config import ConfigError, Diagnostic
from geoxai.errors import GeoxaiError
from geoxai.signals import Terminated, termination_raised

FAILED, INTERRUPTED, TERMINATED = 1, 130, 143


@contextmanager
def plainly(debug: bool) -> Iterator[None]:
    """Ends the command with the exit code of whatever is raised inside; with ``debug`` the traceback is shown, and LRP
    checks every operation.
    """
    try:
        with termination_raised(last=True), checked_nodes() if debug else nullcontext():
            yield
    except typer.Exit:
        raise
    except (KeyboardInterrupt, Terminated) as stop:
        interrupted = isinstance(stop, KeyboardInterrupt)
        word = "interrupted" if interrupted else "terminated"
        typer.echo(f"{word}; run the same command again to go on where it stopped", err=True)
        raise typer.Exit(INTERRUPTED if interrupted else TERMINATED) from None
    except Exception as error:
        if debug:
            raise
        _tell(error)
        raise typer.Exit(getattr(error, "exit_code", FAILED)) from None


def show(findings: Iterable[Diagnostic]) -> None:
    """Writes findings to stderr, in colour on a terminal."""
    if sys.stderr is not None and sys.stderr.isatty():
        from rich.console import Console

        console = Console(stderr=True, soft_wrap=True, highlight=False)
        for finding in findings:
            console.print(finding.styled())
    else:
        for finding in findings:
            typer.echo(finding.render(), err=True)


def show_refused() -> None:
    """Warn of stages of other packages that are left out: they stop no command that does not use them."""
    from geoxai.stages import refused

    for error in refused():
        typer.echo(f"warning: {error.message}\n  {error.fix}", err=True)


def _tell(error: Exception) -> None:
    if isinstance(error, ConfigError):
        show(error.diagnostics)
    elif isinstance(error, GeoxaiError):
        typer.echo(f"error: {error.message}" + (f"\n  {error.fix}" if error.fix else ""), err=True)
    elif isinstance(error, MemoryError):
        typer.echo("error: out of memory\n  lower compute.workers or the batch size", err=True)
    elif isinstance(error, OSError) and error.strerror:
        where = f": {error.filename}" if error.filename else ""
        typer.echo(f"error: {error.strerror}{where}", err=True)
    else:
        message = " ".join(str(error).split())
        typer.echo(f"unexpected error: {type(error).__name__}: {message}\n  --debug shows where it came from", err=True)
