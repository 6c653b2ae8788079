"""Make the coastlines that ship with geoxai from Natural Earth, as npm's world-atlas packs it.

    npm pack world-atlas@2.0.2
    python tools/vendor_coastlines.py world-atlas-2.0.2.tgz

writes ``geoxai/plotting/data/coast_110m.npz`` and ``coast_50m.npz``: ``points`` (point, 2) float32 degrees east and
north, ``lengths`` (line,) int32 points per line. See NOTICE for source and licence.
"""

from __future__ import annotations

import hashlib
import json
import sys
import tarfile
from pathlib import Path
from typing import Any

import numpy as np

SHA256 = "032e7765f2ce00edaeafec23ff22bc3b77e42987c257da944cc585b452c05b97"
TARGET = Path(__file__).resolve().parents[1] / "geoxai" / "plotting" / "data"
RESOLUTIONS = ("110m", "50m")


def coast_lines(topology: dict[str, Any]) -> list[np.ndarray]:
    """The arcs of a TopoJSON land topology as lines of (lon, lat).

    Land is closed along the date line and around the south pole in the source; those edges are not coast and are cut
    out, as is any step over more than 180 degrees of longitude.
    """
    lines = []
    for arc in topology["arcs"]:
        steps = np.cumsum(np.asarray(arc, dtype="float64"), axis=0)
        points = steps * topology["transform"]["scale"] + topology["transform"]["translate"]
        closing = (np.abs(np.abs(points[:, 0]) - 180) < 1e-3) | (np.abs(points[:, 1]) > 89.99)
        cut = (closing[:-1] & closing[1:]) | (np.abs(np.diff(points[:, 0])) > 180)
        lines += [piece for piece in np.split(points, np.flatnonzero(cut) + 1) if len(piece) > 1]
    return lines


def main(package: Path) -> None:
    """Write both resolutions from the npm package file."""
    found = hashlib.sha256(package.read_bytes()).hexdigest()
    if found != SHA256:
        sys.exit(f"{package} is not world-atlas 2.0.2: sha256 {found}, expected {SHA256}")
    TARGET.mkdir(parents=True, exist_ok=True)
    with tarfile.open(package) as archive:
        for resolution in RESOLUTIONS:
            member = archive.extractfile(f"package/land-{resolution}.json")
            assert member is not None
            lines = coast_lines(json.load(member))
            path = TARGET / f"coast_{resolution}.npz"
            np.savez_compressed(
                path,
                points=np.concatenate(lines).astype("float32"),
                lengths=np.array([len(line) for line in lines], dtype="int32"),
            )
            print(f"{path}: {len(lines)} lines, {sum(map(len, lines))} points, {path.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
