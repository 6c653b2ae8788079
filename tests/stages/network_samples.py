"""Small samples with a known answer, as a samples store holds them, for the tests of train, model and predict."""

import numpy as np
import torch
import xarray as xr
from torch import nn

from geoxai.stages.stage import Context

LAT = np.linspace(-50, 50, 6)
LON = np.arange(0, 360, 45.0)
MEAN, SD = np.array([20.0, 1000.0]), np.array([2.0, 50.0])
CLASSES = ("cold", "warm")


def samples(n=120, seed=0, split=True, kind="class", land=False):
    """Two channels on a global 6 x 8 grid.

    The class is the sign of the mean of channel sst over three cells; the value is that mean in kelvin about 280; the
    image is sst smoothed along longitude.
    """
    rng = np.random.default_rng(seed)
    inputs = rng.normal(size=(n, 2, LAT.size, LON.size)).astype(np.float32)
    signal = inputs[:, 0, 2, 3:6].mean(axis=1)
    if land:
        inputs[:, :, 0, :2] = 0
    numbers = np.repeat(np.array([0, 1, 2], np.int8), [n // 2, n // 4, n - n // 2 - n // 4])
    flags = {"flag_values": np.array([0, 1, 2], np.int8), "flag_meanings": "train validation test"}
    dataset = xr.Dataset(
        {
            "inputs": (("sample", "channel", "lat", "lon"), inputs),
            "scaling_mean": ("channel", MEAN),
            "scaling_sd": ("channel", SD),
        },
        coords={
            "sample": np.arange(n),
            "time": ("sample", np.datetime64("2000-01-01", "ns") + np.arange(n) * np.timedelta64(30, "D")),
            "channel": ["sst", "slp"],
            "units": ("channel", ["degC", "hPa"]),
            "lat": ("lat", LAT, {"units": "degrees_north"}),
            "lon": ("lon", LON, {"units": "degrees_east"}),
        },
    )
    if split:
        dataset = dataset.assign_coords(split=("sample", numbers, flags))
    if kind == "class":
        attrs = {"flag_values": np.array([0, 1], np.int16), "flag_meanings": " ".join(CLASSES)}
        dataset = dataset.assign_coords(label=("sample", (signal > 0).astype(np.int16), attrs))
    elif kind == "value":
        dataset["target"] = ("sample", 280 + 5 * signal.astype(np.float64), {"units": "K"})
    else:
        smooth = 40 + 3 * (inputs[:, :1] + np.roll(inputs[:, :1], 1, axis=-1))
        dataset["target"] = (("sample", "target_channel", "lat", "lon"), smooth, {"units": "dBZ"})
        dataset = dataset.assign_coords(target_channel=["refl"])
    return dataset


def stored(dataset, path):
    """The same from a Zarr store, lazy, as a stage opens it."""
    dataset = dataset.assign_coords({name: dataset[name].astype(object) for name in ("channel", "units")})
    dataset.to_zarr(path, mode="w", consolidated=False)
    return xr.open_zarr(path, consolidated=False)


def filled(stage, context, block=None):
    """What the pipeline makes of a stored stage: skeleton, layout, store, every unit, and what ``open`` gives."""
    stage.skeleton(context)
    layout = stage.layout(context)
    size, step = layout.template.sizes[layout.dim], block or layout.block
    parts = [stage.compute(context, s, min(s + step, size)) for s in range(0, size, step)]
    whole = xr.concat(parts, layout.dim, data_vars="all", coords="minimal", compat="override", join="override")
    assert set(whole.data_vars) == {name for name, v in layout.template.data_vars.items() if v.chunks is not None}
    template = layout.template.copy()
    for name in whole.data_vars:
        assert whole[name].dtype == template[name].dtype, name
        template[name] = template[name].copy(data=whole[name].transpose(*template[name].dims).values)
    strings = {name: c.astype(object) for name, c in template.coords.items() if c.dtype.kind == "U"}
    template.assign_coords(strings).to_zarr(context.store, mode="w", consolidated=False)
    return stage.open(context)


def context(tmp_path, name="stage", seed=0, fitted=None, **sources):
    """A context whose source ``from_`` is the option ``from``."""
    return Context(name, tmp_path, {key.rstrip("_"): value for key, value in sources.items()}, seed=seed, fitted=fitted)


class Signal(nn.Module):
    """Knows the answer: logits 0 for cold, and for warm the sum of a channel over some cells."""

    def __init__(self, channel=0, rows=(2,), columns=(3, 4, 5)):
        super().__init__()
        self.flatten = nn.Flatten()
        self.linear = nn.Linear(2 * LAT.size * LON.size, 2)
        weight = torch.zeros(2, 2, LAT.size, LON.size)
        for row in rows:
            for column in columns:
                weight[1, channel, row, column] = 1.0
        with torch.no_grad():
            self.linear.weight.copy_(weight.reshape(2, -1))
            self.linear.bias.zero_()

    def forward(self, x):
        return self.linear(self.flatten(x))
