"""A new order every epoch."""

from __future__ import annotations

from ffcv.random import permute, stream_id
from ffcv.traversal_order.base import LazyOrder, TraversalOrder


class Random(TraversalOrder):
    """A permutation that depends on (seed, epoch) alone and takes no memory."""

    def sample_order(self, epoch: int) -> LazyOrder:
        size, select = self.loader.selection.size, self.loader.selection.at
        stream = stream_id("order")
        return LazyOrder(size, lambda positions: select(permute(self.seed, stream, epoch, size, positions)))

    def epoch_length(self, epoch: int) -> int:
        return self.loader.selection.size
