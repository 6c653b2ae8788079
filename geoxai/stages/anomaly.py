"""``anomaly``: departures from the climatology and, if wanted, from the linear trend."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import Field, field_validator

from geoxai.errors import OptionError
from geoxai.stages.stage import Context, LazyStage, Reference, Stage

if TYPE_CHECKING:
    import xarray as xr


class Anomaly(LazyStage):
    """Departures from the annual cycle, cell by cell, with an optional linear trend removed.

    Climatology and trend are fitted once, on the years of `fit` alone, stored, and subtracted lazily from all times.
    Both are fitted together by least squares, so that an annual cycle on a straight line leaves nothing. Missing values
    are left out of the fit; a cell without any value in a calendar month stays missing in that month.

    Monthly anomalies are departures from the mean of the calendar month. In daily data that would leave, at both ends
    of a month, what the cycle changes within half a month (2 to 3 K on land), so daily anomalies are departures from a
    smooth annual cycle: harmonics fitted by least squares, or the mean of a window around each day. Sub-daily data have
    such a cycle for every hour of the day, annual data only a mean. 29 February is a day of its own where the calendar
    has it: for harmonics the 60th of the 366 days of its year (a year is one period, however many days it has), for a
    window the day between 28 February and 1 March. Calendars of 360 and 365 days are used as they are.

    Choose `fit` inside the training years: a climatology or trend that has seen the test years leaks them to the
    network.
    """

    use: ClassVar[str] = "anomaly"
    gives: ClassVar[str] = "grid"
    fits: ClassVar[bool] = True
    libraries: ClassVar[tuple[str, ...]] = ("grid", "statistics")
    example: ClassVar[str] = "anomaly: {use: anomaly, from: sst, fit: [1951, 1985], detrend: linear}"

    from_: Annotated[str | None, Reference("grid", nearest=True)] = Field(
        None, alias="from", description="Stage whose fields become anomalies."
    )
    years: tuple[int, int] | None = Field(
        None, alias="fit", description="First and last year of the fit, both included. Default: all times."
    )
    detrend: Literal["none", "linear"] = Field(
        "none", description="`linear` also removes the straight line fitted to each cell over the years of `fit`."
    )

    cycle: Literal["auto", "month", "harmonics", "window"] = Field(
        "auto",
        description="The annual cycle: `month`, the mean of each calendar month; `harmonics`, a mean and sine waves of "
        "the year; `window`, the mean of the days around each day of the year. `auto`: month for monthly data, one "
        "mean for annual data, harmonics for all others, or a window where the years of `fit` lack whole months.",
    )
    harmonics: int = Field(
        4,
        ge=1,
        le=20,
        description="Number of waves, for `cycle: harmonics`: 1 is the annual wave, 2 adds the half-year.",
    )
    window: int = Field(
        31,
        ge=1,
        le=183,
        description="Days in the window around each day of the year, an odd number, for `cycle: window`. A wider one "
        "is smoother and flattens the cycle: 31 days keep 98.8 % of an annual and 95.3 % of a semi-annual wave.",
    )

    @field_validator("window")
    @classmethod
    def _odd(cls, window: int) -> int:
        if window % 2 == 0:
            raise ValueError(f"a window around a day needs an odd number of days, not {window}")
        return window

    @field_validator("years")
    @classmethod
    def _in_order(cls, value: tuple[int, int] | None) -> tuple[int, int] | None:
        if value is not None and value[0] > value[1]:
            raise ValueError(f"{value[0]} to {value[1]} runs backwards")
        return value

    def advise(self, name: str, stages: Mapping[str, Stage]) -> Iterator[tuple[str, str, str]]:
        """Warn where the years of the fit overlap the test or validation years of samples made from these anomalies."""
        for other, stage in stages.items():
            split = getattr(stage, "split", None)
            if stage.gives != "samples" or not isinstance(split, Mapping) or name not in _origins(other, stages):
                continue
            for part in ("test", "validation"):
                met = sorted(
                    year for year in _years(split.get(part)) if self.years is None or _within(year, self.years)
                )
                if met:
                    years = "all years" if self.years is None else f"{self.years[0]} to {self.years[1]}"
                    yield (
                        "fit",
                        f"the climatology is fitted on {years}, which overlaps the {part} years of {other!r} "
                        f"({len(met)} years from {met[0]} to {met[-1]})",
                        "fit on the training years only",
                    )

    def fit(self, context: Context) -> xr.Dataset:
        from geoxai.statistics.climatology import fit_climatology

        return fit_climatology(
            context.sources["from"],
            self.years,
            self.detrend,
            cycle=self.cycle,
            harmonics=self.harmonics,
            window=self.window,
        )

    def skeleton(self, context: Context) -> xr.Dataset:
        from geoxai.statistics.climatology import anomaly_skeleton, fit_times
        from geoxai.statistics.cycles import cycle_of

        ds = context.sources["from"]
        if "time" not in ds.dims:
            raise OptionError("anomalies need fields with a time axis", option="from")
        used = fit_times(ds["time"], self.years, self.detrend)
        cycle_of(ds["time"], used, self.cycle, self.harmonics, self.window)
        return anomaly_skeleton(ds)

    def open(self, context: Context) -> xr.Dataset:
        from geoxai.statistics.climatology import anomalies

        assert context.fitted is not None
        return anomalies(context.sources["from"], context.fitted)


def _within(year: int, years: tuple[int, int]) -> bool:
    return years[0] <= year <= years[1]


def _years(ranges: Any) -> set[int]:
    """All years of one range ``(first, last)`` or of several."""
    if not ranges:
        return set()
    several = ranges if isinstance(ranges[0], list | tuple) else [ranges]
    return {year for first, last in several for year in range(first, last + 1)}


def _origins(name: str, stages: Mapping[str, Stage]) -> set[str]:
    """Every stage whose fields a stage reads, directly or through others."""
    found: set[str] = set()
    waiting = [name]
    while waiting:
        stage = stages.get(waiting.pop())
        for field, info in type(stage).model_fields.items() if stage is not None else ():
            if not any(isinstance(item, Reference) and "grid" in item.kinds for item in info.metadata):
                continue
            value = getattr(stage, field)
            names = _texts(value)
            waiting += [other for other in names if other not in found]
            found.update(names)
    return found


def _texts(value: Any) -> list[str]:
    """The texts in an option that is a text, a list, or a mapping of either."""
    if isinstance(value, Mapping):
        value = list(value.values())
    return [text for item in value for text in _texts(item)] if isinstance(value, list | tuple) else [value or ""]


STAGES: tuple[type[Stage], ...] = (Anomaly,)
