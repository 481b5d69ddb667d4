"""What users read, set and call on a loader beside iterating over it."""

import pickle
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ffcv import Loader, OrderOption
from ffcv.cores import available_cores
from ffcv.fields.decoders import IntDecoder
from ffcv.loader.loader import DEFAULT_OS_CACHE, ORDER_TYPE
from ffcv.pipeline import Compiler, PipelineSpec
from ffcv.pipeline.allocation_query import AllocationQuery
from ffcv.pipeline.operation import Operation
from ffcv.traversal_order import Random, TraversalOrder
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


@pytest.mark.parametrize("order", [OrderOption.RANDOM, OrderOption.QUASI_RANDOM, OrderOption.SEQUENTIAL_CONTIGUOUS])
def test_indices_may_be_set(numbers: Path, order: OrderOption) -> None:
    loader = loader_of(numbers, order=order)
    assert sorted(flat(batches_of(loader))) == list(range(COUNT))
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


def test_too_few_indices_for_a_batch_are_refused(numbers: Path) -> None:
    loader = loader_of(numbers, drop_last=True)
    with pytest.raises(ValueError, match="batch_size 4 is more than the 3 samples"):
        loader.indices = [7, 8, 9]
    assert loader.indices.tolist() == list(range(COUNT))
    assert len(batches_of(loader)) == len(loader) == COUNT // 4


def test_the_number_of_threads_may_change_between_epochs(numbers: Path) -> None:
    loader, other = loader_of(numbers, num_workers=1), loader_of(numbers, num_workers=1)
    for threads in (3, 1, -1):
        loader.num_workers = threads
        assert loader.num_workers == (available_cores() if threads < 1 else threads)
        assert loader._maker().renderer.num_threads == loader.num_workers
        assert batches_of(loader) == batches_of(other)
        assert pickle.loads(pickle.dumps(loader)).num_workers == loader.num_workers
    with pytest.raises(TypeError, match="num_workers"):
        loader.num_workers = 1.5  # pyright: ignore[reportAttributeAccessIssue]


@pytest.mark.parametrize("order", [OrderOption.RANDOM, OrderOption.QUASI_RANDOM, OrderOption.SEQUENTIAL_CONTIGUOUS])
def test_batch_sizes_may_change_between_epochs(numbers: Path, order: OrderOption) -> None:
    loader = loader_of(numbers, order=order)
    batches_of(loader)
    loader.batch_size = 7
    assert (loader.batch_size, len(loader)) == (7, 5)
    seven = loader_of(numbers, 7, order=order)
    seven.set_epoch(1)
    assert batches_of(loader) == batches_of(seven)
    loader.drop_last = True
    assert [len(batch) for batch in batches_of(loader)] == [7] * len(loader) == [7] * 4
    others = loader.filter("index", lambda value: True), pickle.loads(pickle.dumps(loader))
    assert [(other.batch_size, other.drop_last) for other in others] == [(7, True)] * 2
    with pytest.raises(ValueError, match="batch_size must be at least 1, got 0"):
        loader.batch_size = 0
    with pytest.raises(ValueError, match="batch_size 31 is more than the 30 samples"):
        loader.batch_size = 31
    assert loader.batch_size == 7


def test_an_epoch_that_was_begun_with_another_batch_size_goes_on(numbers: Path) -> None:
    order = OrderOption.SEQUENTIAL_CONTIGUOUS
    two = [loader_of(numbers, order=order, rank=rank, world_size=2) for rank in range(2)]
    left = [batches_of(loader)[1:] for loader in two]
    two[0].set_epoch(0)
    iterator = iter(two[0])
    next(iterator)
    two[0].batch_size = 3
    state = two[0].state_dict()
    for loader in two:
        loader.batch_size = 4
        loader.load_state_dict(state)
    assert [batches_of(loader) for loader in two] == left


def test_looking_at_an_order_changes_nothing(numbers: Path) -> None:
    order = OrderOption.SEQUENTIAL_CONTIGUOUS
    looked, other = (loader_of(numbers, order=order, rank=1, world_size=2) for _ in range(2))
    looked.next_traversal_order()
    iter(looked).close()  # is no epoch
    for loader in (looked, other):
        loader.batch_size = 7
    assert batches_of(looked) == batches_of(other)

    four = loader_of(numbers, order=order, rank=0, world_size=4)
    iterator = iter(four)
    next(iterator)
    for loader in (looked, other):
        loader.load_state_dict(four.state_dict())
    assert len(looked.first_traversal_order)
    looked.next_traversal_order()
    assert batches_of(looked) == batches_of(other)


def test_a_derived_class_may_assign_before_ours_begins(numbers: Path) -> None:
    class Early(Loader):
        def __init__(self, path: Path, batch_size: int, **options: Any) -> None:
            self.batch_size, self.drop_last, self.num_workers = batch_size, True, 2
            super().__init__(path, batch_size, **options)

    loader = Early(numbers, 4, pipelines=NUMBERS_ONLY, drop_last=False)
    assert (loader.batch_size, loader.drop_last) == (4, False)


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


def test_a_loader_whose_order_was_replaced_cannot_be_pickled(numbers: Path) -> None:
    loader = loader_of(numbers)
    loader.traversal_order = Backwards(loader)
    with pytest.raises(
        TypeError, match=r"traversal_order was replaced \(Backwards\) cannot be pickled: pass the order"
    ):
        pickle.dumps(loader)


class FromTheEnd(Loader):
    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.traversal_order = Backwards(self)


def test_a_class_whose_loaders_replace_their_order_can_be_pickled(numbers: Path) -> None:
    loader = FromTheEnd(numbers, 4, pipelines=NUMBERS_ONLY)
    assert batches_of(pickle.loads(pickle.dumps(loader))) == batches_of(loader)


def test_a_replaced_order_stays_when_the_seed_is_another(numbers: Path) -> None:
    first, second = (loader_of(numbers, order=OrderOption.SEQUENTIAL, seed=None) for _ in range(2))
    for loader in (first, second):
        loader.traversal_order = Random(loader)
    second.load_state_dict(first.state_dict())
    assert batches_of(second) == batches_of(first) != batches_of(loader_of(numbers, order=OrderOption.SEQUENTIAL))


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


class Negative(Operation):
    """A decoder."""

    def declare_state_and_memory(self, previous_state: Any) -> Any:
        state = replace(previous_state, shape=(1,), dtype=np.dtype(np.int64))
        return state, AllocationQuery((1,), state.dtype)

    def generate_code(self) -> Any:
        def decode(indices: Any, destination: Any, metadata: Any, storage_state: Any) -> Any:
            destination[:, 0] = -metadata[indices]
            return destination

        return decode


def test_a_decoder_may_be_replaced_by_ones_own(numbers: Path) -> None:
    loader = Loader(numbers, 2, pipelines=NUMBERS_ONLY)
    loader.pipeline_specs["index"].decoder = Negative()
    loader.generate_code()
    assert next(iter(loader)).index.flatten().tolist() == [0, -1]
