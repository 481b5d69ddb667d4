"""A random order that reads few pages at a time."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from ffcv.pipeline.source import pointer_columns
from ffcv.random import permute, stream_id
from ffcv.transforms.validation import check_count
from ffcv.traversal_order.base import LazyOrder, TraversalOrder

if TYPE_CHECKING:
    from ffcv.loader.loader import Loader
    from ffcv.loader.selection import Selection

_SAMPLES_WITHOUT_PAGES = 4096
_SAMPLES_AT_ONCE = 1_000_000


class QuasiRandom(TraversalOrder):
    """Pages in random order; the samples of `pages_in_flight` consecutive ones shuffled together.

    With `os_cache=False` such a group of pages is read together, each page once an epoch and in large requests, so that
    two groups are in memory. Like every order it is the same on all ranks: each of several needs its share of every
    page, and reads single samples.

    Args:
        loader: The loader.
        pages_in_flight: Pages that are mixed: more mix better, and take more memory.
    """

    def __init__(self, loader: Loader, pages_in_flight: int = 16) -> None:
        super().__init__(loader)
        if pages_in_flight < 1:
            raise ValueError(f"pages_in_flight must be at least 1, got {pages_in_flight}")
        self.pages_in_flight = check_count("pages_in_flight", pages_in_flight, 1)
        self._pages: tuple[Selection, Pages] | None = None  # found once for each selection

    def epoch_length(self, epoch: int) -> int:
        return self.loader.selection.size

    def state_dict(self, epoch: int) -> dict[str, Any]:
        return {"pages_in_flight": self.pages_in_flight}

    def load_state_dict(self, epoch: int, state: dict[str, Any]) -> None:
        given = state.get("pages_in_flight")
        if given != self.pages_in_flight:
            raise ValueError(
                f"the state is of an order with pages_in_flight={given!r}, but the loader has {self.pages_in_flight}: "
                "pass order_kwargs={'pages_in_flight': ...} as the run that wrote it"
            )

    def sample_order(self, epoch: int) -> LazyOrder:
        selection = self.loader.selection
        found = functools.cache(lambda: self._groups(epoch, selection))  # where it is looked at, not where it is made

        def at(positions: np.ndarray) -> np.ndarray:
            pages, begins, ends, group_ends = found()
            places = np.empty(len(positions), np.int64)
            groups = np.searchsorted(group_ends, positions, side="right")
            for group in np.unique(groups).tolist():
                here = groups == group
                start = int(group_ends[group - 1]) if group else 0
                length, stream = int(group_ends[group]) - start, stream_id("samples of pages", group)
                shuffled = permute(self.seed, stream, epoch, length, positions[here] - start) + start
                page = np.searchsorted(ends, shuffled, side="right")
                places[here] = shuffled - ends[page] + begins[page]
            return selection.at(pages.position(places))

        def group_of(position: int) -> int:
            return int(np.searchsorted(found()[-1], position, side="right"))

        return LazyOrder(selection.size, at, group_of)

    def _groups(self, epoch: int, selection: Selection) -> tuple[Pages, np.ndarray, np.ndarray, np.ndarray]:
        """The pages; of the epoch's first, second, ... page its end in `Pages`, and its end in the epoch; where groups
        of pages end in the epoch."""
        found = self._pages
        if found is None or found[0] is not selection:  # `loader.indices` may be assigned
            found = self._pages = selection, Pages.of(self._page_numbers(selection))
        pages = found[1]
        order = permute(self.seed, stream_id("pages"), epoch, len(pages.counts), np.arange(len(pages.counts)))
        ends = np.cumsum(pages.counts[order])
        lasts = np.append(np.arange(self.pages_in_flight, len(order), self.pages_in_flight), len(order)) - 1
        return pages, pages.ends[order], ends, ends[lasts] if len(order) else ends

    def _page_numbers(self, selection: Selection) -> Iterator[np.ndarray]:
        """The page of every sample selected, a million at a time."""
        source = self.loader.plan.source
        columns = pointer_columns(self.loader.reader)
        for start in range(0, selection.size, _SAMPLES_AT_ONCE):
            samples = selection.at(np.arange(start, min(start + _SAMPLES_AT_ONCE, selection.size), dtype=np.int64))
            if columns:
                field, name = columns[0]
                rows = source.rows(samples)[field]
                pointers = rows if name is None else rows[name]
                yield (pointers // self.loader.reader.page_size).astype(np.int64)
            else:  # nothing but numbers in the metadata
                yield samples // _SAMPLES_WITHOUT_PAGES


class Pages(NamedTuple):
    """Which samples lie on which page, as runs of neighbours: as many as pages where samples lie in the file's order.

    Places count the samples by page; positions count them as they are selected.
    """

    run_ends: np.ndarray  # int64 [R]: the place where each run ends
    shifts: np.ndarray  # int64 [R]: from places to positions in the run
    ends: np.ndarray  # int64 [P]: the place where each page ends
    counts: np.ndarray  # int64 [P]: samples on each page

    @staticmethod
    def of(numbers: Iterable[np.ndarray]) -> Pages:
        """From the page numbers of all samples, int64, in parts."""
        starts, numbered, total = [np.empty(0, np.int64)], [np.empty(0, np.int64)], 0
        for part in numbers:
            is_new = np.ones(len(part), bool)
            is_new[1:] = part[1:] != part[:-1]
            begins = np.flatnonzero(is_new)
            starts.append(begins + total)
            numbered.append(part[begins])
            total += len(part)
        start, number = np.concatenate(starts), np.concatenate(numbered)
        lengths = np.diff(np.append(start, total))
        by_page = np.argsort(number, kind="stable")
        start, number, lengths = start[by_page], number[by_page], lengths[by_page]
        run_ends = np.cumsum(lengths)
        _, firsts = np.unique(number, return_index=True)
        begins = (run_ends - lengths)[firsts]
        counts = np.diff(np.append(begins, total))
        return Pages(run_ends, start - (run_ends - lengths), begins + counts, counts)

    def position(self, places: np.ndarray) -> np.ndarray:
        """int64 [B] both."""
        return places + self.shifts[np.searchsorted(self.run_ends, places, side="right")]
