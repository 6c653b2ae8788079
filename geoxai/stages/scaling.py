"""How the samples are scaled: by constants in the config or a file, like other samples, or as fitted."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Discriminator, Field, Tag, model_validator

from geoxai.errors import InputError, OptionError
from geoxai.names import unknown
from geoxai.stages.stage import Context, InputPath, Reference

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    import xarray as xr

    from geoxai.stages.samples import Samples
    from geoxai.statistics.scaling import Survey
    from geoxai.statistics.stacking import Stack


_FILES = tuple(f"{folder}{name}/**" for folder in ("", "*.zarr/") for name in ("scaling_*", "channel*", "units*"))


class Like(BaseModel):
    """The scaling of other samples, channel by channel, such as those a network was trained on."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    like: Annotated[str | None, Reference("samples")] = Field(
        None,
        description="Another samples stage of this config; a path (with a slash or ending in .zarr) is taken as `run`.",
    )
    run: Annotated[str | None, InputPath(later=True, within=_FILES)] = Field(
        None, description="Folder of another run, or a samples store in it; it must exist when this stage runs."
    )

    @model_validator(mode="before")
    @classmethod
    def _paths_are_runs(cls, given: Any) -> Any:
        like = given.get("like") if isinstance(given, dict) else None
        if isinstance(like, str) and given.get("run") is None and ("/" in like or like.endswith(".zarr")):
            return {**given, "like": None, "run": like}
        return given

    @model_validator(mode="after")
    def _one(self) -> Like:
        if (self.like is None) == (self.run is None):
            raise ValueError("give one of like and run")
        return self


def _kind(scale: Any) -> str:
    """Whether a scale is that of other samples; the constants of a channel called like or run would be a list."""
    if isinstance(scale, dict):
        return "like" if any(not isinstance(scale.get(key, []), list | tuple) for key in ("like", "run")) else "own"
    return "like" if isinstance(scale, Like) else "own"


Scale = Annotated[
    Annotated[Literal["none", "standard"] | dict[str, tuple[float, float]], Tag("own")] | Annotated[Like, Tag("like")],
    Discriminator(_kind),
]


def scaling_like(options: Samples, context: Context, *, planning: bool = False) -> dict[str, xr.Dataset] | None:
    """The samples, input by input, whose scaling is taken; None where another is stated, or while ``planning`` where
    another run is yet to come.

    Raises
    ------
    InputError
        The samples of another run are not there, once it is time to read them.
    """
    import xarray as xr

    from geoxai.grid.several import parts

    if not isinstance(options.scale, Like):
        return None
    if options.scale.run is None:
        return parts(context.sources["scale.like"])
    folder = Path(options.scale.run)
    stores = [p for p in (folder, *sorted(folder.glob("*.zarr"))) if (p / "zarr.json").is_file()]
    stores = [p for p in stores if not p.name.endswith(".fit.zarr")]
    kept = {p: ds for p in stores if (ds := xr.open_zarr(p, consolidated=False)).attrs.get("geoxai_use") == "samples"}
    if len(kept) == 1:
        return parts(next(iter(kept.values())))
    if kept:
        names = ", ".join(path.name for path in kept)
        raise OptionError(
            f"{folder} has several samples stores: {names}", fix=f"like: {next(iter(kept))}", option="scale"
        )
    if planning:
        return None
    raise InputError(f"there are no samples of a run in {folder}", fix="run it first", option="scale")


def taken(like: dict[str, xr.Dataset], name: str, stack: Stack) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation of other samples for one input.

    Raises
    ------
    OptionError
        They lack this input or a channel, have it in other units, or on another grid.
    """
    from geoxai.readers.units import differ
    from geoxai.statistics.scaling import scaling_of

    if name not in like:
        raise OptionError(
            f"the samples to copy the scaling from have the inputs {', '.join(like) or 'one'}, not {name!r}",
            option="scale",
        )
    other = like[name]
    try:
        found = scaling_of(other[["scaling_mean", "scaling_sd"]], stack.grid, stack.names, "the samples to copy from")
    except InputError as error:
        raise OptionError(error.message, fix=error.fix, option="scale") from None
    theirs = dict(zip(map(str, other["channel"].values), map(str, other["units"].values)))
    for channel, variable in zip(stack.names, stack.variables):
        own = str(variable.attrs.get("units", ""))
        if differ(own, theirs.get(channel, "")):
            raise OptionError(
                f"{channel!r} is in {own}, but in {theirs[channel]} in the samples to copy the scaling from",
                fix=f"read it in {theirs[channel]}: units of the load stage",
                option="scale",
            )
    return found


def declared(options: Samples, stack: Stack, channels: Sequence[str]) -> tuple[np.ndarray, np.ndarray] | None:
    """Scaling that the config states, or None where it is fitted or taken from other samples; ``channels`` are those
    of all inputs.
    """
    import numpy as np

    if options.scale_file is not None:
        return _scaling_file(options.scale_file, stack)
    if options.scale == "standard" or isinstance(options.scale, Like):
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
                f"scale has no constants for channel {name!r}", fix="give [0, 1] to leave it as it is", option="scale"
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
            "there are no training samples to fit the scaling on", fix="add train years to split", option="split"
        )
    if options.per == "cell":
        return cell_scaling(found)
    mean, sd = channel_scaling(found)
    for name, spread in zip(stack.names, sd):
        if not spread > 0:
            raise OptionError(
                f"channel {name!r} has the same value in all training samples and cells: it cannot be scaled",
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
