"""JSON values, stored as text that ends in a NUL byte."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ffcv.fields.base import Field, Malloc, Sizes, pack_arguments
from ffcv.fields.bytes import BLOB_METADATA, BytesDecoder, check_blobs, store_blob

__all__ = ["JSONField"]


class JSONField(Field):
    """Anything that JSON has (so no NaN, no infinity) and `json.dumps` takes. A batch holds the text;
    `JSONField.unpack` gives the values."""

    @property
    def metadata_type(self) -> np.dtype:
        return BLOB_METADATA

    @staticmethod
    def from_binary(binary: NDArray[np.uint8]) -> JSONField:
        return JSONField()

    def to_binary(self) -> Any:
        return pack_arguments()

    def encode(self, destination: NDArray[Any], value: Any, malloc: Malloc) -> None:
        # JSON writes a NUL inside a string as \u0000, so that the one at the end is the only one.
        try:
            text = json.dumps(value, allow_nan=False).encode() + b"\0"
        except ValueError as error:
            raise ValueError(f"JSONField stores JSON, which has no such value: {error}") from error
        store_blob(destination, text, malloc)

    def get_decoder_class(self) -> type[BytesDecoder]:
        return BytesDecoder

    def check_metadata(self, column: NDArray[Any], sizes: Sizes) -> None:
        check_blobs(column, sizes)

    @staticmethod
    def unpack(batch: Any) -> Any:
        """Parses the text of a batch.

        Args:
            batch: uint8 [B, L] (gives a list of B values) or uint8 [L] (gives one value); an array or a
                tensor.

        Raises:
            ValueError: A row is not NUL-terminated JSON text.
        """
        rows = np.asarray(batch.cpu() if hasattr(batch, "cpu") else batch)
        if rows.dtype != np.uint8 or rows.ndim not in (1, 2):
            raise ValueError(f"JSONField.unpack takes uint8 [B, L] or [L], got {rows.dtype} {list(rows.shape)}")
        if rows.ndim == 1:
            return _parse(rows)
        return [_parse(row) for row in rows]


def _parse(row: NDArray[np.uint8]) -> Any:
    text, end, _ = row.tobytes().partition(b"\0")
    if not end:
        raise ValueError("JSON text without its NUL at the end: pass the rows of a batch whole")
    return json.loads(text)
