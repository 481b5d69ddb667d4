"""Where in a `.beton` file everything goes that is written."""

from __future__ import annotations

from collections.abc import Mapping
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from ffcv import _core
from ffcv._checksums import Checksums
from ffcv._encoding import EncodedChunk
from ffcv._restart_index import RestartIndex
from ffcv.errors import WriteError, one_line
from ffcv.fields import FIELD_TYPES
from ffcv.fields.base import ARG_TYPE, Field
from ffcv.format import (
    ALLOCATION,
    DEFAULT_PAGE_SIZE,
    ENTRY_POINTS_HEADER,
    ENTRY_POINTS_VERSION,
    FIELD_DESCRIPTOR,
    HEADER,
    MAX_FIELDS,
    MAX_PAGE_SIZE,
    VERSION,
    FieldType,
    Section,
    align_up,
    check_field_name,
    metadata_dtype,
)

_WRITEBACK_BYTES = 16 << 20
"""After so many bytes the disk begins with them, so that the fsync at the end has little to wait for."""


class Layout:
    """Gives samples their places in the file and writes them there; the tables and the header come last."""

    def __init__(
        self,
        file: IO[bytes],
        path: str,
        descriptors: NDArray[Any],
        metadata_type: np.dtype,
        num_samples: int,
        page_size: int | None,
    ) -> None:
        self.num_written = 0
        self._file = file
        self._path = path
        self._grows = page_size is None
        self._page_size = page_size or DEFAULT_PAGE_SIZE
        self._descriptors = descriptors
        self._metadata = np.zeros(num_samples, dtype=metadata_type)  # room for the samples that may be skipped, too
        self._metadata_end = HEADER.itemsize + self._descriptors.nbytes + self._metadata.nbytes
        self._tables: list[NDArray[Any]] = []
        self._checksums: list[NDArray[np.uint32]] = []
        self._largest_behind = 0
        self._restarts: list[tuple[int, NDArray[np.uint32]]] = []
        # The end of the bytes written: before the first page until something has been allocated.
        self._end = self._handed_over = align_up(self._metadata_end, self._page_size)
        file.seek(self._end)

    def append(self, chunk: EncodedChunk) -> None:
        """Writes the next samples."""
        first, count = self.num_written, len(chunk.metadata)
        parts = np.searchsorted(chunk.owners, np.arange(count + 1))
        places = np.array([self._place(chunk, row, *parts[row : row + 2]) for row in range(count)], dtype=np.int64)
        table = np.zeros(len(chunk.offsets), dtype=ALLOCATION)
        table["sample_id"] = first + chunk.owners
        table["ptr"] = chunk.relocate(places)
        table["size"] = chunk.sizes
        self._tables.append(table)
        self._checksums.append(chunk.checksums)
        for i, index in chunk.restarts.items():
            self._restarts.append((int(table["ptr"][i]), index))
        self._largest_behind = max(self._largest_behind, chunk.largest_behind)
        self._metadata[first : first + count] = chunk.metadata
        self.num_written += count
        if self._end - self._handed_over >= _WRITEBACK_BYTES:
            _core.start_writeback(self._file.fileno(), self._handed_over, self._end - self._handed_over)
            self._handed_over = self._end

    def _place(self, chunk: EncodedChunk, row: int, first_part: int, end_part: int) -> int:
        """Writes one sample's bytes, all in one page as in the original; returns where."""
        size = int(chunk.starts[row + 1] - chunk.starts[row])
        needed = 1 << max(0, size - 1).bit_length()
        if size > self._page_size and self._grows and needed <= MAX_PAGE_SIZE:
            self._page_size = needed  # what did not cross a small page's end does not cross a large one's
        if size > self._page_size:
            position = self.num_written + row
            advice = f"set page_size={needed}" if needed <= MAX_PAGE_SIZE else "split it into smaller samples"
            raise WriteError(
                f"{self._path}: sample {position} takes {size} bytes, more than a page of {self._page_size}; {advice}",
                position,
            )
        if size > self._page_size - self._end % self._page_size:
            self._pad_to(align_up(self._end, self._page_size))
        place = self._end
        self._file.writelines(chunk.payload[first_part:end_part])
        self._end += size
        return place

    def append_section(self, section_id: int, content: bytes) -> None:
        """Writes one of our additions, after the last sample."""
        self._reserve_section(section_id, len(content))
        self._file.write(content)
        self._checksums.append(np.array([_core.crc32c(np.frombuffer(content, np.uint8))], dtype=np.uint32))

    def append_jpeg_sections(self) -> None:
        """Writes the sections that say where the rows of JPEGs begin, if any has restart markers, and that entry points
        lie behind JPEGs, if they do."""
        if self._largest_behind:
            header = np.array((ENTRY_POINTS_VERSION, self._largest_behind), dtype=ENTRY_POINTS_HEADER)
            self.append_section(Section.ENTRY_POINTS, header.tobytes())
        if self._restarts:
            self.append_section(Section.JPEG_RESTART_INDEX, RestartIndex.from_rows(self._restarts).to_bytes())

    def _reserve_section(self, section_id: int, size: int) -> int:
        """Gives a section its place, where the file will be written next; returns it."""
        place = align_up(self._end, 8)
        self._pad_to(place)
        self._tables.append(np.array([(section_id, place, size)], dtype=ALLOCATION))
        self._end += size
        return place

    def finish(self, checksums: bool) -> None:
        """Completes the last page; writes the tables, their checksums and, last of all, the header."""
        place = 0
        if checksums:
            rows = sum(len(part) for part in self._checksums)
            place = self._reserve_section(Section.CHECKSUMS, Checksums.section_size(rows))
        self._pad_to(align_up(self._end, self._page_size))
        table = np.concatenate([np.empty(0, dtype=ALLOCATION), *self._tables])
        # A file of numbers only has no pages, and its table begins where the metadata ends.
        table_start = self._end if len(table) else self._metadata_end
        header = np.zeros((), dtype=HEADER)
        header["version"] = VERSION
        header["num_fields"] = len(self._descriptors)
        header["page_size"] = self._page_size
        header["num_samples"] = self.num_written
        header["alloc_table_ptr"] = table_start
        self._file.seek(table_start)
        self._file.write(_bytes_of(table).data)
        self._file.truncate()
        self._metadata = self._metadata[: self.num_written]
        if checksums:
            head = 0
            for part in (header, self._descriptors, self._metadata):
                head = _core.crc32c(_bytes_of(part), head)
            rows = np.concatenate([np.empty(0, dtype=np.uint32), *self._checksums])
            self._file.seek(place)
            self._file.write(Checksums(head, _core.crc32c(_bytes_of(table)), rows).to_bytes())
        self._file.seek(HEADER.itemsize)
        self._file.write(_bytes_of(self._descriptors).data)
        self._file.write(_bytes_of(self._metadata).data)
        self._file.seek(0)
        self._file.write(header.tobytes())

    def _pad_to(self, end: int) -> None:
        """Leaves a hole, which reads as zeros and takes no room on most disks."""
        self._file.seek(end)
        self._end = end


