"""Other `.beton` files, to select from, merge, split or encode again."""

from __future__ import annotations

import os
import zlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ffcv._manifest import parse_manifest
from ffcv.data.images import ImageReader
from ffcv.data.source import Source, name_of
from ffcv.data.stored import StoredField, StoredReader
from ffcv.errors import FormatError, SourceError, message_of, storable
from ffcv.fields import (
    FIELD_TYPES,
    BytesField,
    Field,
    FloatField,
    IntField,
    JSONField,
    NDArrayField,
    RGBImageField,
    TorchTensorField,
)
from ffcv.fields.rgb_image import IMAGE_MODES
from ffcv.format import Section
from ffcv.reader import RESTORE, Reader

__all__ = ["BetonSource", "read_manifest", "read_value"]


class BetonSource(Source):
    """The samples of one or more files with the same fields, one file after the other.

    Stored JPEGs stay as they are (unless `images` says otherwise), raw images raw, values of custom types as they are.

    Args:
        paths: The files.
        images: How to read JPEGs.
        custom_fields: For each field of a custom type, the class that wrote it.

    Raises:
        SourceError: Their fields or class names differ.
        FormatError: A file is damaged, or has a field of a custom type that is not given.
    """

    def __init__(
        self,
        paths: Sequence[str | os.PathLike[str]],
        images: ImageReader | None = None,
        custom_fields: Mapping[str, type[Field]] | None = None,
    ) -> None:
        self.readers = [Reader(path, custom_fields) for path in paths]
        self._stored = [StoredReader(reader) for reader in self.readers]
        self._images = images or ImageReader()
        first = self.readers[0]
        self.name = name_of(paths)
        for reader in self.readers[1:]:
            if _signature(reader) != _signature(first):
                raise SourceError(
                    f"{reader.path}: its fields are {_signature(reader)}, those of {first.path} are "
                    f"{_signature(first)}; only files with the same fields can be merged"
                )
        self._manifests = [read_manifest(reader) or {} for reader in self.readers]
        self.classes = self._manifests[0].get("classes")
        for reader, manifest in zip(self.readers, self._manifests, strict=True):
            if manifest.get("classes") != self.classes:
                raise SourceError(
                    f"{reader.path}: its class names are not those of {first.path}, so that equal labels would mean "
                    "different things; write both from their sources with the same classes"
                )
        self._starts = np.cumsum([0, *(reader.num_samples for reader in self.readers)])

    def __len__(self) -> int:
        return int(self._starts[-1])

    def __getitem__(self, index: int) -> tuple[Any, ...]:
        number = int(np.searchsorted(self._starts, index, side="right")) - 1
        reader, row = self.readers[number], index - int(self._starts[number])
        stored = self._stored[number].read(row) if self._stored[number].names else {}
        return tuple(
            stored[name]
            if name in stored
            else self._image(reader, row, name)
            if isinstance(field, RGBImageField)
            else read_value(reader, row, name)
            for name, field in reader.fields.items()
        )

    def _image(self, reader: Reader, row: int, name: str) -> Any:
        entry = reader.rows(row, row + 1)[name][0]
        if entry["mode"] != IMAGE_MODES["jpg"]:
            return read_value(reader, row, name)
        data = reader.read(int(entry["data_ptr"])).tobytes()
        return self._images.read(data, f"{reader.path}: sample {row}, field {name!r}")

    def fields(self, image: RGBImageField) -> dict[str, Field]:
        first = self.readers[0]
        fields = {name: image if type(field) is RGBImageField else field for name, field in first.fields.items()}
        arguments = dict(zip(first.fields, first.field_descriptors["arguments"], strict=True))
        return fields | {name: StoredField(fields[name], arguments[name]) for name in self._stored[0].names}

    def manifest(self) -> dict[str, Any]:
        inputs = [
            {
                "source": storable(os.path.basename(reader.path)),
                "num_samples": reader.num_samples,
                "manifest": {key: value for key, value in manifest.items() if key != "classes"},
            }
            for reader, manifest in zip(self.readers, self._manifests, strict=True)
        ]
        return {**super().manifest(), "inputs": inputs}

    def column(self, name: str) -> np.ndarray:
        """A field of numbers for all samples.

        Raises:
            SourceError: There is no such field, or it has no numbers.
        """
        field = self.readers[0].fields.get(name)
        if not isinstance(field, IntField | FloatField):
            numbers = [key for key, f in self.readers[0].fields.items() if isinstance(f, IntField | FloatField)]
            raise SourceError(f"{self.readers[0].path}: no field of numbers {name!r}; it has {', '.join(numbers)}")
        return np.concatenate([reader.column(name) for reader in self.readers])


def read_value(reader: Reader, row: int, name: str) -> Any:
    """One value as a field stores it: a JPEG image as uint8 [size], a raw one as uint8 [H, W, 3], bytes as uint8 [L],
    JSON parsed, arrays, tensors, numbers.

    Raises:
        FormatError: The bytes are not those that were written.
        SourceError: The field is of a custom type.
    """
    field, value = reader.fields[name], reader.rows(row, row + 1)[name][0]
    match field:
        case IntField():
            return int(value)
        case FloatField():
            return float(value)
        case RGBImageField():
            content = reader.read(int(value["data_ptr"]))
            if value["mode"] == IMAGE_MODES["jpg"]:
                return content
            return content.reshape(int(value["height"]), int(value["width"]), 3)
        case BytesField() | JSONField():
            size = int(value["size"])
            content = reader.read(int(value["ptr"]))[:size] if size else np.empty(0, np.uint8)
            return JSONField.unpack(content) if isinstance(field, JSONField) else content
        case NDArrayField() | TorchTensorField():
            array = reader.read(int(value)).view(field.numpy_dtype).reshape(field.shape)
            if isinstance(field, NDArrayField):
                return array
            import torch

            return torch.from_numpy(array.copy())
    raise SourceError(f"{reader.path}: field {name!r} is of a custom type, which cannot be converted")


def read_manifest(reader: Reader) -> dict[str, Any] | None:
    """The manifest, or None where there is none.

    Raises:
        FormatError: It is not a JSON object in UTF-8, or `classes` is not a list of names.
    """
    content = reader.read_section(Section.MANIFEST)
    try:
        return None if content is None else parse_manifest(content)
    except ValueError as error:
        raise FormatError(f"{reader.path}: {message_of(error)}; {RESTORE}") from error


def _signature(reader: Reader) -> str:
    parts = []
    for descriptor, (name, field) in zip(reader.field_descriptors, reader.fields.items(), strict=True):
        parts.append(f"{name}: {type(field).__name__}")
        if isinstance(field, NDArrayField | TorchTensorField):
            parts[-1] += f" {field.dtype} {list(field.shape)}"
        elif type(field) not in FIELD_TYPES.values():
            parts[-1] += f" with arguments {zlib.crc32(descriptor['arguments']):08x}"
    return ", ".join(parts)
