"""The core's operations in batched torch code, for tensors on any device.

One function an `OpCode`, with the arithmetic of csrc/kernels (that is, Pillow's). They compute in float32: for uint8
images every step rounds as the core does (`whole`), for float images nothing is rounded, only kept within 0..255.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import permutations

import numpy as np
import torch

from ffcv._core import OpCode

Tensor = torch.Tensor
_WEIGHT_BITS = 14
_LUMA = (19595.0, 38470.0, 7471.0)  # ITU-R 601, times 65536
_ORDERS = np.array(list(permutations(range(4))))


def run(ops: Sequence[tuple[OpCode, np.ndarray]], images: Tensor) -> Tensor:
    """Applies operations with their parameters, float32 [B, columns], to images [B, 3, H, W]; a new tensor.

    Raises:
        ValueError: `images` or `parameters` have another shape.
    """
    if images.ndim != 4 or images.shape[1] != 3:
        raise ValueError(f"images must be RGB, [B, 3, H, W], got {list(images.shape)}")
    if any(len(parameters) != len(images) for _, parameters in ops):
        raise ValueError(f"parameters must be those of {len(images)} images")
    whole = not images.is_floating_point()
    result = images.to(torch.float32, copy=True)
    for code, parameters in ops:
        active, function = _FUNCTIONS[code]
        rows = np.flatnonzero(~np.isnan(parameters[:, 0]) & active(np.nan_to_num(parameters)))
        if rows.size == len(parameters):
            result = function(result, parameters, whole)
        elif rows.size:
            chosen = torch.from_numpy(rows).to(result.device)
            result[chosen] = function(result[chosen], parameters[rows], whole)
    return result.to(images.dtype)


def _column(values: np.ndarray, like: Tensor) -> Tensor:
    """float32 [B, 1, 1, 1] on the images' device."""
    return torch.from_numpy(np.ascontiguousarray(values, np.float32)).to(like.device).view(-1, 1, 1, 1)


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
    mean = luma(x, whole).double().mean(dim=(1, 2, 3), keepdim=True)
    return blend((torch.floor(mean + 0.5) if whole else mean).float(), x, factor, whole)


def _saturation(x: Tensor, factor: Tensor, whole: bool) -> Tensor:
    return blend(luma(x, whole), x, factor, whole)


def _hue(x: Tensor, turns: Tensor, whole: bool) -> Tensor:
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
    turn = torch.where(sixths < 0, sixths / 6.0 + 1.0, sixths / 6.0)
    hue = torch.where(spread == 0, 0.0, step(turn * 255.0)) + torch.trunc(turns * 255.0)
    hue = torch.remainder(hue, 256.0)
    saturation = step(spread / high.clamp(min=1.0) * 255.0) / 255.0

    face = torch.floor(hue * 6.0 / 255.0)
    f = (hue * 6.0 - face * 255.0) / 255.0
    half = 0.5 if whole else 0.0
    p = step(high * (1.0 - saturation) + half)
    q = step(high * (1.0 - saturation * f) + half)
    t = step(high * (1.0 - saturation * (1.0 - f)) + half)
    face = torch.remainder(face, 6.0).long()
    choices = torch.cat([high, q, p, t], dim=1)
    pick = torch.tensor([[0, 1, 2, 2, 3, 0], [3, 0, 0, 1, 2, 2], [2, 2, 3, 0, 0, 1]], device=x.device)
    return torch.cat([choices.gather(1, pick[channel][face]) for channel in range(3)], dim=1)


def _color_jitter(x: Tensor, parameters: np.ndarray, whole: bool) -> Tensor:
    steps = (_brightness, _contrast, _saturation, _hue)
    order = _ORDERS[parameters[:, 4].astype(np.int64)]
    for place in range(4):
        for kind, function in enumerate(steps):
            neutral = 0.0 if kind == 3 else 1.0
            rows = np.flatnonzero((order[:, place] == kind) & (parameters[:, kind] != neutral))
            if rows.size:
                chosen = torch.from_numpy(rows).to(x.device)
                x = x.index_copy(0, chosen, function(x[chosen], _column(parameters[rows, kind], x), whole))
    return x


def _grayscale(x: Tensor, parameters: np.ndarray, whole: bool) -> Tensor:
    return luma(x, whole).expand(-1, 3, -1, -1)


def _solarize(x: Tensor, parameters: np.ndarray, whole: bool) -> Tensor:
    return torch.where(x >= _column(parameters[:, 1], x), 255.0 - x, x)


