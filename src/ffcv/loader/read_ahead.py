"""Reading ahead with memory of our own: `os_cache=False`.

The batches to come are taken in windows of about `window_bytes`, and at most 65536 samples; in a quasi-random order, in
its groups of pages. A window's samples are sorted by their place in the file and read in as few requests as possible:
neighbours together, and samples with gaps between them, as long as at least half of what is read is wanted. While one
window is being rendered, I/O threads read the next, so at most two are in memory. So sequential and quasi-random orders
read whole pages on one rank; a random order reads single samples, and so do several ranks, which share all pages.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

import numpy as np

from ffcv import _core
from ffcv.pipeline.source import FileSource, Location, pointer_columns, pointers_in

WINDOW_BYTES = 64 << 20
IO_THREADS = 4
_FIRST_WINDOW = 1 << 20
"""Windows begin small and double, so that the first batch does not wait for a whole one."""

_MOST_SAMPLES = 1 << 16
"""In a window. It has tables of them, too; and values that lie in the metadata alone would never fill it."""

Item = TypeVar("Item")

_LARGEST_REQUEST = 8 << 20
_LARGEST_GAP = 512 << 10


class WindowSource:
    """Gives a window's bytes from memory, everything else from the file.

    Args:
        source: The file.
        starts: uint64 [A], rising: where the window's allocations begin in the file.
        sizes: uint64 [A].
        pool: Runs the reads.
    """

    def __init__(self, source: FileSource, starts: np.ndarray, sizes: np.ndarray, pool: ThreadPoolExecutor) -> None:
        self._source = source
        self.extents = source.extents
        self._starts = starts
        self._places = np.empty(len(starts), np.uint64)
        requests = _requests(starts, sizes)
        self._memory = np.empty(sum(end - begin for begin, end, _, _ in requests), np.uint8)
        self._reads: list[Future[None]] = []
        place = 0
        for begin, end, first, last in requests:
            self._places[first:last] = starts[first:last] - np.uint64(begin) + np.uint64(place)
            target = self._memory[place : place + end - begin]
            self._reads.append(pool.submit(source.file.read, begin, target))
            place += end - begin
        self._failed = False

    @property
    def nbytes(self) -> int:
        return self._memory.nbytes

    def wait(self) -> None:
        """Until all is read. What could not be read is left to the file, whose error names the sample."""
        for read in self._reads:
            try:
                read.result()
            except _core.ReadError:
                self._failed = True
        self._reads = []

    def rows(self, samples: np.ndarray) -> np.ndarray:
        return self._source.rows(samples)

    def check(self, samples: np.ndarray, rows: np.ndarray) -> None:
        self._source.check(samples, rows)

    def read(self, pointer: int) -> np.ndarray:
        place = self._find(np.array([pointer], np.uint64))
        if place is None:
            return self._source.read(pointer)
        found = self.extents.of(np.array([pointer], np.uint64))
        content = self._memory[int(place[0]) : int(place[0]) + int(found.sizes[0])]
        if not self.extents.is_intact(found, content):
            return self._source.read(pointer)  # which says what is wrong
        return content

    def locate(self, pointers: np.ndarray) -> Location:
        places = self._find(pointers)
        return self._source.locate(pointers) if places is None else Location(self._memory, places, None)

    def _find(self, pointers: np.ndarray) -> np.ndarray | None:
        if self._failed or not len(self._starts):
            return None
        rows = np.minimum(np.searchsorted(self._starts, pointers), len(self._starts) - 1)
        return self._places[rows] if np.array_equal(self._starts[rows], pointers) else None


def read_ahead(
    source: FileSource,
    batches: Iterator[tuple[np.ndarray, int | None]],
    fields: Collection[str],
    window_bytes: int = WINDOW_BYTES,
) -> Iterator[tuple[np.ndarray, WindowSource, np.ndarray | None]]:
    """Yields every batch's samples, the source that has the bytes of `fields`, and the next batch's samples, or None.

    Args:
        source: The file.
        batches: (samples int64 [B], number of the group of neighbours in the file that they begin in, or None).
        fields: Those that are wanted.
        window_bytes: Of a window, where there are no groups.
    """
    pool = ThreadPoolExecutor(IO_THREADS, thread_name_prefix="ffcv-io")
    try:
        for (group, window), following in with_next(_windows(source, batches, fields, window_bytes, pool)):
            window.wait()
            first = None if following is None else following[0][0]
            for samples, after in zip(group, [*group[1:], first], strict=True):
                yield samples, window, after
            del window, following  # before the one after the next takes memory
    except GeneratorExit:
        pool.shutdown(wait=True, cancel_futures=True)
        raise
    finally:
        pool.shutdown(wait=False, cancel_futures=True)  # an error does not wait for reads under way


def with_next(items: Iterator[Item]) -> Iterator[tuple[Item, Item | None]]:
    """Every item with the one after it, or None; an exception comes after the item before it, as it would without."""
    errors: list[Exception] = []
    rest = _until_error(items, errors)
    item = next(rest, None)
    while item is not None:
        following = next(rest, None)
        yield item, following
        item = following
    if errors:
        raise errors.pop()


def _windows(
    source: FileSource,
    batches: Iterator[tuple[np.ndarray, int | None]],
    fields: Collection[str],
    window_bytes: int,
    pool: ThreadPoolExecutor,
) -> Iterator[tuple[list[np.ndarray], WindowSource]]:
    waiting: list[np.ndarray] = []
    starts: list[np.ndarray] = []
    sizes: list[np.ndarray] = []
    total, count, limit, current = 0, 0, min(_FIRST_WINDOW, window_bytes), None
    errors: list[Exception] = []
    for samples, group, pointers, lengths in _until_error(_extents(source, batches, fields), errors):
        is_full = total + int(lengths.sum()) > limit or count + len(samples) > _MOST_SAMPLES
        if waiting and (is_full if group is None else group != current):
            yield waiting, _window(source, starts, sizes, pool)
            waiting, starts, sizes, total, count, limit = [], [], [], 0, 0, min(2 * limit, window_bytes)
        waiting.append(samples)
        starts.append(pointers)
        sizes.append(lengths)
        total, count, current = total + int(lengths.sum()), count + len(samples), group
    if waiting:
        yield waiting, _window(source, starts, sizes, pool)
    if errors:  # its turn comes after what waited
        raise errors.pop()


def _until_error(items: Iterator[Item], errors: list[Exception]) -> Iterator[Item]:
    """The items up to an exception, which is put into `errors`: no variable, which its traceback would hold."""
    while True:
        try:
            item = next(items, None)
        except Exception as raised:
            errors.append(raised)
            return
        if item is None:
            return
        yield item


def _extents(
    source: FileSource, batches: Iterator[tuple[np.ndarray, int | None]], fields: Collection[str]
) -> Iterator[tuple[np.ndarray, int | None, np.ndarray, np.ndarray]]:
    """Of every batch its samples and group, and where its bytes begin and how many they are."""
    for samples, group in batches:
        pointers = _pointers(source, samples, fields)
        found = source.extents.of(pointers)
        yield samples, group, pointers, found.sizes if found.behind is None else found.sizes + found.behind


def _pointers(source: FileSource, samples: np.ndarray, fields: Collection[str]) -> np.ndarray:
    rows = source.rows(samples)
    source.check(samples, rows)
    parts = [pointers_in(rows, column) for column in pointer_columns(source.reader, fields)]
    pointers = np.concatenate(parts) if parts else np.empty(0, np.uint64)
    return pointers[source.extents.begin_at(pointers)]  # a custom field may say with another number that it has nothing


def _window(
    source: FileSource, starts: list[np.ndarray], sizes: list[np.ndarray], pool: ThreadPoolExecutor
) -> WindowSource:
    unique, first = np.unique(np.concatenate(starts), return_index=True)
    return WindowSource(source, unique, np.concatenate(sizes)[first], pool)


def _requests(starts: np.ndarray, sizes: np.ndarray) -> list[tuple[int, int, int, int]]:
    """(first byte, end, first allocation, end) of every request."""
    found: list[tuple[int, int, int, int]] = []
    wanted = 0  # bytes of the last request that are
    for row, (start, size) in enumerate(zip(starts.tolist(), sizes.tolist(), strict=True)):
        if found:
            begin, end, first, _ = found[-1]
            span = start + size - begin
            if start - end <= _LARGEST_GAP and span <= min(_LARGEST_REQUEST, 2 * (wanted + size)):
                found[-1] = (begin, max(end, start + size), first, row + 1)
                wanted += size
                continue
        found.append((start, start + size, row, row + 1))
        wanted = size
    return found
