"""The beginning of a `.beton` file: the header, and which fields there are; checked before it is used."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from ffcv._file_bytes import FileBytes
from ffcv.errors import FormatError, message_of
from ffcv.fields import FIELD_TYPES
from ffcv.fields.base import Field
from ffcv.format import (
    ALLOCATION,
    FIELD_DESCRIPTOR,
    HEADER,
    MIN_PAGE_SIZE,
    VERSION,
    FieldType,
    check_field_name,
)

RESTORE = "restore it from a copy or write it again with 'ffcv write'"


def _fail(file: FileBytes, problem: str) -> NoReturn:
    raise FormatError(f"{file.path}: {problem}")


def read_header(file: FileBytes) -> np.void:
    """The header, its numbers possible in a file of this size."""
    size = file.size
    if size < HEADER.itemsize:
        _fail(
            file,
            f"not a .beton file, or truncated: {size} bytes, but the header alone has {HEADER.itemsize}; {RESTORE}",
        )
    first = file[: HEADER.itemsize]
    header = first.view(HEADER)[0]
    if header["version"] != VERSION:
        _fail(
            file,
            f"not a .beton file of version {VERSION}: it begins with {first[:4].tobytes()!r}; write "
            "one with 'ffcv write'",
        )
    page_size, num_fields, table = (int(header[name]) for name in ("page_size", "num_fields", "alloc_table_ptr"))
    if page_size < MIN_PAGE_SIZE or page_size & (page_size - 1):
        _fail(
            file, f"page size {page_size} is not a power of two from {MIN_PAGE_SIZE}; the header is damaged: {RESTORE}"
        )
    if num_fields == 0:
        _fail(file, f"the header declares no fields; the file is damaged: {RESTORE}")
    if table == 0:
        _fail(file, "unfinished: whatever wrote it stopped before the end; write it again with 'ffcv write'")
    if table > size:
        _fail(
            file, f"truncated: its allocation table begins at byte {table}, but the file ends at byte {size}; {RESTORE}"
        )
    if (size - table) % ALLOCATION.itemsize:
        _fail(
            file,
            f"truncated: its allocation table of {size - table} bytes is not a multiple of "
            f"{ALLOCATION.itemsize}; {RESTORE}",
        )
    if HEADER.itemsize + num_fields * FIELD_DESCRIPTOR.itemsize > table:
        _fail(file, f"the header declares {num_fields} fields, which do not fit before byte {table}: {RESTORE}")
    return header


def read_descriptors(file: FileBytes, header: np.void) -> NDArray[Any]:
    """`format.FIELD_DESCRIPTOR` [num_fields]."""
    end = HEADER.itemsize + int(header["num_fields"]) * FIELD_DESCRIPTOR.itemsize
    return file[HEADER.itemsize : end].view(FIELD_DESCRIPTOR)


def read_fields(
    file: FileBytes, descriptors: NDArray[Any], custom_fields: Mapping[str, type[Field]]
) -> dict[str, Field]:
    """The fields by name, in the file's order."""
    fields: dict[str, Field] = {}
    for position, descriptor in enumerate(descriptors):
        name = _read_name(file, position, descriptor["name"].tobytes())
        if name in fields:
            _fail(file, f"two fields are named {name!r}; write the file again with distinct names of at most 16 bytes")
        type_id = int(descriptor["type_id"])
        if name not in custom_fields and type_id == FieldType.CUSTOM:
            _fail(
                file,
                f"field {name!r} is of a custom type: pass custom_fields={{{name!r}: YourField}}, on "
                f"the command line --custom-field {name}=MODULE:CLASS (got entries for "
                f"{sorted(custom_fields)})",
            )
        if name not in custom_fields and type_id not in FIELD_TYPES:
            _fail(
                file, f"field {name!r} has the unknown type {type_id}; the file is damaged, or newer than this program"
            )
        field_type = custom_fields[name] if name in custom_fields else FIELD_TYPES[type_id]
        if not (isinstance(field_type, Field) or (isinstance(field_type, type) and issubclass(field_type, Field))):
            raise TypeError(f"custom_fields: {name!r} must be the subclass of Field that wrote it, got {field_type!r}")
        try:
            fields[name] = field_type.from_binary(descriptor["arguments"])
        except ValueError as error:
            raise FormatError(f"{file.path}: field {name!r}: {message_of(error)}; {RESTORE}") from error
    return fields


def _read_name(file: FileBytes, position: int, stored: bytes) -> str:
    text = stored.rstrip(b"\0")
    try:
        return check_field_name(text.decode("ascii"))
    except ValueError:
        _fail(file, f"field {position} has the impossible name {text!r}; the file is damaged: {RESTORE}")
