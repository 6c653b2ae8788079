"""``select.pixels``: which output pixels of an image-to-image network are worth explaining, sample by sample."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from pydantic import Field, field_validator

from geoxai.errors import OptionError
from geoxai.names import unknown
from geoxai.stages.options import Chunk
from geoxai.stages.predict import sample_block
from geoxai.stages.stage import Context, Layout, Reference, Stage, StoredStage

if TYPE_CHECKING:
    import numpy as np
    import xarray as xr

log = logging.getLogger("geoxai.pixels")

ABOUT = {
    "row": "row of the pixel on the grid of the samples, -1 where there is none",
    "column": "column of the pixel on the grid of the samples, -1 where there is none",
}


class SelectPixels(StoredStage):
    """The highest (or lowest) pixels of each predicted image, for `explain` with `target: {pixels: <this stage>}`.

    Of the pixels where the condition `where` holds, those with the largest value of `by` are taken, best first, at
    least `separation` from each other and `border` from the edge. Where a sample has too few, the rest are -1, and
    their relevance is missing.
    """

    use: ClassVar[str] = "select.pixels"
    gives: ClassVar[str] = "pixels"
    libraries: ClassVar[tuple[str, ...]] = ("grid", "models", "readers", "statistics")
    example: ClassVar[str] = """\
