"""Turns samples into metadata and bytes.

Nothing here knows where in the file a sample will lie. Its pointers count from PROVISIONAL, and
`EncodedChunk.relocate` moves them once the writer has found the place: so the file is the same for any number
of workers.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ffcv.errors import WriteError, one_line
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


@dataclass(frozen=True)
class EncodedChunk:
    """Consecutive samples, encoded.

    Attributes:
        metadata: Structured array [n], its pointers PROVISIONAL + offset in `payload`.
        payload: All samples' allocations, one after the other.
        starts: int64 [n + 1]: sample i has the payload bytes starts[i] to starts[i + 1].
        owners: int64 [a]: which sample of the chunk each allocation belongs to, rising.
        offsets: int64 [a]: where in `payload` it begins, rising.
        sizes: int64 [a]: its size in bytes.
        pointing: Names of the fields that allocated, and so may hold pointers.
    """

    metadata: NDArray[Any]
    payload: bytes
    starts: NDArray[np.int64]
    owners: NDArray[np.int64]
    offsets: NDArray[np.int64]
    sizes: NDArray[np.int64]
    pointing: frozenset[str]

    def relocate(self, places: NDArray[np.int64]) -> NDArray[np.int64]:
        """Gives the pointers their place in the file.

        Args:
            places: int64 [n]: where each sample's bytes will begin.

        Returns:
            int64 [a]: the allocations' pointers.
        """
        moved = self.offsets + (places - self.starts[:-1])[self.owners]
        for name in sorted(self.pointing):
            for leaf in _integer_leaves(self.metadata[name]):
                # Exactly the pointers that were handed out: other numbers are the user's own.
                candidate = leaf.astype(np.int64) - PROVISIONAL
                index = np.minimum(np.searchsorted(self.offsets, candidate), len(self.offsets) - 1)
                hit = self.offsets[index] == candidate
                leaf[hit] = moved[index[hit]]
        return moved


def _integer_leaves(column: NDArray[Any]) -> Iterator[NDArray[Any]]:
    """The 64-bit integers inside a column of metadata, as views."""
    if column.dtype.names is not None:
        for name in column.dtype.names:
            yield from _integer_leaves(column[name])
    elif column.dtype.kind in "iu" and column.dtype.itemsize == 8:
        yield column


class _Payload:
    """Collects the allocations of a chunk."""

    def __init__(self) -> None:
        self.parts: list[NDArray[np.uint8]] = []
        self.owners: list[int] = []
        self.offsets: list[int] = []
        self.sizes: list[int] = []
        self.end = 0
        self.owner = 0

    def malloc(self, size: int) -> tuple[int, NDArray[np.uint8]]:
        size = int(size)
        # An empty allocation takes a byte, so that no two pointers of a file are the same.
        part = np.zeros(max(size, 1), dtype=np.uint8)
        self.parts.append(part)
        self.owners.append(self.owner)
        self.offsets.append(self.end)
        self.sizes.append(size)
        pointer = PROVISIONAL + self.end
        self.end += part.size
        return pointer, part[:size]


def encode_chunk(job: Job, work: Work, stop: threading.Event | None = None) -> EncodedChunk:
    """Encodes samples.

    Args:
        job: The dataset and its fields.
        work: Which samples.
        stop: Set when the result is no longer wanted.

    Raises:
        WriteError: Names the sample; its cause is what the dataset or the field raised.
    """
    payload = _Payload()
    metadata = np.zeros(len(work), dtype=job.metadata_type)
    starts = [0]
    pointing: set[str] = set()
    for row, (position, index) in enumerate(work):
        if stop is not None and stop.is_set():
            raise WriteError(f"{job.path}: stopped", position)
        payload.owner = row
        try:
            sample = job.dataset[index]
            if not isinstance(sample, tuple | list) or len(sample) != len(job.fields):
                got = f"{len(sample)} values" if isinstance(sample, tuple | list) else f"a {type(sample).__name__}"
                raise TypeError(f"the dataset must give one value per field, {list(job.fields)}, as a tuple; got {got}")
            for (name, field), value in zip(job.fields.items(), sample, strict=True):
                allocated = len(payload.parts)
                field.encode(metadata[name][row : row + 1], value, payload.malloc)
                if len(payload.parts) > allocated:
                    pointing.add(name)
        except Exception as error:
            message = f"{job.path}: sample {position} (index {index} of the dataset): {one_line(error)}"
            raise WriteError(message, position) from error
        starts.append(payload.end)
    return EncodedChunk(
        metadata=metadata,
        payload=b"".join(payload.parts),
        starts=np.array(starts, dtype=np.int64),
        owners=np.array(payload.owners, dtype=np.int64),
        offsets=np.array(payload.offsets, dtype=np.int64),
        sizes=np.array(payload.sizes, dtype=np.int64),
        pointing=frozenset(pointing),
    )
