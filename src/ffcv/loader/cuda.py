"""Copies to GPUs beside their computing."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack
from typing import Any, TypeVar

import numpy as np
import torch

_COPIES_UNDER_WAY = 2
_T = TypeVar("_T")


class SideStreams:
    """The streams on which a loader's batches reach their devices.

    Made once for each process and device: torch keeps freed memory by stream, so that new ones would take more of it.

    Args:
        devices: The CUDA devices of the loader's pipelines; 'cuda' without a number is the current one of whoever
            iterates.
    """

    def __init__(self, devices: Collection[torch.device]) -> None:
        self._devices = tuple(devices)
        self._streams: dict[tuple[int, int], torch.cuda.Stream] = {}

    def __bool__(self) -> bool:
        return bool(self._devices)

    def begin(self) -> Copies | None:
        """Copies of one pass; called in its user's thread, because the current device and stream belong to a thread.

        What that thread has begun on the devices, such as writing the weights of a pipeline's modules, is done first.
        """
        if not self._devices:
            return None
        current = torch.cuda.current_device()
        indices = {current if device.index is None else device.index for device in self._devices}
        streams = [self._stream(index) for index in sorted(indices)]
        for stream in streams:
            stream.wait_stream(torch.cuda.current_stream(stream.device))
        return Copies(streams, current)

    def _stream(self, index: int) -> torch.cuda.Stream:
        key = os.getpid(), index
        if key not in self._streams:
            self._streams[key] = torch.cuda.Stream(index)
        return self._streams[key]


class Copies:
    """Makes batches on side streams, and keeps page-locked memory until the copies from it have ended.

    Args:
        streams: One a device.
        current: The device that is current meanwhile.
    """

    def __init__(self, streams: Sequence[torch.cuda.Stream], current: int) -> None:
        self._streams = streams
        self._current = current
        self._pending: deque[tuple[list[Any], list[np.ndarray]]] = deque()

    def make(self, render: Callable[[list[np.ndarray]], _T]) -> tuple[_T, list[Any]]:
        """What `render` returns, and the events after which it is on the devices.

        Arrays that `render` puts into the list it is given stay as they are until then, also where it fails.
        """
        while self._pending and (len(self._pending) >= _COPIES_UNDER_WAY or _have_ended(self._pending[0][0])):
            self._let_go()
        held: list[np.ndarray] = []
        try:
            with ExitStack() as stack:
                for stream in self._streams:
                    stack.enter_context(torch.cuda.stream(stream))
                stack.enter_context(torch.cuda.device(self._current))
                result = render(held)
        finally:
            copied: list[Any] = [stream.record_event() for stream in self._streams]
            self._pending.append((copied, held))
        return result, copied

    def drain(self) -> None:
        """Waits for all copies."""
        while self._pending:
            self._let_go()

    def _let_go(self) -> None:
        for event in self._pending[0][0]:
            event.synchronize()
        self._pending.popleft()


def hand_over(batch: Any, copied: Sequence[Any]) -> None:
    """Makes the caller's streams wait for the copies, and tells the allocator that they use the batch's tensors."""
    waiting: set[int] = set()
    for tensor in tensors_in(batch):
        if tensor.is_cuda:
            stream = torch.cuda.current_stream(tensor.device)
            if tensor.device.index not in waiting:
                waiting.add(tensor.device.index)
                for event in copied:
                    stream.wait_event(event)
            tensor.record_stream(stream)


def tensors_in(value: Any) -> Iterator[torch.Tensor]:
    """All tensors of a batch, also those in the tuples, lists and dictionaries that users' operations return."""
    if isinstance(value, torch.Tensor):
        yield value
    elif isinstance(value, Mapping):
        for each in value.values():
            yield from tensors_in(each)
    elif isinstance(value, tuple | list):
        for each in value:
            yield from tensors_in(each)


def _have_ended(events: Sequence[Any]) -> bool:
    return all(event.query() for event in events)
