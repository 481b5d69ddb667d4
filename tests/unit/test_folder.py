"""Folders of images: what is read, in which order, and what is refused."""

from __future__ import annotations

import errno
import io
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import fork_server
from command_line import run
from ffcv.data import ImageFolder
from ffcv.data.beton import read_manifest
from ffcv.errors import SourceError
from ffcv.fields import EncodedImage, IntField, RGBImageField
from ffcv.reader import Reader
from ffcv.writer import DatasetWriter


def save(path: Path, mode: str = "RGB", size: tuple[int, int] = (12, 9), **options: Any) -> bytes:
    """A gradient, in Pillow's (width, height)."""
    width, height = size
    y, x = np.mgrid[:height, :width]
    image = Image.fromarray(np.stack([y * 9, x * 9, x + y], axis=2).astype(np.uint8)).convert(mode)
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path, **options)
    return path.read_bytes()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    root = tmp_path / "photos"
    save(root / "dog" / "b.jpg")
    save(root / "dog" / "a.JPEG", mode="L")
    save(root / "cat" / "deep" / "c.png", mode="RGBA")
    save(root / "cat" / "d.bmp")
    (root / "cat" / "notes.txt").write_text("no image")
    (root / "cat" / "._d.jpg").write_text("no image")
    (root / ".cache").mkdir()
    (root / "README").write_text("no class")
    return root


def test_order_and_labels(folder: Path) -> None:
    dataset = ImageFolder(folder)
    assert dataset.classes == ["cat", "dog"]
    assert [(path.relative_to(folder).as_posix(), label) for path, label in dataset.samples] == [
        ("cat/d.bmp", 0),
        ("cat/deep/c.png", 0),
        ("dog/a.JPEG", 1),
        ("dog/b.jpg", 1),
    ]
    assert len(dataset) == 4


def test_jpegs_pass_through_unchanged(folder: Path) -> None:
    dataset = ImageFolder(folder)
    for index in (2, 3):
        image, label = dataset[index]
        assert image == EncodedImage(dataset.samples[index][0].read_bytes(), 9, 12)
        assert label == 1
    for index in (0, 1):
        assert isinstance(dataset[index][0], Image.Image)


def test_without_passthrough_jpegs_are_pixels(folder: Path) -> None:
    dataset = ImageFolder(folder, passthrough=False)
    for index in (2, 3):
        pixels, _ = dataset[index]
        assert isinstance(pixels, np.ndarray)
        assert pixels.shape == (9, 12, 3)
        with Image.open(dataset.samples[index][0]) as image:
            # Two decoders may differ by their rounding.
            assert np.abs(np.asarray(image.convert("RGB")).astype(int) - pixels).max() <= 3


def test_all_kinds_are_written_and_read_back(folder: Path, tmp_path: Path) -> None:
    save(folder / "cat" / "cmyk.jpg", mode="CMYK")
    dataset = ImageFolder(folder)
    fields = {"image": RGBImageField(), "label": IntField()}
    DatasetWriter(tmp_path / "x.beton", fields, num_workers=2, backend="thread").from_indexed_dataset(dataset)
    reader = Reader(tmp_path / "x.beton")
    assert reader.metadata["image"]["mode"].tolist() == [1, 1, 1, 0, 0]
    assert reader.metadata["label"].tolist() == [0, 0, 0, 1, 1]
    for row, (path, _) in zip(reader.metadata["image"], dataset.samples, strict=True):
        stored = reader.read(int(row["data_ptr"]))
        if row["mode"] == 0:
            assert stored.tobytes() == path.read_bytes()
        else:
            with Image.open(path) as image:
                np.testing.assert_array_equal(stored.reshape(9, 12, 3), np.asarray(image.convert("RGB")))


def test_no_such_folder(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="photos: no such folder; expected one sub-folder a class"):
        ImageFolder(tmp_path / "photos")
    (tmp_path / "photos").write_text("x")
    with pytest.raises(FileNotFoundError, match="photos: is not a folder; expected one sub-folder a class"):
        ImageFolder(tmp_path / "photos")


def test_folders_of_another_form(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="contains no sub-folders with images; expected one sub-folder a class"):
        ImageFolder(tmp_path)
    save(tmp_path / "a.png")
    with pytest.raises(SourceError, match="contains images, but no sub-folders; expected one sub-folder a class"):
        ImageFolder(tmp_path)
    (tmp_path / "cat").mkdir()
    with pytest.raises(SourceError, match=r"no images \(.*\) in its sub-folders"):
        ImageFolder(tmp_path)
    save(tmp_path / "dog" / "a.png")
    with pytest.raises(SourceError, match="cat: no images in this class; add some or remove the folder"):
        ImageFolder(tmp_path)


def jpeg() -> bytes:
    buffer = io.BytesIO()
    rng = np.random.default_rng(0)
    Image.fromarray(rng.integers(0, 256, (64, 64, 3), dtype=np.uint8)).save(buffer, format="JPEG")
    return buffer.getvalue()


