"""The errors that users see: one clear sentence, what to do about it, and an exit code."""


class GeoxaiError(Exception):
    """Something a user can act on.

    Parameters
    ----------
    message
        One sentence that names the file, key or variable, what was found and what was expected.
    fix
        What to do about it.
    option
        Dotted path, relative to the stage, of the option at fault (``"variables.sst"``). The pipeline turns it into
        a place in the config file.
    """

    exit_code = 1

    def __init__(self, message: str, *, fix: str | None = None, option: str | None = None):
        super().__init__(message)
        self.message = message
        self.fix = fix
        self.option = option

    def __str__(self) -> str:
        return f"{self.message}\n  fix: {self.fix}" if self.fix else self.message

    def __reduce__(self) -> tuple:  # keyword-only arguments survive the way back from a worker process
        return _rebuild, (type(self), self.message, self.fix, self.option)


class OptionError(GeoxaiError):
    """An option does not fit the data, the network or another stage (exit code 2)."""

    exit_code = 2


class InputError(GeoxaiError):
    """An input is missing, unreadable or not what its name promises (exit code 3)."""

    exit_code = 3


class DamageError(GeoxaiError):
    """What another stage has stored contradicts itself: its files may be damaged."""


def _rebuild(kind: type[GeoxaiError], message: str, fix: str | None, option: str | None) -> GeoxaiError:
    return kind(message, fix=fix, option=option)