def _flip_horizontal(x: Tensor, parameters: np.ndarray, whole: bool) -> Tensor:
    return x.flip(3)


def _flip_vertical(x: Tensor, parameters: np.ndarray, whole: bool) -> Tensor:
    return x.flip(2)


def _reflected(size: int, radius: int) -> np.ndarray:
    """Indices -radius..size+radius-1, mirrored into 0..size-1 without repeating the border, however far out."""
    index = np.abs(np.arange(-radius, size + radius))
    if size == 1:
        return np.zeros_like(index)
    index %= 2 * (size - 1)
    return np.where(index < size, index, 2 * (size - 1) - index)


def _blur_rows(x: Tensor, weights: Tensor) -> Tensor:
    """Convolves along the last axis, with symmetric weights [B, 1, 1, k] for each sample.

    Tap by tap rather than by conv2d, which on a GPU rounds to the eleven bits of TF32 and runs a kernel a sample.
    """
    width, radius = x.shape[3], weights.shape[-1] // 2
    padded = x[..., torch.from_numpy(_reflected(width, radius)).to(x.device)]
    result = x * weights[..., radius : radius + 1]
    for d in range(1, radius + 1):
        pair = padded[..., radius - d : radius - d + width] + padded[..., radius + d : radius + d + width]
        result.addcmul_(pair, weights[..., radius + d : radius + d + 1])
    return result


