"""A reader of `.beton` files written from docs/format.md alone: the standard library and Pillow, nothing of ffcv."""

from __future__ import annotations

import io
import json
import math
import struct
from typing import Any

from PIL import Image

FIRST_SECTION = 2**63
# type_id: how the metadata is packed, and its alignment
METADATA = {0: ("<d", 8), 1: ("<q", 8), 2: ("<BHHQ", 1), 3: ("<QQ", 1), 4: ("<Q", 8), 5: ("<QQ", 1), 6: ("<Q", 8)}
ELEMENTS = {"b1": "?", "i1": "b", "u1": "B", "i2": "h", "u2": "H", "i4": "i", "u4": "I", "i8": "q", "u8": "Q"}
ELEMENTS |= {"f2": "e", "f4": "f", "f8": "d", "c8": "ff", "c16": "dd"}


def crc32c(data: bytes) -> int:
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)  # 0x1EDC6F41, reflected
    return crc ^ 0xFFFFFFFF


class Stranger:
    """`samples`: a dict by field name for each; `sections`: content by id; `jpeg_rows`: row starts by pointer."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        version, num_fields, page_size, num_samples, table_at = struct.unpack_from("<HHIQQ", data)
        assert version == 2
        assert num_fields >= 1
        assert table_at
        assert page_size >= 2**21
        assert page_size & (page_size - 1) == 0
        self.fields: list[tuple[str, int, bytes]] = []
        for i in range(num_fields):
            type_id, name, arguments = struct.unpack_from("<B16s1024s", data, 24 + 1041 * i)
            self.fields.append((name.rstrip(b"\0").decode("ascii"), type_id, arguments))
        self.table = [struct.unpack_from("<QQQ", data, at) for at in range(table_at, len(data), 24)]
        self.sizes = {ptr: size for _, ptr, size in self.table if size}
        self.sections = {owner: data[ptr : ptr + size] for owner, ptr, size in self.table if owner >= FIRST_SECTION}
        offsets, end = [], 0
        for _, type_id, _ in self.fields:
            code, alignment = METADATA[type_id]
            offsets.append(-(-end // alignment) * alignment)
            end = offsets[-1] + struct.calcsize(code)
        widest = max(METADATA[type_id][1] for _, type_id, _ in self.fields)
        stride, start = -(-end // widest) * widest, 24 + 1041 * num_fields
        self._check_sums(start + stride * num_samples, table_at)
        self.samples: list[dict[str, Any]] = []
        for at in range(start, start + stride * num_samples, stride):
            sample = {}
            for (name, type_id, arguments), offset in zip(self.fields, offsets, strict=True):
                metadata = struct.unpack_from(METADATA[type_id][0], data, at + offset)
                sample[name] = self._value(type_id, arguments, metadata)
            self.samples.append(sample)

    def _value(self, type_id: int, arguments: bytes, metadata: tuple[Any, ...]) -> Any:
        if type_id == 2:
            mode, width, height, ptr = metadata
            content = self.data[ptr : ptr + self.sizes[ptr]]
            if mode == 1:
                return Image.frombytes("RGB", (width, height), content)
            image = Image.open(io.BytesIO(content), formats=["JPEG"])
            assert image.size == (width, height)
            return image
        if type_id in (3, 5):
            content = self.data[metadata[0] : metadata[0] + metadata[1]] if metadata[1] else b""
            return content if type_id == 3 else json.loads(content[:-1])
        if type_id in (4, 6):
            shape = [side for side in struct.unpack_from("<32Q", arguments) if side]
            length = struct.unpack_from("<Q", arguments, 256)[0]
            code = json.loads(arguments[264 : 264 + length])[0][1]
            values = struct.iter_unpack(f"{code[0].replace('|', '<')}{ELEMENTS[code[1:]]}", self._array(metadata[0]))
            flat = [complex(*value) if len(value) == 2 else value[0] for value in values]
            assert len(flat) == math.prod(shape)
            return tuple(shape), flat
        return metadata[0]

    def _array(self, ptr: int) -> bytes:
        return self.data[ptr : ptr + self.sizes[ptr]]

    def _check_sums(self, metadata_end: int, table_at: int) -> None:
        section = self.sections.get(FIRST_SECTION + 1)
        if section is None or struct.unpack_from("<I", section)[0] != 1:
            return
        _, head, table, zero, count = struct.unpack_from("<IIIIQ", section)
        *rows, own = struct.unpack_from(f"<{count + 1}I", section, 24)
        assert self.table[-1][0] == FIRST_SECTION + 1
        assert (zero, count, len(section)) == (0, len(self.table) - 1, 28 + 4 * count)
        assert own == crc32c(section[:-4])
        assert (head, table) == (crc32c(self.data[:metadata_end]), crc32c(self.data[table_at:]))
        assert rows == [crc32c(self.data[ptr : ptr + size]) if size else 0 for _, ptr, size in self.table[:-1]]

    @property
    def jpeg_rows(self) -> dict[int, tuple[int, ...]]:
        section = self.sections[FIRST_SECTION + 2]
        version, _, count = struct.unpack_from("<IIQ", section)
        assert version == 1
        pointers = struct.unpack_from(f"<{count}Q", section, 16)
        first = struct.unpack_from(f"<{count + 1}Q", section, 16 + 8 * count)
        entries = struct.unpack_from(f"<{first[-1]}I", section, 24 + 16 * count)
        return {ptr: entries[first[i] : first[i + 1]] for i, ptr in enumerate(pointers)}

    def entry_points(self, ptr: int) -> list[list[tuple[int, tuple[int, ...]]]]:
        """Of the JPEG at `ptr`, by row of MCUs: (position in bits, DC predictions)."""
        version, largest = struct.unpack("<II", self.sections[FIRST_SECTION + 3])
        assert version == 1
        at = ptr + self.sizes[ptr]
        magic, crc, jpeg_size, across, down, spacing, components = struct.unpack_from("<4sIIHHHH", self.data, at)
        per_row = -(-across // spacing)
        count = per_row * down
        size = 20 + (4 + 2 * components) * count
        assert (magic, jpeg_size) == (b"FEP1", self.sizes[ptr])
        assert size <= largest
        assert crc == crc32c(self.data[at + 8 : at + size])
        positions = struct.unpack_from(f"<{count}I", self.data, at + 20)
        flat = struct.unpack_from(f"<{components * count}h", self.data, at + 20 + 4 * count)
        points = [(position, flat[components * i : components * (i + 1)]) for i, position in enumerate(positions)]
        return [points[per_row * row : per_row * (row + 1)] for row in range(down)]
