"""`ffcv write` and `ffcv info`; each bad input is one line on stderr and exit status 1, with nothing left behind."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from command_line import assert_one_line_error, run
from ffcv.format import Section
from ffcv.reader import Reader


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Two classes; JPEGs of 60 x 80 (width x height) and a PNG of 20 x 10."""
    root = tmp_path / "photos"
    y, x = np.mgrid[:80, :60]
    image = Image.fromarray(np.stack([y * 3, x * 4, x + y], axis=2).astype(np.uint8))
    for name in ("cat/0.jpg", "cat/1.jpg", "dog/2.jpg"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        image.save(root / name, quality=85)
    image.resize((20, 10)).save(root / "dog" / "3.png")
    return root


@pytest.fixture
def out(tmp_path: Path) -> Path:
    folder = tmp_path / "out"
    folder.mkdir()
    return folder / "photos.beton"


def test_write_keeps_jpegs_by_default(photos: Path, out: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status, stdout, _ = run(capsys, "write", photos, out)
    assert status == 0
    assert "4 images of 2 classes" in stdout
    assert os.listdir(out.parent) == ["photos.beton"]
    reader = Reader(out)
    assert reader.metadata["label"].tolist() == [0, 0, 1, 1]
    assert reader.metadata["image"]["mode"].tolist() == [0, 0, 0, 1]
    for row, name in zip(reader.metadata["image"], ("cat/0.jpg", "cat/1.jpg", "dog/2.jpg"), strict=False):
        assert reader.read(int(row["data_ptr"])).tobytes() == (photos / name).read_bytes()
    manifest = json.loads(reader.read_section(Section.MANIFEST) or b"")
    package = manifest.pop("package")
    assert package.startswith("ffcv-ssl ")
    assert manifest == {"classes": ["cat", "dog"], "source": "photos", "encoding": {"write_mode": "raw"}}


def test_one_class_and_one_image_are_not_several(
    photos: Path, tmp_path: Path, out: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    only = tmp_path / "only"
    (only / "cat").mkdir(parents=True)
    (photos / "cat" / "0.jpg").rename(only / "cat" / "0.jpg")
    assert "1 image of 1 class," in run(capsys, "write", only, out)[1]
    info = run(capsys, "info", out)[1]
    assert "1 sample," in info
    assert "1 class: cat" in info


def test_write_max_resolution(photos: Path, out: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(capsys, "write", photos, out, "--max-resolution", "40")[0] == 0
    image = Reader(out).metadata["image"]
    assert image["mode"].tolist() == [0, 0, 0, 0]
    assert list(zip(image["width"].tolist(), image["height"].tolist(), strict=True)) == [(30, 40)] * 3 + [(20, 10)]


@pytest.mark.parametrize(
    ("options", "modes"),
    [
        (("--quality", "30"), [0, 0, 0, 0]),
        (("--write-mode", "raw"), [1, 1, 1, 1]),
        (("--write-mode", "smart", "--smart-threshold", "1000"), [0, 0, 0, 1]),
        (("--write-mode", "proportion", "--compress-probability", "0", "--workers", "1"), [1, 1, 1, 1]),
    ],
)
def test_write_encodes_again_on_request(
    photos: Path, out: Path, capsys: pytest.CaptureFixture[str], options: tuple[str, ...], modes: list[int]
) -> None:
    assert run(capsys, "write", photos, out, *options)[0] == 0
    reader = Reader(out)
    assert reader.metadata["image"]["mode"].tolist() == modes
    stored = reader.read(int(reader.metadata["image"]["data_ptr"][0])).tobytes()
    assert stored != (photos / "cat" / "0.jpg").read_bytes()


@pytest.mark.parametrize(
    "options",
    [
        ("--write-mode", "png"),
        ("--quality", "0"),
        ("--max-resolution", "0"),
        ("--shuffle", "-1"),
        ("--smart-threshold", "9"),
        ("--write-mode", "smart"),
        ("--compress-probability", "0.5"),
        ("--quality", "50", "--write-mode", "raw"),
    ],
)
def test_write_refuses_options(
    photos: Path, out: Path, capsys: pytest.CaptureFixture[str], options: tuple[str, ...]
) -> None:
    status, _, stderr = run(capsys, "write", photos, out, *options)
    assert status == 2
    assert options[0] in stderr
    assert os.listdir(out.parent) == []


def test_write_bad_folders(tmp_path: Path, photos: Path, out: Path, capsys: pytest.CaptureFixture[str]) -> None:
    missing = tmp_path / "missing"
    status, _, stderr = run(capsys, "write", missing, out)
    assert_one_line_error(status, stderr, missing, "no such folder", "expected one sub-folder a class")

    empty = tmp_path / "empty"
    empty.mkdir()
    status, _, stderr = run(capsys, "write", empty, out)
    assert_one_line_error(status, stderr, empty, "no sub-folders with images", "expected one sub-folder a class")

    status, _, stderr = run(capsys, "write", photos / "cat", out)
    assert_one_line_error(status, stderr, photos / "cat", "contains images, but no sub-folders")

    (empty / "cat").mkdir()
    status, _, stderr = run(capsys, "write", empty, out)
    assert_one_line_error(status, stderr, empty, "no images")
    assert os.listdir(out.parent) == []


@pytest.mark.parametrize("options", [(), ("--quality", "80"), ("--workers", "1")])
def test_write_bad_images(
    photos: Path, out: Path, capsys: pytest.CaptureFixture[str], options: tuple[str, ...]
) -> None:
    broken = photos / "cat" / "1.jpg"
    good = broken.read_bytes()
    broken.write_bytes(good[: len(good) // 2])
    status, _, stderr = run(capsys, "write", photos, out, *options)
    assert_one_line_error(status, stderr, broken, "damaged JPEG", "replace it or remove it", "sample 1")

    broken.write_text("a text file named .jpg")
    status, _, stderr = run(capsys, "write", photos, out, *options)
    assert_one_line_error(status, stderr, broken, "not an image", "replace it or remove it")
    assert os.listdir(out.parent) == []


def test_write_keeps_the_older_file_when_it_fails(photos: Path, out: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(capsys, "write", photos, out)[0] == 0
    older = out.read_bytes()
    (photos / "dog" / "2.jpg").write_bytes(b"")
    status, _, stderr = run(capsys, "write", photos, out)
    assert_one_line_error(status, stderr, photos / "dog" / "2.jpg", "not an image")
    assert out.read_bytes() == older
    assert os.listdir(out.parent) == ["photos.beton"]


def test_write_replaces_no_file_of_another_kind(photos: Path, out: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`ffcv write *.csv`, with OUT forgotten, names one of the sources."""
    out = out.with_suffix(".csv")
    content = f"{photos}/cat/0.jpg,0\n"
    out.write_text(content)
    status, _, stderr = run(capsys, "write", photos, out)
    assert_one_line_error(status, stderr, out, "is no .beton file; give another name")
    assert out.read_text() == content
    out.write_bytes(b"")  # as mktemp makes them
    assert run(capsys, "write", photos, out)[0] == 0
    assert run(capsys, "write", out.rename(out.with_suffix(".beton")), out.with_suffix(".beton"))[0] == 0
    assert Reader(out.with_suffix(".beton")).num_samples == 4


def test_write_bad_targets(tmp_path: Path, photos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status, _, stderr = run(capsys, "write", photos, tmp_path / "none" / "x.beton")
    assert_one_line_error(status, stderr, tmp_path / "none" / "x.beton", "create it first: mkdir -p")
    status, _, stderr = run(capsys, "write", photos, tmp_path)
    assert_one_line_error(status, stderr, tmp_path, "is a directory")
    assert sorted(os.listdir(tmp_path)) == ["photos"]


def test_info(photos: Path, out: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run(capsys, "write", photos, out)
    status, stdout, _ = run(capsys, "info", out)
    assert status == 0
    for part in ("4 samples", "RGBImageField", "75.0% JPEG", "10 to 80 (median 80)", "2 classes: cat, dog"):
        assert part in stdout
    status, stdout, _ = run(capsys, "info", out, "--json")
    assert status == 0
    summary = json.loads(stdout)
    assert summary["num_samples"] == 4
    assert summary["file_bytes"] == out.stat().st_size
    assert summary["fields"]["image"]["jpeg_share"] == 0.75
    assert summary["fields"]["image"]["width"] == {"min": 20, "median": 60, "max": 60}
    assert summary["fields"]["label"] == {"type": "IntField", "min": 0, "max": 1, "distinct": 2}
    assert summary["manifest"]["classes"] == ["cat", "dog"]


def test_info_bad_files(tmp_path: Path, photos: Path, out: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run(capsys, "write", photos, out)
    content = out.read_bytes()
    out.write_bytes(content[: len(content) // 2])
    for options in ((), ("--json",)):
        status, stdout, stderr = run(capsys, "info", out, *options)
        assert_one_line_error(status, stderr, out, "truncated", "restore it from a copy or write it again")
        assert stdout == ""
    status, _, stderr = run(capsys, "info", tmp_path / "none.beton")
    assert_one_line_error(status, stderr, tmp_path / "none.beton", "no such file", "ffcv write")
    status, _, stderr = run(capsys, "info", photos / "cat" / "0.jpg")
    assert_one_line_error(status, stderr, photos / "cat" / "0.jpg", "not a .beton file")


def test_info_of_every_golden_file(shared_dir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files = sorted((shared_dir / "golden").glob("*.beton"))
    assert files
    for file in files:
        assert run(capsys, "info", file)[0] == 0
        status, stdout, _ = run(capsys, "info", file, "--json")
        assert status == 0
        assert json.loads(stdout)["num_samples"] == 8


def test_the_program_itself(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "ffcv.cli.main"]
    help_text = subprocess.run([*command, "--help"], capture_output=True, text=True, timeout=120)
    assert help_text.returncode == 0
    for name in ("write", "info", "train"):
        assert name in help_text.stdout
    bad = subprocess.run([*command, "info", str(tmp_path / "x")], capture_output=True, text=True, timeout=120)
    assert_one_line_error(bad.returncode, bad.stderr, tmp_path / "x")
    assert bad.stdout == ""
    assert bad.stderr.count("\n") == 1
