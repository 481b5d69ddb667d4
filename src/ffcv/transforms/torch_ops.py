"""The core's operations in batched torch code, for tensors on any device.

One function an `OpCode`, with the arithmetic of csrc/kernels (that is, Pillow's). They compute in float32: for uint8
images every step rounds as the core does (`whole`), for float images nothing is rounded, only kept within 0..255.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from itertools import permutations
from typing import NamedTuple

import numpy as np
import torch

from ffcv._core import OpCode
from ffcv.transforms.tensors import laid_out_as, send

Tensor = torch.Tensor
_WEIGHT_BITS = 14
_LUMA = (19595.0, 38470.0, 7471.0)  # ITU-R 601, times 65536
_ORDERS = np.array(list(permutations(range(4))))


class Rows(NamedTuple):
    """The parameters of the samples that an operation works on."""

    host: np.ndarray  # float32 [B, columns], see csrc/program.h
    tables: Sequence[Tensor]  # float32, on the images' device: `host`, or what the operation's `prepare` makes of it

    def column(self, index: int) -> Tensor:
        """float32 [B, 1, 1, 1]."""
        return self.tables[0][:, index].view(-1, 1, 1, 1)


class _Operation(NamedTuple):
    active: Callable[[np.ndarray], np.ndarray]  # bool [B]: which rows change anything
    apply: Callable[[Tensor, Rows, bool], Tensor]
    prepare: Callable[[np.ndarray, bool], list[np.ndarray]] = lambda parameters, whole: [parameters]


def run(ops: Sequence[tuple[OpCode, np.ndarray]], images: Tensor) -> Tensor:
    """Applies operations with their parameters, float32 [B, columns], to images [B, 3, H, W]; a new tensor.

    All numbers go to the images' device in one copy, and nothing is asked back: a GPU is never waited for.

    Raises:
        ValueError: `images` or `parameters` have another shape.
    """
    if images.ndim != 4 or images.shape[1] != 3:
        raise ValueError(f"images must be RGB, [B, 3, H, W], got {list(images.shape)}")
    if any(len(parameters) != len(images) for _, parameters in ops):
        raise ValueError(f"parameters must be those of {len(images)} images")
    whole = not images.is_floating_point()
    steps, arrays = [], []
    for code, parameters in ops:
        operation = _OPERATIONS[code]
        rows = np.flatnonzero(~np.isnan(parameters[:, 0]) & operation.active(np.nan_to_num(parameters)))
        if rows.size:
            chosen = parameters if rows.size == len(images) else parameters[rows]
            tables = operation.prepare(chosen, whole)
            steps.append((operation, chosen, len(tables)))
            arrays += [rows, *tables]
    sent = iter(send(arrays, images.device))
    result = images.to(torch.float32, copy=True)
    for operation, chosen, count in steps:
        rows = next(sent)
        given = Rows(chosen, [next(sent) for _ in range(count)])
        result = _on_rows(result, rows, lambda x, of=operation, given=given: of.apply(x, given, whole))
    return laid_out_as(images, result)


def _on_rows(x: Tensor, rows: Tensor, change: Callable[[Tensor], Tensor]) -> Tensor:
    """`x`, which may be overwritten, with some of its samples changed."""
    if len(rows) == len(x):
        return change(x)
    indices = rows.long()
    return x.index_copy_(0, indices, change(x[indices])) if len(rows) else x


def _wide(device: torch.device) -> torch.dtype:
    """float64, but on Apple's GPUs, which have none and may thus round to a neighbouring pixel or value."""
    return torch.float32 if device.type == "mps" else torch.float64


def divided(x: Tensor, number: float) -> Tensor:
    """x / number, rounded once: by a plain number, torch on a GPU multiplies by its rounded reciprocal."""
    return x / torch.full((), number, device=x.device)


