"""Images a second of a loader, and what limits them."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Generator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, suppress
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ffcv.cli import augment
from ffcv.cli.custom_fields import custom_types
from ffcv.loader import Loader, OrderOption
from ffcv.reader import Reader

MOST_BYTES, MOST_IMAGES, MANY_BYTES, MANY_IMAGES = 512 << 20, 1 << 18, 64 << 20, 4096
"""Measured of a file: 4,096 images, or more where they have less than 64 MiB, up to 512 MiB."""

LONGEST_EPOCH_S = 10.0

_BUSY, _IDLE = 0.85, 0.1

LIMITS = {
    "CPU": "the threads compute; more cores, smaller images or fewer operations would help",
    "others": "other programs use the cores: measure again without them",
    "waiting": "the threads wait: for the file, or for the next batch, where batches are small",
}


Epoch = Callable[[], Generator[int, None, None]]
"""Begins an epoch that gives the number of images of each batch."""


class Work(NamedTuple):
    """What is done to every image: views, or, without any, its bytes are read."""

    name: str
    title: str
    pipelines: list[list[Any]]


class Rate(NamedTuple):
    """What was measured.

    Attributes:
        images: So many images (each in all its views), in
        wall_s: seconds, for which
        cpu_s: the whole process computed.
        threads: Of the loader.
        idle: Share of the machine's time that no program used.
    """

    images: int
    wall_s: float
    cpu_s: float
    threads: int
    idle: float

    @property
    def images_per_s(self) -> float:
        return self.images / self.wall_s

    @property
    def cpu_ms_per_image(self) -> float:
        return 1000 * self.cpu_s / self.images

    @property
    def threads_busy(self) -> float:
        """Share of the threads' time that they computed."""
        return min(1.0, self.cpu_s / self.wall_s / self.threads)

    @property
    def limit(self) -> str:
        """What keeps it from being faster, one of `LIMITS`."""
        if self.threads_busy >= _BUSY:
            return "CPU"
        return "others" if self.idle < _IDLE else "waiting"


class Measured(NamedTuple):
    """A work on so many threads: the first epoch of a file that is not in memory (if that was measured), and later."""

    work: Work
    threads: int
    first: Rate | None
    later: Rate


def most_of(reader: Reader, field: str) -> np.ndarray:
    """The samples to measure, int64 [M]: the file's first, as many as are read in a moment."""
    total = np.cumsum(reader.sizes(reader.rows(0, MOST_IMAGES)[field]["data_ptr"]).astype(np.int64))
    enough = max(MANY_IMAGES, int(np.searchsorted(total, MANY_BYTES)))
    return np.arange(max(1, min(enough, int(np.searchsorted(total, MOST_BYTES)), len(total))))


def measure(
    reader: Reader,
    field: str,
    work: Work,
    indices: np.ndarray,
    batch_size: int,
    threads: int,
    seconds: float,
    is_first: bool,
) -> Measured:
    """An epoch from a file that is not in memory, if `is_first`, then further ones for so many seconds."""
    with ExitStack() as stack:
        epoch = _reading(reader, field, indices, batch_size, threads)
        if work.pipelines:
            loader = stack.enter_context(_loader(reader, field, work, indices, batch_size, threads))
            epoch = partial(_counts, loader)
        first = None
        if is_first:
            _forget(reader, field, indices)
            first = _time(epoch(), threads, LONGEST_EPOCH_S)
        batches = _forever(epoch)
        next(batches)  # the threads have started
        return Measured(work, threads, first, _time(batches, threads, seconds))


def _time(batches: Generator[int, None, None], threads: int, seconds: float) -> Rate:
    """Counts images until there are no more, or the time is over."""
    with closing(batches):
        images, before = 0, _machine()
        cpu, wall = time.process_time(), time.perf_counter()
        for count in batches:
            images += count
            if time.perf_counter() - wall >= seconds:
                break
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    (idle, total), (idle_before, total_before) = _machine(), before
    share = (idle - idle_before) / (total - total_before) if total > total_before else 0.0
    return Rate(images, wall, cpu, threads, share)


def _forever(epoch: Epoch) -> Generator[int, None, None]:
    while True:
        yield from epoch()


def _counts(loader: Loader) -> Generator[int, None, None]:
    for batch in loader:
        yield len(batch[0])


def _loader(reader: Reader, field: str, work: Work, indices: np.ndarray, batch_size: int, threads: int) -> Loader:
    names = augment.names_of(len(work.pipelines), field, reader)
    pipelines: dict[str, Any] = dict.fromkeys(reader.fields) | dict(zip(names, work.pipelines, strict=True))
    return Loader(
        reader.path,
        batch_size,
        num_workers=threads,
        order=OrderOption.RANDOM,
        seed=0,
        indices=indices,
        pipelines=pipelines,
        custom_fields=custom_types(reader),
        custom_field_mapper=dict.fromkeys(names[1:], field),
        drop_last=False,
    )


def _reading(reader: Reader, field: str, indices: np.ndarray, batch_size: int, threads: int) -> Epoch:
    """An epoch of reading alone: every image's bytes in random order, compared with their checksums."""
    pointers = reader.rows(0, len(indices))[field]["data_ptr"]

    def read(batch: np.ndarray) -> int:
        for pointer in batch.tolist():
            reader.read(pointer)
        return len(batch)

    def epoch() -> Generator[int, None, None]:
        order = np.random.default_rng(0).permutation(pointers)
        parts = [order[i : i + batch_size] for i in range(0, len(order), batch_size)]
        with ThreadPoolExecutor(threads) as pool:
            yield from pool.map(read, parts)

    return epoch


def _forget(reader: Reader, field: str, indices: np.ndarray) -> None:
    """Drops the images' bytes from the system's page cache, as far as it lets go of them."""
    if not hasattr(os, "posix_fadvise"):
        return
    pointers = reader.rows(0, len(indices))[field]["data_ptr"]
    start, end = int(pointers.min()), int(pointers.max() + reader.sizes(pointers).max())
    with suppress(OSError):  # read-only filesystems, such as squashfs, have nothing to write, and say so
        os.fsync(reader.bytes.file.fileno())  # what is not written yet cannot be dropped
    os.posix_fadvise(reader.bytes.file.fileno(), start, end - start, os.POSIX_FADV_DONTNEED)


def _machine() -> tuple[int, int]:
    """Time that the machine's cores were idle, and all their time, in any unit; zeros where it does not say."""
    try:
        times = [int(word) for word in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]]
    except (OSError, ValueError):
        return 0, 0
    return times[3] + times[4], sum(times)
