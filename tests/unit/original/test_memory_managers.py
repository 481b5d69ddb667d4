"""`ffcv.memory_managers`: the bytes of a file, read by hand."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ffcv.errors import FormatError
from ffcv.memory_managers import MemoryManager, OSCacheManager, ProcessCacheManager
from ffcv.pipeline.allocation_query import AllocationQuery
from ffcv.pipeline.compiler import Compiler
from ffcv.pipeline.custom import StorageState
from ffcv.pipeline.operation import Operation
from ffcv.pipeline.state import State
from ffcv.reader import Reader
from small_files import content, write_many

COUNT = 60
MANAGERS = [OSCacheManager, ProcessCacheManager]
BATCHES = [np.arange(0, 30), np.arange(30, 60)]
HAS_BYTES = [i for i in range(COUNT) if i % 5]


def begun(manager: MemoryManager, samples: np.ndarray | list[int]) -> StorageState:
    """With the bytes of `samples`."""
    with manager.schedule_epoch([samples]) as context:
        context.start_batch(0)
        return context.state


@pytest.fixture(params=MANAGERS)
def manager(request: pytest.FixtureRequest, numbers: Path) -> MemoryManager:
    return request.param(Reader(numbers))


def test_each_value_is_read_by_its_pointer(manager: MemoryManager, compiled: bool) -> None:
    column = manager.reader.metadata["bytes"]
    read = manager.compile_reader()
    with manager.schedule_epoch(BATCHES) as context:
        for number, samples in enumerate(BATCHES):
            context.start_batch(number)
            for i in samples.tolist():
                if i % 5:
                    found = read(column["ptr"][i], context.state)
                    assert found.dtype == np.uint8
                    assert found.tolist() == content(i).tolist()


def test_an_address_where_nothing_begins(manager: MemoryManager, compiled: bool) -> None:
    read, state = manager.compile_reader(), begun(manager, list(range(COUNT)))
    pointer = int(manager.reader.metadata["bytes"]["ptr"][4])
    for address in (0, pointer + 1, manager.reader.bytes.size, 1 << 62):
        with pytest.raises(IndexError, match=f"no bytes begin at address {address}: "):
            read(np.uint64(address), state)


class Sum(Operation):
    """Adds up the bytes of each value, in code that calls `memory_read`."""

    def declare_state_and_memory(self, previous_state: State) -> tuple[State, AllocationQuery]:
        return previous_state, AllocationQuery((), np.dtype(np.int64))

    def generate_code(self) -> Callable[..., Any]:
        read = self.memory_read

        def add(batch_indices: Any, destination: Any, metadata: Any, storage_state: Any) -> Any:
            for i in range(len(batch_indices)):
                destination[i] = read(metadata[batch_indices[i]]["ptr"], storage_state).sum()
            return destination

        return add


def test_code_that_numba_compiles_reads_too(manager: MemoryManager, compiled: bool) -> None:
    column, decoder = manager.reader.metadata["bytes"], Sum()
    decoder.accept_globals(column, manager.compile_reader())
    code = Compiler.compile(decoder.generate_code())
    assert hasattr(code, "py_func") == compiled
    state = begun(manager, HAS_BYTES)
    sums = code(np.array(HAS_BYTES), np.zeros(len(HAS_BYTES), np.int64), column, state)
    assert sums.tolist() == [int(content(i).sum()) for i in HAS_BYTES]


def test_a_file_without_allocations_is_read_as_one(tmp_path: Path) -> None:
    manager = OSCacheManager(Reader(write_many(tmp_path / "many.beton", 5)))
    with manager.schedule_epoch([]) as context, pytest.raises(IndexError, match="no bytes begin"):
        manager.compile_reader()(np.uint64(0), context.state)


def test_the_mapped_file_stays_after_its_context(numbers: Path) -> None:
    manager = OSCacheManager(Reader(numbers))
    context = manager.schedule_epoch(np.array([0, 1]))
    with pytest.raises(RuntimeError, match="enter the context"):
        _ = context.state
    with context:
        state = context.state
    assert context.state is state


def test_a_file_that_changed_is_not_mapped(numbers: Path, tmp_path: Path) -> None:
    path = tmp_path / "numbers.beton"
    path.write_bytes(numbers.read_bytes())
    managers = [kind(Reader(path)) for kind in MANAGERS]
    path.write_bytes(numbers.read_bytes()[:-1])
    for manager in managers:
        with pytest.raises(FormatError, match="chang"), manager.schedule_epoch([[0, 1]]) as context:
            context.start_batch(0)


def test_damaged_bytes_are_noticed_by_the_cache_of_ones_own(numbers: Path, tmp_path: Path) -> None:
    damaged = bytearray(numbers.read_bytes())
    damaged[int(Reader(numbers).metadata["bytes"]["ptr"][4])] ^= 1
    path = tmp_path / "numbers.beton"
    path.write_bytes(damaged)
    with ProcessCacheManager(Reader(path)).schedule_epoch([[1], [4]]) as context:
        context.start_batch(0)
        with pytest.raises(FormatError, match="checksum mismatch"):
            context.start_batch(1)


def test_only_the_batch_that_was_started_can_be_read(numbers: Path) -> None:
    manager = ProcessCacheManager(Reader(numbers))
    read, pointers = manager.compile_reader(), manager.reader.metadata["bytes"]["ptr"]
    with manager.schedule_epoch([[1], [2]]) as context:
        with pytest.raises(RuntimeError, match=r"call start_batch\(0\)"):
            _ = context.state
        context.start_batch(0)
        first = context.state
        with pytest.raises(IndexError, match="of the batch that was started"):
            read(pointers[2], first)
        context.start_batch(1)
        assert read(pointers[2], context.state).tolist() == [2, 2]
        assert read(pointers[1], first).tolist() == [1]
        with pytest.raises(IndexError, match="batch 2 of an epoch of 2 batches"):
            context.start_batch(2)
    with pytest.raises(RuntimeError, match="start_batch"):
        _ = context.state


@pytest.mark.parametrize(
    ("batches", "error", "message"),
    [
        ([[0, 60]], IndexError, "sample 60 of a file of 60"),
        ([[-1]], IndexError, "sample -1 of a file of 60"),
        ([[0.5]], TypeError, "sequences of sample indices"),
        ([0, 1], TypeError, "sequences of sample indices"),
    ],
)
def test_batches_that_are_none(numbers: Path, batches: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        ProcessCacheManager(Reader(numbers)).schedule_epoch(batches)


@pytest.mark.parametrize("kind", MANAGERS)
def test_a_path_is_no_reader(kind: type[MemoryManager]) -> None:
    with pytest.raises(TypeError, match=rf"{kind.__name__}\(ffcv.reader.Reader\(path\)\), got str"):
        kind("photos.beton")  # pyright: ignore
