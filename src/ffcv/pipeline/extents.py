"""Sizes and checksums of allocations, kept in memory: a mapped table would end the process if its file shrank."""

from __future__ import annotations

import numpy as np

from ffcv.errors import FormatError
from ffcv.format import FIRST_SECTION_ID
from ffcv.reader import Reader


class Extents:
    """Looks allocations of samples up by where they begin; 16 to 20 bytes of memory for each.

    Args:
        reader: The open file.
    """

    def __init__(self, reader: Reader) -> None:
        self._path = reader.path
        table = reader.allocations
        rows = np.flatnonzero(table["sample_id"] < np.uint64(FIRST_SECTION_ID))
        pointers, sizes = table["ptr"][rows], table["size"][rows]
        if np.any(pointers[1:] <= pointers[:-1]):
            # Where an empty and a full one begin together, the full one comes last, and is found.
            order = np.lexsort((sizes, pointers))
            rows, pointers, sizes = rows[order], pointers[order], sizes[order]
        self._pointers, self._sizes = np.ascontiguousarray(pointers), np.ascontiguousarray(sizes)
        self._checksums = None if reader.checksums is None else reader.checksums.of(rows).astype(np.uint32)

    def of(self, pointers: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
        """The sizes (uint64 [B]) and CRC32C (uint32 [B]; None: not to be verified) of what begins at `pointers`.

        Raises:
            FormatError: Nothing begins at one of them.
        """
        rows = np.searchsorted(self._pointers, pointers, side="right") - 1
        found = rows >= 0
        found[found] = self._pointers[rows[found]] == pointers[found]
        if not found.all():
            raise FormatError(
                f"{self._path}: no allocation begins at byte {pointers[np.argmin(found)]}, where a sample points; the "
                "file is damaged: restore it from a copy or write it again with 'ffcv write'"
            )
        return self._sizes[rows], None if self._checksums is None else self._checksums[rows]
