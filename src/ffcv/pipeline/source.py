"""Where a plan gets a batch's bytes from.

Everything that is read while loading is read with pread, never through the mapping: a file that shrinks under a mapping
ends the process with SIGBUS, a short read is an exception. See docs/decisions/0006-pread-not-mmap.md.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np

from ffcv import _core
from ffcv._file_bytes import Identity
from ffcv.errors import FormatError
from ffcv.format import HEADER
from ffcv.pipeline.extents import Extents
from ffcv.reader import TABLE_IN_MEMORY, Reader

_NOTHING = np.empty(0, np.uint8)
_POINTER = np.dtype("<u8")


class UnreadableError(FormatError):
    """The bytes cannot be had, which says nothing about the sample: no policy for bad samples applies."""


class Location(NamedTuple):
    """Where the core finds a batch's images: in `storage`, or, if given, in `file`."""

    storage: np.ndarray  # uint8
    offsets: np.ndarray  # uint64 [B]
    file: _core.StorageFile | None


class Source(Protocol):
    """What a plan needs of a source; `FileSource` says what the methods do."""

    extents: Extents

    def rows(self, samples: np.ndarray) -> np.ndarray: ...
    def check(self, samples: np.ndarray, rows: np.ndarray) -> None: ...
    def read(self, pointer: int) -> np.ndarray: ...
    def locate(self, pointers: np.ndarray) -> Location: ...


class FileSource:
    """Reads samples as they are needed, from the operating system's cache or the disk.

    Args:
        reader: The open file.
    """

    def __init__(self, reader: Reader) -> None:
        self.reader = reader
        self.file = reader.bytes.file
        self._opened = reader.bytes.opened
        self._path = os.path.abspath(reader.path)  # a relative one would follow the working directory
        self._table_start = HEADER.itemsize + reader.field_descriptors.nbytes
        self.extents = Extents(reader)
        self._table = reader.metadata if reader.metadata.nbytes <= TABLE_IN_MEMORY else None

    def rows(self, samples: np.ndarray) -> np.ndarray:
        """The metadata of `samples` (int64 [B]): a structured array [B]."""
        if self._table is not None:
            return self._table[samples]
        dtype = self.reader.metadata.dtype
        out = np.empty(len(samples), dtype)
        try:
            self.file.read_rows(
                self._table_start, dtype.itemsize, np.ascontiguousarray(samples, np.int64), out.view(np.uint8)
            )
        except _core.ReadError as error:
            raise FormatError(f"{self.reader.path}: metadata of sample {samples[0]} and others: {error}") from error
        return out

    def check(self, samples: np.ndarray, rows: np.ndarray) -> None:
        """Makes sure that the file is what it was when it was opened.

        Args:
            samples: int64 [B], the batch for which this is asked.
            rows: Their metadata.

        Raises:
            FormatError: It was truncated, written to, or replaced; names the first sample affected and its offset.
        """
        problem, size = self._change()
        if problem is None:
            return
        sample, offset = self._first_affected(samples, rows, size)
        raise FormatError(
            f"{self.reader.path}: {problem} while it was open, noticed at sample {sample} (offset {offset}); "
            "restore the file, or make a new Loader for the new one"
        ) from None  # what else went wrong with the batch came of that

    def check_open(self) -> None:
        """As `check`, for no sample in particular."""
        problem, _ = self._change()
        if problem is not None:
            raise FormatError(f"{self.reader.path}: {problem} while it was open; restore it, or make a new Loader")

    def _change(self) -> tuple[str | None, int]:
        """What happened to the file (None: nothing), and its size now."""
        try:
            now = os.fstat(self.file.fileno())
        except OSError as error:
            return f"it could not be examined any more ({error.strerror})", self._opened.size
        if now.st_size != self._opened.size:
            return f"its size changed from {self._opened.size} to {now.st_size} bytes", now.st_size
        if Identity.of(now) != self._opened:
            return "it was written to", now.st_size
        try:
            there = os.stat(self._path)
        except (FileNotFoundError, NotADirectoryError):
            return None, now.st_size  # deleted, but complete as long as it is open
        except OSError as error:
            return f"its path could not be examined any more ({error.strerror})", now.st_size
        replaced = (there.st_dev, there.st_ino) != (self._opened.device, self._opened.inode)
        return "it was replaced by another file" if replaced else None, now.st_size

    def read(self, pointer: int) -> np.ndarray:
        """uint8: the bytes of the allocation at `pointer`.

        Raises:
            UnreadableError: They cannot be read.
            FormatError: They are not those that were written.
        """
        found = self.extents.of(np.array([pointer], np.uint64))
        content = np.empty(int(found.sizes[0]), np.uint8)
        try:
            self.file.read(int(pointer), content)
        except _core.ReadError as error:
            raise UnreadableError(f"{self.reader.path}: {error}") from error
        if not self.extents.is_intact(found, content):
            raise FormatError(
                f"{self.reader.path}: checksum mismatch: the {content.size} bytes at byte {pointer} are not those that "
                f"were written; list all bad samples with 'ffcv verify {self.reader.path}'"
            )
        return content

    def locate(self, pointers: np.ndarray) -> Location:
        """Where the core finds the allocations at `pointers` (uint64 [B])."""
        return Location(_NOTHING, pointers, self.file)

    def _first_affected(self, samples: np.ndarray, rows: np.ndarray, size: int) -> tuple[int, int]:
        first: tuple[int, int] | None = None
        for column in pointer_columns(self.reader):
            owners = samples[has_bytes(rows, column)]
            pointers = pointers_in(rows, column)
            beyond = np.flatnonzero(pointers >= size)
            if len(beyond):
                return int(owners[beyond[0]]), int(pointers[beyond[0]])
            if first is None and len(pointers):
                first = int(owners[0]), int(pointers[0])
        if first is not None:
            return first
        return int(samples[0]), self._table_start + int(samples[0]) * self.reader.metadata.dtype.itemsize


def pointer_columns(reader: Reader, fields: Collection[str] | None = None) -> Sequence[tuple[str, str | None]]:
    """The (field, column of its metadata) pairs that hold file pointers, of all fields or some."""
    found: list[tuple[str, str | None]] = []
    for name, field in reader.fields.items():
        if fields is not None and name not in fields:
            continue
        dtype = reader.metadata.dtype[name]
        for column in ("data_ptr", "ptr"):  # in a custom field it may be something else
            if column in (dtype.names or ()) and dtype[column] == _POINTER:
                found.append((name, column))
        if dtype == _POINTER and hasattr(field, "element_size"):
            found.append((name, None))
    return found


def has_bytes(rows: np.ndarray, column: tuple[str, str | None]) -> np.ndarray:
    """bool [B]: which rows' pointers mean something; those of empty values do not."""
    field, name = column
    has_size = name == "ptr" and "size" in (rows.dtype[field].names or ())
    return rows[field]["size"] > 0 if has_size else np.ones(len(rows), bool)


def pointers_in(rows: np.ndarray, column: tuple[str, str | None]) -> np.ndarray:
    """uint64: the pointers of one column of `rows`, without those of empty values."""
    field, name = column
    values: Any = rows[field] if name is None else rows[field][name]
    return values[has_bytes(rows, column)].astype(np.uint64)
