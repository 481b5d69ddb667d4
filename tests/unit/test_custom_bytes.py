"""Custom fields whose metadata only look like ours, and damage to what they point at."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from datasets import InMemory
from ffcv import DatasetWriter, Loader, OrderOption
from ffcv.errors import DecodeError
from ffcv.fields import Field, IntField
from ffcv.fields.base import pack_arguments
from ffcv.pipeline.allocation_query import AllocationQuery
from ffcv.pipeline.operation import Operation
from ffcv.pipeline.state import State
from ffcv.reader import Reader

COUNT = 10


class FirstByte(Operation):
    """The first byte of each value, 255 where there is none."""

    def declare_state_and_memory(self, previous_state: State) -> tuple[State, AllocationQuery]:
        state = replace(previous_state, jit_mode=False, shape=(), dtype=np.dtype("u1"))
        return state, AllocationQuery((), np.dtype("u1"))

    def generate_code(self) -> Callable[..., Any]:
        read, pointer = self.memory_read, self.field.pointer

        def decode(indices: np.ndarray, out: np.ndarray, metadata: np.ndarray, storage: Any) -> np.ndarray:
            for i, sample in enumerate(indices):
                content = read(metadata[sample][pointer], storage)
                out[i] = content[0] if len(content) else 255
            return out

        return decode


class Vector(Field):
    """Four bytes, or None. There is no 'size' beside the pointer, and nothing has the pointer 0."""

    pointer = "ptr"

    @property
    def metadata_type(self) -> np.dtype:
        return np.dtype([(self.pointer, "<u8"), ("length", "<u4")])

    @classmethod
    def from_binary(cls, binary: np.ndarray) -> Field:
        return cls()

    def to_binary(self) -> Any:
        return pack_arguments()

    def encode(self, destination: np.ndarray, value: Any, malloc: Any) -> None:
        if value is not None:
            destination[self.pointer], content = malloc(4)
            content[:] = value
            destination["length"] = 4

    def get_decoder_class(self) -> type:
        return FirstByte


class Picture(Vector):
    """As images call it."""

    pointer = "data_ptr"


def written(path: Path, field: type[Vector]) -> Path:
    samples = [(None if i == 3 else [i, 1, 2, 3], i) for i in range(COUNT)]
    fields = {"vector": field(), "label": IntField()}
    DatasetWriter(path, fields, num_workers=1).from_indexed_dataset(InMemory(samples))
    return path


def first_bytes(path: Path, field: type[Vector], **options: Any) -> list[list[int]]:
    defaults = {"drop_last": False, "num_workers": 1, "custom_fields": {"vector": field}}
    with Loader(path, 4, **(defaults | options)) as loader:
        return [batch.vector.tolist() for batch in loader]


@pytest.mark.parametrize("field", [Vector, Picture])
@pytest.mark.parametrize("order", [OrderOption.SEQUENTIAL, OrderOption.QUASI_RANDOM])
def test_reading_ahead_passes_over_what_is_no_pointer(tmp_path: Path, field: type[Vector], order: OrderOption) -> None:
    path = written(tmp_path / "vectors.beton", field)
    found = [first_bytes(path, field, order=order, seed=1, os_cache=os_cache) for os_cache in (True, False)]
    assert found[0] == found[1]
    assert sorted(value for batch in found[0] for value in batch) == [0, 1, 2, 4, 5, 6, 7, 8, 9, 255]


@pytest.mark.parametrize("os_cache", [True, False])
def test_damage_names_the_sample_and_follows_the_policy(tmp_path: Path, os_cache: bool) -> None:
    path = written(tmp_path / "vectors.beton", Vector)
    start = int(Reader(path, {"vector": Vector}).metadata["vector"]["ptr"][5])
    content = bytearray(path.read_bytes())
    content[start] ^= 1
    path.write_bytes(content)
    with pytest.raises(DecodeError, match="sample 5, field 'vector': checksum mismatch"):
        first_bytes(path, Vector, os_cache=os_cache)
    assert first_bytes(path, Vector, os_cache=os_cache, on_error="skip") == [[0, 1, 2, 255], [4, 6, 7], [8, 9]]
