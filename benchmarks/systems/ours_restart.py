"""FFCV-SSL (this package), from JPEGs with restart markers between their rows (`ffcv write --restart-markers`)."""

from __future__ import annotations

from collections.abc import Iterator

from systems.ours import batches_of
from workloads import Source


def batches(workload: str, source: Source, threads: int) -> Iterator[int]:
    """Yields the number of images of each batch, as it comes."""
    yield from batches_of(source.restart_beton, workload, threads)
