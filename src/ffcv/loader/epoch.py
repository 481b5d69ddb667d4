"""One pass over the data."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Iterator
from typing import Any

import numpy as np

from ffcv import _core
from ffcv.loader.handoff import Handoff
from ffcv.loader.slots import SlotPool
from ffcv.pipeline.plan import Plan
from ffcv.pipeline.views import BatchKey


class EpochIterator:
    """Iterates over the batches of one epoch; a thread of its own keeps `batches_ahead` of them ready.

    Dropping the iterator stops the thread.
    """

    def __init__(
        self,
        plan: Plan,
        renderer: _core.Renderer,
        slots: SlotPool,
        batches: list[np.ndarray],
        epoch: int,
        batches_ahead: int,
    ) -> None:
        handoff = Handoff(max(1, batches_ahead))

        def make() -> Iterator[Any]:
            for samples in batches:
                yield plan.render(BatchKey(samples, epoch), renderer, slots.allocate)

        self._handoff = handoff
        self._left = len(batches)
        thread = threading.Thread(target=handoff.produce, args=(make,), name="ffcv-loader", daemon=True)
        self._stop = weakref.finalize(self, handoff.close)
        thread.start()

    def __iter__(self) -> EpochIterator:
        return self

    def __next__(self) -> Any:
        batch = self._handoff.get()
        self._left -= 1
        return batch

    def __len__(self) -> int:
        return self._left

    def close(self) -> None:
        """Stops the thread and drops what is ready."""
        self._stop()
