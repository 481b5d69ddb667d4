"""`ffcv write` of a `.beton` and `ffcv merge`, also of fields of custom types."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest

from beton_files import contents, damage, everything
from command_line import assert_one_line_error, run
from ffcv.data.beton import read_manifest
from ffcv.fields import (
    BytesField,
    Field,
    FloatField,
    IntField,
    RGBImageField,
)
from ffcv.fields.base import Malloc, pack_arguments
from ffcv.fields.rgb_image import encode_jpeg
from ffcv.reader import Reader
from ffcv.writer import DatasetWriter


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return everything(tmp_path / "all.beton")


def test_merge(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    a, b = everything(tmp_path / "a.beton"), everything(tmp_path / "b.beton", first=6, count=3)
    out = tmp_path / "out.beton"
    status, stdout, _ = run(capsys, "merge", out, a, b)
    assert status == 0
    assert "9 images of 2 classes" in stdout
    assert contents(out) == contents(a) + contents(b)
    assert Reader(out).metadata["image"]["mode"].tolist() == [0, 1] * 4 + [0]
    # One after the other, or all at once: the same bytes.
    whole = everything(tmp_path / "whole.beton", count=9)
    assert contents(out) == contents(whole)
    assert run(capsys, "merge", "--overwrite", out, b)[0] == 0
    assert contents(out) == contents(b)
    DatasetWriter(tmp_path / "numbers.beton", {"label": IntField()}, num_workers=1).from_indexed_dataset([(1,)])
    assert "out.beton: 1 sample," in run(capsys, "merge", "--overwrite", out, tmp_path / "numbers.beton")[1]


def test_merge_refuses(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    a = everything(tmp_path / "a.beton")
    other_classes = everything(tmp_path / "b.beton", manifest={"classes": ["dog", "cat"]})
    DatasetWriter(tmp_path / "c.beton", {"label": IntField()}, num_workers=1).from_indexed_dataset([(1,)])
    status, _, stderr = run(capsys, "merge", tmp_path / "out.beton", a, other_classes)
    assert_one_line_error(status, stderr, other_classes, "its class names are not those of")
    status, _, stderr = run(capsys, "merge", tmp_path / "out.beton", a, tmp_path / "c.beton")
    assert_one_line_error(status, stderr, "only files with the same fields can be merged")
    status, _, stderr = run(capsys, "merge", a, a)
    assert status == 2
    before = a.read_bytes()
    status, _, stderr = run(capsys, "merge", a, other_classes)  # `ffcv merge *.beton`
    assert_one_line_error(status, stderr, a, "is there already", "--overwrite")
    assert a.read_bytes() == before
    assert sorted(os.listdir(tmp_path)) == ["a.beton", "b.beton", "c.beton"]


def test_merge_refuses_damaged_samples(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    a = everything(tmp_path / "a.beton")
    damage(a, int(Reader(a).metadata["image"]["data_ptr"][1]) + 7)
    status, _, stderr = run(capsys, "merge", tmp_path / "out.beton", a)
    assert_one_line_error(status, stderr, "sample 1", "checksum mismatch")
    assert os.listdir(tmp_path) == ["a.beton"]


def test_write_selects_filters_shuffles_and_shards(
    file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows, out = contents(file), tmp_path / "out.beton"
    assert run(capsys, "write", file, out, "--select", "1:6:2")[0] == 0
    assert contents(out) == rows[1:6:2]
    assert run(capsys, "write", file, out, "--where", "label=1")[0] == 0
    assert contents(out) == rows[1::2]
    assert run(capsys, "write", file, out, "--where", "x=0.5,2")[0] == 0
    assert contents(out) == [rows[1], rows[4]]
    assert run(capsys, "write", file, out, "--shuffle", "3")[0] == 0
    shuffled = contents(out)
    assert sorted(map(str, shuffled)) == sorted(map(str, rows))
    assert shuffled != rows
    run(capsys, "write", file, out, "--shuffle", "3", "--workers", "1")
    assert contents(out) == shuffled
    assert run(capsys, "write", file, out, "--shards", "2")[0] == 0
    shards = [tmp_path / f"out-0000{i}-of-00002.beton" for i in range(2)]
    assert contents(shards[0]) + contents(shards[1]) == rows
    assert run(capsys, "write", file, out, "--write-mode", "raw")[0] == 0
    assert Reader(out).metadata["image"]["mode"].tolist() == [1] * 6
    for options in (("--where", "label"), ("--where", "label=x"), ("--select", "a:b")):
        assert run(capsys, "write", file, out, *options)[0] == 2
    for options in (("--where", "nope=1"), ("--where", "label=9"), ("--shards", "7")):
        assert run(capsys, "write", file, out, *options)[0] == 1


class PairField(IntField):
    """A custom type, as projects define them."""

    @property
    def metadata_type(self) -> np.dtype:
        return np.dtype([("first", "<i4"), ("second", "<i4")])

    @staticmethod
    def from_binary(binary: np.ndarray) -> PairField:
        return PairField()

    def encode(self, destination: np.ndarray, value: tuple[int, int], malloc: object) -> None:
        destination["first"], destination["second"] = value


def test_files_with_fields_of_custom_types(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "pairs.beton"
    DatasetWriter(path, {"pair": PairField(), "x": FloatField()}, num_workers=1).from_indexed_dataset(
        [((i, i), i) for i in range(5)]
    )
    option = f"--custom-field=pair={__name__}:PairField"
    status, out, _ = run(capsys, "info", path, "--json", option)
    assert status == 0
    assert json.loads(out)["fields"]["pair"]["type"] == "PairField"
    status, out, _ = run(capsys, "verify", path, "--decode", option)
    assert status == 0
    assert "every sample decoded but for the custom pair" in out
    damage(path, path.stat().st_size - 1)
    assert run(capsys, "verify", path, option)[0] == 1

    commands = [["info", path], ["verify", path], ["write", path, tmp_path / "o"], ["merge", tmp_path / "o", path]]
    for command in [*commands, ["extract", path, tmp_path / "o"]]:
        for options, problem in (
            ((), "--custom-field pair=MODULE:CLASS"),
            (("--custom-field=pair",), "write NAME=MODULE:CLASS"),
            (("--custom-field=pair=nowhere:X",), "No module named 'nowhere'"),
            (("--custom-field=pair=.fields:X",), "relative import"),
            (("--custom-field=pair=json:loads",), "is no subclass of ffcv.fields.Field"),
        ):
            status, _, err = run(capsys, *command, *options)
            assert_one_line_error(status, err, problem)


class BlobsField(Field):
    """A custom type with two pointers of its own, and numbers that are none."""

    metadata_type = np.dtype([("second", "<u8"), ("number", "<i8"), ("first", ">u8")])  # type: ignore[assignment]

    @staticmethod
    def from_binary(binary: np.ndarray) -> BlobsField:
        return BlobsField()

    def to_binary(self) -> object:
        return pack_arguments(b"blobs")

    def encode(self, destination: np.ndarray, value: tuple[bytes, bytes, int], malloc: Malloc) -> None:
        for name, content in zip(("first", "second"), value[:2], strict=True):
            destination[name], buffer = malloc(len(content))
            buffer[:] = np.frombuffer(content, np.uint8)
        destination["number"] = value[2]

    def get_decoder_class(self) -> type:
        return IntField().get_decoder_class()


BLOBS = f"--custom-field=blobs={__name__}:BlobsField"


def blobs_file(path: Path, count: int = 4, number: int = -5) -> Path:
    fields = {"x": BytesField(), "blobs": BlobsField(), "image": RGBImageField()}
    image = np.zeros((4, 5, 3), np.uint8)
    samples = [(bytes([i]), (bytes([i]) * i, b"second", number), image) for i in range(count)]
    DatasetWriter(path, fields, num_workers=1).from_indexed_dataset(samples)
    return path


def blobs_of(path: Path) -> list[tuple[bytes, bytes, int]]:
    reader = Reader(path, {"blobs": BlobsField})
    return [
        (reader.read(int(row["first"])).tobytes(), reader.read(int(row["second"])).tobytes(), int(row["number"]))
        for row in reader.metadata["blobs"]
    ]


def test_values_of_custom_types_are_copied(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path, out = blobs_file(tmp_path / "in.beton"), tmp_path / "out.beton"
    expected = [(bytes([i]) * i, b"second", -5) for i in range(4)]
    assert run(capsys, "write", path, out, "--select", "::-1", BLOBS)[0] == 0
    assert blobs_of(out) == expected[::-1]
    assert Reader(out, {"blobs": BlobsField}).field_descriptors["arguments"][1][:5].tobytes() == b"blobs"
    assert run(capsys, "merge", tmp_path / "merged.beton", out, path, BLOBS)[0] == 0
    assert blobs_of(tmp_path / "merged.beton") == expected[::-1] + expected
    assert run(capsys, "verify", tmp_path / "merged.beton", BLOBS)[0] == 0
    assert run(capsys, "extract", path, tmp_path / "files", BLOBS)[0] == 0
    with np.load(tmp_path / "files" / "00000003-blobs.npz") as arrays:
        metadata = arrays["metadata"][0]
        assert arrays[str(metadata["first"])].tobytes() == b"\x03\x03\x03"
        assert arrays[str(metadata["second"])].tobytes() == b"second"


def test_custom_values_that_can_be_read_in_two_ways_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, out = blobs_file(tmp_path / "in.beton"), tmp_path / "out.beton"
    pointer = int(Reader(path, {"blobs": BlobsField}).metadata["blobs"]["second"][2])
    blobs_file(path, number=pointer)  # which looks like a pointer in one sample
    status, _, stderr = run(capsys, "write", path, out, BLOBS)
    assert_one_line_error(status, stderr, "sample 2", "field 'blobs'", f"two of its numbers are {pointer}")
    place = int(Reader(path, {"blobs": BlobsField}).metadata["x"]["ptr"][1])
    blobs_file(path, number=place)  # another field's bytes begin there: certainly a number
    assert run(capsys, "write", path, out, BLOBS)[0] == 0
    assert blobs_of(out) == blobs_of(path)
    hidden = f"--custom-field=blobs={__name__}:HiddenField"
    # Every sample fails: with several workers any may be the first.
    status, _, stderr = run(capsys, "write", path, out, hidden, "--workers", "1")
    assert_one_line_error(status, stderr, "sample 0", "no 64-bit number of its metadata points to some of its bytes")


class HiddenField(BlobsField):
    """The same metadata, its pointers in a form that nobody recognises."""

    metadata_type = np.dtype([("bytes", "<u4", (6,))])  # type: ignore[assignment]

    @staticmethod
    def from_binary(binary: np.ndarray) -> HiddenField:
        return HiddenField()


def test_the_manifest_tells_where_a_file_came_from(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    a, b, out = tmp_path / "a.beton", everything(tmp_path / "b.beton"), tmp_path / "out.beton"
    options = ("--shuffle", "3", "--select", "1:", "--where", "label=0,1", "--on-error", "skip", "--exif-orientation")
    assert run(capsys, "write", b, a, *options)[0] == 0
    manifest = read_manifest(Reader(a))
    assert manifest is not None
    assert manifest["encoding"] == {"write_mode": "raw", "exif_orientation": True}
    assert manifest["options"] == {"shuffle": 3, "select": "1:", "where": "label=0,1", "on_error": "skip"}
    assert manifest["inputs"] == [{"source": "b.beton", "num_samples": 6, "manifest": {}}]
    assert run(capsys, "merge", out, a, b)[0] == 0
    merged = read_manifest(Reader(out))
    assert merged is not None
    assert set(merged) == {"source", "classes", "package", "inputs"}
    assert merged["source"] == "a.beton ... b.beton (2 files)"
    del manifest["classes"]
    assert merged["inputs"] == [
        {"source": "a.beton", "num_samples": 5, "manifest": manifest},
        {"source": "b.beton", "num_samples": 6, "manifest": {}},
    ]


def test_select_needs_a_range(file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for text in ("3", "1:2:3:4", "::0", "x:"):
        assert run(capsys, "write", file, tmp_path / "y.beton", "--select", text)[0] == 2
        assert run(capsys, "extract", file, tmp_path / "y", "--select", text)[0] == 2
    assert sorted(os.listdir(tmp_path)) == ["all.beton"]


def test_a_long_list_of_skipped_samples_is_said_to_be_cut(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder, out = tmp_path / "photos" / "cat", tmp_path / "x.beton"
    folder.mkdir(parents=True)
    for i in range(1003):
        (folder / f"{i:04d}.jpg").write_bytes(b"no image" if i else encode_jpeg(np.zeros((8, 8, 3), np.uint8), 90))
    status, _, stderr = run(capsys, "write", folder.parent, out, "--on-error", "skip")
    assert status == 0
    assert (
        "1,002 of 1,003 samples were left out; the file's manifest lists them (the first 1,000 of each file)" in stderr
    )
    manifest = read_manifest(Reader(out))
    assert manifest is not None
    assert (manifest["skipped"]["count"], len(manifest["skipped"]["first"])) == (1002, 1000)
