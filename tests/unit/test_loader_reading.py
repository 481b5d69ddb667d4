"""Where the bytes come from, and what happens when they cannot be had."""

import errno
import os
import pickle
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from datasets import photo_samples, write_photos
from ffcv import DatasetWriter, Loader, OrderOption, _core
from ffcv._file_bytes import FileBytes
from ffcv.errors import DecodeError, FormatError
from ffcv.fields import BytesField, EncodedImage, IntField, RGBImageField
from ffcv.fields.rgb_image import encode_jpeg
from ffcv.loader.read_ahead import WindowSource, _requests, read_ahead
from ffcv.pipeline.source import FileSource
from ffcv.reader import Reader
from ffcv.transforms import BatchFunction, CenterCrop, RandomResizedCrop, ToTensor
from small_files import write_numbers

COUNT = 23


@pytest.fixture(scope="module")
def beton(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_photos(tmp_path_factory.mktemp("reading") / "photos.beton", COUNT)


@pytest.fixture(params=[True, False], ids=["os_cache", "own_cache"])
def os_cache(request: pytest.FixtureRequest) -> bool:
    return request.param


@pytest.fixture
def copy(beton: Path, tmp_path: Path) -> Path:
    path = tmp_path / "copy.beton"
    path.write_bytes(beton.read_bytes())
    return path


def loader_of(path: Path, **options: Any) -> Loader:
    defaults: dict[str, Any] = {"batch_size": 4, "num_workers": 2, "seed": 3, "drop_last": False, "batches_ahead": 1}
    return Loader(path, pipelines={"image": [RandomResizedCrop((24, 24)), ToTensor()]}, **(defaults | options))


def image_starts(path: Path) -> np.ndarray:
    return Reader(path).metadata["image"]["data_ptr"].astype(np.int64)


@pytest.mark.parametrize("order", list(OrderOption))
def test_both_ways_of_reading_give_the_same(beton: Path, order: OrderOption) -> None:
    pairs = zip(loader_of(beton, order=order), loader_of(beton, order=order, os_cache=False), strict=True)
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

    for samples, window in read_ahead(source, ungrouped(), {"image"}, window_bytes=2 * max(sizes)):
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
    for _, window in read_ahead(source, ungrouped(), {"label"}):
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


def test_a_file_that_shrinks_is_an_exception(copy: Path, os_cache: bool) -> None:
    start = int(image_starts(copy)[9])
    loader = loader_of(copy, os_cache=os_cache)
    iterator = iter(loader)
    next(iterator)
    os.truncate(copy, start + 10)
    with pytest.raises(FormatError, match=rf"size changed from \d+ to {start + 10} bytes .* sample \d+ \(offset \d+\)"):
        list(iterator)


def test_a_file_that_vanishes_to_nothing_is_no_signal(copy: Path, os_cache: bool) -> None:
    """In a process of its own: a SIGBUS would end it."""
    code = f"""
import os, sys
sys.path.insert(0, {str(Path(__file__).parents[1])!r})
from ffcv import Loader
from ffcv.transforms import CenterCrop
pipelines = {{"image": [CenterCrop((16, 16), 1.0)]}}
loader = Loader({str(copy)!r}, 2, os_cache={os_cache}, pipelines=pipelines, batches_ahead=1)
iterator = iter(loader)
next(iterator)
os.truncate({str(copy)!r}, 0)
try:
    list(iterator)
except ValueError as error:
    print("caught", type(error).__name__)
"""
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (result.returncode, result.stdout) == (0, "caught FormatError\n"), result.stderr


def test_a_file_that_shrinks_while_it_is_opened_is_no_signal(copy: Path) -> None:
    """Truncated before each read of opening, of the first batches and of the first checkpoint, one after the other."""
    code = f"""
import os
from ffcv import Loader
from ffcv._file_bytes import FileBytes
from ffcv.errors import FormatError
from ffcv.transforms import CenterCrop
path = {str(copy)!r}
content = open(path, "rb").read()
read = FileBytes._read
left = size = 0
def shrinking(self, start, out):
    global left
    if left == 0:
        os.truncate(path, size)
    left -= 1
    read(self, start, out)
FileBytes._read = shrinking
for size in (0, 100, 5000, len(content) - 1):
    for step in range(100):
        with open(path, "wb") as file:
            file.write(content)
        left = step
        try:
            loader = Loader(path, 2, pipelines={{"image": [CenterCrop((16, 16), 1.0)]}}, num_workers=1)
            loader.state_dict()
            list(loader)
        except FormatError:
            assert left < 0, "it failed although nothing had happened"
            continue
        assert left >= 0, f"truncated at read {{step}} to {{size}} bytes, and nobody noticed"
        break
    print(step > 3, step < 99)
"""
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (result.returncode, result.stdout) == (0, "True True\n" * 4), result.stderr


def test_a_file_that_changes_while_it_is_opened_is_refused(copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read = FileBytes._read

    def touching(self: FileBytes, start: int, out: np.ndarray) -> None:
        read(self, start, out)
        os.utime(copy, ns=(1, 1))

    monkeypatch.setattr(FileBytes, "_read", touching)
    with pytest.raises(FormatError, match=r"changed while it was being read \(\d+ bytes then, \d+ now\)"):
        loader_of(copy)


def test_a_file_that_is_written_to_or_replaced_is_an_exception(copy: Path, beton: Path, os_cache: bool) -> None:
    iterator = iter(loader_of(copy, os_cache=os_cache))
    next(iterator)
    with copy.open("r+b") as file:
        file.seek(int(image_starts(beton)[0]) + 500)
        file.write(b"zz")
    status = copy.stat()
    os.utime(copy, ns=(status.st_atime_ns, status.st_mtime_ns + 1_000_000))  # coarse clocks
    with pytest.raises(FormatError, match="it was written to while it was open"):
        list(iterator)

    copy.write_bytes(beton.read_bytes())
    iterator = iter(loader_of(copy, os_cache=os_cache))
    next(iterator)
    other = copy.with_name("other.beton")
    other.write_bytes(beton.read_bytes())
    other.replace(copy)
    with pytest.raises(FormatError, match="replaced by another file"):
        list(iterator)


def test_a_deleted_file_stays_readable(copy: Path, os_cache: bool) -> None:
    iterator = iter(loader_of(copy, os_cache=os_cache))
    next(iterator)
    copy.unlink()
    assert len(list(iterator)) == 5


def test_a_relative_path_is_that_of_opening(copy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / copy.name).write_bytes(copy.read_bytes())
    monkeypatch.chdir(copy.parent)
    loader = loader_of(Path(copy.name))
    monkeypatch.chdir(elsewhere)
    assert len(list(loader)) == 6
    assert len(list(pickle.loads(pickle.dumps(loader)))) == 6
    (elsewhere / copy.name).unlink()
    assert len(list(pickle.loads(pickle.dumps(loader)))) == 6


def test_a_folder_that_became_a_file_has_deleted_what_was_in_it(copy: Path, tmp_path: Path, os_cache: bool) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    copy.rename(folder / copy.name)
    iterator = iter(loader_of(folder / copy.name, os_cache=os_cache))
    next(iterator)
    folder.rename(tmp_path / "moved")
    folder.write_bytes(b"")
    assert len(list(iterator)) == 5


@pytest.mark.parametrize(
    ("call", "number", "message"),
    [
        ("stat", errno.ESTALE, r"its path could not be examined any more \(Stale file handle\)"),
        ("stat", errno.EACCES, r"its path could not be examined any more \(Permission denied\)"),
        ("fstat", errno.EIO, r"it could not be examined any more \(Input/output error\)"),
    ],
)
def test_what_a_network_drive_says_names_the_sample(
    copy: Path, os_cache: bool, monkeypatch: pytest.MonkeyPatch, call: str, number: int, message: str
) -> None:
    loader = loader_of(copy, os_cache=os_cache)

    def fails(*args: Any) -> None:
        raise OSError(number, os.strerror(number))

    with monkeypatch.context() as patched:
        patched.setattr(os, call, fails)
        with pytest.raises(FormatError, match=rf"{message} while it was open, noticed at sample 0 \(offset \d+\)"):
            next(iter(loader))
    assert len(list(loader)) == 6


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
    with pytest.raises(OSError, match="cannot be opened: No such file"):
        _core.StorageFile(str(tmp_path / "absent"))
    with pytest.raises(ValueError, match="one row an index"):
        file.read_rows(0, 2, np.array([0], np.int64), out)


@pytest.fixture
def damaged(copy: Path) -> Path:
    """Samples 6 and 7 are no JPEGs any more."""
    content = bytearray(copy.read_bytes())
    for start in image_starts(copy)[6:8].tolist():
        content[start + 300 : start + 500] = b"\xff\xd9" * 100
    copy.write_bytes(content)
    return copy


def test_bad_samples_raise_and_are_named(damaged: Path, os_cache: bool) -> None:
    with pytest.raises(DecodeError, match=r"sample 6, field 'image': .* \(and 1 more of this batch\)") as caught:
        list(loader_of(damaged, os_cache=os_cache))
    assert set(caught.value.samples) == {6, 7}  # type: ignore[attr-defined]


def test_bad_samples_are_skipped(damaged: Path, os_cache: bool) -> None:
    loader = loader_of(damaged, os_cache=os_cache, on_error="skip", return_indices=True, return_params=True)
    for _ in range(2):
        batches = list(loader)
        assert [batch.sample_index.tolist() for batch in batches][1] == [4, 5]
        assert [len(batch.image) for batch in batches] == [4, 2, 4, 4, 4, 3]
        assert all(batch.sample_index.tolist() == batch.label.flatten().tolist() for batch in batches)
        assert len(batches[1].params["image"]["0:crop"].top) == 2
    assert loader.bad_samples.skipped == 4
    assert set(loader.bad_samples.messages) == {6, 7}


def test_batches_of_bad_samples_only_are_left_out(damaged: Path, os_cache: bool) -> None:
    loader = loader_of(damaged, on_error="skip", batch_size=1, os_cache=os_cache, return_indices=True)
    for epoch in range(3):
        assert [batch.sample_index.item() for batch in loader] == [*range(6), *range(8, COUNT)]
        assert loader.bad_samples.skipped == 2 * (epoch + 1)
        assert loader.next_epoch == epoch + 1
    loader = loader_of(damaged, on_error="skip", indices=[6, 7], batch_size=1, os_cache=os_cache)
    for _ in range(2):  # nothing at all is left
        with pytest.raises(DecodeError, match="sample 7"):
            list(loader)


def test_bad_samples_are_replaced_by_the_same_ones_always(damaged: Path, beton: Path, os_cache: bool) -> None:
    def labels(**options: Any) -> list[int]:
        loader = loader_of(damaged, os_cache=os_cache, on_error="replace", return_indices=True, **options)
        found = []
        for batch in loader:
            assert batch.sample_index.tolist() == batch.label.flatten().tolist()
            found += batch.label.flatten().tolist()
        assert loader.bad_samples.replaced == 2
        return found

    first = labels()
    assert first[:6] + first[8:] == [*range(6), *range(8, COUNT)]
    assert not {6, 7} & set(first)
    assert labels(batch_size=7, num_workers=4) == first
    parts = [labels_of_rank(damaged, rank) for rank in range(2)]
    assert sorted(parts[0] + parts[1]) == sorted(first)
    good = loader_of(beton)
    for clean, mended in zip(good, loader_of(damaged, on_error="replace"), strict=True):
        same = (clean.label == mended.label).flatten()
        assert torch.equal(clean.image[same], mended.image[same])


def test_replacements_are_samples_of_the_epoch(damaged: Path, os_cache: bool) -> None:
    chosen = [6, 7, 1, 2, 3, 1]
    loader = loader_of(damaged, os_cache=os_cache, on_error="replace", sampler=chosen)
    found = [label for batch in loader for label in batch.label.flatten().tolist()]
    assert found[2:] == chosen[2:]
    assert set(found[:2]) <= {1, 2, 3}
    for other in (1, 3, 4):  # whatever the seed: most of the file's samples are none of the sampler's
        labels = [batch.label for batch in loader_of(damaged, on_error="replace", sampler=chosen, seed=other)]
        assert set(torch.cat(labels).flatten().tolist()) == {1, 2, 3}


@pytest.mark.parametrize("policy", ["skip", "replace"])
def test_filtering_leaves_bad_samples_out(damaged: Path, policy: str) -> None:
    kept = loader_of(damaged, on_error=policy).filter("image", lambda image: True)
    assert kept.indices.tolist() == [*range(6), *range(8, COUNT)]
    assert kept.bad_samples.policy == policy


def labels_of_rank(path: Path, rank: int) -> list[int]:
    loader = loader_of(path, on_error="replace", rank=rank, world_size=2)
    return [label for batch in loader for label in batch.label.flatten().tolist()]


def test_nothing_good_is_left(damaged: Path) -> None:
    loader = loader_of(damaged, indices=[6, 7], on_error="replace")
    for _ in range(2):
        with pytest.raises(DecodeError, match="sample 6"):
            list(loader)
    with pytest.raises(ValueError, match="on_error must be 'raise', 'skip' or 'replace', got 'ignore'"):
        loader_of(damaged, on_error="ignore")


def test_a_damaged_value_of_a_column_is_named_and_skipped(tmp_path: Path) -> None:
    path = write_numbers(tmp_path / "numbers.beton", 20)
    reader = Reader(path)
    if reader.checksums is None:
        pytest.skip("this file has no checksums, so that damage to arrays cannot be seen")
    start = int(reader.metadata["array"][5])
    content = bytearray(path.read_bytes())
    content[start] ^= 1
    path.write_bytes(content)
    with pytest.raises(DecodeError, match=r"sample 5, field 'array': .*checksum"):
        list(Loader(path, 4))
    loader = Loader(path, 4, on_error="skip", drop_last=False)
    assert [len(batch[0]) for batch in loader] == [4, 3, 4, 4, 4]


def test_a_jpeg_of_another_size_than_the_metadata_says_is_refused(tmp_path: Path) -> None:
    photo = photo_samples(1)[0][0]
    jpeg = encode_jpeg(np.ascontiguousarray(photo[:40, :48]), 90)
    for height, width in ((24, 30), (80, 90), (40, 47)):
        path = tmp_path / "sizes.beton"
        writer = DatasetWriter(path, {"image": RGBImageField()}, num_workers=1)
        writer.from_indexed_dataset([(EncodedImage(jpeg, height, width),)])
        with pytest.raises(DecodeError, match=f"JPEG is 40x48 .*, but the file's metadata says {height}x{width}"):
            list(Loader(path, 1, pipelines={"image": [CenterCrop((8, 8), 0.2), ToTensor()]}))


def test_the_first_sample_beyond_the_end_is_named(tmp_path: Path) -> None:
    path = tmp_path / "blobs.beton"
    contents = [b"", b"", b"a" * 3000, b"b" * 3000, b"c" * 3000]
    DatasetWriter(path, {"blob": BytesField()}, num_workers=1).from_indexed_dataset([(c,) for c in contents])
    loader = Loader(path, 5)
    os.truncate(path, int(loader.reader.metadata["blob"]["ptr"][4]))
    with pytest.raises(FormatError, match="noticed at sample 4 "):
        list(loader)


def test_one_sample_by_its_index(beton: Path) -> None:
    loader = loader_of(beton, seed=4, return_indices=True)
    batch = next(iter(loader))
    again = loader_of(beton, seed=4, return_indices=True)
    assert torch.equal(again[2].image, batch.image[2])
    assert again[-1].label.tolist() == [COUNT - 1]
    assert int(again[2].sample_index) == 2
    with pytest.raises(IndexError, match="sample 23 of a file of 23"):
        again[COUNT]
    view = Loader(beton, 2, pipelines={"image": [CenterCrop((8, 8), 1.0)]})[0].image
    assert view.shape == (8, 8, 3)
