"""Runs users' `Operation`s inside a pipeline."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import torch

from ffcv._forks import ForkSafeLock
from ffcv.pipeline.allocation_query import AllocationQuery
from ffcv.pipeline.compiler import Compiler
from ffcv.pipeline.operation import Operation
from ffcv.pipeline.state import State

_CPU = torch.device("cpu")
_MAKING = ForkSafeLock()


class StorageState(NamedTuple):
    """The bytes of a batch's samples, as numba can read them."""

    data: np.ndarray  # uint8 [bytes]
    pointers: np.ndarray  # uint64 [A], rising: where the allocations begin in the file
    starts: np.ndarray  # int64 [A]: where they begin in `data`
    sizes: np.ndarray  # int64 [A]


def memory_read(pointer: Any, storage_state: Any) -> Any:
    """uint8 [size]: the bytes of the allocation that begins at `pointer` of the file."""
    data, pointers, starts, sizes = storage_state
    row = np.searchsorted(pointers, np.uint64(pointer))
    if row == len(pointers) or pointers[row] != np.uint64(pointer):
        return data[:0]  # an empty value
    return data[starts[row] : starts[row] + sizes[row]]


class CustomStep:
    """An `Operation` after the decoder. Its memory and code follow the batch's shape and dtype.

    Args:
        operation: The user's.
        field: The field that its pipeline decodes.
    """

    def __init__(self, operation: Operation, field: Any) -> None:
        self.operation = operation
        self._accept: Callable[[], None] = lambda: operation.accept_field(field)
        self._accept()
        self._ready: tuple[State, _Runner] | None = None

    def __call__(self, batch: Any, key: Any) -> Any:
        state, ready = _state_of(batch), self._ready
        if ready is None or state != ready[0]:
            ready = self._ready = state, _made(self.operation, self._accept, state)
        return ready[1](batch, (), len(batch), key)

    def __repr__(self) -> str:
        return f"{type(self.operation).__name__}()"


class CustomDecoder:
    """An `Operation` that decodes.

    Args:
        operation: The user's.
        field: The field it decodes.
        column: The field's column of the metadata table, [N].
    """

    def __init__(self, operation: Operation, field: Any, column: np.ndarray) -> None:
        self.operation = operation
        self.column = column
        read = Compiler.compile(memory_read)

        def accept() -> None:
            operation.accept_field(field)
            operation.accept_globals(column, read)

        self._accept = accept
        self._accept()
        self._runner: _Runner | None = None

    def decode(self, key: Any, storage: StorageState) -> Any:
        """The decoded batch."""
        runner = self._runner
        if runner is None:
            runner = self._runner = _made(self.operation, self._accept, State(True, _CPU, None, np.dtype("u1")))
        indices = np.ascontiguousarray(key.samples, np.int64)
        return runner(indices, (self.column, tuple(storage)), len(indices), key)


def _made(operation: Operation, accept: Callable[[], None], state: State) -> _Runner:
    """The operation's code for batches of `state`, made with what its pipeline has told it.

    It is told again, because users give one operation to several pipelines and loaders, some of them in other threads.
    """
    with _MAKING:
        accept()
        return _Runner(operation, state)


class _Runner:
    """One operation with the memory it asked for and its code."""

    def __init__(self, operation: Operation, state: State) -> None:
        self.name = type(operation).__name__
        declared = operation.declare_state_and_memory(replace(state))
        if not isinstance(declared, tuple) or len(declared) != 2 or not isinstance(declared[0], State):
            raise TypeError(
                f"{self.name}.declare_state_and_memory must return (State, AllocationQuery or None), got {declared!r}"
            )
        self.after, self.query = declared
        code = operation.generate_code()
        if not callable(code):
            raise TypeError(f"{self.name}.generate_code must return a function, got {code!r}")
        self.with_indices = bool(getattr(code, "with_indices", False))
        self.with_counter = bool(getattr(code, "with_counter", False))
        compiled = state.jit_mode and self.after.jit_mode
        self.code: Callable[..., Any] = Compiler.guarded(code) if compiled else code

    def __call__(self, first: Any, more: tuple[Any, ...], batch: int, key: Any) -> Any:
        arguments = [first, _allocate(self.query, batch), *more]
        if self.with_indices:
            arguments.append(np.ascontiguousarray(key.samples, np.int64))
        if self.with_counter:
            arguments.append(key.counter)
        result = self.code(*arguments)
        if result is None:
            raise TypeError(f"the code of {self.name} returned None; it must return the batch")
        return result


def _allocate(query: AllocationQuery | Sequence[AllocationQuery] | None, batch: int) -> Any:
    """Memory of this batch's own: whoever holds the batch holds it."""
    if query is None:
        return None
    if not isinstance(query, AllocationQuery):
        return tuple(_allocate(each, batch) for each in query)
    shape = (batch, *query.shape)
    if isinstance(query.dtype, torch.dtype):
        return torch.empty(shape, dtype=query.dtype, device=query.device)
    if query.device is not None and torch.device(query.device).type != "cpu":
        return torch.empty(shape, dtype=torch.from_numpy(np.empty(0, query.dtype)).dtype, device=query.device)
    return np.empty(shape, np.dtype(query.dtype))


def _state_of(batch: Any) -> State:
    if isinstance(batch, torch.Tensor):
        return State(False, batch.device, tuple(batch.shape[1:]), batch.dtype)
    return State(True, _CPU, tuple(batch.shape[1:]), batch.dtype)
