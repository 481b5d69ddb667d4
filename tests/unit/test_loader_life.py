"""Beginnings and ends: threads, forks, exits, exceptions, memory; nothing hangs and nothing leaks."""

import gc
import os
import pickle
import signal
import subprocess
import sys
import textwrap
import threading
import time
import traceback
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from datasets import write_photos
from ffcv import Loader, OrderOption
from ffcv.cores import available_cores
from ffcv.loader import slots
from ffcv.loader.handoff import Closed, Handoff
from ffcv.loader.slots import SlotPool
from ffcv.transforms import CenterCrop, ToDevice, ToTensor, ToTorchImage
from small_files import NUMBERS_ONLY, write_numbers

COUNT = 24


@pytest.fixture(scope="module")
def beton(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_photos(tmp_path_factory.mktemp("life") / "photos.beton", COUNT)


def loader_of(path: Path, *more: Any, **options: Any) -> Loader:
    defaults: dict[str, Any] = {"batch_size": 4, "num_workers": 2, "seed": 3}
    return Loader(
        path,
        pipelines={"image": [CenterCrop((16, 16), 1.0), ToTensor(), ToTorchImage(), *more]},
        **(defaults | options),
    )


def run(code: str, **environment: str) -> subprocess.CompletedProcess:
    """Runs `code` in a process of its own; the time limit only turns a hang into a failure."""
    command = [sys.executable, "-c", textwrap.dedent(code)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, env=os.environ | environment)


def threads(expected: int | None = None) -> int:
    """This process's threads; waits a while for those that have been joined to leave the system's list."""
    count = 0
    for _ in range(500):
        count = len(os.listdir("/proc/self/task"))
        if expected is None or count == expected:
            break
        time.sleep(0.01)
    return count


def resident_kib() -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("VmRSS")).split()[1])


def test_closing_ends_all_threads_and_keeps_batches(beton: Path) -> None:
    gc.collect()
    before = threads()
    with loader_of(beton) as loader:
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


@pytest.mark.parametrize("os_cache", [True, False])
def test_many_loaders_dropped_in_mid_epoch_leave_nothing(beton: Path, os_cache: bool) -> None:
    """In a process with one malloc arena, or the memory that threads' arenas keep would hide or feign a leak."""
    result = run(
        f"""
        import gc, os, threading, time
        from pathlib import Path
        from ffcv import Loader
        from ffcv.transforms import CenterCrop

        def drop_some(count):
            for _ in range(count):
                pipelines = {{"image": [CenterCrop((16, 16), 1.0)]}}
                iterator = iter(Loader({str(beton)!r}, 4, num_workers=2, os_cache={os_cache}, pipelines=pipelines))
                next(iterator)
            del iterator
            for thread in threading.enumerate():
                if thread.name.startswith("ffcv"):
                    thread.join()
            gc.collect()
            time.sleep(0.1)  # threads that have been joined take a moment to leave the system's list
            lines = Path("/proc/self/status").read_text().splitlines()
            resident = int(next(line for line in lines if line.startswith("VmRSS")).split()[1])
            return len(os.listdir("/proc/self/task")), len(os.listdir("/proc/self/fd")), resident

        before, after = drop_some(50), drop_some(200)
        print(*(b - a for a, b in zip(before, after)))
        """,
        MALLOC_ARENA_MAX="1",
    )
    assert result.returncode == 0, result.stderr
    threads_left, descriptors_left, kib = map(int, result.stdout.split())
    assert (threads_left, descriptors_left) == (0, 0)
    assert kib < 1024


def test_memory_does_not_grow(tmp_path: Path) -> None:
    path = write_numbers(tmp_path / "numbers.beton", 512)
    loader = Loader(path, 8, num_workers=2, shuffle=True, seed=1, return_indices=True)

    def epochs(count: int) -> None:
        for _ in range(count):
            for _batch in loader:
                pass

    epochs(30)
    gc.collect()
    before = resident_kib()
    epochs(30)  # 1,920 batches; `make soak` runs 10,000 with images
    gc.collect()
    assert resident_kib() - before < 1024


