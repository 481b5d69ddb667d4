"""How an epoch's time divides into computing and waiting for data."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import NamedTuple, TypeVar

import torch

Batch = TypeVar("Batch")


class Split(NamedTuple):
    """Seconds of an epoch: all of them, and those in which the device had nothing to do because no batch was there."""

    seconds: float
    wait_s: float

    @property
    def data_stall(self) -> float:
        """Share of the time spent waiting for data, 0..1."""
        return self.wait_s / self.seconds if self.seconds else 0.0


class StallClock:
    """Times a loop over batches.

    On CPUs waiting is the time that the loop is blocked in the loader. A GPU works on while the loop runs ahead of
    it, so that there waiting is the idle time of its stream between the end of one step and the moment when the next
    batch lies in its memory, measured by events.
    """

    def __init__(self, device: torch.device) -> None:
        self._cuda = device.type == "cuda"
        self._open: deque[tuple[torch.cuda.Event, torch.cuda.Event]] = deque()
        self._began: float | None = None
        self._wait_s = 0.0

    def batches(self, loader: Iterable[Batch]) -> Iterator[Batch]:
        """The loader's batches; the clock starts with the first request."""
        self._began, self._wait_s = time.perf_counter(), 0.0
        iterator = iter(loader)
        while True:
            asked = time.perf_counter()
            idle = self._event()
            try:
                batch = next(iterator)
            except StopIteration:
                return
            busy = self._event()
            if idle is None or busy is None:
                self._wait_s += time.perf_counter() - asked
            else:
                self._open.append((idle, busy))
                self._settle()
            yield batch

    @contextmanager
    def stopped(self) -> Iterator[None]:
        """What is done here does not count."""
        asked = time.perf_counter()
        yield
        if self._began is not None:
            self._began += time.perf_counter() - asked

    def stop(self) -> Split:
        """The split since the first request, once everything asked of the device is done; nothing without a request."""
        if self._began is None:
            return Split(0.0, 0.0)
        if self._cuda:
            torch.cuda.synchronize()
            self._settle()
        split = Split(time.perf_counter() - self._began, self._wait_s)
        self._began = None
        return split

    def _event(self) -> torch.cuda.Event | None:
        if not self._cuda:
            return None
        event = torch.cuda.Event(enable_timing=True)
        event.record()
        return event

    def _settle(self) -> None:
        """Add up what the device has passed by now, without waiting for it."""
        while self._open and self._open[0][1].query():
            idle, busy = self._open.popleft()
            self._wait_s += idle.elapsed_time(busy) / 1000
