"""Keras files, read with Keras' torch backend; files of Keras 2 are adapted first.

Keras 3 refuses many ``.h5`` files published with Keras 2 because of a handful of names it dropped. Weights, layers
and connections are unchanged, so these names are corrected in a copy and the network is loaded uncompiled: losses
and optimisers, which may be custom and unavailable, are of no use to an explanation.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import zipfile
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

from torch import Tensor

from geoxai.errors import GeoxaiError, InputError, OptionError
from geoxai.models.keras2 import mended, pool_as_tensorflow, register_functions
from geoxai.source_code import importable_here, mappings, modules_in_config
from geoxai.storage.hdf5 import rewritten
from geoxai.version import DISTRIBUTION

HDF5 = (".h5", ".hdf5")
CODE = ("Lambda", "__lambda__", "TorchModuleWrapper", "TFSMLayer", "JaxLayer", "FlaxLayer")  # classes that hold code
CONFIG, METADATA = "config.json", "metadata.json"  # in a .keras archive


def choose_torch() -> None:
    """Have Keras run on torch once it is imported, by whatever does it first."""
    if "keras" not in sys.modules:
        os.environ["KERAS_BACKEND"] = "torch"


def keras_on_torch(name: str) -> Any:
    """The keras package, running on torch; ``name`` is the file that needs it."""
    choose_torch()
    try:
        import keras
    except ImportError:
        raise GeoxaiError(
            f"{name} is a Keras file, but keras is not installed",
            fix=f'pip install "{DISTRIBUTION}[keras]"',
            option="path",
        ) from None
    if keras.backend.backend() != "torch":
        raise GeoxaiError(
            f"Keras is already running on {keras.backend.backend()}, but geoxai needs its torch backend",
            fix="set KERAS_BACKEND=torch before keras is imported",
        )
    return keras


def read_keras(path: Path, trust: bool) -> tuple[Any, tuple[str, ...]]:
    """The network in a Keras file, uncompiled, and notes on how it was read.

    Layers of the user's own are classes of modules that the file names. These are imported only with ``trust``.

    Raises InputError if Keras cannot read the file, OptionError if a layer is code and ``trust`` is not given.
    """
    keras = keras_on_torch(path.name)
    notes: tuple[str, ...] = (f"run by Keras {keras.__version__} on torch",)
    with tempfile.TemporaryDirectory() as folder:
        file = path
        if path.suffix.lower() in HDF5:
            file = Path(folder) / f"{path.stem}.h5"
            rewritten(path, file)
        config, version = _configuration(file, path)
        if not trust and (found := _code_in(config)):
            raise OptionError(
                f"{path.name} holds a {found} layer, which is code: loading it runs whatever is in it",
                fix="trust: true if you know where it comes from; better to write the layer with Keras operations",
                option="trust",
            )
        old = not version.startswith("3")
        modules = modules_in_config(config)
        if trust:
            _import(modules, path)
        try:
            if old:
                register_functions()
                file = _mended(file, Path(folder), mended(config))
            network = keras.saving.load_model(file, compile=False, safe_mode=not trust)
        except OptionError:
            raise
        except Exception as error:  # Keras raises ValueError, TypeError, OSError, ... for the same cause
            if unknown := [module for module in modules if not trust and module not in sys.modules]:
                raise OptionError(
                    f"{path.name} needs layers of {', '.join(unknown)}, which is not imported for a file's sake",
                    fix="trust: true if you know where the file comes from: its modules are then imported",
                    option="trust",
                ) from error
            raise InputError(
                f"{path} cannot be read by Keras {keras.__version__}: {_reason(error)}",
                fix="save it with Keras 3: model.save('network.keras')",
            ) from error
    if old:
        pool_as_tensorflow(network)
        notes = (*notes, f"written by Keras {version or 2}, adapted to Keras 3")
    return network, notes


def _import(modules: tuple[str, ...], path: Path) -> None:
    """Import what a trusted file names, in the current folder too: Keras knows custom layers once their module is."""
    for module in modules:
        try:
            with importable_here():
                import_module(module)
        except Exception as error:  # whatever the user's code raises
            raise OptionError(
                f"{path.name} needs {module}, which cannot be imported: {_reason(error)}",
                fix="install its package, or start geoxai in the folder of the module",
                option="path",
            ) from error


def as_called(network: Any) -> Any:
    """A Keras network called as torch modules are: one argument for each input, in their order, and never in training.

    It remains a Keras network, with its layers under their names. Layers that change their input at random, such as
    RandomFlip, do so in Keras unless a call says ``training=False``.
    """
    kind = type(network)
    wanted, listed = getattr(network, "input", None), list(network.inputs)

    def call(self: Any, *inputs: Tensor) -> Any:
        taken: Any = inputs[0] if len(inputs) == 1 else list(inputs)
        if isinstance(wanted, Mapping):
            taken = {name: inputs[_place(tensor, listed)] for name, tensor in wanted.items()}
        return kind.__call__(self, taken, training=False)

    object.__setattr__(network, "__class__", type(kind.__name__, (kind,), {"__call__": call, "takes_arguments": True}))
    return network


def _place(tensor: Any, listed: list[Any]) -> int:
    return next(place for place, one in enumerate(listed) if one is tensor)


def _configuration(file: Path, path: Path) -> tuple[Any, str]:
    """The configuration of the network in a file, and the version of Keras that wrote it (empty if it is old).

    ``path`` is the name by which the user knows the file.
    """
    if file.suffix.lower() not in HDF5:
        try:
            with zipfile.ZipFile(file) as archive:
                return json.loads(archive.read(CONFIG)), str(json.loads(archive.read(METADATA))["keras_version"])
        except (zipfile.BadZipFile, KeyError, ValueError, TypeError, OSError, RecursionError) as error:
            raise InputError(
                f"{path} is not a .keras file: {_reason(error)}", fix="save it with model.save('network.keras')"
            ) from error
    import h5py

    with h5py.File(file, "r") as opened:
        found, version = (opened.attrs.get(name) for name in ("model_config", "keras_version"))
    if found is None:
        raise InputError(
            f"{path} holds weights but no network",
            fix="save the whole network: model.save('network.keras'), not model.save_weights",
        )
    try:
        return json.loads(_text(found)), _text(version)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path} is damaged: the configuration of its network is not JSON") from error


def _mended(file: Path, folder: Path, config: Any) -> Path:
    """The file with another configuration; an HDF5 file is already a copy and is changed in place."""
    if file.suffix.lower() not in HDF5:
        copy = folder / f"{file.stem}.keras"
        with zipfile.ZipFile(file) as archive, zipfile.ZipFile(copy, "w") as written:
            for name in archive.namelist():
                written.writestr(name, json.dumps(config) if name == CONFIG else archive.read(name))
        return copy
    import h5py

    with h5py.File(file, "r+") as opened:
        opened.attrs["model_config"] = json.dumps(config)
        if "training_config" in opened.attrs:
            del opened.attrs["training_config"]
    return file


def _code_in(config: Any) -> str | None:
    """A class in a configuration that holds code, None if there is none."""
    found = (item["class_name"] for item in mappings(config) if item.get("class_name") in CODE)
    return next(found, None)


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value or "")


def _reason(error: Exception) -> str:
    text = str(error).rpartition("Exception encountered:")[2].partition("Full object config:")[0].strip()
    return text.splitlines()[0] if text else type(error).__name__
