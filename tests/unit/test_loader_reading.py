"""Where the bytes come from: requests, windows, pages; the same batches from the system's cache and from our own."""

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from ffcv import DatasetWriter, Loader, OrderOption, _core
from ffcv.fields import BytesField, IntField
from ffcv.loader.read_ahead import WindowSource, _requests, read_ahead
from ffcv.pipeline.source import FileSource
from ffcv.reader import Reader
from ffcv.transforms import BatchFunction, CenterCrop, RandomResizedCrop, ToTensor
from photo_loaders import random_crops
from small_files import write_numbers

COUNT = 23


@pytest.mark.parametrize("order", list(OrderOption))
def test_both_ways_of_reading_give_the_same(beton: Path, order: OrderOption) -> None:
    pairs = zip(random_crops(beton, order=order), random_crops(beton, order=order, os_cache=False), strict=True)
    for one, other in pairs:
        assert torch.equal(one.image, other.image)
        assert torch.equal(one.label, other.label)


def test_requests_are_joined_and_bounded() -> None:
    starts = np.array([0, 100, 300_000, 300_500, 9_000_000], np.uint64)
    sizes = np.array([100, 50, 500, 8_388_000, 10], np.uint64)
    assert _requests(starts, sizes) == [
        (0, 150, 0, 2),
        (300_000, 8_688_500, 2, 4),
        (9_000_000, 9_000_010, 4, 5),
    ]


