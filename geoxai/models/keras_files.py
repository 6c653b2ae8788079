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
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from geoxai.errors import GeoxaiError, InputError, OptionError
from geoxai.models.keras2 import mended, pool_as_tensorflow, register_functions

HDF5 = (".h5", ".hdf5")
CODE = ("Lambda", "__lambda__", "TorchModuleWrapper", "TFSMLayer", "JaxLayer", "FlaxLayer")  # classes that hold code
CONFIG, METADATA = "config.json", "metadata.json"  # in a .keras archive


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

    Raises InputError where Keras cannot read the file, OptionError where a layer holds code and ``trust`` is not given.
    """
    keras = keras_on_torch(path.name)
    notes: tuple[str, ...] = (f"run by Keras {keras.__version__} on torch",)
    config, version = _configuration(path)
    if not trust and (found := _code_in(config)):
        raise OptionError(
            f"{path.name} holds a {found} layer, which is code: loading it runs whatever is in it",
            fix="trust: true if you know where it comes from; better write the layer with operations of Keras",
            option="trust",
        )
    try:
        if version.startswith("3"):
            return keras.saving.load_model(path, compile=False, safe_mode=not trust), notes
        register_functions()
        with tempfile.TemporaryDirectory() as folder:
            copy = Path(folder) / f"{path.stem}{path.suffix.lower().replace('.hdf5', '.h5')}"
            _write_mended(path, copy, mended(config))
            network = keras.saving.load_model(copy, compile=False, safe_mode=not trust)
        pool_as_tensorflow(network)
        return network, (*notes, f"written by Keras {version or 2}, mended for Keras 3")
    except OptionError:
        raise
    except Exception as error:  # Keras raises ValueError, TypeError, OSError, ... for the same cause
        raise InputError(
            f"{path} cannot be read by Keras {keras.__version__}: {_reason(error)}",
            fix="save it with Keras 3: model.save('network.keras')",
        ) from error


def as_called(network: Any) -> Any:
    """A Keras network called as torch modules are: one argument for each input, in their order, and never in training.

    It stays the Keras network that it is, whose layers are found by their names. Layers that change what they get at
    random, such as RandomFlip, do so in Keras unless a call says ``training=False``.
    """
    kind = type(network)
    wanted, listed = getattr(network, "input", None), list(network.inputs)

    def call(self: Any, *inputs: Tensor) -> Any:
        taken: Any = inputs[0] if len(inputs) == 1 else list(inputs)
        if isinstance(wanted, Mapping):
            taken = {name: inputs[_place(tensor, listed)] for name, tensor in wanted.items()}
        return kind.__call__(self, taken, training=False)

    object.__setattr__(network, "__class__", type(kind.__name__, (kind,), {"__call__": call}))
    return network


def _place(tensor: Any, listed: list[Any]) -> int:
    return next(place for place, one in enumerate(listed) if one is tensor)


def _configuration(path: Path) -> tuple[Any, str]:
    """The configuration of the network in a file, and the version of Keras that wrote it (empty where it is old)."""
    if path.suffix.lower() not in HDF5:
        try:
            with zipfile.ZipFile(path) as archive:
                return json.loads(archive.read(CONFIG)), str(json.loads(archive.read(METADATA))["keras_version"])
        except (zipfile.BadZipFile, KeyError, ValueError, TypeError, OSError) as error:
            raise InputError(
                f"{path} is not a .keras file: {_reason(error)}", fix="save it with model.save('network.keras')"
            ) from error
    import h5py

    try:
        with h5py.File(path, "r") as file:
            found, version = (file.attrs.get(name) for name in ("model_config", "keras_version"))
    except OSError as error:
        raise InputError(f"{path} is not an HDF5 file: {_reason(error)}") from error
    if found is None:
        raise InputError(
            f"{path} holds weights but no network",
            fix="save the whole network: model.save('network.keras'), not model.save_weights",
        )
    try:
        return json.loads(_text(found)), _text(version)
    except ValueError as error:
        raise InputError(f"{path}: the network's configuration is damaged: {_reason(error)}") from error


def _write_mended(path: Path, copy: Path, config: Any) -> None:
    """Write a copy of the file with another configuration."""
    if copy.suffix != ".h5":
        with zipfile.ZipFile(path) as archive, zipfile.ZipFile(copy, "w") as mended_archive:
            for name in archive.namelist():
                mended_archive.writestr(name, json.dumps(config) if name == CONFIG else archive.read(name))
        return
    import h5py

    shutil.copyfile(path, copy)
    copy.chmod(0o600)
    with h5py.File(copy, "r+") as file:
        file.attrs["model_config"] = json.dumps(config)
        if "training_config" in file.attrs:
            del file.attrs["training_config"]


def _code_in(config: Any) -> str | None:
    """The first class in a configuration that holds code, None where there is none."""
    if isinstance(config, Mapping):
        if config.get("class_name") in CODE:
            return str(config["class_name"])
        config = list(config.values())
    return next(filter(None, map(_code_in, config)), None) if isinstance(config, list) else None


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value or "")


def _reason(error: Exception) -> str:
    text = str(error).strip()
    return text.splitlines()[0] if text else type(error).__name__
