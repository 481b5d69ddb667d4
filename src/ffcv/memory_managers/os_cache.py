"""Bytes from the operating system's cache."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ffcv.memory_managers.base import MemoryContext, MemoryManager
from ffcv.pipeline.custom import StorageState
from ffcv.reader import Reader


class OSCacheContext(MemoryContext):
    """The whole file. Its `state` exists from the first `with` on, and stays valid after it."""

    def __init__(self, reader: Reader) -> None:
        self._reader = reader
        self._state: StorageState | None = None

    def __enter__(self) -> OSCacheContext:
        if self._state is None:
            self._state = _whole_file(self._reader)
        self._reader.bytes.check_unchanged()
        return self

    @property
    def state(self) -> StorageState:
        if self._state is None:
            raise RuntimeError("the file is not mapped yet: enter the context first, with manager.schedule_epoch(...)")
        return self._state


class OSCacheManager(MemoryManager):
    """Reads from the file as it is mapped into memory, without copying and without comparing checksums.

    Reading ends the process with SIGBUS if the file has shrunk since `with` has been entered; `ProcessCacheManager`
    raises.

    Attributes:
        context: The one that every `schedule_epoch` gives.
    """

    def __init__(self, reader: Reader) -> None:
        super().__init__(reader)
        self.context = OSCacheContext(reader)

    def schedule_epoch(self, batches: Sequence[Sequence[int]] | NDArray[np.integer]) -> OSCacheContext:
        """The context of the whole file, whatever the batches.

        Raises (the context, when it is entered):
            FormatError: The file is not any more what was opened.
        """
        del batches
        return self.context


def _whole_file(reader: Reader) -> StorageState:
    """Every allocation that has bytes, where it lies; opening the file has checked their bounds."""
    table = reader.alloc_table
    table = table[table["size"] > 0]
    table = table[np.argsort(table["ptr"], kind="stable")]
    pointers = table["ptr"].astype(np.uint64)
    return StorageState(reader.data, pointers, pointers.view(np.int64), table["size"].astype(np.int64))
