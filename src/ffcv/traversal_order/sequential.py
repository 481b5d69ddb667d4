"""The order of the file."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ffcv.transforms.validation import check_count
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
    """Every rank goes through a part of the file of its own, from its beginning to its end.

    The order depends on the number of ranks and on their batch size. An epoch that goes on with others keeps the parts
    that it began with: its samples follow one another as they would have, only the ranks share them differently.
    """

    def __init__(self, loader: Loader) -> None:
        super().__init__(loader)
        self._begun: tuple[int, _Parts] | None = None  # an epoch that began here or elsewhere, and how

    def sample_order(self, epoch: int) -> LazyOrder:
        size, select = self.loader.selection.size, self.loader.selection.at
        parts = self._parts(epoch)
        return LazyOrder(size, lambda positions: select(parts.spread(positions, size)))

    def state_dict(self, epoch: int) -> dict[str, Any]:
        parts = self._parts(epoch)
        return {"parts": parts.count, "samples_a_piece": parts.piece}

    def load_state_dict(self, epoch: int, state: dict[str, Any]) -> None:
        counts = (check_count(f"the state's {name}", state.get(name), 1) for name in ("parts", "samples_a_piece"))
        self._begun = epoch, _Parts(*counts)

    def _parts(self, epoch: int) -> _Parts:
        own = _Parts(self.loader.world_size, self.loader.batch_size)
        return self._begun[1] if self._begun is not None and self._begun[0] == epoch else own


@dataclass(frozen=True)
class _Parts:
    """A file cut into equal parts, and how global batches take from them.

    Attributes:
        count: Number of parts; they differ by one sample at most.
        piece: Samples that a whole global batch takes of each.
    """

    count: int
    piece: int

    def spread(self, positions: np.ndarray, size: int) -> np.ndarray:
        """Where in the file each position of the global order lies, int64 [B] both."""
        ranks, batch = self.count, self.piece
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
