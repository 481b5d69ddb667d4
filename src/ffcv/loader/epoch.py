"""One pass over the data."""

from __future__ import annotations

import atexit
import os
import threading
import weakref
from collections.abc import Callable
from typing import Any

from ffcv import _core
from ffcv._forks import wait_at_forks
from ffcv.loader.cuda import hand_over
from ffcv.loader.handoff import Handoff
from ffcv.loader.production import Production

_JOIN_TIMEOUT_S = 5.0
_running: weakref.WeakKeyDictionary[threading.Thread, Handoff] = weakref.WeakKeyDictionary()


class EpochIterator:
    """Iterates over the batches of one epoch; a thread of its own keeps some of them ready.

    Dropping the iterator stops the thread; `close()` also waits for it.

    Args:
        production: Makes the batches.
        count: How many batches there will be.
        handoff: Between the thread and this iterator.
        on_batch: Called with the samples done when a batch is handed out, and with None at the end of the epoch.
        on_unused: Called when the iterator goes without having been asked for a batch.
    """

    def __init__(
        self,
        production: Production,
        count: int,
        handoff: Handoff,
        on_batch: Callable[[int | None], None],
        on_unused: Callable[[], None],
    ) -> None:
        self._handoff = handoff
        self._left = count
        self._on_batch = on_batch
        self._thread = threading.Thread(
            target=handoff.produce,
            args=(lambda: production.batches(handoff.wait_for_room), production.close, production.cancel),
            name="ffcv-loader",
            daemon=True,
        )
        _running[self._thread] = handoff
        self._used = threading.Event()
        self._stop = weakref.finalize(self, _end, handoff, self._used, on_unused)
        self._thread.start()
        wait_at_forks(self._thread)

    def __iter__(self) -> EpochIterator:
        return self

    def __next__(self) -> Any:
        if not self._used.is_set():
            self._used.set()
        batch = None
        while batch is None:
            try:
                batch, done, copied = self._handoff.get()
            except StopIteration:
                if self._left == 0:
                    self._on_batch(None)
                raise
            if copied:
                hand_over(batch, copied)
            self._left -= 1
            self._on_batch(done)
        return batch

    def __len__(self) -> int:
        """Batches that are still to come."""
        return self._left

    def close(self) -> None:
        """Stops the thread, waits until it has ended, and drops what is ready."""
        self._stop()
        if self._thread is not threading.current_thread():
            self._thread.join(_JOIN_TIMEOUT_S)


def _end(handoff: Handoff, used: threading.Event, on_unused: Callable[[], None]) -> None:
    handoff.close()
    if not used.is_set():
        on_unused()


def _stop_all() -> None:
    """At exit: a thread that came back from the core into an interpreter that has gone would end the process badly."""
    threads = list(_running.items())
    for _, handoff in threads:
        handoff.close()
    _core.cancel_rendering()
    for thread, _ in threads:
        thread.join(_JOIN_TIMEOUT_S)
    if threading.active_count() > 1:  # daemons of others, which keep to the end what they hold
        _core.expect_leaks()


atexit.register(_stop_all)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_core.expect_leaks)
