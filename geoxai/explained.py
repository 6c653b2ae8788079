"""The dataset of an explanation: its variables per sample and its attributes."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import numpy as np
import torch
import xarray as xr

from geoxai.attribution import Attribution

_PLAIN = (str, int, float, list, tuple, dict, type(None))  # types that JSON can hold

_QUANTITIES = {
    "gradient": "gradient",
    "gradient_squared": "squared gradient",
    "gradient_x_input": "gradient times input",
}


def quantity(method: str) -> str:
    """What the maps of a method show: relevance, or a gradient, which is not a decomposition."""
    return _QUANTITIES.get(method, "relevance")


def units_of(method: str, output: str, inputs: str) -> str:
    """Units of the maps of a method, empty if unknown: those of the output, for a gradient divided by those of
    the network's input (``K hPa-1``), for a squared gradient the square of that.
    """
    if method not in ("gradient", "gradient_squared") or not output:
        return output
    power = 2 if method == "gradient_squared" else 1
    parts = [_power(unit, sign * power) for unit, sign in ((output, 1), (inputs, -1)) if unit not in ("", "1")]
    return " ".join(parts) or "1"


def _power(unit: str, power: int) -> str:
    if power == 1:
        return unit
    return f"{unit}{power}" if unit.isalpha() else f"({unit}){power}"


ATTRS: dict[str, dict[str, str]] = {
    "relevance": {"long_name": "relevance of the input for the explained value"},
    "target_value": {"long_name": "explained value"},
    "bias_relevance": {"long_name": "relevance that stays with biases and constants of the network"},
    "stabiliser_relevance": {"long_name": "relevance taken by the stabiliser of the epsilon rule"},
    "lost_relevance": {"long_name": "relevance without a receiver, including that on filled cells"},
    "filled_relevance": {"long_name": "relevance on cells that hold no data but a fill value"},
    "absolute_relevance": {"long_name": "sum of the relevance of all inputs without its signs"},
    "confidence": {"long_name": "probability of the predicted class", "units": "1"},
    "nonpositive_target": {"long_name": "explained value is not positive, which the rules presume"},
}


def at_layers(result: Attribution, like: xr.DataArray, several: bool) -> dict[str, tuple[tuple[str, ...], np.ndarray]]:
    """Relevance at layers; their axes have numbers instead of names."""
    lead = ("target", str(like.dims[0])) if several else (str(like.dims[0]),)
    found = {}
    for path, values in result.layers.items():
        name = "relevance_at_" + path.replace(".", "_")
        axes = tuple(f"{name}_axis{axis}" for axis in range(1, values.ndim - len(lead) + 1))
        found[name] = ((*lead, *axes), values.cpu().numpy())
    return found


def per_sample(
    result: Attribution, like: xr.DataArray, several: bool, filled: np.ndarray | None
) -> dict[str, tuple[tuple[str, ...], np.ndarray]]:
    """Prediction, explained value and account, per sample."""
    sample = str(like.dims[0])
    dims: tuple[str, ...] = ("target", sample) if several else (sample,)

    def numbers(tensor: torch.Tensor) -> np.ndarray:
        return tensor.cpu().numpy()

    variables: dict[str, tuple[tuple[str, ...], np.ndarray]] = {"target_value": (dims, numbers(result.target_value))}
    if result.confidence is not None:
        variables["prediction"] = ((sample,), numbers(result.prediction).astype(np.int16))
        variables["confidence"] = ((sample,), numbers(result.confidence))
    elif result.prediction[0].numel() == 1:
        variables["prediction"] = ((sample,), numbers(result.prediction.reshape(-1)))
    else:
        assert result.target_output is not None
        variables["prediction"] = (dims, numbers(result.target_output.to(result.prediction.dtype)))
    lost = None if result.lost is None else numbers(result.lost)
    if result.bias is not None and result.stabiliser is not None:
        variables["bias_relevance"] = (dims, numbers(result.bias))
        variables["stabiliser_relevance"] = (dims, numbers(result.stabiliser))
    if filled is not None:
        variables["filled_relevance"] = (dims, filled)
        lost = None if lost is None else lost + filled
    if lost is not None:
        variables["lost_relevance"] = (dims, lost)
    if lost is not None:
        maps = result.relevance if isinstance(result.relevance, tuple) else (result.relevance,)
        size = sum(m.abs().sum(tuple(range(len(dims), m.ndim)), dtype=torch.float64) for m in maps)
        variables["absolute_relevance"] = (dims, numbers(torch.as_tensor(size)))
    variables["nonpositive_target"] = (dims, numbers(result.nonpositive_target))
    return variables


def described(target: Any) -> str:
    """A target or reference as text."""
    if isinstance(target, Mapping):
        return json.dumps({key: item if isinstance(item, _PLAIN) else described(item) for key, item in target.items()})
    if isinstance(target, np.ndarray | torch.Tensor | xr.DataArray):
        return f"array{tuple(target.shape)}"
    return str(target)


def attributes(
    result: Attribution, method: str, rules: Any, target: Any, dtype: torch.dtype, device: str, options: dict[str, Any]
) -> dict[str, str]:
    """The options that determine the numbers, as text."""
    named = [described(t) for t in target] if isinstance(target, list) else described(target)
    attrs = {
        "Conventions": "CF-1.11",
        "account": result.account,
        "method": method,
        "target": json.dumps(named),
        "options": json.dumps({k: v for k, v in options.items() if k != "window"}, default=str, sort_keys=True),
        "notes": json.dumps(list(result.notes)),
        "dtype": str(dtype).removeprefix("torch."),
        "device": torch.device(device).type,
        "torch": torch.__version__,
    }
    if method == "lrp":
        attrs["rules"] = rules if isinstance(rules, str) else json.dumps(rules, default=str)
        if rules == "auto":
            attrs["rules_chosen"] = result.preset
        attrs["rule_table"] = json.dumps([asdict(row) for row in result.table])
    return attrs
