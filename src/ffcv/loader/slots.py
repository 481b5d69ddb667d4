"""Memory for batches, used again when nobody holds the batch any more."""

from __future__ import annotations

from collections import defaultdict, deque
from typing import Any

import numpy as np
import torch

_ALIGNMENT = 64


class _Lease:
    """Owns a block while any array or tensor made from it lives, then gives it back.

    numpy keeps the object whose `__array_interface__` it reads as the array's base, and torch keeps the array.
    """

    def __init__(self, block: torch.Tensor, shape: tuple[int, ...], dtype: np.dtype, free: deque[torch.Tensor]) -> None:
        self._block = block
        self._free = free
        self.__array_interface__ = {
            "version": 3,
            "data": (block.data_ptr(), False),
            "shape": shape,
            "typestr": dtype.str,
        }

    def __del__(self) -> None:
        self._free.append(self._block)  # a deque drops its oldest entry when it is full


class SlotPool:
    """Hands out arrays for batches; safe to use from several threads.

    Args:
        keep: How many unused blocks of one size to keep at most.
        pin_memory: Page-lock the blocks, for copies to a GPU that do not block.
    """

    def __init__(self, keep: int, pin_memory: bool = False) -> None:
        self._free: dict[int, deque[torch.Tensor]] = defaultdict(lambda: deque(maxlen=keep))
        self._pin_memory = pin_memory

    def allocate(self, shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
        """An uninitialised array; its memory returns to the pool when its last reference goes."""
        size = max(1, int(np.prod(shape)) * dtype.itemsize)
        size = -(-size // _ALIGNMENT) * _ALIGNMENT
        free = self._free[size]
        try:
            block = free.pop()
        except IndexError:
            block = torch.empty(size, dtype=torch.uint8, pin_memory=self._pin_memory)
        lease: Any = _Lease(block, shape, dtype, free)
        return np.asarray(lease)
