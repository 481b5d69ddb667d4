"""What users read, set and call on a loader beside iterating over it."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ffcv import Loader, OrderOption
from ffcv.fields.decoders import IntDecoder
from ffcv.loader.loader import DEFAULT_OS_CACHE, ORDER_TYPE
from ffcv.pipeline import Compiler, PipelineSpec
from ffcv.pipeline.operation import Operation
from ffcv.traversal_order import TraversalOrder
from small_files import NUMBERS_ONLY, batches_of, flat, loader_of

COUNT = 30


def test_the_next_order_is_that_of_the_next_epoch(numbers: Path) -> None:
    loader = loader_of(numbers)
    first = loader.next_traversal_order()
    assert first.dtype == np.int64
    for _ in range(3):
        expected = loader.next_traversal_order().tolist()
        assert flat(batches_of(loader)) == expected
    assert loader.first_traversal_order.tolist() == first.tolist()
    assert len(loader_of(numbers, drop_last=True).next_traversal_order()) == COUNT  # as the original's


@pytest.mark.filterwarnings("ignore:the last global batch has")
def test_the_next_order_is_the_ranks_own(numbers: Path) -> None:
    ranks = [loader_of(numbers, rank=rank, world_size=4) for rank in range(4)]
    parts = [loader.next_traversal_order().tolist() for loader in ranks]
    assert parts == [flat(batches_of(loader)) for loader in ranks]
    assert sorted(flat(parts)) == list(range(COUNT))


def test_indices_may_be_set(numbers: Path) -> None:
    loader = loader_of(numbers)
    for chosen in ([3, 5, 8, 13, 21], np.arange(2, 9, dtype=np.uint64)):
        loader.indices = chosen
        loader.traversal_order.indices = chosen
        assert loader.indices.tolist() == list(chosen)
        assert len(loader) == -(-len(chosen) // 4)
        assert sorted(flat(batches_of(loader))) == list(chosen)
        assert loader.filter("index", lambda value: value[0] > 5).indices.tolist() == [i for i in chosen if i > 5]
    loader.traversal_order.indices = [1]
    assert flat(batches_of(loader)) == [1]
    with pytest.raises(ValueError, match=r"indices must be within 0\.\.29"):
        loader.indices = [30]


def test_epochs_may_be_set(numbers: Path) -> None:
    loader = loader_of(numbers)
    epochs = [flat(batches_of(loader)) for _ in range(3)]
    loader.next_epoch = 1
    assert flat(batches_of(loader)) == epochs[1]
    loader.next_epoch += -2
    assert flat(batches_of(loader)) == epochs[0]


class Backwards(TraversalOrder):
    def __init__(self, loader: Loader, skipped: int = 0) -> None:
        super().__init__(loader)
        self.skipped = skipped

    def sample_order(self, epoch: int) -> np.ndarray:
        return self.indices[::-1][self.skipped + epoch :]


class OwnOrder(Loader):
    """A loader whose order is made after it."""

    def __init__(self, skipped: int, path: Any, order: ORDER_TYPE, os_cache: Any = DEFAULT_OS_CACHE) -> None:
        super().__init__(path, 4, order=order, os_cache=os_cache, drop_last=False, pipelines=NUMBERS_ONLY)
        self.traversal_order = Backwards(self, skipped)
        self.generate_code()
        self.first_traversal_order = self.next_traversal_order()


def test_the_order_may_be_replaced(numbers: Path) -> None:
    loader = OwnOrder(5, numbers, OrderOption.SEQUENTIAL)
    assert loader.os_cache
    for epoch in range(2):
        assert len(loader) == -(-(25 - epoch) // 4)
        assert flat(batches_of(loader)) == list(range(24 - epoch, -1, -1))
    assert loader.first_traversal_order.tolist() == list(range(24, -1, -1))
    loader.traversal_order = Backwards(loader, 20)
    assert len(loader) == 2


def test_a_loader_made_of_anothers_arguments(numbers: Path) -> None:
    loader = loader_of(numbers, indices=range(10))
    other = Loader(**{**loader._args, "order": OrderOption.SEQUENTIAL, "pipelines": NUMBERS_ONLY})
    assert flat(batches_of(other)) == list(range(10))
    assert Loader(numbers, 4)._args["pipelines"] == {}


class Plus(Operation):
    def __init__(self, number: int) -> None:
        self.number = number

    def declare_state_and_memory(self, previous_state: Any) -> Any:
        return previous_state, None

    def generate_code(self) -> Any:
        number = self.number
        return lambda batch, _: batch + number


def test_pipelines_may_be_changed(numbers: Path, compiled: bool) -> None:
    operation = Plus(1)
    index = PipelineSpec("index", decoder=IntDecoder(), transforms=[operation])
    loader = Loader(numbers, 2, pipelines=NUMBERS_ONLY | {"index": index})
    specs = loader.pipeline_specs
    assert list(specs) == ["index"]
    assert (specs["index"].source, specs["index"].decoder) == ("index", index.decoder)
    assert Loader(numbers, 2).pipeline_specs["index"].decoder is not None  # the default
    code = loader.code
    for number, expected in ((1, 1), (2, 1)):  # the code has kept what the number was ...
        operation.number = number
        assert next(iter(loader)).index.flatten().tolist() == [expected, expected + 1]
    loader.generate_code()  # ... until it is made anew
    assert loader.code is not code
    assert next(iter(loader)).index.flatten().tolist() == [2, 3]
    specs["index"].transforms = [operation, operation]
    loader.generate_code()
    assert next(iter(loader)).index.flatten().tolist() == [4, 5]
    assert index.transforms == [operation]
    assert Compiler.is_enabled == compiled
