"""Signals that ask a run to stop: SIGTERM (schedulers, `kill`) and SIGUSR2 (SLURM by way of submitit)."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable
from types import FrameType, TracebackType
from typing import Any, TypeVar

from ffcv.ssl.distributed import world_size

Result = TypeVar("Result")

STOP_SIGNALS = (signal.SIGTERM, signal.SIGUSR2)

EXIT_STATUS = 75
"""Of `ffcv train` when a signal stopped it: EX_TEMPFAIL of sysexits.h, 'try again later'."""


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

        With several processes it is finished: the others would wait for this one's share.
        """
        self._at_once = world_size() == 1
        try:
            return work() if self.received is None else None
        except _CutShortError:
            return None
        finally:
            self._at_once = False

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
