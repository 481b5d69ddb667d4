"""What a field is: how one value of a sample becomes metadata and bytes, and which decoder brings it back."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from ffcv.format import ARGUMENTS_LENGTH

ARG_TYPE = np.dtype([("", "<u1", ARGUMENTS_LENGTH)])
"""A descriptor's arguments, as `Field.to_binary` returns them: a record with one column of 1024 bytes."""

Malloc = Callable[[int], tuple[int, NDArray[np.uint8]]]


class Sizes(Protocol):
    """Maps file pointers to the sizes of their allocations."""

    def __call__(self, pointers: NDArray[Any], rows: NDArray[Any] | None = None) -> NDArray[np.uint64]:
        """uint64 [B] for uint64 [B]; `rows` says which rows of the column they come from, default all.

        Raises:
            ValueError: No allocation begins there, or it belongs to another sample.
        """
        ...


class MetadataError(ValueError):
    """A row of a column is wrong.

    Attributes:
        row: Position in the column that was checked.
        problem: What is wrong with it.
    """

    def __init__(self, row: int, problem: str) -> None:
        super().__init__(f"sample {row}: {problem}")
        self.row = row
        self.problem = problem


class Field(ABC):
    """One column of a dataset.

    Custom fields subclass this and are read with `custom_fields={name: FieldClass}`.
    """

    @property
    @abstractmethod
    def metadata_type(self) -> np.dtype:
        """The fixed-size part of a value, stored in the metadata table."""

    @staticmethod
    @abstractmethod
    def from_binary(binary: NDArray[np.uint8]) -> Field:
        """Rebuilds the field from its descriptor's arguments (uint8 [1024]).

        Raises:
            ValueError: The arguments are not ones that `to_binary` writes.
        """

    @abstractmethod
    def to_binary(self) -> Any:
        """The arguments for the descriptor: a record of `ARG_TYPE`."""

    @abstractmethod
    def encode(self, destination: NDArray[Any], value: Any, malloc: Malloc) -> None:
        """Stores one value.

        Args:
            destination: `metadata_type` [1]: the value's row in the metadata table, to be filled.
            value: What the dataset returned for this field.
            malloc: `malloc(size)` gives (file pointer, uint8 [size] to fill). Store the pointer as it is, in
                a 64-bit integer of the metadata: the writer moves it when the sample gets its place in the
                file.
        """

    @abstractmethod
    def get_decoder_class(self) -> type:
        """The decoder used where a pipeline names none; called without arguments."""

    def check_metadata(self, column: NDArray[Any], sizes: Sizes) -> None:
        """Checks what decoders will rely on, when the file is opened; called for one block of samples at a time.

        Args:
            column: Part of this field's column of the metadata table, [B].
            sizes: Maps file pointers (uint64 [B]) to the sizes of their allocations (uint64 [B]).

        Raises:
            MetadataError: Says which row is wrong, and how.
        """
        del column, sizes


def store(content: bytes | NDArray[np.uint8], malloc: Malloc, behind: bytes = b"") -> int:
    """The pointer to a new allocation with `content`, bytes or uint8 [L]. The writer's allocator keeps bytes, which
    cannot change, without a copy, and entry points `behind` them."""
    keep = getattr(malloc, "keep", None)
    if keep is not None and isinstance(content, bytes):
        return keep(content, behind)
    pointer, buffer = malloc(len(content))
    buffer[:] = np.frombuffer(content, np.uint8) if isinstance(content, bytes) else content
    return pointer


def pack_arguments(content: bytes = b"") -> Any:
    """`content`, padded with zeros, as the record that `Field.to_binary` returns."""
    if len(content) > ARGUMENTS_LENGTH:
        raise ValueError(f"a field's arguments need {len(content)} bytes; the format has room for {ARGUMENTS_LENGTH}")
    record = np.zeros(1, dtype=ARG_TYPE)[0]
    record[0][: len(content)] = np.frombuffer(content, dtype=np.uint8)
    return record


def first_index(mask: NDArray[np.bool_]) -> int:
    """The position of the first True; there must be one."""
    return int(np.argmax(mask))
