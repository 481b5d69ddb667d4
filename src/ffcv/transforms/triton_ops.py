"""Colour operations and normalisation of uint8 images in one or two passes on a CUDA device, in Triton.

The same steps as `torch_ops`, the same values to the bit: float32 without contraction into FMA, divisions rounded to
nearest. Where a batch's contrast changes, a first pass sums its grey values; the second pass does everything else,
reading each byte once and writing each result once.
"""

# pyright: reportGeneralTypeIssues=false
# (to it, calls between kernels are calls that never return)

from __future__ import annotations

from collections.abc import Sequence
from itertools import permutations
from typing import Any

import numpy as np
import torch
import triton
import triton.language as tl

from ffcv._core import OpCode

JITTER, GRAY, SOLARIZE, POSTERIZE = 0, 1, 2, 3
CODES = {
    OpCode.color_jitter: JITTER,
    OpCode.grayscale: GRAY,
    OpCode.solarize: SOLARIZE,
    OpCode.posterize: POSTERIZE,
}
"""What the kernel knows."""

_COLUMNS: tl.constexpr = tl.constexpr(9)  # of an operation: whether it is active, then its parameters
_BLOCK = 1024
_ORDERS = np.array(list(permutations(range(4))), np.float32)
_MOST_OPERATIONS = 15  # whose codes of two bits fit into an int32
_MOST_PIXELS = (1 << 31) // 255  # whose grey values an int32 can sum


def fits(codes: Sequence[OpCode], height: int, width: int) -> bool:
    """Whether `run` takes these operations on images of that size."""
    known = all(code in CODES for code in codes) and len(codes) <= _MOST_OPERATIONS
    return known and codes.count(OpCode.color_jitter) <= 1 and height * width <= _MOST_PIXELS


def table(code: OpCode, parameters: np.ndarray) -> np.ndarray:
    """The kernel's parameters of an operation, float32 [B, 9], from the core's, float32 [B, columns]."""
    rows = np.zeros((len(parameters), _COLUMNS.value), np.float32)
    rows[:, 0] = ~np.isnan(parameters[:, 0])
    known = np.nan_to_num(parameters)
    if code == OpCode.color_jitter:
        rows[:, 1:5] = known[:, :4]
        rows[:, 5:9] = _ORDERS[known[:, 4].astype(np.int64)]
    elif code == OpCode.posterize:
        rows[:, 0] *= known[:, 0] < 8
        rows[:, 1] = 2.0 ** (8.0 - np.maximum(known[:, 0], 0.0))
    else:
        rows[:, 0] *= known[:, 0] != 0
        rows[:, 1 : parameters.shape[1]] = known[:, 1:]
    return rows


def run(
    codes: Sequence[OpCode],
    tables: torch.Tensor,
    images: torch.Tensor,
    scale_and_bias: torch.Tensor | None = None,
    dtype: torch.dtype = torch.uint8,
) -> torch.Tensor:
    """A new tensor [B, 3, H, W] of `dtype` in the images' memory format.

    Args:
        codes: the operations, in order; `fits` knows which.
        tables: float32 [B, 9 * operations] on the images' device, `table`s side by side.
        images: uint8 [B, 3, H, W].
        scale_and_bias: float32 [6] there, of normalisation; None for none.
        dtype: of the result.
    """
    batch, _, height, width = images.shape
    result = torch.empty_like(images, dtype=dtype)
    sums = torch.zeros(batch, dtype=torch.int32, device=images.device)
    program = sum(CODES[code] << 2 * i for i, code in enumerate(codes))
    grid = (triton.cdiv(height * width, _BLOCK), batch)
    common: dict[str, Any] = {
        "height": height,
        "width": width,
        "PROGRAM": program,
        "LENGTH": len(codes),
        "BLOCK": _BLOCK,
        "enable_fp_fusion": False,
    }
    sum_grey: Any = _sum_grey
    point_operations: Any = _point_operations
    if OpCode.color_jitter in codes:
        sum_grey[grid](images, tables, sums, *images.stride(), JITTER_AT=codes.index(OpCode.color_jitter), **common)
    point_operations[grid](
        images,
        tables,
        sums,
        result,
        tables if scale_and_bias is None else scale_and_bias,
        *images.stride(),
        *result.stride(),
        NORMALIZE=scale_and_bias is not None,
        **common,
    )
    return result


