"""What happens to samples that cannot be decoded, where several see them, and afterwards."""

import gc
import os
import pickle
import threading
import time
import weakref
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from datasets import InMemory, photo_samples, write_photos
from ffcv import DatasetWriter, Loader
from ffcv.errors import FormatError
from ffcv.fields import BytesField, RGBImageField
from ffcv.loader.bad_samples import BadSamples
from ffcv.loader.read_ahead import WindowSource
from ffcv.loader.selection import Selection
from ffcv.loader.slots import SlotPool, _Lease
from ffcv.pipeline.plan import SampleError
from ffcv.reader import Reader
from ffcv.transforms import CenterCrop, RandomResizedCrop, ToTensor

COUNT = 12


@pytest.fixture
def damaged(tmp_path: Path) -> Path:
    """The last sample is not what was written."""
    path = write_photos(tmp_path / "photos.beton", COUNT)
    content = bytearray(path.read_bytes())
    start = int(Reader(path).metadata["image"]["data_ptr"][-1])
    content[start + 100 : start + 300] = b"\xff\xd9" * 100
    path.write_bytes(content)
    return path


def loader_of(path: Path, **options: Any) -> Loader:
    pipelines = {"image": [RandomResizedCrop((24, 24)), ToTensor()]}
    defaults: dict[str, Any] = {"batch_size": 4, "num_workers": 1, "seed": 3, "drop_last": False, "on_error": "skip"}
    return Loader(path, pipelines=pipelines, **(defaults | options))


def count_of(*kinds: type) -> int:
    return sum(type(each) in kinds for each in gc.get_objects())


def test_an_error_that_is_kept_holds_no_memory(damaged: Path) -> None:
    gc.collect()
    before = count_of(WindowSource, _Lease)
    loader = loader_of(damaged, os_cache=False)
    assert sum(len(batch.image) for batch in loader) == COUNT - 1
    assert isinstance(loader.bad_samples.error, SampleError)
    gc.collect()
    assert count_of(WindowSource, _Lease) <= before  # fewer: what other tests have left goes, too
    loader = loader_of(damaged, os_cache=False, indices=[COUNT - 1])
    with pytest.raises(SampleError):
        list(loader)
    gc.collect()
    assert count_of(WindowSource, _Lease) <= before


def test_a_second_attempt_takes_no_second_memory(damaged: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    alive: weakref.WeakSet[Any] = weakref.WeakSet()
    at_once: list[int] = []
    allocate = SlotPool.allocate

    def counted(self: SlotPool, *arguments: Any) -> np.ndarray:
        at_once.append(len(alive) + 1)
        array = allocate(self, *arguments)
        alive.add(array.base)  # the lease
        return array

    monkeypatch.setattr(SlotPool, "allocate", counted)
    loader = loader_of(damaged, batch_size=COUNT)
    assert [len(batch.image) for batch in loader] == [COUNT - 1]
    assert at_once == [1, 1]


@pytest.mark.parametrize("os_cache", [True, False])
def test_a_loader_that_raised_goes_with_its_error(damaged: Path, os_cache: bool) -> None:
    gc.collect()
    gc.disable()  # no cycles: memory goes at once
    try:
        loader = loader_of(damaged, os_cache=os_cache, on_error="raise")
        alive = weakref.ref(loader)
        with suppress(SampleError):
            for _ in loader:
                pass
        del loader, _
        deadline = time.monotonic() + 5
        while alive() is not None and time.monotonic() < deadline:
            time.sleep(0.01)
        assert alive() is None
    finally:
        gc.enable()


def test_two_that_meet_the_same_bad_sample_at_once_both_go_on() -> None:
    bad, both = BadSamples("skip", 0), threading.Barrier(2)
    found: list[Any] = []

    def go() -> None:
        attempts = 0

        def render(samples: np.ndarray) -> list[int]:
            nonlocal attempts
            attempts += 1
            if attempts == 1:
                both.wait()
            if 3 in samples:
                raise SampleError("a.beton", "image", {3: "damaged"})
            return samples.tolist()

        found.append(bad.render(np.arange(5), render, lambda: Selection(None, 5)))

    threads = [threading.Thread(target=go) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [[0, 1, 2, 4]] * 2
    assert bad.skipped == 2


def test_messages_may_be_gone_through_while_there_are_more() -> None:
    bad = BadSamples("skip", 0)

    def meet(sample: int) -> None:
        def render(samples: np.ndarray) -> None:
            if sample in samples:
                raise SampleError("a.beton", "image", {sample: "damaged"})

        bad.render(np.arange(5), render, lambda: Selection(None, 5))

    meet(3)
    messages = iter(bad.messages.items())
    meet(4)
    assert list(messages) == [(3, "damaged")]
    assert bad.messages == {3: "damaged", 4: "damaged"}


def test_an_error_of_samples_that_nobody_asked_for_ends_the_attempts() -> None:
    def render(samples: np.ndarray) -> None:
        raise SampleError("a.beton", "image", {9: "damaged"})

    with pytest.raises(SampleError, match="sample 9"):
        BadSamples("skip", 0).render(np.arange(5), render, lambda: Selection(None, 5))


def test_a_run_that_goes_on_before_bad_samples_ends_as_it_would_have(damaged: Path) -> None:
    loader = loader_of(damaged, batch_size=1)
    states = [loader.state_dict() for _ in loader]
    assert len(states) == COUNT - 1
    other = loader_of(damaged, batch_size=1)
    other.load_state_dict(states[-1])
    assert list(other) == []
    assert other.next_epoch == 1
    assert len(list(other)) == COUNT - 1


def test_the_error_comes_whole_from_another_process() -> None:
    error = pickle.loads(pickle.dumps(SampleError("a.beton", "image", {3: "damaged", 5: "truncated"})))
    assert (error.path, error.field, error.samples) == ("a.beton", "image", {3: "damaged", 5: "truncated"})
    assert "a.beton: sample 3, field 'image': damaged (and 1 more of this batch)" in str(error)


@pytest.mark.parametrize("policy", ["raise", "skip", "replace"])
@pytest.mark.parametrize("os_cache", [True, False])
@pytest.mark.parametrize("left_out", ["image", "label"])
def test_a_drive_that_gives_nothing_any_more_makes_no_sample_bad(
    tmp_path: Path, policy: str, os_cache: bool, left_out: str
) -> None:
    path = tmp_path / "photos.beton"
    fields = {"image": RGBImageField(write_mode="jpg"), "label": BytesField()}
    samples = [(image, bytes([index])) for image, index in photo_samples(COUNT)]
    DatasetWriter(path, fields, num_workers=1).from_indexed_dataset(InMemory(samples))
    pipelines = {"image": [CenterCrop((8, 8), 1)]} | {left_out: None}
    loader = Loader(path, 4, pipelines=pipelines, on_error=policy, os_cache=os_cache, num_workers=1)  # type: ignore[arg-type]
    writable = os.open(path, os.O_WRONLY)  # the same file, which the system says is as it was
    os.dup2(writable, loader.reader.bytes.file.fileno())
    os.close(writable)
    with pytest.raises(FormatError, match=r"photos.beton: sample 0, field '\w+': cannot read \d+ bytes at offset \d+"):
        list(loader)
    assert not loader.bad_samples.messages
