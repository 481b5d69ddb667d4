"""JPEG compression: the bytes that Pillow writes with the same library."""

import io

import numpy as np
import pytest
from PIL import Image, features

from ffcv import _core
from photos import as_array, photos

PHOTO = _core.decode_jpeg(as_array(photos()[0]))
NOISE = np.random.default_rng(0).integers(0, 256, (61, 47, 3), dtype=np.uint8)


def by_pillow(pixels: np.ndarray, quality: int, halve_chroma: bool) -> bytes:
    buffer = io.BytesIO()
    subsampling = -1 if halve_chroma else "4:4:4"  # 4:2:0 of a grey image would stand in its header
    Image.fromarray(pixels).save(buffer, format="JPEG", quality=quality, subsampling=subsampling)
    return buffer.getvalue()


@pytest.mark.skipif(not features.check("libjpeg_turbo"), reason="this Pillow has another JPEG library")
@pytest.mark.parametrize("halve_chroma", [True, False])
@pytest.mark.parametrize("quality", [1, 24, 50, 90, 95, 100])
def test_bytes_are_pillows(quality: int, halve_chroma: bool) -> None:
    for pixels in (PHOTO, NOISE, NOISE[:1, :1], NOISE[:16, :16], NOISE[:9, :33], PHOTO[..., 0], NOISE[..., 1]):
        pixels = np.ascontiguousarray(pixels)
        assert _core.encode_jpeg(pixels, quality, halve_chroma) == by_pillow(pixels, quality, halve_chroma)


def test_an_image_that_no_jpeg_can_hold_is_refused_and_the_next_is_not() -> None:
    with pytest.raises(ValueError, match="cannot be compressed: Maximum supported image dimension is 65500 pixels"):
        _core.encode_jpeg(np.zeros((65501, 1, 3), np.uint8), 90)
    with pytest.raises(ValueError, match="cannot be compressed: Empty"):
        _core.encode_jpeg(np.zeros((0, 4, 3), np.uint8), 90)
    assert _core.encode_jpeg(NOISE, 90) == _core.encode_jpeg(NOISE.copy(), 90, halve_chroma=True)


@pytest.mark.parametrize("shape", [(4, 4, 4), (4,), (1, 4, 4, 3)])
def test_other_shapes_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"pixels must be uint8 \[H, W, 3\], or grey \[H, W\]"):
        _core.encode_jpeg(np.zeros(shape, np.uint8), 90)
    with pytest.raises(ValueError, match="quality lies between 1 and 100"):
        _core.encode_jpeg(NOISE, 101)
