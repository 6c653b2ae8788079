"""The names of a network's arguments, and whether the inputs of the samples come in that order."""

from __future__ import annotations

import inspect
from collections.abc import Sequence

from torch import nn

from geoxai.errors import OptionError


def arguments_of(module: nn.Module) -> tuple[str, ...]:
    """The names of the positional arguments of a module's ``forward``, without what it takes as ``*args``."""
    named = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    parameters = inspect.signature(module.forward).parameters.values()
    return tuple(parameter.name for parameter in parameters if parameter.kind in named)


def pairing(inputs: Sequence[str], arguments: Sequence[str]) -> tuple[str, ...]:
    """A note on which input the network takes as which argument; none if the names agree or are not known.

    Raises
    ------
    OptionError
        An input has the name of another argument than the one it is given as.
    """
    if len(inputs) < 2 or len(arguments) < len(inputs):
        return ()
    arguments = arguments[: len(inputs)]
    pairs = list(zip(inputs, arguments))
    for name, argument in pairs:
        if name != argument and name in arguments:
            raise OptionError(
                f"the network's arguments are {', '.join(arguments)} in this order, the inputs of the samples are "
                f"{', '.join(inputs)}: {name} would be taken as {argument}",
                fix=f"{_remedy(inputs, arguments)} in the samples stage",
                option="from",
            )
    if list(inputs) == list(arguments):
        return ()
    matched = (f"{name} -> argument {number} {argument}" for number, (name, argument) in enumerate(pairs, 1))
    return (f"inputs by their order: {', '.join(matched)}",)


def _remedy(inputs: Sequence[str], arguments: Sequence[str]) -> str:
    if set(inputs) == set(arguments):
        return f"name them in this order: inputs: {{{', '.join(f'{name}: ...' for name in arguments)}}}"
    return "under inputs, name the inputs in the order of the arguments, or give them names that no argument has"
