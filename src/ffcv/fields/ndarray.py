"""Arrays of one shape and dtype, kept in the field's descriptor."""

from __future__ import annotations

import json
import math
import operator
from abc import abstractmethod
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from ffcv.fields.base import Field, Malloc, MetadataError, Sizes, first_index, pack_arguments, store
from ffcv.fields.decoder import Decoder
from ffcv.format import ARGUMENTS_LENGTH, MAX_PAGE_SIZE

if TYPE_CHECKING:
    import torch

    from ffcv.reader import Reader

__all__ = ["NDArrayDecoder", "NDArrayField", "TorchTensorField"]

MAX_RANK = 32
_ARGUMENTS = np.dtype([("shape", "<u8", (MAX_RANK,)), ("type_length", "<u8")])

# A closed set: a dtype is looked up by its text, never built from it.
_DTYPES = {
    np.dtype(code).str: np.dtype(code)
    for order in "<>"
    for code in (
        "b1",
        "i1",
        "u1",
        *(order + kind for kind in ["i2", "i4", "i8", "u2", "u4", "u8", "f2", "f4", "f8", "c8", "c16"]),
    )
}


class NDArrayDecoder(Decoder):
    """Decodes an `NDArrayField` or `TorchTensorField` to its dtype, [B, *shape], in native byte order."""

    def __init__(self) -> None:
        self._field: _ArrayField | None = None

    def bind(self, reader: Reader, field_name: str) -> None:
        """Learns shape and dtype; the loader calls this once."""
        self._field = _array_field(reader.fields[field_name], repr(field_name))

    def accept_field(self, field: Any) -> None:
        self._field = _array_field(field, "the field")

    def decode(self, metadata: NDArray[Any], read: Any) -> NDArray[Any]:
        if self._field is None:
            raise RuntimeError(
                "NDArrayDecoder is not bound to a file: call bind(reader, field_name), or accept_field(field), first"
            )
        stored, shape = self._field.numpy_dtype, self._field.shape
        raw = np.empty((len(metadata), self._field.element_size), dtype=np.uint8)
        for row, pointer in zip(raw, metadata.tolist(), strict=True):
            row[:] = read(pointer)
        return raw.view(stored).reshape(len(metadata), *shape).astype(stored.newbyteorder("="), copy=False)


def _array_field(field: Any, name: str) -> _ArrayField:
    if not isinstance(field, _ArrayField):
        raise TypeError(f"NDArrayDecoder decodes NDArrayField, but {name} is a {type(field).__name__}")
    return field


class _ArrayField(Field):
    """What the two array fields share: the descriptor, the bytes, the checks."""

    def __init__(self, numpy_dtype: np.dtype, shape: Sequence[int] | int) -> None:
        self.shape = _sides(shape)
        self.numpy_dtype = _DTYPES.get(numpy_dtype.str, numpy_dtype)
        if numpy_dtype.names is not None or numpy_dtype.str not in _DTYPES:
            raise ValueError(f"dtype {numpy_dtype} cannot be stored: choose one of {', '.join(sorted(_DTYPES))}")
        # The format marks the end of a shape by its zeros, so that no side can be zero itself.
        if len(self.shape) > MAX_RANK or any(side < 1 for side in self.shape):
            raise ValueError(f"shape {list(self.shape)} cannot be stored: up to {MAX_RANK} sides, each at least 1")
        self.element_size = math.prod(self.shape) * self.numpy_dtype.itemsize
        if self.element_size > MAX_PAGE_SIZE:
            raise ValueError(
                f"an array of shape {list(self.shape)} takes {self.element_size} bytes, more than the "
                "largest page "
                f"({MAX_PAGE_SIZE}): split it into several samples or fields"
            )

    @property
    def metadata_type(self) -> np.dtype:
        return np.dtype("<u8")

    def to_binary(self) -> Any:
        description = json.dumps([["", self.numpy_dtype.str]]).encode()
        arguments = np.zeros((), dtype=_ARGUMENTS)
        arguments["shape"][: len(self.shape)] = self.shape
        arguments["type_length"] = len(description)
        return pack_arguments(arguments.tobytes() + description)

    @abstractmethod
    def _to_numpy(self, value: Any) -> NDArray[Any]:
        """The value as an array; raises `TypeError` for other types."""

    def encode(self, destination: NDArray[Any], value: Any, malloc: Malloc) -> None:
        array = self._to_numpy(value)
        # The original takes any shape of the same number of elements, and its users rely on it.
        same_numbers = array.dtype.newbyteorder("=") == self.numpy_dtype.newbyteorder("=")
        if not same_numbers or array.size != math.prod(self.shape):
            raise ValueError(
                f"{type(self).__name__} stores {self.numpy_dtype} {list(self.shape)}, got {array.dtype} "
                f"{list(array.shape)}: convert the value, or declare the field with this dtype and shape"
            )
        stored = np.ascontiguousarray(array, self.numpy_dtype)
        destination[0] = store(stored.reshape(-1).view(np.uint8), malloc)

    def get_decoder_class(self) -> type[NDArrayDecoder]:
        return NDArrayDecoder

    def check_metadata(self, column: NDArray[Any], sizes: Sizes) -> None:
        allocated = sizes(column)
        wrong = allocated != self.element_size
        if wrong.any():
            i = first_index(wrong)
            raise MetadataError(i, f"an array of {self.element_size} bytes expected, but {allocated[i]} are allocated")


