"""`ffcv verify`, and what `info` says about images."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterable
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from beton_files import contents, damage, everything
from command_line import assert_one_line_error, run
from ffcv import _core
from ffcv._file_bytes import FileBytes
from ffcv.cli import verify
from ffcv.errors import FormatError
from ffcv.fields import (
    EncodedImage,
    IntField,
    RGBImageField,
)
from ffcv.fields.rgb_image import encode_jpeg
from ffcv.format import ALLOCATION, Section
from ffcv.reader import Reader
from ffcv.writer import DatasetWriter


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return everything(tmp_path / "all.beton")


def test_verify_good_files(file: Path, shared_dir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for path in (file, *sorted((shared_dir / "golden").glob("*.beton"))):
        for options in ((), ("--decode",), ("--decode", "--json")):
            status, stdout, _ = run(capsys, "verify", path, *options)
            assert status == 0
            if "--json" in options:
                assert json.loads(stdout)["bad"] == []
            else:
                assert f"{path}: good (structure" in stdout


def test_verify_lists_every_bad_sample(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    reader = Reader(file)
    for sample in (1, 4):
        damage(file, int(reader.metadata["image"]["data_ptr"][sample]) + 300)
    damage(file, int(reader.metadata["array"][5]))
    damage(file, reader.sections[Section.MANIFEST][0])
    status, stdout, _ = run(capsys, "verify", file)
    assert status == 1
    lines = stdout.splitlines()
    for expected in ("sample 1: checksum", "sample 4: checksum", "sample 5: checksum", "section manifest: "):
        assert any(line.startswith(expected) for line in lines)
    assert lines[-1].startswith(f"{file}: 4 of 6 samples (or sections) are bad")
    status, stdout, _ = run(capsys, "verify", file, "--decode", "--json")
    assert status == 1
    bad = json.loads(stdout)["bad"]
    assert {entry["sample"] for entry in bad} == {1, 4, 5, "section manifest"}


def test_verify_decodes_where_there_are_no_checksums(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = everything(tmp_path / "x.beton", checksums=False)
    reader = Reader(path)
    content = bytearray(path.read_bytes())
    pointer = int(reader.metadata["image"]["data_ptr"][2])
    size = int(reader.sizes(np.array([pointer], np.uint64))[0])
    content[pointer + size // 2 : pointer + size] = bytes(size - size // 2)
    content[int(reader.metadata["json"]["ptr"][3])] = ord("x")
    path.write_bytes(content)
    status, stdout, _ = run(capsys, "verify", path)
    assert status == 0
    assert "it has no checksums, so that only --decode can find damaged samples" in stdout
    status, stdout, _ = run(capsys, "verify", path, "--decode")
    assert status == 1
    assert "sample 2: field 'image': damaged JPEG" in stdout
    assert "sample 3: field 'json': " in stdout
    assert "2 of 6 samples (or sections) are bad" in stdout


def test_verify_finds_a_jpeg_of_another_size(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "x.beton"
    jpeg = encode_jpeg(np.zeros((8, 9, 3), np.uint8), 90)
    writer = DatasetWriter(path, {"image": RGBImageField()}, num_workers=1)
    writer.from_indexed_dataset([(EncodedImage(jpeg, 8, 9),), (EncodedImage(jpeg, 8, 8),)])
    status, stdout, _ = run(capsys, "verify", path, "--decode")
    assert status == 1
    assert "sample 1: field 'image': a JPEG of 8 x 9 pixels and 3 components, but the metadata say 8 x 8" in stdout


def test_verify_files_that_do_not_open(file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    reader = Reader(file)
    damage(file, reader._metadata_start + 60)
    status, _, stderr = run(capsys, "verify", file)
    assert status == 1
    assert "error: " in stderr
    status, _, stderr = run(capsys, "verify", tmp_path / "none.beton")
    assert_one_line_error(status, stderr, "no such file")


def test_info_shows_sizes_and_extras(file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status, stdout, _ = run(capsys, "info", file)
    assert status == 0
    for part in ("longer side of image", "16-31", "32-63", "has checksums", "50.0% JPEG", "2 classes: cat, dog"):
        assert part in stdout
    summary = json.loads(run(capsys, "info", file, "--json")[1])
    assert summary["fields"]["image"]["long_sides"] == {"16-31": 2, "32-63": 4}
    assert summary["checksums"] is True
    assert summary["restart_index"] is False
    plain = everything(tmp_path / "plain.beton", checksums=False)
    assert "has no checksums" in run(capsys, "info", plain)[1]


def test_allocation_of_another_sample_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = everything(tmp_path / "x.beton", checksums=False, manifest=None)
    content = bytearray(path.read_bytes())
    table = np.frombuffer(content, ALLOCATION, offset=int(Reader(path).header["alloc_table_ptr"]))
    table = table.copy()
    table["sample_id"][[0, -1]] = table["sample_id"][[-1, 0]]
    content[-table.nbytes :] = table.tobytes()
    path.write_bytes(content)
    status, _, stderr = run(capsys, "verify", path)
    assert_one_line_error(status, stderr, "which belongs to another sample")


@pytest.mark.parametrize(
    "manifest",
    [
        "{",
        "[]",
        '{"classes": 5}',
        '{"classes": {"cat": 0}}',
        '{"classes": [1]}',
        '{"classes": ["\\ud800"]}',
        "[" * 9000,
    ],
)
def test_manifests_that_make_no_sense(tmp_path: Path, capsys: pytest.CaptureFixture[str], manifest: str) -> None:
    path = tmp_path / "x.beton"
    writer = DatasetWriter(path, {"label": IntField()}, num_workers=1, manifest={"x": "y" * 10_000}, checksums=False)
    writer.from_indexed_dataset([(0,), (1,)])
    place, size = Reader(path).sections[Section.MANIFEST]
    content = bytearray(path.read_bytes())
    content[place : place + size] = manifest.encode().ljust(size)
    path.write_bytes(content)
    for command in (["info", path], ["extract", path, tmp_path / "out"], ["merge", tmp_path / "o.beton", path, path]):
        status, _, error = run(capsys, *command)
        assert_one_line_error(status, error, path, "the manifest", "restore it")
    status, out, _ = run(capsys, "verify", path)
    assert (status, "section manifest: the manifest" in out) == (1, True)


def test_devices_and_pipes_are_not_replaced(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source, pipe = everything(tmp_path / "x.beton"), tmp_path / "pipe"
    os.mkfifo(pipe)
    (tmp_path / "link").symlink_to(pipe)
    for target in (pipe, tmp_path / "link"):
        status, _, error = run(capsys, "write", source, target)
        assert_one_line_error(status, error, target, "is a device, a pipe or a socket")
        assert pipe.is_fifo()


def test_verify_compares_the_index_of_jpeg_rows(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "x.beton"
    jpeg = _core.add_restart_markers(np.frombuffer(encode_jpeg(np.zeros((40, 30, 3), np.uint8), 90), np.uint8))
    writer = DatasetWriter(path, {"image": RGBImageField()}, num_workers=1, checksums=False)
    writer.from_indexed_dataset([(EncodedImage(jpeg.tobytes(), 40, 30),)] * 2)
    assert run(capsys, "verify", path, "--decode")[0] == 0
    place, size = Reader(path).sections[Section.JPEG_RESTART_INDEX]
    damage(path, place + size - 1)  # of the second image's last row
    status, stdout, _ = run(capsys, "verify", path, "--decode")
    assert status == 1
    assert "sample 1: field 'image': its rows do not begin where the index of JPEG rows says" in stdout
    assert "1 of 2 samples" in stdout


def test_verify_of_a_file_that_shrinks_meanwhile(tmp_path: Path) -> None:
    """An error, where reading through a mapping would end the process."""
    path = everything(tmp_path / "x.beton", count=40)
    code = f"""
