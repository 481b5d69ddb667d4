"""Decoders that are called by hand, without a loader: the original's `accept_globals` and `generate_code`."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

MemoryRead = Callable[[Any, Any], NDArray[np.uint8]]


class Code(ABC):
    """The function that a decoder of ours generates; `Compiler.compile` leaves it as it is."""

    is_native = True

    @abstractmethod
    def __call__(
        self, batch_indices: NDArray[np.integer], destination: Any, metadata: NDArray[Any], storage_state: Any
    ) -> NDArray[Any]:
        """Decodes a batch.

        Args:
            batch_indices: Samples of the file, [B].
            destination: Array to decode into, [B or more, ...]; of a tuple, as the original's crops take, the first.
            metadata: The field's column of the metadata table, [N].
            storage_state: A memory context's `state`, for the function that reads memory.

        Returns:
            `destination[:B]`.

        Raises:
            TypeError, ValueError: `destination` is of another dtype or shape than is decoded; says which.
            DecodeError: A sample is damaged.
        """


class CalledByHand(ABC):
    """A decoder that can be called without a loader, on bytes from `ffcv.memory_managers`.

    Attributes:
        metadata: The field's column of the metadata table, [N]; None before `accept_globals`.
        memory_read: `memory_read(pointer, storage_state)` gives the bytes of an allocation, uint8 [size].
    """

    metadata: Any = None
    memory_read: Any = None

    def accept_field(self, field: Any) -> None:
        """Takes the field that is decoded, as needed for decoders of arrays."""
        del field

    def accept_globals(self, metadata: NDArray[Any], memory_read: MemoryRead) -> None:
        """Takes what `generate_code` relies on; loaders do not need it."""
        self.metadata, self.memory_read = metadata, memory_read

    @abstractmethod
    def generate_code(self) -> Code:
        """`code(batch_indices, destination, metadata, storage_state)`, see `Code`.

        Raises:
            RuntimeError: `accept_globals` has not been called.
        """

    def _check_globals(self) -> None:
        if self.memory_read is None:
            name = type(self).__name__
            raise RuntimeError(
                f"{name}.generate_code needs what a file has: call {name}.accept_globals(reader.metadata[field], "
                "manager.compile_reader()) first, or let ffcv.Loader decode"
            )


def room_for(shape: tuple[int, ...], dtype: np.dtype, destination: Any) -> NDArray[Any]:
    """The part of `destination` that takes an array of `shape` and `dtype`; errors as in `Code`."""
    out = destination[0] if isinstance(destination, tuple) else destination
    if not isinstance(out, np.ndarray) or out.dtype != dtype:
        got = out.dtype if isinstance(out, np.ndarray) else type(out).__name__
        raise TypeError(f"the destination must be an array of {dtype}, got {got}")
    if out.shape[1:] != shape[1:] or len(out) < shape[0]:
        raise ValueError(f"the destination must be {dtype} {list(shape)} (or more samples), got {list(out.shape)}")
    return out[: shape[0]]
