"""Readable paths of Keras layers: on torch a Keras model hides its layers from ``named_modules``."""

from __future__ import annotations

import sys
from typing import Any


def keras_paths(model: Any) -> dict[int, str]:
    """Paths of layers and weights of a Keras model by id, empty for other models.

    A layer's path is its name, below the names of the models and layers it is part of; a weight's is its layer's and
    its own, such as ``encoder/conv2d_1.kernel``.
    """
    keras = sys.modules.get("keras")
    if keras is None or not isinstance(model, keras.layers.Layer):
        return {}
    paths: dict[int, str] = {}

    def visit(layer: Any, above: str) -> None:
        for child in layer._flatten_layers(include_self=False, recursive=False):
            if id(child) in paths:
                continue
            path = f"{above}/{child.name}" if above else child.name
            paths[id(child)] = path
            visit(child, path)
            for variable in child.variables:
                paths.setdefault(id(variable.value), f"{path}.{variable.name}")

    visit(model, "")
    return paths
