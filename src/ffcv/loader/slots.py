"""Memory for batches, used again when nobody holds the batch any more."""

from __future__ import annotations

import time
from collections import deque
from typing import Any

import numpy as np
import torch

from ffcv._forks import ForkSafeLock

_ALIGNMENT = 64

_LARGE = 4 << 20
_GRACE_S = 0.01
"""A `for` loop lets go of a batch just after it has been given the next: before memory for another large block is
taken, it gets this long to do so. Else the peak would depend on which thread is faster."""


class _Lease:
    """Owns a block while any array or tensor made from it lives, then gives it back.

    numpy keeps the object whose `__array_interface__` it reads as the array's base, and torch keeps the array.
    """

    def __init__(self, block: torch.Tensor, shape: tuple[int, ...], dtype: np.dtype, back: deque[torch.Tensor]) -> None:
        self._block = block
        self._back = back
        self.__array_interface__ = {
            "version": 3,
            "data": (block.data_ptr(), False),
            "shape": shape,
            "typestr": dtype.str,
        }

    def __del__(self) -> None:
        self._back.append(self._block)  # no lock: this may run anywhere, also inside `allocate`


class SlotPool:
    """Hands out arrays for batches; safe to use from several threads.

    Args:
        keep: How many unused blocks to keep at most, whatever their sizes; those unused for longest go first.
        pin_memory: Page-lock the blocks, for copies to a GPU that do not block.
    """

    def __init__(self, keep: int, pin_memory: bool = False) -> None:
        self._keep = keep
        self._pin_memory = pin_memory
        self._back: deque[torch.Tensor] = deque(maxlen=keep)
        self._free: list[torch.Tensor] = []
        self._lock = ForkSafeLock()
        self._made: set[int] = set()

    def allocate(self, shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
        """An uninitialised array; its memory returns to the pool when its last reference goes."""
        size = max(1, int(np.prod(shape)) * dtype.itemsize)
        size = -(-size // _ALIGNMENT) * _ALIGNMENT
        lease: Any = _Lease(self._block(size), shape, dtype, self._back)
        return np.asarray(lease)

    def clear(self) -> None:
        """Lets go of all unused blocks."""
        with self._lock:
            self._back.clear()
            self._free.clear()

    def _block(self, size: int) -> torch.Tensor:
        block = self._unused(size)
        if block is None and size >= _LARGE and size in self._made:
            deadline = time.monotonic() + _GRACE_S
            while block is None and time.monotonic() < deadline:
                time.sleep(_GRACE_S / 20)
                block = self._unused(size)
        self._made.add(size)
        return torch.empty(size, dtype=torch.uint8, pin_memory=self._pin_memory) if block is None else block

    def _unused(self, size: int) -> torch.Tensor | None:
        with self._lock:
            while self._back:
                self._free.append(self._back.popleft())
            del self._free[: -self._keep]
            for i in range(len(self._free) - 1, -1, -1):
                if self._free[i].numel() == size:
                    return self._free.pop(i)
        return None
