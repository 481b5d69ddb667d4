"""What a writer is given is checked when it is made, not after hours of encoding."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from ffcv.fields import Field, IntField
from ffcv.fields.base import pack_arguments
from ffcv.fields.decoders import IntDecoder
from ffcv.reader import Reader
from ffcv.writer import DatasetWriter


@pytest.mark.parametrize("name", ["", "seventeen letters", "naïve", "tab\t", 5])
def test_names_that_cannot_be_stored(tmp_path: Path, name: Any) -> None:
    with pytest.raises(ValueError, match="1 to 16 printable ASCII characters; rename the field"):
        DatasetWriter(tmp_path / "x.beton", {name: IntField()})


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"page_size": 3 << 20}, ValueError, "page_size must be a power of two"),
        ({"page_size": 1 << 20}, ValueError, "page_size must be a power of two"),
        ({"page_size": 1 << 32}, ValueError, "page_size must be a power of two"),
        ({"fields": {}}, ValueError, "fields has 0 entries"),
        ({"fields": {"i": IntField}}, TypeError, "must be a Field, got .* has it been called"),
        ({"on_error": "ignore"}, ValueError, "on_error is 'raise' or 'skip', got 'ignore'"),
        ({"backend": "gpu"}, ValueError, "backend is 'process' or 'thread', got 'gpu'"),
        ({"page_size": "8M"}, TypeError, "page_size must be a whole number, got '8M'"),
        ({"page_size": 2.0**21}, TypeError, "page_size must be a whole number, got 2097152.0"),
        ({"num_workers": 2.5}, TypeError, "num_workers must be a whole number, got 2.5"),
        ({"fields": [("i", IntField())]}, TypeError, "fields maps names to fields, .* got list"),
        ({"fields": {f"f{i}": IntField() for i in range(65536)}}, ValueError, "fields has 65536 entries: .* to 65535"),
        ({"manifest": {"x": np.int64(3)}}, ValueError, "the manifest is not JSON .*int64"),
        ({"manifest": {"x": float("nan")}}, ValueError, "the manifest is not JSON"),
        ({"manifest": {"x": "\udcff"}}, ValueError, "the manifest is not JSON in UTF-8"),
        ({"manifest": {"classes": "cat"}}, ValueError, "class names are not a list of texts"),
        ({"manifest": ["cat"]}, ValueError, "the manifest is not JSON"),
    ],
)
def test_arguments_out_of_range(tmp_path: Path, arguments: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        DatasetWriter(**{"fname": tmp_path / "x.beton", "fields": {"i": IntField()}, **arguments})


class Custom(Field):
    """A user's field with a mistake."""

    def __init__(self, metadata_type: Any = None, arguments: Any = None) -> None:
        self._metadata_type = np.dtype("<u8") if metadata_type is None else metadata_type
        self._arguments = arguments

    @property
    def metadata_type(self) -> np.dtype:
        return self._metadata_type

    @staticmethod
    def from_binary(binary: np.ndarray) -> Custom:
        return Custom()

    def to_binary(self) -> Any:
        return pack_arguments() if self._arguments is None else self._arguments

    def encode(self, destination: np.ndarray, value: Any, malloc: Any) -> None:
        raise AssertionError("nothing is encoded")

    def get_decoder_class(self) -> type:
        return IntDecoder


@pytest.mark.parametrize(
    ("field", "error", "message"),
    [
        (Custom(np.dtype([("o", "O")])), ValueError, "field 'mine': its metadata_type .* cannot be stored"),
        (Custom(np.dtype([])), ValueError, "field 'mine': its metadata_type .* of at least one byte"),
        (Custom("nonsense"), ValueError, "field 'mine': its metadata_type 'nonsense' cannot be stored"),
        (
            Custom(arguments=(np.zeros(7, np.uint8),)),
            TypeError,
            r"its first entry is uint8 \[7\]",
        ),
        (Custom(arguments=5), TypeError, r"field 'mine': to_binary\(\) must return pack_arguments"),
    ],
)
def test_custom_fields_are_checked_before_anything_is_written(
    tmp_path: Path, field: Field, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        DatasetWriter(tmp_path / "x.beton", {"mine": field})


@pytest.mark.parametrize(
    "indices", [[True, False, True], np.array([True, False]), [0.9, 1.5], np.zeros((2, 2), np.int64), {0, 1}, 3]
)
def test_indices_are_whole_numbers(tmp_path: Path, indices: Any) -> None:
    writer = DatasetWriter(tmp_path / "x.beton", {"i": IntField()}, num_workers=1)
    with pytest.raises(TypeError, match=r"indices must be whole numbers \[N\], got") as info:
        writer.from_indexed_dataset([(i,) for i in range(3)], indices)
    assert ("np.flatnonzero(mask)" in str(info.value)) == ("bool" in str(info.value))
    for good in (range(2, -1, -1), np.array([2, 1, 0], np.uint8), torch.tensor([2, 1, 0])):
        writer.from_indexed_dataset([(i,) for i in range(3)], good)  # type: ignore[arg-type]
        assert Reader(tmp_path / "x.beton").metadata["i"].tolist() == [2, 1, 0]


def test_nothing_to_write(tmp_path: Path) -> None:
    def write(path: Path, samples: list[tuple[int]]) -> None:
        DatasetWriter(path, {"i": IntField()}, num_workers=1).from_indexed_dataset(samples)

    with pytest.raises(ValueError, match="the dataset has no samples"):
        write(tmp_path / "x.beton", [])
    with pytest.raises(FileNotFoundError, match="its directory does not exist; create it first: mkdir -p"):
        write(tmp_path / "no" / "x.beton", [(1,)])
    with pytest.raises(IsADirectoryError, match="is a directory"):
        write(tmp_path, [(1,)])
    assert os.listdir(tmp_path) == []
