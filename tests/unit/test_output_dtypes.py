"""What the core writes, against torch's own conversions, to the bit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from core_render import render
from ffcv import Loader
from ffcv.fields import RGBImageField
from ffcv.transforms import CenterCrop, Convert, NormalizeImage, RandomHorizontalFlip, ToTensor, ToTorchImage
from ffcv.writer import DatasetWriter

MEAN, STD = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)
BATCH = 4


@pytest.fixture(scope="module")
def beton(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("dtypes") / "x.beton"
    rng = np.random.default_rng(0)
    images = [(rng.integers(0, 256, (40, 48, 3), np.uint8),) for _ in range(BATCH)]
    DatasetWriter(path, {"image": RGBImageField("raw")}, num_workers=1).from_indexed_dataset(images)
    return path


def batch(path: Path, *operations: Any) -> Any:
    pipeline = [CenterCrop((32, 40), 1.0), RandomHorizontalFlip(0.5), *operations]
    with Loader(path, BATCH, num_workers=1, seed=3, pipelines={"image": pipeline}) as loader:
        plan = str(loader.plan)
        assert "python" not in plan, plan
        return next(iter(loader)).image


@pytest.mark.parametrize("channels_last", [True, False])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_normalised_and_converted_as_torch_does(beton: Path, dtype: torch.dtype, channels_last: bool) -> None:
    layout = [ToTensor(), ToTorchImage(channels_last)]
    exact = batch(beton, NormalizeImage(MEAN, STD, np.float32), *layout)
    expected = exact.to(dtype)
    results = [batch(beton, NormalizeImage(MEAN, STD, np.float32), *layout, Convert(dtype))]
    if dtype == torch.bfloat16:
        results.append(batch(beton, NormalizeImage(MEAN, STD, torch.bfloat16), *layout))
        results.append(batch(beton, ToTensor(), NormalizeImage(MEAN, STD, torch.bfloat16), ToTorchImage(channels_last)))
    for result in results:
        assert result.dtype == dtype
        assert result.shape == (BATCH, 3, 32, 40)
        assert result.is_contiguous(memory_format=torch.channels_last if channels_last else torch.contiguous_format)
        assert torch.equal(result, expected)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_pixels_converted(beton: Path, dtype: torch.dtype) -> None:
    pixels = batch(beton, ToTensor(), ToTorchImage())
    converted = batch(beton, ToTensor(), ToTorchImage(), Convert(dtype))
    assert converted.dtype == dtype
    assert torch.equal(converted, pixels.to(dtype))


def test_bfloat16_rounds_to_nearest_even() -> None:
    image = np.arange(256, dtype=np.uint8).repeat(3).reshape(16, 16, 3)
    pairs = [(1.0, 0.0), (1.0, 256.0), (1.5, 128.0), (1e-40, 0.0), (3e38, 0.0), (-3e38, 1e38), (1 / 58.395, -2.1179)]
    for scale, bias in pairs:
        with np.errstate(over="ignore", invalid="ignore"):
            exact = image.astype(np.float32) * np.float32(scale) + np.float32(bias)
        expected = torch.from_numpy(exact).to(torch.bfloat16).view(torch.int16).numpy()
        for first in (False, True):
            ours = render(
                image,
                (0, 0, 16, 16),
                (16, 16),
                dtype=np.int16,
                scale=(scale,) * 3,
                bias=(bias,) * 3,
                channels_first=first,
            )
            np.testing.assert_array_equal(ours.transpose(1, 2, 0) if first else ours, expected)


def test_rounding_twice_is_not_folded(beton: Path) -> None:
    """float16 on the way to bfloat16 stays what the user wrote: two roundings."""
    pipeline = [CenterCrop((32, 40), 1.0), NormalizeImage(MEAN, STD, np.float16), ToTensor(), Convert(torch.bfloat16)]
    half = batch(beton, NormalizeImage(MEAN, STD, np.float16), ToTensor())
    with Loader(beton, BATCH, num_workers=1, seed=3, pipelines={"image": pipeline}) as loader:
        assert "python: Convert" in str(loader.plan)
        twice = next(iter(loader)).image
    assert half.dtype == torch.float16
    assert twice.dtype == torch.bfloat16


def test_operations_on_pixels_after_a_conversion(beton: Path) -> None:
    pipeline = [
        CenterCrop((32, 40), 1.0),
        ToTensor(),
        ToTorchImage(),
        Convert(torch.float32),
        RandomHorizontalFlip(1.0),
    ]
    with Loader(beton, BATCH, num_workers=1, seed=3, pipelines={"image": pipeline}) as loader:
        flipped = next(iter(loader)).image
    plain = [CenterCrop((32, 40), 1.0), RandomHorizontalFlip(1.0), ToTensor(), ToTorchImage()]
    with Loader(beton, BATCH, num_workers=1, seed=3, pipelines={"image": plain}) as loader:
        assert torch.equal(flipped, next(iter(loader)).image.float())


def test_numpy_has_no_bfloat16(beton: Path) -> None:
    with pytest.raises(ValueError, match="numpy has no bfloat16"):
        Loader(
            beton, BATCH, pipelines={"image": [CenterCrop((32, 40), 1.0), NormalizeImage(MEAN, STD, torch.bfloat16)]}
        )
    with pytest.raises(ValueError, match=r"type must be np\.float16, np\.float32 or torch\.bfloat16"):
        NormalizeImage(MEAN, STD, np.int32)
    with pytest.raises(ValueError, match="type must be"):
        NormalizeImage(MEAN, STD, torch.float64)
