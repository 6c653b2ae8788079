"""Where relevance is: shares of regions beside those of evenly spread relevance, and centroids."""

from __future__ import annotations

import numpy as np
import xarray as xr


def region_shares(relevance: xr.DataArray, region: xr.DataArray, area: xr.DataArray) -> xr.Dataset:
    """The share of |relevance| inside a region, beside the region's shares of valid cells and of their area.

    Parameters
    ----------
    relevance
        Maps with any leading dims, ``channel`` if there is one, and horizontal dims with ``lat`` and ``lon``; NaN
        in cells that are not valid. Its sum is not weighted by area: relevance belongs to inputs, not to square
        metres.
    region
        The share of every cell inside the region, from 0 to 1, over the horizontal dims; or a boolean. Relevance and
        area of a cell on an edge count in proportion to the part inside, as in ``geoxai.grid.area.region_mean``.
    area
        Area of the cells over the horizontal dims (any unit).

    Returns
    -------
    ``relevance_share``; ``cell_share``, the share of valid cells, which relevance spread evenly over inputs would have;
    ``area_share``, the share of valid area. All over the leading dims, NaN where there is no relevance at all.
    """
    dims = _cell_dims(relevance)
    size = abs(relevance)
    valid = relevance.notnull()
    shares = {
        "relevance_share": (size * region).sum(dims) / size.sum(dims),
        "cell_share": (valid * region).sum(dims) / valid.sum(dims),
        "area_share": (area.where(valid) * region).sum(dims) / area.where(valid).sum(dims),
    }
    return xr.Dataset(shares)


def centroid_longitude(relevance: xr.DataArray, region: xr.DataArray | None = None) -> xr.DataArray:
    """Circular mean longitude weighted by |relevance|, in the longitude convention of the maps (degrees east).

    With a ``region`` (see ``region_shares``) a cell counts with its part inside.

    The angle of sum |R| exp(i lon): a pattern across the date line or Greenwich has its centroid in its middle.
    NaN where there is no relevance, or equally much on every side of the Earth.
    """
    weight = abs(relevance) if region is None else abs(relevance) * region
    lon, dims = relevance["lon"].astype(np.float64), _cell_dims(relevance)
    angle = lon * (np.pi / 180)
    east, north = (weight * np.cos(angle)).sum(dims), (weight * np.sin(angle)).sum(dims)
    degrees = xr.apply_ufunc(np.arctan2, north, east) * (180 / np.pi)
    degrees = degrees % 360.0 if float(lon.min()) >= 0 else degrees
    found = (east**2 + north**2) ** 0.5 > 1e-12 * weight.sum(dims)
    return degrees.where(found).assign_attrs(
        units="degrees_east", long_name="relevance-weighted circular mean longitude"
    )


def summary_of_maps(mean: xr.DataArray, regions: dict[str, xr.DataArray], area: xr.DataArray) -> xr.Dataset:
    """Shares and centroids of composite maps ``([network,] class, channel, ...)``, all channels together.

    Variables over the leading dims: ``centroid_longitude``; ``channel_share`` (with ``channel``) if there are
    several; and, if regions are given, over ``region``: ``relevance_share``, ``cell_share``, ``area_share`` and
    ``centroid_longitude_inside``.
    """
    numbers = xr.Dataset({"centroid_longitude": centroid_longitude(mean)})
    if mean.sizes["channel"] > 1:
        size = abs(mean).sum(area.dims)
        numbers["channel_share"] = size / size.sum("channel")
    if regions:
        found = [
            region_shares(mean, mask, area).assign(centroid_longitude_inside=centroid_longitude(mean, mask))
            for mask in regions.values()
        ]
        names = xr.DataArray(np.array(list(regions), dtype=object), dims="region", name="region")
        shares = xr.concat(found, names)
        for name in ("cell_share", "area_share"):  # properties of the grid, equal for all networks
            shares[name] = shares[name].max("network") if "network" in shares[name].dims else shares[name]
        numbers = numbers.merge(shares)
    return numbers.drop_vars([name for name in numbers.coords if name not in numbers.dims])


def _cell_dims(relevance: xr.DataArray) -> list[str]:
    """The dims of one map: ``channel``, if there is one, and the horizontal ones."""
    horizontal = (*relevance["lat"].dims, *relevance["lon"].dims)
    return [str(dim) for dim in relevance.dims if dim == "channel" or dim in horizontal]
