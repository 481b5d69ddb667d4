"""Files that change, shrink, move or vanish while they are read: an exception that says so, never a signal."""

import errno
import os
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import own_process
from datasets import image_starts
from ffcv import DatasetWriter, Loader
from ffcv._file_bytes import FileBytes
from ffcv.errors import FormatError
from ffcv.fields import BytesField
from photo_loaders import random_crops

COUNT = 23


def test_a_file_that_shrinks_is_an_exception(copy: Path, os_cache: bool) -> None:
    start = int(image_starts(copy)[9])
    loader = random_crops(copy, os_cache=os_cache)
    iterator = iter(loader)
    next(iterator)
    os.truncate(copy, start + 10)
    with pytest.raises(FormatError, match=rf"size changed from \d+ to {start + 10} bytes .* sample \d+ \(offset \d+\)"):
        list(iterator)


def test_a_file_that_vanishes_to_nothing_is_no_signal(copy: Path, os_cache: bool) -> None:
    """In a process of its own: a SIGBUS would end it."""
    code = f"""
import os
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
    result = own_process.run(code)
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
    result = own_process.run(code)
    assert (result.returncode, result.stdout) == (0, "True True\n" * 4), result.stderr


def test_a_file_that_changes_while_it_is_opened_is_refused(copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read = FileBytes._read

    def touching(self: FileBytes, start: int, out: np.ndarray) -> None:
        read(self, start, out)
        os.utime(copy, ns=(1, 1))

    monkeypatch.setattr(FileBytes, "_read", touching)
    with pytest.raises(FormatError, match=r"changed while it was being read \(\d+ bytes then, \d+ now\)"):
        random_crops(copy)


def test_a_file_that_is_written_to_or_replaced_is_an_exception(copy: Path, beton: Path, os_cache: bool) -> None:
    iterator = iter(random_crops(copy, os_cache=os_cache))
    next(iterator)
    with copy.open("r+b") as file:
        file.seek(int(image_starts(beton)[0]) + 500)
        file.write(b"zz")
    status = copy.stat()
    os.utime(copy, ns=(status.st_atime_ns, status.st_mtime_ns + 1_000_000))  # coarse clocks
    with pytest.raises(FormatError, match="it was written to while it was open"):
        list(iterator)

    copy.write_bytes(beton.read_bytes())
    iterator = iter(random_crops(copy, os_cache=os_cache))
    next(iterator)
    other = copy.with_name("other.beton")
    other.write_bytes(beton.read_bytes())
    other.replace(copy)
    with pytest.raises(FormatError, match="replaced by another file"):
        list(iterator)


def test_a_deleted_file_stays_readable(copy: Path, os_cache: bool) -> None:
    iterator = iter(random_crops(copy, os_cache=os_cache))
    next(iterator)
    copy.unlink()
    assert len(list(iterator)) == 5


def test_a_relative_path_is_that_of_opening(copy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / copy.name).write_bytes(copy.read_bytes())
    monkeypatch.chdir(copy.parent)
    loader = random_crops(Path(copy.name))
    monkeypatch.chdir(elsewhere)
    assert len(list(loader)) == 6
    assert len(list(pickle.loads(pickle.dumps(loader)))) == 6
    (elsewhere / copy.name).unlink()
    assert len(list(pickle.loads(pickle.dumps(loader)))) == 6


def test_a_folder_that_became_a_file_has_deleted_what_was_in_it(copy: Path, tmp_path: Path, os_cache: bool) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    copy.rename(folder / copy.name)
    iterator = iter(random_crops(folder / copy.name, os_cache=os_cache))
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
    loader = random_crops(copy, os_cache=os_cache)

    def fails(*args: Any) -> None:
        raise OSError(number, os.strerror(number))

    with monkeypatch.context() as patched:
        patched.setattr(os, call, fails)
        with pytest.raises(FormatError, match=rf"{message} while it was open, noticed at sample 0 \(offset \d+\)"):
            next(iter(loader))
    assert len(list(loader)) == 6


def test_the_first_sample_beyond_the_end_is_named(tmp_path: Path) -> None:
    path = tmp_path / "blobs.beton"
    contents = [b"", b"", b"a" * 3000, b"b" * 3000, b"c" * 3000]
    DatasetWriter(path, {"blob": BytesField()}, num_workers=1).from_indexed_dataset([(c,) for c in contents])
    loader = Loader(path, 5)
    os.truncate(path, int(loader.reader.metadata["blob"]["ptr"][4]))
    with pytest.raises(FormatError, match="noticed at sample 4 "):
        list(loader)
