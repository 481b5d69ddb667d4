"""Signals that ask a run to stop: SIGTERM (schedulers, `kill`) and SIGUSR2 (SLURM by way of submitit)."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from itertools import islice
from types import FrameType, TracebackType
from typing import Any, Protocol, TypeVar

from ffcv.ssl.distributed import from_all_ranks, world_size

Result = TypeVar("Result")
Item = TypeVar("Item")
Item_co = TypeVar("Item_co", covariant=True)

STOP_SIGNALS = (signal.SIGTERM, signal.SIGUSR2)

EXIT_STATUS = 75
"""Of `ffcv train` when a signal stopped it: EX_TEMPFAIL of sysexits.h, 'try again later'."""


LOOK_EVERY = 8
"""Batches after which several processes ask each other for signals."""


class Batches(Protocol[Item_co]):
    """As many items as it says."""

    def __len__(self) -> int: ...

    def __iter__(self) -> Iterator[Item_co]: ...


class StopSignals:
    """While entered, notes stop signals instead of dying by them; puts the former handlers back at the end.

    Outside of the main thread, where Python allows no handlers, it does nothing.

    Attributes:
        received: the first stop signal that came, None until then.
    """

    def __init__(self) -> None:
        self.received: int | None = None
        self._former: dict[int, Any] = {}
        self._at_once = False

    def unless_stopped(self, work: Callable[[], Result]) -> Result | None:
        """`work()`, left as soon as a signal comes, and None then: for what is not worth the grace period.

        Several processes leave it together, where `work` goes through batches that are `watched`: nobody waits for the
        share of one who left.
        """
        self._at_once = world_size() == 1
        try:
            return work() if self.received is None else None
        except _CutShortError:
            return None
        finally:
            self._at_once = False

    def watched(self, batches: Batches[Item]) -> Iterator[Item]:
        """`batches`, for the work of `unless_stopped`: all processes go through theirs, of which they may have
        different numbers, and leave after the same one."""
        own = iter(batches)
        for number in range(max(from_all_ranks(len(batches)))):
            if number % LOOK_EVERY == 0 and any(from_all_ranks(self.received is not None)):
                raise _CutShortError
            yield from islice(own, 1)

    def _note(self, signum: int, frame: FrameType | None) -> None:
        if self.received is None:
            self.received = signum
        if self._at_once:
            self._at_once = False
            raise _CutShortError

    def __enter__(self) -> StopSignals:
        if threading.current_thread() is threading.main_thread():
            self._former = {number: signal.signal(number, self._note) for number in STOP_SIGNALS}
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._former.items():
            signal.signal(number, handler)


class _CutShortError(BaseException):
    """Not an Exception, so that no `except Exception` on its way takes it for a failure."""
