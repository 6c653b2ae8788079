"""A synthetic monthly sea surface temperature with El Nino and La Nina events: the sample data and those of a starter.

Nothing here was measured. Anomalies are an index with memory times the pattern of the event it belongs to, East- or
Central-Pacific, plus red noise; to these come an annual cycle, a warming trend, land and sea ice. The same seed gives
the same values everywhere. Files have the true format: CF NetCDF, packed integers, fill value on land.
"""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path

import netCDF4
import numpy as np

from geoxai.plotting.coastlines import on_land

SEED = 1982
FIRST_YEAR, LAST_YEAR = 1950, 2022
FILES = ((1950, 1979), (1980, 1999), (2000, 2022))

LAT = np.arange(-88.0, 89.0, 4.0)
LON = np.arange(2.5, 360.0, 5.0)
MEMORY = 0.9  # lag-1 month autocorrelation of the index
SLOWEST = 121  # months: the index has no swings slower than this, as El Nino has none
NOISE_MEMORY = 0.5
INDEX_SD = 0.85  # kelvin, of the mean over Nino 3.4
NOISE_SD = 0.35  # kelvin
NOISE_LENGTH = 12.0  # degrees, e-folding of the spatial correlation of the noise
TREND = 0.012  # kelvin per year
ICE = -1.8  # degrees Celsius
EVENT = 0.5  # kelvin: a month above it belongs to an El Nino
FLAVOURS = {"east_pacific": 250.0, "central_pacific": 205.0}  # degrees east of the warmest water


@dataclass(frozen=True)
class Sample:
    """The made-up record: temperature (month, lat, lon) in degrees Celsius, NaN on land, and what is in it."""

    temperature: np.ndarray
    index: np.ndarray
    flavour: np.ndarray

    @property
    def months(self) -> np.ndarray:
        """The first day of each month."""
        return np.arange(f"{FIRST_YEAR}-01", f"{LAST_YEAR + 1}-01", dtype="datetime64[M]")


def make_sample(seed: int = SEED) -> Sample:
    """Draw the record."""
    random = np.random.default_rng(seed)
    count = 12 * (LAST_YEAR - FIRST_YEAR + 1)
    index = INDEX_SD * without_slow_swings(autoregressive(random.standard_normal(count), MEMORY))
    flavour = draw_flavours(index, random)
    patterns = np.stack([event_pattern(center) for center in FLAVOURS.values()])
    noise = NOISE_SD * autoregressive(smooth_noise(count, random), NOISE_MEMORY)
    years = np.arange(count) / 12
    anomaly = index[:, None, None] * patterns[flavour] + noise + TREND * (years - years.mean())[:, None, None]
    temperature = np.maximum(annual_cycle(count) + anomaly, ICE)
    temperature[:, on_land(LAT, LON)] = np.nan
    return Sample(temperature, index, flavour)


def autoregressive(shocks: np.ndarray, memory: float) -> np.ndarray:
    """A first-order autoregressive series of unit variance along the first axis, from white noise of unit variance."""
    series = shocks.copy()
    for month in range(1, len(series)):
        series[month] = memory * series[month - 1] + np.sqrt(1 - memory**2) * shocks[month]
    return series


def without_slow_swings(series: np.ndarray) -> np.ndarray:
    """The series minus its running mean, of unit variance again: a trend fitted to a part of it holds for the rest."""
    window = np.ones(SLOWEST)
    mean = np.convolve(series, window, "same") / np.convolve(np.ones_like(series), window, "same")
    return (series - mean) / (series - mean).std()


