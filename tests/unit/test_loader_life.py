"""Beginnings and ends: threads, exceptions, closing; nothing hangs."""

import gc
import os
import threading
import time
import traceback
from pathlib import Path
from typing import Any

import pytest
import torch

import own_process
from ffcv import Loader
from ffcv.loader.handoff import Closed, Handoff
from photo_loaders import centre_crops

COUNT = 24


def threads(expected: int | None = None) -> int:
    """This process's threads; waits a while for those that have been joined to leave the system's list."""
    count = 0
    for _ in range(500):
        count = len(os.listdir("/proc/self/task"))
        if expected is None or count == expected:
            break
        time.sleep(0.01)
    return count


def test_closing_ends_all_threads_and_keeps_batches(beton: Path) -> None:
    gc.collect()
    before = threads()
    with centre_crops(beton) as loader:
        iterator = iter(loader)
        kept = next(iterator).image
        content = kept.clone()
        assert threads() > before
    assert threads(before) == before
    assert torch.equal(kept, content)
    with pytest.raises(StopIteration):
        next(iterator)
    with pytest.raises(RuntimeError, match="is closed"):
        iter(loader)
    with pytest.raises(RuntimeError, match="is closed"):
        loader[0]
    loader.close()


def test_a_handoff_ends_for_both_sides() -> None:
    handoff = Handoff(2, 1 << 20)
    handoff.put("a")
    assert handoff.get() == "a"
    handoff.close()
    with pytest.raises(Closed):
        handoff.put("b")
    with pytest.raises(Closed):
        handoff.wait_for_room(1)
    with pytest.raises(StopIteration):
        handoff.get()


def test_an_exception_keeps_its_traceback(beton: Path) -> None:
    class Broken(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.the_line_to_blame(x)

        def the_line_to_blame(self, x: torch.Tensor) -> torch.Tensor:
            raise KeyError("mine")

    for os_cache in (True, False):
        with pytest.raises(KeyError, match="mine") as caught:
            list(centre_crops(beton, Broken(), os_cache=os_cache))
        assert "the_line_to_blame" in "".join(traceback.format_tb(caught.value.__traceback__))

    class Order:
        def __iter__(self) -> Any:
            yield 1
            raise RuntimeError("in the sampler")

        def __len__(self) -> int:
            return 9

    with pytest.raises(RuntimeError, match="in the sampler"):
        list(centre_crops(beton, sampler=Order()))


def test_two_loaders_and_a_torch_data_loader_at_once(beton: Path) -> None:
    class Plain(torch.utils.data.Dataset):
        def __len__(self) -> int:
            return 8

        def __getitem__(self, index: int) -> int:
            return index

    first, second = centre_crops(beton, seed=1), centre_crops(beton, seed=2, os_cache=False)
    with torch.random.fork_rng():
        plain = torch.utils.data.DataLoader(Plain(), 2, num_workers=1, multiprocessing_context="fork")
        count = sum(1 for _ in zip(first, second, plain, strict=False))
    assert count == 4


def test_nested_loops_and_closing_in_a_loop(beton: Path) -> None:
    loader = centre_crops(beton, batch_size=6)
    assert [len(list(loader)) for _ in loader] == [4] * 4
    assert loader.next_epoch == 5
    for number, _ in enumerate(loader):
        assert number == 0
        loader.close()


def test_closing_from_another_thread_ends_a_wait(beton: Path) -> None:
    entered, leave = threading.Event(), threading.Event()

    class Stuck(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            entered.set()
            leave.wait(60)
            return x

    loader = centre_crops(beton, Stuck())

    def close() -> None:
        entered.wait(60)
        threading.Timer(0.05, leave.set).start()  # `close` waits for what is being made
        loader.close()

    closer = threading.Thread(target=close)
    closer.start()
    assert list(loader) == []
    closer.join()


def test_several_threads_share_an_iterator(beton: Path) -> None:
    iterator = iter(centre_crops(beton, batch_size=1, drop_last=False))
    found: list[int] = []
    workers = [threading.Thread(target=lambda: found.extend(int(batch.label) for batch in iterator)) for _ in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert sorted(found) == list(range(COUNT))


def test_modules_may_use_loaders(beton: Path) -> None:
    """The one that they are in, too: one sample of it, or all."""
    box: list[Loader] = []

    class UsesItself(torch.nn.Module):
        depth = 0

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            if self.depth == 0 and len(x) == 4:
                self.depth = 1
                assert len(box[0][0].image) == 3
                assert len(list(box[0])) == COUNT // 4
                self.depth = 0
            return x

    box.append(centre_crops(beton, UsesItself()))
    assert len(list(box[0])) == COUNT // 4


def test_threads_that_cannot_be_started_are_named_and_leave_the_loader_whole(beton: Path) -> None:
    result = own_process.run(f"""
        import resource
        from ffcv import Loader
        loader = Loader({str(beton)!r}, 4, num_workers=4096, pipelines={{"image": None}})
        now = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (now + (1 << 30), resource.RLIM_INFINITY))
        try:
            iter(loader)
        except RuntimeError as error:
            print(error)
        loader.num_workers = 1
        print(len(list(loader)) == len(loader), loader.next_epoch)
    """)
    error, after = result.stdout.splitlines()
    assert "no more threads for num_workers=4096 (" in error
    assert after == "True 1", result.stderr


@pytest.mark.parametrize("error", [StopIteration, GeneratorExit, SystemExit, KeyboardInterrupt, MemoryError])
def test_every_kind_of_exception_reaches_the_loop(beton: Path, error: type[BaseException]) -> None:
    class Broken(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            raise error("mine")

    expected = RuntimeError if error is StopIteration else error  # Python's rule for generators
    with pytest.raises(expected) as caught:
        list(centre_crops(beton, Broken()))
    assert "mine" in str(caught.value) or isinstance(caught.value.__cause__, StopIteration)


def test_what_cannot_begin_reaches_the_loop_too() -> None:
    handoff = Handoff(1, 1)

    def broken() -> Any:
        raise OSError("at once")

    handoff.produce(broken)
    with pytest.raises(OSError, match="at once"):
        handoff.get()
    with pytest.raises(StopIteration):
        handoff.get()
