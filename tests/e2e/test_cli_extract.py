"""`ffcv extract`, and `ffcv write` of what it makes."""

from __future__ import annotations

import csv
import errno
import json
import os
import resource
from pathlib import Path

import numpy as np
import pytest

from beton_files import contents, damage, everything
from command_line import assert_one_line_error, run
from datasets import photo_samples
from ffcv.fields import (
    BytesField,
    IntField,
    RGBImageField,
)
from ffcv.reader import Reader
from ffcv.writer import DatasetWriter


def test_extract_and_write_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = everything(tmp_path / "all.beton")
    folder = tmp_path / "files"
    status, stdout, _ = run(capsys, "extract", file, folder)
    assert status == 0
    assert "6 samples" in stdout
    with open(folder / "samples.csv", newline="") as table:
        rows = list(csv.DictReader(table))
    assert [row["path"] for row in rows][:2] == ["cat/00000000.jpg", "dog/00000001.png"]
    assert rows[3]["label"] == "1"
    assert rows[3]["x"] == "1.5"
    assert (folder / rows[3]["blob"]).read_bytes() == b"\x03\x03\x03"
    assert np.load(folder / rows[3]["array"]).tolist() == [3, 3]
    assert np.load(folder / rows[3]["tensor"]).tolist() == [3, 3, 3]
    assert json.loads((folder / rows[3]["json"]).read_text()) == {"i": 3}
    again = tmp_path / "again.beton"
    assert run(capsys, "write", folder / "samples.csv", again)[0] == 0
    before, after = Reader(file), Reader(again)
    assert after.metadata["label"].tolist() == before.metadata["label"].tolist()
    for i in range(6):
        pointers = [int(reader.metadata["image"]["data_ptr"][i]) for reader in (before, after)]
        assert before.read(pointers[0]).tobytes() == after.read(pointers[1]).tobytes()
    status, _, stderr = run(capsys, "extract", file, folder)
    assert_one_line_error(status, stderr, "is not empty; give a new folder")


def test_extract_keeps_inside_its_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = everything(tmp_path / "x.beton", manifest={"classes": ["../../evil", ".."]})
    (tmp_path / "inner").mkdir()
    assert run(capsys, "extract", path, tmp_path / "inner" / "files", "--select", ":2")[0] == 0
    assert sorted(os.listdir(tmp_path / "inner" / "files")) == ["class-0", "class-1", "samples.csv"]
    assert sorted(os.listdir(tmp_path)) == ["inner", "x.beton"]