def test_memory_ahead_is_bounded(beton: Path) -> None:
    made: list[int] = []

    class Count(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            made.append(1)
            return x

    def after_first(**options: Any) -> int:
        made.clear()
        iterator = iter(loader_of(beton, Count(), batch_size=2, **options))
        next(iterator)
        handoff = iterator._handoff
        with handoff._changed:  # until the producer waits for room
            ahead = min(options.get("batches_ahead", 3), 1 if "ahead_bytes" in options else 99)
            assert handoff._changed.wait_for(lambda: len(handoff._items) == ahead, timeout=30)
        iterator.close()
        return len(made)

    assert after_first(batches_ahead=3) == 4
    assert after_first(batches_ahead=1) == 2
    assert after_first(batches_ahead=5, ahead_bytes=1) == 2


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


def test_slots_of_other_sizes_are_let_go() -> None:
    pool = SlotPool(2, batches=3, max_bytes=1 << 30)

    def batch(side: int) -> list[np.ndarray]:
        return [pool.allocate((side, 1000), np.dtype(np.float32)), pool.allocate((7, 1000), np.dtype(np.float32))]

    for side in range(10, 30):  # progressive resolution, beside a view that stays as it is
        held = [batch(side) for _ in range(5)]
        del held
        assert kept(pool) <= 6
    for _ in range(5):
        batch(50)
    assert {block.numel() for block in pool._unused.known} <= {200_000, 28_032}


def kept(pool: SlotPool) -> int:
    """Unused blocks."""
    return len(pool._unused.known) + len(pool._unused._back)


def test_unused_slots_are_bounded_by_what_may_lie_ahead() -> None:
    for max_bytes, expected in ((1 << 30, 6), (4096 * 5, 5), (1, 2)):
        pool = SlotPool(2, batches=3, max_bytes=max_bytes)
        held = [pool.allocate((1024,), np.dtype(np.float32)) for _ in range(20)]
        del held
        assert kept(pool) == expected


def test_labels_take_no_slots_and_nothing_is_kept_after_closing(beton: Path) -> None:
    loader = loader_of(beton, batches_ahead=2)
    batches = [list(loader) for _ in range(2)]
    held = batches[0][0]
    del batches
    assert kept(loader._slots) == 3  # two that may lie ahead, and the one that its user lets go
    content = held.image.clone()
    loader.close()
    assert kept(loader._slots) == 0
    assert torch.equal(held.image, content)
    del held
    assert kept(loader._slots) == 0


def test_where_batches_are_kept_nobody_waits_for_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [0.0]
    stands_still = SimpleNamespace(
        monotonic=lambda: clock[0], sleep=lambda seconds: clock.__setitem__(0, clock[0] + seconds)
    )
    monkeypatch.setattr(slots, "time", stands_still)
    pool = SlotPool(2, batches=3, max_bytes=1 << 40)
    shape, dtype = (2 << 20,), np.dtype(np.float32)
    held = [pool.allocate(shape, dtype) for _ in range(100)]
    most = 2 * (3 + 2) * slots._GRACE_S + slots._GRACE_S  # for two blocks of each batch ahead, made and held
    assert 0 < clock[0] <= most
    del held[:6]  # blocks come back, so that it is worth waiting again
    before = clock[0]
    held += [pool.allocate(shape, dtype) for _ in range(7)]
    assert clock[0] > before


def test_an_exception_keeps_its_traceback(beton: Path) -> None:
    class Broken(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.the_line_to_blame(x)

        def the_line_to_blame(self, x: torch.Tensor) -> torch.Tensor:
            raise KeyError("mine")

    for os_cache in (True, False):
        with pytest.raises(KeyError, match="mine") as caught:
            list(loader_of(beton, Broken(), os_cache=os_cache))
        assert "the_line_to_blame" in "".join(traceback.format_tb(caught.value.__traceback__))

    class Order:
        def __iter__(self) -> Any:
            yield 1
            raise RuntimeError("in the sampler")

        def __len__(self) -> int:
            return 9

    with pytest.raises(RuntimeError, match="in the sampler"):
        list(loader_of(beton, sampler=Order()))


def test_two_loaders_and_a_torch_data_loader_at_once(beton: Path) -> None:
    class Plain(torch.utils.data.Dataset):
        def __len__(self) -> int:
            return 8

        def __getitem__(self, index: int) -> int:
            return index

    first, second = loader_of(beton, seed=1), loader_of(beton, seed=2, os_cache=False)
    with torch.random.fork_rng():
        plain = torch.utils.data.DataLoader(Plain(), 2, num_workers=1, multiprocessing_context="fork")
        count = sum(1 for _ in zip(first, second, plain, strict=False))
    assert count == 4


def test_a_loader_works_in_a_forked_process(beton: Path) -> None:
    result = run(f"""
        import os, sys
        from pathlib import Path
        from ffcv import Loader
        from ffcv.transforms import CenterCrop
        pipelines = {{"image": [CenterCrop((16, 16), 1.0)]}}
        loader = Loader(Path({str(beton)!r}), 4, num_workers=2, seed=1, pipelines=pipelines)
        iterator = iter(loader)
        next(iterator)
        child = os.fork()
        if child == 0:
            try:
                next(iterator)
            except RuntimeError as error:
                assert "forked" in str(error), error
                batches = list(loader)
                assert len(batches) == 6, len(batches)
                loader.close()
                sys.exit(7)
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), len(list(iterator)))
    """)
    assert (result.returncode, result.stdout) == (0, "7 5\n"), result.stderr


def test_a_forked_process_ends_in_silence(beton: Path) -> None:
    """The loader's thread has stayed in the parent, and what it held is never let go in the child."""
    result = run(f"""
        import os, sys
        from ffcv import Loader
        from ffcv.transforms import CenterCrop
        iterator = iter(Loader({str(beton)!r}, 4, pipelines={{"image": [CenterCrop((16, 16), 1.0)]}}))
        next(iterator)
        child = os.fork()
        if child == 0:
            del iterator
            sys.exit(7)
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), len(list(iterator)))
    """)
    assert (result.returncode, result.stdout, result.stderr) == (0, "7 5\n", "")


def test_nested_loops_and_closing_in_a_loop(beton: Path) -> None:
    loader = loader_of(beton, batch_size=6)
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

    loader = loader_of(beton, Stuck())

    def close() -> None:
        entered.wait(60)
        threading.Timer(0.05, leave.set).start()  # `close` waits for what is being made
        loader.close()

    closer = threading.Thread(target=close)
    closer.start()
    assert list(loader) == []
    closer.join()


def test_several_threads_share_an_iterator(beton: Path) -> None:
    iterator = iter(loader_of(beton, batch_size=1, drop_last=False))
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

    box.append(loader_of(beton, UsesItself()))
    assert len(list(box[0])) == COUNT // 4


@pytest.mark.parametrize("error", [StopIteration, GeneratorExit, SystemExit, KeyboardInterrupt, MemoryError])
def test_every_kind_of_exception_reaches_the_loop(beton: Path, error: type[BaseException]) -> None:
    class Broken(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            raise error("mine")

    expected = RuntimeError if error is StopIteration else error  # Python's rule for generators
    with pytest.raises(expected) as caught:
        list(loader_of(beton, Broken()))
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


def test_a_pickled_loader_goes_on_where_it_is_opened(beton: Path) -> None:
    loader = loader_of(beton, order=OrderOption.RANDOM, seed=None)
    list(loader)
    other = pickle.loads(pickle.dumps(loader))
    for one, two in zip(loader, other, strict=True):
        assert torch.equal(one.image, two.image)
    state = loader_of(beton, order=OrderOption.RANDOM, seed=77).state_dict()
    pickle.loads(pickle.dumps(loader)).load_state_dict(state)  # its seed was drawn, and may still be another
    loader.load_state_dict(loader.state_dict() | {"epoch": 3, "samples_consumed": 8})
    assert len(list(pickle.loads(pickle.dumps(loader)))) == COUNT // 4 - 2
    loader.load_state_dict(loader.state_dict() | {"epoch": 3, "samples_consumed": COUNT})
    loader.set_epoch(3)  # nothing is left of it, and that was asked for
    assert list(pickle.loads(pickle.dumps(loader))) == []


def test_a_pickled_loader_keeps_the_parts_of_a_contiguous_order(beton: Path) -> None:
    two = loader_of(beton, order=OrderOption.SEQUENTIAL_CONTIGUOUS, rank=0, world_size=2)
    next(iter(two))
    one = loader_of(beton, order=OrderOption.SEQUENTIAL_CONTIGUOUS)
    one.load_state_dict(two.state_dict())
    other = pickle.loads(pickle.dumps(one))
    assert [batch.label.tolist() for batch in other] == [batch.label.tolist() for batch in one]


class Images(torch.utils.data.Dataset):
    def __init__(self, loader: Loader) -> None:
        self.loader = loader

    def __len__(self) -> int:
        return COUNT

    def __getitem__(self, index: int) -> torch.Tensor:
        return self.loader[index].image


def test_a_loader_serves_a_torch_data_loader_of_spawned_processes(beton: Path) -> None:
    loader = loader_of(beton, seed=5)
    loader[0]  # used before
    plain = torch.utils.data.DataLoader(Images(loader), 12, num_workers=1, multiprocessing_context="spawn")
    whole = torch.cat(list(plain))
    assert torch.equal(whole, torch.stack([loader[i].image for i in range(COUNT)]))


def test_ctrl_c_ends_a_wait(beton: Path) -> None:
    code = f"""
        import signal, threading, torch
        from ffcv import Loader
        from ffcv.transforms import CenterCrop, ToTensor
        signal.signal(signal.SIGINT, signal.default_int_handler)  # a job in the background inherits "ignore"
        class Stuck(torch.nn.Module):
            def forward(self, x):
                print("waiting", flush=True)
                threading.Event().wait(3)
                return x
        loader = Loader({str(beton)!r}, 4, pipelines={{"image": [CenterCrop((16, 16), 1.0), ToTensor(), Stuck()]}})
        try:
            next(iter(loader))
        except KeyboardInterrupt:
            print("interrupted", flush=True)
    """
    process = subprocess.Popen([sys.executable, "-c", textwrap.dedent(code)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "waiting\n"
    process.send_signal(signal.SIGINT)
    assert process.communicate(timeout=60)[0].splitlines()[-1] == "interrupted"
    assert process.returncode == 0


def test_leaving_in_mid_epoch_is_clean(beton: Path) -> None:
    result = run(f"""
        from ffcv import Loader
        from ffcv.transforms import RandomResizedCrop
        loaders = [Loader({str(beton)!r}, 1, os_cache=c, pipelines={{"image": [RandomResizedCrop((224, 224))]}})
                   for c in (True, False)]
        iterators = [iter(loader) for loader in loaders for _ in range(3)]
        for iterator in iterators:
            next(iterator)
        iter(loaders[0])
        print("leaving")
    """)
    assert (result.returncode, result.stdout, result.stderr) == (0, "leaving\n", "")


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="this system has no affinity masks")
def test_cores_follow_the_affinity_mask() -> None:
    one = min(os.sched_getaffinity(0))
    result = run(f"""
        import os
        os.sched_setaffinity(0, {{{one}}})
        from ffcv.cores import available_cores
        print(available_cores())
    """)
    assert result.stdout == "1\n", result.stderr
    assert 1 <= available_cores() <= len(os.sched_getaffinity(0))


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


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here: copies to a GPU cannot be tested")
def test_copies_to_a_gpu_are_complete_before_memory_is_used_again(tmp_path: Path) -> None:
    path = write_photos(tmp_path / "photos.beton", 24)

    def batches(device: str) -> list[torch.Tensor]:
        loader = loader_of(path, ToDevice(device), batch_size=2, order=OrderOption.RANDOM, batches_ahead=3)
        found = []
        for _ in range(4):
            for batch in loader:
                if device != "cpu":
                    torch.cuda._sleep(2_000_000)  # the consumer is slow, the copies are in a hurry
                found.append(batch.image.clone())
        return [image.cpu() for image in found]

    assert all(torch.equal(a, b) for a, b in zip(batches("cpu"), batches("cuda"), strict=True))