def test_gaps_at_most_double_what_is_read() -> None:
    starts, sizes = np.arange(0, 1_000_000, 20_000, dtype=np.uint64), np.full(50, 4_000, np.uint64)
    assert sum(end - begin for begin, end, _, _ in _requests(starts, sizes)) <= 2 * int(sizes.sum())
    assert len(_requests(starts[:40] // np.uint64(3), sizes[:40])) == 1


def test_windows_bound_the_memory_and_read_only_what_is_used(beton: Path) -> None:
    source = FileSource(Reader(beton))
    batches = [np.arange(i, min(i + 4, COUNT)) for i in range(0, COUNT, 4)]
    sizes = [int(source.reader.sizes(source.rows(b)["image"]["data_ptr"].astype(np.uint64)).sum()) for b in batches]
    seen: list[WindowSource] = []

    def ungrouped() -> Iterator[tuple[np.ndarray, None]]:
        return ((batch, None) for batch in batches)

    for samples, window, _ in read_ahead(source, ungrouped(), {"image"}, window_bytes=2 * max(sizes)):
        assert window.nbytes <= 4 * max(sizes)
        pointers = source.rows(samples)["image"]["data_ptr"].astype(np.uint64)
        place = window.locate(pointers)
        assert place.file is None
        for pointer, offset in zip(pointers.tolist(), place.offsets.tolist(), strict=True):
            content = source.read(pointer)
            assert np.array_equal(place.storage[offset : offset + content.size], content)
            assert np.array_equal(window.read(pointer), content)
        seen.append(window)
    assert len({id(window) for window in seen}) > 1
    assert len(seen) == len(batches)
    for _, window, _ in read_ahead(source, ungrouped(), {"label"}):
        assert window.nbytes == 0


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve pages of eight values of 250,000 bytes."""
    path = tmp_path_factory.mktemp("pages") / "pages.beton"
    writer = DatasetWriter(path, {"blob": BytesField(), "label": IntField()}, page_size=1 << 21, num_workers=1)
    writer.from_indexed_dataset([(bytes([i]) * 250_000, i) for i in range(96)])
    return path


@pytest.mark.parametrize(("order", "most_requests"), [(OrderOption.QUASI_RANDOM, 12 + 4), (OrderOption.SEQUENTIAL, 12)])
def test_whole_pages_are_read_once_in_one_request(pages: Path, order: OrderOption, most_requests: int) -> None:
    """Of a quasi-random order all but the samples of batches that lie across the groups' borders: one of five has those
    of the next group in it, three times."""
    kwargs = {"pages_in_flight": 3} if order == OrderOption.QUASI_RANDOM else None
    loader = Loader(pages, 5, order=order, order_kwargs=kwargs, os_cache=False, seed=2, num_workers=1, drop_last=False)
    requests: list[int] = []

    class Counted:
        def __init__(self, file: Any) -> None:
            self.file = file

        def read(self, start: int, out: np.ndarray) -> None:
            requests.append(out.nbytes)
            self.file.read(start, out)

        def __getattr__(self, name: str) -> Any:
            return getattr(self.file, name)

    loader.plan.source.file = Counted(loader.plan.source.file)  # type: ignore[assignment]
    labels = []
    for batch in loader:
        assert torch.equal(batch.blob[:, 0].long(), batch.label.flatten())
        labels += batch.label.flatten().tolist()
    assert sorted(labels) == list(range(96))
    print(f"{order.name}: {len(requests)} requests, {sum(requests) / 96 / 250_000:.2f} times the bytes")
    assert len(requests) <= most_requests
    assert sum(requests) <= 1.25 * 96 * 250_000


def test_bytes_and_arrays_come_through_windows_too(tmp_path: Path) -> None:
    path = write_numbers(tmp_path / "numbers.beton", 40)
    loaders = [Loader(path, 8, shuffle=True, seed=1, os_cache=os_cache) for os_cache in (True, False)]
    for one, other in zip(*loaders, strict=True):
        assert all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


def test_an_exception_does_not_wait_for_reads_under_way(copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ffcv.loader.read_ahead._FIRST_WINDOW", 1)
    first, release, ended = threading.Event(), threading.Event(), threading.Event()

    class Slow:
        def __init__(self, file: Any) -> None:
            self.file = file

        def read(self, *args: Any) -> None:
            if first.is_set():
                release.wait(60)
                ended.set()
            first.set()
            self.file.read(*args)

        def __getattr__(self, name: str) -> Any:
            return getattr(self.file, name)

    def fails(images: torch.Tensor) -> torch.Tensor:
        raise RuntimeError("no good")

    pipelines = {"image": [RandomResizedCrop((24, 24)), ToTensor(), BatchFunction(fails)]}
    loader = Loader(copy, 1, os_cache=False, pipelines=pipelines, num_workers=1)
    loader.plan.source.file = Slow(loader.plan.source.file)  # type: ignore[assignment]
    iterator = iter(loader)
    with pytest.raises(RuntimeError, match="no good"):
        next(iterator)
    assert not ended.is_set()
    release.set()
    iterator.close()


def test_the_core_names_the_offset_of_a_failed_read(tmp_path: Path) -> None:
    path = tmp_path / "short"
    path.write_bytes(b"0123456789")
    file = _core.StorageFile(str(path))
    out = np.zeros(4, np.uint8)
    file.read(3, out)
    assert out.tobytes() == b"3456"
    file.read_rows(1, 2, np.array([0, 1, 3], np.int64), rows := np.zeros(6, np.uint8))
    assert rows.tobytes() == b"123478"
    with pytest.raises(_core.ReadError, match="only 2 of 4 bytes at offset 8 of the file are there"):
        file.read(8, out)
    with pytest.raises(_core.ReadError, match="Is a directory"):
        _core.StorageFile(str(tmp_path)).read(0, out)
    with pytest.raises(OSError, match=r"^cannot be opened: No such file"):
        _core.StorageFile(str(tmp_path / "absent"))
    with pytest.raises(ValueError, match="one row an index"):
        file.read_rows(0, 2, np.array([0], np.int64), out)


def test_one_sample_by_its_index(beton: Path) -> None:
    loader = random_crops(beton, seed=4, return_indices=True)
    batch = next(iter(loader))
    again = random_crops(beton, seed=4, return_indices=True)
    assert torch.equal(again[2].image, batch.image[2])
    assert again[-1].label.tolist() == [COUNT - 1]
    assert int(again[2].sample_index) == 2
    with pytest.raises(IndexError, match="sample 23 of a file of 23"):
        again[COUNT]
    view = Loader(beton, 2, pipelines={"image": [CenterCrop((8, 8), 1.0)]})[0].image
    assert view.shape == (8, 8, 3)
