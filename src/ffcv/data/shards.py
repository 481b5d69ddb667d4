"""WebDataset shards read with the `webdataset` package and a user's pipeline, for `DatasetWriter.from_webdataset`."""

from __future__ import annotations

import importlib
import threading
from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from ffcv.errors import SourceError


def _open(shard: str, pipeline: Callable[[Any], Any]) -> Iterator[Any]:
    try:
        webdataset: Any = importlib.import_module("webdataset")
    except ModuleNotFoundError:
        raise SourceError(
            "from_webdataset needs the package webdataset: pip install webdataset; or convert the shards with "
            "'ffcv write SHARDS OUT', which does not need it"
        ) from None
    return iter(pipeline(webdataset.WebDataset(shard, shardshuffle=False)))


class ShardCounter:
    """Indexing gives the number of samples in a shard, as a tuple."""

    def __init__(self, shards: Sequence[str], pipeline: Callable[[Any], Any]) -> None:
        self._shards, self._pipeline = shards, pipeline

    def __getitem__(self, shard: int) -> tuple[int]:
        return (sum(1 for _ in _open(self._shards[shard], self._pipeline)),)


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
        if getattr(local, "next", None) != index or index in self._starts:
            shard = bisect_right(self._starts, index) - 1
            local.samples = _open(self._shards[shard], self._pipeline)
            local.shard = shard
            for _ in range(index - self._starts[shard]):
                next(local.samples)
        local.next = index + 1
        sample = next(local.samples, None)
        if sample is None:
            raise SourceError(f"{self._shards[local.shard]}: gave fewer samples than when they were counted")
        return tuple(sample)
