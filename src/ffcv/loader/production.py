"""Makes batches."""

from __future__ import annotations

import copy
import functools
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

import numpy as np

from ffcv import _core
from ffcv.loader.bad_samples import BadSamples
from ffcv.loader.cuda import Copies
from ffcv.loader.read_ahead import read_ahead, with_next
from ffcv.loader.selection import Selection, take
from ffcv.loader.slots import SlotPool
from ffcv.pipeline.plan import Plan, Prepared
from ffcv.pipeline.source import Source
from ffcv.pipeline.steps import BatchKey


class Made(NamedTuple):
    """A batch, and what is to be known of it."""

    batch: Any  # None where all its samples are left out
    copied: list[Any]  # events of its copies to GPUs
    nbytes: int  # of what the core rendered


Render = Callable[[np.ndarray], Any]
Policy = Callable[[np.ndarray, Render], Any]


def _render_all(samples: np.ndarray, render: Render) -> Any:
    return render(samples)


class Ahead:
    """Prepares one batch ahead: the next one, while the core's threads render the last."""

    def __init__(self, prepare: Callable[[BatchKey], Prepared]) -> None:
        self._prepare = prepare
        self._next: tuple[BatchKey, Prepared | Exception] | None = None

    def prepare(self, key: BatchKey) -> None:
        """An exception is kept until the batch is taken."""
        try:
            self._next = key, self._prepare(key)
        except Exception as error:
            self._next = key, error

    def take(self, key: BatchKey) -> Prepared:
        """What was prepared if it is for the same samples, else what is prepared now."""
        (ahead, ready), self._next = self._next or (None, None), None
        if ready is None or ahead is None or ahead.samples is not key.samples:
            return self._prepare(key)
        if isinstance(ready, Exception):
            try:
                raise ready
            finally:  # its traceback holds this frame
                del ready
        return ready


class Maker:
    """What batches are made with; one for each pass, so that nothing changes under it.

    Args:
        plan: Says what is done.
        renderer: Of this pass alone.
        slots: Memory.
        copies: To GPUs.
    """

    def __init__(self, plan: Plan, renderer: _core.Renderer, slots: SlotPool, copies: Copies | None) -> None:
        self.plan = plan
        self.renderer = renderer
        self.slots = slots
        self.copies = copies
        self._ahead = Ahead(plan.prepare)

    def make(
        self,
        key: BatchKey,
        policy: Policy = _render_all,
        source: Source | None = None,
        following: BatchKey | None = None,
    ) -> Made:
        """One batch.

        Args:
            key: Which.
            policy: `policy(samples, render)` says what becomes of samples that cannot be decoded.
            source: Has the batch's bytes; None for the file itself.
            following: The batch after it, to prepare meanwhile.
        """
        meanwhile = None if following is None else functools.partial(self._ahead.prepare, following)

        def work(held: list[np.ndarray]) -> Any:
            def allocate(shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
                held.append(self.slots.allocate(shape, dtype))
                return held[-1]

            def render(samples: np.ndarray) -> Any:
                if self.copies is None:
                    held.clear()  # of an attempt that failed
                prepared = self._ahead.take(BatchKey(samples, key.epoch, key.counter))
                batch = self.plan.render(prepared, self.renderer, allocate, source, meanwhile)
                sizes.append(sum(array.nbytes for array in held))
                return batch

            return policy(key.samples, render)

        sizes = [0]
        batch, copied = (work([]), []) if self.copies is None else self.copies.make(work)
        return Made(batch, copied, sizes[-1])


class Production:
    """Makes the batches of one pass, in a thread of its own.

    Args:
        maker: Makes each of them.
        bad_samples: What to do with samples that cannot be decoded.
        selection: Checks what the order gives.
        order: Of the epoch: anything that `take` understands.
        parts: This rank's batches: (positions in the order int64 [B], samples done after it, of all ranks).
        epoch: Its number.
        os_cache: Read samples as they are needed; else ahead.
        goes_on: Batches of the epoch were made before, so that it is no error if all of these are left out.
    """

    def __init__(
        self,
        maker: Maker,
        bad_samples: BadSamples,
        selection: Selection,
        order: Any,
        parts: Iterable[tuple[np.ndarray, int]],
        epoch: int,
        os_cache: bool,
        goes_on: bool,
    ) -> None:
        self._maker = maker
        self._bad_samples = bad_samples
        self._epoch = epoch
        self._goes_on = goes_on
        self._done: deque[int] = deque()
        source = maker.plan.source

        group_of = getattr(order, "group_of", None)

        def samples() -> Iterator[tuple[np.ndarray, int | None]]:
            for positions, done in parts:
                self._done.append(done)
                group = None if group_of is None else group_of(int(positions[0]))
                yield selection.checked(take(order, positions)), group

        fields = {view.field for view in maker.plan.views}
        self._candidates = functools.cache(lambda: selection.candidates(order))  # asked for where a sample is bad
        self._inputs: Any = (
            ((each, source, after and after[0]) for (each, _), after in with_next(samples()))
            if os_cache
            else read_ahead(source, samples(), fields)
        )

    def batches(self, wait_for_room: Callable[[int], None]) -> Iterator[tuple[Any, int, list[Any]]]:
        """Yields (batch or None, samples done after it, events of its copies).

        Args:
            wait_for_room: Waits until one more batch of about so many bytes may be made.
        """
        nbytes, number, kept = 0, 0, self._goes_on
        for samples, source, after in self._inputs:  # not enumerated, which would hold a source while the next is made
            wait_for_room(nbytes)
            key = BatchKey(samples, self._epoch, number)
            following = None if after is None else BatchKey(after, self._epoch, number + 1)
            batch, copied, nbytes = self._maker.make(key, self._treat, source, following)
            del source  # before the next one takes memory
            number, kept = number + 1, kept or batch is not None
            yield batch, self._done.popleft(), copied
            del batch  # only its user holds it now
        if number and not kept and self._bad_samples.error is not None:
            raise copy.copy(self._bad_samples.error)  # which is kept without a traceback

    def _treat(self, samples: np.ndarray, render: Render) -> Any:
        return self._bad_samples.render(samples, render, self._candidates)

    def cancel(self) -> None:
        """From any thread: the batch in the making, and every one after it, ends with RuntimeError."""
        self._maker.renderer.cancel()

    def close(self) -> None:
        """Waits for what is under way: copies to GPUs, reads."""
        try:
            if self._maker.copies is not None:
                self._maker.copies.drain()
        finally:
            self._inputs.close()