class NDArrayField(_ArrayField):
    """Numpy arrays of a fixed shape and dtype (booleans, integers, floats, complex numbers).

    Args:
        dtype: The arrays' dtype. Its byte order is that of the file; arrays may have either.
        shape: Their shape, up to 32 sides of at least 1; `()` stores scalars.
    """

    def __init__(self, dtype: DTypeLike, shape: Sequence[int] | int) -> None:
        super().__init__(np.dtype(dtype), shape)
        self.dtype = self.numpy_dtype

    @staticmethod
    def from_binary(binary: NDArray[np.uint8]) -> NDArrayField:
        return NDArrayField(*_parse_arguments(binary))

    def _to_numpy(self, value: Any) -> NDArray[Any]:
        if not isinstance(value, np.ndarray | np.generic):
            raise TypeError(f"NDArrayField stores numpy arrays, got {type(value).__name__}")
        return np.asarray(value)


class TorchTensorField(_ArrayField):
    """Torch tensors of a fixed shape and a dtype that numpy has too (so not bfloat16).

    Args:
        dtype: The tensors' dtype, such as `torch.float32`.
        shape: Their shape, up to 32 sides of at least 1; `()` stores scalars.
    """

    def __init__(self, dtype: torch.dtype, shape: Sequence[int] | int) -> None:
        import torch

        try:
            numpy_dtype = torch.empty(0, dtype=dtype).numpy().dtype
        except TypeError as error:
            raise ValueError(f"{dtype} has no counterpart in numpy: convert to another dtype first") from error
        super().__init__(numpy_dtype, shape)
        self.dtype = dtype

    @staticmethod
    def from_binary(binary: NDArray[np.uint8]) -> TorchTensorField:
        import torch

        dtype, shape = _parse_arguments(binary)
        return TorchTensorField(torch.from_numpy(np.empty(0, dtype)).dtype, shape)

    def _to_numpy(self, value: Any) -> NDArray[Any]:
        import torch

        if not isinstance(value, torch.Tensor):
            raise TypeError(f"TorchTensorField stores tensors, got {type(value).__name__}")
        return value.numpy(force=True)  # of any device, requiring gradients or conjugated


def _sides(shape: Sequence[int] | int) -> tuple[int, ...]:
    try:
        return tuple(operator.index(side) for side in (shape if isinstance(shape, Iterable) else [shape]))
    except TypeError:
        raise TypeError(f"shape must be whole numbers, such as (3, 4) or 5, got {shape!r}") from None


def _parse_arguments(binary: NDArray[np.uint8]) -> tuple[np.dtype, tuple[int, ...]]:
    """Dtype and shape from a descriptor's arguments; `ValueError` for what `to_binary` never writes."""
    arguments = np.frombuffer(binary.tobytes(), dtype=_ARGUMENTS, count=1)[0]
    length = int(arguments["type_length"])
    if length > ARGUMENTS_LENGTH - _ARGUMENTS.itemsize:
        raise ValueError(f"a dtype's description cannot have {length} bytes")
    text = binary[_ARGUMENTS.itemsize :][:length].tobytes()
    try:
        match json.loads(text):
            case [["", str(code)]] if code in _DTYPES:
                dtype = _DTYPES[code]
            case _:
                raise ValueError("not one of the dtypes that can be stored")
    except (ValueError, RecursionError) as error:
        raise ValueError(f"unknown dtype {text[:60]!r}") from error
    shape = [int(side) for side in arguments["shape"]]
    while shape and shape[-1] == 0:
        shape.pop()
    return dtype, tuple(shape)
