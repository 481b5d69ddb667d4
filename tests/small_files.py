"""A file of numbers, arrays and bytes, and loaders of its numbers, for tests that need no images."""

from collections.abc import Iterable
from pathlib import Path

import numpy as np

from datasets import InMemory
from ffcv import DatasetWriter, Loader, OrderOption
from ffcv.fields import BytesField, FloatField, IntField, NDArrayField
from ffcv.format import FIELD_DESCRIPTOR, HEADER

SHAPE = (7,)


def content(i: int) -> np.ndarray:
    return np.full(i % 5, i % 256, np.uint8)


def write_numbers(path: Path, count: int) -> Path:
    """index: i, value: sin(i), array: seven times i (float32), bytes: i % 5 times the byte i."""
    fields = {
        "index": IntField(),
        "value": FloatField(),
        "array": NDArrayField(np.dtype("<f4"), SHAPE),
        "bytes": BytesField(),
    }
    samples = [(i, float(np.sin(i)), np.full(SHAPE, i, np.float32), content(i)) for i in range(count)]
    DatasetWriter(path, fields, num_workers=1).from_indexed_dataset(InMemory(samples))
    return path


def write_many(path: Path, count: int) -> Path:
    """A file of `count` integers, written directly: what the writer would write, in a second."""
    page = 1 << 21
    header = np.zeros(1, HEADER)
    fields = np.zeros(1, FIELD_DESCRIPTOR)
    size = HEADER.itemsize + fields.nbytes + 8 * count
    header["version"], header["num_fields"], header["page_size"], header["num_samples"] = 2, 1, page, count
    header["alloc_table_ptr"] = size
    fields["type_id"] = 1
    fields["name"][0, :5] = np.frombuffer(b"index", np.uint8)
    with path.open("wb") as file:
        for part in (header, fields, np.arange(count, dtype="<i8")):
            part.tofile(file)
    return path


NUMBERS_ONLY = {"array": None, "bytes": None, "value": None}


def loader_of(path: Path, batch_size: int = 4, **options: object) -> Loader:
    """Indices in a random order, the last batch smaller."""
    defaults: dict = {"order": OrderOption.RANDOM, "seed": 11, "drop_last": False, "num_workers": 1}
    return Loader(path, batch_size, pipelines=NUMBERS_ONLY, **(defaults | options))


def batches_of(loader: Loader) -> list[list[int]]:
    """The next epoch's indices."""
    return [batch.index.flatten().tolist() for batch in loader]


def flat(batches: Iterable[list[int]]) -> list[int]:
    return [index for batch in batches for index in batch]
