"""Turns samples into metadata and bytes.

Nothing here knows where in the file a sample will lie. Its pointers count from PROVISIONAL, and
`EncodedChunk.relocate` moves them once the writer has found the place: so the file is the same for any number
of workers.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ffcv import _core
from ffcv.errors import WriteError, one_line
from ffcv.fields import RGBImageField
from ffcv.fields.base import Field

Work = Sequence[tuple[int, int]]
"""For each sample of a chunk its position in the file and its index in the dataset."""

PROVISIONAL = 1 << 62
"""Added to pointers that have no place in the file yet; no real file is this large."""


@dataclass(frozen=True)
class Job:
    """What every worker needs to know; handed over once."""

    path: str
    dataset: Any
    fields: Mapping[str, Field]
    metadata_type: np.dtype
    skip_errors: bool = False
    unit: str = "sample"
    """What an index of `dataset` stands for."""


class Skipped(NamedTuple):
    """A sample that was left out."""

    sample: int
    """Its index in the dataset."""
    error: str


@dataclass(frozen=True)
class EncodedChunk:
    """Consecutive samples, encoded.

    Attributes:
        metadata: Structured array [n] without the samples left out, its pointers PROVISIONAL + offset in `payload`.
        payload: The allocations' bytes, one after the other: [a]. A JPEG's may be followed by its entry points.
        starts: int64 [n + 1]: sample i has the payload's bytes from starts[i] to starts[i + 1].
        owners: int64 [a]: which sample of the chunk each allocation belongs to, rising.
        offsets: int64 [a]: where in `payload` it begins, rising.
        sizes: int64 [a]: its size in bytes.
        checksums: uint32 [a]: the CRC32C of its bytes.
        restarts: For each allocation (its position in `offsets`) that is a JPEG with restart markers between its rows
            of MCUs, where these rows begin (uint32 [rows]).
        largest_behind: Bytes of the largest entry points; 0 if there are none.
        pointing: Names of the fields that allocated, and so may hold pointers.
        skipped: The samples left out.
    """

    metadata: NDArray[Any]
    payload: Sequence[bytes | bytearray]
    starts: NDArray[np.int64]
    owners: NDArray[np.int64]
    offsets: NDArray[np.int64]
    sizes: NDArray[np.int64]
    checksums: NDArray[np.uint32]
    restarts: Mapping[int, NDArray[np.uint32]]
    largest_behind: int
    pointing: frozenset[str]
    skipped: tuple[Skipped, ...] = ()

    def relocate(self, places: NDArray[np.int64]) -> NDArray[np.int64]:
        """Gives the pointers their place in the file.

        Args:
            places: int64 [n]: where each sample's bytes will begin.

        Returns:
            int64 [a]: the allocations' pointers.
        """
        moved = self.offsets + (places - self.starts[:-1])[self.owners]
        for name in sorted(self.pointing):
            for leaf in integer_leaves(self.metadata[name]):
                # Exactly the pointers that were handed out: other numbers are the user's own.
                candidate = leaf.astype(np.int64) - PROVISIONAL
                index = np.minimum(np.searchsorted(self.offsets, candidate), len(self.offsets) - 1)
                hit = self.offsets[index] == candidate
                leaf[hit] = moved[index[hit]]
        return moved


def integer_leaves(column: NDArray[Any]) -> Iterator[NDArray[Any]]:
    """The 64-bit integers inside a column of metadata, as views."""
    if column.dtype.names is not None:
        for name in column.dtype.names:
            yield from integer_leaves(column[name])
    elif column.dtype.kind in "iu" and column.dtype.itemsize == 8:
        yield column


class _Payload:
    """Collects the allocations of a chunk; fields call it as their `malloc`."""

    def __init__(self) -> None:
        self.parts: list[bytes | bytearray] = []
        self.owners: list[int] = []
        self.offsets: list[int] = []
        self.sizes: list[int] = []
        self.end = 0
        self.owner = 0
        self.largest_behind = 0

    def __call__(self, size: int) -> tuple[int, NDArray[np.uint8]]:
        size = int(size)
        # An empty allocation takes a byte, so that no two pointers of a file are the same.
        part = bytearray(max(size, 1))
        return self._append(part, size), np.frombuffer(part, np.uint8, size)

    def keep(self, content: bytes, behind: bytes = b"") -> int:
        """An allocation with this content, and entry points `behind` it that do not count; returns the pointer."""
        self.largest_behind = max(self.largest_behind, len(behind))
        return self._append(content + behind or b"\0", len(content))

    def _append(self, part: bytes | bytearray, size: int) -> int:
        pointer = PROVISIONAL + self.end
        self.parts.append(part)
        self.owners.append(self.owner)
        self.offsets.append(self.end)
        self.sizes.append(size)
        self.end += len(part)
        return pointer

    def truncate(self, allocations: int, end: int) -> None:
        """Forgets what was allocated after there were `allocations`, which ended at `end`."""
        for column in (self.parts, self.owners, self.offsets, self.sizes):
            del column[allocations:]
        self.end = end


def encode_chunk(
    job: Job, work: Work, stop: threading.Event | None = None, named: type[BaseException] = Exception
) -> EncodedChunk:
    """Encodes samples.

    Args:
        job: The dataset and its fields.
        work: Which samples.
        stop: Set when the result is no longer wanted.
        named: What is taken for the fault of the sample at hand. In workers BaseException: no signal's handler runs
            there, so that a SystemExit can only be the dataset's.

    Raises:
        WriteError: Names the sample; its cause is what the dataset or the field raised.
    """
    payload = _Payload()
    metadata = np.zeros(len(work), dtype=job.metadata_type)
    starts = [0]
    pointing: set[str] = set()
    images: set[int] = set()
    skipped: list[Skipped] = []
    for position, index in work:
        if stop is not None and stop.is_set():
            raise WriteError(f"{job.path}: stopped", position)
        row = payload.owner = len(starts) - 1
        allocated, end = len(payload.parts), payload.end
        try:
            _encode_sample(job, index, metadata[row : row + 1], payload, pointing, images)
        except named as error:
            if job.skip_errors and isinstance(error, Exception) and not isinstance(error, MemoryError):
                skipped.append(Skipped(index, one_line(error)))
                payload.truncate(allocated, end)
                metadata[row] = np.zeros((), dtype=job.metadata_type)
                continue
            message = f"{job.path}: {job.unit} {position} (index {index} of the dataset): {one_line(error)}"
            raise WriteError(message, position) from error
        starts.append(payload.end)
    contents = [np.frombuffer(part, np.uint8, size) for part, size in zip(payload.parts, payload.sizes, strict=True)]
    return EncodedChunk(
        metadata=metadata[: len(starts) - 1],
        payload=payload.parts,
        starts=np.array(starts, dtype=np.int64),
        owners=np.array(payload.owners, dtype=np.int64),
        offsets=np.array(payload.offsets, dtype=np.int64),
        sizes=np.array(payload.sizes, dtype=np.int64),
        checksums=np.array([_core.crc32c(content) for content in contents], dtype=np.uint32),
        restarts={i: index for i in sorted(images) if len(index := _core.restart_index(contents[i]))},
        largest_behind=payload.largest_behind,
        pointing=frozenset(pointing),
        skipped=tuple(skipped),
    )


def _encode_sample(
    job: Job, index: int, row: NDArray[Any], payload: _Payload, pointing: set[str], images: set[int]
) -> None:
    """Encodes one sample; notes which fields allocated, and which allocations are images."""
    sample = job.dataset[index]
    if not isinstance(sample, tuple | list) or len(sample) != len(job.fields):
        got = f"{len(sample)} values" if isinstance(sample, tuple | list) else f"a {type(sample).__name__}"
        raise TypeError(f"the dataset must give one value per field, {list(job.fields)}, as a tuple; got {got}")
    allocated = {}
    for (name, field), value in zip(job.fields.items(), sample, strict=True):
        before = len(payload.parts)
        field.encode(row[name], value, payload)
        allocated[name] = range(before, len(payload.parts))
    for name, parts in allocated.items():
        if parts:
            pointing.add(name)
        if isinstance(job.fields[name], RGBImageField):
            images.update(parts)
