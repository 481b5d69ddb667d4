"""What brings values that are no images back from the file."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ffcv._by_hand import CalledByHand, Code, MemoryRead, room_for


class Decoder(CalledByHand):
    """Decodes one field's values for a batch."""

    @abstractmethod
    def decode(self, metadata: np.ndarray, read: Callable[[int], np.ndarray]) -> np.ndarray:
        """Decodes a batch.

        Args:
            metadata: The field's column of the metadata table for the batch, [B].
            read: `read(pointer)` gives the bytes of an allocation, uint8 [size].

        Returns:
            An array of its own memory, samples along the first axis.
        """

    def bind(self, reader: Any, field_name: str) -> None:
        """Called once with the open `Reader`, before anything is decoded; by the loader, on a copy of its own."""
        del reader, field_name

    def generate_code(self) -> Code:
        self._check_globals()
        return _ColumnCode(self, self.memory_read)


class _ColumnCode(Code):
    """Decodes with `decoder.decode`, then copies."""

    def __init__(self, decoder: Decoder, read: MemoryRead) -> None:
        self._decoder, self._read = decoder, read

    def __call__(
        self, batch_indices: NDArray[np.integer], destination: Any, metadata: NDArray[Any], storage_state: Any
    ) -> NDArray[Any]:
        values = self._decoder.decode(metadata[batch_indices], lambda pointer: self._read(pointer, storage_state))
        out = room_for(values.shape, values.dtype, destination)
        out[:] = values
        return out
