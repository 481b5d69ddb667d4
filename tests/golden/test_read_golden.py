"""Files written by the original: read bit for bit, and written again byte for byte."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ffcv import _core
from ffcv.fields import BytesField, EncodedImage, FloatField, IntField, JSONField, NDArrayField, RGBImageField
from ffcv.fields.base import Field
from ffcv.fields.decoders import BytesDecoder, FloatDecoder, IntDecoder, NDArrayDecoder
from ffcv.reader import Reader
from ffcv.writer import DatasetWriter

NAMES = ("bytes", "image_const_raw", "image_jpg", "image_proportion", "int_float", "json", "ndarray")
IMAGES = ("image_const_raw", "image_jpg", "image_proportion")


@pytest.fixture
def golden_dir(shared_dir: Path) -> Path:
    return shared_dir / "golden"


def load(folder: Path, name: str) -> tuple[Reader, dict[str, np.ndarray]]:
    with np.load(folder / f"{name}.npz", allow_pickle=False) as expected:
        return Reader(folder / f"{name}.beton"), dict(expected)


def image_bytes(expected: dict[str, np.ndarray], i: int) -> np.ndarray:
    return expected[f"jpeg_{i}"] if f"jpeg_{i}" in expected else expected[f"pixels_{i}"].reshape(-1)


@pytest.mark.parametrize("name", NAMES)
def test_structure(golden_dir: Path, name: str) -> None:
    reader, expected = load(golden_dir, name)
    assert reader.num_samples == 8
    assert reader.page_size == expected["page_size"]
    assert reader.metadata.tobytes() == expected["meta_bytes"].tobytes()
    for column in ("sample_id", "ptr", "size"):
        np.testing.assert_array_equal(reader.alloc_table[column], expected[f"alloc_{column}"])
    assert reader.sections == {}
    assert reader.handlers is reader.fields
    assert not reader.data.flags.writeable
    assert not reader.metadata.flags.writeable


@pytest.mark.parametrize("name", IMAGES)
def test_images(golden_dir: Path, name: str) -> None:
    reader, expected = load(golden_dir, name)
    column = reader.metadata["image"]
    for key in ("mode", "width", "height"):
        np.testing.assert_array_equal(column[key], expected[key])
    np.testing.assert_array_equal(IntDecoder().decode(reader.metadata["label"], reader.read)[:, 0], expected["label"])
    for i, row in enumerate(column):
        stored = reader.read(int(row["data_ptr"]))
        np.testing.assert_array_equal(stored, image_bytes(expected, i))
        if row["mode"] == 0:
            pixels = _core.decode_jpeg(stored).astype(int)
            # Two decoders' arithmetic differs by a few grey levels (fast and accurate inverse DCT).
            assert np.abs(pixels - expected[f"pixels_pil_{i}"]).max() <= 3
            assert np.abs(pixels - expected[f"pixels_seed_{i}"]).mean() <= 2


def test_numbers(golden_dir: Path) -> None:
    reader, expected = load(golden_dir, "int_float")
    integers = IntDecoder().decode(reader.metadata["i"], reader.read)
    floats = FloatDecoder().decode(reader.metadata["x"], reader.read)
    assert integers.dtype == np.int64
    assert floats.dtype == np.float64
    np.testing.assert_array_equal(integers, expected["i"].reshape(-1, 1))
    assert floats.tobytes() == expected["x"].tobytes()


def test_bytes(golden_dir: Path) -> None:
    reader, expected = load(golden_dir, "bytes")
    decoder = BytesDecoder()
    decoder.bind(reader, "b")
    batch = decoder.decode(reader.metadata["b"], reader.read)
    assert batch.shape == (8, 4096)
    for i, row in enumerate(batch):
        size = int(expected["size"][i])
        np.testing.assert_array_equal(row[:size], expected[f"b_{i}"])
        assert not row[size:].any()


def test_ndarrays(golden_dir: Path) -> None:
    reader, expected = load(golden_dir, "ndarray")
    assert reader.field_names == ["f4", "i8", "u1", "f2", "f8", "i2", "bool"]
    for name in reader.field_names:
        decoder = NDArrayDecoder()
        decoder.bind(reader, name)
        batch = decoder.decode(reader.metadata[name], reader.read)
        assert batch.dtype == expected[name].dtype
        assert batch.shape == expected[name].shape
        assert batch.tobytes() == expected[name].tobytes()


def test_json(golden_dir: Path) -> None:
    reader, _ = load(golden_dir, "json")
    decoder = BytesDecoder()
    decoder.bind(reader, "j")
    batch = decoder.decode(reader.metadata["j"], reader.read)
    values = json.loads((golden_dir / "json.json").read_text())["j"]
    assert JSONField.unpack(batch) == values
    assert JSONField.unpack(batch[3]) == values[3]


def contents(folder: Path, name: str) -> tuple[dict[str, Field], list[tuple[Any, ...]]]:
    """The fields and the samples from which the original wrote a file."""
    _, expected = load(folder, name)
    if name == "bytes":
        return {"b": BytesField()}, [(expected[f"b_{i}"],) for i in range(8)]
    if name == "json":
        return {"j": JSONField()}, [(value,) for value in json.loads((folder / "json.json").read_text())["j"]]
    if name == "int_float":
        return {"i": IntField(), "x": FloatField()}, list(zip(expected["i"], expected["x"], strict=True))
    if name == "ndarray":
        columns = [expected[key] for key in ("f4", "i8", "u1", "f2", "f8", "i2", "bool")]
        names = ("f4", "i8", "u1", "f2", "f8", "i2", "bool")
        fields = {key: NDArrayField(column.dtype, column.shape[1:]) for key, column in zip(names, columns, strict=True)}
        return fields, list(zip(*columns, strict=True))
    images = []
    for i in range(8):
        height, width = int(expected["height"][i]), int(expected["width"][i])
        is_jpeg = expected["mode"][i] == 0
        images.append(
            EncodedImage(expected[f"jpeg_{i}"].tobytes(), height, width) if is_jpeg else expected[f"pixels_{i}"]
        )
    return {"image": RGBImageField(), "label": IntField()}, list(zip(images, expected["label"], strict=True))


@pytest.mark.parametrize("name", NAMES)
def test_written_again_the_bytes_are_the_same(golden_dir: Path, tmp_path: Path, name: str) -> None:
    fields, samples = contents(golden_dir, name)
    page_size = Reader(golden_dir / f"{name}.beton").page_size
    out = tmp_path / "again.beton"
    DatasetWriter(out, fields, page_size=page_size, num_workers=1, checksums=False).from_indexed_dataset(samples)
    assert out.read_bytes() == (golden_dir / f"{name}.beton").read_bytes()