images: {use: samples, inputs: [pacific], image: pacific, split: {train: [1951, 1985], test: [1987, 2022]}}
unet: {use: train, from: images, architecture: {unet: {filters: [4, 8]}}, epochs: 2}
predicted_images: {use: predict, from: images, model: unet}
warmest: {use: select.pixels, from: predicted_images, samples: images, count: 2, separation: 4}"""

    from_: Annotated[str | None, Reference("prediction", nearest=True)] = Field(
        None, alias="from", description="Predicted images."
    )
    samples: Annotated[str | None, Reference("samples", nearest=True)] = Field(
        None, description="Samples with the true images, for conditions and differences."
    )
    by: Literal["prediction", "target", "difference", "absolute_difference"] = Field(
        "prediction", description="What is compared; differences are prediction minus target (the true image)."
    )
    order: Literal["highest", "lowest"] = Field("highest", description="Whether to take the highest or the lowest.")
    where: str | None = Field(
        None,
        description="Condition on a pixel: comparisons of `prediction`, `target` and the samples' coordinates, such as "
        "`prediction > 35 and target > 35`.",
    )
    channel: str | None = Field(None, description="Channel of the images, by name; needed where there are several.")
    count: int = Field(1, ge=1, description="Pixels per sample.")
    separation: float = Field(0, ge=0, description="Smallest distance between pixels of one sample, in cells.")
    border: int = Field(0, ge=0, description="Smallest number of cells between a pixel and the border.")
    chunk: Chunk = Field("auto", description="Samples in one unit of work; auto: about 16 MiB.")

    @field_validator("where")
    @classmethod
    def _condition_read(cls, where: str | None) -> str | None:
        from geoxai.statistics.conditions import parse_condition

        if where is not None:
            parse_condition(where)
        return where

    def layout(self, context: Context) -> Layout:
        import dask.array
        import numpy as np

        fields = self._fields(context, slice(0, 1))
        prediction = context.sources["from"]["prediction"]
        height, width = fields["prediction"].shape[-2:]
        if 2 * self.border >= min(height, width):
            raise OptionError(f"no pixel of {height} x {width} is {self.border} from the border", option="border")
        template = prediction.coords.to_dataset().drop_dims(
            [dim for dim in prediction.dims if dim not in ("network", "sample")], errors="ignore"
        )
        template = template.compute().assign_coords(
            pixel=("pixel", np.arange(self.count), {"long_name": "rank of the pixel, 0 the first"})
        )
        dims = [*(d for d in prediction.dims if d == "network"), "sample", "pixel"]
        shape = [self.count if d == "pixel" else prediction.sizes[d] for d in dims]
        for name, text in ABOUT.items():
            template[name] = (dims, dask.array.zeros(shape, dtype=np.int32, chunks=-1), {"long_name": text})
        about = {"long_name": f"{self.by.replace('_', ' ')} at the pixel"}
        template["value"] = (dims, dask.array.zeros(shape, dtype=np.float32, chunks=-1), about)
        for name in ("lat", "lon"):
            attrs = {"long_name": f"{name} of the pixel", **prediction[name].attrs}
            template[f"pixel_{name}"] = (dims, dask.array.zeros(shape, dtype=np.float64, chunks=-1), attrs)
        return Layout(
            template, "sample", sample_block(prediction.isel(network=0, missing_dims="ignore"), self.chunk, 1)
        )

    def compute(self, context: Context, start: int, stop: int) -> xr.Dataset:
        import numpy as np
        import xarray as xr

        fields = self._fields(context, slice(start, stop))
        prediction = fields["prediction"]
        score = self._score(fields)
        allowed = self._allowed(context, fields, slice(start, stop))
        members = [self._pick(score, allowed, n) for n in range(prediction.sizes.get("network", 1))]
        several = "network" in prediction.dims
        dims = (*(("network",) if several else ()), "sample", "pixel")
        arrays = {name: np.stack([m[name] for m in members]) for name in members[0]}
        return xr.Dataset({name: (dims, a if several else a[0]) for name, a in arrays.items()})

    def summarise(self, context: Context, result: xr.Dataset) -> None:
        """No numbers; warns where there is nothing to explain."""
        if int(result["row"].max()) < 0:
            met = f" meets where: {self.where}" if self.where else " can be taken"
            log.warning("%s: no pixel of any sample%s", context.stage, met)

    def _pick(self, score: xr.DataArray, allowed: xr.DataArray, network: int) -> dict[str, np.ndarray]:
        """Pixels of one network's images."""
        import numpy as np
        import xarray as xr

        from geoxai.statistics.pixels import top_pixels

        score, allowed = (a.isel(network=network, missing_dims="ignore") for a in (score, allowed))
        values = score.values if self.order == "highest" else -score.values
        found = top_pixels(values, allowed.values, self.count, self.separation, self.border)
        there = found[..., 0] >= 0
        rows, columns = np.maximum(found[..., 0], 0), np.maximum(found[..., 1], 0)
        plane = score.isel(sample=0)
        lat, lon = (xr.broadcast(plane[name], plane)[0].transpose(*plane.dims).values for name in ("lat", "lon"))
        picked = score.values[np.arange(len(rows))[:, None], rows, columns]
        return {
            "row": found[..., 0].astype(np.int32),
            "column": found[..., 1].astype(np.int32),
            "value": np.where(there, picked, np.nan).astype(np.float32),
            "pixel_lat": np.where(there, lat[rows, columns], np.nan).astype(np.float64),
            "pixel_lon": np.where(there, lon[rows, columns], np.nan).astype(np.float64),
        }

    def _fields(self, context: Context, rows: slice) -> dict[str, xr.DataArray]:
        """Images of one channel in memory: ``prediction`` and, where the samples have them, ``target``."""
        found = context.sources["from"]
        if "target_channel" not in found["prediction"].dims:
            raise OptionError("the predictions are not images", fix="pixels are for image networks", option="from")
        fields = {"prediction": self._one_channel(found["prediction"]).isel(sample=rows).load()}
        samples = self._samples(context)
        if samples is not None and "target_channel" in samples.get("target", found["sample"]).dims:
            if samples.sizes["sample"] != found.sizes["sample"]:
                raise OptionError("the predictions were not computed from these samples", option="samples")
            truth = self._one_channel(samples["target"]).isel(sample=rows).load()
            fields["target"] = truth.drop_vars("target_channel", errors="ignore")
        needed = self.by != "prediction" and "target" not in fields
        if needed:
            raise OptionError(f"by {self.by!r} needs samples with true images", option="by")
        return fields

    @staticmethod
    def _samples(context: Context) -> xr.Dataset | None:
        """The samples, with images by the names of dims that one input has."""
        from geoxai.grid.several import parts

        samples = context.sources.get("samples")
        return None if samples is None else next(iter(parts(samples).values()))

    def _one_channel(self, images: xr.DataArray) -> xr.DataArray:
        names = [str(name) for name in images["target_channel"].values]
        if self.channel is None and len(names) > 1:
            raise OptionError(f"the images have channels {', '.join(names)}", fix="name one", option="channel")
        if self.channel is not None and self.channel not in names:
            raise OptionError(unknown("channel", self.channel, names), option="channel")
        number = 0 if self.channel is None else names.index(self.channel)
        return images.isel(target_channel=number, drop=True)

    def _score(self, fields: dict[str, xr.DataArray]) -> xr.DataArray:
        prediction = fields["prediction"]
        if self.by == "prediction":
            return prediction
        target = prediction.copy(data=prediction.values * 0 + fields["target"].values)
        if self.by == "target":
            return target
        difference = prediction - target
        return abs(difference) if self.by == "absolute_difference" else difference

    def _allowed(self, context: Context, fields: dict[str, xr.DataArray], rows: slice) -> xr.DataArray:
        import xarray as xr

        from geoxai.statistics.conditions import evaluate, parse_condition

        prediction = fields["prediction"]
        if self.where is None:
            return xr.ones_like(prediction, dtype=bool)
        samples = self._samples(context)
        beside = {} if samples is None else {n: v for n, v in samples.variables.items() if v.dims == ("sample",)}
        coords = {name: prediction[name] for name in prediction.coords}
        known = {str(n): xr.DataArray(v.isel(sample=rows).load()) for n, v in beside.items()} | coords | fields
        plain = {str(name): array.drop_vars(array.coords) for name, array in known.items()}
        try:
            where = evaluate(parse_condition(self.where), plain)
        except OptionError as error:
            raise OptionError(error.message, fix=error.fix, option="where") from None
        return where.broadcast_like(prediction.drop_vars(prediction.coords)).transpose(*prediction.dims)


STAGES: tuple[type[Stage], ...] = (SelectPixels,)