import os, sys
from ffcv.cli import main, verify
check = verify._check_contents
def shrink(reader, rows):
    os.truncate({str(path)!r}, 1 << 20)
    return check(reader, rows)
verify._check_contents = shrink
main.main(["verify", {str(path)!r}])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert_one_line_error(done.returncode, done.stderr, path, "it changed while it was being read")


def test_verify_waits_for_no_blocks_after_an_exception(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    begun = threading.Event()
    seen: list[int] = []

    def check(reader: Reader, samples: Iterable[int]) -> list[verify.Problem]:
        for sample in samples:
            if sample == 0:
                begun.wait(60)
                raise KeyboardInterrupt
            begun.set()
            seen.append(sample)
            if len(seen) == 1000:
                break
            time.sleep(0.01)  # of a block that would take months
        return []

    monkeypatch.setattr(verify, "available_cores", lambda: 2)
    monkeypatch.setattr(verify, "_BLOCK", 10**9)
    with pytest.raises(KeyboardInterrupt):
        verify._in_blocks(partial(check, Reader(file)), 2 * 10**9, "Checking", "samples")
    assert len(seen) < 1000


@pytest.mark.parametrize("message", ["", "std::bad_alloc"])
def test_lack_of_memory_is_one_sentence(
    file: Path, message: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> list[verify.Problem]:
        raise MemoryError(message)

    monkeypatch.setattr(verify, "_decode", fail)
    status, _, error = run(capsys, "verify", file, "--decode")
    assert_one_line_error(status, error, "not enough memory: end other programs")


def test_verify_reports_bytes_that_the_disk_does_not_give(
    file: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    pointer = int(Reader(file).metadata["image"]["data_ptr"][3])
    read = FileBytes._read

    def fail(self: FileBytes, start: int, out: np.ndarray) -> None:
        if start == pointer:
            raise FormatError(f"{self.path}: reading at byte {start} failed: Input/output error")
        read(self, start, out)

    monkeypatch.setattr(FileBytes, "_read", fail)
    status, stdout, _ = run(capsys, "verify", file)
    assert status == 1
    assert f"sample 3: reading at byte {pointer} failed: Input/output error" in stdout
    assert "1 of 6 samples" in stdout


@pytest.mark.parametrize("table_in_memory", [0, 64 << 20])
def test_large_tables_are_not_mapped(
    file: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, table_in_memory: int
) -> None:
    expected = contents(file)
    monkeypatch.setattr("ffcv.reader.TABLE_IN_MEMORY", table_in_memory)
    if table_in_memory == 0:  # whatever looks at the mapping sees other numbers than the file has
        monkeypatch.setattr(Reader, "data", np.full(file.stat().st_size, 0xFF, np.uint8))
    reader = Reader(file)
    assert reader.column("label").tolist() == [0, 1] * 3
    assert reader.rows(2, 100)["x"].tolist() == [1.0, 1.5, 2.0, 2.5]
    assert run(capsys, "verify", file, "--decode")[0] == 0
    assert contents(file) == expected


def test_verify_json_of_files_that_do_not_open(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "x.beton"
    path.write_bytes(b"no such format" * 9)
    for target, problem in ((path, "not a .beton file"), (tmp_path / "none.beton", "no such file")):
        status, stdout, stderr = run(capsys, "verify", target, "--json")
        assert_one_line_error(status, stderr, target, problem)
        summary = json.loads(stdout)
        assert summary["path"] == str(target)
        assert problem in summary["error"]


def test_info_of_an_image_field_named_like_markup(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "x.beton"
    writer = DatasetWriter(path, {"[/a]": RGBImageField()}, num_workers=1)
    writer.from_indexed_dataset([(np.zeros((8, 8, 3), np.uint8),)])
    status, stdout, _ = run(capsys, "info", path)
    assert status == 0
    assert "longer side of [/a]" in stdout
