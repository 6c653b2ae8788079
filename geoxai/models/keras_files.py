"""Keras files: read on Keras' torch backend, those of Keras 2 mended first.

Keras 3 refuses ``.h5`` files that this field published with Keras 2 for a handful of names it gave up. Weights, layers
and connections are what they were, so these names are put right in a copy and the network is loaded uncompiled: losses
and optimisers, of which custom ones could not be found, are of no use to an explanation.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from geoxai.errors import GeoxaiError, InputError

HDF5 = (".h5", ".hdf5")
GONE = {  # options of Keras 2 layers that mean nothing to Keras 3
    "LSTM": ("time_major", "implementation"),
    "GRU": ("time_major", "implementation"),
    "SimpleRNN": ("time_major", "implementation"),
    "ConvLSTM2D": ("time_major",),
    "InputLayer": ("ragged",),
}


def keras_on_torch(name: str) -> Any:
    """The keras package, running on torch; ``name`` is the file that needs it."""
    if "keras" not in sys.modules:
        os.environ["KERAS_BACKEND"] = "torch"  # read by Keras once, when it is imported
    try:
        import keras
    except ImportError:
        raise GeoxaiError(
            f"{name} is a Keras file and keras is not installed", fix='pip install "geoxai[keras]"', option="path"
        ) from None
    if keras.backend.backend() != "torch":
        raise GeoxaiError(
            f"Keras is already running on {keras.backend.backend()}, geoxai needs its torch backend",
            fix="set KERAS_BACKEND=torch before keras is imported",
        )
    return keras


def read_keras(path: Path, trust: bool) -> tuple[Any, tuple[str, ...]]:
    """The network in a Keras file, uncompiled, and notes on how it was read.

    Raises InputError where Keras cannot read the file; ``trust`` allows Lambda layers, which are code.
    """
    keras = keras_on_torch(path.name)
    notes = (f"run by Keras {keras.__version__} on torch",)
    config = _old_config(path)
    try:
        if config is None:
            return keras.saving.load_model(path, compile=False, safe_mode=not trust), notes
        with tempfile.TemporaryDirectory() as folder:
            copy = Path(folder) / f"{path.stem}.h5"
            version = _write_mended(path, copy, config)
            network = keras.saving.load_model(copy, compile=False, safe_mode=not trust)
        return network, (*notes, f"written by Keras {version}, mended for Keras 3")
    except Exception as error:  # Keras raises ValueError, TypeError, OSError, ... for the same cause
        raise InputError(
            f"{path} cannot be read by Keras {keras.__version__}: {_reason(error)}",
            fix="save it with Keras 3: model.save('network.keras'); Lambda layers need trust: true",
        ) from error


def with_arguments(network: Any) -> Any:
    """A Keras network of several inputs, called as torch modules are: with one argument for each, in their order.

    It stays the Keras network that it is, whose layers are found by their names.
    """
    kind = type(network)
    wanted, listed = network.input, list(network.inputs)

    def call(self: Any, *inputs: Tensor) -> Any:
        if isinstance(wanted, Mapping):
            by_name = {name: inputs[_place(tensor, listed)] for name, tensor in wanted.items()}
            return kind.__call__(self, by_name)
        return kind.__call__(self, list(inputs))

    object.__setattr__(network, "__class__", type(kind.__name__, (kind,), {"__call__": call}))
    return network


def _place(tensor: Any, listed: list[Any]) -> int:
    return next(place for place, one in enumerate(listed) if one is tensor)


def _old_config(path: Path) -> Any:
    """The configuration in an HDF5 file of Keras 2, None for other files."""
    if path.suffix.lower() not in HDF5:
        return None
    import h5py

    try:
        with h5py.File(path, "r") as file:
            found, version = (file.attrs.get(name) for name in ("model_config", "keras_version"))
    except OSError as error:
        raise InputError(f"{path} is no HDF5 file: {_reason(error)}") from error
    if found is None:
        raise InputError(
            f"{path} holds weights but no network",
            fix="save the whole network: model.save('network.keras'), not model.save_weights",
        )
    return None if _text(version).startswith("3") else json.loads(_text(found))


def _write_mended(path: Path, copy: Path, config: Any) -> str:
    """Write a copy of the file with its configuration mended; returns the version that wrote it."""
    import h5py

    shutil.copyfile(path, copy)
    copy.chmod(0o600)
    with h5py.File(copy, "r+") as file:
        file.attrs["model_config"] = json.dumps(mended(config))
        if "training_config" in file.attrs:
            del file.attrs["training_config"]
        return _text(file.attrs.get("keras_version", "2"))


def mended(config: Any) -> Any:
    """A configuration of Keras 2 in the words of Keras 3.

    ``batch_input_shape`` becomes an input layer's ``batch_shape``, initialisers lose their ``dtype``, a dtype policy is
    its name, an axis in a list is a number, and options that were given up are left out.
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
    result = {**config, "config": {key: mended(value) for key, value in options.items()}}
    own = result["config"]
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


def _with_input_layer(layers: list[Any]) -> list[Any]:
    """The layers of a Sequential, whose input shape stood in the first one."""
    first = layers[0].get("config", {}) if layers else {}
    if "batch_input_shape" not in first or layers[0].get("class_name") == "InputLayer":
        return layers
    shape = {"batch_input_shape": first["batch_input_shape"], "dtype": "float32", "name": f"{first['name']}_input"}
    return [{"class_name": "InputLayer", "config": shape}, *layers]


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value or "")


def _reason(error: Exception) -> str:
    text = str(error).strip()
    return text.splitlines()[0] if text else type(error).__name__
