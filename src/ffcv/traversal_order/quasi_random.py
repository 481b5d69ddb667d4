"""A random order that reads few pages at a time."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ffcv.pipeline.source import pointer_columns
from ffcv.random import permute, stream_id
from ffcv.traversal_order.base import LazyOrder, TraversalOrder

if TYPE_CHECKING:
    from ffcv.loader.loader import Loader

_SAMPLES_WITHOUT_PAGES = 4096


class QuasiRandom(TraversalOrder):
    """Pages in random order; the samples of `pages_in_flight` consecutive ones shuffled together.

    With `os_cache=False` a page is then read once an epoch, and in large requests. Like every order it is the same on
    all ranks, so that each rank needs its share of every page.

    Args:
        loader: The loader.
        pages_in_flight: Pages that are mixed: more mix better and read more widely.
    """

    def __init__(self, loader: Loader, pages_in_flight: int = 16) -> None:
        super().__init__(loader)
        if pages_in_flight < 1:
            raise ValueError(f"pages_in_flight must be at least 1, got {pages_in_flight}")
        self.pages_in_flight = pages_in_flight
        self._pages: tuple[np.ndarray, np.ndarray, np.ndarray] | None = None

    def epoch_length(self, epoch: int) -> int:
        return self.loader.selection.size

    def sample_order(self, epoch: int) -> LazyOrder:
        by_page, begins, counts = self._by_page()
        page_order = permute(self.seed, stream_id("pages"), epoch, len(counts), np.arange(len(counts)))
        begins, counts = begins[page_order], counts[page_order]
        ends = np.cumsum(counts)  # of the shuffled pages, in samples of the epoch
        lasts = np.append(np.arange(self.pages_in_flight, len(counts), self.pages_in_flight), len(counts)) - 1
        group_ends = ends[lasts] if len(counts) else ends

        def at(positions: np.ndarray) -> np.ndarray:
            result = np.empty(len(positions), np.int64)
            groups = np.searchsorted(group_ends, positions, side="right")
            for group in np.unique(groups).tolist():
                here = groups == group
                start = int(group_ends[group - 1]) if group else 0
                size, stream = int(group_ends[group]) - start, stream_id("samples of pages", group)
                shuffled = permute(self.seed, stream, epoch, size, positions[here] - start) + start
                page = np.searchsorted(ends, shuffled, side="right")
                result[here] = by_page[begins[page] + shuffled - (ends[page] - counts[page])]
            return result

        return LazyOrder(self.loader.selection.size, at)

    def _pages_of(self, samples: np.ndarray, column: tuple[str, str | None]) -> np.ndarray:
        field, name = column
        rows = self.loader.plan.source.rows(samples)[field]
        pointers = rows if name is None else rows[name]
        return (pointers // self.loader.reader.page_size).astype(np.int64)

    def _by_page(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The selected samples by page; where each page's begin there; how many each has. Found once."""
        if self._pages is None:
            reader, samples = self.loader.reader, self.loader.indices
            columns = pointer_columns(reader)
            if columns:
                pages = np.concatenate([self._pages_of(part, columns[0]) for part in _parts(samples)])
            else:  # nothing but numbers in the metadata
                pages = samples // _SAMPLES_WITHOUT_PAGES
            order = np.argsort(pages, kind="stable")
            _, begins, counts = np.unique(pages[order], return_index=True, return_counts=True)
            self._pages = samples[order], begins, counts
        return self._pages


def _parts(samples: np.ndarray) -> list[np.ndarray]:
    """At least one, each of at most a million."""
    return [samples[start : start + 1_000_000] for start in range(0, max(1, len(samples)), 1_000_000)]