def _gaussian_blur(x: Tensor, parameters: np.ndarray, whole: bool) -> Tensor:
    kernel_size = int(parameters[0, 1])
    distance = np.arange(kernel_size) - kernel_size // 2
    weights = np.exp(-0.5 * (distance / parameters[:, :1].astype(np.float64)) ** 2)
    weights /= weights.sum(axis=1, keepdims=True)
    if whole:
        fixed = np.rint(weights * (1 << _WEIGHT_BITS))
        fixed[:, kernel_size // 2] += (1 << _WEIGHT_BITS) - fixed.sum(axis=1)
        weights = fixed / (1 << _WEIGHT_BITS)
    taps = torch.from_numpy(weights.astype(np.float32)).to(x.device).view(-1, 1, 1, kernel_size)
    rows = _blur_rows(x, taps)
    rows = torch.floor(rows * 128.0 + 0.5) / 128.0 if whole else rows
    blurred = _blur_rows(rows.transpose(2, 3), taps).transpose(2, 3)
    return torch.floor(blurred + 0.5).clamp(0.0, 255.0) if whole else blurred


def _affine(x: Tensor, parameters: np.ndarray, whole: bool) -> Tensor:
    batch, _, height, width = x.shape
    exact = parameters.astype(np.float64)
    m = torch.from_numpy(exact[:, 4::2] + exact[:, 5::2]).to(x.device).view(batch, 6, 1, 1)
    a, b, c, d, e, f = m.unbind(1)
    column = torch.arange(width, device=x.device, dtype=torch.float64).view(1, 1, width)
    row = torch.arange(height, device=x.device, dtype=torch.float64).view(1, height, 1)
    fill = torch.from_numpy(np.ascontiguousarray(parameters[:, 1:4])).to(x.device).view(batch, 3, 1, 1)
    if parameters[0, 0] != 0:
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
    corners = [_pixels(x, left + dx, top + dy).double() for dy in (0, 1) for dx in (0, 1)]
    upper = corners[0] + (corners[1] - corners[0]) * across
    lower = corners[2] + (corners[3] - corners[2]) * across
    mixed = upper + (lower - upper) * down
    return (mixed.trunc() if whole else mixed).float()


def _fill_box(x: Tensor, parameters: np.ndarray, whole: bool) -> Tensor:
    top, left, height, width = (_column(parameters[:, i], x) for i in range(4))
    row = torch.arange(x.shape[2], device=x.device).view(1, 1, -1, 1)
    column = torch.arange(x.shape[3], device=x.device).view(1, 1, 1, -1)
    inside = (row >= top) & (row < top + height) & (column >= left) & (column < left + width)
    colour = torch.from_numpy(np.ascontiguousarray(parameters[:, 4:7])).to(x.device).view(-1, 3, 1, 1)
    return torch.where(inside, colour, x)


def _posterize(x: Tensor, parameters: np.ndarray, whole: bool) -> Tensor:
    step = _column(2.0 ** (8.0 - np.maximum(parameters[:, 0], 0.0)), x)
    return torch.floor(x / step) * step


def _look_up(x: Tensor, curves: Tensor) -> Tensor:
    """Tone curves [B, 3, 256] at the nearest whole values."""
    return curves.float().gather(2, x.round().long().clamp(0, 255).flatten(2)).view(x.shape)


def _equalize(x: Tensor, parameters: np.ndarray, whole: bool) -> Tensor:
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


def _autocontrast(x: Tensor, parameters: np.ndarray, whole: bool) -> Tensor:
    low = x.amin(dim=(2, 3), keepdim=True).double()
    high = x.amax(dim=(2, 3), keepdim=True).double()
    scale = torch.full_like(high, 255.0) / torch.where(high > low, high - low, 1.0)  # 255 / x multiplies by 1 / x
    stretched = (x * scale + (-low * scale)).clamp(0.0, 255.0)
    stretched = (stretched.trunc() if whole else stretched).float()
    return torch.where(high > low, stretched, x)


def _sharpness(x: Tensor, parameters: np.ndarray, whole: bool) -> Tensor:
    height, width = x.shape[2:]
    if min(height, width) < 3:
        return x
    kernel = torch.ones(1, 1, 3, 3, device=x.device)
    kernel[0, 0, 1, 1] = 5.0
    smooth = torch.nn.functional.conv2d(x.reshape(-1, 1, height, width), kernel).view(len(x), 3, height - 2, width - 2)
    smooth = torch.floor((2.0 * smooth + 13.0) / 26.0) if whole else smooth / 13.0
    result = x.clone()
    inner = result[:, :, 1:-1, 1:-1]
    inner.copy_(blend(smooth, inner.clone(), _column(parameters[:, 0], x), whole))
    return result


def _mix(x: Tensor) -> Tensor:
    """The noise kernel's hash of 32 bits, in int64."""
    x = ((x ^ (x >> 16)) * 0x7FEB352D) & 0xFFFFFFFF
    x = ((x ^ (x >> 15)) * 0x846CA68B) & 0xFFFFFFFF
    return x ^ (x >> 16)


def _noise(x: Tensor, parameters: np.ndarray, whole: bool) -> Tensor:
    keys = torch.from_numpy(parameters[:, 2:].astype(np.int64)).to(x.device)
    position = torch.arange(x[0].numel(), device=x.device)
    first = _mix((_mix((position + keys[:, :1] * 0x9E3779B9) & 0xFFFFFFFF) + keys[:, 1:] * 0x85EBCA6B) & 0xFFFFFFFF)
    second = _mix((first + 0x9E3779B9) & 0xFFFFFFFF)
    radius = torch.sqrt(-2.0 * torch.log(((first >> 9).float() + 0.5) * 2.0**-23))
    normal = radius * torch.sin(2.0 * torch.pi * ((second >> 8).float() * 2.0**-24 - 0.5))
    noisy = x + (_column(parameters[:, 0], x) + _column(parameters[:, 1], x) * normal.view(x.shape))
    noisy = noisy.clamp(0.0, 255.0)
    return torch.floor(noisy + 0.5) if whole else noisy


def _first(parameters: np.ndarray) -> np.ndarray:
    return parameters[:, 0] != 0


def _always(parameters: np.ndarray) -> np.ndarray:
    return np.ones(len(parameters), bool)


_Active = Callable[[np.ndarray], np.ndarray]
_Function = Callable[[Tensor, np.ndarray, bool], Tensor]
_FUNCTIONS: dict[OpCode, tuple[_Active, _Function]] = {
    OpCode.flip_horizontal: (_first, _flip_horizontal),
    OpCode.color_jitter: (_always, _color_jitter),
    OpCode.grayscale: (_first, _grayscale),
    OpCode.solarize: (_first, _solarize),
    OpCode.gaussian_blur: (_first, _gaussian_blur),
    OpCode.flip_vertical: (_first, _flip_vertical),
    OpCode.affine: (_always, _affine),
    OpCode.fill_box: (lambda parameters: (parameters[:, 2] > 0) & (parameters[:, 3] > 0), _fill_box),
    OpCode.posterize: (lambda parameters: parameters[:, 0] < 8, _posterize),
    OpCode.equalize: (_first, _equalize),
    OpCode.autocontrast: (_first, _autocontrast),
    OpCode.sharpness: (lambda parameters: parameters[:, 0] != 1, _sharpness),
    OpCode.noise: (lambda parameters: (parameters[:, 0] != 0) | (parameters[:, 1] != 0), _noise),
}
