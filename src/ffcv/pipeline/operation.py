"""Operations that users write: the original's way to extend a pipeline."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any

from ffcv.fields.decoder import Decoder
from ffcv.pipeline.allocation_query import AllocationQuery
from ffcv.pipeline.state import State

__all__ = ["AllocationQuery", "Decoder", "Operation", "State"]


class Operation(ABC):
    """An operation of one's own, anywhere in a pipeline; at its beginning, a decoder.

    The loader asks for the memory, then for the code, when the first batch arrives and again when the batch's shape or
    dtype changes. It calls `code(batch, destination)`; a decoder's is
    `code(indices, destination, metadata, storage_state)`, where `metadata` is the field's column for the whole file
    and `self.memory_read(pointer, storage_state)` gives the bytes of an allocation. Attributes of the code say more:

    - `with_indices = True`: the dataset indices int64 [B] follow as an argument;
    - `with_counter = True`: then the number of the batch in its epoch, from 0;
    - `is_parallel = True`: numba may run its loop over `Compiler.get_iterator()` in parallel.

    Attributes:
        field: The field that the pipeline decodes.
        metadata: Its column of the metadata table, [N]; set for decoders.
        memory_read: Set for decoders.
    """

    field: Any = None
    metadata: Any = None
    memory_read: Any = None

    def accept_field(self, field: Any) -> None:
        """Called with the field that the pipeline decodes, again before each time that code is made."""
        self.field = field

    def accept_globals(self, metadata: Any, memory_read: Callable[..., Any]) -> None:
        """Called on a decoder, after `accept_field`."""
        self.metadata = metadata
        self.memory_read = memory_read

    @abstractmethod
    def declare_state_and_memory(
        self, previous_state: State
    ) -> tuple[State, AllocationQuery | Sequence[AllocationQuery] | None]:
        """What comes out, and the memory to write it to (None: no memory; several: `destination` is a tuple)."""

    @abstractmethod
    def generate_code(self) -> Callable[..., Any]:
        """The function that processes a batch and returns it."""
