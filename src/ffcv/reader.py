"""Opens `.beton` files, and checks at opening everything that is relied on later.

Tables are read, not mapped: see docs/decisions/0006-pread-not-mmap.md.
"""

from __future__ import annotations

import hashlib
import mmap
import os
from collections.abc import Iterator, Mapping
from functools import cached_property
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from ffcv import _core
from ffcv._checksums import Checksums
from ffcv._file_bytes import FileBytes
from ffcv._header import RESTORE, read_descriptors, read_fields, read_header
from ffcv.errors import FormatError, message_of
from ffcv.fields.base import Field, MetadataError, first_index
from ffcv.format import (
    ALLOCATION,
    ENTRY_POINTS_HEADER,
    ENTRY_POINTS_VERSION,
    FIRST_SECTION_ID,
    HEADER,
    Section,
    metadata_dtype,
    with_second_names,
)

_BLOCK = 1 << 16
"""Rows that are checked at a time."""

TABLE_IN_MEMORY = 64 << 20
"""Metadata tables up to this many bytes are kept in memory, larger ones are mapped."""

_FOREIGN = -2  # `_core.AllocationTable.find`


def either(name: str, value: Any, other_name: str, other: Any) -> Any:
    """What was passed of an argument that has two names, one of them the original's; None: nothing."""
    if value is not None and other is not None:
        raise ValueError(
            f"{name} and {other_name} are two names of one argument, got {value!r} and {other!r}: pass one of them"
        )
    return other if value is None else value


