"""Orders: permutations, samplers, orders of one's own, pages; checked on sample indices alone."""

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.data import DistributedSampler, WeightedRandomSampler

from ffcv import Loader, OrderOption
from ffcv.fields import IntField
from ffcv.random import permute
from ffcv.traversal_order import LazyOrder, QuasiRandom, TraversalOrder
from ffcv.traversal_order.quasi_random import Pages
from small_files import batches_of, flat, loader_of, write_many, write_numbers

COUNT = 103

pytestmark = pytest.mark.filterwarnings("ignore:the last global batch has")  # of fewer samples than ranks: its own test


@pytest.mark.parametrize("size", [1, 2, 3, 5, 128, 129, 1000])
def test_permute_is_a_permutation(size: int) -> None:
    everything = np.arange(size)
    first, second = (permute(7, 3, epoch, size, everything) for epoch in (0, 1))
    assert sorted(first) == sorted(second) == list(range(size))
    assert size < 5 or (first != second).any()


def test_permute_is_even() -> None:
    """Chi-square of (position, value) counts: 36 degrees of freedom, 99.99 % below 78."""
    size, draws = 7, 20000
    counts = np.zeros((size, size))
    for seed in range(draws):
        counts[np.arange(size), permute(seed, 0, 0, size, np.arange(size))] += 1
    expected = draws / size
    assert ((counts - expected) ** 2 / expected).sum() < 78


def test_permute_reaches_a_billion_without_memory() -> None:
    positions = np.array([0, 1, 999_999_999])
    assert len(set(permute(1, 2, 3, 10**9, positions).tolist())) == 3
    with pytest.raises(IndexError, match="outside the order"):
        permute(1, 2, 3, 10, np.array([10]))


def test_a_lazy_order_is_a_sequence() -> None:
    order = LazyOrder(10, lambda positions: positions * 3)
    assert (len(order), order[2], order[-1], list(order)[:3]) == (10, 6, 27, [0, 3, 6])
    assert np.asarray(order).tolist() == order[:].tolist() == [3 * i for i in range(10)]
    with pytest.raises(IndexError):
        order[10]


def test_samplers_and_shuffle(numbers: Path) -> None:
    weights = torch.zeros(COUNT, dtype=torch.double)
    weights[10:20] = 1
    sampler = WeightedRandomSampler(weights.tolist(), 64)
    first, second = (loader_of(numbers, order=None, sampler=sampler) for _ in range(2))
    epochs = [flat(batches_of(first)) for _ in range(2)]
    assert epochs == [flat(batches_of(second)) for _ in range(2)]
    assert epochs[0] != epochs[1]
    assert set(epochs[0]) <= set(range(10, 20))
    assert len(first) == 16
    before = torch.random.get_rng_state()
    batches_of(first)
    assert torch.equal(before, torch.random.get_rng_state())
    assert flat(batches_of(loader_of(numbers, order=None, sampler=[5, 3, 3, 9]))) == [5, 3, 3, 9]
    assert batches_of(loader_of(numbers, order=None, shuffle=True)) == batches_of(loader_of(numbers))
    assert batches_of(loader_of(numbers, order=None, shuffle=False))[0] == [0, 1, 2, 3]
    with pytest.raises(ValueError, match="order and shuffle each decide the order"):
        loader_of(numbers, shuffle=True)
    with pytest.raises(ValueError, match="a second time"):
        loader_of(numbers, order=None, sampler=DistributedSampler([1, 2, 3], num_replicas=1, rank=0))  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="pass either it or indices="):
        loader_of(numbers, order=None, sampler=[1], indices=[1])


@pytest.mark.parametrize(
    "kind",
    [range, lambda n: list(range(n)), np.arange, torch.arange, lambda n: LazyOrder(n, lambda x: x)],
)
def test_orders_of_every_kind_wrap_around(numbers: Path, kind: Callable[[int], Any]) -> None:
    class Given(TraversalOrder):
        def sample_order(self, epoch: int) -> Any:
            return kind(50)

    last = [
        batches_of(loader_of(numbers, 5, order=Given, pad=True, rank=rank, world_size=4, indices=range(50)))[-1]
        for rank in range(4)
    ]
    assert last == [[40, 41, 42], [43, 44, 45], [46, 47, 48], [49, 0, 1]]


