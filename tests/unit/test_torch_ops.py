"""apply_torch on a device: what goes there, and that nothing is asked back; tests/parity compares the pixels."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

import ffcv.transforms as T
from core_render import render
from ffcv.transforms import torch_ops
from ffcv.transforms.base import ImageDecoder
from ffcv.transforms.decoded_crop import DecodedCrop
from torchvision_cases import CASES, difference, draw, in_torch

TRANSFORMS = {name: case.transform for name, case in CASES.items() if not isinstance(case.transform, ImageDecoder)}
TRANSFORMS |= {
    "GaussianNoise": T.GaussianNoise(sigma=0.1),
    "some noise": T.GaussianNoise(sigma=0.1, p=0.5),
    "some blur": T.Blur(5, p=0.5),
    "Compose": T.Compose([T.ColorJitter(0.4, 0.4, 0.4, 0.1, p=0.8), T.Grayscale(0.3), T.Blur(9, p=0.5)]),
}
LATE_CROP = DecodedCrop(T.RandomResizedCrop(20, interpolation="bicubic"))
BATCH, SIZE = 16, (40, 48)


class Traffic(TorchDispatchMode):
    """Counts copies between the host and torch's device without data, on which asking for a value is an error."""

    copies = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        devices = {each.device.type for each in (*args, result) if isinstance(each, torch.Tensor) and each.ndim}
        self.copies += len(devices) > 1
        return result


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
@pytest.mark.parametrize("name", TRANSFORMS)
def test_all_numbers_go_to_the_device_at_once(name: str, dtype: torch.dtype) -> None:
    transform = TRANSFORMS[name]
    params = draw(transform, np.tile(np.array([SIZE]), (BATCH, 1)))
    images = torch.empty(BATCH, 3, *SIZE, dtype=dtype, device="meta")
    with Traffic() as traffic:
        result = transform.apply_torch(images, params)
    assert (result.shape, result.dtype, result.device) == (images.shape, dtype, images.device)
    assert traffic.copies == 1


class NoDoubles(TorchDispatchMode):
    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        assert getattr(result, "dtype", None) != torch.float64, func
        return result


@pytest.mark.parametrize("name", TRANSFORMS)
def test_no_doubles_where_a_device_has_none(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    transform = TRANSFORMS[name]
    params = draw(transform, np.tile(np.array([SIZE]), (BATCH, 1)))
    images = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (BATCH, 3, *SIZE), np.uint8))
    exact = transform.apply_torch(images, params)
    monkeypatch.setattr(torch_ops, "_wide", lambda device: torch.float32)
    with NoDoubles():
        result = transform.apply_torch(images, params)
    changed = (result != exact).float().mean()
    assert changed <= 0.01, "a pixel may round to its neighbour, now and then"


@pytest.mark.parametrize(
    ("operation", "params", "copies"),
    [
        (T.ImageMixup(0.5, False), T.ImageMixup(0.5, False).sample(np.zeros((BATCH, 1)), np.arange(BATCH)), 1),
        (T.Poison(np.zeros((*SIZE, 3)), np.zeros(SIZE), [3, 5]), T.ReplaceLabel([3, 5], 0).sample, 1),
        (T.ReplaceLabel([3, 5], 0), T.ReplaceLabel([3, 5], 0).sample, 1),
        (T.NormalizeImage((1, 2, 3), (1, 2, 3), np.float16), None, 1),
    ],
)
def test_batch_operations_send_their_numbers_at_once(operation: Any, params: Any, copies: int) -> None:
    params = params(np.empty((BATCH, 0)), np.arange(BATCH)) if callable(params) else params
    images = torch.empty(BATCH, *SIZE, 3, dtype=torch.uint8, device="meta")
    with Traffic() as traffic:
        result = operation(images) if params is None else operation.apply(images, params)
    assert result.device == images.device
    assert traffic.copies == copies


def test_some_samples_change_after_grey_ones() -> None:
    """Grey channels must not share memory: what comes next is written into some of the samples."""
    images = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (BATCH, 3, *SIZE), np.uint8))
    grey, inverted = T.Grayscale(1.0), T.Invert(0.5)
    both = T.Compose([grey, inverted])
    params = draw(both, np.tile(np.array([SIZE]), (BATCH, 1)))
    expected = inverted.apply_torch(grey.apply_torch(images, params[0]), params[1])
    assert 0 < params[1].applied.sum() < BATCH
    assert torch.equal(both.apply_torch(images, params), expected)


def test_the_images_given_stay_as_they_are() -> None:
    images = torch.full((BATCH, 3, *SIZE), 100.0)
    for transform in TRANSFORMS.values():
        transform.apply_torch(images, draw(transform, np.tile(np.array([SIZE]), (BATCH, 1))))
    assert (images == 100.0).all()


def test_no_operation_needs_no_numbers() -> None:
    images = torch.zeros(2, 3, *SIZE, dtype=torch.uint8)
    nothing = T.RandomApply([T.Invert()], p=0.0)
    result = nothing.apply_torch(images, draw(nothing, np.tile(np.array([SIZE]), (2, 1))))
    assert torch.equal(result, images)


@pytest.mark.parametrize("channels_last", [True, False])
@pytest.mark.parametrize("name", [*TRANSFORMS, "late crop"])
def test_channels_stay_first_or_last_in_memory(name: str, channels_last: bool) -> None:
    transform = {**TRANSFORMS, "late crop": LATE_CROP}[name]
    params = draw(transform, np.tile(np.array([SIZE]), (BATCH, 1)))
    layout = torch.channels_last if channels_last else torch.contiguous_format
    for dtype in (torch.uint8, torch.float32):  # whichever of the batch's samples change
        images = torch.full((BATCH, 3, *SIZE), 100, dtype=dtype).to(memory_format=layout)
        assert transform.apply_torch(images, params).is_contiguous(memory_format=layout)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_late_crops_keep_dtype_and_range(dtype: torch.dtype) -> None:
    edges = (torch.arange(SIZE[1]) // 8 % 2 * 255).expand(BATCH, 3, *SIZE)
    params = draw(LATE_CROP, np.tile(np.array([SIZE]), (BATCH, 1)))
    result = LATE_CROP.apply_torch(edges.to(dtype), params)
    assert result.dtype == dtype
    assert (result.min(), result.max()) == (0, 255)


@pytest.mark.parametrize("interpolation", ["nearest", "bilinear", "bicubic", "area"])
@pytest.mark.parametrize(("before", "after"), [((20, 56), (56, 5)), ((36, 36), (75, 71)), ((13, 7), (39, 1))])
def test_late_crops_are_the_cores_in_any_size(interpolation: str, before: Any, after: Any) -> None:
    """Where new pixels lie halfway between old ones, and where one column comes out."""
    image = np.random.default_rng(0).integers(64, 192, (*before, 3), np.uint8)  # where cubic filters are not clipped
    crop = T.RandomResizedCrop(after, (1, 1), (before[1] / before[0],) * 2, interpolation=interpolation)
    params = draw(crop, np.array([before]))
    box = crop.boxes(params)[0].tolist()
    assert box == [0, 0, *before]
    core = render(image, box, after, interpolation=interpolation)
    apart = difference(in_torch(DecodedCrop(crop), image[None], params)[0], core).maximum
    assert apart <= (interpolation != "nearest")  # the core rounds between the passes