def _bytes_of(array: NDArray[Any]) -> NDArray[np.uint8]:
    """The array's bytes, without a copy."""
    return np.ascontiguousarray(array).reshape(-1).view(np.uint8)


def metadata_type_of(fields: Mapping[str, Field]) -> np.dtype:
    """One sample's metadata.

    Raises:
        ValueError: A field's `metadata_type` cannot be stored.
    """
    for name, field in fields.items():
        given = field.metadata_type
        try:
            dtype = np.dtype(given)
        except TypeError:
            dtype = np.dtype([])
        if dtype.hasobject or dtype.itemsize == 0:
            raise ValueError(
                f"field {name!r}: its metadata_type {given!r} cannot be stored; return a numpy dtype of numbers, or a "
                "struct of them, of at least one byte"
            )
    return metadata_dtype((name, field.metadata_type) for name, field in fields.items())


def describe(fields: Mapping[str, Field]) -> NDArray[Any]:
    """The field descriptors, `FIELD_DESCRIPTOR` [fields].

    Raises:
        ValueError, TypeError: There are none or too many, a name breaks the format's rule, or something is no `Field`
            or has arguments that cannot be stored.
    """
    if not isinstance(fields, Mapping):
        raise TypeError(f"fields maps names to fields, as in {{'image': RGBImageField()}}; got {type(fields).__name__}")
    if not 1 <= len(fields) <= MAX_FIELDS:
        raise ValueError(
            f"fields has {len(fields)} entries: name 1 to {MAX_FIELDS} fields, such as {{'image': RGBImageField()}}"
        )
    type_ids = {field_type: type_id for type_id, field_type in FIELD_TYPES.items()}
    descriptors = np.zeros(len(fields), dtype=FIELD_DESCRIPTOR)
    for descriptor, (name, field) in zip(descriptors, fields.items(), strict=True):
        check_field_name(name)
        if not isinstance(field, Field):
            raise TypeError(f"field {name!r} must be a Field, got {field!r}: has it been called, as in IntField()?")
        # A subclass of one of our fields may store anything, and so counts as custom.
        descriptor["type_id"] = type_ids.get(type(field), FieldType.CUSTOM)
        descriptor["name"][: len(name)] = np.frombuffer(name.encode("ascii"), np.uint8)
        descriptor["arguments"][:] = _arguments_of(name, field)
    return descriptors


def _arguments_of(name: str, field: Field) -> NDArray[np.uint8]:
    record = field.to_binary()
    try:
        arguments = np.asarray(record[0])
    except (TypeError, IndexError, KeyError) as error:
        raise TypeError(f"field {name!r}: to_binary() must return pack_arguments(...): {one_line(error)}") from error
    expected = ARG_TYPE[0].shape
    if arguments.dtype != np.uint8 or arguments.shape != expected:
        raise TypeError(
            f"field {name!r}: to_binary() must return pack_arguments(...), a record of uint8 {list(expected)}; its "
            f"first entry is {arguments.dtype} {list(arguments.shape)}"
        )
    return arguments
