"""What ``attribute`` refuses, with an explanation, before it computes anything."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import fields
from inspect import Parameter, signature
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from geoxai.attribution import gradients
from geoxai.attribution.lrp import RULES
from geoxai.attribution.networks import is_keras
from geoxai.errors import GeoxaiError, InputError, OptionError
from geoxai.names import unknown

METHODS = ("lrp", *gradients.TRANSFORMS)
STARTS = ("logit", "output")
WINDOWS = ("auto", "never")


def check_options(method: str, start: str, batch_size: int | None) -> None:
    """Refuse an unknown method or start, and an invalid batch size."""
    for option, value, known in (("method", method, METHODS), ("start", start, STARTS)):
        if value not in known:
            raise OptionError(unknown(option, str(value), known), option=option)
    whole = isinstance(batch_size, int) and not isinstance(batch_size, bool)
    if batch_size is not None and (not whole or batch_size < 1):
        raise OptionError(f"batch_size must be a positive integer, found {batch_size!r}", option="batch_size")


def check_names(options: Iterable[str], *functions: Callable) -> None:
    """Refuse an option that neither the functions nor any rule have, suggesting the closest one."""
    rules = {field.name for rule in RULES.values() for field in fields(rule)} | {"norm"}
    named = {
        name
        for function in functions
        for name, parameter in signature(function).parameters.items()
        if parameter.kind not in (Parameter.VAR_KEYWORD, Parameter.VAR_POSITIONAL)
    }
    for option in options:
        if option not in rules | named:
            raise OptionError(unknown("option", option, rules | named), option=option)


def check_output(output: Any) -> None:
    """Refuse a list in place of the tuple of keys and indices that names an output."""
    if isinstance(output, list):
        raise OptionError(
            f"output is the list {output!r}, expected an index, a key, or a tuple of these",
            fix=f"output={tuple(output)!r}",
            option="output",
        )


def check_depth(method: str, window: str, layers: Any, flat_below: Any) -> None:
    """Refuse an unknown window, layers that are not module paths, and layers for methods other than lrp."""
    if window not in WINDOWS:
        raise OptionError(unknown("window", str(window), WINDOWS), option="window")
    if isinstance(layers, str) or not all(isinstance(path, str) for path in layers):
        raise OptionError(f"layers must be a list of module paths, found {layers!r}", option="layers")
    for option, given in (("layers", layers), ("flat_below", flat_below)):
        if given and method != "lrp":
            raise OptionError(f"{option} is for method lrp, not {method!r}", option=option)


def check_inputs(x: Any) -> tuple[Tensor, ...]:
    """The inputs as tensors: floats, samples first, equally many in each."""
    given = x if isinstance(x, tuple) else (x,)
    for one in given:
        if not isinstance(one, Tensor | np.ndarray):
            raise InputError(
                f"the input is a {type(one).__name__}, expected a tensor or an array with samples first",
                fix="give several inputs as a tuple, (a, b)" if isinstance(one, list) else None,
            )
    if not given:
        raise InputError("the input is an empty tuple, expected a tensor for each input of the network")
    inputs = tuple(map(torch.as_tensor, given))
    for tensor in inputs:
        if not tensor.is_floating_point():
            raise InputError(
                f"the input has dtype {tensor.dtype}, expected floats", fix="convert it, for instance with x.float()"
            )
        if tensor.ndim < 2 or len(tensor) == 0:
            raise InputError(
                f"the input has shape {tuple(tensor.shape)}, expected (samples, ...) with at least one sample"
            )
        if len(tensor) != len(inputs[0]):
            raise InputError(f"the inputs have {len(inputs[0])} and {len(tensor)} samples")
    return tuple(tensor.clone() if tensor.is_inference() else tensor.detach() for tensor in inputs)


def check_finite(inputs: Sequence[Tensor]) -> tuple[float, ...]:
    """Refuse NaN and infinite values. Returns the Euclidean norm of each input, found on the way."""
    norms = []
    for tensor in inputs:
        norm = float(torch.linalg.vector_norm(tensor))
        bad = 0 if math.isfinite(norm) else int((~torch.isfinite(tensor)).sum())
        if bad:
            raise InputError(
                f"{bad} of {tensor.numel()} input values are NaN or infinite",
                fix="fill missing values before explaining and pass valid= so that relevance on them is masked",
            )
        norms.append(norm)
    return tuple(norms)


def check_model(model: Any) -> None:
    """Refuse what cannot be followed: TorchScript, a network in training mode, anything that cannot be called."""
    scripted = (torch.jit.ScriptModule, torch.jit.ScriptFunction)
    if isinstance(model, scripted) or (
        isinstance(model, torch.nn.Module) and any(isinstance(m, torch.jit.ScriptModule) for m in model.modules())
    ):
        raise OptionError(
            "TorchScript hides its operations and cannot be explained",
            fix="export the original module with torch.export.export(model, (example,)) and explain program.module()",
        )
    if isinstance(model, type):
        raise OptionError(
            f"the network is the class {model.__name__}", fix=f"create an instance: {model.__name__}(...)"
        )
    if not callable(model):
        raise OptionError(
            f"the network is a {type(model).__name__}, which cannot be called",
            fix="geoxai.models.load.load_network(path).module loads one from a file"
            if isinstance(model, str | Path)
            else "give a torch module, an exported program, a Keras model or a function of tensors",
        )
    if is_keras(model) or not isinstance(model, torch.nn.Module) or isinstance(model, torch.fx.GraphModule):
        return  # exported modules have no training mode; their operations say whether they train
    training = [name or type(model).__name__ for name, module in model.named_modules() if module.training]
    if training:
        raise OptionError(
            f"the network is in training mode (first at {training[0]})", fix="call model.eval() before explaining"
        )


def check_precision(method: str, precision: str) -> None:
    """Raise OptionError unless products may be computed in this precision."""
    if precision not in ("full", "bfloat16"):
        raise OptionError(unknown("precision", precision, ["full", "bfloat16"]), option="precision")
    if precision != "full" and method != "lrp":
        raise OptionError(f"precision {precision!r} is for method lrp, found {method!r}", option="precision")


def check_values(values: Tensor, relevance: Sequence[Tensor]) -> None:
    """Raise an error if a finite input gave values or relevance that are not finite."""
    bad = int((~torch.isfinite(values)).sum())
    if bad:
        raise GeoxaiError(
            f"{bad} of {values.numel()} explained values are NaN or infinite although the input is not",
            fix="look for divisions by 0, roots and logarithms of negative numbers, or weights that are NaN, in the"
            " network",
        )
    if not all(bool(torch.isfinite(r.sum())) for r in relevance):
        raise GeoxaiError(
            "the explained values are finite, but their relevance is not: values in the network are infinite, or the"
            " rules let relevance grow beyond the range of the numbers",
            fix="replace infinite constants, such as in masks, by large ones (-1e9), or use rules gamma, under which"
            " relevance grows less",
        )


def check_labels(labels: Any, samples: int) -> Tensor | None:
    """One class index per sample, or None."""
    if labels is None:
        return None
    array = torch.as_tensor(np.asarray(labels)).long()
    if array.shape != (samples,):
        raise OptionError(f"labels have shape {tuple(array.shape)}, expected ({samples},)", option="labels")
    return array
