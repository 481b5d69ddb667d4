"""WebDataset shards read with the `webdataset` package and a user's pipeline, for `DatasetWriter.from_webdataset`."""

from __future__ import annotations

import importlib
import threading
from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from ffcv.errors import SourceError, one_line


def _open(shard: str, pipeline: Callable[[Any], Any]) -> Iterator[Any]:
    try:
        webdataset: Any = importlib.import_module("webdataset")
    except ModuleNotFoundError:
        raise SourceError(
            "from_webdataset needs the package webdataset: pip install webdataset; or convert the shards with "
            "'ffcv write SHARDS OUT', which does not need it"
        ) from None
    return iter(pipeline(webdataset.WebDataset(shard, shardshuffle=False)))


def _next(samples: Iterator[Any], shard: str, number: int) -> Any:
    """The next sample, which is the shard's sample `number`; None at the end.

    Raises:
        SourceError: The pipeline raised; it cannot go on.
    """
    try:
        return next(samples, None)
    except SourceError:
        raise
    except Exception as error:
        raise SourceError(f"{shard}: sample {number} of the shard: {one_line(error)}") from error


class ShardCounter:
    """Indexing gives the number of samples in a shard, as a tuple."""

    def __init__(self, shards: Sequence[str], pipeline: Callable[[Any], Any]) -> None:
        self._shards, self._pipeline = shards, pipeline

    def __getitem__(self, shard: int) -> tuple[int]:
        samples = _open(self._shards[shard], self._pipeline)
        number = 0
        while _next(samples, self._shards[shard], number) is not None:
            number += 1
        return (number,)


class ShardSamples:
    """All shards' samples by number; quick where a thread asks for one after the other.

    Args:
        shards: The shards.
        pipeline: What makes tuples of their samples.
        starts: The number of each shard's first sample, and the number of samples.
    """

    def __init__(self, shards: Sequence[str], pipeline: Callable[[Any], Any], starts: Sequence[int]) -> None:
        self._shards, self._pipeline, self._starts = shards, pipeline, starts
        self._local = threading.local()

    def __getitem__(self, index: int) -> tuple[Any, ...]:
        local = self._local
        number = bisect_right(self._starts, index) - 1
        shard, first = self._shards[number], self._starts[number]
        if getattr(local, "next", None) != index or index == first:
            local.samples = _open(shard, self._pipeline)
            for passed in range(index - first):
                _next(local.samples, shard, passed)
        local.next = None  # after an error the shard must be opened again
        sample = _next(local.samples, shard, index - first)
        if sample is None:
            raise SourceError(f"{shard}: gave fewer samples than when they were counted")
        if index + 1 == self._starts[number + 1] and _next(local.samples, shard, index + 1 - first) is not None:
            raise SourceError(f"{shard}: gave more samples than when they were counted")
        local.next = index + 1
        return tuple(sample)
