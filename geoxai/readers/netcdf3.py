"""How long a classic NetCDF file must be.

The NetCDF library reads a classic (CDF-1, -2, -5) file that was cut short as if it ended in zeros, without an error.
The header says where every variable lies, so the length that the file must have is known.
Source: NetCDF Classic Format Specification (Unidata).
"""

from __future__ import annotations

import math
import struct
from pathlib import Path
from typing import BinaryIO

_TYPE_SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 4, 6: 8, 7: 1, 8: 2, 9: 4, 10: 8, 11: 8}
_STREAMING = 0xFFFFFFFF


class _Header:
    """Reads the numbers and names of a header in order; ``EOFError`` if the file ends inside it."""

    def __init__(self, file: BinaryIO, version: int):
        self.file = file
        self.count_format = ">Q" if version == 5 else ">I"
        self.offset_format = ">I" if version == 1 else ">Q"

    def bytes(self, count: int) -> bytes:
        data = self.file.read(count)
        if len(data) < count:
            raise EOFError
        return data

    def number(self, fmt: str) -> int:
        return int(struct.unpack(fmt, self.bytes(struct.calcsize(fmt)))[0])

    def count(self) -> int:
        return self.number(self.count_format)

    def skip_name(self) -> None:
        self.bytes(_padded(self.count()))

    def list_length(self) -> int:
        self.number(">I")  # the tag: dimension, attribute or variable
        return self.count()

    def skip_attributes(self) -> None:
        for _ in range(self.list_length()):
            self.skip_name()
            size = _TYPE_SIZES[self.number(">I")]
            self.bytes(_padded(size * self.count()))


def expected_size(path: Path) -> int | None:
    """The size in bytes that a classic NetCDF file must have according to its header.

    None if the file has another format or does not say how many records it has. Raises ``EOFError`` if the
    header itself is cut short or broken.
    """
    with path.open("rb") as file:
        magic = file.read(4)
        if magic[:3] != b"CDF" or magic[3:] not in (b"\x01", b"\x02", b"\x05"):
            return None
        header = _Header(file, magic[3])
        records = header.count()
        if records == _STREAMING:
            return None
        try:
            return _size(header, records)
        except (KeyError, IndexError, OverflowError, MemoryError) as error:
            raise EOFError from error


def _size(header: _Header, records: int) -> int:
    dims = []
    for _ in range(header.list_length()):
        header.skip_name()
        dims.append(header.count())  # 0 is the record dimension
    header.skip_attributes()
    fixed_end, slabs = 0, []
    for _ in range(header.list_length()):
        header.skip_name()
        shape = [dims[header.count()] for _ in range(header.count())]
        header.skip_attributes()
        item = _TYPE_SIZES[header.number(">I")]
        header.count()  # the stored size overflows for large variables, so it is computed from the shape
        begin = header.number(header.offset_format)
        if shape and shape[0] == 0:
            slabs.append((begin, item * math.prod(shape[1:])))
        else:
            fixed_end = max(fixed_end, begin + item * math.prod(shape))
    if not slabs or not records:
        return fixed_end
    # the records of all variables alternate, each padded to four bytes unless there is only one variable
    record = slabs[0][1] if len(slabs) == 1 else sum(_padded(size) for _, size in slabs)
    return max(fixed_end, *(begin + (records - 1) * record + size for begin, size in slabs))


def _padded(count: int) -> int:
    return -(-count // 4) * 4
