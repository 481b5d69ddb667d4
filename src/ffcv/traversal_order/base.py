"""What an order is."""

from __future__ import annotations

import weakref
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from ffcv.loader.loader import Loader


class TraversalOrder(ABC):
    """Decides in which order the samples of an epoch come. Subclass it for an order of your own.

    Args:
        loader: The loader.

    Attributes:
        loader: The loader, for its `reader`, `seed`, `world_size`, ...
        seed: The loader's.
        distributed: Always False. Orders written for FFCV ask it whether to split the epoch among ranks, often with a
            DistributedSampler; here the order is the same on all ranks, and the loader gives each its part.
    """

    def __init__(self, loader: Loader) -> None:
        self.loader: Loader = weakref.proxy(loader)  # the loader holds the order
        self.seed = loader.seed
        self.distributed = False

    @property
    def indices(self) -> np.ndarray:
        """The loader's: the dataset indices to be ordered, int64 [N]."""
        return self.loader.indices

    @indices.setter
    def indices(self, indices: Sequence[int] | np.ndarray) -> None:
        self.loader.indices = indices

    @abstractmethod
    def sample_order(self, epoch: int) -> Sequence[int] | np.ndarray | LazyOrder:
        """The dataset indices of the epoch, all ranks together, in order: int64 [N], or anything that slices to it."""

    def epoch_length(self, epoch: int) -> int:
        """How many samples `sample_order(epoch)` has; override it where counting them is cheaper than ordering."""
        return len(self.sample_order(epoch))

    def state_dict(self, epoch: int) -> dict[str, Any]:
        """What else than (seed, epoch) the order of `epoch` depends on: plain numbers and text, for checkpoints."""
        del epoch
        return {}

    def load_state_dict(self, epoch: int, state: dict[str, Any]) -> None:
        """Makes `sample_order(epoch)` what it was where `state` was taken; other epochs stay as they are."""
        del epoch, state


class LazyOrder:
    """An order that is computed where it is looked at.

    Args:
        size: Number of samples, N.
        at: Maps positions (int64 [B], within 0..N-1) to dataset indices (int64 [B]).
        group_of: Says in which group of neighbours in the file a position lies, by a number that rises; such groups are
            read together. None: there are none.
    """

    def __init__(
        self,
        size: int,
        at: Callable[[np.ndarray], np.ndarray],
        group_of: Callable[[int], int] | None = None,
    ) -> None:
        self._size = size
        self._at = at
        self.group_of = group_of

    def __len__(self) -> int:
        return self._size

    def __getitem__(self, key: int | slice | np.ndarray) -> Any:
        if isinstance(key, slice):
            return self._at(np.arange(*key.indices(self._size), dtype=np.int64))
        if isinstance(key, np.ndarray):
            return self._at(np.ascontiguousarray(key, np.int64))
        if not -self._size <= key < self._size:
            raise IndexError(f"position {key} of an order of {self._size}")
        return int(self._at(np.array([key % self._size], np.int64))[0])

    def __iter__(self) -> Iterator[int]:
        for start in range(0, self._size, 4096):
            yield from self[start : start + 4096].tolist()

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        del copy  # always a new array
        return self[:].astype(dtype) if dtype is not None else self[:]
