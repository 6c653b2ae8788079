"""Run as a script in a separate process: read everything in an HDF5 file and write it to a new one.

``python hdf5_child.py SOURCE TARGET``. Damage makes the HDF5 library hang or crash; here that does no harm. It
imports nothing of geoxai, so that it starts at once.
"""

import sys
from contextlib import suppress

import h5py

MEMORY = 16 * 2**30  # of address space: damaged sizes request more


def copy_group(source: h5py.Group, target: h5py.Group, seen: set) -> None:
    """Copy attributes, datasets and groups; links out of the file are left out."""
    copy_attributes(source, target)
    for name in source:
        if not isinstance(source.get(name, getlink=True), h5py.HardLink):
            continue
        item = source[name]
        if isinstance(item, h5py.Group):
            place = h5py.h5o.get_info(item.id).addr
            if place in seen:
                raise ValueError(f"{item.name} contains itself")
            copy_group(item, target.create_group(name), seen | {place})
        elif isinstance(item, h5py.Dataset):
            copy_attributes(item, target.create_dataset(name, data=item[()], dtype=item.dtype))


def copy_attributes(source: h5py.HLObject, target: h5py.HLObject) -> None:
    for name in source.attrs:
        if name in ("model_config", "training_config"):
            target.attrs[name] = source.attrs[name]  # text that is too long for a header: as h5py writes it
        else:
            target.attrs.create(name, source.attrs[name])


if __name__ == "__main__":
    with suppress(ImportError):  # Windows has no limits
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    with h5py.File(sys.argv[1], "r") as old, h5py.File(sys.argv[2], "w") as new:
        try:
            copy_group(old, new, {h5py.h5o.get_info(old.id).addr})
        except Exception as error:
            sys.exit(" ".join(str(error).split()) or type(error).__name__)
