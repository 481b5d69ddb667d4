"""The next batch is prepared while one is rendered; nothing shows of that but the time."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from datasets import write_photos
from ffcv import Loader, _core
from ffcv.loader.production import Ahead
from ffcv.loader.read_ahead import with_next
from ffcv.pipeline.plan import Prepared
from ffcv.pipeline.steps import BatchKey
from ffcv.transforms import CenterCrop, RandomHorizontalFlip, RandomResizedCrop, ToTensor
from ffcv.traversal_order import TraversalOrder


def prepared_for(key: BatchKey) -> Prepared:
    return Prepared(key, np.empty(0), {}, [])


def test_a_batch_is_prepared_once_unless_its_samples_are_others() -> None:
    asked: list[BatchKey] = []

    def prepare(key: BatchKey) -> Prepared:
        asked.append(key)
        return prepared_for(key)

    ahead = Ahead(prepare)
    first, second = BatchKey(np.arange(3), 0, 0), BatchKey(np.arange(3, 6), 0, 1)
    ahead.prepare(second)
    assert ahead.take(second).key is second
    assert len(asked) == 1
    ahead.prepare(first)
    assert ahead.take(second).key is second, "what was prepared for other samples is not used"
    assert ahead.take(first).key is first, "nor kept"
    assert len(asked) == 4


def test_what_goes_wrong_ahead_goes_wrong_in_its_turn() -> None:
    """Once: what a user's transform raises the first time it may not raise again."""
    asked: list[int] = []

    def prepare(key: BatchKey) -> Prepared:
        asked.append(key.counter)
        raise ValueError(f"batch {key.counter}")

    ahead, key = Ahead(prepare), BatchKey(np.arange(3), 0, 7)
    ahead.prepare(key)
    with pytest.raises(ValueError, match="batch 7"):
        ahead.take(key)
    assert asked == [7]


def test_with_next_keeps_an_exception_for_its_turn() -> None:
    def items() -> Iterator[int]:
        yield from range(3)
        raise ValueError("after 2")

    pairs = with_next(items())
    assert [next(pairs) for _ in range(3)] == [(0, 1), (1, 2), (2, None)]
    with pytest.raises(ValueError, match="after 2"):
        next(pairs)
    assert list(with_next(iter("a"))) == [("a", None)]
    assert not list(with_next(iter(())))


def _render(meanwhile: Callable[[], None] | None) -> None:
    out = np.zeros((4, 8, 8, 3), np.uint8)
    boxes = np.tile(np.array([[0, 0, 8, 8]], np.int32), (4, 1))
    view = _core.View(boxes, None, 8, 8, [], out, False, [1, 1, 1], [0, 0, 0])
    pixels = np.arange(4 * 192, dtype=np.uint64).astype(np.uint8)
    offsets, sizes = np.arange(4, dtype=np.uint64) * np.uint64(192), np.full(4, 192, np.uint64)
    shapes, modes = np.full((4, 2), 8, np.int32), np.ones(4, np.uint8)
    assert _core.Renderer(2).render(pixels, offsets, sizes, modes, shapes, [view], meanwhile=meanwhile) == []
    assert np.array_equal(out.ravel(), pixels)


def test_the_core_calls_meanwhile_in_the_callers_thread() -> None:
    threads: list[int] = []
    _render(lambda: threads.append(threading.get_ident()))
    assert threads == [threading.get_ident()]
    _render(None)


def test_an_exception_of_meanwhile_comes_after_the_rendering() -> None:
    def fail() -> None:
        raise KeyError("meanwhile")

    with pytest.raises(KeyError, match="meanwhile"):
        _render(fail)


@pytest.mark.parametrize("os_cache", [True, False])
def test_every_batch_but_the_first_is_prepared_ahead(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, os_cache: bool
) -> None:
    monkeypatch.setattr("ffcv.loader.read_ahead._FIRST_WINDOW", 1 << 14)  # so that batches come from several windows
    path = write_photos(tmp_path / "images.beton", 40)
    pipeline = [RandomResizedCrop((16, 16)), RandomHorizontalFlip(), ToTensor()]
    loader = Loader(path, 4, shuffle=True, seed=3, num_workers=2, os_cache=os_cache, pipelines={"image": pipeline})
    ahead: list[int] = []
    turns: list[int] = []
    prepare, take = Ahead.prepare, Ahead.take
    monkeypatch.setattr(Ahead, "prepare", lambda self, key: (ahead.append(key.counter), prepare(self, key))[1])
    monkeypatch.setattr(
        Ahead, "take", lambda self, key: (turns.append(key.counter * (self._next is not None)), take(self, key))[1]
    )
    assert len(list(loader)) == 10
    assert ahead == list(range(1, 10))
    assert turns == list(range(10)), "all but the first were ready when their turn came"


@pytest.mark.parametrize(("os_cache", "window"), [(True, 0), (False, 1), (False, 1 << 20)])
def test_an_order_that_breaks_off_hands_out_what_came_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, os_cache: bool, window: int
) -> None:
    monkeypatch.setattr("ffcv.loader.read_ahead._FIRST_WINDOW", window)  # a batch a window, or all in one

    class Breaking(TraversalOrder):
        def sample_order(self, epoch: int) -> np.ndarray:
            return np.r_[np.arange(8), -5, np.arange(9, 12)]  # no sample of the third batch of four

        def epoch_length(self, epoch: int) -> int:
            return 12

    path = write_photos(tmp_path / "images.beton", 12)
    pipelines = {"image": [CenterCrop((16, 16), 1.0), ToTensor()]}
    options: dict = {"order": Breaking, "num_workers": 1, "return_indices": True, "os_cache": os_cache}
    loader = Loader(path, 4, pipelines=pipelines, **options)
    batches = iter(loader)
    assert [next(batches).sample_index.tolist() for _ in range(2)] == [[0, 1, 2, 3], [4, 5, 6, 7]]
    with pytest.raises((ValueError, IndexError), match="-5"):
        next(batches)
