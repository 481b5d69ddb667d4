"""The order of the file."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ffcv.traversal_order.base import LazyOrder, TraversalOrder

if TYPE_CHECKING:
    from ffcv.loader.loader import Loader


class Sequential(TraversalOrder):
    """The loader's indices as they are."""

    def sample_order(self, epoch: int) -> LazyOrder:
        return LazyOrder(self.loader.selection.size, self.loader.selection.at)

    def epoch_length(self, epoch: int) -> int:
        return self.loader.selection.size


class SequentialContiguous(Sequential):
    """Every rank goes through a part of the file of its own, from its beginning to its end."""

    def sample_order(self, epoch: int) -> LazyOrder:
        size, select = self.loader.selection.size, self.loader.selection.at
        return LazyOrder(size, lambda positions: select(self._spread(positions, size)))

    def __init__(self, loader: Loader) -> None:
        super().__init__(loader)
        self._ranks = loader.world_size
        self._batch = loader.batch_size

    def _spread(self, positions: np.ndarray, size: int) -> np.ndarray:
        """Where in the file each position of the global order lies: global batches take a piece of every part."""
        ranks, batch = self._ranks, self._batch
        quotient, longer = divmod(size, ranks)  # the first `longer` parts have one sample more
        whole = quotient // batch * batch * ranks  # samples in global batches to which each rank gives `batch`
        tail, short = positions - whole, quotient % batch
        early = longer * (short + 1)
        rank_in_tail = np.where(tail < early, tail // (short + 1), longer + (tail - early) // max(short, 1))
        place_in_tail = np.where(tail < early, tail % (short + 1), (tail - early) % max(short, 1))
        in_tail = positions >= whole
        rank = np.where(in_tail, rank_in_tail, positions % (batch * ranks) // batch)
        done = np.where(in_tail, quotient // batch * batch, positions // (batch * ranks) * batch)
        place = np.where(in_tail, place_in_tail, positions % batch)
        return rank * quotient + np.minimum(rank, longer) + done + place
