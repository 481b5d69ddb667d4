"""Turns samples into bytes, in this process, in threads or in worker processes, and hands them back in order.

Nothing here knows where in the file a sample will lie. Its pointers count from PROVISIONAL, and
`EncodedChunk.relocate` moves them once the writer has found the place: so the file is the same for any number of
workers.
"""

from __future__ import annotations

import multiprocessing
import multiprocessing.connection
import os
import signal
import sys
import threading
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import (
    FIRST_COMPLETED,
    Executor,
    Future,
    ProcessPoolExecutor,
    ThreadPoolExecutor,
    wait,
)
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from ffcv.errors import WriteError, one_line
from ffcv.fields.base import Field

Backend = Literal["process", "thread"]

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
        """Moves sample i's pointers to `places[i]` in the file (int64 [n]); returns all allocations' (int64 [a])."""
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


def encode_chunk(
    job: Job, work: Sequence[tuple[int, int]], stop: threading.Event | None = None
) -> EncodedChunk:
    """Encodes samples.

    Args:
        job: The dataset and its fields.
        work: For each sample its position in the file and its index in the dataset.
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
                got = (
                    f"{len(sample)} values"
                    if isinstance(sample, tuple | list)
                    else f"a {type(sample).__name__}"
                )
                raise TypeError(
                    f"the dataset must give one value per field, {list(job.fields)}, as a tuple; got {got}"
                )
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


def encode_all(
    job: Job, chunks: Iterator[Sequence[tuple[int, int]]], workers: int, backend: Backend
) -> Iterator[EncodedChunk]:
    """Encodes the chunks in parallel and yields them in order; at most `workers + 2` are held at a time.

    Raises:
        WriteError: As soon as any worker has failed or died, whichever chunk it was at.
    """
    if workers == 1:
        for work in chunks:
            yield encode_chunk(job, work)
        return
    stop = threading.Event()
    pool: Executor
    if backend == "thread":
        pool = ThreadPoolExecutor(workers, thread_name_prefix="ffcv-write")
    else:
        pool = _process_pool(job, workers)
    pending: deque[tuple[Sequence[tuple[int, int]], Future[EncodedChunk]]] = deque()
    try:
        for work in chunks:
            submitted = (
                pool.submit(encode_chunk, job, work, stop)
                if backend == "thread"
                else pool.submit(_encode_in_worker, work)
            )
            pending.append((work, submitted))
            if len(pending) >= workers + 2:
                yield _first_result(job, pending)
        while pending:
            yield _first_result(job, pending)
    except BaseException:
        stop.set()
        _abandon(pool)
        raise
    pool.shutdown()


def _first_result(
    job: Job, pending: deque[tuple[Sequence[tuple[int, int]], Future[EncodedChunk]]]
) -> EncodedChunk:
    """Waits for the oldest chunk, but raises at once when any other one has failed."""
    futures = [future for _, future in pending]
    (first, _), (last, _) = pending[0][0][0], pending[-1][0][-1]
    while True:
        for future in futures:
            error = future.exception() if future.done() else None
            if isinstance(error, BrokenProcessPool):
                raise WriteError(
                    f"{job.path}: a worker process died at one of the samples {first} to {last} (out of memory, or "
                    "a crash in native code?); run with num_workers=1 to see where",
                    first,
                ) from error
            if error is not None:
                raise error
        if futures[0].done():
            return pending.popleft()[1].result()
        wait([future for future in futures if not future.done()], return_when=FIRST_COMPLETED)


def _process_pool(job: Job, workers: int) -> ProcessPoolExecutor:
    # Forking lets scripts without a main guard and datasets that cannot be pickled work, as in the original.
    method = "fork" if "fork" in multiprocessing.get_all_start_methods() else "spawn"
    context = multiprocessing.get_context(method)
    return ProcessPoolExecutor(workers, mp_context=context, initializer=_start_worker, initargs=(job,))


def _abandon(pool: Executor) -> None:
    """Shuts down without waiting for work whose result nobody wants."""
    # Before Python 3.14's kill_workers() there is no public way to end a worker that is busy.
    processes = list((getattr(pool, "_processes", None) or {}).values())
    pool.shutdown(wait=False, cancel_futures=True)
    for process in processes:
        process.kill()
    for process in processes:
        process.join()


_worker_job: Job | None = None


def _start_worker(job: Job) -> None:
    global _worker_job
    _worker_job = job
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the parent too, which ends us
    threading.Thread(target=_exit_with_parent, daemon=True).start()
    if "torch" in sys.modules:
        # A forked process inherits torch's record of threads that do not run here, and would wait for them.
        sys.modules["torch"].set_num_threads(1)


def _exit_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        multiprocessing.connection.wait([parent.sentinel])
        os._exit(1)


def _encode_in_worker(work: Sequence[tuple[int, int]]) -> EncodedChunk:
    assert _worker_job is not None, "the pool's initializer has run"
    return encode_chunk(_worker_job, work)