def luma(x: Tensor, whole: bool) -> Tensor:
    """Grey values, float32 [B, 1, H, W]."""
    r, g, b = x.split(1, dim=1)
    grey = r * _LUMA[0] + g * _LUMA[1] + b * _LUMA[2]
    return torch.floor((grey + 32768.0) / 65536.0) if whole else grey / 65536.0


def blend(base: Tensor | float, x: Tensor, factor: Tensor, whole: bool) -> Tensor:
    """Pillow's `Image.blend`: from `base` (factor 0) to `x` (factor 1) and beyond."""
    mixed = (base + factor * (x - base)).clamp(0.0, 255.0)
    return mixed.trunc() if whole else mixed


def _brightness(x: Tensor, factor: Tensor, whole: bool) -> Tensor:
    return blend(0.0, x, factor, whole)


def _contrast(x: Tensor, factor: Tensor, whole: bool) -> Tensor:
    mean = luma(x, whole).to(_wide(x.device)).mean(dim=(1, 2, 3), keepdim=True)
    return blend((torch.floor(mean + 0.5) if whole else mean).float(), x, factor, whole)


def _saturation(x: Tensor, factor: Tensor, whole: bool) -> Tensor:
    return blend(luma(x, whole), x, factor, whole)


_FACES = np.array([[0, 1, 2, 2, 3, 0], [3, 0, 0, 1, 2, 2], [2, 2, 3, 0, 0, 1]])
"""Which of (value, q, p, t) is R, G and B on each face of the colour cube."""


def _hue(x: Tensor, turns: Tensor, whole: bool, faces: Tensor) -> Tensor:
    """Pillow's eight-bit HSV and back; the hue's shift is a wrapping byte, as torchvision's."""
    step = torch.trunc if whole else (lambda value: value)
    r, g, b = x.split(1, dim=1)
    high, low = x.amax(dim=1, keepdim=True), x.amin(dim=1, keepdim=True)
    spread = high - low
    middle = (high + low - (r + g + b) + high) / torch.where(spread > 0, spread, 1.0)
    red = torch.where(g >= b, 1.0 - middle, middle - 1.0)
    green = torch.where(r >= b, 1.0 + middle, 3.0 - middle)
    blue = torch.where(r >= g, 5.0 - middle, 3.0 + middle)
    sixths = torch.where(r == high, red, torch.where(g == high, green, blue))
    turn = divided(sixths, 6.0)
    turn = torch.where(sixths < 0, turn + 1.0, turn)
    hue = torch.where(spread == 0, 0.0, step(turn * 255.0)) + torch.trunc(turns * 255.0)
    hue = torch.remainder(hue, 256.0)
    saturation = divided(step(spread / high.clamp(min=1.0) * 255.0), 255.0)

    face = torch.floor(divided(hue * 6.0, 255.0))
    f = divided(hue * 6.0 - face * 255.0, 255.0)
    half = 0.5 if whole else 0.0
    p = step(high * (1.0 - saturation) + half)
    q = step(high * (1.0 - saturation * f) + half)
    t = step(high * (1.0 - saturation * (1.0 - f)) + half)
    face = torch.remainder(face, 6.0).long()
    choices = torch.cat([high, q, p, t], dim=1)
    return torch.cat([choices.gather(1, of_channel[face]) for of_channel in faces.long()], dim=1)


def _jitter_steps(parameters: np.ndarray, whole: bool) -> list[np.ndarray]:
    """For each place in the order and each kind of change: the rows that it happens to, and its factors."""
    order = _ORDERS[parameters[:, 4].astype(np.int64)]
    tables: list[np.ndarray] = [_FACES]
    for place in range(4):
        for kind, neutral in enumerate((1.0, 1.0, 1.0, 0.0)):
            rows = np.flatnonzero((order[:, place] == kind) & (parameters[:, kind] != neutral))
            tables += [rows, parameters[rows, kind]]
    return tables


