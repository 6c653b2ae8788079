"""Small files of fields and labels, networks of several outputs or inputs, and the command line on them."""

from pathlib import Path

import numpy as np
import torch
import xarray as xr
from torch import nn
from typer.testing import CliRunner

from geoxai.cli import app

TIMES = xr.date_range("1990-01-01", periods=48, freq="MS")
GRIDS = {"coarse": (8, 12), "fine": (10, 18)}


def field(name: str, seed: int, grid: str = "coarse", units: str = "1") -> xr.DataArray:
    """Monthly noise, latitude from the north and longitude from the west."""
    height, width = GRIDS[grid]
    values = np.random.default_rng(seed).normal(size=(TIMES.size, height, width)).astype(np.float32)
    coords = {
        "time": TIMES,
        "lat": ("lat", np.linspace(70, -70, height), {"units": "degrees_north"}),
        "lon": ("lon", np.arange(-180, 180, 360 / width), {"units": "degrees_east"}),
    }
    return xr.DataArray(values, coords, ("time", "lat", "lon"), name, {"units": units})


def write_fields(folder: Path, **fields: xr.DataArray) -> None:
    """Each field as ``<name>.nc``, and ``labels.csv`` with a class and a value for every month."""
    for name, array in fields.items():
        array.to_netcdf(folder / f"{name}.nc")
    signs = np.nanmean(next(iter(fields.values())).values, axis=(1, 2))
    rows = [f"{time:%Y-%m},{'warm' if sign > 0 else 'cold'},{sign:.4f}" for time, sign in zip(TIMES, signs)]
    (folder / "labels.csv").write_text("\n".join(["time,class,value", *rows]) + "\n")


def geoxai_(*words: str | Path):
    """The command line in this process."""
    return CliRunner().invoke(app, [str(word) for word in words])


def store(run: Path, stage: str) -> xr.Dataset:
    return xr.open_zarr(run / f"{stage}.zarr", consolidated=False).load()


class Heads(nn.Module):
    """Classes, a value and images from one body: a dict, or a tuple of the value and a dict of the others."""

    def __init__(self, channels: int = 1, nested: bool = False):
        super().__init__()
        torch.manual_seed(3)
        self.body = nn.Conv2d(channels, 4, 3, padding=1)
        self.classes, self.value, self.image = nn.Linear(4, 2), nn.Linear(4, 1), nn.Conv2d(4, 1, 3, padding=1)
        self.nested = nested

    def forward(self, x):
        maps = torch.relu(self.body(x))
        means = maps.mean((2, 3))
        found = {"classes": self.classes(means), "value": self.value(means), "image": self.image(maps)}
        return (found.pop("value"), found) if self.nested else found


class Steps(nn.Module):
    """Two channels at each of three steps, of one input that is wanted from the south."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(5)
        self.maps = nn.Conv2d(1, 6, 3, padding=1)

    def forward(self, x):
        return self.maps(x).unflatten(1, (3, 2))


class Two(nn.Module):
    """Class logits and an image from two fields, which may lie on different grids: the image on that of the first."""

    def __init__(self, first: int = 1, second: int = 1, head: str = "classes"):
        super().__init__()
        torch.manual_seed(4)
        self.first, self.second = nn.Conv2d(first, 3, 3, padding=1), nn.Conv2d(second, 3, 3, padding=1)
        self.classes, self.image = nn.Linear(6, 2), nn.Conv2d(3, 1, 1)
        self.head = head

    def forward(self, a, b):
        a, b = torch.relu(self.first(a)), torch.relu(self.second(b))
        if self.head == "image":
            return self.image(a + b.mean((2, 3), keepdim=True))
        return self.classes(torch.cat([a.mean((2, 3)), b.mean((2, 3))], 1))


def area_inside(lat: np.ndarray, lon: np.ndarray, lats: tuple[float, float], lons: tuple[float, float]) -> np.ndarray:
    """The area, in any unit, of the part of every cell of an even grid that lies in a box."""
    height, width = abs(lat[1] - lat[0]) / 2, abs(lon[1] - lon[0]) / 2
    south, north = (np.sin(np.radians(np.clip(lat + side * height, *lats))) for side in (-1, 1))
    columns = sum(
        np.clip(np.minimum(lon + turn + width, lons[1]) - np.maximum(lon + turn - width, lons[0]), 0, None)
        for turn in (-360, 0, 360)
    )
    return np.outer(north - south, columns)
