"""A bounded queue between the thread that makes batches and the one that uses them."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any


class Closed(Exception):
    """The consumer has gone."""


class Handoff:
    """Items in order, at most `capacity` waiting; an exception of the producer reaches the consumer in its place.

    Args:
        capacity: How many items may wait.
    """

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._items: deque[Any] = deque()
        self._changed = threading.Condition()
        self._finished = False
        self._closed = False
        self._error: BaseException | None = None

    def put(self, item: Any) -> None:
        """Waits for room. Raises `Closed` when the consumer has gone."""
        with self._changed:
            self._changed.wait_for(lambda: self._closed or len(self._items) < self._capacity)
            if self._closed:
                raise Closed
            self._items.append(item)
            self._changed.notify_all()

    def get(self) -> Any:
        """Waits for an item. Raises StopIteration at the end, or the producer's exception."""
        with self._changed:
            self._changed.wait_for(lambda: self._closed or self._finished or self._items)
            if self._items:
                self._changed.notify_all()
                return self._items.popleft()
            if self._error is not None:
                error, self._error = self._error, None
                raise error
            raise StopIteration

    def close(self) -> None:
        """The consumer goes: waiting items are dropped, and the producer stops at its next `put`."""
        with self._changed:
            self._closed = True
            self._items.clear()
            self._changed.notify_all()

    def produce(self, make: Callable[[], Iterator[Any]]) -> None:
        """Puts every item of `make()`, then its end or its exception; the body of the producer's thread."""
        error: BaseException | None = None
        try:
            for item in make():
                self.put(item)
                del item  # so that a batch lives only as long as its user holds it
        except Closed:
            pass
        except BaseException as caught:  # whatever it is, it belongs to the consumer
            error = caught
        with self._changed:
            self._error, self._finished = error, True
            self._changed.notify_all()
