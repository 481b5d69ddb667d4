"""What an order is."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from ffcv.loader.loader import Loader


class TraversalOrder(ABC):
    """Decides in which order the samples of an epoch come.

    Args:
        loader: The loader, for its `indices`, `seed` and `reader`.
    """

    def __init__(self, loader: Loader) -> None:
        self.loader = loader
        self.indices = loader.indices
        self.seed = loader.seed

    @abstractmethod
    def sample_order(self, epoch: int) -> np.ndarray:
        """The dataset indices of the epoch, all ranks together, in order: int64 [N]."""
