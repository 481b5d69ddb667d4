"""Runs users' `Operation`s inside a pipeline."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import torch

from ffcv._forks import ForkSafeLock
from ffcv.pipeline.allocation_query import AllocationQuery
from ffcv.pipeline.compiler import Compiler
from ffcv.pipeline.native_calls import raising
from ffcv.pipeline.operation import Operation
from ffcv.pipeline.state import State

_CPU = torch.device("cpu")
_UNDECODED = State(True, _CPU, None, np.dtype("u1"))
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
        self._runners = _Runners(operation, lambda: operation.accept_field(field))

    def __call__(self, batch: Any, key: Any) -> Any:
        return self._runners.at(_state_of(batch), key)(batch, (), key)

    def __repr__(self) -> str:
        return f"{type(self.operation).__name__}()"


class CustomDecoder:
    """An `Operation` that decodes.

    Args:
        operation: The user's, or a decoder of ours that the user has given code of its own.
        field: The field it decodes.
        column: The field's column of the metadata table, [N].
    """

    def __init__(self, operation: Any, field: Any, column: np.ndarray) -> None:
        self.operation = operation
        self.column = column
        read = Compiler.compile(memory_read)

        def accept() -> None:
            operation.accept_field(field)
            operation.accept_globals(column, read)

        self._runners = _Runners(operation, accept, is_decoder=True)

    def decode(self, key: Any, storage: StorageState) -> Any:
        """The decoded batch."""
        indices = np.ascontiguousarray(key.samples, np.int64)
        return self._runners.at(_UNDECODED, key)(indices, (self.column, tuple(storage)), key)


class _Runners:
    """An operation's code for batches as they come.

    As in the original, the operation is asked for its memory in every epoch, since users change its attributes; for its
    code only where it answers otherwise than before. It is told of its pipeline each time, because users give one
    operation to several pipelines and loaders, some of them in other threads.

    Args:
        operation: The user's.
        accept: Tells it of its pipeline.
        is_decoder: Whether its code is given the metadata and the storage as well.
    """

    def __init__(self, operation: Operation, accept: Callable[[], None], is_decoder: bool = False) -> None:
        self._operation, self._accept, self._is_decoder = operation, accept, is_decoder
        self._made: tuple[State, int, _Runner] | None = None
        accept()

    def at(self, state: State, key: Any) -> _Runner:
        """For batches of `state` in the epoch of `key`."""
        made = self._made
        if made is None or made[:2] != (state, key.epoch):
            with _MAKING:
                self._accept()
                declared = self._operation.declare_state_and_memory(replace(state))
                known = made is not None and made[0] == state and made[2].declared == declared
                runner = made[2] if made and known else _Runner(self._operation, state, declared, self._is_decoder)
                made = self._made = state, key.epoch, runner
        return made[2]


class _Runner:
    """One operation with the memory it asked for and its code."""

    def __init__(self, operation: Operation, state: State, declared: Any, is_decoder: bool) -> None:
        self.name = type(operation).__name__
        if not isinstance(declared, tuple) or len(declared) != 2 or not isinstance(declared[0], State):
            raise TypeError(
                f"{self.name}.declare_state_and_memory must return (State, AllocationQuery or None), got {declared!r}"
            )
        self.declared = replace(declared[0]), declared[1]
        after, self.query = declared
        code = operation.generate_code()
        if not callable(code):
            raise TypeError(f"{self.name}.generate_code must return a function, got {code!r}")
        self.with_indices = bool(getattr(code, "with_indices", False))
        self.with_counter = bool(getattr(code, "with_counter", False))
        self._check_parameters(code, is_decoder)
        compiled = state.jit_mode and after.jit_mode
        self.code: Callable[..., Any] = Compiler.guarded(code) if compiled else code

    def _check_parameters(self, code: Any, is_decoder: bool) -> None:
        given = ["indices", "destination", "metadata", "storage_state"] if is_decoder else ["batch", "destination"]
        given += ["indices"] * self.with_indices + ["counter"] * self.with_counter
        try:
            taken = inspect.signature(getattr(code, "py_func", code))
        except (TypeError, ValueError):  # not to be known of some callables
            return
        try:
            taken.bind(*given)
        except TypeError:
            advice = "" if is_decoder else "; to decode with it, put it into PipelineSpec(field, decoder=...)"
            raise TypeError(
                f"the code of {self.name} is given ({', '.join(given)}), but takes {taken}{advice}"
            ) from None

    def __call__(self, first: Any, more: tuple[Any, ...], key: Any) -> Any:
        arguments = [first, _allocate(self.query, len(key.samples)), *more]
        if self.with_indices:
            arguments.append(np.ascontiguousarray(key.samples, np.int64))
        if self.with_counter:
            arguments.append(key.counter)
        with raising():
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
    """Of a tuple, which an operation of the user's may have returned, its first element's."""
    if isinstance(batch, tuple):
        return _state_of(batch[0])
    if isinstance(batch, torch.Tensor):
        return State(False, batch.device, tuple(batch.shape[1:]), batch.dtype)
    return State(True, _CPU, tuple(batch.shape[1:]), batch.dtype)