@triton.jit
def _luma(r, g, b):  # ITU-R 601
    return tl.floor((r * 19595.0 + g * 38470.0 + b * 7471.0 + 32768.0) * (1.0 / 65536.0))


@triton.jit
def _truncated(x):  # of numbers that are not negative
    return tl.floor(x)


@triton.jit
def _blend(base, x, factor):  # Pillow's Image.blend
    return _truncated(tl.minimum(tl.maximum(base + factor * (x - base), 0.0), 255.0))


@triton.jit
def _hue(r, g, b, turns):  # Pillow's eight-bit HSV and back
    high = tl.maximum(tl.maximum(r, g), b)
    low = tl.minimum(tl.minimum(r, g), b)
    spread = high - low
    middle = tl.div_rn(high + low - (r + g + b) + high, tl.where(spread > 0.0, spread, 1.0))
    red = tl.where(g >= b, 1.0 - middle, middle - 1.0)
    green = tl.where(r >= b, 1.0 + middle, 3.0 - middle)
    blue = tl.where(r >= g, 5.0 - middle, 3.0 + middle)
    sixths = tl.where(r == high, red, tl.where(g == high, green, blue))
    six, most = r * 0.0 + 6.0, r * 0.0 + 255.0
    turn = tl.div_rn(sixths, six)
    turn = tl.where(sixths < 0.0, turn + 1.0, turn)
    shift = turns * 255.0
    shift = tl.where(shift < 0.0, -tl.floor(-shift), tl.floor(shift))
    hue = tl.where(spread == 0.0, 0.0, _truncated(turn * 255.0)) + shift
    hue = hue - 256.0 * tl.floor(hue * (1.0 / 256.0))
    saturation = tl.div_rn(_truncated(tl.div_rn(spread, tl.maximum(high, 1.0)) * 255.0), most)
    face = tl.floor(tl.div_rn(hue * 6.0, most))
    f = tl.div_rn(hue * 6.0 - face * 255.0, most)
    p = _truncated(high * (1.0 - saturation) + 0.5)
    q = _truncated(high * (1.0 - saturation * f) + 0.5)
    t = _truncated(high * (1.0 - saturation * (1.0 - f)) + 0.5)
    face = tl.where(face >= 6.0, face - 6.0, face)
    r = tl.where((face == 0) | (face == 5), high, tl.where(face == 1, q, tl.where(face == 4, t, p)))
    g = tl.where((face == 1) | (face == 2), high, tl.where(face == 3, q, tl.where(face == 0, t, p)))
    b = tl.where((face == 3) | (face == 4), high, tl.where(face == 5, q, tl.where(face == 2, t, p)))
    return r, g, b


@triton.jit
def _jitter_step(r, g, b, kind, row, mean):
    """One of the four changes; `row` is the sample's operation in the table."""
    if kind == 0.0:
        factor = tl.load(row + 1)
        r, g, b = _blend(0.0, r, factor), _blend(0.0, g, factor), _blend(0.0, b, factor)
    elif kind == 1.0:
        factor = tl.load(row + 2)
        r, g, b = _blend(mean, r, factor), _blend(mean, g, factor), _blend(mean, b, factor)
    elif kind == 2.0:
        factor = tl.load(row + 3)
        grey = _luma(r, g, b)
        r, g, b = _blend(grey, r, factor), _blend(grey, g, factor), _blend(grey, b, factor)
    else:
        turns = tl.load(row + 4)
        if turns != 0.0:  # a hue of 0 would go through HSV, and back to other colours
            r, g, b = _hue(r, g, b, turns)
    return r, g, b


@triton.jit
def _other(r, g, b, row, CODE: tl.constexpr):
    active = tl.load(row) != 0.0
    value = tl.load(row + 1)
    if CODE == 1:
        grey = _luma(r, g, b)
        r, g, b = tl.where(active, grey, r), tl.where(active, grey, g), tl.where(active, grey, b)
    elif CODE == 2:
        least = tl.where(active, value, 256.0)
        r, g, b = (
            tl.where(r >= least, 255.0 - r, r),
            tl.where(g >= least, 255.0 - g, g),
            tl.where(b >= least, 255.0 - b, b),
        )
    else:
        step = tl.where(active, value, 1.0)  # a power of two: dividing by it is exact
        r = tl.floor(r / step) * step
        g = tl.floor(g / step) * step
        b = tl.floor(b / step) * step
    return r, g, b


