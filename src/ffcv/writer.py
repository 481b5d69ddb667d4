"""Writes `.beton` files."""

from __future__ import annotations

import operator
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from ffcv._atomic_file import DISK_ERRORS, atomic_file
from ffcv._encoding import Job, Skipped, Work
from ffcv._layout import Layout, describe, metadata_type_of
from ffcv._manifest import manifest_bytes, parse_manifest
from ffcv._workers import Backend, Chunks, encode_all
from ffcv.cores import available_cores
from ffcv.errors import WriteError
from ffcv.fields import IntField
from ffcv.fields.base import Field
from ffcv.format import MAX_PAGE_SIZE, MIN_PAGE_SIZE, Section

__all__ = ["DatasetWriter"]

MAX_LISTED = 1000
"""Skipped samples that the manifest names."""


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
        timeout_s: End the write when no worker has finished anything (a chunk of samples, or a shard) for so long: one
            may be stopped or deadlocked. None to wait for ever, as with one worker, which is the calling thread.

    Attributes:
        skipped: (index, error) of the samples left out of the last file.

    Raises:
        ValueError: An argument is out of range, a name breaks the format's rule, or a field or the manifest cannot be
            stored.
        TypeError: An argument is of a wrong kind.
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
        timeout_s: float | None = None,
    ) -> None:
        if backend not in ("process", "thread"):
            raise ValueError(f"backend is 'process' or 'thread', got {backend!r}")
        if on_error not in ("raise", "skip"):
            raise ValueError(f"on_error is 'raise' or 'skip', got {on_error!r}")
        self.skipped: list[Skipped] = []
        self.fname = os.fspath(fname)
        self.page_size = None if page_size is None else _checked_page_size(page_size)
        workers = _whole_number("num_workers", num_workers)
        self.num_workers = workers if workers >= 1 else available_cores()
        self._descriptors = describe(fields)
        self.fields = dict(fields)
        self.metadata_type = metadata_type_of(self.fields)
        self._backend: Backend = backend
        self._manifest = None if manifest is None else parse_manifest(manifest_bytes(manifest))
        self._on_progress = on_progress
        self._checksums = checksums
        self._on_error = on_error
        if timeout_s is not None and not timeout_s > 0:
            raise ValueError(f"timeout_s must be positive, in seconds, got {timeout_s}")
        self._timeout_s = timeout_s

    def from_indexed_dataset(
        self,
        dataset: Any,
        indices: Sequence[int] | NDArray[np.integer] | None = None,
        chunksize: int = 100,
        shuffle_indices: bool = False,
    ) -> None:
        """Writes a dataset that has `__getitem__`, and `__len__` where `indices` is not given.

        Args:
            dataset: `dataset[i]` is a tuple with one value per field, in the fields' order.
            indices: Which samples to write, in this order: whole numbers [N]; default all.
            chunksize: How many samples a worker takes at a time; without effect on the file.
            shuffle_indices: Shuffle the samples first, with numpy's global generator as in the original.

        Raises:
            WriteError: A sample failed (`sample_index` says which, the cause why), a worker died, or the disk
                is full.
        """
        if chunksize < 1:
            raise ValueError(f"chunksize must be at least 1, got {chunksize}")
        order = _order(dataset, indices)
        if shuffle_indices:
            np.random.shuffle(order)
        if not len(order):
            raise ValueError(f"{self.fname}: the dataset has no samples; there is nothing to write")
        # Smaller chunks where there are too few to keep every worker busy.
        chunksize = min(chunksize, -(-len(order) // self.num_workers))
        chunks = (
            list(enumerate(order[start : start + chunksize].tolist(), start))
            for start in range(0, len(order), chunksize)
        )
        self._write(self._job(dataset), len(order), chunks)

    def from_webdataset(self, shards: Sequence[str], pipeline: Callable[[Any], Any]) -> None:
        """Writes WebDataset shards, in their order. They are read twice: the samples are counted first.

        A worker takes a shard at a time, and what it makes of it waits in memory for its turn.

        Args:
            shards: What `webdataset.WebDataset` opens.
            pipeline: Is applied to each `webdataset.WebDataset(shard)`; its result gives tuples, as a dataset does.

        Raises:
            WriteError: As for `from_indexed_dataset`; also where the `webdataset` package is missing, or a shard gives
                another number of samples when it is read again. The message names the shard, and the sample in it.
            ValueError: `on_error` is 'skip', or there are no samples.
        """
        from ffcv.data.shards import ShardCounter, ShardSamples

        if self._on_error == "skip":
            raise ValueError(
                "on_error='skip' goes with from_indexed_dataset: a pipeline of webdataset's cannot go on after an "
                "error; have it skip by itself (handler=webdataset.warn_and_continue), or use 'ffcv write SHARDS OUT "
                "--on-error skip'"
            )
        numbers = range(len(shards))
        dataset, fields = ShardCounter(shards, pipeline), {"count": IntField()}
        counting = Job(self.fname, dataset, fields, np.dtype([("count", "<i8")]), unit="shard")
        try:
            with closing(self._encode(counting, ([(i, i)] for i in numbers))) as counted:
                counts = [int(chunk.metadata["count"][0]) for chunk in counted]
        except WriteError as error:
            error.sample_index = None  # it is a shard's
            raise
        if not sum(counts):
            raise ValueError(f"{self.fname}: the shards have no samples; there is nothing to write")
        starts = np.cumsum([0, *counts]).tolist()
        chunks = ([(i, i) for i in range(starts[n], starts[n + 1])] for n in numbers if counts[n])
        self._write(self._job(ShardSamples(shards, pipeline, starts)), sum(counts), chunks)

    def _job(self, dataset: Any) -> Job:
        return Job(self.fname, dataset, self.fields, self.metadata_type, self._on_error == "skip")

    def _encode(self, job: Job, chunks: Iterable[Work], not_for_workers: Sequence[int] = ()) -> Chunks:
        return encode_all(job, chunks, self.num_workers, self._backend, not_for_workers, self._timeout_s)

    def _manifest_text(self) -> bytes:
        manifest = dict(self._manifest or {})
        if self.skipped:
            manifest["skipped"] = {"count": len(self.skipped), "first": self.skipped[:MAX_LISTED]}
        return manifest_bytes(manifest)

    def _write(self, job: Job, num_samples: int, chunks: Iterator[Work]) -> None:
        self.skipped = []
        try:
            with atomic_file(self.fname) as file:
                layout = Layout(file, self.fname, self._descriptors, self.metadata_type, num_samples, self.page_size)
                with closing(self._encode(job, chunks, [file.fileno()])) as results:
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
                layout.append_jpeg_sections()
                layout.finish(self._checksums)
        except OSError as error:
            if error.errno in DISK_ERRORS:
                raise WriteError(f"{self.fname}: {error.strerror}; free space or choose another disk") from error
            raise


def _whole_number(name: str, value: Any) -> int:
    try:
        return operator.index(value)
    except TypeError:
        raise TypeError(f"{name} must be a whole number, got {value!r}") from None


def _checked_page_size(page_size: int) -> int:
    size = _whole_number("page_size", page_size)
    if size & (size - 1) or not MIN_PAGE_SIZE <= size <= MAX_PAGE_SIZE:
        raise ValueError(f"page_size must be a power of two from {MIN_PAGE_SIZE} to {MAX_PAGE_SIZE}, got {size}")
    return size


def _order(dataset: Any, indices: Sequence[int] | NDArray[np.integer] | None) -> NDArray[np.int64]:
    """The samples to write (int64 [N]), a copy."""
    if indices is None:
        return np.arange(len(dataset), dtype=np.int64)
    order = np.asarray(indices)
    if order.ndim != 1 or (order.size and order.dtype.kind not in "iu"):
        advice = "; for a mask give np.flatnonzero(mask)" if order.dtype == np.bool_ else ""
        raise TypeError(f"indices must be whole numbers [N], got {order.dtype} {list(order.shape)}{advice}")
    return np.array(order, dtype=np.int64)
