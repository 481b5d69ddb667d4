"""Numbers: one int64 or float64 in the metadata, and nothing in the pages."""

from __future__ import annotations

import operator
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from ffcv.fields.base import Field, Malloc, pack_arguments
from ffcv.fields.decoder import Decoder

__all__ = ["FloatDecoder", "FloatField", "IntDecoder", "IntField"]


class IntDecoder(Decoder):
    """Decodes an `IntField` to int64 [B, 1]."""

    def decode(self, metadata: NDArray[Any], read: Any) -> NDArray[np.int64]:
        return metadata.astype(np.int64).reshape(-1, 1)


class FloatDecoder(Decoder):
    """Decodes a `FloatField` to float64 [B, 1]."""

    def decode(self, metadata: NDArray[Any], read: Any) -> NDArray[np.float64]:
        return metadata.astype(np.float64).reshape(-1, 1)


class IntField(Field):
    """A whole number within 64 bits, signed: integers, or arrays and tensors that hold just one."""

    @property
    def metadata_type(self) -> np.dtype:
        return np.dtype("<i8")

    @staticmethod
    def from_binary(binary: NDArray[np.uint8]) -> IntField:
        return IntField()

    def to_binary(self) -> Any:
        return pack_arguments()

    def encode(self, destination: NDArray[Any], value: Any, malloc: Malloc) -> None:
        try:
            number: Any = value.item() if hasattr(value, "item") else value
            is_whole = isinstance(number, float) and number.is_integer()
            # `index` refuses fractions, which a plain assignment would cut off in silence.
            destination[0] = int(number) if is_whole else operator.index(cast(Any, number))
        except (TypeError, ValueError, OverflowError) as error:
            raise type(error)(f"IntField stores a whole number of 64 bits, got {_describe(value)}") from error

    def get_decoder_class(self) -> type[IntDecoder]:
        return IntDecoder


class FloatField(Field):
    """A float64, every bit kept (infinities, NaN and -0.0 too)."""

    @property
    def metadata_type(self) -> np.dtype:
        return np.dtype("<f8")

    @staticmethod
    def from_binary(binary: NDArray[np.uint8]) -> FloatField:
        return FloatField()

    def to_binary(self) -> Any:
        return pack_arguments()

    def encode(self, destination: NDArray[Any], value: Any, malloc: Malloc) -> None:
        try:
            # Of numpy's complex numbers `float` would take the real part, Python's it refuses.
            number: Any = complex(value) if isinstance(value, np.complexfloating) else value
            destination[0] = float(number)
        except (TypeError, ValueError) as error:
            raise type(error)(f"FloatField stores a number, got {_describe(value)}") from error

    def get_decoder_class(self) -> type[FloatDecoder]:
        return FloatDecoder


def _describe(value: Any) -> str:
    text = repr(value)
    return f"{type(value).__name__} {text if len(text) <= 60 else text[:57] + '...'}"
