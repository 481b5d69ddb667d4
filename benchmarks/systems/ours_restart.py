"""FFCV-SSL (this package), from JPEGs with restart markers between their rows (`ffcv write --restart-markers`)."""

from __future__ import annotations

from ffcv import Loader
from systems.ours import loader_of
from workloads import Source


def loader(workload: str, source: Source, threads: int) -> Loader:
    """Batches whose first element is a view of each image."""
    return loader_of(source.restart_beton, workload, threads)
