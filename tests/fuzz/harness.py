"""Damaged files and JPEGs: what makes them, and what is done with them.

A fault is a crash, a hang, a report of the sanitizers, or an exception that is not one of ours. A file that is refused
with `FormatError` is fine, and so is an accepted one whose samples can all be read, or are refused one by one.
"""

from __future__ import annotations

import contextlib
import io
import json
import warnings
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from ffcv import Loader, OrderOption, _core
from ffcv._checksums import Checksums
from ffcv._restart_index import RestartIndex
from ffcv.data.beton import read_value
from ffcv.errors import OUR_ERRORS, DecodeError, FormatError
from ffcv.fields import (
    BytesField,
    EncodedImage,
    Field,
    FloatField,
    IntField,
    JSONField,
    NDArrayField,
    RGBImageField,
    TorchTensorField,
)
from ffcv.format import ALLOCATION, FIELD_DESCRIPTOR, FIRST_SECTION_ID, HEADER, MIN_PAGE_SIZE, Section
from ffcv.reader import Reader
from ffcv.transforms import CenterCrop
from ffcv.writer import DatasetWriter

INTERESTING = (0, 1, 2, 3, 7, 8, 255, 256, 65535, 2**21, 2**23, 2**31, 2**32 - 1, 2**62, 2**63 - 1, 2**63, 2**64 - 1)
MAX_PIXELS = 1 << 20
"""Of images that are decoded here: larger ones are fine too, but slow."""


def seed_jpegs() -> list[bytes]:
    """Small JPEGs of every kind that Pillow writes, and with restart markers between their rows; the last is CMYK."""
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (40, 56, 3), dtype=np.uint8)
    pixels[:20] = 90  # flat areas give the long codes
    image = Image.fromarray(pixels)
    large = Image.fromarray(np.tile(pixels, (4, 3, 1))).rotate(9)  # several MCUs on either side of a region
    options: list[dict[str, Any]] = [
        {"quality": 75, "subsampling": subsampling, "progressive": progressive, "comment": b"hello"}
        for subsampling in (0, 1, 2)
        for progressive in (False, True)
    ]
    options += [{"restart_marker_blocks": 3}, {"restart_marker_rows": 1, "subsampling": 0}, {"keep_rgb": True}]
    seeds = [_jpeg(picture, **keywords) for picture in (image, large) for keywords in options]
    seeds += [_jpeg(image.convert("L"), progressive=progressive) for progressive in (False, True)]
    seeds += [_core.add_restart_markers(np.frombuffer(seed, np.uint8)).tobytes() for seed in seeds]
    return [*seeds, _jpeg(image.convert("CMYK"))]


