"""How much is in memory while samples are read ahead, and how memory comes back."""

import weakref
from collections import deque
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from datasets import write_photos
from ffcv import Loader
from ffcv.loader import production, read_ahead
from ffcv.loader.slots import _Unused
from ffcv.pipeline.source import FileSource
from ffcv.reader import Reader
from ffcv.transforms import RandomResizedCrop, ToTensor
from small_files import NUMBERS_ONLY, write_numbers


def test_two_windows_are_in_memory_at_most(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_photos(tmp_path / "photos.beton", 60)
    alive: weakref.WeakSet[read_ahead.WindowSource] = weakref.WeakSet()
    counts: list[int] = []
    make = read_ahead.WindowSource.__init__

    def noted(self: read_ahead.WindowSource, *arguments: Any) -> None:
        make(self, *arguments)
        alive.add(self)
        counts.append(len(alive))

    monkeypatch.setattr(read_ahead.WindowSource, "__init__", noted)
    monkeypatch.setattr(production, "read_ahead", partial(read_ahead.read_ahead, window_bytes=1 << 17))
    pipelines = {"image": [RandomResizedCrop((24, 24)), ToTensor()]}
    with Loader(path, 4, os_cache=False, num_workers=1, seed=3, pipelines=pipelines) as loader:
        assert sum(1 for _ in loader) == 15
    assert len(counts) > 4
    assert max(counts) == 2


def test_values_without_bytes_come_in_windows_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(read_ahead, "_MOST_SAMPLES", 40)
    path, asked = write_numbers(tmp_path / "numbers.beton", 1000), 0

    def batches() -> Iterator[tuple[np.ndarray, None]]:
        nonlocal asked
        for start in range(0, 1000, 10):
            asked += 1
            yield np.arange(start, start + 10), None

    pairs = read_ahead.read_ahead(FileSource(Reader(path)), batches(), ["index"])
    next(pairs)
    assert asked <= 10  # two windows of four batches, and the first that does not fit
    pairs.close()
    with Loader(path, 10, os_cache=False, num_workers=1, pipelines=NUMBERS_ONLY) as loader:
        assert [int(batch[0][0]) for batch in loader] == list(range(0, 1000, 10))


class _TakenMeanwhile(deque[torch.Tensor]):
    """Whoever asks is told that there is one, and finds that another thread has been faster."""

    def __bool__(self) -> bool:
        return True


def test_a_block_that_another_thread_takes_is_no_error() -> None:
    unused = _Unused(2)
    unused._back = _TakenMeanwhile()
    assert not unused.look()
    unused.put(torch.empty(1))
    assert unused.look()
    assert len(unused.known) == 1
