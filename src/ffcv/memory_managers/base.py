"""What memory managers have in common."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ffcv.pipeline.compiler import Compiler
from ffcv.pipeline.custom import StorageState, memory_read
from ffcv.reader import Reader


class MemoryContext(ABC):
    """The bytes of one epoch; a context manager."""

    def __enter__(self) -> MemoryContext:
        return self

    def __exit__(self, *exception: object) -> None:
        return None

    @property
    @abstractmethod
    def state(self) -> StorageState:
        """What the function of `compile_reader` takes as its second argument: a tuple of arrays, which numba takes too.

        Raises:
            RuntimeError: There are no bytes yet; says what to call.
        """

    def start_batch(self, batch: int) -> None:
        """Says that batch number `batch` of the epoch, from 0, comes next; `state` may be another one afterwards."""
        del batch


class MemoryManager(ABC):
    """Gives the bytes of a file's allocations.

    Args:
        reader: The open file.

    Raises:
        TypeError: It is none.
    """

    def __init__(self, reader: Reader) -> None:
        if not isinstance(reader, Reader):
            raise TypeError(
                f"{type(self).__name__} is made of an open file, {type(self).__name__}(ffcv.reader.Reader(path)), "
                f"got {type(reader).__name__}"
            )
        self.reader = reader

    @abstractmethod
    def schedule_epoch(self, batches: Sequence[Sequence[int]] | NDArray[np.integer]) -> MemoryContext:
        """The context in which the bytes of `batches` (the samples' indices of each) can be read."""

    def compile_reader(self) -> Callable[[Any, Any], NDArray[np.uint8]]:
        """`read(address, state)`: the bytes that begin at `address` of the file, uint8 [size], read-only or not.

        With numba it is compiled, and can be called by decoders that are compiled as well. Values that are empty have
        no bytes, and addresses without meaning: do not ask for them. `read` raises IndexError where nothing that
        `state` holds begins at `address`.
        """
        find = Compiler.compile(memory_read)

        def read(address: Any, state: Any) -> Any:
            content = find(address, state)
            if len(content) == 0:
                raise IndexError(
                    f"no bytes begin at address {address}: take a pointer of the metadata, of a value that is not "
                    "empty; ProcessCacheManager has those of the samples of the batch that was started"
                )
            return content

        return Compiler.compile(read)