def _jpeg(image: Image.Image, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", **options)
    return buffer.getvalue()


def write_seed_files(folder: Path) -> list[Path]:
    """Small files with every kind of field: with and without checksums and other sections."""
    jpegs = [jpeg for jpeg in seed_jpegs() if _core.jpeg_info(np.frombuffer(jpeg, np.uint8))[2] != 4]
    pixels = np.arange(10 * 12 * 3, dtype=np.uint8).reshape(10, 12, 3)
    images = [EncodedImage(jpeg, 40, 56) if i % 3 else pixels for i, jpeg in enumerate(jpegs)]
    fields: dict[str, Field] = {
        "image": RGBImageField(),
        "label": IntField(),
        "x": FloatField(),
        "blob": BytesField(),
        "array": NDArrayField("<f4", (2, 3)),
        "tensor": TorchTensorField(torch.int16, (3,)),
        "json": JSONField(),
    }
    samples = [
        (image, i, i / 3, bytes(i), np.full((2, 3), i, np.float32), torch.full((3,), i, dtype=torch.int16), {"i": [i]})
        for i, image in enumerate(images)
    ]
    paths = [folder / f"{name}.beton" for name in ("plain", "full", "numbers", "image")]
    common = {"page_size": MIN_PAGE_SIZE, "num_workers": 1}
    DatasetWriter(paths[0], fields, **common, checksums=False).from_indexed_dataset(samples)
    pointed = fields | {"image": RGBImageField(entry_points=True)}
    DatasetWriter(paths[1], pointed, **common, manifest={"classes": ["a"]}).from_indexed_dataset(samples)
    numbers: dict[str, Field] = {"i": IntField(), "x": FloatField()}
    DatasetWriter(paths[2], numbers, **common, checksums=False).from_indexed_dataset([(i, i / 2) for i in range(9)])
    only: dict[str, Field] = {"image": RGBImageField()}
    DatasetWriter(paths[3], only, **common, checksums=False).from_indexed_dataset([(image,) for image in images])
    return paths


def flip_bytes(data: np.ndarray, rng: np.random.Generator) -> None:
    """Changes up to 4 bytes of uint8 [size], in place."""
    if not data.size:
        return
    for _ in range(int(rng.integers(1, 5))):
        at = int(rng.integers(data.size))
        data[at] = rng.choice([data[at] ^ (1 << int(rng.integers(8))), int(rng.integers(256)), 0, 255])


def _set(numbers: np.ndarray, rng: np.random.Generator) -> None:
    """Gives one entry of an integer array an interesting value, or one near to what some entry has."""
    at = int(rng.integers(numbers.size))
    bits = 8 * numbers.dtype.itemsize
    near = int(numbers.reshape(-1)[int(rng.integers(numbers.size))]) + int(rng.integers(-2, 3)) * int(
        rng.choice([1, 8, 24, 4096])
    )
    value = INTERESTING[int(rng.integers(len(INTERESTING)))] if rng.random() < 0.5 else near
    raw = np.array([value % 2**bits], dtype=f"<u{numbers.dtype.itemsize}").view(numbers.dtype)
    numbers.reshape(-1)[at : at + 1] = raw


def mutate_file(content: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A damaged copy of a valid file (uint8 [size]): 1 to 3 changes that know the layout, or a cut."""
    data = content.copy()
    header = data[: HEADER.itemsize].view(HEADER)
    fields, table_at = int(header["num_fields"][0]), int(header["alloc_table_ptr"][0])
    descriptors_end = HEADER.itemsize + fields * FIELD_DESCRIPTOR.itemsize
    descriptors = data[HEADER.itemsize : descriptors_end].view(FIELD_DESCRIPTOR)
    table = data[table_at:].view(ALLOCATION)
    metadata = data[descriptors_end : min(descriptors_end + 2000, table_at)]
    for _ in range(int(rng.integers(1, 4))):
        kind = int(rng.integers(9))
        if kind == 0:
            _set(header[str(rng.choice(HEADER.names or ()))], rng)
        elif kind == 1:
            _set(descriptors["type_id"] if rng.random() < 0.5 else descriptors["name"][:, :3].reshape(-1), rng)
        elif kind == 2:
            arguments = descriptors["arguments"][int(rng.integers(fields))]
            flip_bytes(arguments[: int(rng.choice([16, 264, 300]))], rng)
        elif kind == 3:
            flip_bytes(metadata, rng)
        elif kind == 4 and metadata.size >= 16:
            at = int(rng.integers(metadata.size - 8))
            word = metadata[at : at + 8].copy().view("<u8")
            source = table["ptr"] if len(table) and rng.random() < 0.7 else word
            word[0] = source[int(rng.integers(len(source)))] + np.uint64(rng.integers(3))
            metadata[at : at + 8] = word.view(np.uint8)
        elif kind == 5 and len(table):
            column = table[str(rng.choice(ALLOCATION.names or ()))].copy()
            _set(column, rng)
            for name in ALLOCATION.names or ():
                if rng.random() < 0.34:
                    table[name] = column
        elif kind == 6 and len(table) > 1:
            a, b = rng.integers(len(table), size=2)
            table[[a, b]] = table[[b, a]]
        elif kind == 7 and len(table):
            row = table[int(rng.integers(len(table)))]
            start, size = int(row["ptr"]), int(row["size"])
            if start + size <= data.size and size < 2**31:
                flip_bytes(data[start : start + size], rng)
        elif kind == 8 and len(table):
            table["sample_id"][int(rng.integers(len(table)))] = FIRST_SECTION_ID + int(rng.integers(4))
    if rng.random() < 0.1:
        data = data[: int(rng.integers(data.size))]
    return data


def mutate_jpeg(jpeg: bytes, rng: np.random.Generator) -> np.ndarray:
    """A damaged copy of a JPEG: changed bytes, mostly in its header; segments doubled or left out; cut."""
    data = np.frombuffer(jpeg, np.uint8).copy()
    for _ in range(int(rng.integers(1, 4))):
        kind = rng.random()
        if kind < 0.6:
            flip_bytes(data[2 : max(3, data.size // (1 if rng.random() < 0.5 else 4))], rng)
        elif data.size > 40:
            a, b = sorted(rng.integers(2, data.size, size=2).tolist())
            part = data[a : min(b, a + 300)]
            pieces = [data[:a], part, part, data[b:]] if kind < 0.8 else [data[:a], data[b:]]
            data = np.concatenate(pieces)
    if rng.random() < 0.1:
        data = data[: int(rng.integers(data.size))]
    return np.ascontiguousarray(data)


def exercise_jpeg(data: np.ndarray) -> bool:
    """Does all that the core does with a JPEG; True if it is accepted. Raises what is a fault."""
    try:
        height, width, components = _core.jpeg_info(data)
    except DecodeError:
        return False
    index = _core.restart_index(data)
    assert all(2 <= offset <= data.size for offset in index.tolist())
    if height * width > MAX_PIXELS:
        return False
    outcomes: list[Any] = []
    for function in (_core.decode_jpeg, _core.check_jpeg, _core.add_restart_markers):
        try:
            outcomes.append(function(data))
        except DecodeError:
            outcomes.append(None)
    whole, checked, _ = outcomes
    assert (whole is None) == (checked is None), "check_jpeg and decode_jpeg disagree"
    try:
        ours = _core.decode_jpeg(data, _core.JpegEngine.ours)
    except DecodeError:
        ours = None
    if ours is not None:
        theirs = _core.decode_jpeg(data, _core.JpegEngine.libjpeg)  # which must not complain either
        assert np.array_equal(ours, theirs), "our decoder and libjpeg-turbo disagree"
    rng = np.random.default_rng(zlib.crc32(data))  # the same regions when it is tried again
    # libjpeg smooths progressive images whose last scans are missing, and at the edges of a region from less.
    comparable = None if b"\xff\xc2" in data.tobytes() else whole
    points = _core.index_jpeg(data)[3] if checked is not None else b""
    for _ in range(3):
        _render_region(data, b"", height, width, comparable, rng)
        if points:
            _render_region(data, points, height, width, comparable, rng)
            _render_region(data, _forged(points, rng), height, width, None, rng)
    return whole is not None and components in (1, 3)


def _forged(points: bytes, rng: np.random.Generator) -> bytes:
    """Entry points with other numbers and a checksum that fits: pixels may differ, but nothing outside is read."""
    changed = np.frombuffer(points, np.uint8).copy()
    flip_bytes(changed[8:], rng)
    changed[4:8] = np.frombuffer(np.uint32(_core.crc32c(changed[8:])).tobytes(), np.uint8)
    return changed.tobytes()


def _render_region(
    data: np.ndarray, behind: bytes, height: int, width: int, whole: np.ndarray | None, rng: np.random.Generator
) -> None:
    """Renders a random region, with `behind` the JPEG; it has the same pixels as `whole`, where that is given."""
    top, left = int(rng.integers(height)), int(rng.integers(width))
    h, w = int(rng.integers(1, height - top + 1)), int(rng.integers(1, width - left + 1))
    out = np.empty((1, h, w, 3), np.uint8)
    box = np.array([[top, left, h, w]], np.int32)
    view = _core.View(box, None, h, w, [], out, False, (1.0, 1.0, 1.0), (0.0, 0.0, 0.0))
    sizes = np.array([data.size], np.uint64)
    shapes = np.array([[height, width]], np.int32)
    stored = np.concatenate([data, np.frombuffer(behind, np.uint8)])
    errors = _RENDERER.render(
        stored,
        np.zeros(1, np.uint64),
        sizes,
        np.zeros(1, np.uint8),
        shapes,
        [view],
        behind=np.array([len(behind)], np.uint64),
    )
    if whole is not None:
        assert not errors, f"a region is refused, the whole is not: {errors}"
        assert np.array_equal(out[0], whole[top : top + h, left : left + w]), f"region {box.tolist()} differs"


_RENDERER = _core.Renderer(1)


def exercise_file(path: Path) -> bool:
    """Opens a file and reads all of it; True if it is accepted. Raises what is a fault."""
    try:
        reader = Reader(path)
    except FormatError:
        return False
    for name, field in reader.fields.items():
        for row in range(reader.num_samples):
            try:
                value = read_value(reader, row, name)
            except (FormatError, UnicodeDecodeError, json.JSONDecodeError, RecursionError):
                continue  # damage that only the sample's own bytes show
            except ValueError as error:
                if isinstance(field, JSONField):
                    continue
                raise AssertionError(f"sample {row}, field {name!r}") from error
            if isinstance(field, RGBImageField) and value.ndim == 1:
                exercise_jpeg(np.ascontiguousarray(value))
    for section, parse in (
        (Section.CHECKSUMS, Checksums.from_bytes),
        (Section.JPEG_RESTART_INDEX, RestartIndex.from_bytes),
    ):
        content = reader.section(section)
        if content is not None:
            try:
                parse(content)
            except ValueError:
                continue
    reader.read_section(Section.MANIFEST)
    _ = reader.fingerprint
    _load(path, reader)
    return True


def _load(path: Path, reader: Reader) -> None:
    """One epoch through the loader, which looks at tables and bytes with code of its own."""
    crops = {name: [CenterCrop((16, 16), 1.0)] for name, field in reader.fields.items() if type(field) is RGBImageField}
    with contextlib.suppress(*OUR_ERRORS), warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # of names that mutation made, which are no attributes' in Python
        options: dict[str, Any] = {"order": OrderOption.SEQUENTIAL, "drop_last": False, "on_error": "skip"}
        with Loader(path, 4, num_workers=1, pipelines=crops, **options) as loader:
            for _ in loader:
                pass
