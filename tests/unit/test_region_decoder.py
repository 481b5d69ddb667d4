"""Our decoder of regions against libjpeg-turbo, bit for bit."""

from __future__ import annotations

import io
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from PIL import Image

from core_render import render
from ffcv import _core
from ffcv._core import DecodeError, JpegEngine
from photos import as_array, photos

SAMPLINGS = {"4:4:4": 0, "4:2:2": 1, "4:2:0": 2}


@pytest.fixture
def restore_isa() -> Iterator[None]:
    best = _core.isa()
    yield
    assert _core.select_isa(best)


def encoded(image: Image.Image, **options: Any) -> np.ndarray:
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", **options)
    return as_array(buffer.getvalue())


def pictures() -> Iterator[Image.Image]:
    """Photographs of odd sizes, noise, extremes, and the smallest that there are."""
    for i, photo in enumerate(photos(6)[:6]):
        image = Image.open(io.BytesIO(photo)).convert("RGB")
        yield image.crop((7 * i, 3, min(image.width, 7 * i + 150 + 11 * i), min(image.height, 170 - 13 * i)))
    rng = np.random.default_rng(0)
    yield Image.fromarray(rng.integers(0, 256, (61, 83, 3), np.uint8))
    yield Image.fromarray((rng.integers(0, 2, (64, 48, 3)) * 255).astype(np.uint8))
    for height, width in ((1, 7), (9, 6), (16, 16), (17, 5), (8, 33)):
        yield Image.fromarray(rng.integers(0, 256, (height, width, 3), np.uint8))


@pytest.mark.parametrize("sampling", [*SAMPLINGS, "grey"])
@pytest.mark.parametrize("restarts", [{}, {"restart_marker_rows": 1}, {"restart_marker_blocks": 3}], ids=str)
@pytest.mark.usefixtures("restore_isa")
def test_regions_are_those_of_libjpeg(sampling: str, restarts: dict[str, int]) -> None:
    rng = np.random.default_rng(1)
    names = [name for name in ("v2", "v3", "v4", "v4_vnni", "baseline") if _core.select_isa(name)]
    for number, picture in enumerate(pictures()):
        assert _core.select_isa(names[number % len(names)])
        image = picture.convert("L") if sampling == "grey" else picture
        quality = (100, 90, 75, 20)[number % 4]
        data = encoded(image, quality=quality, subsampling=SAMPLINGS.get(sampling, 0), **restarts)
        whole = _core.decode_jpeg(data, JpegEngine.libjpeg)
        np.testing.assert_array_equal(_core.decode_jpeg(data, JpegEngine.ours), whole)
        height, width = whole.shape[:2]
        boxes = [(0, 0, 1, 1), (height - 1, width - 1, 1, 1), (0, width - 1, height, 1), (height - 1, 0, 1, width)]
        for _ in range(12):
            h, w = int(rng.integers(1, height + 1)), int(rng.integers(1, width + 1))
            boxes.append((int(rng.integers(height - h + 1)), int(rng.integers(width - w + 1)), h, w))
        for top, left, h, w in boxes:
            part = render(whole, (top, left, h, w), (h, w), jpeg=data)
            np.testing.assert_array_equal(part, whole[top : top + h, left : left + w])


def test_photographs_are_decoded_by_it() -> None:
    """And so are files with restart markers between their rows, with tables of their own."""
    for photo in photos(12)[:12]:
        for data in (as_array(photo), _core.add_restart_markers(as_array(photo))):
            expected = _core.decode_jpeg(data, JpegEngine.libjpeg)
            np.testing.assert_array_equal(_core.decode_jpeg(data, JpegEngine.ours), expected)


def test_what_it_leaves_to_libjpeg() -> None:
    image = next(pictures())
    narrow = image.crop((0, 0, 4, 30))  # chroma of two columns is not interpolated
    for data in (encoded(image, progressive=True), encoded(image.convert("CMYK")), encoded(narrow, subsampling=2)):
        with pytest.raises(DecodeError, match=r"left to libjpeg-turbo|4 components"):
            _core.decode_jpeg(data, JpegEngine.ours)
    expected = _core.decode_jpeg(encoded(narrow, subsampling=2), JpegEngine.libjpeg)
    np.testing.assert_array_equal(_core.decode_jpeg(encoded(narrow, subsampling=2)), expected)


def test_rows_with_restart_markers_are_not_read_where_they_are_not_needed() -> None:
    """Damage above, below and to the right of a crop does not matter; without markers, that above does."""
    image = next(pictures()).resize((160, 160))
    data = encoded(image, quality=90, subsampling=2, restart_marker_rows=1)
    whole = _core.decode_jpeg(data)
    rows = [*_core.restart_index(data).tolist(), data.size]
    assert len(rows) == 11
    broken = data.copy()
    for row in (0, 1, 2, 7, 8, 9):
        broken[rows[row] : rows[row + 1] - 2] = 0xA5
    with pytest.raises(DecodeError):
        _core.decode_jpeg(broken)
    box = (70, 20, 24, 60)  # in rows 4 and 5 of MCUs, with chroma from 4 to 5
    np.testing.assert_array_equal(render(whole, box, (24, 60), jpeg=broken), whole[70:94, 20:80])


def test_markers_out_of_turn_or_missing_are_left_to_libjpeg() -> None:
    data = encoded(next(pictures()).resize((160, 160)), subsampling=2, restart_marker_rows=1)
    index = _core.restart_index(data).tolist()
    for change in ("turn", "gone"):
        wrong = data.copy()
        if change == "turn":
            wrong[index[3] - 1] ^= 1
        else:
            wrong = np.delete(wrong, [index[3] - 2, index[3] - 1])
        with pytest.raises(DecodeError, match="left to libjpeg-turbo"):
            _core.decode_jpeg(wrong, JpegEngine.ours)
        with pytest.raises(DecodeError, match="damaged JPEG"):
            _core.decode_jpeg(wrong)


def test_damage_never_gives_other_pixels() -> None:
    """What our decoder accepts of changed files, libjpeg-turbo accepts too, with the same pixels."""
    rng = np.random.default_rng(4)
    accepted = 0
    for picture in list(pictures())[:3]:
        for options in ({"subsampling": 2}, {"subsampling": 1, "restart_marker_rows": 1}, {"subsampling": 0}):
            data = encoded(picture.resize((64, 48)), quality=90, **options)
            for _ in range(150):
                changed = data.copy()
                at = rng.integers(2, data.size, size=int(rng.integers(1, 4)))
                changed[at] = rng.integers(0, 256, size=len(at))
                try:
                    ours = _core.decode_jpeg(changed, JpegEngine.ours)
                except DecodeError:
                    continue
                accepted += 1
                np.testing.assert_array_equal(ours, _core.decode_jpeg(changed, JpegEngine.libjpeg))
    assert accepted > 100
