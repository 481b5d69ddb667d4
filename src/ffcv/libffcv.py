"""The functions of the original's library that users' own decoders call."""

from __future__ import annotations

from typing import Any

import numpy as np

from ffcv import _core
from ffcv.fields.rgb_image import IMAGE_MODES
from ffcv.pipeline.native_calls import native

__all__ = ["imdecode", "memcpy", "pad", "resize_crop"]


def memcpy(source: Any, dest: Any) -> None:
    """Copies all bytes of `source` to the beginning of `dest`, and leaves what follows there as it is.

    Plain enough for `Compiler.compile(memcpy)`, to be called from code that numba compiles.

    Args:
        source: Array of any shape and dtype, contiguous (C order).
        dest: Likewise, of as many bytes or more.

    Raises:
        ValueError: `dest` is too small, or one of them is not contiguous.
    """
    if not (source.flags.c_contiguous and dest.flags.c_contiguous):
        raise ValueError("memcpy copies between contiguous arrays: assign instead, dest[...] = source")
    if source.nbytes > dest.nbytes:
        raise ValueError(f"memcpy of {source.nbytes} bytes into an array of {dest.nbytes}: make it larger")
    content = source.reshape(-1).view(np.uint8)
    dest.reshape(-1).view(np.uint8)[: content.size] = content


@native
def imdecode(
    source: Any,
    dst: Any,
    source_height: int,
    source_width: int,
    crop_height: int | None = None,
    crop_width: int | None = None,
    offset_x: int = 0,
    offset_y: int = 0,
    scale_factor_num: int = 1,
    scale_factor_denom: int = 1,
    enable_crop: bool = False,
    do_flip: bool = False,
) -> int:
    """Decodes a JPEG.

    Args:
        source: Its bytes, uint8 [L].
        dst: For the pixels, uint8, contiguous; what follows them there stays as it is.
        source_height, source_width: The image's.
        crop_height, crop_width, offset_x, offset_y: The part to decode, with `enable_crop`.
        scale_factor_num, scale_factor_denom: Must be equal; `resize_crop` makes images smaller.
        enable_crop: Decode a part only.
        do_flip: Mirror it.

    Returns:
        0, as the original where it succeeds.

    Raises:
        DecodeError: The image is damaged.
        ValueError: It has another size, `dst` is too small, or a scale is asked for.
    """
    if scale_factor_num != scale_factor_denom:
        raise ValueError(f"imdecode does not scale, got {scale_factor_num}/{scale_factor_denom}: use resize_crop")
    pixels = _core.decode_jpeg(np.ascontiguousarray(source))
    height, width, _ = pixels.shape
    if (height, width) != (source_height, source_width):
        raise ValueError(f"imdecode of {source_height} x {source_width}, but the image has {height} x {width} pixels")
    if enable_crop:
        bottom = height if crop_height is None else int(offset_y) + int(crop_height)
        right = width if crop_width is None else int(offset_x) + int(crop_width)
        pixels = pixels[int(offset_y) : bottom, int(offset_x) : right]
    memcpy(np.ascontiguousarray(pixels[:, ::-1] if do_flip else pixels), dst)
    return 0


@native
def resize_crop(source: Any, start_row: int, end_row: int, start_col: int, end_col: int, destination: Any) -> None:
    """Resizes a part of an image by averaging areas, as OpenCV's INTER_AREA.

    Args:
        source: uint8 [H, W, 3].
        start_row, end_row, start_col, end_col: The part.
        destination: uint8 [h, w, 3], contiguous: takes the result.

    Raises:
        ValueError: The part is empty or not within the image.
    """
    (height, width), (new_height, new_width) = source.shape[:2], destination.shape[:2]
    top, bottom, left, right = int(start_row), int(end_row), int(start_col), int(end_col)
    if not (0 <= top < bottom <= height and 0 <= left < right <= width):
        raise ValueError(f"there is no part [{top}:{bottom}, {left}:{right}] of an image of {height} x {width} pixels")
    box = np.array([[top, left, bottom - top, right - left]], np.int32)
    out, area = destination[None], _core.Interpolation.area
    view = _core.View(box, None, new_height, new_width, [], out, False, [1.0] * 3, [0.0] * 3, interpolation=area)
    pixels, mode = np.ascontiguousarray(source).reshape(-1), np.array([IMAGE_MODES["raw"]], np.uint8)
    sizes, shapes = np.array([pixels.size], np.uint64), np.array([[height, width]], np.int32)
    errors = _core.Renderer(1).render(pixels, np.zeros(1, np.uint64), sizes, mode, shapes, [view])
    assert not errors  # raw pixels of the size stated


@native
def pad(source: Any, start_row: int, end_row: int, start_col: int, end_col: int, destination: Any) -> None:
    """Copies a part of `source` to the top left of `destination`, uint8 [h, w, 3] both, and fills the rest with 0."""
    part = source[start_row:end_row, start_col:end_col]
    destination[...] = 0
    destination[: part.shape[0], : part.shape[1]] = part
