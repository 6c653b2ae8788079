"""Keras 2 configurations in the terms of Keras 3, and what Keras 3 computes differently under the same name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from geoxai.errors import OptionError

GONE = {  # options of Keras 2 layers that mean nothing to Keras 3
    "LSTM": ("time_major", "implementation"),
    "GRU": ("time_major", "implementation"),
    "SimpleRNN": ("time_major", "implementation"),
    "RNN": ("time_major",),
    "ConvLSTM1D": ("time_major",),
    "ConvLSTM2D": ("time_major",),
    "ConvLSTM3D": ("time_major",),
    "InputLayer": ("ragged",),
}


INNER = ("layer", "backward_layer", "cell", "cells")  # layers inside layers, whose module Keras 2 left out before 2.12
# Recurrent layers of Keras 2 whose gates are hard sigmoids if their configuration does not name a function.
HARD_GATES = ("ConvLSTM1D", "ConvLSTM2D", "ConvLSTM3D")
HARD_SIGMOID = "geoxai>keras2_hard_sigmoid"


def keras2_hard_sigmoid(x: Any) -> Any:
    """The hard sigmoid of Keras 2, ``clip(0.2 x + 0.5, 0, 1)``, as Keras 3's ``clip(x / 6 + 0.5, 0, 1)`` of 1.2 x.

    It is not called ``hard_sigmoid`` because wrappers copy their layers by the names of functions.
    """
    import keras

    return keras.activations.hard_sigmoid(1.2 * x)


def register_functions() -> None:
    """Register with Keras the functions that ``mended`` names."""
    import keras

    if keras.saving.get_registered_object(HARD_SIGMOID) is None:
        keras.saving.register_keras_serializable("geoxai", "keras2_hard_sigmoid")(keras2_hard_sigmoid)


def mended(config: Any) -> Any:
    """A Keras 2 configuration in the terms of Keras 3.

    ``batch_input_shape`` becomes an input layer's ``batch_shape``, initialisers lose their ``dtype``, a dtype policy is
    its name, an axis in a list is a number, options that no longer exist are left out, and the hard sigmoid is the
    function of ``register_functions``.
    """
    if isinstance(config, list):
        return [mended(item) for item in config]
    if not isinstance(config, Mapping):
        return config
    name, options = config.get("class_name"), config.get("config")
    if name is None or not isinstance(options, Mapping):
        return {key: mended(value) for key, value in config.items()}
    if name == "Sequential":
        options = {**options, "layers": _with_input_layer(options.get("layers", []))}
    _refuse_others(name, options)
    result = {**config, "config": {key: mended(value) for key, value in options.items()}}
    own = result["config"]
    if name in ("Functional", "Model") and "module" in result:
        result["module"] = "keras.src.models.functional"
    if name == "LeakyReLU" and "alpha" in own:
        own["negative_slope"] = own.pop("alpha")
    if name in HARD_GATES:
        own.setdefault("recurrent_activation", "hard_sigmoid")
    for option, value in own.items():
        if option.endswith("activation") and _names_hard_sigmoid(value):
            own[option] = {"class_name": "function", "config": HARD_SIGMOID, "registered_name": HARD_SIGMOID}
    for option in INNER:
        inner = own.get(option)
        for layer in inner if isinstance(inner, list) else [inner]:
            if isinstance(layer, dict):
                layer.setdefault("module", "keras.layers")
    for option in GONE.get(name, ()):
        own.pop(option, None)
    for option, value in list(own.items()):
        if option.endswith("_initializer") and isinstance(value, Mapping) and isinstance(value.get("config"), Mapping):
            own[option] = {**value, "config": {k: v for k, v in value["config"].items() if k != "dtype"}}
    if isinstance(own.get("dtype"), Mapping) and own["dtype"].get("class_name") == "Policy":
        own["dtype"] = own["dtype"]["config"]["name"]
    if name in ("BatchNormalization", "LayerNormalization") and isinstance(own.get("axis"), list):
        own["axis"] = own["axis"][0] if len(own["axis"]) == 1 else own["axis"]
    if name == "InputLayer":
        own.update({"batch_shape": own.pop("batch_input_shape")} if "batch_input_shape" in own else {})
    else:
        own.pop("batch_input_shape", None)
    return result


def pool_as_tensorflow(network: Any) -> None:
    """Make average pooling with padding ``same`` leave the padding out of its means, as TensorFlow does.

    If the two sides differ, Keras on torch repeats the last cells instead, which counts them twice.
    """
    from keras import layers

    for layer in network._flatten_layers():
        for kind in (layers.AveragePooling1D, layers.AveragePooling2D, layers.AveragePooling3D):
            if type(layer) is kind and layer.padding == "same":
                object.__setattr__(layer, "__class__", _without_padding(kind))


def _without_padding(kind: type) -> type:
    """Average pooling whose means are over the cells of the map only."""
    from keras import ops

    def call(self: Any, inputs: Any) -> Any:
        first = 1 if self.data_format == "channels_last" else 2
        widths = [(0, 0)] * len(inputs.shape)
        for axis, (size, step) in enumerate(zip(self.pool_size, self.strides), first):
            missing = max(0, (-(-inputs.shape[axis] // step) - 1) * step + size - inputs.shape[axis])
            widths[axis] = (missing // 2, missing - missing // 2)

        def mean(values: Any) -> Any:
            padded = ops.pad(values, widths)
            return ops.average_pool(padded, self.pool_size, self.strides, "valid", self.data_format)

        return mean(inputs) / mean(ops.ones_like(inputs[:1]))

    return type(kind.__name__, (kind,), {"call": call})


def _refuse_others(name: str, options: Mapping[str, Any]) -> None:
    """Refuse what Keras 3 on torch computes differently under the same name, or does not have."""
    found = None
    if name in ("UpSampling2D", "Resizing") and options.get("interpolation") not in (None, "nearest", "bilinear"):
        found = f"interpolation {options['interpolation']}"
    if name == "Softmax" and isinstance(options.get("axis"), list) and len(options["axis"]) > 1:
        found = f"axes {', '.join(map(str, options['axis']))}"
    if found is not None:
        raise OptionError(
            f"layer {options.get('name', name)!r} ({name}) has {found}, which Keras 3 on torch does not compute as "
            "Keras 2 did",
            fix="leave the layer out of the network, or build the network in torch and load its weights",
            option="path",
        )


def _names_hard_sigmoid(activation: Any) -> bool:
    """Whether an activation is Keras' own hard sigmoid: its name, or the function or layer of that name."""
    if isinstance(activation, Mapping):
        return "hard_sigmoid" in (activation.get("class_name"), activation.get("config"))
    return bool(activation == "hard_sigmoid")


def _with_input_layer(layers: list[Any]) -> list[Any]:
    """The layers of a Sequential, whose first layer held the input shape."""
    first = layers[0].get("config", {}) if layers else {}
    if "batch_input_shape" not in first or layers[0].get("class_name") == "InputLayer":
        return layers
    shape = {"batch_input_shape": first["batch_input_shape"], "dtype": "float32", "name": f"{first['name']}_input"}
    return [{"class_name": "InputLayer", "config": shape}, *layers]
