"""All bytes of a batch's samples, for decoders that users wrote: nobody else knows where their pointers are."""

from __future__ import annotations

import numpy as np

from ffcv.format import FIRST_SECTION_ID
from ffcv.pipeline.custom import StorageState
from ffcv.pipeline.source import Source
from ffcv.reader import Reader


class OwnedAllocations:
    """Looks up allocations by the sample that owns them.

    Args:
        reader: The open file.
    """

    def __init__(self, reader: Reader) -> None:
        table = reader.allocations
        table = table[table["sample_id"] < np.uint64(FIRST_SECTION_ID)]
        order = np.argsort(table["sample_id"], kind="stable")
        self._owners = table["sample_id"][order]
        self._pointers = table["ptr"][order]
        self._sizes = table["size"][order].astype(np.int64)

    def of(self, samples: np.ndarray, source: Source) -> StorageState:
        """The bytes of `samples` (int64 [B]), read into memory."""
        wanted = samples.astype(np.uint64)
        begins, ends = np.searchsorted(self._owners, wanted), np.searchsorted(self._owners, wanted, "right")
        rows = np.unique(np.concatenate([np.arange(b, e) for b, e in zip(begins, ends, strict=True)] or [[]]))
        rows = rows.astype(np.int64)
        rows = rows[np.lexsort((self._sizes[rows], self._pointers[rows]))]
        rows = rows[self._sizes[rows] > 0]
        pointers, sizes = self._pointers[rows], self._sizes[rows]
        starts = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
        data = np.empty(int(starts[-1]), np.uint8)
        for pointer, start, size in zip(pointers.tolist(), starts.tolist(), sizes.tolist(), strict=False):
            data[start : start + size] = source.read(pointer)
        return StorageState(data, pointers, starts[:-1], sizes)
