"""Orders that a torch sampler draws."""

from __future__ import annotations

import operator
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from ffcv.random import stream_id
from ffcv.traversal_order.base import TraversalOrder

if TYPE_CHECKING:
    from ffcv.loader.loader import Loader


class Sampled(TraversalOrder):
    """What a sampler gives, drawn anew every epoch from (seed, epoch), so that all ranks and resumed runs agree.

    What it draws from torch's generator for CPUs, or from its own `generator`, is fixed; what it draws from numpy or
    `random` is not. The loader has it drawn in the thread that iterates, and gives torch's generator back as it was.

    Args:
        loader: The loader.
        sampler: Any iterable of dataset indices: `torch.utils.data.WeightedRandomSampler`, a list, ...
    """

    def __init__(self, loader: Loader, sampler: Iterable[int]) -> None:
        super().__init__(loader)
        self.sampler: Any = sampler

    def epoch_length(self, epoch: int) -> int:
        return len(self.sampler) if hasattr(self.sampler, "__len__") else super().epoch_length(epoch)

    def sample_order(self, epoch: int) -> np.ndarray:
        if hasattr(self.sampler, "set_epoch"):
            self.sampler.set_epoch(epoch)
        seed = stream_id("sampler", self.seed, epoch)
        own = getattr(self.sampler, "generator", None)
        if isinstance(own, torch.Generator):
            own.manual_seed(seed)
        before = torch.get_rng_state()
        torch.default_generator.manual_seed(seed)  # not torch.manual_seed, which would seed the GPUs' generators too
        try:
            return np.fromiter(map(_index, self.sampler), np.int64)
        finally:
            torch.set_rng_state(before)


def _index(value: Any) -> int:
    """What a sampler gives, refused where a conversion would only make some index of it: of a mask, 0 and 1."""
    try:
        if not isinstance(value, bool | np.bool_) and getattr(value, "dtype", None) is not torch.bool:
            return operator.index(value)
    except TypeError:
        pass
    raise TypeError(
        f"sampler must give dataset indices, whole numbers, but gave {value!r}; of a mask, take np.flatnonzero(mask)"
    )
