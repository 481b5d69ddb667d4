"""Entry points: where decoding can begin inside a JPEG, kept behind it in the file."""

from __future__ import annotations

import io
import json
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from command_line import run
from core_render import render
from ffcv import DatasetWriter, Loader, _core
from ffcv.fields import IntField, RGBImageField
from ffcv.fields.rgb_image import EncodedImage
from ffcv.format import MIN_PAGE_SIZE, Section
from ffcv.reader import Reader
from ffcv.transforms import CenterCrop
from photos import as_array, photos

HEADER = struct.Struct("<4sIIHHHH")
NOISE = Image.fromarray(np.random.default_rng(0).integers(0, 256, (170, 230, 3), np.uint8))


def encoded(image: Image.Image, **options: Any) -> np.ndarray:
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", **options)
    return as_array(buffer.getvalue())


def points_of(data: np.ndarray) -> bytes:
    return _core.index_jpeg(data)[3]


def positions(points: bytes) -> np.ndarray:
    """In bits of the scan, one row a row of MCUs."""
    _, _, _, across, down, spacing, _ = HEADER.unpack_from(points)
    per_row = -(-across // spacing)
    return np.frombuffer(points, "<u4", per_row * down, HEADER.size).reshape(down, per_row)


def forged(points: bytes, at: int, value: bytes) -> bytes:
    """With other bytes from `at` on, and the checksum that goes with them."""
    changed = points[:at] + value + points[at + len(value) :]
    crc = _core.crc32c(np.frombuffer(changed, np.uint8)[8:])
    return changed[:4] + struct.pack("<I", crc) + changed[8:]


def spoilt(data: np.ndarray, scan_bytes: np.ndarray) -> np.ndarray:
    """The JPEG with other bytes at these places of its scan, none of them a marker."""
    start = data.tobytes().index(b"\xff\xda")
    start += 2 + int.from_bytes(data[start + 2 : start + 4].tobytes(), "big")
    changed = data.copy()
    changed[start + scan_bytes] = 0x5A
    return changed


def pictures() -> Iterator[Image.Image]:
    """Of several widths, so that rows have one point, several, and a part of the last."""
    for i, photo in enumerate(photos(5)[:5]):
        image = Image.open(io.BytesIO(photo)).convert("RGB")
        yield image.crop((5 * i, 3, min(image.width, 5 * i + 50 + 90 * i), min(image.height, 200 - 13 * i)))
    yield NOISE
    for height, width in ((1, 7), (16, 64), (17, 65), (40, 129)):
        yield NOISE.resize((width, height))


@pytest.mark.parametrize("sampling", [0, 1, 2, "grey"])
@pytest.mark.parametrize("restarts", [{}, {"restart_marker_rows": 1}, {"restart_marker_rows": 2}], ids=str)
def test_crops_are_the_same_from_entry_points(sampling: int | str, restarts: dict[str, int]) -> None:
    rng = np.random.default_rng(1)
    best = _core.isa()
    names = [name for name in ("v2", "v3", "v4", "v4_vnni", "baseline") if _core.select_isa(name)]
    for number, picture in enumerate(pictures()):
        assert _core.select_isa(names[number % len(names)])
        options: dict[str, Any] = {"quality": (100, 90, 75, 20)[number % 4], **restarts}
        image = picture.convert("L") if sampling == "grey" else picture
        data = encoded(image, **options) if sampling == "grey" else encoded(image, subsampling=sampling, **options)
        points = points_of(data)
        assert points.startswith(b"FEP1")
        whole = _core.decode_jpeg(data, _core.JpegEngine.libjpeg)
        height, width = whole.shape[:2]
        boxes = [
            (0, 0, height, width),
            (height - 1, width - 1, 1, 1),
            (0, width - 1, height, 1),
            (height - 1, 0, 1, width),
        ]
        for _ in range(12):
            h, w = int(rng.integers(1, height + 1)), int(rng.integers(1, width + 1))
            boxes.append((int(rng.integers(height - h + 1)), int(rng.integers(width - w + 1)), h, w))
        for top, left, h, w in boxes:
            part = render(whole, (top, left, h, w), (h, w), jpeg=data, behind=points)
            np.testing.assert_array_equal(part, whole[top : top + h, left : left + w])
    assert _core.select_isa(best)


def test_what_lies_around_a_crop_is_not_read() -> None:
    data = encoded(NOISE.resize((320, 160)), quality=90, subsampling=2)
    whole, points = _core.decode_jpeg(data), points_of(data)
    place = positions(points) // 8
    assert place.shape == (10, 5)
    # The crop needs MCUs of rows 4 and 5, between the points at pixels 128 and 192; all else is spoilt.
    kept = [np.arange(place[row, 2], place[row, 3] + 1) for row in (4, 5)]
    other = np.setdiff1d(np.arange(place[0, 0], place[9, 4] + 100), np.concatenate(kept))
    broken = spoilt(data, other)
    np.testing.assert_array_equal(
        render(whole, (70, 140, 20, 40), (20, 40), jpeg=broken, behind=points), whole[70:90, 140:180]
    )
    assert not np.array_equal(
        render(whole, (60, 140, 20, 40), (20, 40), jpeg=broken, behind=points), whole[60:80, 140:180]
    )


def test_damaged_or_foreign_points_are_not_used() -> None:
    data, other = encoded(NOISE, quality=90), encoded(NOISE, quality=80)
    whole, points = _core.decode_jpeg(data), points_of(data)
    box, size = (60, 100, 50, 70), (50, 70)
    rng = np.random.default_rng(2)
    wrong = [points_of(other), points[:-1], points[:19], b"", b"\0" + points, bytes(len(points))]
    for at in rng.integers(0, len(points), 60):
        changed = bytearray(points)
        changed[at] ^= 1 << rng.integers(8)
        wrong.append(bytes(changed))
    for behind in wrong:
        part = render(whole, box, size, jpeg=data, behind=behind)
        np.testing.assert_array_equal(part, whole[60:110, 100:170])
    # Bytes that follow them are not theirs.
    part = render(whole, box, size, jpeg=data, behind=points + b"\xff" * 99)
    np.testing.assert_array_equal(part, whole[60:110, 100:170])


def test_forged_points_do_no_harm() -> None:
    """Whoever forges them can as well forge the JPEG: pixels may differ, but nothing outside of it is read."""
    data = encoded(NOISE, quality=90, subsampling=2)
    whole, points = _core.decode_jpeg(data), points_of(data)
    rng = np.random.default_rng(3)
    grids = [(8, struct.pack("<I", data.size)), (12, struct.pack("<HHHH", 15, 11, 1, 3)), (16, b"\0\0"), (18, b"\5\0")]
    values = [(int(rng.integers(20, len(points) - 4)), rng.bytes(4)) for _ in range(300)]
    values += [(20 + 4 * i, b"\xff\xff\xff\xff") for i in range(20)]
    outcomes = set()
    for at, value in grids + values:
        try:
            part = render(whole, (60, 100, 80, 120), (80, 120), jpeg=data, behind=forged(points, at, value))
            outcomes.add("same" if np.array_equal(part, whole[60:140, 100:220]) else "other")
        except _core.DecodeError:
            outcomes.add("error")
    assert "same" in outcomes
    assert len(outcomes) > 1


def test_a_point_that_is_not_where_the_last_one_ends_is_noticed() -> None:
    """What is read up to a point has to end there; else the whole is read."""
    data = encoded(NOISE, quality=90, subsampling=2)
    whole, points = _core.decode_jpeg(data), points_of(data)
    wrong = forged(points, HEADER.size + 4 * 9, struct.pack("<I", int(positions(points).flat[9]) - 8))
    part = render(whole, (32, 0, 16, 64), (16, 64), jpeg=data, behind=wrong)  # up to point 9
    np.testing.assert_array_equal(part, whole[32:48, :64])


def test_images_without_points() -> None:
    assert points_of(encoded(NOISE, progressive=True)) == b""
    assert points_of(encoded(NOISE, restart_marker_blocks=3)) == b""
    assert points_of(encoded(NOISE, restart_marker_rows=1)) != b""


def write(path: Path, jpegs: list[np.ndarray], workers: int = 1, **options: Any) -> Reader:
    samples = [(EncodedImage(jpeg.tobytes(), *_core.jpeg_info(jpeg)[:2]), i) for i, jpeg in enumerate(jpegs)]
    fields = {"image": RGBImageField(**options), "label": IntField()}
    DatasetWriter(path, fields, MIN_PAGE_SIZE, workers).from_indexed_dataset(samples, chunksize=2)
    return Reader(path)


def crops(path: Path, **options: Any) -> np.ndarray:
    with Loader(
        path, 4, num_workers=1, pipelines={"image": [CenterCrop((64, 64), 0.4)]}, drop_last=False, **options
    ) as loader:
        return np.concatenate([batch.image for batch in loader])


def test_a_file_keeps_them_behind_its_jpegs(tmp_path: Path) -> None:
    jpegs = [encoded(NOISE.resize((200 + 8 * i, 160)), quality=95) for i in range(90)]
    jpegs[5] = encoded(NOISE, progressive=True)
    plain = write(tmp_path / "plain.beton", jpegs)
    reader = write(tmp_path / "points.beton", jpegs, entry_points=True)
    write(tmp_path / "workers.beton", jpegs, workers=3, entry_points=True)
    assert (tmp_path / "points.beton").read_bytes() == (tmp_path / "workers.beton").read_bytes()
    assert len({int(pointer) // MIN_PAGE_SIZE for pointer in reader.metadata["image"]["data_ptr"]}) > 1, (
        "more than a page"
    )
    assert Section.ENTRY_POINTS in reader.sections
    assert Section.ENTRY_POINTS not in plain.sections
    for jpeg, row in zip(jpegs, reader.metadata["image"], strict=True):
        pointer = int(row["data_ptr"])
        np.testing.assert_array_equal(reader.read(pointer), jpeg)
        points = points_of(jpeg)
        assert reader.bytes[pointer + jpeg.size : pointer + jpeg.size + len(points)].tobytes() == points
    assert reader.largest_entry_points == max(len(points_of(jpeg)) for jpeg in jpegs)
    for options in ({}, {"os_cache": False}):
        np.testing.assert_array_equal(crops(tmp_path / "points.beton", **options), crops(tmp_path / "plain.beton"))


@pytest.mark.parametrize("os_cache", [True, False])
def test_a_loader_uses_them_and_says_so(tmp_path: Path, os_cache: bool) -> None:
    jpeg = encoded(NOISE.resize((320, 160)), quality=90, subsampling=2)
    place = positions(points_of(jpeg)) // 8
    above = spoilt(jpeg, np.arange(place[0, 0], place[2, 0]))
    expected = crops_of([jpeg] * 3, tmp_path / "plain.beton", os_cache)
    samples = [(EncodedImage(above.tobytes(), 160, 320, points_of(jpeg)), i) for i in range(3)]
    path = tmp_path / "points.beton"
    fields = {"image": RGBImageField(entry_points=True), "label": IntField()}
    DatasetWriter(path, fields, num_workers=1).from_indexed_dataset(samples)
    with Loader(path, 3, num_workers=1, pipelines={"image": [CenterCrop((64, 64), 0.4)]}) as loader:
        assert "from the nearest entry points" in str(loader.plan)
    np.testing.assert_array_equal(crops(path, os_cache=os_cache), expected)


def crops_of(jpegs: list[np.ndarray], path: Path, os_cache: bool) -> np.ndarray:
    write(path, jpegs)
    return crops(path, os_cache=os_cache)


def test_the_commands(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder, out, merged = tmp_path / "photos" / "cat", tmp_path / "x.beton", tmp_path / "merged.beton"
    folder.mkdir(parents=True)
    for i in range(3):
        (folder / f"{i}.jpg").write_bytes(encoded(NOISE, quality=50 + i).tobytes())
    assert run(capsys, "write", folder.parent, out, "--no-entry-points")[0] == 0
    assert not Reader(out).largest_entry_points
    for options in ((), ("--max-resolution", "100"), ("--quality", "80"), ("--restart-markers",)):
        assert run(capsys, "write", folder.parent, out, *options)[0] == 0
        assert run(capsys, "merge", "--overwrite", merged, out, out)[0] == 0
        for path in (out, merged):
            reader = Reader(path)
            for row in reader.metadata["image"]:
                jpeg = reader.read(int(row["data_ptr"]))
                end, points = int(row["data_ptr"]) + jpeg.size, points_of(jpeg)
                assert reader.bytes[end : end + len(points)].tobytes() == points != b""
            assert run(capsys, "verify", path, "--decode")[0] == 0
            assert json.loads(run(capsys, "info", path, "--json")[1])["entry_points"] is True
    assert "entry points of JPEGs" in run(capsys, "info", out)[1]


def test_verify_compares_them(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "x.beton"
    jpeg = encoded(NOISE, quality=90)
    reader = write(path, [jpeg, jpeg], entry_points=True)
    content = bytearray(path.read_bytes())
    at = int(reader.metadata["image"]["data_ptr"][1]) + jpeg.size
    content[at : at + len(points_of(jpeg))] = forged(points_of(jpeg), 24, b"\1\0\0\0")
    path.write_bytes(content)
    status, stdout, _ = run(capsys, "verify", path, "--decode")
    assert status == 1
    assert "sample 1: field 'image': its entry points are not those of the JPEG" in stdout
    assert "1 of 2 samples" in stdout
