"""The section of restart markers: where in a JPEG each row of MCUs begins."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

VERSION = 1
HEADER = np.dtype([("version", "<u4"), ("reserved", "<u4"), ("count", "<u8")])
"""Then follow: u8 [count] file pointers of JPEG allocations, rising; u8 [count + 1]: JPEG i has the entries first[i] to
first[i + 1] of u4 [first[count]]: where in the JPEG's bytes the entropy-coded data of each row of MCUs begin."""


@dataclass(frozen=True)
class RestartIndex:
    """The content of the section.

    Attributes:
        pointers: uint64 [n], rising: the JPEGs' allocations.
        first: uint64 [n + 1]: where each JPEG's rows begin in `offsets`.
        offsets: uint32: in bytes from the start of the JPEG, rising for each.
    """

    pointers: NDArray[np.uint64]
    first: NDArray[np.uint64]
    offsets: NDArray[np.uint32]

    @staticmethod
    def from_rows(rows: Sequence[tuple[int, NDArray[np.uint32]]]) -> RestartIndex:
        """From (file pointer, offsets of its rows) of every JPEG, in the order of the file."""
        first = np.zeros(len(rows) + 1, dtype=np.uint64)
        np.cumsum([len(offsets) for _, offsets in rows], out=first[1:])
        pointers = np.array([pointer for pointer, _ in rows], dtype=np.uint64)
        return RestartIndex(pointers, first, np.concatenate([offsets for _, offsets in rows]))

    def to_bytes(self) -> bytes:
        header = np.array((VERSION, 0, len(self.pointers)), dtype=HEADER)
        columns = (self.pointers.astype("<u8"), self.first.astype("<u8"), self.offsets.astype("<u4"))
        return header.tobytes() + b"".join(column.tobytes() for column in columns)

    @staticmethod
    def from_bytes(content: NDArray[np.uint8]) -> RestartIndex | None:
        """Reads the section (uint8 [size], kept as it is); None for a version of the future.

        Raises:
            ValueError: The section is damaged.
        """
        if content.size < HEADER.itemsize:
            raise ValueError(f"the section of restart markers has only {content.size} bytes")
        header = content[: HEADER.itemsize].view(HEADER)[0]
        if header["version"] != VERSION:
            return None
        count = int(header["count"])
        if 16 * count + 8 > content.size - HEADER.itemsize:
            raise ValueError(f"the section of restart markers has {content.size} bytes for {count} images")
        pointers, first, offsets = np.split(content[HEADER.itemsize :], [8 * count, 16 * count + 8])
        if offsets.size % 4:
            raise ValueError("the section of restart markers ends in the middle of an entry")
        index = RestartIndex(pointers.view("<u8"), first.view("<u8"), offsets.view("<u4"))
        rises = bool((index.first[1:] >= index.first[:-1]).all() and (index.pointers[1:] > index.pointers[:-1]).all())
        if not rises or index.first[0] != 0 or index.first[-1] != len(index.offsets):
            raise ValueError("the section of restart markers is not in order")
        return index

    def rows(self, pointer: int) -> NDArray[np.uint32] | None:
        """Where the rows of MCUs begin (uint32 [rows]) in the JPEG at `pointer`; None for one without an entry."""
        i = int(np.searchsorted(self.pointers, np.uint64(pointer)))
        if i == len(self.pointers) or self.pointers[i] != pointer:
            return None
        return self.offsets[int(self.first[i]) : int(self.first[i + 1])]