def test_a_sampler_draws_in_the_thread_that_iterates(numbers: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its generator is shared with that thread: drawn elsewhere, both would get numbers of the other."""
    threads = []

    class Draws:
        def __len__(self) -> int:
            return 20

        def __iter__(self) -> Iterator[int]:
            threads.append(threading.current_thread())
            yield from torch.randint(COUNT, (20,)).tolist()

    def seeds_everything(seed: int) -> None:
        raise AssertionError("torch.manual_seed seeds the generators of GPUs too")

    monkeypatch.setattr(torch, "manual_seed", seeds_everything)
    state = torch.get_rng_state()
    loader = loader_of(numbers, order=None, sampler=Draws())
    epochs = [flat(batches_of(loader)) for _ in range(2)]
    assert threads == [threading.current_thread()] * 2  # once an epoch
    assert torch.equal(state, torch.get_rng_state())
    again = loader_of(numbers, order=None, sampler=Draws())
    torch.rand(5)  # what the thread has drawn before does not matter
    assert [flat(batches_of(again)) for _ in range(2)] == epochs


def test_orders_are_made_once(numbers: Path) -> None:
    made = []

    class Backwards(TraversalOrder):
        def sample_order(self, epoch: int) -> np.ndarray:
            made.append(epoch)
            return self.indices[::-1]

    loader = loader_of(numbers, order=Backwards)
    assert len(loader) == len(loader) == 26
    assert made == [0]  # to be counted
    for _ in range(2):
        assert len(batches_of(loader)) == 26
    assert len(loader) == len(loader)
    assert made == [0, 0, 1, 2]


def test_quasi_random_mixes_few_pages_at_a_time(tmp_path: Path) -> None:
    loader = loader_of(write_numbers(tmp_path / "numbers.beton", 60), order=OrderOption.QUASI_RANDOM)
    order = loader.traversal_order
    assert isinstance(order, QuasiRandom)
    # Stands in for a file of 12 pages of 5 samples.
    pages = Pages.of([np.arange(33) // 5, np.arange(33, 60) // 5])
    order._pages = loader.selection, pages
    assert len(pages.run_ends) == 13  # one page lies across the parts in which they are counted
    order.pages_in_flight = 3
    epochs = [np.asarray(order.sample_order(epoch)) for epoch in range(2)]
    for epoch in epochs:
        assert sorted(epoch) == list(range(60))
        assert [len(set((epoch[start : start + 15] // 5).tolist())) for start in range(0, 60, 15)] == [3] * 4
        assert len(set((epoch[:5] // 5).tolist())) > 1
    assert (epochs[0] != epochs[1]).any()
    with pytest.raises(ValueError, match="pages_in_flight must be at least 1"):
        loader_of(tmp_path / "numbers.beton", order=QuasiRandom, order_kwargs={"pages_in_flight": 0})


def test_samples_are_found_by_page_wherever_they_lie() -> None:
    """Files of several writers have pages of several of them side by side; as sorting all samples would have it."""
    rng = np.random.default_rng(0)
    for numbers in (np.repeat(rng.permutation(20), rng.integers(0, 9, 20)), rng.integers(0, 5, 200), np.arange(0)):
        pages = Pages.of(np.split(numbers, [0, 7, 50]))
        by_page = np.argsort(numbers, kind="stable")
        assert pages.position(np.arange(len(numbers))).tolist() == by_page.tolist()
        _, counts = np.unique(numbers, return_counts=True)
        assert pages.counts.tolist() == counts.tolist()
        assert pages.ends.tolist() == np.cumsum(counts).tolist()


def test_ten_million_samples_take_no_time_to_start(tmp_path: Path) -> None:
    """Issue D: constructing < 1 s, iterating < 50 ms. Counted in work, not in seconds: see benchmarks/loader.py."""
    path = write_many(tmp_path / "many.beton", 10_000_000)
    began = time.perf_counter()
    loader = Loader(path, 256, order=OrderOption.RANDOM, seed=1, num_workers=1)
    constructed = time.perf_counter()
    iterator = iter(loader)
    started = time.perf_counter()
    first = next(iterator).index.flatten().tolist()
    print(f"constructed in {constructed - began:.3f} s, __iter__ in {(started - constructed) * 1000:.1f} ms")
    assert len(loader) == 39062
    assert len(set(first)) == 256
    assert loader.selection.indices is None  # nothing of the file's length was made
    assert isinstance(loader.traversal_order.sample_order(0), LazyOrder)
    assert isinstance(loader.reader.fields["index"], IntField)
    iterator.close()
