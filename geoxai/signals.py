"""Signals that end a program, raised as an exception so that everything open is closed on the way out."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

# SIGTERM; SIGHUP of a terminal that is closed; SIGUSR1 of batch systems before a time limit
_ENDING = ("SIGTERM", "SIGHUP", "SIGUSR1")


class Terminated(BaseException):
    """A signal asked the program to end; its text is the name of the signal."""


@contextmanager
def termination_raised(*, last: bool = False) -> Iterator[None]:
    """Raise ``Terminated`` once when a signal asks the program to end; only the main thread of a process can.

    Signals ignored from the start, as under nohup, stay ignored. Further signals do not disturb the shutdown:
    a terminal that is closed sends several. With ``last`` the program ends after this, and they never do.
    """
    names = [getattr(signal, name) for name in _ENDING if hasattr(signal, name)]
    before = {one: signal.getsignal(one) for one in names}
    within = any(isinstance(handler, _Once) for handler in before.values())
    if within or threading.current_thread() is not threading.main_thread():
        yield
        return
    once = _Once()
    taken = [one for one in names if before[one] not in (signal.SIG_IGN, None)]
    for one in taken:
        signal.signal(one, once)
    try:
        yield
    finally:
        for one in taken:
            signal.signal(one, signal.SIG_IGN if last and once.asked else before[one])


class _Once:
    """A handler of signals that raises at the first."""

    asked = False

    def __call__(self, number: int, frame: FrameType | None) -> None:
        if not self.asked:
            self.asked = True
            raise Terminated(signal.Signals(number).name)
