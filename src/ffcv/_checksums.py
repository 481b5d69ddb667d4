"""The section of checksums: one CRC32C for every allocation, and for the tables."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ffcv import _core

CRC32C = 1
HEADER = np.dtype(
    [("algorithm", "<u4"), ("head", "<u4"), ("table", "<u4"), ("reserved", "<u4"), ("count", "<u8")],
)
"""`head` is of the file's bytes before the first page (header, descriptors, metadata, without the padding), `table` of
the allocation table. Then follow `count` u4, one for each row of the allocation table before this section's own, and a
u4 of the section's bytes up to there."""


@dataclass(frozen=True)
class Checksums:
    """The content of the section.

    Attributes:
        head: Of the header, descriptors and metadata.
        table: Of the allocation table.
        rows: uint32 [rows of the allocation table - 1].
    """

    head: int
    table: int
    rows: NDArray[np.uint32]

    @staticmethod
    def section_size(rows: int) -> int:
        """In bytes, for a number of rows."""
        return HEADER.itemsize + 4 * rows + 4

    def to_bytes(self) -> bytes:
        header = np.array((CRC32C, self.head, self.table, 0, len(self.rows)), dtype=HEADER)
        content = header.tobytes() + self.rows.astype("<u4").tobytes()
        return content + _core.crc32c(np.frombuffer(content, np.uint8)).to_bytes(4, "little")

    @staticmethod
    def from_bytes(content: NDArray[np.uint8]) -> Checksums | None:
        """Reads the section (uint8 [size], kept as it is); None for an algorithm of the future.

        Raises:
            ValueError: The section is damaged.
        """
        if content.size < HEADER.itemsize + 4:
            raise ValueError(f"the section of checksums has only {content.size} bytes")
        header = content[: HEADER.itemsize].view(HEADER)[0]
        if header["algorithm"] != CRC32C:
            return None
        if (content.size - HEADER.itemsize - 4) // 4 != header["count"] or content.size % 4:
            raise ValueError(f"the section of checksums has {content.size} bytes for {header['count']} checksums")
        if _core.crc32c(content[:-4]) != int.from_bytes(content[-4:].tobytes(), "little"):
            raise ValueError("checksum mismatch in the section of checksums itself")
        rows = content[HEADER.itemsize : -4].view("<u4")
        return Checksums(int(header["head"]), int(header["table"]), rows)

    def check_tables(self, head: int, table: NDArray[np.uint8]) -> None:
        """Raises `ValueError` where the file's tables are not those that were written.

        Args:
            head: The CRC32C of the header, descriptors and metadata.
            table: The allocation table.
        """
        if table.size // 24 != len(self.rows) + 1:
            raise ValueError(f"{table.size // 24} allocations, but checksums for {len(self.rows)} and their own")
        if head != self.head:
            raise ValueError("checksum mismatch in the header, the descriptors or the metadata")
        if _core.crc32c(table) != self.table:
            raise ValueError("checksum mismatch in the allocation table")

    def of(self, rows: NDArray[np.int64]) -> NDArray[np.uint32]:
        """The checksums (uint32 [B]) of rows of the allocation table (int64 [B])."""
        return np.ascontiguousarray(self.rows[rows])
