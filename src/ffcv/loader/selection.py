"""Which samples of the file a loader uses."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from ffcv.traversal_order.base import LazyOrder


@dataclass(frozen=True)
class Selection:
    """The samples used, in the sequential order.

    Attributes:
        indices: Their dataset indices, int64 [N]; None for the whole file, which then takes no memory.
        num_samples: Of the file.
    """

    indices: np.ndarray | None
    num_samples: int

    @property
    def size(self) -> int:
        return self.num_samples if self.indices is None else len(self.indices)

    def all(self) -> np.ndarray:
        """int64 [N]."""
        return np.arange(self.num_samples, dtype=np.int64) if self.indices is None else self.indices

    def at(self, positions: np.ndarray) -> np.ndarray:
        """The dataset indices at `positions`, int64 [B] both."""
        return positions if self.indices is None else self.indices[positions]

    def checked(self, samples: np.ndarray) -> np.ndarray:
        """`samples`, which an order of the user's may have given, as int64 [B] within the file."""
        if samples.size and np.maximum.reduce(samples.view(np.uint64)) >= self.num_samples:  # as which -1 is large
            raise IndexError(
                f"the order gave sample {samples.min() if samples.min() < 0 else samples.max()}, "
                f"but the file has samples 0..{self.num_samples - 1}"
            )
        return samples

    def digest(self) -> str:
        """Names the selection in checkpoints."""
        if self.indices is None:
            return f"all {self.num_samples}"
        return hashlib.blake2b(self.indices.tobytes(), digest_size=16).hexdigest()

    def candidates(self, order: Any) -> Selection:
        """The samples that an order of this selection goes through, of which one may stand in for a bad one."""
        if isinstance(order, LazyOrder) and len(order) == self.size:
            return self  # all of them: orders of ours that choose none
        return Selection(np.unique(np.asarray(order)).astype(np.int64), self.num_samples)


def take(order: Any, positions: np.ndarray) -> np.ndarray:
    """int64 [B]: what any kind of order has at `positions` (int64 [B], mostly one behind the other)."""
    first, last = int(positions[0]), int(positions[-1])
    if isinstance(order, LazyOrder):
        found = np.asarray(order[positions])
    elif last - first + 1 == len(positions):
        found = np.asarray(order[first : last + 1])
    elif isinstance(order, np.ndarray):
        found = np.asarray(order[positions])
    elif isinstance(order, torch.Tensor):
        found = np.asarray(order[torch.from_numpy(positions)])
    else:  # a list, a range, a sequence of the user's
        found = np.asarray([order[position] for position in positions.tolist()])
    if found.dtype.kind not in "iu" or found.ndim != 1:
        raise TypeError(
            f"the order must give dataset indices, whole numbers, but gave {found.dtype} {found[:3].tolist()}"
        )
    return np.ascontiguousarray(found, np.int64)
