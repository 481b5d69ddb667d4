"""docs/format.md is enough to write a reader: one that was written from it reads the original's files and ours."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

sys.path.insert(0, str(Path(__file__).resolve().parent))

from stranger import FIRST_SECTION, Stranger

from ffcv import _core
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
from ffcv.writer import DatasetWriter


def as_array(value: tuple[tuple[int, ...], list[Any]], dtype: np.dtype) -> np.ndarray:
    return np.array(value[1], dtype).reshape(value[0])


@pytest.mark.parametrize("name", ["image_const_raw", "image_jpg", "image_proportion"])
def test_golden_images(shared_dir: Path, name: str) -> None:
    with np.load(shared_dir / "golden" / f"{name}.npz", allow_pickle=False) as expected:
        samples = Stranger((shared_dir / "golden" / f"{name}.beton").read_bytes()).samples
        assert [sample["label"] for sample in samples] == expected["label"].tolist()
        for i, sample in enumerate(samples):
            if f"jpeg_{i}" in expected:
                reference = np.asarray(Image.open(io.BytesIO(expected[f"jpeg_{i}"].tobytes())))
            else:
                reference = expected[f"pixels_{i}"]
            np.testing.assert_array_equal(np.asarray(sample["image"]).reshape(-1), reference.reshape(-1))


def test_golden_values(shared_dir: Path) -> None:
    golden = shared_dir / "golden"
    with np.load(golden / "int_float.npz", allow_pickle=False) as expected:
        samples = Stranger((golden / "int_float.beton").read_bytes()).samples
        assert [sample["i"] for sample in samples] == expected["i"].tolist()
        assert np.array([sample["x"] for sample in samples]).tobytes() == expected["x"].tobytes()
    with np.load(golden / "bytes.npz", allow_pickle=False) as expected:
        for i, sample in enumerate(Stranger((golden / "bytes.beton").read_bytes()).samples):
            (value,) = [value for value in sample.values() if isinstance(value, bytes)]
            assert value == expected[f"b_{i}"].tobytes()
    samples = Stranger((golden / "json.beton").read_bytes()).samples
    assert [sample["j"] for sample in samples] == json.loads((golden / "json.json").read_text("utf-8"))["j"]
    with np.load(golden / "ndarray.npz", allow_pickle=False) as expected:
        reader = Stranger((golden / "ndarray.beton").read_bytes())
        for name, _, _ in reader.fields:
            for i, sample in enumerate(reader.samples):
                array = as_array(sample[name], expected[name].dtype)
                assert array.tobytes() == np.ascontiguousarray(expected[name][i]).tobytes()


def small_jpeg() -> bytes:
    y, x = np.mgrid[:40, :56]
    buffer = io.BytesIO()
    Image.fromarray(np.stack([y * 6, x * 4, y + x], axis=2).astype(np.uint8)).save(buffer, "JPEG")
    return buffer.getvalue()


def test_ours(tmp_path: Path) -> None:
    import torch

    path = tmp_path / "x.beton"
    plain = small_jpeg()
    marked = _core.add_restart_markers(np.frombuffer(plain, np.uint8)).tobytes()
    pixels = np.arange(10 * 12 * 3, dtype=np.uint8).reshape(10, 12, 3)
    fields: dict[str, Field] = {
        "image": RGBImageField(entry_points=True),
        "label": IntField(),
        "x": FloatField(),
        "blob": BytesField(),
        "half": NDArrayField(np.dtype(">f2"), (2, 3)),
        "wave": NDArrayField(np.dtype(np.complex64), (2,)),
        "tensor": TorchTensorField(torch.int16, (3,)),
        "json": JSONField(),
    }
    images = [EncodedImage(plain, 40, 56), EncodedImage(marked, 40, 56), pixels]
    wave = np.array([1 + 2j, -0.5j], np.complex64)
    samples = [
        (
            image,
            i,
            i / 2,
            b"ab" * i,
            np.full((2, 3), i, ">f2"),
            wave,
            torch.full((3,), -i, dtype=torch.int16),
            {"ü": [i]},
        )
        for i, image in enumerate(images)
    ]
    DatasetWriter(path, fields, num_workers=1, manifest={"classes": ["a"]}).from_indexed_dataset(samples)
    reader = Stranger(path.read_bytes())
    assert json.loads(reader.sections[FIRST_SECTION]) == {"classes": ["a"]}
    assert set(reader.sections) == {FIRST_SECTION + number for number in range(4)}
    for i, sample in enumerate(reader.samples):
        assert (sample["label"], sample["x"], sample["blob"], sample["json"]) == (i, i / 2, b"ab" * i, {"ü": [i]})
        assert sample["half"] == ((2, 3), [i] * 6)
        assert sample["wave"] == ((2,), wave.tolist())
        assert sample["tensor"] == ((3,), [-i] * 3)
    for sample in reader.samples[:2]:
        np.testing.assert_array_equal(np.asarray(sample["image"]), np.asarray(Image.open(io.BytesIO(plain))))
    np.testing.assert_array_equal(np.asarray(reader.samples[2]["image"]), pixels)
    ((pointer, rows),) = reader.jpeg_rows.items()
    assert reader.sizes[pointer] == len(marked)
    assert len(rows) == 3  # 40 pixels in MCUs of 16
    for number, row in enumerate(rows[1:]):
        assert reader.data[pointer + row - 2 : pointer + row] == bytes([0xFF, 0xD0 + number])
    # The first point of each row is where the row begins, without a prediction.
    points = reader.entry_points(pointer)
    assert [row[0] for row in points] == [(8 * (start - rows[0]), (0, 0, 0)) for start in rows]
    assert all(len(row) == 1 for row in points)  # 56 pixels
    (other,) = (ptr for owner, ptr, _ in reader.table if owner == 0 and reader.data[ptr : ptr + 2] == b"\xff\xd8")
    assert [row[0][0] for row in reader.entry_points(other)] == sorted(
        {row[0][0] for row in reader.entry_points(other)}
    )


def test_a_stranger_notices_damage(tmp_path: Path) -> None:
    path = tmp_path / "x.beton"
    DatasetWriter(path, {"blob": BytesField()}, num_workers=1).from_indexed_dataset([(b"abc",), (b"def",)])
    content = bytearray(path.read_bytes())
    assert [sample["blob"] for sample in Stranger(bytes(content)).samples] == [b"abc", b"def"]
    content[content.index(b"def")] ^= 1
    with pytest.raises(AssertionError):
        Stranger(bytes(content))


def test_the_stranger_knows_nothing_of_ours() -> None:
    assert "import ffcv" not in (source := Path(__file__).with_name("stranger.py").read_text())
    assert "from ffcv" not in source
