"""Parameters: how they are drawn, that they say what was done, and what is refused."""

import inspect
import math

import numpy as np
import pytest
import torch
from scipy import stats

import ffcv.transforms
from ffcv import _core
from ffcv.transforms import (
    Blur,
    CenterCrop,
    ColorJitter,
    GaussianBlur,
    Grayscale,
    HorizontalFlip,
    NormalizeImage,
    RandomColorJitter,
    RandomGrayscale,
    RandomHorizontalFlip,
    RandomResizedCrop,
    RandomSolarization,
    Solarize,
    Squeeze,
    ToTensor,
    ToTorchImage,
)
from ffcv.transforms.base import ImageDecoder, ImageTransform, Output
from torchvision_reference import v2

DRAWS = 100_000


def sample(transform: object, sizes: np.ndarray) -> tuple:
    u = _core.uniforms(11, 22, 0, np.arange(len(sizes)), transform.draws)
    return transform.sample(u, sizes)


def many(height: int, width: int, count: int = DRAWS) -> np.ndarray:
    return np.tile(np.array([[height, width]], np.int64), (count, 1))


@pytest.mark.parametrize(
    ("size", "count"),
    # torchvision draws one crop at a time, and of narrow images mostly ten attempts: fewer there, for time
    [((480, 640), DRAWS), ((100, 90), DRAWS), ((1000, 60), 20_000), ((7, 300), 20_000)],
)
def test_crops_are_drawn_as_torchvision_draws_them(size: tuple[int, int], count: int) -> None:
    torch.manual_seed(0)
    image = torch.empty(3, *size)
    reference = np.array(
        [
            list(v2.RandomResizedCrop.make_params(reference_crop, [image]).values())
            for reference_crop in [v2.RandomResizedCrop(8, antialias=True)]
            for _ in range(count)
        ]
    )
    params = sample(RandomResizedCrop(8), many(*size))
    for ours, theirs in zip((params.top, params.left, params.height, params.width), reference.T, strict=True):
        assert stats.ks_2samp(ours, theirs).pvalue > 1e-3
    assert (params.top >= 0).all()
    assert (params.top + params.height <= size[0]).all()
    assert (params.left + params.width <= size[1]).all()


def test_crops_of_extreme_images_fit() -> None:
    sizes = np.array([(1, 1), (1, 5000), (5000, 1), (2, 3), (65535, 2)], np.int64)
    params = sample(RandomResizedCrop(8), sizes)
    boxes = RandomResizedCrop.boxes(params)
    assert (boxes[:, 2:] >= 1).all()
    assert (boxes[:, :2] >= 0).all()
    assert (boxes[:, :2] + boxes[:, 2:] <= sizes).all()


def test_color_jitter_is_drawn_evenly_from_its_ranges() -> None:
    params = sample(ColorJitter(0.4, (0.5, 2.0), 0.3, 0.1), many(8, 8))
    for values, low, high in [
        (params.brightness, 0.6, 1.4),
        (params.contrast, 0.5, 2.0),
        (params.saturation, 0.7, 1.3),
        (params.hue, -0.1, 0.1),
    ]:
        assert stats.kstest(values, "uniform", (low, high - low)).pvalue > 1e-3
    assert stats.chisquare(np.bincount(params.order, minlength=24)).pvalue > 1e-3


def test_probability_and_identity_rows() -> None:
    sizes = many(8, 8)
    for transform, rows in [
        (HorizontalFlip(0.3), lambda p: p.applied),
        (Grayscale(0.3), lambda p: p.applied),
        (Solarize(128, 0.3), lambda p: p.applied),
        (Blur(5, (0.1, 2.0), 0.3), lambda p: p.sigma > 0),
        (ColorJitter(0.4, 0.4, 0.4, 0.1, 0.3), lambda p: p.hue != 0),
    ]:
        share = rows(sample(transform, sizes)).mean()
        assert abs(share - 0.3) < 4 * math.sqrt(0.3 * 0.7 / DRAWS)
    skipped = sample(ColorJitter(0.4, 0.4, 0.4, 0.1, 0.0), many(8, 8, 10))
    assert (np.stack(skipped[:4]).T == [1, 1, 1, 0]).all()


