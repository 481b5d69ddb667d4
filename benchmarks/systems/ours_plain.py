"""FFCV-SSL (this package), from a file as the original writes it: without entry points."""

from __future__ import annotations

from ffcv import Loader
from systems.ours import loader_of
from workloads import Source


def loader(workload: str, source: Source, threads: int) -> Loader:
    """Batches whose first element is a view of each image."""
    return loader_of(source.plain_beton, workload, threads)
