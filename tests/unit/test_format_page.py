"""docs/format.md is enough to read a file: a reader made from that page alone, with nothing but `struct` and `json`."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ffcv import _core
from ffcv.fields import BytesField, EncodedImage, FloatField, IntField, JSONField, NDArrayField, RGBImageField
from ffcv.fields.rgb_image import encode_jpeg
from ffcv.writer import DatasetWriter

SIZES = {0: (8, 8), 1: (8, 8), 2: (13, 1), 3: (16, 1), 4: (8, 8), 5: (16, 1), 6: (8, 8)}
"""Size and alignment of the metadata, by type id."""
FORMATS = {"<f4": "f", "<i2": "h", "<i8": "q", "<f2": "e", "<f8": "d", "|u1": "B", "|b1": "?"}


def crc32c(data: bytes) -> int:
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = (crc >> 1) ^ (0x82F63B78 if crc & 1 else 0)
    return crc ^ 0xFFFFFFFF


class Stranger:
    """Reads a file by the page's words."""

    def __init__(self, content: bytes) -> None:
        self.content = content
        version, num_fields, self.page_size, self.num_samples, table = struct.unpack_from("<HHIQQ", content, 0)
        assert version == 2
        self.fields = []
        for i in range(num_fields):
            kind, name, arguments = struct.unpack_from("<B16s1024s", content, 24 + 1041 * i)
            self.fields.append((name.rstrip(b"\0").decode("ascii"), kind, arguments))
        self.offsets, end, widest = [], 0, 1
        for _, kind, _ in self.fields:
            size, alignment = SIZES[kind]
            end = -(-end // alignment) * alignment
            self.offsets.append(end)
            end, widest = end + size, max(widest, alignment)
        self.stride = -(-end // widest) * widest
        self.metadata = 24 + 1041 * num_fields
        self.table = [struct.unpack_from("<QQQ", content, at) for at in range(table, len(content), 24)]
        self.table_at = table

    def section(self, number: int) -> bytes | None:
        rows = [(ptr, size) for owner, ptr, size in self.table if owner == 2**63 + number]
        return self.content[rows[0][0] :][: rows[0][1]] if rows else None

    def value(self, sample: int, field: int) -> Any:
        at = self.metadata + sample * self.stride + self.offsets[field]
        _, kind, arguments = self.fields[field]
        sizes = {ptr: size for owner, ptr, size in self.table if owner == sample and size}
        if kind in (0, 1):
            return struct.unpack_from("<d" if kind == 0 else "<q", self.content, at)[0]
        if kind == 2:
            mode, width, height, ptr = struct.unpack_from("<BHHQ", self.content, at)
            return mode, width, height, self.content[ptr : ptr + sizes[ptr]]
        if kind in (3, 5):
            ptr, size = struct.unpack_from("<QQ", self.content, at)
            data = self.content[ptr : ptr + size] if size else b""
            return data if kind == 3 else json.loads(data[:-1])
        (ptr,) = struct.unpack_from("<Q", self.content, at)
        shape = [side for side in struct.unpack_from("<32Q", arguments, 0) if side]
        (length,) = struct.unpack_from("<Q", arguments, 256)
        ((_, code),) = json.loads(arguments[264 : 264 + length])
        count = int(np.prod(shape))
        return shape, list(struct.unpack_from(f"<{count}{FORMATS[code]}", self.content, ptr))


def test_a_reader_made_from_the_page(tmp_path: Path) -> None:
    pixels = np.arange(4 * 5 * 3, dtype=np.uint8).reshape(4, 5, 3)
    marked = _core.add_restart_markers(np.frombuffer(encode_jpeg(np.tile(pixels, (9, 9, 1)), 90), np.uint8)).tobytes()
    images = [pixels, EncodedImage(marked, 36, 45), pixels]
    fields = {
        "image": RGBImageField(),
        "n": IntField(),
        "b": BytesField(),
        "x": FloatField(),
        "a": NDArrayField("<f4", (2, 3)),
        "j": JSONField(),
    }
    array = np.arange(6, dtype=np.float32).reshape(2, 3)
    samples = [(image, -i, b"ab" * i, i / 4, array + i, {"é": i}) for i, image in enumerate(images)]
    path = tmp_path / "x.beton"
    DatasetWriter(path, fields, num_workers=1, manifest={"classes": ["a", "b"]}).from_indexed_dataset(samples)

    stranger = Stranger(path.read_bytes())
    assert [name for name, _, _ in stranger.fields] == list(fields)
    for i in range(3):
        stored = (0, 45, 36, marked) if i == 1 else (1, 5, 4, pixels.tobytes())
        assert stranger.value(i, 0) == stored
        assert [stranger.value(i, field) for field in (1, 2, 3)] == [-i, b"ab" * i, i / 4]
        assert stranger.value(i, 4) == ([2, 3], [k + i for k in range(6)])
        assert stranger.value(i, 5) == {"é": i}
    assert json.loads(stranger.section(0) or b"") == {"classes": ["a", "b"]}

    checksums = stranger.section(1)
    assert checksums is not None
    rows = len(stranger.table) - 1
    algorithm, head, table, zero, count, *crcs = struct.unpack(f"<IIIIQ{rows + 1}I", checksums)
    assert (algorithm, zero, count) == (1, 0, rows)
    assert head == crc32c(stranger.content[: stranger.metadata + 3 * stranger.stride])
    assert table == crc32c(stranger.content[stranger.table_at :])
    for (_, ptr, size), crc in zip(stranger.table, crcs, strict=True):
        assert crc == crc32c(stranger.content[ptr : ptr + size]) or crc == crcs[-1]
    assert crcs[-1] == crc32c(checksums[:-4])

    index = stranger.section(2)
    assert index is not None
    assert struct.unpack_from("<IIQQQQ", index, 0) == (1, 0, 1, stranger.table[samples_before(stranger)][1], 0, 3)
    for offset in struct.unpack_from("<3I", index, 40)[1:]:
        assert marked[offset - 2] == 0xFF
        assert marked[offset - 1] in (0xD0, 0xD1)


def samples_before(stranger: Stranger) -> int:
    """The row of the second sample's first allocation, which is its image."""
    return next(i for i, (owner, _, _) in enumerate(stranger.table) if owner == 1)


@pytest.mark.parametrize("name", ["image_jpg", "image_proportion", "int_float", "bytes", "ndarray", "json"])
def test_the_stranger_reads_the_originals_files(shared_dir: Path, name: str) -> None:
    stranger = Stranger((shared_dir / "golden" / f"{name}.beton").read_bytes())
    with np.load(shared_dir / "golden" / f"{name}.npz", allow_pickle=False) as expected:
        meta = expected["meta_bytes"].tobytes()
    assert stranger.num_samples * stranger.stride == len(meta)
    for sample in range(8):
        for field in range(len(stranger.fields)):
            stranger.value(sample, field)