@triton.jit
def _pixels(images, sample, stride_b, stride_c, stride_h, stride_w, height, width, BLOCK: tl.constexpr):
    """A block's offsets in its image, which of them are inside, and their colours."""
    index = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    inside = index < height * width
    row, column = index // width, index % width
    place = images + sample.to(tl.int64) * stride_b + row * stride_h + column * stride_w
    r = tl.load(place, mask=inside, other=0).to(tl.float32)
    g = tl.load(place + stride_c, mask=inside, other=0).to(tl.float32)
    b = tl.load(place + 2 * stride_c, mask=inside, other=0).to(tl.float32)
    return row, column, inside, r, g, b


@triton.jit
def _sum_grey(
    images,
    tables,
    sums,
    stride_b,
    stride_c,
    stride_h,
    stride_w,
    height,
    width,
    JITTER_AT: tl.constexpr,
    PROGRAM: tl.constexpr,
    LENGTH: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """Adds up the grey values that the change of contrast will see."""
    sample = tl.program_id(1)
    row = tables + sample * LENGTH * _COLUMNS
    jitter = row + JITTER_AT * _COLUMNS
    if (tl.load(jitter) != 0.0) & (tl.load(jitter + 2) != 1.0):
        _, _, inside, r, g, b = _pixels(images, sample, stride_b, stride_c, stride_h, stride_w, height, width, BLOCK)
        for i in tl.static_range(JITTER_AT):
            r, g, b = _other(r, g, b, row + i * _COLUMNS, (PROGRAM >> (2 * i)) & 3)
        before = 1.0
        for place in tl.static_range(4):
            kind = tl.load(jitter + 5 + place)
            before = tl.where(kind == 1.0, 0.0, before)
            if before != 0.0:
                r, g, b = _jitter_step(r, g, b, kind, jitter, 0.0)
        grey = tl.where(inside, _luma(r, g, b), 0.0).to(tl.int32)
        tl.atomic_add(sums + sample, tl.sum(grey, axis=0))


@triton.jit
def _point_operations(
    images,
    tables,
    sums,
    result,
    scale_and_bias,
    stride_b,
    stride_c,
    stride_h,
    stride_w,
    to_b,
    to_c,
    to_h,
    to_w,
    height,
    width,
    NORMALIZE: tl.constexpr,
    PROGRAM: tl.constexpr,
    LENGTH: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """All operations, normalisation and the write."""
    sample = tl.program_id(1)
    line, column, inside, r, g, b = _pixels(
        images, sample, stride_b, stride_c, stride_h, stride_w, height, width, BLOCK
    )
    row = tables + sample * LENGTH * _COLUMNS
    total = tl.load(sums + sample).to(tl.int64)
    mean = ((2 * total + height * width) // (2 * height * width)).to(tl.float32)
    for i in tl.static_range(LENGTH):
        operation = row + i * _COLUMNS
        if ((PROGRAM >> (2 * i)) & 3) == 0:
            if tl.load(operation) != 0.0:
                for place in tl.static_range(4):
                    r, g, b = _jitter_step(r, g, b, tl.load(operation + 5 + place), operation, mean)
        else:
            r, g, b = _other(r, g, b, operation, (PROGRAM >> (2 * i)) & 3)
    if NORMALIZE:
        r = r * tl.load(scale_and_bias) + tl.load(scale_and_bias + 3)
        g = g * tl.load(scale_and_bias + 1) + tl.load(scale_and_bias + 4)
        b = b * tl.load(scale_and_bias + 2) + tl.load(scale_and_bias + 5)
    place = result + sample.to(tl.int64) * to_b + line * to_h + column * to_w
    tl.store(place, r.to(result.dtype.element_ty), mask=inside)
    tl.store(place + to_c, g.to(result.dtype.element_ty), mask=inside)
    tl.store(place + 2 * to_c, b.to(result.dtype.element_ty), mask=inside)
