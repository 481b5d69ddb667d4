"""Locks that a forked process finds free: the thread that held one stayed in the parent."""

from __future__ import annotations

import os
import threading
import weakref


class ForkSafeLock:
    """A lock whose holder at the time of a fork does not exist in the child.

    Only for what is whole between any two of Python's instructions, since the child goes on in the middle of it.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._held = self._lock
        _locks.add(self)

    def __enter__(self) -> None:
        lock = self._lock
        lock.acquire()
        self._held = lock

    def __exit__(self, *exception: object) -> None:
        self._held.release()  # if the holder itself has forked inside, the child has a new lock, and releases the old


_locks: weakref.WeakSet[ForkSafeLock] = weakref.WeakSet()


def _renew() -> None:
    for lock in _locks:
        lock._lock = threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew)
