"""Values of custom types, copied as they are stored: nobody but their project can read them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ffcv._encoding import integer_leaves
from ffcv.errors import SourceError
from ffcv.fields import FIELD_TYPES, BytesField, JSONField, NDArrayField, RGBImageField, TorchTensorField
from ffcv.fields.base import Field, Malloc, pack_arguments, store
from ffcv.format import FIRST_SECTION_ID
from ffcv.reader import Reader

__all__ = ["StoredField", "StoredReader", "StoredValue"]


class StoredValue(NamedTuple):
    """One value."""

    metadata: NDArray[Any]
    """`metadata_type` [1], with the pointers of the file that it comes from."""
    allocations: Mapping[int, NDArray[np.uint8]]
    """By pointer, the bytes."""


class StoredField(Field):
    """Stands for a field of a custom type when its values, `StoredValue`, are copied.

    Args:
        field: The field.
        arguments: Its descriptor's, uint8 [1024].
    """

    def __init__(self, field: Field, arguments: NDArray[np.uint8]) -> None:
        self._field = field
        self.arguments = arguments.tobytes()

    @property
    def metadata_type(self) -> np.dtype:
        return self._field.metadata_type

    @staticmethod
    def from_binary(binary: NDArray[np.uint8]) -> Field:
        raise TypeError("StoredField only writes; read the file with the field that it stands for")

    def to_binary(self) -> Any:
        return pack_arguments(self.arguments)

    def encode(self, destination: NDArray[Any], value: StoredValue, malloc: Malloc) -> None:
        destination[...] = value.metadata
        places = {pointer: store(content, malloc) for pointer, content in value.allocations.items()}
        for leaf in integer_leaves(destination):
            for index, number in np.ndenumerate(leaf):
                if (place := places.get(int(number))) is not None:
                    leaf[index] = place

    def get_decoder_class(self) -> type:
        return self._field.get_decoder_class()


class StoredReader:
    """Reads the values of a file's custom fields.

    Which of their numbers are pointers, only the fields know. A number is taken for one where an allocation of the same
    sample begins there that belongs to no other field; what could be read in two ways is refused.

    Args:
        reader: The file.
    """

    def __init__(self, reader: Reader) -> None:
        self._reader = reader
        self.names = [name for name, field in reader.fields.items() if type(field) not in FIELD_TYPES.values()]
        self._counts = np.empty(0, np.int64)
        if self.names:
            owners = reader.allocations["sample_id"][reader.allocations["size"] > 0]
            owners = owners[owners < np.uint64(FIRST_SECTION_ID)].astype(np.int64)
            self._counts = np.bincount(owners, minlength=reader.num_samples)

    def read(self, row: int) -> dict[str, StoredValue]:
        """One sample's values by field name.

        Raises:
            SourceError: It is not certain which numbers are pointers.
            FormatError: The bytes are not those that were written.
        """
        metadata = self._reader.rows(row, row + 1)
        others = _pointers_of_known_fields(self._reader, metadata)
        values: dict[str, StoredValue] = {}
        found: set[int] = set()
        for name in self.names:
            leaves = list(integer_leaves(metadata[name]))
            numbers = np.concatenate([np.empty(0, np.uint64), *(leaf.astype(np.uint64).reshape(-1) for leaf in leaves)])
            allocations = {}
            for pointer in numbers[self._begins_allocation(numbers, row)].tolist():
                if pointer in others:
                    continue
                if pointer in found:
                    self._refuse(row, name, f"two of its numbers are {pointer}, where bytes of the sample begin")
                found.add(pointer)
                allocations[pointer] = self._reader.read(pointer)
            values[name] = StoredValue(metadata[name].copy(), allocations)
        used = sum(len(content) > 0 for value in values.values() for content in value.allocations.values())
        if used + len(others) != self._counts[row]:
            self._refuse(row, ", ".join(self.names), "no 64-bit number of its metadata points to some of its bytes")
        return values

    def _begins_allocation(self, numbers: NDArray[np.uint64], row: int) -> NDArray[np.bool_]:
        # The original gives empty allocations pointers of no meaning, which lie before the pages.
        inside = numbers >= np.uint64(self._reader.metadata_end)
        return inside & (self._reader.core_table.find(numbers, np.full(len(numbers), row, np.uint64)) >= 0)

    def _refuse(self, row: int, name: str, problem: str) -> None:
        raise SourceError(
            f"{self._reader.path}: sample {row}, field {name!r}: {problem}; values of this custom type cannot be "
            "copied, write them again from their source"
        )


def _pointers_of_known_fields(reader: Reader, metadata: NDArray[Any]) -> set[int]:
    """Where the non-empty values of all but the custom fields lie; `metadata` is one sample's, [1]."""
    pointers = set()
    for name, field in reader.fields.items():
        entry = metadata[name][0]
        if type(field) is RGBImageField:
            pointers.add(int(entry["data_ptr"]))
        elif type(field) in (BytesField, JSONField) and entry["size"]:
            pointers.add(int(entry["ptr"]))
        elif type(field) in (NDArrayField, TorchTensorField):
            pointers.add(int(entry))
    return pointers
