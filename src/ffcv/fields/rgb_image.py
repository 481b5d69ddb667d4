"""Images: 8-bit RGB, as raw pixels or as JPEG."""

from __future__ import annotations

import hashlib
import io
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image, JpegImagePlugin

from ffcv import _core
from ffcv.errors import DecodeError
from ffcv.fields.base import Field, Malloc, MetadataError, Sizes, first_index, pack_arguments, store
from ffcv.transforms.crops import (
    CenterCropRGBImageDecoder,
    RandomResizedCropRGBImageDecoder,
    SimpleRGBImageDecoder,
)

__all__ = [
    "IMAGE_MODES",
    "CenterCropRGBImageDecoder",
    "EncodedImage",
    "RGBImageField",
    "RandomResizedCropRGBImageDecoder",
    "SimpleRGBImageDecoder",
    "WriteMode",
]

WriteMode = Literal["raw", "jpg", "smart", "proportion"]
IMAGE_MODES = {"jpg": 0, "raw": 1}
"""The metadata's `mode`."""

TURNED_QUALITY = 95
"""Of JPEGs that had to be compressed again to be turned upright."""

MAX_SIDE = 65535
"""The metadata has 16 bits for a side."""

_IMAGE_METADATA = np.dtype([("mode", "<u1"), ("width", "<u2"), ("height", "<u2"), ("data_ptr", "<u8")])


