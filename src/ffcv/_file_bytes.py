"""The bytes of a file that may shrink while it is read: an exception, where a mapping would end the process."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ffcv import _core
from ffcv.errors import FormatError

_BLOCK_BYTES = 4 << 20


class Identity(NamedTuple):
    """What changes when a file is written to, truncated or replaced."""

    device: int
    inode: int
    size: int
    modified_ns: int

    @staticmethod
    def of(status: os.stat_result) -> Identity:
        return Identity(status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns)


class FileBytes:
    """An open file, read with pread. Slices are copies.

    Args:
        path: The file.

    Attributes:
        file: Open as long as this lives.
        opened: What the file was when it was opened.

    Raises:
        FileNotFoundError: There is no such file.
        FormatError: It is a directory or a device.
    """

    def __init__(self, path: str) -> None:
        if not os.path.exists(path):
            raise FileNotFoundError(
                f"{path}: no such file; check the path, or write the file with 'ffcv write FOLDER {path}'"
            )
        if not os.path.isfile(path):
            raise FormatError(f"{path}: not a file; give the path of a .beton file")
        self.path = path
        try:
            self.file = _core.StorageFile(path)
        except _core.ReadError as error:
            raise _core.ReadError(f"{path}: {error}") from None
        self.opened = Identity.of(os.fstat(self.file.fileno()))

    @property
    def size(self) -> int:
        """In bytes, when it was opened."""
        return self.opened.size

    def __getitem__(self, part: slice) -> NDArray[np.uint8]:
        start, stop, _ = part.indices(self.size)
        try:
            content = np.empty(max(0, stop - start), np.uint8)
        except MemoryError:
            raise FormatError(
                f"{self.path}: no memory for its {stop - start} bytes from byte {start} on; is the file damaged? Run "
                f"'ffcv verify {self.path}'"
            ) from None
        self._read(start, content)
        content.flags.writeable = False
        return content

    def blocks(self, start: int, stop: int) -> Iterator[NDArray[np.uint8]]:
        """The bytes from `start` to `stop`, a few MiB at a time; each block is valid until the next."""
        buffer = np.empty(min(_BLOCK_BYTES, max(0, stop - start)), np.uint8)
        for begin in range(start, stop, _BLOCK_BYTES):
            block = buffer[: min(_BLOCK_BYTES, stop - begin)]
            self._read(begin, block)
            yield block

    def check_unchanged(self) -> None:
        """Raises FormatError where the file is not what was opened."""
        now = Identity.of(os.fstat(self.file.fileno()))
        if now != self.opened:
            raise FormatError(
                f"{self.path}: it changed while it was being read ({self.size} bytes then, {now.size} now); wait "
                "until it is complete and open it again"
            )

    def _read(self, start: int, out: NDArray[np.uint8]) -> None:
        try:
            self.file.read(start, out)
        except _core.ReadError as error:
            self.check_unchanged()
            raise FormatError(f"{self.path}: {error}") from error
