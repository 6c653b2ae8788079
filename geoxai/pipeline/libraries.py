"""What the libraries below log while they work: into ``run.log``, not between the lines meant for users."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

_OURS = "geoxai"


@contextmanager
def libraries_heard(handler: logging.Handler) -> Iterator[None]:
    """Send Python's warnings, and what other packages log at warning level or above, to one handler only.

    Handlers that the surrounding program has at the root logger get them as before.
    """
    import torch  # noqa: F401 - gives its loggers handlers of their own when it is imported

    handler.addFilter(_others)
    root = logging.getLogger()
    taken = _console_handlers()
    for logger, console, _ in taken:
        logger.removeHandler(console)
        logger.propagate = True
    root.addHandler(handler)
    logging.captureWarnings(True)
    try:
        yield
    finally:
        logging.captureWarnings(False)
        root.removeHandler(handler)
        for logger, console, propagate in taken:
            logger.addHandler(console)
            logger.propagate = propagate


def _others(record: logging.LogRecord) -> bool:
    return record.name.partition(".")[0] != _OURS and record.levelno >= logging.WARNING


def _console_handlers() -> list[tuple[logging.Logger, logging.Handler, bool]]:
    """The handlers through which libraries write to the console by themselves, and whether their loggers propagate."""
    loggers = [one for one in logging.Logger.manager.loggerDict.values() if isinstance(one, logging.Logger)]
    return [
        (logger, handler, logger.propagate)
        for logger in loggers
        if logger.name.partition(".")[0] != _OURS
        for handler in logger.handlers
        if type(handler) is logging.StreamHandler
    ]