def test_the_originals_names_and_argument_orders() -> None:
    assert RandomHorizontalFlip(0.25, 3) == HorizontalFlip(p=0.25, seed=3)
    assert RandomColorJitter(0.1, 0.2, 0.3, 0.4, 0.05, 6) == ColorJitter(0.2, 0.3, 0.4, 0.05, p=0.1, seed=6)
    assert RandomGrayscale(gray_prob=0.1) == Grayscale(p=0.1)
    assert RandomSolarization(0.2, 100, 4) == Solarize(threshold=100, p=0.2, seed=4)
    assert GaussianBlur(0.3, 7, (0.5, 1.0), 5) == Blur(7, (0.5, 1.0), p=0.3, seed=5)


def test_center_crop_is_ffcvs() -> None:
    params = CenterCrop((8, 8), 0.875).sample(np.empty((2, 0)), np.array([[480, 640], [31, 30]], np.int64))
    assert CenterCrop.boxes(params).tolist() == [[30, 110, 420, 420], [2, 2, 26, 26]]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: RandomHorizontalFlip(1.5), r"flip_prob must be a probability in \[0, 1\], got 1.5"),
        (lambda: RandomGrayscale(float("nan")), "gray_prob must be a probability"),
        (lambda: RandomColorJitter(0.5, -1), "brightness must be a finite number of at least 0"),
        (lambda: RandomColorJitter(0.5, float("nan")), "brightness must be"),
        (lambda: RandomColorJitter(0.5, hue=0.7), r"hue must be a finite number within \[0, 0.5\]"),
        (lambda: RandomSolarization(0.5, 300), r"threshold must be a finite number within \[0, 256\]"),
        (lambda: GaussianBlur(0.5, 4), "kernel_size must be an odd number"),
        (lambda: GaussianBlur(0.5, 5, (0.0, 1.0)), "sigma must be a pair"),
        (lambda: RandomResizedCrop(0), "output_size must be a positive number"),
        (lambda: RandomResizedCrop((8, 8), scale=(0.5, 0.1)), "scale must be a pair"),
        (lambda: RandomResizedCrop((8, 8), ratio=(0.0, 1.0)), "ratio must be a pair"),
        (lambda: RandomResizedCrop((8, 8), seed="a"), "seed must be an int or None"),
        (lambda: CenterCrop((8, 8), 1.5), r"ratio must be a finite number within \(0, 1\]"),
        (lambda: NormalizeImage((0, 0), (1, 1, 1), np.float32), "mean must be three"),
        (lambda: NormalizeImage((0, 0, 0), (1, 0, 1), np.float32), "std must be above 0"),
        (lambda: NormalizeImage(0.5, (1, 1, 1), np.float32), "mean must be three finite numbers"),
        (lambda: NormalizeImage((0, 0, 0), (1, float("nan"), 1), np.float32), "std must be three finite numbers"),
        (lambda: NormalizeImage((0, 0, 0), "abc", np.float32), "std must be three finite numbers"),
        (lambda: NormalizeImage((0, 0, 0), (1, 1, 1), np.int32), "type must be"),
    ],
)
def test_bad_arguments_name_themselves(make: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
def test_folded_and_separate_normalisation_agree(dtype: type) -> None:
    normalize = NormalizeImage((123.7, 116.3, 103.5), (58.4, 57.1, 57.4), dtype)
    images = np.random.default_rng(0).integers(0, 256, (2, 5, 6, 3), np.uint8)
    folded = normalize.fold(Output())
    assert folded is not None
    scale, bias = folded.scale_and_bias
    expected = (images.astype(np.float32) * scale + bias).astype(folded.dtype)
    np.testing.assert_array_equal(normalize(images), expected)
    np.testing.assert_array_equal(normalize(torch.from_numpy(images)).numpy(), expected)
    as_torch_image = normalize(ToTorchImage()(ToTensor()(images)))
    np.testing.assert_array_equal(as_torch_image.permute(0, 2, 3, 1).numpy(), expected)


def test_squeeze_keeps_the_samples_axis() -> None:
    assert Squeeze()(torch.zeros(1, 1)).shape == (1,)
    assert Squeeze()(np.zeros((4, 1, 2, 1))).shape == (4, 2)
    assert Squeeze(1)(torch.zeros(3, 1, 1)).shape == (3, 1)


def test_every_public_transform_is_documented() -> None:
    for name in ffcv.transforms.__all__:
        assert inspect.getdoc(getattr(ffcv.transforms, name)), name


def test_random_transforms_declare_their_draws() -> None:
    for name in ffcv.transforms.__all__:
        kind = getattr(ffcv.transforms, name)
        if inspect.isclass(kind) and issubclass(kind, (ImageDecoder, ImageTransform)) and kind.draws:
            assert kind.family, f"{name} draws random numbers but names no family"
