"""Sizes and checksums of allocations, kept in memory: a mapped table would end the process if its file shrank."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from ffcv import _core
from ffcv.errors import FormatError
from ffcv.format import FIRST_SECTION_ID
from ffcv.reader import Reader


class Found(NamedTuple):
    """Allocations, in the order in which they were asked for."""

    rows: np.ndarray  # int64 [B]: their places in `Extents`
    sizes: np.ndarray  # uint64 [B]
    checksums: np.ndarray | None  # uint32 [B], CRC32C; None where there is nothing to compare with
    behind: np.ndarray | None  # uint64 [B]: how many bytes after each may be entry points; None where there are none


class Extents:
    """Looks allocations of samples up by where they begin; 16 to 21 bytes of memory for each.

    Of what costs next to nothing to decode, the checksum would be a tenth of the work, so `verified` remembers what has
    been compared. That is worth as much as the promise that the file is still the same one, which `FileSource.check`
    looks after. See docs/decisions/0005-checksums.md.

    Args:
        reader: The open file.

    Attributes:
        verified: bool [A]: the allocations whose bytes have been found to be those that were written.
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
        ends = np.array([reader.header["alloc_table_ptr"]], np.uint64)  # of the pages
        self._bounds = np.concatenate([pointers, ends])  # where each begins, and where what follows does
        self._pointers, self._sizes = self._bounds[:-1], np.ascontiguousarray(sizes)
        self._checksums = None if reader.checksums is None else reader.checksums.of(rows).astype(np.uint32)
        self.verified = np.zeros(len(rows), bool)
        self._largest_behind = np.uint64(reader.largest_entry_points)

    def of(self, pointers: np.ndarray) -> Found:
        """What begins at `pointers` (uint64 [B]).

        Raises:
            FormatError: Nothing begins at one of them.
        """
        rows, found = self._find(pointers)
        if np.count_nonzero(found) < len(found):
            raise FormatError(
                f"{self._path}: no allocation begins at byte {pointers[np.argmin(found)]}, where a sample points; the "
                "file is damaged: restore it from a copy or write it again with 'ffcv write'"
            )
        sizes = self._sizes[rows]
        return Found(
            rows,
            sizes,
            None if self._checksums is None else self._checksums[rows],
            self._behind(rows, pointers + sizes),
        )

    def _behind(self, rows: np.ndarray, ends: np.ndarray) -> np.ndarray | None:
        """The bytes from the `ends` of allocations to what follows, as far as they may be entry points."""
        if not self._largest_behind:
            return None
        return np.minimum(self._bounds[rows + 1] - ends, self._largest_behind)

    def begin_at(self, pointers: np.ndarray) -> np.ndarray:
        """bool [B]: whether something begins at each of `pointers` (uint64 [B])."""
        return self._find(pointers)[1]

    def _find(self, pointers: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """int64 [B], bool [B]: the rows, and whether they are what begins there."""
        rows = self._pointers.searchsorted(pointers, side="right") - 1
        return rows, (self._bounds[rows] == pointers) & (rows >= 0)

    def is_intact(self, found: Found, content: np.ndarray) -> bool:
        """Whether `content` (uint8 [size]) is what was written as the one allocation `found`; compared once."""
        if found.checksums is None or self.verified[found.rows[0]]:
            return True
        intact = _core.crc32c(content) == int(found.checksums[0])
        self.verified[found.rows[0]] = intact
        return intact
