"""How the samples are scaled: constants of the config, of a file, or fitted."""

from __future__ import annotations

from typing import TYPE_CHECKING

from geoxai.errors import InputError, OptionError
from geoxai.names import unknown

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np

    from geoxai.stages.samples import Samples
    from geoxai.statistics.scaling import Survey
    from geoxai.statistics.stacking import Stack


def declared(options: Samples, stack: Stack, channels: Sequence[str]) -> tuple[np.ndarray, np.ndarray] | None:
    """Scaling that the config states, or None where it is fitted; ``channels`` are those of all inputs."""
    import numpy as np

    if options.scale_file is not None:
        return _scaling_file(options.scale_file, stack)
    if options.scale == "standard":
        return None
    if options.scale == "none":
        return np.zeros(len(stack.names)), np.ones(len(stack.names))
    for name in options.scale:
        if name not in channels:
            raise OptionError(unknown("channel", name, channels), option=f"scale.{name}")
        if channels.count(name) > 1:
            raise OptionError(
                f"two inputs have a channel {name!r}, and one pair of constants cannot be meant for both",
                fix="scale: none, with constants in the inputs of the model stage",
                option=f"scale.{name}",
            )
    for name in stack.names:
        if name not in options.scale:
            raise OptionError(
                f"scale has no constants for channel {name!r}", fix="give [0, 1] to leave it", option="scale"
            )
        if options.scale[name][1] == 0:
            raise OptionError(f"the factor of channel {name!r} is 0", option=f"scale.{name}")
    offset, factor = zip(*(options.scale[name] for name in stack.names))
    return np.array(offset, np.float64), np.array(factor, np.float64)


def measured(options: Samples, stack: Stack, found: Survey) -> tuple[np.ndarray, np.ndarray]:
    """Scaling of the training samples."""
    from geoxai.statistics.scaling import cell_scaling, channel_scaling

    if not found.training.count.any():
        raise OptionError(
            "there are no training samples to fit the scaling on", fix="give split a train", option="split"
        )
    if options.per == "cell":
        return cell_scaling(found)
    mean, sd = channel_scaling(found)
    for name, spread in zip(stack.names, sd):
        if not spread > 0:
            raise OptionError(
                f"channel {name!r} has one and the same value in all training samples and cells: it cannot be scaled",
                fix="leave it out, or give constants in scale",
                option="scale",
            )
    return mean, sd


def _scaling_file(path: str, stack: Stack) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation that a NetCDF file holds, on the grid of the inputs."""
    import xarray as xr

    from geoxai.readers.conventions import canonical_names
    from geoxai.statistics.scaling import scaling_of

    try:
        with xr.open_dataset(path) as opened:
            dataset = opened.load()
    except (OSError, ValueError) as error:
        raise InputError(
            f"{path} cannot be read as NetCDF: {str(error).splitlines()[0]}", option="scale_file"
        ) from error
    if any(set(variable.dims) - {"channel"} for variable in dataset.data_vars.values()):
        dataset = canonical_names(dataset, path)
    return scaling_of(dataset, stack.grid, stack.names, path)
