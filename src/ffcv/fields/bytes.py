"""Byte strings of any length."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ffcv._by_hand import MemoryRead
from ffcv.fields.base import Field, Malloc, MetadataError, Sizes, first_index, pack_arguments, store
from ffcv.fields.decoder import Decoder

if TYPE_CHECKING:
    from ffcv.reader import Reader

__all__ = ["BytesDecoder", "BytesField"]

BLOB_METADATA = np.dtype([("ptr", "<u8"), ("size", "<u8")])


class BytesDecoder(Decoder):
    """Decodes a `BytesField` or `JSONField` to uint8 [B, longest value of the file], padded with zeros."""

    def __init__(self) -> None:
        self._width: int | None = None

    def bind(self, reader: Reader, field_name: str) -> None:
        """Learns the longest value; the loader calls this once."""
        self._width = _longest(reader.column(field_name, "size"))

    def accept_globals(self, metadata: NDArray[Any], memory_read: MemoryRead) -> None:
        super().accept_globals(metadata, memory_read)
        self._width = _longest(metadata["size"])

    def decode(self, metadata: NDArray[Any], read: Any) -> NDArray[np.uint8]:
        if self._width is None:
            raise RuntimeError("BytesDecoder is not bound to a file: call bind(reader, field_name) first")
        result = np.zeros((len(metadata), self._width), dtype=np.uint8)
        for row, (pointer, size) in zip(result, metadata.tolist(), strict=True):
            if size:
                row[:size] = read(pointer)[:size]
        return result


def _longest(sizes: NDArray[np.uint64]) -> int:
    return int(sizes.max()) if len(sizes) else 0


def store_blob(destination: NDArray[Any], content: bytes | NDArray[np.uint8], malloc: Malloc) -> None:
    """Stores bytes, or uint8 [L], and their place in a row of `BLOB_METADATA`."""
    destination["ptr"] = store(content, malloc)
    destination["size"] = len(content)


def check_blobs(column: NDArray[Any], sizes: Sizes) -> None:
    """Raises `MetadataError` where a value of the column is longer than its allocation."""
    # The original gives empty values pointers of no meaning, and nobody follows them.
    used = np.flatnonzero(column["size"])
    allocated = sizes(column["ptr"][used], used)
    too_long = column["size"][used] > allocated
    if too_long.any():
        i = first_index(too_long)
        size = int(column["size"][used[i]])
        raise MetadataError(int(used[i]), f"{size} bytes are declared, but {allocated[i]} are allocated")


class BytesField(Field):
    """One-dimensional uint8 arrays of any length, empty ones included; `bytes` are taken too."""

    @property
    def metadata_type(self) -> np.dtype:
        return BLOB_METADATA

    @staticmethod
    def from_binary(binary: NDArray[np.uint8]) -> BytesField:
        return BytesField()

    def to_binary(self) -> Any:
        return pack_arguments()

    def encode(self, destination: NDArray[Any], value: Any, malloc: Malloc) -> None:
        content = np.frombuffer(value, np.uint8) if isinstance(value, bytearray | memoryview) else value
        is_row = isinstance(content, np.ndarray) and content.dtype == np.uint8 and content.ndim == 1
        if not (is_row or isinstance(content, bytes)):
            got = f"{value.dtype} {list(value.shape)}" if isinstance(value, np.ndarray) else type(value).__name__
            raise TypeError(f"BytesField stores bytes or one-dimensional uint8 arrays, got {got}")
        store_blob(destination, content, malloc)

    def get_decoder_class(self) -> type[BytesDecoder]:
        return BytesDecoder

    def check_metadata(self, column: NDArray[Any], sizes: Sizes) -> None:
        check_blobs(column, sizes)
