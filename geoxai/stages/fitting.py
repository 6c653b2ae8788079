"""Fitting a network and the samples it is used on together: names are matched, differences are refused."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from geoxai.errors import OptionError

if TYPE_CHECKING:
    import xarray as xr

    from geoxai.models.networks import Networks
    from geoxai.stages.stage import Stage

ANY_GRID = (
    "Take samples on a different grid from those the network was trained on. That makes sense only for a network that "
    "looks at neighbourhoods alone, such as a unet."
)


def fitted_together(networks: Networks, samples: xr.Dataset, any_grid: bool) -> tuple[xr.Dataset, Networks]:
    """The samples with classes numbered as the network's, and the network for samples of this scaling.

    Raises ``OptionError`` where inputs, channels and their units, grid, scaling, classes or units of targets are not
    those the network was trained with.
    """
    from geoxai.grid.several import alone
    from geoxai.readers.units import differ

    found = networks.for_samples(samples, any_grid=any_grid)
    for name, origin in networks.origins.items():
        _refuse_units(origin.channels, origin.units, alone(samples, name))
    if networks.task != "classification" and "target" in samples.variables:
        own, theirs = networks.units, str(samples["target"].attrs.get("units", ""))
        if differ(own, theirs):
            raise OptionError(
                f"the network was trained on targets in {own}, those of the samples are in {theirs}",
                fix=f"read them in {own}: units of the load stage",
                option="from",
            )
    return networks.matched(samples), found


def advise_scaling(
    name: str, from_: str | None, model: str | None, stages: Mapping[str, Stage]
) -> Iterator[tuple[str, str, str]]:
    """Warn where samples have a scaling of their own and the network was trained on others."""
    trained = getattr(stages.get(model or ""), "from_", None)
    samples = stages.get(from_ or "")
    if trained is None or samples is None or trained == from_ or getattr(stages[model or ""], "scaling", None):
        return
    if getattr(samples, "scale", None) == "standard" and getattr(samples, "scale_file", None) is None:
        yield (
            "from",
            f"{model!r} is trained on {trained!r}, but {from_!r} has a scaling fitted on its own samples: if they "
            "differ, it is refused",
            f"in {from_!r}, scale: {{like: {trained}}}",
        )


def _refuse_units(channels: tuple[str, ...], units: tuple[str, ...], samples: xr.Dataset) -> None:
    from geoxai.readers.units import differ

    if "units" not in samples.coords:
        return
    theirs = dict(zip(map(str, samples["channel"].values), map(str, samples["units"].values)))
    for channel, unit in zip(channels, units):
        if differ(unit, theirs.get(channel, "")):
            raise OptionError(
                f"the network was trained on {channel!r} in {unit}, the samples have it in {theirs[channel]}",
                fix=f"read it in {unit}: units of the load stage",
                option="from",
            )
