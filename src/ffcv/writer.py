"""Writes `.beton` files."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from typing import IO, Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from ffcv._atomic_file import atomic_file
from ffcv._encoding import EncodedChunk, Job, Work
from ffcv._workers import Backend, encode_all
from ffcv.errors import WriteError
from ffcv.fields import FIELD_TYPES
from ffcv.fields.base import Field
from ffcv.format import (
    ALLOCATION,
    DEFAULT_PAGE_SIZE,
    FIELD_DESCRIPTOR,
    HEADER,
    MAX_PAGE_SIZE,
    MIN_PAGE_SIZE,
    VERSION,
    FieldType,
    Section,
    align_up,
    check_field_name,
    metadata_dtype,
)

__all__ = ["DatasetWriter"]


class DatasetWriter:
    """Writes a dataset to a `.beton` file, which the original reads too.

    The file appears under its name when it is complete and on disk, never before; a failure leaves nothing
    behind. Its bytes do not depend on the number of workers.

    Args:
        fname: The file to write; one that exists is replaced.
        fields: For each name the kind of field, in the order of the dataset's values.
        page_size: A power of two from 2 MiB to 2 GiB; a sample's bytes must fit in one page.
        num_workers: How many samples are encoded at a time; -1 for one per available core.
        backend: 'process' for Python datasets; 'thread' where the work happens in native code.
        manifest: A JSON object about the data (class names, options) to keep in the file; see
            `format.Section`.
        on_progress: Called with (samples done, samples in all) as the file grows.

    Raises:
        ValueError: An argument is out of range, or a name breaks the format's rule.
    """

    def __init__(
        self,
        fname: str | os.PathLike[str],
        fields: Mapping[str, Field],
        page_size: int = DEFAULT_PAGE_SIZE,
        num_workers: int = -1,
        *,
        backend: Backend = "process",
        manifest: Mapping[str, Any] | None = None,
        on_progress: Callable[[int, int], None] | None = None,
    ) -> None:
        if page_size & (page_size - 1) or not MIN_PAGE_SIZE <= page_size <= MAX_PAGE_SIZE:
            raise ValueError(
                f"page_size must be a power of two from {MIN_PAGE_SIZE} to {MAX_PAGE_SIZE}, got {page_size}"
            )
        if not fields:
            raise ValueError("fields is empty: name at least one field, such as {'image': RGBImageField()}")
        for name, field in fields.items():
            check_field_name(name)
            if not isinstance(field, Field):
                raise TypeError(f"field {name!r} must be a Field, got {field!r}: has it been called, as in IntField()?")
        if backend not in ("process", "thread"):
            raise ValueError(f"backend is 'process' or 'thread', got {backend!r}")
        self.fname = os.fspath(fname)
        self.fields = dict(fields)
        self.page_size = page_size
        self.num_workers = num_workers if num_workers >= 1 else _available_cores()
        self.metadata_type = metadata_dtype((name, field.metadata_type) for name, field in self.fields.items())
        self._backend: Backend = backend
        self._manifest = manifest
        self._on_progress = on_progress

    def from_indexed_dataset(
        self,
        dataset: Any,
        indices: Sequence[int] | None = None,
        chunksize: int = 100,
        shuffle_indices: bool = False,
    ) -> None:
        """Writes a dataset that has `__getitem__`, and `__len__` where `indices` is not given.

        Args:
            dataset: `dataset[i]` is a tuple with one value per field, in the fields' order.
            indices: Which samples to write, in this order; default all.
            chunksize: How many samples a worker takes at a time; without effect on the file.
            shuffle_indices: Shuffle the samples first, with numpy's global generator as in the original.

        Raises:
            WriteError: A sample failed (`sample_index` says which, the cause why), a worker died, or the disk
                is full.
        """
        if chunksize < 1:
            raise ValueError(f"chunksize must be at least 1, got {chunksize}")
        order = np.array(range(len(dataset)) if indices is None else indices, dtype=np.int64)
        if shuffle_indices:
            np.random.shuffle(order)
        if not len(order):
            raise ValueError(f"{self.fname}: the dataset has no samples; there is nothing to write")
        # Smaller chunks where there are too few to keep every worker busy.
        chunksize = min(chunksize, -(-len(order) // self.num_workers))
        work = list(enumerate(order.tolist()))
        chunks = (work[i : i + chunksize] for i in range(0, len(work), chunksize))
        self._write(Job(self.fname, dataset, self.fields, self.metadata_type), len(work), chunks)

    def from_webdataset(self, shards: Sequence[str], pipeline: Callable[[Any], Any]) -> NoReturn:
        """Not available yet.

        Raises:
            NotImplementedError: Always.
        """
        raise NotImplementedError(
            "from_webdataset is not available yet: wrap the shards in an indexable dataset for from_indexed_dataset"
        )

    def _write(self, job: Job, num_samples: int, chunks: Iterator[Work]) -> None:
        try:
            with atomic_file(self.fname) as file:
                layout = _Layout(file, self.fname, self.fields, self.metadata_type, num_samples, self.page_size)
                with closing(encode_all(job, chunks, self.num_workers, self._backend)) as results:
                    for chunk in results:
                        layout.append(chunk)
                        if self._on_progress is not None:
                            self._on_progress(layout.num_written, num_samples)
                if self._manifest is not None:
                    layout.append_section(Section.MANIFEST, json.dumps(self._manifest, sort_keys=True).encode())
                layout.finish()
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO):
                raise WriteError(f"{self.fname}: {error.strerror}; free space or choose another disk") from error
            raise


class _Layout:
    """Gives samples their places in the file and writes them there; the tables and the header come last."""

    def __init__(
        self,
        file: IO[bytes],
        path: str,
        fields: Mapping[str, Field],
        metadata_type: np.dtype,
        num_samples: int,
        page_size: int,
    ) -> None:
        self.num_written = 0
        self._file = file
        self._path = path
        self._page_size = page_size
        self._descriptors = _describe(fields)
        self._metadata = np.zeros(num_samples, dtype=metadata_type)
        self._metadata_end = HEADER.itemsize + self._descriptors.nbytes + self._metadata.nbytes
        self._tables: list[NDArray[Any]] = []
        # The end of the bytes written: before the first page until something has been allocated.
        self._first_page = self._end = align_up(self._metadata_end, page_size)
        file.seek(self._first_page)

    def append(self, chunk: EncodedChunk) -> None:
        """Writes the next samples."""
        first, count = self.num_written, len(chunk.metadata)
        places = np.array([self._place(chunk, row) for row in range(count)], dtype=np.int64)
        table = np.zeros(len(chunk.offsets), dtype=ALLOCATION)
        table["sample_id"] = first + chunk.owners
        table["ptr"] = chunk.relocate(places)
        table["size"] = chunk.sizes
        self._tables.append(table)
        self._metadata[first : first + count] = chunk.metadata
        self.num_written += count

    def _place(self, chunk: EncodedChunk, row: int) -> int:
        """Writes one sample's bytes, all in one page as in the original; returns where."""
        start, stop = int(chunk.starts[row]), int(chunk.starts[row + 1])
        size = stop - start
        if size > self._page_size:
            position = self.num_written + row
            needed = 1 << (size - 1).bit_length()
            advice = f"set page_size={needed}" if needed <= MAX_PAGE_SIZE else "split it into smaller samples"
            raise WriteError(
                f"{self._path}: sample {position} takes {size} bytes, more than a page of {self._page_size}; {advice}",
                position,
            )
        if size > self._page_size - self._end % self._page_size:
            self._pad_to(align_up(self._end, self._page_size))
        place = self._end
        self._file.write(memoryview(chunk.payload)[start:stop])
        self._end += size
        return place

    def append_section(self, section_id: int, content: bytes) -> None:
        """Writes one of our additions, after the last sample."""
        self._pad_to(align_up(self._end, 8))
        self._tables.append(np.array([(section_id, self._end, len(content))], dtype=ALLOCATION))
        self._file.write(content)
        self._end += len(content)

    def finish(self) -> None:
        """Completes the last page; writes the allocation table, the metadata and, last of all, the header."""
        self._pad_to(align_up(self._end, self._page_size))
        table = np.concatenate([np.empty(0, dtype=ALLOCATION), *self._tables])
        # A file of numbers only has no pages, and its table begins where the metadata ends.
        table_start = self._end if len(table) else self._metadata_end
        self._file.seek(table_start)
        self._file.write(table.tobytes())
        self._file.truncate()
        self._file.seek(HEADER.itemsize)
        self._file.write(self._descriptors.tobytes())
        self._file.write(self._metadata.tobytes())
        header = np.zeros((), dtype=HEADER)
        header["version"] = VERSION
        header["num_fields"] = len(self._descriptors)
        header["page_size"] = self._page_size
        header["num_samples"] = len(self._metadata)
        header["alloc_table_ptr"] = table_start
        self._file.seek(0)
        self._file.write(header.tobytes())

    def _pad_to(self, end: int) -> None:
        """Leaves a hole, which reads as zeros and takes no room on most disks."""
        self._file.seek(end)
        self._end = end


def _describe(fields: Mapping[str, Field]) -> NDArray[Any]:
    """The field descriptors, `FIELD_DESCRIPTOR` [fields]."""
    type_ids = {field_type: type_id for type_id, field_type in FIELD_TYPES.items()}
    descriptors = np.zeros(len(fields), dtype=FIELD_DESCRIPTOR)
    for descriptor, (name, field) in zip(descriptors, fields.items(), strict=True):
        # A subclass of one of our fields may store anything, and so counts as custom.
        descriptor["type_id"] = type_ids.get(type(field), FieldType.CUSTOM)
        descriptor["name"][: len(name)] = np.frombuffer(name.encode("ascii"), np.uint8)
        descriptor["arguments"][:] = field.to_binary()[0]
    return descriptors


def _available_cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
