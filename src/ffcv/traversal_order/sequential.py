"""The order of the file."""

from __future__ import annotations

import numpy as np

from ffcv.traversal_order.base import TraversalOrder


class Sequential(TraversalOrder):
    """The loader's indices as they are."""

    def sample_order(self, epoch: int) -> np.ndarray:
        return self.indices