def test_extract_survives_any_class_name(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "x.beton"
    classes = ["samples.csv", "猫" * 90, ".hidden", "a/b", "ordinary one"]
    fields = {"blob": BytesField(), "label": IntField()}
    samples = [(b"x", i) for i in range(len(classes))]
    writer = DatasetWriter(path, fields, num_workers=1, manifest={"classes": classes})
    writer.from_indexed_dataset(samples)
    assert run(capsys, "extract", path, tmp_path / "out")[0] == 0
    folders = sorted(entry.name for entry in (tmp_path / "out").iterdir() if entry.is_dir())
    assert folders == ["class-0", "class-1", "class-2", "class-3", "ordinary one"]


def test_extract_keeps_the_names_of_two_image_fields(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pixels = np.ascontiguousarray(photo_samples(1)[0][0][:20, :30])
    path = tmp_path / "pairs.beton"
    writer = DatasetWriter(path, {"left": RGBImageField(), "right": RGBImageField()}, num_workers=1)
    writer.from_indexed_dataset([(pixels, pixels[:, ::-1])])
    assert run(capsys, "extract", path, tmp_path / "out")[0] == 0
    with open(tmp_path / "out" / "samples.csv", newline="") as table:
        (row,) = csv.DictReader(table)
    assert row == {"sample": "0", "left": "00000000-left.png", "right": "00000000-right.png"}


def test_extract_keeps_fields_apart_whose_names_differ_in_signs_only(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, names = tmp_path / "x.beton", ["a.b", "a_b", "a b", "a_b_"]
    writer = DatasetWriter(path, {name: BytesField() for name in names}, num_workers=1)
    writer.from_indexed_dataset([tuple(name.encode() for name in names)])
    assert run(capsys, "extract", path, tmp_path / "out")[0] == 0
    with open(tmp_path / "out" / "samples.csv", newline="") as table:
        (row,) = csv.DictReader(table)
    assert {name: (tmp_path / "out" / row[name]).read_bytes().decode() for name in names} == {
        name: name for name in names
    }


def test_extract_and_write_classes_whose_names_begin_and_end_in_spaces(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, again, image = tmp_path / "x.beton", tmp_path / "again.beton", np.zeros((8, 8, 3), np.uint8)
    fields = {"image": RGBImageField(), "label": IntField()}
    writer = DatasetWriter(path, fields, num_workers=1, manifest={"classes": [" cat ", "dog"]})
    writer.from_indexed_dataset([(image, i) for i in range(2)])
    assert run(capsys, "extract", path, tmp_path / "out")[0] == 0
    assert run(capsys, "write", tmp_path / "out" / "samples.csv", again)[0] == 0
    assert contents(again) == contents(path)
    (tmp_path / "out" / "padded.csv").write_text("  dog/00000001.png , 1\n")
    assert run(capsys, "write", tmp_path / "out" / "padded.csv", again)[0] == 0
    assert Reader(again).metadata["label"].tolist() == [1]


def test_extract_to_a_disk_that_fills_up_names_the_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path, full = tmp_path / "x.beton", tmp_path / "full"
    DatasetWriter(path, {"label": IntField()}, num_workers=1).from_indexed_dataset([(i,) for i in range(99)])
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (300, limits[1]))
    try:
        status, _, error = run(capsys, "extract", path, full)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert_one_line_error(status, error, f"{full / 'samples.csv'}: File too large; free space")


def test_extract_blames_the_disk_for_its_own_errors_only(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    path, folder = everything(tmp_path / "all.beton"), tmp_path / "folder"

    def refuse(self: Path, data: bytes) -> int:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(self))

    monkeypatch.setattr(Path, "write_bytes", refuse)
    status, _, error = run(capsys, "extract", path, folder)
    assert_one_line_error(status, error, folder, ": Permission denied")
    assert "free space" not in error


def test_extract_names_what_fails_and_gives_the_rest(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = everything(tmp_path / "x.beton")
    damage(path, int(Reader(path).metadata["blob"]["ptr"][4]))
    status, _, error = run(capsys, "extract", path, tmp_path / "out")
    assert_one_line_error(status, error, path, "1 of 6 samples are bad", tmp_path / "out")
    assert "sample 4: field 'blob': checksum mismatch" in error
    with open(tmp_path / "out" / "samples.csv", newline="") as table:
        assert [row["sample"] for row in csv.DictReader(table)] == ["0", "1", "2", "3", "5"]
    assert not (tmp_path / "out" / "cat" / "00000004.jpg").exists()
    status, _, error = run(capsys, "extract", path, tmp_path / "none", "--select", "100:")
    assert_one_line_error(status, error, path, "no sample is selected")
    assert not (tmp_path / "none").exists()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (300, limits[1]))
    try:
        status, _, error = run(capsys, "extract", path, tmp_path / "full", "--select", ":3")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert_one_line_error(status, error, tmp_path / "full", ".jpg: File too large; free space")


def test_extract_gives_every_class_a_folder_and_every_column_a_name(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, image = tmp_path / "x.beton", np.zeros((8, 8, 3), np.uint8)
    fields = {"image": RGBImageField(), "label": IntField(), "path": BytesField(), "sample": IntField()}
    writer = DatasetWriter(path, fields, num_workers=1, manifest={"classes": ["a/b", "class-0", "A", "A"]})
    writer.from_indexed_dataset([(image, i, b"z", 9) for i in range(5)])
    assert run(capsys, "extract", path, tmp_path / "out")[0] == 0
    with open(tmp_path / "out" / "samples.csv", newline="") as table:
        rows = list(csv.reader(table))
    assert rows[0] == ["sample", "path", "label", "field path", "field sample"]
    assert [Path(row[1]).parent.name for row in rows[1:]] == ["class-0_", "class-0", "class-2", "A", "class-4"]
    again = tmp_path / "again.beton"
    assert run(capsys, "write", tmp_path / "out" / "samples.csv", again)[0] == 0
    assert Reader(again).metadata["label"].tolist() == list(range(5))
