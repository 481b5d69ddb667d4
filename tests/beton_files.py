"""A small `.beton` file with every kind of field, and what tests of the command line do with it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from datasets import photo_samples
from ffcv.fields import (
    BytesField,
    EncodedImage,
    FloatField,
    IntField,
    JSONField,
    NDArrayField,
    RGBImageField,
    TorchTensorField,
)
from ffcv.fields.rgb_image import encode_jpeg
from ffcv.format import HEADER
from ffcv.reader import Reader
from ffcv.writer import DatasetWriter


def everything(path: Path, first: int = 0, count: int = 6, **options: object) -> Path:
    """A file with every kind of field; images alternate between JPEG and raw."""
    fields = {
        "image": RGBImageField(),
        "label": IntField(),
        "x": FloatField(),
        "blob": BytesField(),
        "array": NDArrayField("<f4", (2,)),
        "tensor": TorchTensorField(torch.int16, (3,)),
        "json": JSONField(),
    }
    samples = []
    for i in range(first, first + count):
        pixels = np.ascontiguousarray(photo_samples(1)[0][0][: 20 + i, : 30 + i])
        image = pixels if i % 2 else EncodedImage(encode_jpeg(pixels, 90), *pixels.shape[:2])
        array, tensor = np.full(2, i, np.float32), torch.full((3,), i, dtype=torch.int16)
        samples.append((image, i % 2, i / 2, bytes([i]) * i, array, tensor, {"i": i}))
    settings: dict[str, object] = {"num_workers": 1, "manifest": {"classes": ["cat", "dog"]}, **options}
    DatasetWriter(path, fields, **settings).from_indexed_dataset(samples)  # type: ignore[arg-type]
    return path


def damage(path: Path, position: int) -> None:
    content = bytearray(path.read_bytes())
    content[position] ^= 0xFF
    path.write_bytes(content)


def contents(path: Path) -> list[tuple[object, ...]]:
    from ffcv.data import BetonSource

    source = BetonSource([path])
    rows = []
    for i in range(len(source)):
        row = source[i]
        rows.append(tuple(v.tobytes() if isinstance(v, np.ndarray) else str(v) for v in row))
    return rows


def emptied(whole: Path, path: Path) -> Path:
    """The file `whole` without its samples, at `path`: what ours never write, but others may."""
    tables = HEADER.itemsize + Reader(whole).field_descriptors.nbytes
    content = bytearray(whole.read_bytes()[:tables])
    header = np.frombuffer(content, HEADER, 1)
    header["num_samples"], header["alloc_table_ptr"] = 0, tables
    path.write_bytes(content)
    return path
