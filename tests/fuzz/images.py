"""Damaged image files of every format that is read: each becomes a value that can be stored, or a `SourceError`."""

from __future__ import annotations

import io
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from PIL import Image

from ffcv.data.images import ImageReader
from ffcv.errors import SourceError
from ffcv.fields import RGBImageField

MAX_PIXELS = 1 << 18
"""Of images that are decoded here: larger ones are fine too, but slow."""


def seed_images() -> list[bytes]:
    """Small files of every format and mode, with an EXIF orientation where there can be one."""
    pixels = np.random.default_rng(0).integers(0, 256, (24, 16, 3), dtype=np.uint8)
    rgb, deep = Image.fromarray(pixels), Image.fromarray(pixels[:, :, 0].astype(np.uint16) * 257)
    exif = Image.Exif()
    exif[0x0112] = 6
    modes: dict[str, tuple[str, ...]] = {
        "JPEG": ("RGB", "L", "CMYK"),
        "PNG": ("RGB", "RGBA", "LA", "P", "1"),
        "TIFF": ("RGB", "CMYK", "LAB", "1"),
        "WEBP": ("RGB", "RGBA"),
        "GIF": ("P",),
        "BMP": ("RGB", "P"),
        "PPM": ("RGB", "L"),
    }
    seeds = []
    for format, names in modes.items():
        options = {"exif": exif} if format in ("JPEG", "PNG", "TIFF", "WEBP") else {}
        seeds += [_saved(rgb.convert(mode), format, **options) for mode in names]
    seeds += [_saved(rgb, "TIFF", compression=kind) for kind in ("tiff_lzw", "tiff_adobe_deflate", "packbits", "jpeg")]
    seeds += [_saved(deep, "PNG"), _saved(deep, "TIFF", exif=exif)]
    return [*seeds, _saved(rgb.convert("P"), "PNG", transparency=bytes(range(256)))]


def _saved(image: Image.Image, format: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format, **options)
    return buffer.getvalue()


@contextmanager
def _small_images_only() -> Iterator[None]:
    limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, MAX_PIXELS
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow warns of much that it goes on to read
            yield
    finally:
        Image.MAX_IMAGE_PIXELS = limit


def exercise_image(data: bytes) -> bool:
    """Reads a file and stores it, in every way; True if it is accepted as it is. Raises what is a fault."""
    accepted = False
    with _small_images_only():
        for passthrough, orientation in ((True, False), (True, True), (False, True)):
            try:
                value = ImageReader(passthrough, orientation).read(data, "x")
            except SourceError:
                continue
            for write_mode in ("raw", "jpg"):
                field = RGBImageField(write_mode, exif_orientation=orientation, restart_markers=True)
                field.encode(np.zeros(1, field.metadata_type), value, lambda size: (0, np.empty(size, np.uint8)))
            accepted = True
    return accepted
