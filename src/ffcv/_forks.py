"""What a fork must not meet: locks that are held by threads, which stay behind in the parent."""

from __future__ import annotations

import os
import threading
import time
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


_threads: list[threading.Thread] = []
_LONGEST_END = 1.0  # seconds


def wait_at_forks(thread: threading.Thread) -> None:
    """Lets forks wait while `thread`, which has been started, comes to its end.

    Python reports a thread's end before the system's thread is gone. That then unwinds its stack, for which libgcc
    holds a lock as soon as the process has compiled code of its own, as numba makes: in a child that is forked at that
    moment, the next compilation, and the next C++ exception, would wait for ever.
    """
    _threads[:] = [other for other in _threads if _is_running(other)]
    _threads.append(thread)


def _is_running(thread: threading.Thread) -> bool:
    return thread.is_alive() or os.access(f"/proc/self/task/{thread.native_id}", os.F_OK)


def _let_threads_end() -> None:
    give_up = time.monotonic() + _LONGEST_END
    for thread in list(_threads):
        while not thread.is_alive() and _is_running(thread) and time.monotonic() < give_up:
            time.sleep(0.0001)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_let_threads_end, after_in_child=_renew)