def _color_jitter(x: Tensor, given: Rows, whole: bool) -> Tensor:
    faces, *steps = given.tables
    functions = 4 * (_brightness, _contrast, _saturation, partial(_hue, faces=faces))
    for function, rows, factors in zip(functions, steps[::2], steps[1::2], strict=True):
        x = _on_rows(x, rows, lambda part, f=function, factors=factors: f(part, factors.view(-1, 1, 1, 1), whole))
    return x


def _grayscale(x: Tensor, given: Rows, whole: bool) -> Tensor:
    return luma(x, whole).repeat(1, 3, 1, 1)


def _solarize(x: Tensor, given: Rows, whole: bool) -> Tensor:
    return torch.where(x >= given.column(1), 255.0 - x, x)


def _flip_horizontal(x: Tensor, given: Rows, whole: bool) -> Tensor:
    return x.flip(3)


def _flip_vertical(x: Tensor, given: Rows, whole: bool) -> Tensor:
    return x.flip(2)


def _reflected(size: int, radius: int, device: torch.device) -> Tensor:
    """Indices -radius..size+radius-1, mirrored into 0..size-1 without repeating the border, however far out."""
    index = torch.arange(-radius, size + radius, device=device).abs() % max(1, 2 * (size - 1))
    return torch.where(index < size, index, 2 * (size - 1) - index)


def _blur_rows(x: Tensor, weights: Tensor) -> Tensor:
    """Convolves along the last axis, with symmetric weights [B, 1, 1, k] for each sample.

    Tap by tap rather than by conv2d, which on a GPU rounds to the eleven bits of TF32 and runs a kernel a sample.
    """
    width, radius = x.shape[3], weights.shape[-1] // 2
    padded = x[..., _reflected(width, radius, x.device)]
    result = x * weights[..., radius : radius + 1]
    for d in range(1, radius + 1):
        pair = padded[..., radius - d : radius - d + width] + padded[..., radius + d : radius + d + width]
        result.addcmul_(pair, weights[..., radius + d : radius + d + 1])
    return result


