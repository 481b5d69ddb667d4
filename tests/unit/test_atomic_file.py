"""The new file's way to its place: signals, filesystems of other kinds, permissions, long names."""

from __future__ import annotations

import errno
import os
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from ffcv import _atomic_file
from ffcv._atomic_file import atomic_file
from ffcv.errors import WriteError
from ffcv.fields import BytesField, IntField
from ffcv.reader import Reader
from ffcv.writer import DatasetWriter

FIELDS = {"blob": BytesField(), "i": IntField()}


ENDLESS = """
import sys, time
from ffcv.fields import BytesField, IntField
from ffcv.writer import DatasetWriter
class Slow:
    def __len__(self): return 10**6
    def __getitem__(self, i):
        time.sleep(0.001)
        return bytes(1000), i
seen = []
def progress(done, total):
    if not seen: print("started", flush=True)
    seen.append(done)
backend, workers = sys.argv[2], int(sys.argv[3])
fields = {"b": BytesField(), "i": IntField()}
writer = DatasetWriter(sys.argv[1], fields, num_workers=workers, backend=backend, on_progress=progress)
writer.from_indexed_dataset(Slow(), chunksize=5)
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
@pytest.mark.parametrize("fails", [False, True])
def test_a_signal_while_the_file_is_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: signal.Signals, fails: bool
) -> None:
    open_locked = _atomic_file._open_locked

    def interrupted(*arguments: Any) -> Any:
        file = open_locked(*arguments)
        signal.raise_signal(number)
        if fails:
            file.close()
            os.unlink(tmp_path / ".x.partial")
            raise WriteError("no room")
        return file

    monkeypatch.setattr(_atomic_file, "_open_locked", interrupted)
    handlers = [signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)]
    with pytest.raises(KeyboardInterrupt if number == signal.SIGINT else SystemExit), atomic_file(tmp_path / "x"):
        pytest.fail("the signal came before")
    assert os.listdir(tmp_path) == []
    assert [signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)] == handlers


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_second_signal_while_the_file_is_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: signal.Signals
) -> None:
    unlink = Path.unlink

    def interrupted(path: Path) -> None:
        signal.raise_signal(number)
        unlink(path)

    monkeypatch.setattr(Path, "unlink", interrupted)
    with pytest.raises(KeyboardInterrupt if number == signal.SIGINT else SystemExit), atomic_file(tmp_path / "x"):
        signal.raise_signal(number)
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
@pytest.mark.parametrize(("backend", "workers"), [("process", 1), ("process", 3), ("thread", 3)])
def test_a_signal_that_ends_the_process(tmp_path: Path, backend: str, workers: int, number: signal.Signals) -> None:
    command: Any = [sys.executable, "-c", ENDLESS, str(tmp_path / "x.beton"), backend, str(workers)]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "started\n"
        group = os.getpgid(process.pid)
        os.killpg(group, number)  # as a terminal does: the whole group gets it
        try:
            _, stderr = process.communicate(timeout=60)
        finally:
            process.kill()
    if number == signal.SIGINT:
        assert stderr.rstrip().endswith("KeyboardInterrupt")
        assert process.returncode == -signal.SIGINT
    else:
        assert process.returncode == 128 + number
    assert os.listdir(tmp_path) == []
    with pytest.raises(ProcessLookupError):
        os.killpg(group, 0)  # no worker is left


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_that_ends_the_command_line(tmp_path: Path, number: signal.Signals) -> None:
    """Its threads are at images that never come: nobody waits for them."""
    os.mkfifo(tmp_path / "never.jpg")
    (tmp_path / "list.csv").write_text("path\n" + "never.jpg\n" * 9)
    out = tmp_path / "out"
    out.mkdir()
    command = [sys.executable, "-m", "ffcv", "write", tmp_path / "list.csv", out / "x.beton", "--workers", "3"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        while not os.listdir(out):
            assert process.poll() is None
            time.sleep(0.01)
        process.send_signal(number)
        try:
            _, stderr = process.communicate(timeout=60)
        finally:
            process.kill()
    assert process.returncode == 128 + number, stderr
    assert os.listdir(out) == []


def test_filesystems_without_locks_and_directory_sync(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(number: int) -> Any:
        def call(*arguments: object) -> None:
            raise OSError(number, os.strerror(number))

        return call

    fsync = os.fsync
    for number in (errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOLCK):
        monkeypatch.setattr("fcntl.flock", refuse(number))
        DatasetWriter(tmp_path / "x.beton", FIELDS, num_workers=1).from_indexed_dataset([(b"x", number)])
        assert Reader(tmp_path / "x.beton").metadata["i"].tolist() == [number]
    monkeypatch.setattr("fcntl.flock", refuse(errno.EIO))
    with pytest.raises(WriteError, match="Input/output error"):
        DatasetWriter(tmp_path / "x.beton", FIELDS, num_workers=1).from_indexed_dataset([(b"x", 0)])
    assert os.listdir(tmp_path) == ["x.beton"]
    monkeypatch.undo()

    def no_directories(number: int) -> Any:
        def call(descriptor: int) -> None:
            if stat.S_ISDIR(os.fstat(descriptor).st_mode):
                raise OSError(number, os.strerror(number))
            fsync(descriptor)

        return call

    monkeypatch.setattr("os.fsync", no_directories(errno.EINVAL))
    DatasetWriter(tmp_path / "x.beton", FIELDS, num_workers=1).from_indexed_dataset([(b"x", 7)])
    assert Reader(tmp_path / "x.beton").metadata["i"].tolist() == [7]
    monkeypatch.setattr("os.fsync", no_directories(errno.EIO))
    with pytest.raises(WriteError, match="Input/output error"):
        DatasetWriter(tmp_path / "x.beton", FIELDS, num_workers=1).from_indexed_dataset([(b"x", 8)])


def test_a_replaced_file_keeps_its_permissions(tmp_path: Path) -> None:
    path = tmp_path / "x.beton"
    for mode in (0o600, 0o640):
        path.touch()
        path.chmod(mode)
        DatasetWriter(path, FIELDS, num_workers=1).from_indexed_dataset([(b"x", 1)])
        assert stat.S_IMODE(path.stat().st_mode) == mode


def test_the_longest_names(tmp_path: Path) -> None:
    name = "x" * 249 + ".beton"
    DatasetWriter(tmp_path / name, FIELDS, num_workers=1).from_indexed_dataset([(b"x", 1)])
    assert os.listdir(tmp_path) == [name]


def test_a_lock_that_fails_leaves_the_other_writers_file_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def failing(descriptor: int) -> None:
        raise OSError(errno.EIO, "the network is down")

    path = tmp_path / "x.beton"
    with atomic_file(path) as file:
        file.write(b"whole")
        with monkeypatch.context() as patch:
            patch.setattr(_atomic_file, "_lock", failing)
            with pytest.raises(OSError, match="the network is down"), atomic_file(path):
                pass
    assert path.read_bytes() == b"whole"
    assert os.listdir(tmp_path) == ["x.beton"]


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS])
def test_errors_name_the_file_that_was_to_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    path = tmp_path / "x.beton"

    def refuse(*arguments: Any) -> Any:
        named = () if number == errno.ENOSPC else (arguments[0],)  # a full disk is noticed without a name
        raise OSError(number, os.strerror(number), *named)

    monkeypatch.setattr("os.ftruncate" if number == errno.ENOSPC else "os.open", refuse)
    with pytest.raises(OSError, match=f"{os.strerror(number)}: '{path}'$"), atomic_file(path):
        pass
    monkeypatch.undo()
    with pytest.raises(OSError, match=r"another file's$") as info, atomic_file(path):
        raise OSError("another file's")
    assert info.value.filename is None
    assert os.listdir(tmp_path) == []
