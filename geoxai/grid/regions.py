"""Named boxes of the field, boxes across 0 and 180 degrees, and masks of them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import xarray as xr

from geoxai.errors import OptionError
from geoxai.grid.coordinates import Gridded, longitude_convention, require_rectilinear, with_longitudes
from geoxai.names import unknown

# A cell centre this close to an edge (degrees) lies on it: single-precision coordinates are off by less.
EDGE = 1e-4


@dataclass(frozen=True)
class Region:
    """A box in degrees: south to north, and west eastwards to east (either convention, across any seam)."""

    lat: tuple[float, float]
    lon: tuple[float, float]
    title: str = ""
    source: str = ""


_CPC = "NOAA Climate Prediction Center, SST index regions"
_SAJI = "Saji et al. 1999, Nature 401, 360"
_CONVENTION = "convention of geoxai"

REGIONS: dict[str, Region] = {
    "nino12": Region((-10, 0), (-90, -80), "Nino 1+2", _CPC),
    "nino3": Region((-5, 5), (-150, -90), "Nino 3", _CPC),
    "nino34": Region((-5, 5), (-170, -120), "Nino 3.4", _CPC),
    "nino4": Region((-5, 5), (160, -150), "Nino 4", _CPC),
    "tropical_pacific": Region((-20, 20), (120, -80), "tropical Pacific", _CONVENTION),
    "north_pacific": Region((20, 65), (120, -100), "North Pacific", _CONVENTION),
    "tropics": Region((-20, 20), (-180, 180), "tropics", _CONVENTION),
    "northern_extratropics": Region((20, 90), (-180, 180), "northern extratropics", _CONVENTION),
    "southern_extratropics": Region((-90, -20), (-180, 180), "southern extratropics", _CONVENTION),
    "arctic": Region((66.5, 90), (-180, 180), "Arctic", "polar circle"),
    "north_atlantic": Region((0, 60), (-80, 0), "North Atlantic", "AMO index of Trenberth and Shea 2006, GRL 33"),
    "tropical_atlantic": Region((-20, 20), (-60, 15), "tropical Atlantic", _CONVENTION),
    "iod_west": Region((-10, 10), (50, 70), "Indian Ocean dipole, western box", _SAJI),
    "iod_east": Region((-10, 0), (90, 110), "Indian Ocean dipole, eastern box", _SAJI),
    "tropical_indian": Region((-20, 20), (40, 100), "tropical Indian Ocean", _CONVENTION),
    "north_america": Region((15, 72), (-170, -50), "North America", _CONVENTION),
    "europe": Region((35, 72), (-25, 45), "Europe", _CONVENTION),
    "global": Region((-90, 90), (-180, 180), "globe", ""),
}


def region(name: str) -> Region:
    """The region of a name; spelling differences such as ``Nino 3.4`` or ``nino3.4`` are forgiven."""
    plain = name.lower().replace("ñ", "n").replace("+", "").replace(".", "").replace("-", "_")
    for key in (plain.replace(" ", "_"), plain.replace(" ", "").replace("_", "")):
        if key in REGIONS:
            return REGIONS[key]
    raise OptionError(unknown("region", name, REGIONS), option="region")


def select_box(obj: Gridded, lat: tuple[float, float] | None = None, lon: tuple[float, float] | None = None) -> Gridded:
    """The cells whose centres lie in a closed box.

    Parameters
    ----------
    obj
        Rectilinear grid.
    lat
        South and north edge in degrees, or None for all rows. The direction of the file is kept.
    lon
        West and east edge in degrees, either convention, going eastwards: ``(170, -120)`` crosses 180, ``(-20, 30)``
        crosses 0; 360 or more apart, or None, means all columns. Where the box crosses the seam of the file its
        columns come in one piece from west to east, and their longitudes run on without a jump (-30 to 30 from a
        0..360 file, 120 to 280 from a -180..180 file); otherwise order and values are those of the file.

    No value changes. Raises ``OptionError`` for ``lat`` or ``lon`` where the box holds no cell.
    """
    require_rectilinear(obj, "a box")
    if lat is not None:
        obj = _select_rows(obj, *lat)
    if lon is not None and lon[1] - lon[0] < 360:
        obj = _select_columns(obj, *lon)
    return obj


def _select_rows(obj: Gridded, south: float, north: float) -> Gridded:
    if south > north:
        raise OptionError(f"latitudes {south:g} to {north:g} run from north to south; give south first", option="lat")
    values = obj["lat"].values
    inside = (values >= south - EDGE) & (values <= north + EDGE)
    if not inside.any():
        raise OptionError(
            f"no row between {south:g} and {north:g} degrees north: the grid has {values.min():g} to {values.max():g}",
            option="lat",
        )
    return obj if inside.all() else obj.isel(lat=np.flatnonzero(inside))


def _select_columns(obj: Gridded, west: float, east: float) -> Gridded:
    values = obj["lon"].values
    eastward = _eastward(values, west)
    columns = np.flatnonzero(eastward <= (east - west) % 360 + EDGE)
    if not columns.size:
        raise OptionError(
            f"no column from {west:g} eastwards to {east:g} degrees: the grid has {values.min():g} to {values.max():g}",
            option="lon",
        )
    steps = np.diff(eastward[columns])
    if (steps > 0).all() or (steps < 0).all():
        return obj if columns.size == values.size else obj.isel(lon=columns)
    columns = columns[np.argsort(eastward[columns], kind="stable")]
    first = float(values[columns[0]])
    if longitude_convention(values) == "0..360":
        first -= 360 * (first >= 180)
    longitudes = np.round(first + eastward[columns] - eastward[columns[0]], 10)
    return with_longitudes(obj.isel(lon=columns), longitudes)


def _eastward(lon: np.ndarray, west: float) -> np.ndarray:
    """Degrees east of ``west``, in [0, 360), a hair west of it counting as 0."""
    distance = np.mod(lon.astype(float) - west, 360)
    return np.where(distance > 360 - EDGE, 0.0, distance)


def region_mask(obj: xr.DataArray | xr.Dataset, box: Region | str) -> xr.DataArray:
    """True where a cell's centre lies in the box; dims those of ``lat`` and ``lon``, one- or two-dimensional."""
    box = region(box) if isinstance(box, str) else box
    lat, lon = obj["lat"], obj["lon"]
    rows = (lat >= box.lat[0] - EDGE) & (lat <= box.lat[1] + EDGE)
    if box.lon[1] - box.lon[0] >= 360:
        columns = xr.ones_like(lon, dtype=bool)
    else:
        east = lon.copy(data=_eastward(lon.values, box.lon[0]))
        columns = east <= (box.lon[1] - box.lon[0]) % 360 + EDGE
    return (rows & columns).rename("region")