_UPRIGHT = {
    1: None,
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""What undoes each EXIF orientation."""


@dataclass(frozen=True)
class EncodedImage:
    """A JPEG to be stored as it is. Whoever makes one has checked that the whole of `data` decodes.

    Attributes:
        data: The JPEG file's bytes; 1 or 3 components.
        height: Of the decoded image, in pixels.
        width: Of the decoded image, in pixels.
        entry_points: What `_core.index_jpeg` gave for `data`, empty where there can be none; None: not asked for yet.
    """

    data: bytes
    height: int
    width: int
    entry_points: bytes | None = field(default=None, repr=False, compare=False)

    def __post_init__(self) -> None:
        _check_size(self.height, self.width)
        if self.data[:2] != b"\xff\xd8":
            raise ValueError(f"EncodedImage holds JPEG bytes, but these begin with {self.data[:8]!r}")


class RGBImageField(Field):
    """Images, stored as raw pixels or JPEG.

    Values are uint8 arrays [H, W, 3], PIL images of any mode but 'F' (see `to_rgb`), or an `EncodedImage`,
    which is stored unchanged whatever the write mode, unless `max_resolution` asks for a smaller one.

    Args:
        write_mode: 'raw' stores pixels; 'jpg' compresses; 'smart' compresses images of more than
            `smart_threshold` bytes of pixels; 'proportion' compresses a share of `compress_probability`.
            Which ones is drawn from a hash of the pixels, so that the same image always gets the same answer.
        max_resolution: Bound on the longer side in pixels; larger images are shrunk (area average), none
            enlarged.
        smart_threshold: For 'smart', in bytes; None stores everything raw.
        jpeg_quality: 1 to 100, as libjpeg counts it.
        compress_probability: For 'proportion', 0 to 1; None, which FFCV's own script for ImageNet passes, for 0.5.
        exif_orientation: Turn PIL images and `EncodedImage`s as their EXIF orientation says. An `EncodedImage` that it
            turns is compressed again, at quality 95. Without it orientation is ignored, as by torchvision's loader and
            the original.
        restart_markers: Transcode every JPEG that is stored, losslessly, so that a restart marker ends every row of
            MCUs and decoding can begin at any of them.
        entry_points: Keep behind every JPEG where decoding can begin inside it (3% of a photograph's bytes), so that a
            crop is decoded without what lies above it, left and right. The JPEG itself stays as it is, and readers
            that do not know of it do not see it.
    """

    def __init__(
        self,
        write_mode: WriteMode = "raw",
        max_resolution: int | None = None,
        smart_threshold: int | None = None,
        jpeg_quality: int = 90,
        compress_probability: float | None = 0.5,
        exif_orientation: bool = False,
        restart_markers: bool = False,
        entry_points: bool = False,
    ) -> None:
        if write_mode not in get_args(WriteMode):
            raise ValueError(
                f"write_mode {write_mode!r} does not exist: choose one of {', '.join(get_args(WriteMode))}"
            )
        if max_resolution is not None and max_resolution < 1:
            raise ValueError(f"max_resolution must be at least 1 pixel, got {max_resolution}")
        if not 1 <= jpeg_quality <= 100:
            raise ValueError(f"jpeg_quality lies between 1 and 100, got {jpeg_quality}")
        compress_probability = 0.5 if compress_probability is None else compress_probability
        if not 0 <= compress_probability <= 1:
            raise ValueError(f"compress_probability lies between 0 and 1, got {compress_probability}")
        self.write_mode = write_mode
        self.max_resolution = max_resolution
        self.smart_threshold = smart_threshold
        self.jpeg_quality = int(jpeg_quality)
        self.proportion = compress_probability
        self.exif_orientation = exif_orientation
        self.restart_markers = restart_markers
        self.entry_points = entry_points

    @property
    def metadata_type(self) -> np.dtype:
        return _IMAGE_METADATA

    @staticmethod
    def from_binary(binary: NDArray[np.uint8]) -> RGBImageField:
        return RGBImageField()

    def to_binary(self) -> Any:
        return pack_arguments()

    def get_decoder_class(self) -> type:
        return SimpleRGBImageDecoder

    def encode(self, destination: NDArray[Any], value: Any, malloc: Malloc) -> None:
        if self.exif_orientation:
            value = upright(value, self.max_resolution)
        if isinstance(value, EncodedImage):
            if self.max_resolution is None or max(value.height, value.width) <= self.max_resolution:
                self._store_jpeg(destination, value, malloc)
                return
            value = _core.decode_jpeg(np.frombuffer(value.data, np.uint8), max_side=self.max_resolution)
        pixels = shrink(np.ascontiguousarray(to_rgb(value)), self.max_resolution)
        if self._compresses(pixels):
            jpeg = EncodedImage(encode_jpeg(pixels, self.jpeg_quality), *pixels.shape[:2])
            self._store_jpeg(destination, jpeg, malloc)
        else:
            _store(destination, "raw", pixels.shape[:2], pixels, malloc)

    def _store_jpeg(self, destination: NDArray[Any], jpeg: EncodedImage, malloc: Malloc) -> None:
        content = with_restart_markers(jpeg.data) if self.restart_markers else jpeg.data
        points = jpeg.entry_points if content is jpeg.data else None
        if self.entry_points and points is None:
            points = _core.index_jpeg(np.frombuffer(content, np.uint8))[3]
        behind = points if self.entry_points and points else b""
        _store(destination, "jpg", (jpeg.height, jpeg.width), content, malloc, behind)

    def _compresses(self, pixels: NDArray[np.uint8]) -> bool:
        if self.write_mode == "smart":
            return self.smart_threshold is not None and pixels.nbytes > self.smart_threshold
        if self.write_mode == "proportion":
            draw = int.from_bytes(hashlib.blake2b(pixels.data, digest_size=8).digest(), "little")
            return draw < self.proportion * 2.0**64
        return self.write_mode == "jpg"

    def check_metadata(self, column: NDArray[Any], sizes: Sizes) -> None:
        mode, height, width = column["mode"], column["height"], column["width"]
        unknown = mode > 1
        if unknown.any():
            i = first_index(unknown)
            raise MetadataError(i, f"image mode {mode[i]}, but there are only 0 (JPEG) and 1 (raw)")
        empty = (height == 0) | (width == 0)
        if empty.any():
            i = first_index(empty)
            raise MetadataError(i, f"an image of {height[i]} x {width[i]} pixels")
        allocated = sizes(column["data_ptr"])
        expected = height.astype(np.uint64) * width * np.uint64(3)
        wrong = np.where(mode == IMAGE_MODES["raw"], allocated != expected, allocated == 0)
        if wrong.any():
            i = first_index(wrong)
            raise MetadataError(
                i,
                f"an image of {height[i]} x {width[i]} pixels in mode {mode[i]} cannot have {allocated[i]} bytes",
            )


def orientation_of(image: Image.Image) -> int:
    """A PIL image's EXIF orientation: 1 for upright, and where there is no EXIF or it cannot be read, to 8."""
    try:
        value = image.getexif().get(ExifTags.Base.Orientation, 1)
        return int(value) if value in _UPRIGHT else 1
    except MemoryError:
        raise
    except Exception:  # damaged EXIF leads Pillow to errors of any kind
        return 1


def exif_orientation(jpeg: bytes) -> int:
    """`orientation_of` a JPEG file."""
    try:
        image = JpegImagePlugin.JpegImageFile(io.BytesIO(jpeg))  # which reads its segments only
    except MemoryError:
        raise
    except Exception:  # whoever decodes the damaged file says what is wrong with it
        return 1
    return orientation_of(image)


def turn(image: Image.Image, orientation: int) -> Image.Image:
    """The image upright, given its EXIF orientation; one that has been turned has no EXIF any more."""
    method = _UPRIGHT[orientation]
    if method is None:
        return image
    turned = image.transpose(method)
    turned.info.clear()
    return turned


def upright(value: Any, max_resolution: int | None = None) -> Any:
    """A PIL image or an `EncodedImage` turned as its EXIF orientation says; one that is upright, and anything else, as
    it is. An `EncodedImage` that is turned is compressed again, at `TURNED_QUALITY` and without halving its chroma; one
    that is to be shrunk to `max_resolution` becomes a PIL image, so that it is compressed only once."""
    if isinstance(value, Image.Image):
        return turn(value, orientation_of(value))
    if not isinstance(value, EncodedImage) or (orientation := exif_orientation(value.data)) == 1:
        return value
    data = np.frombuffer(value.data, np.uint8)
    turned = turn(Image.fromarray(_core.decode_jpeg(data)), orientation)
    if max_resolution is not None and max(turned.size) > max_resolution:
        return turned
    is_grey = _core.jpeg_info(data)[2] == 1
    content = encode_jpeg(np.asarray(turned.convert("L") if is_grey else turned), TURNED_QUALITY, halve_chroma=False)
    return EncodedImage(content, turned.height, turned.width)


def with_restart_markers(jpeg: bytes) -> bytes:
    """The same image with a restart marker after every row of MCUs. One that has them, or whose values JPEG's encoding
    has no codes for, as it is."""
    content = np.frombuffer(jpeg, np.uint8)
    if len(_core.restart_index(content)):
        return jpeg
    try:
        return _core.add_restart_markers(content).tobytes()
    except DecodeError:
        return jpeg


def check_storable(image: Image.Image) -> None:
    """Raises ValueError for an image that has no 8-bit RGB form: floating-point pixels, or a side too long."""
    if image.mode == "F":
        raise ValueError("an image of floating-point pixels has no stated range: convert it to uint8 RGB first")
    _check_size(image.height, image.width)


def to_rgb(image: Any) -> NDArray[np.uint8]:
    """The pixels as uint8 [H, W, 3], by these rules.

    Arrays must be uint8 [H, W, 3] already. Of PIL images: alpha is dropped (as torchvision's loader does),
    16-bit grey keeps its upper 8 bits, and every other mode (grey, palette, CMYK, YCbCr, ...) is converted by
    Pillow.

    Raises:
        TypeError: Neither an array nor a PIL image.
        ValueError: An array of another shape or dtype, a floating-point PIL image, or a side over 65535
            pixels.
    """
    if isinstance(image, Image.Image):
        check_storable(image)
        if image.mode.startswith("I"):
            # Pillow's own conversion would clip 16-bit values at 255.
            grey = np.clip(np.asarray(image).astype(np.int64), 0, 65535) >> 8
            image = np.repeat(grey.astype(np.uint8)[:, :, None], 3, axis=2)
        else:
            if image.mode == "P" and isinstance(image.info.get("transparency"), bytes):
                image = image.convert("RGBA")  # or Pillow warns that its alpha will be lost
            image = np.asarray(image if image.mode == "RGB" else image.convert("RGB"))
    if not isinstance(image, np.ndarray):
        raise TypeError(
            f"RGBImageField stores PIL images, uint8 arrays [H, W, 3] and EncodedImage, got {type(image).__name__}"
        )
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
        raise ValueError(f"an image must be uint8 [H, W, 3], got {image.dtype} {list(image.shape)}: convert it first")
    _check_size(*image.shape[:2])
    return image


def shrink(pixels: NDArray[np.uint8], max_resolution: int | None) -> NDArray[np.uint8]:
    """The image with its longer side at most `max_resolution` pixels; one that fits is returned as it is."""
    if max_resolution is None or max(pixels.shape[:2]) <= max_resolution:
        return pixels
    return _core.shrink(pixels, max_resolution)


def encode_jpeg(pixels: NDArray[np.uint8], quality: int, *, halve_chroma: bool = True) -> bytes:
    """uint8 [H, W, 3], or grey [H, W], as a JPEG file: with chroma at half resolution (4:2:0), or at full."""
    return _core.encode_jpeg(np.ascontiguousarray(pixels), quality, halve_chroma)


def _store(
    destination: NDArray[Any],
    mode: str,
    size: tuple[int, ...],
    content: bytes | NDArray[np.uint8],
    malloc: Malloc,
    behind: bytes = b"",
) -> None:
    destination["mode"] = IMAGE_MODES[mode]
    destination["height"], destination["width"] = size
    destination["data_ptr"] = store(content if isinstance(content, bytes) else content.reshape(-1), malloc, behind)


def _check_size(height: int, width: int) -> None:
    if not (1 <= height <= MAX_SIDE and 1 <= width <= MAX_SIDE):
        raise ValueError(
            f"an image of {height} x {width} pixels cannot be stored: sides go from 1 to {MAX_SIDE}; resize it first"
        )
