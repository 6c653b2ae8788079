"""Captions of figures: what a map shows, how it was made and from which cases, in sentences from its store."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import xarray as xr

from geoxai.grid.places import target_words, words
from geoxai.plotting.titles import field_label

_METHODS = {
    "lrp": "layer-wise relevance propagation",
    "gradient": "gradient of the output with respect to the inputs",
    "gradient_squared": "squared gradient of the output with respect to the inputs",
    "gradient_x_input": "gradient times input",
}
_SCORES = {
    "contrast": "its logit minus that of the runner-up",
    "logit": "its logit",
    "one": "shared out as 1",
}
_SHARED = {"contrast": "a difference of logits", "logit": "a logit", "one": "1"}


def caption(field: xr.DataArray, attrs: Mapping[str, Any], networks: str, notes: Sequence[str]) -> str:
    """The caption of a figure.

    Parameters
    ----------
    field
        What is drawn, before panels are selected.
    attrs
        Attributes of its store: method, rules, target, score, reference and subset of explanations and composites,
        where of composites.
    networks
        How many networks it is from, in words; empty for one.
    notes
        What the figure says about its panels, contours and colours.

    Examples
    --------
    >>> field = xr.DataArray(0.0, name="sst", attrs={"long_name": "sea surface temperature", "units": "degC"})
    >>> caption(field, {}, "", ["May 1998."])
    'Sea surface temperature (degC). May 1998.'
    """
    label = field_label(field)
    sentences = [f"{label[:1].upper()}{label[1:]}."]
    if "method" in attrs and (method := method_words(attrs)):
        sentences.append(f"{method[0].upper()}{method[1:]}.")
    if "target" in attrs and "target" not in field.coords:
        sentences.append(f"Explained: {explained(attrs)}.")
    if samples := _samples(attrs):
        sentences.append(f"Samples: {samples}.")
    if networks:
        sentences.append(f"{networks[0].upper()}{networks[1:]}.")
    return " ".join([*sentences, *notes])


def explained(attrs: Mapping[str, Any]) -> str:
    """The explained output of a store in words: ``the predicted class (its logit minus that of the runner-up)``."""
    try:
        target = json.loads(attrs["target"])
    except ValueError:
        target = attrs["target"]
    several = target if isinstance(target, list) and not all(isinstance(one, int) for one in target) else [target]
    named = ", ".join(dict.fromkeys(_output(one) for one in several))
    if all(isinstance(one, str) for one in several) and (score := _SCORES.get(str(attrs.get("score", "")))):
        named += f" ({score})"
    reference = attrs.get("reference", "null")
    return named if reference in ("null", "", None) else f"{named}, compared with {_reference(str(reference))}"


def shared_out(attrs: Mapping[str, Any]) -> str:
    """What relevance with units 1 is a share of, if the store says so: ``a difference of logits``."""
    target = str(attrs.get("target", "")).strip('"')
    of_class = target in ("predicted", "label") or (target.isidentifier() and target != "null")
    return _SHARED.get(str(attrs.get("score", "")), "") if of_class else ""


def _output(target: Any) -> str:
    if target == "predicted":
        return "the predicted class"
    if target == "label":
        return "the class of the label"
    if isinstance(target, str) and not target.startswith(("{", "[")):
        return f"the class {words(target)}"
    return target_words(target if isinstance(target, str) else json.dumps(target))


def _reference(text: str) -> str:
    try:
        given = json.loads(text)
    except ValueError:
        return text
    if isinstance(given, Mapping):
        given = {key: value for key, value in given.items() if value is not None}
        if "climatology" in given:
            split = given["climatology"]
            return "the output for the mean input" + (f" of the {split} split" if isinstance(split, str) else "")
        if "sample" in given:
            return f"the output for sample {given['sample']}"
        given = given.get("value", given)
    return str(given)


def method_words(attrs: Mapping[str, Any]) -> str:
    """The method of a store in words: ``layer-wise relevance propagation, rules epsilon_plus``."""
    method = str(attrs["method"])
    named = _METHODS.get(method, words(method))
    rules = attrs.get("rules")
    if not rules:
        return named
    if chosen := attrs.get("rules_chosen"):
        return f"{named}, rules {chosen} (chosen by {rules})"
    return f"{named}, rules {rules}" if not str(rules).startswith("[") else f"{named}, with a list of rules"


def _samples(attrs: Mapping[str, Any]) -> str:
    parts = []
    subset = attrs.get("subset")
    if subset:
        parts.append("all" if subset == "all" else f"{subset} split")
    where = attrs.get("where")
    if where and where != "all":
        parts.append({"correct": "classified correctly"}.get(str(where), f"where {where}"))
    return ", ".join(parts)
