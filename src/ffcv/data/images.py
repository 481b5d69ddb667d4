"""Image files as every source reads them: checked, and kept as JPEG where that loses nothing."""

from __future__ import annotations

import io
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ffcv import _core
from ffcv.errors import DecodeError, SourceError, one_line
from ffcv.fields.rgb_image import EncodedImage, check_storable, exif_orientation, turn, upright

__all__ = ["IMAGE_SUFFIXES", "ImageReader", "ImageValue"]

IMAGE_SUFFIXES = frozenset(
    (
        ".jpg",
        ".jpeg",
        ".jpe",
        ".png",
        ".bmp",
        ".webp",
        ".ppm",
        ".pgm",
        ".pbm",
        ".pnm",
        ".tif",
        ".tiff",
        ".gif",
    )
)
# Only formats that are plain images: Pillow would start other programs for some of the rest.
_PILLOW_FORMATS = ("JPEG", "PNG", "BMP", "WEBP", "PPM", "TIFF", "GIF")
_JPEG_MAGIC = b"\xff\xd8\xff"

ImageValue = EncodedImage | NDArray[np.uint8] | Image.Image
"""What `RGBImageField` stores."""


@dataclass(frozen=True)
class ImageReader:
    """Turns the bytes of an image file into a value for `RGBImageField`; finds damaged ones.

    Attributes:
        passthrough: Give JPEGs of 1 or 3 components as they are, as `EncodedImage`; else decoded.
        exif_orientation: Turn images as their EXIF orientation says, with `fields.rgb_image.upright`.
        max_resolution: That of the field which is to store them: JPEGs that are decoded are shrunk at once, which costs
            less than afterwards and gives the same pixels.
    """

    passthrough: bool = True
    exif_orientation: bool = False
    max_resolution: int | None = None

    def read(self, data: bytes, where: str) -> ImageValue:
        """Reads one file.

        Args:
            data: The file's bytes.
            where: Names the file in errors.

        Raises:
            SourceError: Not an image, or a damaged one.
        """
        if not data.startswith(_JPEG_MAGIC):
            return self._read_with_pillow(data, where)
        content = np.frombuffer(data, dtype=np.uint8)
        try:
            if self.passthrough:
                height, width, _, points = _core.index_jpeg(content)
                value = EncodedImage(data, height, width, points)
                return upright(value, self.max_resolution) if self.exif_orientation else value
            orientation = exif_orientation(data) if self.exif_orientation else 1
            if orientation == 1:
                return _core.decode_jpeg(content, max_side=self.max_resolution)
            return turn(Image.fromarray(_core.decode_jpeg(content)), orientation)
        except DecodeError as error:
            if _is_cmyk(content):
                return self._read_with_pillow(data, where)
            raise SourceError(f"{where}: damaged JPEG ({one_line(error)}); replace it or remove it") from error

    def _read_with_pillow(self, data: bytes, where: str) -> Image.Image:
        try:
            image = Image.open(io.BytesIO(data), formats=_PILLOW_FORMATS)
            image.load()
            image = upright(image) if self.exif_orientation else image
        except Image.UnidentifiedImageError as error:
            raise SourceError(
                f"{where}: not an image (it begins with {data[:8]!r}); replace it or remove it"
            ) from error
        except MemoryError:
            raise
        except Image.DecompressionBombError as error:
            raise SourceError(f"{where}: too large ({one_line(error)}); shrink it first") from error
        except Exception as error:  # damaged files lead Pillow to errors of any kind
            raise SourceError(f"{where}: damaged image ({one_line(error)}); replace it or remove it") from error
        try:
            check_storable(image)
        except ValueError as error:
            raise SourceError(f"{where}: {one_line(error)}") from error
        return image


def _is_cmyk(jpeg: NDArray[np.uint8]) -> bool:
    """Whether a JPEG has more components than the core converts."""
    try:
        return _core.jpeg_info(jpeg)[2] not in (1, 3)
    except DecodeError:
        return False


def read_file(path: str, where: str) -> bytes:
    """A file's bytes; `SourceError` where it cannot be read."""
    try:
        with open(path, "rb") as file:
            return file.read()
    except OSError as error:
        raise SourceError(f"{where}: {error.strerror}; make it readable or remove it") from error
