"""Orders, the ranks' parts, and going on where a run was interrupted: checked on sample indices alone."""

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
from ffcv.format import FIELD_DESCRIPTOR, HEADER
from ffcv.loader.cut import Cut
from ffcv.random import permute
from ffcv.traversal_order import LazyOrder, QuasiRandom, TraversalOrder
from ffcv.traversal_order.quasi_random import Pages
from small_files import NUMBERS_ONLY, write_numbers

COUNT = 103

pytestmark = pytest.mark.filterwarnings("ignore:the last global batch has")  # of fewer samples than ranks: its own test


@pytest.fixture(scope="module")
def numbers(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_numbers(tmp_path_factory.mktemp("orders") / "numbers.beton", COUNT)


def loader_of(path: Path, batch_size: int = 4, **options: object) -> Loader:
    defaults: dict = {"order": OrderOption.RANDOM, "seed": 11, "drop_last": False, "num_workers": 1}
    return Loader(path, batch_size, pipelines=NUMBERS_ONLY, **(defaults | options))


def batches_of(loader: Loader) -> list[list[int]]:
    return [batch.index.flatten().tolist() for batch in loader]


def flat(batches: list[list[int]]) -> list[int]:
    return [index for batch in batches for index in batch]


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


@pytest.mark.parametrize("world_size", [1, 2, 3, 4, 8])
@pytest.mark.parametrize("order", list(OrderOption))
@pytest.mark.parametrize(("drop_last", "pad"), [(True, False), (False, False), (False, True)])
def test_the_ranks_together_have_the_dataset_once(
    numbers: Path, world_size: int, order: OrderOption, drop_last: bool, pad: bool
) -> None:
    ranks = [
        loader_of(numbers, order=order, rank=rank, world_size=world_size, drop_last=drop_last, pad=pad)
        for rank in range(world_size)
    ]
    parts = [batches_of(loader) for loader in ranks]
    assert [len(loader) for loader in ranks] == [len(part) for part in parts]
    together = sorted(flat([flat(part) for part in parts]))
    if drop_last:
        assert len(together) == len(set(together)) == COUNT // (4 * world_size) * 4 * world_size
    elif not pad:
        assert together == list(range(COUNT))
    else:
        assert set(together) == set(range(COUNT))
        assert len(together) - COUNT < world_size
        assert len({tuple(map(len, part)) for part in parts}) == 1  # the same sizes on every rank
    if order == OrderOption.SEQUENTIAL_CONTIGUOUS and not pad:
        for part in parts:
            assert np.all(np.diff(flat(part)) == 1)


@pytest.mark.parametrize("order", [OrderOption.SEQUENTIAL, OrderOption.RANDOM, OrderOption.QUASI_RANDOM])
def test_global_batches_do_not_depend_on_the_number_of_ranks(numbers: Path, order: OrderOption) -> None:
    def global_batches(world_size: int) -> list[list[int]]:
        options = {"order": order, "world_size": world_size, "batch_size": 24 // world_size}
        parts = [batches_of(loader_of(numbers, rank=rank, **options)) for rank in range(world_size)]
        return [flat([part[i] for part in parts if i < len(part)]) for i in range(len(parts[0]))]

    reference = global_batches(1)
    for world_size in (2, 3, 4, 8):
        assert global_batches(world_size) == reference


@pytest.mark.parametrize("order", [OrderOption.SEQUENTIAL, OrderOption.RANDOM, OrderOption.QUASI_RANDOM])
def test_resuming_at_every_step_onto_any_ranks(numbers: Path, order: OrderOption) -> None:
    reference = loader_of(numbers, order=order)
    whole = [flat(batches_of(reference)) for _ in range(2)]
    running = loader_of(numbers, order=order)
    iterator = iter(running)
    for step in range(len(running)):
        next(iterator)
        state = running.state_dict()
        assert state["samples_consumed"] == min(4 * (step + 1), COUNT)
        for batch_size, world_size in ((4, 1), (5, 2)) if step % 5 else ((4, 1), (3, 1), (2, 3), (1, 8)):
            parts = []
            for rank in range(world_size):
                resumed = loader_of(numbers, batch_size, order=order, rank=rank, world_size=world_size)
                resumed.load_state_dict(state)
                resumed.set_epoch(0)
                parts.append(batches_of(resumed))
                assert resumed.next_epoch == 1
            left = flat(
                [flat([part[i] for part in parts if i < len(part)]) for i in range(len(parts[0]))] if parts[0] else []
            )
            assert left == whole[0][4 * (step + 1) :]
    assert list(iterator) == []
    assert running.state_dict() | {"epoch": 1, "samples_consumed": 0} == running.state_dict()
    assert flat(batches_of(running)) == whole[1]


def test_resuming_in_a_contiguous_order_and_with_set_epoch(numbers: Path) -> None:
    loader = loader_of(numbers, order=OrderOption.SEQUENTIAL_CONTIGUOUS, rank=1, world_size=2)
    iterator = iter(loader)
    first = [next(iterator).index.flatten().tolist() for _ in range(3)]
    resumed = loader_of(numbers, order=OrderOption.SEQUENTIAL_CONTIGUOUS, rank=1, world_size=2)
    resumed.load_state_dict(loader.state_dict())
    resumed.set_epoch(0)  # what training loops do; it is the epoch that was interrupted
    assert first + batches_of(resumed) == batches_of(loader)
    resumed.load_state_dict(loader.state_dict())
    resumed.set_epoch(5)
    assert len(batches_of(resumed)) == len(resumed)


def global_batches(loaders: list[Loader]) -> list[list[int]]:
    parts = [batches_of(loader) for loader in loaders]
    return [flat([part[i] for part in parts if i < len(part)]) for i in range(len(parts[0]))]


def test_a_contiguous_order_goes_on_with_other_ranks_and_batch_sizes(numbers: Path) -> None:
    def ranks(world_size: int, batch_size: int) -> list[Loader]:
        order = OrderOption.SEQUENTIAL_CONTIGUOUS
        return [loader_of(numbers, batch_size, order=order, rank=r, world_size=world_size) for r in range(world_size)]

    whole = flat(global_batches(ranks(2, 4)))
    running = ranks(2, 4)[0]
    iterator = iter(running)
    for step in range(1, len(running)):
        next(iterator)
        state = running.state_dict()
        for world_size, batch_size in ((1, 4), (2, 5), (3, 2), (8, 1)):
            resumed = ranks(world_size, batch_size)
            for loader in resumed:
                loader.load_state_dict(state)
            assert flat(global_batches(resumed)) == whole[8 * step :]
            if step == 5:  # interrupted once more; then the next epoch is cut as these ranks do it
                again = ranks(world_size, batch_size)
                for loader in again:
                    loader.load_state_dict(state)
                    next(iter(loader))
                third = ranks(2, 4)
                for loader in third:
                    loader.load_state_dict(again[0].state_dict())
                assert flat(global_batches(third)) == whole[8 * step + world_size * batch_size :]
                assert global_batches(resumed) == global_batches(ranks(world_size, batch_size))


def test_a_finished_epoch_goes_on_with_the_next(numbers: Path) -> None:
    for drop_last in (True, False):
        loader = loader_of(numbers, 20, drop_last=drop_last)
        iterator = iter(loader)
        for _ in range(len(loader)):  # as trainers do, which never ask for more than len() batches
            next(iterator)
        state = loader.state_dict()
        following = batches_of(loader)
        resumed = loader_of(numbers, 20, drop_last=drop_last)
        resumed.load_state_dict(state)
        assert batches_of(resumed) == following
        assert resumed.next_epoch == 2
        resumed.load_state_dict(state)
        resumed.set_epoch(0)  # a loop that counts epochs itself: nothing is left of this one
        assert batches_of(resumed) == []
        assert batches_of(resumed) == following
    ranks = [loader_of(numbers, 32, rank=rank, world_size=4) for rank in range(4)]
    small = [loader_of(numbers, 1, rank=rank, world_size=8) for rank in range(8)]
    for loader in small:  # 7 samples are left: rank 7 has none of them, but is in the same epoch
        loader.load_state_dict(ranks[0].state_dict() | {"epoch": 3, "samples_consumed": 96})
        assert len(batches_of(loader)) == (loader.rank < 7)
        assert loader.next_epoch == 4


def test_an_iterator_that_nobody_asks_is_no_epoch(numbers: Path) -> None:
    loader = loader_of(numbers)
    first = batches_of(loader_of(numbers))
    iter(loader)  # what Lightning does to see whether it can
    iter(loader).close()
    iterator = iter(loader)
    assert [next(iterator).index.flatten().tolist() for _ in range(3)] == first[:3]
    state = loader.state_dict()
    iter(loader)
    assert loader.state_dict() == state
    assert [batch.index.flatten().tolist() for batch in iterator] == first[3:]
    loader.load_state_dict(state)
    iter(loader)
    assert batches_of(loader) == first[3:]
    unused = iter(loader)
    loader.set_epoch(7)
    unused.close()
    assert loader.next_epoch == 7


def test_ranks_that_would_disagree_are_warned_of(numbers: Path) -> None:
    with pytest.warns(UserWarning, match="has 7 samples for 8 ranks: ranks from 7 on get one batch less"):
        loader_of(numbers, 12, rank=0, world_size=8)
    loader_of(numbers, 12, rank=0, world_size=8, pad=True)
    with pytest.raises(ValueError, match="on_error='skip' makes batches smaller on the rank"):
        loader_of(numbers, 12, rank=0, world_size=8, on_error="skip")


def test_a_state_of_something_else_is_refused(numbers: Path, tmp_path: Path) -> None:
    loader = loader_of(numbers)
    state = loader.state_dict()
    for change, message in (
        ({"format": 2}, "has format 2"),
        ({"rng_version": 99}, "random streams of version 99"),
        ({"fingerprint": "0"}, "another dataset"),
        ({"order": "Sequential"}, "order Sequential, but the loader has Random"),
        ({"selection": "x"}, "other samples"),
        ({"seed": 12}, "of seed 12, but seed=11 was given"),
    ):
        with pytest.raises(ValueError, match=message):
            loader.load_state_dict(state | change)
    with pytest.raises(ValueError, match="it has no seed"):
        loader.load_state_dict({name: value for name, value in state.items() if name != "seed"})
    with pytest.raises(ValueError, match="another dataset"):
        loader_of(write_numbers(tmp_path / "other.beton", 50)).load_state_dict(state)


def test_a_drawn_seed_is_taken_from_the_state(numbers: Path) -> None:
    first, second = (loader_of(numbers, seed=None) for _ in range(2))
    assert first.seed != second.seed
    second.load_state_dict(first.state_dict())
    assert second.seed == first.seed
    assert batches_of(second) == batches_of(first)


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


class OneRanksPart(TraversalOrder):
    """As FFCV's documentation and its users write orders for several ranks."""

    def __init__(self, loader: Loader) -> None:
        super().__init__(loader)
        if self.distributed:
            self.sampler = DistributedSampler(
                self.indices,  # type: ignore[arg-type]
                num_replicas=loader.world_size,
                rank=loader.rank,
                shuffle=False,
                seed=self.seed,
                drop_last=False,
            )

    def sample_order(self, epoch: int) -> np.ndarray:
        if not self.distributed:
            return self.indices[::-1]
        self.sampler.set_epoch(epoch)
        return self.indices[np.array(list(self.sampler))]


def test_orders_written_for_ffcv_are_cut_once(numbers: Path) -> None:
    loaders = [loader_of(numbers, order=OneRanksPart, rank=rank, world_size=2) for rank in range(2)]
    assert sorted(flat(flat(batches_of(loader)) for loader in loaders)) == list(range(COUNT))
    for size in (51, 52):
        with pytest.warns(UserWarning, match=rf"has {size} of 103 samples for 2 ranks: .* cut a second time"):
            loader_of(numbers, order=None, sampler=list(range(size)), rank=0, world_size=2)
    loader_of(numbers, order=None, sampler=list(range(50)), rank=0, world_size=2)
    loader_of(numbers, order=None, sampler=list(range(51)))


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


def test_set_epoch_after_a_broken_off_epoch(numbers: Path) -> None:
    loader = loader_of(numbers)
    iterator = iter(loader)
    next(iterator)
    next(iterator)
    loader.set_epoch(1)
    state = loader.state_dict()
    assert (state["epoch"], state["samples_consumed"]) == (1, 0)
    resumed = loader_of(numbers)
    resumed.load_state_dict(state)
    assert batches_of(resumed) == batches_of(loader)


def test_quasi_random_mixes_few_pages_at_a_time(tmp_path: Path) -> None:
    loader = loader_of(write_numbers(tmp_path / "numbers.beton", 60), order=OrderOption.QUASI_RANDOM)
    order = loader.traversal_order
    assert isinstance(order, QuasiRandom)
    # Stands in for a file of 12 pages of 5 samples.
    order._pages = Pages.of([np.arange(33) // 5, np.arange(33, 60) // 5])
    assert len(order._pages.run_ends) == 13  # one page lies across the parts in which they are counted
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


def test_ranks_from_the_environment(numbers: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLURM_PROCID", "3")
    monkeypatch.setenv("SLURM_NTASKS", "4")
    loader = loader_of(numbers, distributed=True)
    assert (loader.rank, loader.world_size) == (3, 4)
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("WORLD_SIZE", "2")
    loader = loader_of(numbers, distributed=True)
    assert (loader.rank, loader.world_size) == (1, 2)
    loader = loader_of(numbers, distributed=True, rank=0, world_size=8)
    assert (loader.rank, loader.world_size) == (0, 8)
    loader = loader_of(numbers)
    assert (loader.rank, loader.world_size) == (0, 1)
    with pytest.warns(UserWarning, match="all use seed 0"):
        assert loader_of(numbers, distributed=True, seed=None).seed == 0
    monkeypatch.setenv("RANK", "2")
    with pytest.raises(ValueError, match="RANK and WORLD_SIZE cannot be used"):
        loader_of(numbers, distributed=True)
    with pytest.raises(ValueError, match="belong together"):
        loader_of(numbers, rank=1)
    with pytest.raises(ValueError, match="got 2 of 2"):
        loader_of(numbers, rank=2, world_size=2)


def _seed_of_rank(rank: int, path: Path, folder: Path) -> None:
    torch.distributed.init_process_group("gloo", f"file://{folder / 'meet'}", rank=rank, world_size=2)
    loader = loader_of(path, distributed=True, seed=None)
    result = [loader.seed, loader.rank, *flat(batches_of(loader))]
    torch.distributed.barrier()
    torch.distributed.destroy_process_group()
    (folder / f"rank{rank}").write_text(" ".join(map(str, result)))


def test_ranks_agree_on_a_seed_over_torch_distributed(numbers: Path, tmp_path: Path) -> None:
    torch.multiprocessing.spawn(_seed_of_rank, args=(numbers, tmp_path), nprocs=2)
    results = [list(map(int, (tmp_path / f"rank{rank}").read_text().split())) for rank in range(2)]
    assert results[0][0] == results[1][0]
    assert [result[1] for result in results] == [0, 1]
    assert sorted(results[0][2:] + results[1][2:]) == list(range(COUNT))


def test_too_few_samples_for_a_batch(numbers: Path) -> None:
    with pytest.raises(ValueError, match=r"batch_size 60 on each of 2 ranks is more than the 103 samples.*at most 51"):
        loader_of(numbers, 60, rank=0, world_size=2, drop_last=True)
    assert len(loader_of(numbers, 200)) == 1


def test_cut_counts_what_it_cuts() -> None:
    for samples in range(30):
        for world_size in (1, 2, 3):
            for drop_last, pad in ((True, False), (False, False), (False, True)):
                for start in range(0, samples + 1, 6):
                    cuts = [Cut(2, rank, world_size, drop_last, pad) for rank in range(world_size)]
                    for cut in cuts:
                        assert len(list(cut.batches(samples, start))) == cut.count(samples - start)


def write_many(path: Path, count: int) -> Path:
    """A file of `count` integers, written directly: what the writer would write, in a second."""
    page = 1 << 21
    header = np.zeros(1, HEADER)
    fields = np.zeros(1, FIELD_DESCRIPTOR)
    size = HEADER.itemsize + fields.nbytes + 8 * count
    header["version"], header["num_fields"], header["page_size"], header["num_samples"] = 2, 1, page, count
    header["alloc_table_ptr"] = size
    fields["type_id"] = 1
    fields["name"][0, :5] = np.frombuffer(b"index", np.uint8)
    with path.open("wb") as file:
        for part in (header, fields, np.arange(count, dtype="<i8")):
            part.tofile(file)
    return path


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
