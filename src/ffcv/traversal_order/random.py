"""A new order every epoch."""

from __future__ import annotations

import numpy as np

from ffcv.random import permutation
from ffcv.traversal_order.base import TraversalOrder


class Random(TraversalOrder):
    """A permutation of the loader's indices that depends on (seed, epoch) alone."""

    def sample_order(self, epoch: int) -> np.ndarray:
        return self.indices[permutation(self.seed, epoch, len(self.indices))]
