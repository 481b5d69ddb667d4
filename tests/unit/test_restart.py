"""Restart markers: lossless, indexed, and written to the file's section."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from command_line import run
from ffcv import Loader, _core
from ffcv._restart_index import RestartIndex
from ffcv.errors import DecodeError
from ffcv.fields import EncodedImage, RGBImageField
from ffcv.fields.rgb_image import with_restart_markers
from ffcv.format import Section
from ffcv.reader import Reader
from ffcv.transforms import CenterCrop
from ffcv.writer import DatasetWriter
from photos import as_array, photos

RNG = np.random.default_rng(3)
NOISE = Image.fromarray(RNG.integers(0, 256, (53, 71, 3), dtype=np.uint8))


def jpeg(image: Image.Image = NOISE, **options: Any) -> np.ndarray:
    buffer = io.BytesIO()
    image.save(buffer, format="JPEG", **options)
    return as_array(buffer.getvalue())


def rows_of(image: Image.Image, subsampling: int) -> int:
    height = 16 if subsampling == 2 and image.mode == "RGB" else 8
    return -(-image.height // height)


@pytest.mark.parametrize("subsampling", [0, 1, 2])
@pytest.mark.parametrize("progressive", [False, True])
@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_the_same_pixels_and_an_index(subsampling: int, progressive: bool, mode: str) -> None:
    image = NOISE.convert(mode)
    before = jpeg(image, subsampling=subsampling, progressive=progressive, quality=80)
    after = _core.add_restart_markers(before)
    np.testing.assert_array_equal(_core.decode_jpeg(after), _core.decode_jpeg(before))
    np.testing.assert_array_equal(_core.add_restart_markers(after), after)
    index = _core.restart_index(after)
    assert len(index) == rows_of(image, subsampling)
    assert len(_core.restart_index(before)) == 0
    for row, offset in enumerate(index.tolist()):
        if row:
            assert after[offset - 2 : offset].tolist() == [0xFF, 0xD0 + (row - 1) % 8]


def test_photographs_lose_nothing_and_hardly_grow() -> None:
    sizes = np.zeros(2)
    for photo in photos(12):
        before = as_array(photo)
        if _core.jpeg_info(before)[2] not in (1, 3):
            continue
        after = _core.add_restart_markers(before)
        np.testing.assert_array_equal(_core.decode_jpeg(after), _core.decode_jpeg(before))
        sizes += before.size, after.size
    assert sizes[1] < 1.03 * sizes[0]


def test_each_row_decodes_alone() -> None:
    """What the index is for: header + one row's data + end marker is a JPEG of that row."""
    whole = _core.add_restart_markers(jpeg(subsampling=0))
    index = [*_core.restart_index(whole).tolist(), whole.size]
    pixels = _core.decode_jpeg(whole)
    header = whole[: index[0]].copy()
    frame = header.tobytes().index(b"\xff\xc0")
    for row in range(len(index) - 1):
        height = min(8, pixels.shape[0] - 8 * row)
        header[frame + 5 : frame + 7] = divmod(height, 256)
        data = np.concatenate([header, whole[index[row] : index[row + 1] - 2], as_array(b"\xff\xd9")])
        np.testing.assert_array_equal(_core.decode_jpeg(data), pixels[8 * row : 8 * row + height])


def test_metadata_segments_are_kept() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    before = jpeg(exif=exif, icc_profile=b"profile" * 20, comment=b"a comment")
    after = Image.open(io.BytesIO(_core.add_restart_markers(before).tobytes()))
    assert after.getexif()[0x0112] == 6
    assert after.info["icc_profile"] == b"profile" * 20
    assert after.info["comment"] == b"a comment"
    assert after.info["jfif"] == 257


