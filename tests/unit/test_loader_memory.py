"""What loaders keep in memory: batches ahead, slots, and nothing more; nothing leaks."""

import gc
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

import own_process
from datasets import write_photos
from ffcv import Loader, OrderOption
from ffcv.loader import slots
from ffcv.loader.slots import SlotPool
from ffcv.transforms import ToDevice
from photo_loaders import centre_crops
from small_files import write_numbers

COUNT = 24


def resident_kib() -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("VmRSS")).split()[1])


@pytest.mark.parametrize("os_cache", [True, False])
def test_many_loaders_dropped_in_mid_epoch_leave_nothing(beton: Path, os_cache: bool) -> None:
    """In a process with one malloc arena, or the memory that threads' arenas keep would hide or feign a leak."""
    result = own_process.run(
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

        before, *rounds = drop_some(50), drop_some(200), drop_some(200)
        threads, descriptors, _ = (b - a for a, b in zip(before, rounds[-1]))
        growth = [b[2] - a[2] for a, b in zip([before, *rounds], rounds)]
        print(threads, descriptors, min(growth))  # what leaks does so in every round
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
        iterator = iter(centre_crops(beton, Count(), batch_size=2, **options))
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


def test_a_batch_too_large_for_the_memory_is_a_memory_error() -> None:
    with pytest.raises(MemoryError, match="no memory for another 1,073,741,824 MiB of a batch: choose"):
        SlotPool(1, batches=1, max_bytes=1).allocate((1 << 50,), np.dtype(np.uint8))


def test_labels_take_no_slots_and_nothing_is_kept_after_closing(beton: Path) -> None:
    loader = centre_crops(beton, batches_ahead=2)
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

    def wait(self: slots._Unused, timeout_s: float) -> bool:
        signalled = self._nothing_new.acquire(timeout=0)
        clock[0] += 0.0 if signalled else timeout_s
        return signalled

    monkeypatch.setattr(slots, "time", SimpleNamespace(monotonic=lambda: clock[0]))
    monkeypatch.setattr(slots._Unused, "wait", wait)
    pool = SlotPool(2, batches=3, max_bytes=1 << 40)
    shape, dtype = (2 << 20,), np.dtype(np.float32)
    held = [pool.allocate(shape, dtype) for _ in range(100)]
    most = 2 * (3 + 2) * slots._GRACE_S + slots._GRACE_S  # for two blocks of each batch ahead, made and held
    assert 0 < clock[0] <= most
    del held[:6]  # blocks come back, so that it is worth waiting again
    before = clock[0]
    held += [pool.allocate(shape, dtype) for _ in range(7)]
    assert clock[0] > before


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here: copies to a GPU cannot be tested")
def test_copies_to_a_gpu_are_complete_before_memory_is_used_again(tmp_path: Path) -> None:
    path = write_photos(tmp_path / "photos.beton", 24)

    def batches(device: str) -> list[torch.Tensor]:
        loader = centre_crops(path, ToDevice(device), batch_size=2, order=OrderOption.RANDOM, batches_ahead=3)
        found = []
        for _ in range(4):
            for batch in loader:
                if device != "cpu":
                    torch.cuda._sleep(2_000_000)  # the consumer is slow, the copies are in a hurry
                found.append(batch.image.clone())
        return [image.cpu() for image in found]

    assert all(torch.equal(a, b) for a, b in zip(batches("cpu"), batches("cuda"), strict=True))
