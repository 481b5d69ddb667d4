"""Opens `.beton` files: maps them, and checks at opening everything that is relied on later."""

from __future__ import annotations

import hashlib
import mmap
import os
from collections.abc import Mapping
from functools import cached_property
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from ffcv.errors import FormatError, message_of
from ffcv.fields import FIELD_TYPES
from ffcv.fields.base import Field
from ffcv.format import (
    ALLOCATION,
    FIELD_DESCRIPTOR,
    FIRST_SECTION_ID,
    HEADER,
    MIN_PAGE_SIZE,
    VERSION,
    FieldType,
    align_up,
    check_field_name,
    metadata_dtype,
)

_RESTORE = "restore it from a copy or write it again with 'ffcv write'"


class Reader:
    """A validated, memory-mapped `.beton` file. Opening reads its tables, never its pages.

    Args:
        path: The file.
        custom_fields: For each field of a custom type, the `Field` subclass that wrote it.

    Attributes:
        path: As given, as text.
        page_size: In bytes.
        num_samples: N.
        field_names: In the file's order.
        fields: The fields by name, in the file's order.
        metadata: Structured array [N] with one column per field, mapped from the file and read-only.
        data: uint8: the whole file, mapped and read-only.
        alloc_table: `format.ALLOCATION` [A], in the file's order, mapped and read-only.
        sections: Our additions, by reserved sample id: (file pointer, size).

    Raises:
        FormatError: The file is truncated, damaged, of another version, or not a `.beton` file.
        FileNotFoundError: There is no such file.
    """

    def __init__(self, path: str | os.PathLike[str], custom_fields: Mapping[str, type[Field]] | None = None) -> None:
        self.path = os.fspath(path)
        self.data = _map(self.path)
        self.header = self._read_header()
        self.page_size = int(self.header["page_size"])
        self.num_samples = int(self.header["num_samples"])
        self.field_descriptors = self._read_descriptors()
        self.fields = self._read_fields(custom_fields or {})
        self.metadata = self._read_metadata()
        self.alloc_table = self._read_allocations()
        self._pointers, self._sizes = _lookup_table(self.alloc_table)
        self.sections = self._read_sections()
        self._check_metadata()

    @property
    def field_names(self) -> list[str]:
        return list(self.fields)

    @property
    def handlers(self) -> dict[str, Field]:
        """The original's name of `fields`."""
        return self.fields

    @property
    def file_name(self) -> str:
        """The original's name of `path`."""
        return self.path

    @property
    def metadata_type(self) -> np.dtype:
        return self.metadata.dtype

    def sizes(self, pointers: NDArray[np.uint64]) -> NDArray[np.uint64]:
        """The sizes in bytes (uint64 [B]) of the allocations that begin at `pointers` (uint64 [B]).

        Raises:
            FormatError: No allocation begins at one of them.
        """
        pointers = np.asarray(pointers, dtype=np.uint64)  # searchsorted would compare mixed signs as floats
        if np.array_equal(pointers, self._pointers):  # a whole column, of the only field with bytes
            return self._sizes
        last = np.searchsorted(self._pointers, pointers, side="right")
        found = last > 0
        found[found] = self._pointers[last[found] - 1] == pointers[found]
        if not found.all():
            i = int(np.argmin(found))
            self._fail(
                f"no allocation begins at byte {pointers[i]}, where entry {i} points; the file is damaged: {_RESTORE}"
            )
        return self._sizes[last - 1]

    def read(self, pointer: int) -> NDArray[np.uint8]:
        """The bytes of the allocation that begins at `pointer`: a read-only view of the mapped file."""
        size = self.sizes(np.array([pointer], dtype=np.uint64))[0]
        return self.data[pointer : pointer + int(size)]

    def read_section(self, section_id: int) -> bytes | None:
        """A section's content; None where the file has no such section."""
        if section_id not in self.sections:
            return None
        pointer, size = self.sections[section_id]
        return self.data[pointer : pointer + size].tobytes()

    @cached_property
    def fingerprint(self) -> str:
        """Identifies the dataset: a hash of all its tables and its size, but not of the pages."""
        digest = hashlib.blake2b(digest_size=16)
        digest.update(self.data[: self._metadata_end])
        digest.update(self.data[int(self.header["alloc_table_ptr"]) :])
        digest.update(self.data.size.to_bytes(8, "little"))
        return digest.hexdigest()

    @property
    def _metadata_start(self) -> int:
        return HEADER.itemsize + self.field_descriptors.nbytes

    @property
    def _metadata_end(self) -> int:
        return self._metadata_start + self.metadata.nbytes

    def _fail(self, problem: str) -> NoReturn:
        raise FormatError(f"{self.path}: {problem}")

    def _read_header(self) -> np.void:
        size = self.data.size
        if size < HEADER.itemsize:
            self._fail(
                f"not a .beton file, or truncated: {size} bytes, but the header alone has {HEADER.itemsize}; {_RESTORE}"
            )
        header = self.data[: HEADER.itemsize].view(HEADER)[0]
        if header["version"] != VERSION:
            self._fail(
                f"not a .beton file of version {VERSION}: it begins with {self.data[:4].tobytes()!r}; write "
                "one with 'ffcv write'"
            )
        page_size, num_fields, table = (int(header[name]) for name in ("page_size", "num_fields", "alloc_table_ptr"))
        if page_size < MIN_PAGE_SIZE or page_size & (page_size - 1):
            self._fail(
                f"page size {page_size} is not a power of two from {MIN_PAGE_SIZE}; the header is damaged: {_RESTORE}"
            )
        if num_fields == 0:
            self._fail(f"the header declares no fields; the file is damaged: {_RESTORE}")
        if table == 0:
            self._fail("unfinished: whatever wrote it stopped before the end; write it again with 'ffcv write'")
        if table > size:
            self._fail(
                f"truncated: its allocation table begins at byte {table}, but the file ends at byte {size}; {_RESTORE}"
            )
        if (size - table) % ALLOCATION.itemsize:
            self._fail(
                f"truncated: its allocation table of {size - table} bytes is not a multiple of "
                f"{ALLOCATION.itemsize}; {_RESTORE}"
            )
        if HEADER.itemsize + num_fields * FIELD_DESCRIPTOR.itemsize > table:
            self._fail(f"the header declares {num_fields} fields, which do not fit before byte {table}: {_RESTORE}")
        return header

    def _read_descriptors(self) -> NDArray[Any]:
        end = HEADER.itemsize + int(self.header["num_fields"]) * FIELD_DESCRIPTOR.itemsize
        return self.data[HEADER.itemsize : end].view(FIELD_DESCRIPTOR)

    def _read_fields(self, custom_fields: Mapping[str, type[Field]]) -> dict[str, Field]:
        fields: dict[str, Field] = {}
        for position, descriptor in enumerate(self.field_descriptors):
            name = self._read_name(position, descriptor["name"].tobytes())
            if name in fields:
                self._fail(
                    f"two fields are named {name!r}; write the file again with distinct names of at most 16 bytes"
                )
            type_id = int(descriptor["type_id"])
            if name not in custom_fields and type_id == FieldType.CUSTOM:
                self._fail(
                    f"field {name!r} is of a custom type: pass custom_fields={{{name!r}: YourField}} "
                    f"(got entries for {sorted(custom_fields)})"
                )
            if name not in custom_fields and type_id not in FIELD_TYPES:
                self._fail(
                    f"field {name!r} has the unknown type {type_id}; the file is damaged, or newer than this program"
                )
            field_type = custom_fields[name] if name in custom_fields else FIELD_TYPES[type_id]
            try:
                fields[name] = field_type.from_binary(descriptor["arguments"])
            except ValueError as error:
                raise FormatError(f"{self.path}: field {name!r}: {message_of(error)}; {_RESTORE}") from error
        return fields

    def _read_name(self, position: int, stored: bytes) -> str:
        text = stored.rstrip(b"\0")
        try:
            return check_field_name(text.decode("ascii"))
        except ValueError:
            self._fail(f"field {position} has the impossible name {text!r}; the file is damaged: {_RESTORE}")

    def _read_metadata(self) -> NDArray[Any]:
        dtype = metadata_dtype((name, field.metadata_type) for name, field in self.fields.items())
        end = self._metadata_start + self.num_samples * dtype.itemsize
        if end > int(self.header["alloc_table_ptr"]):
            self._fail(
                f"truncated or damaged: {self.num_samples} samples of {dtype.itemsize} bytes of metadata do "
                "not fit "
                f"before byte {self.header['alloc_table_ptr']}; {_RESTORE}"
            )
        return self.data[self._metadata_start : end].view(dtype)

    def _read_allocations(self) -> NDArray[Any]:
        """The allocation table, every row checked; `sizes` and all that reads bytes rely on this."""
        end = int(self.header["alloc_table_ptr"])
        table = self.data[end:].view(ALLOCATION)
        pointer, size, owner = table["ptr"], table["size"], table["sample_id"]
        limit = np.uint64(end)
        first = np.uint64(align_up(self._metadata_end, self.page_size))
        empty = size == 0  # the original gives these pointers of no meaning
        self._refuse(
            ~empty & ((pointer < first) | (pointer > limit) | (size > limit - pointer)) | empty & (pointer > limit),
            f"lies outside the pages (bytes {first} to {end})",
        )
        if end % self.page_size and not empty.all():
            self._fail(f"truncated or damaged: its pages end at byte {end}, in the middle of a page; {_RESTORE}")
        is_section = owner >= np.uint64(FIRST_SECTION_ID)
        self._refuse(
            ~is_section & (owner >= self.num_samples),
            f"is of a sample beyond the {self.num_samples} declared",
        )
        page_bits = np.uint64(self.page_size.bit_length() - 1)
        crosses = (pointer >> page_bits) != ((pointer + size - np.uint64(1)) >> page_bits)
        self._refuse(~is_section & ~empty & crosses, "crosses from one page into the next")
        starts, sizes = pointer[~empty], size[~empty]
        if np.any(starts[1:] < starts[:-1]):
            order = np.argsort(starts, kind="stable")
            starts, sizes = starts[order], sizes[order]
        overlap = starts[1:] < starts[:-1] + sizes[:-1]
        if overlap.any():
            at = starts[int(np.argmax(overlap)) + 1]
            self._fail(f"two allocations overlap at byte {at}; the file is damaged: {_RESTORE}")
        return table

    def _refuse(self, wrong: NDArray[np.bool_], problem: str) -> None:
        if wrong.any():
            self._fail(f"allocation {int(np.argmax(wrong))} {problem}; the file is damaged: {_RESTORE}")

    def _read_sections(self) -> dict[int, tuple[int, int]]:
        rows = self.alloc_table[self.alloc_table["sample_id"] >= np.uint64(FIRST_SECTION_ID)]
        sections = {int(row["sample_id"]): (int(row["ptr"]), int(row["size"])) for row in rows}
        if len(sections) != len(rows):
            self._fail(f"a section appears twice; the file is damaged: {_RESTORE}")
        return sections

    def _check_metadata(self) -> None:
        for name, field in self.fields.items():
            try:
                field.check_metadata(self.metadata[name], self.sizes)
            except FormatError as error:
                prefix = f"{self.path}: "
                self._fail(f"field {name!r}: {str(error).removeprefix(prefix)}")
            except ValueError as error:
                self._fail(f"field {name!r}: {message_of(error)}; the file is damaged: {_RESTORE}")


def _map(path: str) -> NDArray[np.uint8]:
    """The file's bytes, mapped and read-only."""
    if not os.path.exists(path):
        raise FileNotFoundError(
            f"{path}: no such file; check the path, or write the file with 'ffcv write FOLDER {path}'"
        )
    if not os.path.isfile(path):
        raise FormatError(f"{path}: not a file; give the path of a .beton file")
    with open(path, "rb") as file:
        if os.fstat(file.fileno()).st_size == 0:  # which cannot be mapped
            return np.empty(0, dtype=np.uint8)
        return np.frombuffer(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ), dtype=np.uint8)


def _lookup_table(table: NDArray[Any]) -> tuple[NDArray[np.uint64], NDArray[np.uint64]]:
    """Pointers and sizes by rising pointer; where an empty and a full one coincide, the full one is last."""
    pointer, size = table["ptr"], table["size"]
    if np.any(pointer[1:] <= pointer[:-1]):
        order = np.lexsort((size, pointer))
        return pointer[order], size[order]
    # searchsorted would copy an unaligned, strided column at each call.
    return np.ascontiguousarray(pointer), np.ascontiguousarray(size)
