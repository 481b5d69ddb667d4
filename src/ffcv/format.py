"""The on-disk layout of a `.beton` file, version 2: the one definition that reader and writer share.

All numbers are little endian. In file order:

    header             HEADER, 24 bytes at offset 0
    field descriptors  FIELD_DESCRIPTOR x num_fields
    metadata           metadata_dtype(...) x num_samples: one aligned struct per sample
    zeros              up to the next multiple of page_size; absent when nothing is allocated
    pages              page_size bytes each; every sample's allocations lie together in one page; between them
                       only entry points, where there are some
    allocation table   ALLOCATION x (as many as fit from alloc_table_ptr to the end of the file)

Sections are our additions (manifest, checksums, ...): ordinary rows of the allocation table whose sample_id
is at least FIRST_SECTION_ID, which the original never asks for. They follow the samples and may be larger
than a page.
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import IntEnum

import numpy as np

VERSION = 2
MIN_PAGE_SIZE = 1 << 21
MAX_PAGE_SIZE = 1 << 31
"""The largest power of two that the header's 32 bits can hold."""
DEFAULT_PAGE_SIZE = 1 << 23
MAX_FIELDS = (1 << 16) - 1
"""The header counts them in 16 bits."""
NAME_LENGTH = 16
ARGUMENTS_LENGTH = 1024

HEADER = np.dtype(
    [
        ("version", "<u2"),
        ("num_fields", "<u2"),
        ("page_size", "<u4"),
        ("num_samples", "<u8"),
        ("alloc_table_ptr", "<u8"),
    ],
    align=True,
)

FIELD_DESCRIPTOR = np.dtype(
    [("type_id", "<u1"), ("name", "<u1", (NAME_LENGTH,)), ("arguments", "<u1", (ARGUMENTS_LENGTH,))],
    align=True,
)

ENTRY_POINTS_HEADER = np.dtype([("version", "<u4"), ("largest", "<u4")])
"""`largest`: bytes of the largest entry points of the file."""
ENTRY_POINTS_VERSION = 1
ENTRY_POINTS_MAGIC = b"FEP1"
"""With which each JPEG's begin."""

ALLOCATION = np.dtype([("sample_id", "<u8"), ("ptr", "<u8"), ("size", "<u8")])

FIRST_SECTION_ID = 1 << 63


class Section(IntEnum):
    """Reserved sample ids. A reader skips those that it does not know."""

    MANIFEST = FIRST_SECTION_ID
    """UTF-8 JSON object: class names, writer options, source, package version."""
    CHECKSUMS = FIRST_SECTION_ID + 1
    JPEG_RESTART_INDEX = FIRST_SECTION_ID + 2
    ENTRY_POINTS = FIRST_SECTION_ID + 3
    """ENTRY_POINTS_HEADER: says that entry points lie behind JPEGs."""


class FieldType(IntEnum):
    """The descriptor's `type_id`."""

    FLOAT = 0
    INT = 1
    IMAGE = 2
    BYTES = 3
    NDARRAY = 4
    JSON = 5
    TORCH_TENSOR = 6
    CUSTOM = 255


def metadata_dtype(columns: Iterable[tuple[str, np.dtype]]) -> np.dtype:
    """One sample's metadata: an aligned struct with a column per field, in the fields' order.

    A field whose own metadata is a struct (image, bytes) is packed inside and so has an alignment of 1.
    """
    return np.dtype(list(columns), align=True)


def with_second_names(dtype: np.dtype) -> np.dtype:
    """The same struct, whose columns are also f0, f1, ..., as in the original; not where a field is named like that."""
    fields = dtype.fields or {}
    names = list(fields)
    seconds = [f"f{i}" for i in range(len(names))]
    if not set(names).isdisjoint(seconds):
        return dtype
    offsets, formats = [fields[name][1] for name in names], [fields[name][0] for name in names]
    layout = {"names": names, "formats": formats, "offsets": offsets, "titles": seconds, "itemsize": dtype.itemsize}
    return np.dtype(layout)  # pyright: ignore[reportArgumentType, reportCallIssue]


def align_up(offset: int, alignment: int) -> int:
    """The first multiple of `alignment` at or after `offset`."""
    return -(-offset // alignment) * alignment


def check_field_name(name: object) -> str:
    """Returns `name` if it can name a field of a file, else raises `ValueError` with the rule.

    The original cuts names at 16 bytes, so that two of them can become one.
    """
    if isinstance(name, str) and 1 <= len(name) <= NAME_LENGTH and name.isascii() and name.isprintable():
        return name
    raise ValueError(
        f"field name {name!r} cannot be stored: a name has 1 to {NAME_LENGTH} printable ASCII characters; "
        "rename the field"
    )
