"""Files that appear whole or not at all."""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from ffcv.errors import WriteError

LOCK_TIMEOUT_S = 1.0


@contextmanager
def atomic_file(path: str | os.PathLike[str]) -> Iterator[IO[bytes]]:
    """A new file for reading and writing that takes `path`'s place when the block ends, durably.

    Until then it is `.NAME.partial` in the same directory. An exception in the block removes it and leaves an
    older file at `path` as it was. What a killed process leaves is overwritten by the next write to `path`.

    Raises:
        FileNotFoundError: The directory does not exist.
        WriteError: Another process is writing the same file.
            Or `path` is a device, a pipe or a socket, which a rename would put an ordinary file in the place of.
        IsADirectoryError: `path` is a directory.
    """
    target = Path(os.path.realpath(path))
    if target.is_dir():
        raise IsADirectoryError(f"{path}: is a directory; give the path of the file to write")
    if target.exists() and not target.is_file():
        raise WriteError(f"{path}: is a device, a pipe or a socket; give the path of an ordinary file to write")
    if not target.parent.is_dir():
        raise FileNotFoundError(f"{path}: its directory does not exist; create it first: mkdir -p {target.parent}")
    temporary = target.with_name(f".{target.name}.partial")
    file = _open_locked(temporary, path)
    try:
        yield file
        file.flush()
        os.fsync(file.fileno())
        os.replace(temporary, target)
    except BaseException:
        with suppress(FileNotFoundError):
            temporary.unlink()
        with suppress(OSError):  # closing flushes, and a full disk fails once more
            file.close()
        raise
    # Worker processes may still hold copies of the descriptor, and the lock with it.
    fcntl.flock(file, fcntl.LOCK_UN)
    file.close()
    _sync_directory(target.parent)


def _open_locked(temporary: Path, path: str | os.PathLike[str]) -> IO[bytes]:
    # A worker that has not noticed yet that its parent was killed may hold the lock for a moment.
    deadline = time.monotonic() + LOCK_TIMEOUT_S
    while True:
        descriptor = os.open(temporary, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # Between our opening and locking, the other writer may have finished and renamed this very file.
            if temporary.exists() and os.path.samestat(os.fstat(descriptor), temporary.stat()):
                os.ftruncate(descriptor, 0)
                return os.fdopen(descriptor, "r+b", buffering=1 << 16)
        except BlockingIOError as error:
            os.close(descriptor)
            if time.monotonic() < deadline:
                time.sleep(0.02)
                continue
            raise WriteError(
                f"{path}: another process is writing this file; wait for it or choose another name"
            ) from error
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)


def _sync_directory(directory: Path) -> None:
    """Makes a rename inside the directory survive a power failure."""
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