def draw_flavours(index: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """The flavour (0 or 1) of each month, drawn anew when the index changes sign: an event keeps its own."""
    spell = np.concatenate([[0], np.cumsum(np.diff(np.sign(index)) != 0)])
    return random.integers(0, len(FLAVOURS), spell[-1] + 1)[spell]


def event_pattern(center: float) -> np.ndarray:
    """Warm water around ``center`` on the equator, weak cold water west of it; its mean over Nino 3.4 is 1."""
    east = (LON - center + 180) % 360 - 180
    warm = np.exp(-((LAT[:, None] / 11) ** 2) - (east / np.where(east < 0, 48, 24)) ** 2)
    west = (LON - (center - 75) + 180) % 360 - 180
    cold = np.exp(-((LAT[:, None] / 16) ** 2) - (west / 18) ** 2)
    pattern = warm - 0.25 * cold
    nino34 = np.ix_(np.abs(LAT) <= 5, (LON >= 190) & (LON <= 240))
    return pattern / pattern[nino34].mean()


def smooth_noise(count: int, random: np.random.Generator) -> np.ndarray:
    """Noise (month, lat, lon) of unit variance, smooth over about ``NOISE_LENGTH`` degrees, round the globe."""
    noise = random.standard_normal((count, len(LAT), len(LON)))
    around = np.minimum(np.abs(LON[:, None] - LON), 360 - np.abs(LON[:, None] - LON))
    for axis, distance in ((1, np.abs(LAT[:, None] - LAT)), (2, around)):
        weights = np.exp(-((distance / NOISE_LENGTH) ** 2))
        weights /= np.sqrt(np.square(weights).sum(axis=1, keepdims=True))
        noise = np.moveaxis(np.tensordot(weights, noise, axes=(1, axis)), 0, axis)
    return noise


def annual_cycle(count: int) -> np.ndarray:
    """Temperature of each month (month, lat, lon) with a cold tongue in the Pacific, warmest in August in the north."""
    tongue = np.exp(-((LAT[:, None] / 8) ** 2) - ((LON - 265) / 40) ** 2)
    mean = 28 - 31 * np.sin(np.deg2rad(LAT))[:, None] ** 2 - 4 * tongue
    swing = 4.5 * np.sin(np.deg2rad(2 * LAT)) + 0.5 * np.sin(np.deg2rad(LAT))
    season = np.cos(2 * np.pi * (np.arange(count) % 12 - 7.5) / 12)
    return mean + (swing * season[:, None])[:, :, None]


def write_fields(sample: Sample, folder: Path, made_by: str) -> list[Path]:
    """Write the temperatures in a few NetCDF files, whose title says what they are ``made_by``; their paths."""
    paths = []
    for first, last in FILES:
        years = sample.months.astype("datetime64[Y]").astype(int) + 1970
        chosen = (years >= first) & (years <= last)
        paths.append(folder / f"sst_{first}-{last}.nc")
        part = paths[-1].with_suffix(".part")  # a program may have the old file open
        write_netcdf(part, sample.temperature[chosen], sample.months[chosen], made_by)
        part.replace(paths[-1])
    return paths


def write_flavours(sample: Sample, path: Path) -> None:
    """Write the flavours of the El Nino months as CSV."""
    names = list(FLAVOURS)
    with path.open("w", newline="", encoding="utf-8") as stream:
        table = csv.writer(stream, lineterminator="\n")
        table.writerow(["time", "flavour"])
        for month, value, flavour in zip(sample.months, sample.index, sample.flavour):
            if value > EVENT:
                table.writerow([f"{month}-01", names[flavour]])


def write_netcdf(path: Path, temperature: np.ndarray, months: np.ndarray, made_by: str) -> None:
    """One file: temperature in steps of 0.01 degC as 16-bit integers, fill value on land."""
    with netCDF4.Dataset(path, "w", format="NETCDF4") as file:
        file.Conventions = "CF-1.8"
        file.title = f"Synthetic monthly sea surface temperature, made by {made_by}; not measured"
        for name, values in (("time", months), ("lat", LAT), ("lon", LON)):
            file.createDimension(name, len(values))
        time = file.createVariable("time", "i4", ("time",))
        time.setncatts({"standard_name": "time", "units": "days since 1800-01-01", "calendar": "standard", "axis": "T"})
        time[:] = (months.astype("datetime64[D]") - np.datetime64("1800-01-01")).astype(int)
        lat = file.createVariable("lat", "f4", ("lat",))
        lat.setncatts({"standard_name": "latitude", "units": "degrees_north", "axis": "Y"})
        lat[:] = LAT
        lon = file.createVariable("lon", "f4", ("lon",))
        lon.setncatts({"standard_name": "longitude", "units": "degrees_east", "axis": "X"})
        lon[:] = LON
        sst = file.createVariable(
            "sst", "i2", ("time", "lat", "lon"), zlib=True, complevel=9, shuffle=True, fill_value=-32768
        )
        sst.setncatts(
            {
                "standard_name": "sea_surface_temperature",
                "long_name": "sea surface temperature",
                "units": "degC",
                "scale_factor": 0.01,
                "cell_methods": "time: mean",
            }
        )
        sst[:] = np.ma.array(np.nan_to_num(temperature), mask=np.isnan(temperature))
