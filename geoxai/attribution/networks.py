"""A network as users have it, a module, an exported program, a Keras model or a function, and how it is called."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from geoxai.errors import GeoxaiError, OptionError

_FAULTS = (RuntimeError, ValueError, TypeError, IndexError, AssertionError, ZeroDivisionError)


def as_callable(model: Any) -> Any:
    """The module of an exported program as ``torch.export.load`` gives it; everything else as it is."""
    if not isinstance(model, torch.export.ExportedProgram):
        return model
    module = model.module()
    for parameter in module.parameters():
        parameter.requires_grad_(False)
    return module


def is_keras(model: Any) -> bool:
    """Whether a network is a Keras layer or model, which ignores torch's training flag."""
    keras = sys.modules.get("keras")
    return keras is not None and isinstance(model, keras.layers.Layer)


def call(model: Callable, inputs: Sequence[Tensor]) -> Any:
    """The output of a network; a Keras network is called as Keras expects, and never in training mode.

    Networks loaded by ``geoxai.models`` take care of that and take one argument for each input, as modules do.
    """
    if is_keras(model) and not getattr(model, "takes_arguments", False):
        return model(inputs[0] if len(inputs) == 1 else list(inputs), training=False)
    return model(*inputs)


@contextmanager
def blamed(model: Callable, inputs: Sequence[Tensor], axis: int = 0) -> Iterator[None]:
    """Explain an error that the network itself raises for these inputs; our own errors are unchanged.

    The network is run by itself: if that fails too, the error is the network's.
    """
    try:
        yield
    except GeoxaiError:
        raise
    except torch.OutOfMemoryError:
        raise
    except _FAULTS as error:
        taken = [torch.movedim(x.clone(), 0, axis) for x in inputs]  # which networks may change in place
        try:
            with torch.no_grad():
                call(model, taken)
        except _FAULTS as own:
            if "allocate memory" in str(own):
                raise error from None
            shapes = " and ".join(str(tuple(x.shape)) for x in inputs)
            lines = [line for line in str(own).splitlines() if line.strip()] or [type(own).__name__]
            raise OptionError(
                f"the network does not take {'an input' if len(inputs) == 1 else 'inputs'} of shape {shapes} "
                f"(samples first): {lines[0]}",
                fix="give samples, channels and cells in the order and number that the network was made for"
                + ("" if len(inputs) > 1 else "; a network of several inputs takes a tuple of them"),
                option="inputs",
            ) from own
        raise error