def _blur_weights(parameters: np.ndarray, whole: bool) -> list[np.ndarray]:
    kernel_size = int(parameters[0, 1])
    distance = np.arange(kernel_size) - kernel_size // 2
    weights = np.exp(-0.5 * (distance / parameters[:, :1].astype(np.float64)) ** 2)
    weights /= weights.sum(axis=1, keepdims=True)
    if whole:
        fixed = np.rint(weights * (1 << _WEIGHT_BITS))
        fixed[:, kernel_size // 2] += (1 << _WEIGHT_BITS) - fixed.sum(axis=1)
        weights = fixed / (1 << _WEIGHT_BITS)
    return [weights]


def _gaussian_blur(x: Tensor, given: Rows, whole: bool) -> Tensor:
    taps = given.tables[0][:, None, None, :]
    rows = _blur_rows(x, taps)
    rows = torch.floor(rows * 128.0 + 0.5) / 128.0 if whole else rows
    blurred = _blur_rows(rows.transpose(2, 3), taps).transpose(2, 3)
    return torch.floor(blurred + 0.5).clamp(0.0, 255.0) if whole else blurred


def _affine(x: Tensor, given: Rows, whole: bool) -> Tensor:
    batch, _, height, width = x.shape
    wide, numbers = _wide(x.device), given.tables[0]
    m = (numbers[:, 4::2].to(wide) + numbers[:, 5::2].to(wide)).view(batch, 6, 1, 1)
    a, b, c, d, e, f = m.unbind(1)
    column = torch.arange(width, device=x.device, dtype=wide).view(1, 1, width)
    row = torch.arange(height, device=x.device, dtype=wide).view(1, height, 1)
    fill = numbers[:, 1:4, None, None]
    if given.host[0, 0] != 0:
        source_x, source_y = a * (column + 0.5) + b * (row + 0.5) + c, d * (column + 0.5) + e * (row + 0.5) + f
        known = (source_x >= 0) & (source_x < width) & (source_y >= 0) & (source_y < height)
        return torch.where(known.unsqueeze(1), _bilinear(x, source_x - 0.5, source_y - 0.5, whole), fill)

    def fixed(value: Tensor) -> Tensor:
        return torch.floor(value * 65536.0 + 0.5)

    turned_x = fixed(c + a * 0.5 + b * 0.5) + column * fixed(a) + row * fixed(b)
    turned_y = fixed(f + d * 0.5 + e * 0.5) + column * fixed(d) + row * fixed(e)
    scaled = (b == 0) & (d == 0)
    source_x = torch.where(scaled, torch.floor(c + a * 0.5 + a * column), torch.floor(turned_x / 65536.0))
    source_y = torch.where(scaled, torch.floor(f + e * 0.5 + e * row), torch.floor(turned_y / 65536.0))
    known = (source_x >= 0) & (source_x < width) & (source_y >= 0) & (source_y < height)
    return torch.where(known.unsqueeze(1), _pixels(x, source_x, source_y), fill)


def _pixels(x: Tensor, column: Tensor, row: Tensor) -> Tensor:
    """Pixels at whole coordinates [B, H, W], clamped to the image."""
    height, width = x.shape[2:]
    index = row.clamp(0, height - 1).long() * width + column.clamp(0, width - 1).long()
    return x.flatten(2).gather(2, index.flatten(1).unsqueeze(1).expand(-1, 3, -1)).view(x.shape)


def _bilinear(x: Tensor, column: Tensor, row: Tensor, whole: bool) -> Tensor:
    left, top = torch.floor(column), torch.floor(row)
    across, down = (column - left).unsqueeze(1), (row - top).unsqueeze(1)
    corners = [_pixels(x, left + dx, top + dy).to(column.dtype) for dy in (0, 1) for dx in (0, 1)]
    upper = corners[0] + (corners[1] - corners[0]) * across
    lower = corners[2] + (corners[3] - corners[2]) * across
    mixed = upper + (lower - upper) * down
    return (mixed.trunc() if whole else mixed).float()


def _fill_box(x: Tensor, given: Rows, whole: bool) -> Tensor:
    top, left, height, width = (given.column(i) for i in range(4))
    row = torch.arange(x.shape[2], device=x.device).view(1, 1, -1, 1)
    column = torch.arange(x.shape[3], device=x.device).view(1, 1, 1, -1)
    inside = (row >= top) & (row < top + height) & (column >= left) & (column < left + width)
    return torch.where(inside, given.tables[0][:, 4:7, None, None], x)


def _posterize_steps(parameters: np.ndarray, whole: bool) -> list[np.ndarray]:
    return [2.0 ** (8.0 - np.maximum(parameters[:, :1], 0.0))]


def _posterize(x: Tensor, given: Rows, whole: bool) -> Tensor:
    step = given.column(0)
    return torch.floor(x / step) * step


def _look_up(x: Tensor, curves: Tensor) -> Tensor:
    """Tone curves [B, 3, 256] at the nearest whole values."""
    return curves.float().gather(2, x.round().long().clamp(0, 255).flatten(2)).view(x.shape)


def _equalize(x: Tensor, given: Rows, whole: bool) -> Tensor:
    batch, _, height, width = x.shape
    planes = torch.arange(3 * batch, device=x.device).view(batch, 3, 1, 1)
    bins = (planes * 256 + x.round().long().clamp(0, 255)).flatten()
    counts = torch.zeros(3 * batch * 256, dtype=torch.int64, device=x.device)
    counts = counts.scatter_add(0, bins, torch.ones_like(bins)).view(batch, 3, 256)
    last = (counts > 0).long().mul(torch.arange(256, device=x.device)).amax(dim=2, keepdim=True)
    step = (height * width - counts.gather(2, last)) // 255
    sums = counts.cumsum(2) - counts + step // 2
    curves = torch.where(step > 0, (sums // step.clamp(min=1)).clamp(max=255), torch.arange(256, device=x.device))
    return _look_up(x, curves)


def _autocontrast(x: Tensor, given: Rows, whole: bool) -> Tensor:
    low = x.amin(dim=(2, 3), keepdim=True).to(_wide(x.device))
    high = x.amax(dim=(2, 3), keepdim=True).to(_wide(x.device))
    scale = torch.full_like(high, 255.0) / torch.where(high > low, high - low, 1.0)  # 255 / x multiplies by 1 / x
    stretched = (x * scale + (-low * scale)).clamp(0.0, 255.0)
    stretched = (stretched.trunc() if whole else stretched).float()
    return torch.where(high > low, stretched, x)


def _sharpness(x: Tensor, given: Rows, whole: bool) -> Tensor:
    height, width = x.shape[2:]
    if min(height, width) < 3:
        return x
    kernel = torch.where(torch.arange(9, device=x.device) == 4, 5.0, 1.0).view(1, 1, 3, 3)
    smooth = torch.nn.functional.conv2d(x.reshape(-1, 1, height, width), kernel).view(len(x), 3, height - 2, width - 2)
    smooth = torch.floor(divided(2.0 * smooth + 13.0, 26.0)) if whole else smooth / 13.0
    result = x.clone()
    inner = result[:, :, 1:-1, 1:-1]
    inner.copy_(blend(smooth, inner.clone(), given.column(0), whole))
    return result


def _mix(x: Tensor) -> Tensor:
    """The noise kernel's hash of 32 bits, in int64."""
    x = ((x ^ (x >> 16)) * 0x7FEB352D) & 0xFFFFFFFF
    x = ((x ^ (x >> 15)) * 0x846CA68B) & 0xFFFFFFFF
    return x ^ (x >> 16)


def _noise(x: Tensor, given: Rows, whole: bool) -> Tensor:
    keys = given.tables[0][:, 2:].long()
    position = torch.arange(x[0].numel(), device=x.device)
    first = _mix((_mix((position + keys[:, :1] * 0x9E3779B9) & 0xFFFFFFFF) + keys[:, 1:] * 0x85EBCA6B) & 0xFFFFFFFF)
    second = _mix((first + 0x9E3779B9) & 0xFFFFFFFF)
    radius = torch.sqrt(-2.0 * torch.log(((first >> 9).float() + 0.5) * 2.0**-23))
    normal = radius * torch.sin(2.0 * torch.pi * ((second >> 8).float() * 2.0**-24 - 0.5))
    noisy = x + (given.column(0) + given.column(1) * normal.view(x.shape))
    noisy = noisy.clamp(0.0, 255.0)
    return torch.floor(noisy + 0.5) if whole else noisy


def _first(parameters: np.ndarray) -> np.ndarray:
    return parameters[:, 0] != 0


def _always(parameters: np.ndarray) -> np.ndarray:
    return np.ones(len(parameters), bool)


_OPERATIONS: dict[OpCode, _Operation] = {
    OpCode.flip_horizontal: _Operation(_first, _flip_horizontal),
    OpCode.color_jitter: _Operation(_always, _color_jitter, _jitter_steps),
    OpCode.grayscale: _Operation(_first, _grayscale),
    OpCode.solarize: _Operation(_first, _solarize),
    OpCode.gaussian_blur: _Operation(_first, _gaussian_blur, _blur_weights),
    OpCode.flip_vertical: _Operation(_first, _flip_vertical),
    OpCode.affine: _Operation(_always, _affine),
    OpCode.fill_box: _Operation(lambda parameters: (parameters[:, 2] > 0) & (parameters[:, 3] > 0), _fill_box),
    OpCode.posterize: _Operation(lambda parameters: parameters[:, 0] < 8, _posterize, _posterize_steps),
    OpCode.equalize: _Operation(_first, _equalize),
    OpCode.autocontrast: _Operation(_first, _autocontrast),
    OpCode.sharpness: _Operation(lambda parameters: parameters[:, 0] != 1, _sharpness),
    OpCode.noise: _Operation(lambda parameters: (parameters[:, 0] != 0) | (parameters[:, 1] != 0), _noise),
}