@pytest.mark.parametrize("passthrough", [True, False])
@pytest.mark.parametrize(
    ("content", "message"),
    [
        (jpeg()[:-500], "damaged JPEG"),
        (jpeg()[:40], "damaged JPEG"),
        (jpeg()[: len(jpeg()) // 2], "damaged JPEG"),
        (b"this is a text file", "not an image \\(it begins with b'this is '\\)"),
        (b"", "not an image \\(it begins with b''\\)"),
        (b"\x89PNG\r\n\x1a\n" + bytes(50), "damaged image|not an image"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "not an image"),
    ],
)
def test_damaged_images_are_named(tmp_path: Path, content: bytes, message: str, passthrough: bool) -> None:
    path = tmp_path / "cat" / "broken.jpg"
    path.parent.mkdir()
    path.write_bytes(content)
    with pytest.raises(SourceError, match=message) as info:
        ImageFolder(tmp_path, passthrough)[0]
    assert str(info.value).startswith(f"{path}: ")
    assert str(info.value).endswith("replace it or remove it")
    assert "\n" not in str(info.value)


def test_truncated_png(tmp_path: Path) -> None:
    content = save(tmp_path / "cat" / "a.png", size=(200, 200))
    (tmp_path / "cat" / "a.png").write_bytes(content[: len(content) // 2])
    with pytest.raises(SourceError, match=r"a.png: damaged image \(.*\); replace it or remove it"):
        ImageFolder(tmp_path)[0]


def test_a_file_that_vanished(folder: Path) -> None:
    dataset = ImageFolder(folder)
    dataset.samples[0][0].unlink()
    with pytest.raises(SourceError, match=r"d.bmp: No such file or directory; make it readable or remove it"):
        dataset[0]


def test_links_in_circles(folder: Path) -> None:
    """Each image once, and none of another class."""
    before = ImageFolder(folder).samples
    (folder / "dog" / "also").symlink_to(folder / "cat" / "deep")  # no circle
    assert len(ImageFolder(folder).samples) == len(before) + 1
    (folder / "dog" / "also").unlink()
    (folder / "cat" / "up").symlink_to(folder)
    (folder / "cat" / "deep" / "round").symlink_to(folder / "cat")
    assert ImageFolder(folder).samples == before


def test_a_folder_that_cannot_be_read(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scandir = os.scandir

    def refuse(path: Any) -> Any:
        if str(path).endswith("deep"):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))
        return scandir(path)

    monkeypatch.setattr("os.scandir", refuse)
    with pytest.raises(SourceError, match=r"cat/deep: Permission denied; make it readable or remove it"):
        ImageFolder(folder)


def test_a_link_to_nothing_is_missed(folder: Path) -> None:
    (folder / "dog" / "c.jpg").symlink_to(folder / "gone.jpg")
    dataset = ImageFolder(folder)
    assert len(dataset) == 5
    with pytest.raises(SourceError, match=r"dog/c.jpg: No such file or directory"):
        dataset[4]


def test_what_is_passed_over_is_counted(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "dog" / "b.avif").write_text("a kind we do not read")
    save(folder / "stray.png")
    os.mkfifo(folder / "dog" / "pipe.jpg")
    _, _, stderr = run(capsys, "write", folder, tmp_path / "x.beton")
    assert "files passed over, as they are no images in a class's folder: 5 (" in stderr
    for kind in ("1 .txt", "1 .avif", "1 .png", "1 .jpg", "1 without"):
        assert kind in stderr


def test_names_that_are_not_utf8(tmp_path: Path) -> None:
    root, out = tmp_path / "photos", tmp_path / "x.beton"
    for name in (os.fsdecode(b"\xff\xfe"), "dog"):
        save(root / name / "a.jpg")
    (root / "dog" / os.fsdecode(b"\xfd.jpg")).write_text("no image")
    status, _, errors = fork_server.command(tmp_path, "write", root, out, "--on-error", "skip")
    assert status == 0, errors
    assert b"udcfd.jpg: not an image" in errors
    manifest = read_manifest(Reader(out))
    assert manifest is not None
    assert manifest["classes"] == ["dog", r"\udcff\udcfe"]
    assert r"dog/\udcfd.jpg: not an image" in manifest["skipped"]["first"][0][1]
    out = out.rename(tmp_path / os.fsdecode(b"\xfe.beton"))
    for arguments in (["info", out], ["verify", out], ["extract", out, tmp_path / "y"], ["merge", tmp_path / "z", out]):
        status, _, errors = fork_server.command(tmp_path, *arguments)
        assert status == 0, errors
    named = root.rename(tmp_path / os.fsdecode(b"\xfc"))
    assert ImageFolder(named).manifest()["source"] == r"\udcfc"
    status, _, errors = fork_server.command(tmp_path, "write", named, out)
    assert status == 1
    assert errors.splitlines()[-1].startswith(b"error: ")
