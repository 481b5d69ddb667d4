"""Memory for batches, used again when nobody holds the batch any more."""

from __future__ import annotations

import math
import threading
import time
from collections import deque
from contextlib import suppress
from typing import Any

import numpy as np
import torch

from ffcv._forks import ForkSafeLock

_ALIGNMENT = 64

_LARGE = 4 << 20
_GRACE_S = 0.01
"""A `for` loop lets go of a batch just after it has been given the next: before memory for another large block is
taken, it gets this long to do so. Else the peak would depend on which thread is faster."""


class _Unused:
    """Blocks that nobody uses: those that the pool knows of, and those that have come back since it looked.

    Attributes:
        keep: How many may wait.
        is_open: Whether blocks are kept at all.
    """

    def __init__(self, keep: int) -> None:
        self.keep = keep
        self.is_open = True
        self.known: list[torch.Tensor] = []
        self._back: deque[torch.Tensor] = deque()
        self._nothing_new = threading.Lock()  # held by nobody: as a signal, which a forked process may keep as it is
        self._nothing_new.acquire()

    def put(self, block: torch.Tensor) -> None:
        """Waits for no lock: this may run anywhere, also inside the methods of the pool."""
        self._back.append(block)
        if self._nothing_new.locked():
            with suppress(RuntimeError):  # another thread has said so meanwhile
                self._nothing_new.release()
        while not self.is_open or len(self._back) + len(self.known) > self.keep:
            if self._pop() is None:
                return

    def wait(self, timeout_s: float) -> bool:
        """Until a block has come back since the last call, which may be a while ago; not under the pool's lock."""
        return self._nothing_new.acquire(timeout=timeout_s)

    def look(self) -> bool:
        """Adds what has come back to what is known, under the pool's lock; says whether there was anything."""
        found = False
        while self._back and (block := self._pop()) is not None:
            self.known.append(block)
            found = True
        del self.known[: -self.keep]
        return found

    def _pop(self) -> torch.Tensor | None:
        """One that has come back; not asked for beforehand, since another thread may take the last one meanwhile."""
        try:
            return self._back.popleft()
        except IndexError:
            return None


class _Lease:
    """Owns a block while any array or tensor made from it lives, then gives it back.

    numpy keeps the object whose `__array_interface__` it reads as the array's base, and torch keeps the array.
    """

    def __init__(self, block: torch.Tensor, shape: tuple[int, ...], dtype: np.dtype, unused: _Unused) -> None:
        self._block = block
        self._unused = unused
        self.__array_interface__ = {
            "version": 3,
            "data": (block.data_ptr(), False),
            "shape": shape,
            "typestr": dtype.str,
        }

    def __del__(self) -> None:
        self._unused.put(self._block)


class SlotPool:
    """Hands out arrays for batches; safe to use from several threads.

    It keeps the unused blocks of up to `batches` batches, as far as they take no more than `max_bytes` together, but
    always those of one; blocks of sizes that are not asked for any more are let go.

    Args:
        blocks_a_batch: How many a batch takes.
        batches: See above.
        max_bytes: See above.
        pin_memory: Page-lock the blocks, for copies to a GPU that do not block.
    """

    def __init__(self, blocks_a_batch: int, batches: int, max_bytes: int, pin_memory: bool = False) -> None:
        self._a_batch = max(1, blocks_a_batch)
        self._batches = batches
        self._max_bytes = max_bytes
        self._pin_memory = pin_memory
        self._unused = _Unused(self._a_batch * batches)
        self._lock = ForkSafeLock()
        self._asked: dict[int, int] = {}  # by size in bytes: the number of the last request
        self._requests = 0
        self._waits_in_vain = 0

    def allocate(self, shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
        """An uninitialised array; its memory returns to the pool when its last reference goes."""
        size = max(1, math.prod(shape) * dtype.itemsize)
        size = -(-size // _ALIGNMENT) * _ALIGNMENT
        lease: Any = _Lease(self._block(size), shape, dtype, self._unused)
        return np.asarray(lease)

    def close(self) -> None:
        """Lets go of all unused blocks, and of the others as soon as they come back."""
        with self._lock:
            self._unused.is_open = False
            self._unused.look()
            self._unused.known.clear()

    def _block(self, size: int) -> torch.Tensor:
        with self._lock:
            is_new = size not in self._asked
            self._note(size)
            block = self._take(size)
        if block is None and size >= _LARGE and not is_new and self._is_patient():
            deadline = time.monotonic() + _GRACE_S
            while block is None and self._unused.wait(max(0.0, deadline - time.monotonic())):
                with self._lock:
                    block = self._take(size)
            self._waits_in_vain = self._waits_in_vain + 1 if block is None else 0
        return self._new(size) if block is None else block

    def _new(self, size: int) -> torch.Tensor:
        try:
            return torch.empty(size, dtype=torch.uint8, pin_memory=self._pin_memory)
        except RuntimeError as error:
            if self._pin_memory:
                raise  # which may say anything of the GPU
            raise MemoryError(
                f"no memory for another {size / 2**20:,.0f} MiB of a batch: choose a smaller batch_size, or hold fewer"
            ) from error

    def _is_patient(self) -> bool:
        """Not where batches are kept, and nothing comes back however long one waits."""
        return self._waits_in_vain < self._a_batch * (self._batches + 2)

    def _note(self, size: int) -> None:
        """What is asked for now says how many blocks to keep, and of which sizes; under the lock."""
        self._requests += 1
        self._asked[size] = self._requests
        recent = self._requests - 4 * self._a_batch
        self._asked = {each: number for each, number in self._asked.items() if number > recent}
        affordable = self._max_bytes // max(self._asked)
        self._unused.keep = max(self._a_batch, min(self._a_batch * self._batches, affordable))

    def _take(self, size: int) -> torch.Tensor | None:
        """An unused block; under the lock."""
        if self._unused.look():
            self._waits_in_vain = 0
        known = self._unused.known
        known[:] = [block for block in known if block.numel() in self._asked]
        for i in range(len(known) - 1, -1, -1):
            if known[i].numel() == size:
                return known.pop(i)
        return None
