"""What brings values that are no images back from the file."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any

import numpy as np


class Decoder(ABC):
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