class Reader:
    """A validated `.beton` file. Opening reads its tables, never its pages.

    Args:
        path: The file.
        custom_fields: For each field of a custom type, the `Field` subclass that wrote it (or one of its fields).
        verify_checksums: Compare the tables now, and samples when they are read, with the checksums in the file (if it
            has any; the original's have none).
        fname, custom_handlers: The original's names of `path` and `custom_fields`.

    Attributes:
        path: As given, as text.
        bytes: The open file, read with pread.
        page_size: In bytes.
        num_samples: N.
        field_names: In the file's order.
        fields: The fields by name, in the file's order.
        metadata: Structured array [N] with one column per field, read-only; in memory up to `TABLE_IN_MEMORY`, else
            mapped, so that looking at it ends the process if the file has shrunk; `rows` and `column` raise instead.
            The columns' second names are the original's: f0, f1, ...
        sections: Our additions, by reserved sample id: (file pointer, size).
        checksums: What samples are verified against; None where there is nothing to verify.

    Raises:
        FormatError: The file is truncated, damaged, of another version, or not a `.beton` file.
        FileNotFoundError: There is no such file.
    """

    def __init__(
        self,
        path: str | os.PathLike[str] | None = None,
        custom_fields: Mapping[str, type[Field]] | None = None,
        *,
        verify_checksums: bool = True,
        fname: str | os.PathLike[str] | None = None,
        custom_handlers: Mapping[str, type[Field]] | None = None,
    ) -> None:
        path = either("path", path, "fname", fname)
        if path is None:
            raise ValueError("Reader needs the path of a .beton file as its first argument")
        custom_fields = either("custom_fields", custom_fields, "custom_handlers", custom_handlers)
        self.path = os.fspath(path)
        self.bytes = FileBytes(self.path)
        self.header = read_header(self.bytes)
        self.page_size = int(self.header["page_size"])
        self.num_samples = int(self.header["num_samples"])
        self.field_descriptors = read_descriptors(self.bytes, self.header)
        self.fields = read_fields(self.bytes, self.field_descriptors, custom_fields or {})
        self.metadata = self._read_metadata()
        self.sections = self._read_sections()
        self._check_metadata()
        self.checksums = self._read_checksums() if verify_checksums else None
        self.bytes.check_unchanged()

    @cached_property
    def data(self) -> NDArray[np.uint8]:
        """The whole file, mapped and read-only. Looking at it ends the process with SIGBUS if the file has shrunk."""
        if self.bytes.size == 0:  # which cannot be mapped
            return np.empty(0, dtype=np.uint8)
        self.bytes.check_unchanged()
        mapping = mmap.mmap(self.bytes.file.fileno(), self.bytes.size, access=mmap.ACCESS_READ)
        return np.frombuffer(mapping, dtype=np.uint8)

    @cached_property
    def allocations(self) -> NDArray[Any]:
        """`format.ALLOCATION` [A], in the file's order, sections included; read-only."""
        # Before it takes memory: every row has a byte of the pages, or is one of the original's for an empty value.
        pages = int(self.header["alloc_table_ptr"]) - self.metadata_end
        rows = (self.bytes.size - int(self.header["alloc_table_ptr"])) // ALLOCATION.itemsize
        if rows > pages + self.num_samples * len(self.fields):
            self._fail(
                f"its allocation table has {rows} rows for {self.num_samples} samples and {pages} bytes of pages; the "
                f"file is damaged: {RESTORE}"
            )
        return self.bytes[int(self.header["alloc_table_ptr"]) :].view(ALLOCATION)

    @property
    def alloc_table(self) -> NDArray[Any]:
        """`allocations` without the sections, as the original has it."""
        return self.allocations[self.allocations["sample_id"] < np.uint64(FIRST_SECTION_ID)]

    @cached_property
    def core_table(self) -> _core.AllocationTable:
        """`allocations` for the core, every row checked: all that reads bytes relies on this."""
        end = int(self.header["alloc_table_ptr"])
        # Not the first whole page: the writer may have begun with smaller ones.
        first = self.metadata_end
        table = _core.AllocationTable(self.allocations.view(np.uint8))
        problem = table.check(first, end, self.page_size, self.num_samples, FIRST_SECTION_ID)
        if problem is not None:
            self._fail(f"{problem}: {RESTORE}")
        return table

    def forget_allocations(self) -> None:
        """Lets go of the memory of the allocation table, which is read again when it is asked for."""
        self.__dict__.pop("allocations", None)
        self.__dict__.pop("core_table", None)

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

    def extents(self, pointers: NDArray[np.uint64]) -> tuple[NDArray[np.uint64], NDArray[np.uint32] | None]:
        """The sizes in bytes (uint64 [B]) of the allocations that begin at `pointers` (uint64 [B]), and their CRC32C
        (uint32 [B]), or None where the file has no checksums or they are not to be verified.

        Raises:
            FormatError: No allocation begins at one of them.
        """
        rows = self._rows(pointers, None)
        try:
            return self.core_table.sizes(rows), None if self.checksums is None else self.checksums.of(rows)
        except IndexError:
            self._fail(f"a pointer leads into the section of checksums; the file is damaged: {RESTORE}")

    def sizes(self, pointers: NDArray[np.uint64]) -> NDArray[np.uint64]:
        """The sizes in bytes (uint64 [B]) of the allocations that begin at `pointers` (uint64 [B]).

        Raises:
            FormatError: No allocation begins at one of them.
        """
        return self.core_table.sizes(self._rows(pointers, None))

    def read(self, pointer: int) -> NDArray[np.uint8]:
        """The bytes of the allocation that begins at `pointer`, read-only.

        Raises:
            FormatError: There is none, or its bytes are not those that were written.
        """
        sizes, checksums = self.extents(np.array([pointer], dtype=np.uint64))
        content = self.bytes[pointer : pointer + int(sizes[0])]
        if checksums is not None and _core.crc32c(content) != checksums[0]:
            self._fail(
                f"checksum mismatch: the {content.size} bytes at byte {pointer} are not those that were written; "
                f"list all bad samples with 'ffcv verify {self.path}'"
            )
        return content

    def _rows(self, pointers: NDArray[Any], owners: NDArray[np.uint64] | None) -> NDArray[np.int64]:
        """The rows of `alloc_table` that begin at `pointers`; `owners` are the samples that they must belong to."""
        pointers = np.require(pointers, np.uint64, ["C", "A"])  # a column of a file may lie at any address
        rows = self.core_table.find(pointers, owners)
        wrong = rows < 0
        if wrong.any():
            i = first_index(wrong)
            entry = i if owners is None else int(owners[i])
            if rows[i] == _FOREIGN:
                raise MetadataError(i, f"points to byte {pointers[i]}, which belongs to another sample")
            self._fail(
                f"no allocation begins at byte {pointers[i]}, where entry {entry} points; the file is damaged: "
                f"{RESTORE}"
            )
        return rows

    def read_section(self, section_id: int) -> bytes | None:
        """A section's content; None where the file has no such section."""
        content = self.section(section_id)
        return None if content is None else content.tobytes()

    def section(self, section_id: int) -> NDArray[np.uint8] | None:
        """A section's content, read-only; None where the file has no such section."""
        if section_id not in self.sections:
            return None
        pointer, size = self.sections[section_id]
        return self.bytes[pointer : pointer + size]

    @cached_property
    def largest_entry_points(self) -> int:
        """Bytes of the largest entry points that lie behind JPEGs; 0 for a file without them."""
        content = self.section(Section.ENTRY_POINTS)
        if content is None or content.size != ENTRY_POINTS_HEADER.itemsize:
            return 0
        header = content.view(ENTRY_POINTS_HEADER)[0]
        return int(header["largest"]) if header["version"] == ENTRY_POINTS_VERSION else 0

    @cached_property
    def fingerprint(self) -> str:
        """Identifies the dataset: a hash of all its tables and its size, but not of the pages."""
        digest = hashlib.blake2b(digest_size=16)
        for start, stop in ((0, self.metadata_end), (int(self.header["alloc_table_ptr"]), self.bytes.size)):
            for block in self.bytes.blocks(start, stop):
                digest.update(block.data)
        digest.update(self.bytes.size.to_bytes(8, "little"))
        self.bytes.check_unchanged()
        return digest.hexdigest()

    @property
    def _metadata_start(self) -> int:
        return HEADER.itemsize + self.field_descriptors.nbytes

    @property
    def metadata_end(self) -> int:
        """Where the metadata ends; the pages lie behind."""
        return self._metadata_start + self.metadata.nbytes

    def _fail(self, problem: str) -> NoReturn:
        raise FormatError(f"{self.path}: {problem}")

    def _read_metadata(self) -> NDArray[Any]:
        dtype = metadata_dtype((name, field.metadata_type) for name, field in self.fields.items())
        size = self.num_samples * dtype.itemsize
        end = self._metadata_start + size
        if end > int(self.header["alloc_table_ptr"]):
            self._fail(
                f"truncated or damaged: {self.num_samples} samples of {dtype.itemsize} bytes of metadata do "
                "not fit "
                f"before byte {self.header['alloc_table_ptr']}; {RESTORE}"
            )
        content = self.bytes if size <= TABLE_IN_MEMORY else self.data
        return content[self._metadata_start : end].view(with_second_names(dtype))

    def rows(self, start: int, stop: int) -> NDArray[Any]:
        """`metadata[start:stop]`, never mapped: an exception where the file has shrunk."""
        if self.metadata.nbytes <= TABLE_IN_MEMORY:
            return self.metadata[start:stop]
        start, stop, _ = slice(start, stop).indices(self.num_samples)
        dtype = self.metadata.dtype
        begin, end = (self._metadata_start + row * dtype.itemsize for row in (start, stop))
        return self.bytes[begin:end].view(dtype)

    def column(self, name: str, part: str | None = None) -> NDArray[Any]:
        """`metadata[name]`, or `metadata[name][part]`: a copy that is never mapped."""
        dtype = self.metadata.dtype[name] if part is None else self.metadata.dtype[name][part]
        out = np.empty(self.num_samples, dtype)
        for start, rows in self._metadata_blocks():
            out[start : start + len(rows)] = rows[name] if part is None else rows[name][part]
        return out

    def _metadata_blocks(self) -> Iterator[tuple[int, NDArray[Any]]]:
        """(first sample, rows) of the metadata, in order; at least one."""
        for start in range(0, max(1, self.num_samples), _BLOCK):
            yield start, self.rows(start, start + _BLOCK)

    def _read_sections(self) -> dict[int, tuple[int, int]]:
        rows: list[np.void] = []
        checked = len(self.core_table)  # which checks every row, before any is looked at
        for start in range(0, checked, _BLOCK):
            block = self.allocations[start : start + _BLOCK]
            rows.extend(block[block["sample_id"] >= np.uint64(FIRST_SECTION_ID)])
        sections = {int(row["sample_id"]): (int(row["ptr"]), int(row["size"])) for row in rows}
        if len(sections) != len(rows):
            self._fail(f"a section appears twice; the file is damaged: {RESTORE}")
        return sections

    def _read_checksums(self) -> Checksums | None:
        """The checksums, after those of the tables themselves have been verified."""
        if Section.CHECKSUMS not in self.sections:
            return None
        pointer, size = self.sections[Section.CHECKSUMS]
        try:
            size = min(size, Checksums.section_size(len(self.allocations) - 1) + 1)  # one more is refused, however many
            checksums = Checksums.from_bytes(self.bytes[pointer : pointer + size])
            if checksums is not None:
                if self.allocations[-1]["sample_id"] != Section.CHECKSUMS:
                    raise ValueError("the section of checksums is not the last allocation")
                head = 0
                for block in self.bytes.blocks(0, self.metadata_end):
                    head = _core.crc32c(block, head)
                checksums.check_tables(head, self.allocations.view(np.uint8))
        except ValueError as error:
            self._fail(f"{message_of(error)}; the file is damaged: {RESTORE}")
        return checksums

    def _check_metadata(self) -> None:
        """Every field's column, in blocks: memory stays bounded, however many samples there are."""
        for start, rows in self._metadata_blocks():
            for name, field in self.fields.items():
                try:
                    field.check_metadata(rows[name], _OwnSizes(self, start))
                except MetadataError as error:
                    self._fail(
                        f"field {name!r}: sample {start + error.row}: {error.problem}; the file is damaged: {RESTORE}"
                    )
                except FormatError as error:
                    self._fail(f"field {name!r}: {str(error).removeprefix(f'{self.path}: ')}")
                except ValueError as error:
                    self._fail(f"field {name!r}: {message_of(error)}; the file is damaged: {RESTORE}")


class _OwnSizes:
    """What fields check their pointers with: the sizes of allocations that belong to the samples that point there."""

    def __init__(self, reader: Reader, start: int) -> None:
        self._reader = reader
        self._start = start

    def __call__(self, pointers: NDArray[Any], rows: NDArray[Any] | None = None) -> NDArray[np.uint64]:
        owners = self._start + (np.arange(len(pointers)) if rows is None else rows)
        try:
            found = self._reader._rows(pointers, owners.astype(np.uint64))
        except MetadataError as error:
            raise MetadataError(error.row if rows is None else int(rows[error.row]), error.problem) from None
        return self._reader.core_table.sizes(found)
