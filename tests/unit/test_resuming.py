"""Going on where a run was interrupted, on any number of ranks: checked on sample indices alone."""

from pathlib import Path

import pytest
import torch

from ffcv import Loader, OrderOption
from small_files import NUMBERS_ONLY, batches_of, flat, loader_of, write_numbers

COUNT = 103

pytestmark = pytest.mark.filterwarnings("ignore:the last global batch has")  # of fewer samples than ranks: its own test


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


def test_what_trainers_look_for(tmp_path: Path) -> None:
    """Lightning and Hugging Face's Trainer treat a loader as theirs by these; test_loader_trainers.py runs them."""
    loader = Loader(write_numbers(tmp_path / "numbers.beton", 30), 4, pipelines=NUMBERS_ONLY, shuffle=True, seed=2)
    for name in ("__iter__", "__len__", "state_dict", "load_state_dict", "set_epoch", "batch_size"):
        assert hasattr(loader, name)
    seen = []
    for epoch in range(2):
        loader.set_epoch(epoch)
        iterator = iter(loader)
        seen.append([next(iterator).index.flatten().tolist() for _ in range(len(loader))])  # exactly len() batches
    state = torch.load(_saved(loader.state_dict(), tmp_path / "state.pt"), weights_only=True)
    other = Loader(tmp_path / "numbers.beton", 4, pipelines=NUMBERS_ONLY, order=OrderOption.RANDOM, seed=2)
    other.load_state_dict(state)
    assert len(list(other)) == len(other)  # the epoch had been handed out whole: this is the next one
    assert other.next_epoch == 3


def _saved(state: dict, path: Path) -> Path:
    torch.save(state, path)
    return path