def test_damaged_jpegs_are_refused_or_not_indexed() -> None:
    whole = _core.add_restart_markers(jpeg())
    with pytest.raises(DecodeError, match="damaged JPEG"):
        _core.add_restart_markers(whole[: whole.size // 2])
    with pytest.raises(DecodeError):
        _core.add_restart_markers(np.empty(0, np.uint8))
    for size in range(0, whole.size - 2, 3):
        assert len(_core.restart_index(whole[:size])) == 0
    index = _core.restart_index(whole)
    wrong = whole.copy()
    wrong[index[2] - 1] ^= 1  # a marker out of turn
    assert len(_core.restart_index(wrong)) == 0


def of_one_coefficient(bits: int, exif_segments: int) -> np.ndarray:
    """A grey JPEG of 8 x 8 pixels, whose mean's code takes `bits` bits; 12 and more decode, but cannot be encoded."""

    def segment(marker: int, content: bytes) -> bytes:
        return bytes([0xFF, marker]) + (len(content) + 2).to_bytes(2, "big") + content

    codes = bytes([1, *[0] * 15])
    parts = [b"\xff\xd8", *[segment(0xE1, b"Exif\0\0" + bytes(60_000))] * exif_segments]
    parts += [segment(0xDB, b"\0" + bytes([1] * 64)), segment(0xC0, bytes([8, 0, 8, 0, 8, 1, 1, 0x11, 0]))]
    parts += [segment(0xC4, b"\x00" + codes + bytes([bits])), segment(0xC4, b"\x10" + codes + b"\0")]
    scan = f"01{'0' * bits}"  # the mean's size and value, the end of the block
    scan = scan.ljust(-(-len(scan) // 8) * 8, "1")
    content = bytes(int(scan[i : i + 8], 2) for i in range(0, len(scan), 8))
    parts += [segment(0xDA, bytes([1, 1, 0, 0, 63, 0])), content.replace(b"\xff", b"\xff\0"), b"\xff\xd9"]
    return np.frombuffer(b"".join(parts), np.uint8)


@pytest.mark.parametrize("exif_segments", [0, 2])
def test_what_has_no_codes_stays_as_it_is(exif_segments: int) -> None:
    assert len(_core.add_restart_markers(of_one_coefficient(5, exif_segments))) > 60_000 * exif_segments
    extreme = of_one_coefficient(15, exif_segments)
    assert _core.check_jpeg(extreme) == (8, 8, 1)
    with pytest.raises(DecodeError, match="cannot have restart markers: DCT coefficient out of range"):
        _core.add_restart_markers(extreme)
    assert with_restart_markers(extreme.tobytes()) == extreme.tobytes()


def test_the_section(tmp_path: Path) -> None:
    marked = _core.add_restart_markers(jpeg())
    plain = jpeg()
    samples = [(EncodedImage(data.tobytes(), 53, 71),) for data in (marked, plain, marked)]
    for name, workers in (("x.beton", 1), ("y.beton", 2)):
        DatasetWriter(tmp_path / name, {"image": RGBImageField()}, num_workers=workers).from_indexed_dataset(samples)
    assert (tmp_path / "x.beton").read_bytes() == (tmp_path / "y.beton").read_bytes()
    reader = Reader(tmp_path / "x.beton")
    content = reader.section(Section.JPEG_RESTART_INDEX)
    assert content is not None
    index = RestartIndex.from_bytes(content)
    assert index is not None
    pointers = reader.metadata["image"]["data_ptr"].tolist()
    for pointer in (pointers[0], pointers[2]):
        np.testing.assert_array_equal(index.rows(pointer), _core.restart_index(marked))
    assert index.rows(pointers[1]) is None
    for size in (0, 10, 17, content.size - 1, content.size - 4):
        with pytest.raises(ValueError, match="section of restart markers"):
            RestartIndex.from_bytes(content[:size])


def test_a_loader_jumps_over_rows_and_says_so(tmp_path: Path) -> None:
    """Damage outside of the crop is not seen, where there are markers; crops are the same with and without them."""
    plain = jpeg(NOISE.resize((160, 160)), subsampling=2)
    marked = _core.add_restart_markers(plain)
    broken = marked.copy()
    rows = _core.restart_index(marked)
    broken[rows[0] : rows[1] - 2] = 0xA5
    batches = []
    for name, data in (("plain", plain), ("marked", marked), ("broken", broken)):
        path = tmp_path / f"{name}.beton"
        sample = (EncodedImage(data.tobytes(), 160, 160),)
        DatasetWriter(path, {"image": RGBImageField()}, num_workers=1).from_indexed_dataset([sample])
        with Loader(path, 1, num_workers=1, pipelines={"image": [CenterCrop((64, 64), 0.4)]}) as loader:
            assert ("jumped over by restart markers" in str(loader.plan)) == (name != "plain")
            batches.append(next(iter(loader)).image)
    np.testing.assert_array_equal(batches[0], batches[1])
    np.testing.assert_array_equal(batches[0], batches[2])


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder, out = tmp_path / "photos" / "cat", tmp_path / "x.beton"
    folder.mkdir(parents=True)
    for i in range(3):
        (folder / f"{i}.jpg").write_bytes(jpeg(quality=50 + i).tobytes())
    assert run(capsys, "write", folder.parent, out, "--restart-markers")[0] == 0
    reader = Reader(out)
    for i, row in enumerate(reader.metadata["image"]):
        stored = reader.read(int(row["data_ptr"]))
        np.testing.assert_array_equal(stored, _core.add_restart_markers(jpeg(quality=50 + i)))
    assert Section.JPEG_RESTART_INDEX in reader.sections
    assert run(capsys, "verify", out, "--decode")[0] == 0
    assert "index of JPEG rows" in run(capsys, "info", out)[1]
    status, _, stderr = run(capsys, "write", folder.parent, out, "--restart-markers", "--write-mode", "raw")
    assert status == 2
    assert "--restart-markers" in stderr
    for options in (("--max-resolution", "30"), ("--quality", "80")):
        assert run(capsys, "write", folder.parent, out, "--restart-markers", *options)[0] == 0
        reader = Reader(out)
        for row in reader.metadata["image"]:
            assert len(_core.restart_index(reader.read(int(row["data_ptr"]))))
        assert (json.loads(reader.read_section(Section.MANIFEST) or b""))["encoding"]["restart_markers"] is True
