"""Writes `.beton` files."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from typing import IO, Any, Literal

import numpy as np
from numpy.typing import NDArray

from ffcv import _core
from ffcv._atomic_file import atomic_file
from ffcv._checksums import Checksums
from ffcv._encoding import EncodedChunk, Job, Skipped, Work
from ffcv._restart_index import RestartIndex
from ffcv._workers import Backend, encode_all
from ffcv.cores import available_cores
from ffcv.errors import WriteError
from ffcv.fields import FIELD_TYPES, IntField
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

_MAX_LISTED = 1000
"""Skipped samples that the manifest names."""

_WRITEBACK_BYTES = 16 << 20
"""After so many bytes the disk begins with them, so that the fsync at the end has little to wait for."""


class DatasetWriter:
    """Writes a dataset to a `.beton` file, which the original reads too.

    The file appears under its name when it is complete and on disk, never before; a failure leaves nothing
    behind. Its bytes do not depend on the number of workers.

    Args:
        fname: The file to write; one that exists is replaced.
        fields: For each name the kind of field, in the order of the dataset's values.
        page_size: A power of two from 2 MiB to 2 GiB; a sample's bytes must fit in one page. None for 8 MiB, or what
            the largest sample needs.
        num_workers: How many samples are encoded at a time; -1 for one per available core.
        backend: 'process' for Python datasets; 'thread' where the work happens in native code.
        manifest: A JSON object about the data (class names, options) to keep in the file; see
            `format.Section`.
        on_progress: Called with (samples done, samples in all) as the file grows.
        checksums: Keep a CRC32C of every sample's bytes and of the tables in the file, which readers verify.
        on_error: 'skip' leaves out samples that the dataset or a field raises an exception for, and lists them in
            `skipped`.

    Attributes:
        skipped: (index, error) of the samples left out of the last file.

    Raises:
        ValueError: An argument is out of range, or a name breaks the format's rule.
    """

    def __init__(
        self,
        fname: str | os.PathLike[str],
        fields: Mapping[str, Field],
        page_size: int | None = None,
        num_workers: int = -1,
        *,
        backend: Backend = "process",
        manifest: Mapping[str, Any] | None = None,
        on_progress: Callable[[int, int], None] | None = None,
        checksums: bool = True,
        on_error: Literal["raise", "skip"] = "raise",
    ) -> None:
        if page_size is not None and (page_size & (page_size - 1) or not MIN_PAGE_SIZE <= page_size <= MAX_PAGE_SIZE):
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
        if on_error not in ("raise", "skip"):
            raise ValueError(f"on_error is 'raise' or 'skip', got {on_error!r}")
        self.skipped: list[Skipped] = []
        self.fname = os.fspath(fname)
        self.fields = dict(fields)
        self.page_size = page_size
        self.num_workers = num_workers if num_workers >= 1 else available_cores()
        self.metadata_type = metadata_dtype((name, field.metadata_type) for name, field in self.fields.items())
        self._backend: Backend = backend
        self._manifest = manifest
        self._on_progress = on_progress
        self._checksums = checksums
        self._on_error = on_error

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
        self._write(self._job(dataset), len(work), chunks)

    def from_webdataset(self, shards: Sequence[str], pipeline: Callable[[Any], Any]) -> None:
        """Writes WebDataset shards, in their order. They are read twice: the samples are counted first.

        A worker takes a shard at a time, and what it makes of it waits in memory for its turn.

        Args:
            shards: What `webdataset.WebDataset` opens.
            pipeline: Is applied to each `webdataset.WebDataset(shard)`; its result gives tuples, as a dataset does.

        Raises:
            WriteError: As for `from_indexed_dataset`; also where the `webdataset` package is missing, or a shard gives
                another number of samples when it is read again.
        """
        from ffcv.data.shards import ShardCounter, ShardSamples

        numbers = range(len(shards))
        counting = Job(self.fname, ShardCounter(shards, pipeline), {"count": IntField()}, np.dtype([("count", "<i8")]))
        with closing(encode_all(counting, ([(i, i)] for i in numbers), self.num_workers, self._backend)) as counted:
            counts = [int(chunk.metadata["count"][0]) for chunk in counted]
        if not sum(counts):
            raise ValueError(f"{self.fname}: the shards have no samples; there is nothing to write")
        starts = np.cumsum([0, *counts]).tolist()
        chunks = ([(i, i) for i in range(starts[n], starts[n + 1])] for n in numbers if counts[n])
        self._write(self._job(ShardSamples(shards, pipeline, starts)), sum(counts), chunks)

    def _job(self, dataset: Any) -> Job:
        return Job(self.fname, dataset, self.fields, self.metadata_type, self._on_error == "skip")

    def _manifest_text(self) -> bytes:
        manifest = dict(self._manifest or {})
        if self.skipped:
            manifest["skipped"] = {"count": len(self.skipped), "first": self.skipped[:_MAX_LISTED]}
        return json.dumps(manifest, sort_keys=True).encode()

    def _write(self, job: Job, num_samples: int, chunks: Iterator[Work]) -> None:
        self.skipped = []
        try:
            with atomic_file(self.fname) as file:
                layout = _Layout(file, self.fname, self.fields, self.metadata_type, num_samples, self.page_size)
                results = encode_all(job, chunks, self.num_workers, self._backend, not_for_workers=[file.fileno()])
                with closing(results):
                    for chunk in results:
                        layout.append(chunk)
                        self.skipped.extend(chunk.skipped)
                        if self._on_progress is not None:
                            self._on_progress(layout.num_written + len(self.skipped), num_samples)
                if not layout.num_written:
                    first = self.skipped[0]
                    raise WriteError(
                        f"{self.fname}: all {num_samples} samples failed, the first (index {first.sample}) with: "
                        f"{first.error}"
                    )
                if self._manifest is not None or self.skipped:
                    layout.append_section(Section.MANIFEST, self._manifest_text())
                layout.append_restart_index()
                layout.finish(self._checksums)
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
        page_size: int | None,
    ) -> None:
        self.num_written = 0
        self._file = file
        self._path = path
        self._grows = page_size is None
        self._page_size = page_size or DEFAULT_PAGE_SIZE
        self._descriptors = _describe(fields)
        self._metadata = np.zeros(num_samples, dtype=metadata_type)  # room for the samples that may be skipped, too
        self._metadata_end = HEADER.itemsize + self._descriptors.nbytes + self._metadata.nbytes
        self._tables: list[NDArray[Any]] = []
        self._checksums: list[NDArray[np.uint32]] = []
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

    def append_restart_index(self) -> None:
        """Writes the section that says where the rows of JPEGs begin, if any JPEG has restart markers."""
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
