"""Bytes in memory of this process's own."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ffcv.memory_managers.base import MemoryContext, MemoryManager
from ffcv.pipeline.custom import StorageState
from ffcv.pipeline.owned import OwnedAllocations
from ffcv.pipeline.source import FileSource
from ffcv.reader import Reader


class ProcessCacheContext(MemoryContext):
    """One batch at a time: `start_batch(i)` reads all bytes of its samples, and `state` holds them until the next."""

    def __init__(self, owned: OwnedAllocations, source: FileSource, batches: Sequence[NDArray[np.int64]]) -> None:
        self._owned, self._source, self._batches = owned, source, batches
        self._state: StorageState | None = None

    def __exit__(self, *exception: object) -> None:
        self._state = None

    def start_batch(self, batch: int) -> None:
        """Reads the batch's bytes; earlier states stay as they are.

        Raises:
            IndexError: There is no such batch.
            FormatError: The bytes are not those that were written, or the file is not any more what was opened.
        """
        if not 0 <= batch < len(self._batches):
            raise IndexError(f"batch {batch} of an epoch of {len(self._batches)} batches")
        self._state = self._owned.of(self._batches[batch], self._source)
        self._source.check_open()

    @property
    def state(self) -> StorageState:
        if self._state is None:
            raise RuntimeError("no bytes have been read: call start_batch(0), inside the context")
        return self._state


class ProcessCacheManager(MemoryManager):
    """Reads the samples of each batch with pread, and compares them with the file's checksums, if it has any."""

    def __init__(self, reader: Reader) -> None:
        super().__init__(reader)
        self._owned = OwnedAllocations(reader)
        self._source = FileSource(reader)

    def schedule_epoch(self, batches: Sequence[Sequence[int]] | NDArray[np.integer]) -> ProcessCacheContext:
        """The context of these batches; begin each with `start_batch`.

        Args:
            batches: The indices of each batch's samples.

        Raises:
            IndexError: The file has no such sample.
            TypeError: They are no whole numbers, or no batches.
        """
        return ProcessCacheContext(self._owned, self._source, [self._checked(samples) for samples in batches])

    def _checked(self, samples: Sequence[int] | np.integer) -> NDArray[np.int64]:
        given = np.asarray(samples)
        if given.ndim != 1 or (given.size and not np.issubdtype(given.dtype, np.integer)):
            raise TypeError(f"batches must be sequences of sample indices, such as [[0, 1], [2, 3]], got {samples!r}")
        outside = given[(given < 0) | (given >= self.reader.num_samples)]
        if len(outside):
            raise IndexError(f"sample {outside[0]} of a file of {self.reader.num_samples}")
        return given.astype(np.int64)
