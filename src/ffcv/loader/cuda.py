"""Copies to a GPU beside its computing."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch

_COPIES_UNDER_WAY = 2


class SideStream:
    """Runs what follows rendering on a stream of its own, and keeps page-locked memory until its copy has ended.

    Args:
        device: The CUDA device.
    """

    def __init__(self, device: torch.device) -> None:
        self._stream = torch.cuda.Stream(device)
        self._pending: deque[tuple[torch.cuda.Event, list[np.ndarray]]] = deque()

    @contextmanager
    def batch(self) -> Iterator[list[np.ndarray]]:
        """Around the making of one batch. Arrays put into the list are kept until the copies have ended."""
        while self._pending and (len(self._pending) >= _COPIES_UNDER_WAY or self._pending[0][0].query()):
            self._pending[0][0].synchronize()
            self._pending.popleft()
        held: list[np.ndarray] = []
        with torch.cuda.stream(self._stream):
            yield held

    def copied(self, held: list[np.ndarray]) -> torch.cuda.Event:
        """The event after which the batch is on the device; until then `held` stays as it is."""
        event = torch.cuda.Event()
        event.record(self._stream)
        self._pending.append((event, held.copy()))
        return event

    def drain(self) -> None:
        """Waits for all copies."""
        while self._pending:
            self._pending.popleft()[0].synchronize()


def hand_over(batch: Any, copied: torch.cuda.Event) -> None:
    """Makes the caller's stream wait for the copies, and tells the allocator that it uses them."""
    for element in batch:
        if isinstance(element, torch.Tensor) and element.is_cuda:
            stream = torch.cuda.current_stream(element.device)
            stream.wait_event(copied)
            element.record_stream(stream)
