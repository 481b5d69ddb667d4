"""Files that appear whole or not at all."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import signal
import stat
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import IO, Any

from ffcv.errors import WriteError

LOCK_TIMEOUT_S = 1.0

_NO_LOCKS = (errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOLCK)
"""What `flock` says on filesystems without it (some network and user-space ones)."""

_NO_DIRECTORY_SYNC = (errno.EINVAL, errno.EOPNOTSUPP, errno.ENOSYS, errno.EACCES)
"""What filesystems say that cannot sync a directory, or not for those who may not list it."""

DISK_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)
"""What writing says when the disk is full or fails."""

_NAME_MAX = 255


@contextmanager
def atomic_file(path: str | os.PathLike[str]) -> Iterator[IO[bytes]]:
    """A new file for reading and writing that takes `path`'s place when the block ends, durably.

    Until then it is `.NAME.partial` in the same directory. An exception in the block removes it and leaves an
    older file at `path` as it was; so do SIGTERM and SIGHUP, unless the program handles or ignores them itself. What a
    killed process leaves is overwritten by the next write to `path`. A new file has an older one's permissions.

    Raises:
        FileNotFoundError: The directory does not exist.
        IsADirectoryError: `path` is a directory.
        WriteError: Another process is writing the same file (not noticed on filesystems without locks), or `path` is a
            device, a pipe or a socket, which a rename would put an ordinary file in the place of.
    """
    target = Path(os.path.realpath(path))
    if target.is_dir():
        raise IsADirectoryError(f"{path}: is a directory; give the path of the file to write")
    if target.exists() and not target.is_file():
        raise WriteError(f"{path}: is a device, a pipe or a socket; give the path of an ordinary file to write")
    if not target.parent.is_dir():
        raise FileNotFoundError(f"{path}: its directory does not exist; create it first: mkdir -p {target.parent}")
    temporary = _temporary(target)
    with _errors_named(path, temporary), _Signals() as signals:
        file = _open_locked(temporary, path)
        try:
            signals.let_end()
            yield file
            file.flush()
            with suppress(OSError):  # there is no older file, or the filesystem has no permissions
                os.fchmod(file.fileno(), stat.S_IMODE(target.stat().st_mode))
            os.fsync(file.fileno())
            os.replace(temporary, target)
        except BaseException:
            signals.keep()  # whoever is impatient presses Ctrl-C twice
            with suppress(FileNotFoundError):
                temporary.unlink()
            with suppress(OSError):  # closing flushes, and a full disk fails once more
                file.close()
            raise
        # Worker processes may still hold copies of the descriptor, and the lock with it.
        with suppress(OSError):
            fcntl.flock(file, fcntl.LOCK_UN)
        file.close()
        _sync_directory(target.parent)


@contextmanager
def _errors_named(path: str | os.PathLike[str], temporary: Path) -> Iterator[None]:
    """Errors of the disk name `path`: those of writing name no file, others the temporary one."""
    try:
        yield
    except OSError as error:
        named = None if error.filename is None else os.fsdecode(error.filename)
        if named == str(temporary) or (named is None and error.errno in DISK_ERRORS):
            error.filename = os.fspath(path)
            if error.filename2 is not None:
                del error.filename2  # with None there, messages would end with it
        raise


def _temporary(target: Path) -> Path:
    name = f".{target.name}.partial"
    if len(os.fsencode(name)) > _NAME_MAX:
        name = f".{hashlib.blake2b(os.fsencode(target.name), digest_size=16).hexdigest()}.partial"
    return target.with_name(name)


class _Signals:
    """Makes exceptions of the signals that would end the process, so that what it wrote is removed.

    They come once `let_end` has been called, and not between the making of a file and the `try` that removes it, nor
    while it is removed.
    """

    def __init__(self) -> None:
        self._usual: dict[int, Any] = {}
        self._are_kept = True
        self._kept: list[int] = []

    def __enter__(self) -> _Signals:
        if threading.current_thread() is threading.main_thread():  # only there Python allows handlers
            ends = {signal.SIGTERM: signal.SIG_DFL, signal.SIGHUP: signal.SIG_DFL}
            for number, usual in {**ends, signal.SIGINT: signal.default_int_handler}.items():
                if signal.getsignal(number) == usual:
                    self._usual[number] = usual
                    signal.signal(number, self._handle)
        return self

    def __exit__(self, *exception: object) -> None:
        for number, usual in self._usual.items():
            signal.signal(number, usual)
        self.let_end()  # those that came while no file could be made

    def keep(self) -> None:
        """Lets signals wait for `let_end`."""
        self._are_kept = True

    def let_end(self) -> None:
        self._are_kept = False
        while self._kept:
            self._end(self._kept.pop())

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self._are_kept:
            self._kept.append(number)
        else:
            self._end(number)

    @staticmethod
    def _end(number: int) -> None:
        if number == signal.SIGINT:
            raise KeyboardInterrupt
        raise SystemExit(128 + number)  # the status that shells give to a process that a signal ended


def _open_locked(temporary: Path, path: str | os.PathLike[str]) -> IO[bytes]:
    # A worker that has not noticed yet that its parent was killed may hold the lock for a moment.
    deadline = time.monotonic() + LOCK_TIMEOUT_S
    while True:
        is_ours = not temporary.exists()
        descriptor = os.open(temporary, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        try:
            _lock(descriptor)
            # Between our opening and locking, the other writer may have finished and renamed this very file.
            is_ours = temporary.exists() and os.path.samestat(os.fstat(descriptor), temporary.stat())
            if is_ours:
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
            if is_ours:  # and not another writer's
                with suppress(FileNotFoundError):
                    temporary.unlink()
            os.close(descriptor)
            raise
        os.close(descriptor)


def _lock(descriptor: int) -> None:
    """Raises `BlockingIOError` where another process has the lock."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            raise


def _sync_directory(directory: Path) -> None:
    """Makes a rename inside the directory survive a power failure, where the filesystem can."""
    try:
        descriptor = os.open(directory, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    except OSError as error:
        if error.errno not in _NO_DIRECTORY_SYNC:
            raise
