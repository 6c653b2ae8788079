"""Make the sample data, which geoxai/synthetic.py draws.

    python data_samples/make.py [folder]

The same seed gives the same values everywhere.
"""

from __future__ import annotations

import sys
from pathlib import Path

from geoxai.synthetic import Sample, make_sample, write_fields, write_flavours


def write(sample: Sample, folder: Path) -> list[Path]:
    """Write the record in a few NetCDF files and the flavours of the El Nino months as CSV."""
    flavours = folder / "flavours.csv"
    write_flavours(sample, flavours)
    return [*write_fields(sample, folder, "geoxai/data_samples/make.py"), flavours]


def main(folder: Path) -> None:
    """Make all files in ``folder``."""
    for path in write(make_sample(), folder):
        print(f"{path}: {path.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent)
