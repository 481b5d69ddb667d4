"""A bounded queue between the thread that makes batches and the one that uses them."""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any


class Closed(Exception):
    """The consumer has gone."""


class Handoff:
    """Items in order; an exception of the producer reaches the consumer in its place, with its traceback.

    The producer asks for room before it makes an item, so that items waiting and in the making are bounded together: by
    `capacity`, and by `max_bytes` as far as one may be under way at all.

    Args:
        capacity: How many items may wait or be in the making, at least 1.
        max_bytes: How much memory they may take together.
    """

    def __init__(self, capacity: int, max_bytes: int) -> None:
        self._capacity = capacity
        self._max_bytes = max_bytes
        self._items: deque[Any] = deque()
        self._changed = threading.Condition()
        self._finished = False
        self._closed = False
        self._error: BaseException | None = None
        self._interrupt: Callable[[], None] | None = None
        self._owner = os.getpid()

    def wait_for_room(self, item_bytes: int) -> None:
        """Waits until one more item of about `item_bytes` may be made. Raises `Closed` when the consumer has gone."""
        most = max(1, min(self._capacity, self._max_bytes // max(1, item_bytes)))
        with self._changed:
            self._changed.wait_for(lambda: self._closed or len(self._items) < most)
            if self._closed:
                raise Closed

    def put(self, item: Any) -> None:
        """Raises `Closed` when the consumer has gone."""
        with self._changed:
            if self._closed:
                raise Closed
            self._items.append(item)
            self._changed.notify_all()

    def get(self) -> Any:
        """Waits for an item. Raises StopIteration at the end, or the producer's exception."""
        if os.getpid() != self._owner:  # the lock may be held for ever by a thread that is not here
            raise RuntimeError(
                "this process was forked while the loader was being iterated, and the thread that makes batches stayed "
                "behind; call iter(loader) again in this process"
            )
        with self._changed:
            self._changed.wait_for(lambda: self._closed or self._finished or self._items)
            if self._items:
                self._changed.notify_all()
                return self._items.popleft()
            if self._error is not None:
                try:
                    raise self._error  # no variable, which its traceback would hold, and so itself
                finally:
                    self._error = None
            raise StopIteration

    def close(self) -> None:
        """The consumer goes: waiting items are dropped, and the producer is interrupted or stops before its next."""
        if os.getpid() != self._owner:
            return
        with self._changed:
            self._closed = True
            self._items.clear()
            self._changed.notify_all()
            interrupt, self._interrupt = self._interrupt, None
        if interrupt is not None:
            interrupt()

    def produce(
        self,
        make: Callable[[], Iterator[Any]],
        close: Callable[[], None] | None = None,
        interrupt: Callable[[], None] | None = None,
    ) -> None:
        """Puts every item of `make()`, then its end or its exception; the body of the producer's thread.

        Args:
            make: Begins the items.
            close: Ends what they came from. It may have to wait, so that an exception of the items is handed on before.
            interrupt: Called by the consumer's thread when it goes: the item in the making may end with an exception.
        """
        with self._changed:
            self._interrupt = interrupt
        try:
            for item in make():
                self.put(item)
                del item  # so that a batch lives only as long as its user holds it
        except Closed:
            pass
        except BaseException as error:  # whatever it is, it belongs to the consumer
            self._finish(error)
        try:
            if close is not None:
                close()
        except BaseException as error:
            self._finish(error)
        self._finish(None)

    def _finish(self, error: BaseException | None) -> None:
        """There will be no further items; only the first call counts. After the consumer has gone, an error, such as
        that of an interruption, is nobody's."""
        with self._changed:
            self._interrupt = None
            if not self._finished:
                self._error, self._finished = None if self._closed else error, True
            self._changed.notify_all()
