"""Transforms against torchvision v2 on PIL images: pixels, through the core and through apply_torch, and parameters.

tests/torchvision_cases.py says what is compared, and how far apart it may be.
"""

import inspect
import io
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from scipy import stats

import ffcv.transforms as T
from core_render import render_batch
from ffcv import _core
from ffcv.transforms.auto_augment import OPERATIONS
from ffcv.transforms.base import ImageDecoder, ImageTransform
from photos import photos
from torchvision_cases import CASES, decoding, difference, draw, in_torch, measure, only_row, row
from torchvision_reference import v2

HEIGHT, WIDTH = 120, 152
DRAWS = 100_000
pytestmark = pytest.mark.usefixtures("one_torch_thread")
SAME_SIZE = {name: case for name, case in CASES.items() if not isinstance(case.transform, ImageDecoder)}


def views() -> np.ndarray:
    """uint8 [50, HEIGHT, WIDTH, 3]: photographs, and three hard ones: flat, two-valued, dark."""
    images = [Image.open(io.BytesIO(jpeg)).convert("RGB").resize((WIDTH, HEIGHT)) for jpeg in photos()]
    stack = np.stack([np.asarray(image) for image in images])
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    hard = [np.full_like(stack[0], 77), np.where((x + y)[..., None] % 2, 255, 0) + 0 * stack[0], stack[0] // 9]
    return np.concatenate([stack, np.array(hard, np.uint8)])


def sizes_of(images: np.ndarray) -> np.ndarray:
    return np.tile(np.array([images.shape[1:3]], np.int64), (len(images), 1))


def references(images: np.ndarray, params: Any, apply: Callable) -> np.ndarray:
    return np.stack([np.asarray(apply(Image.fromarray(image), row(params, i))) for i, image in enumerate(images)])


@pytest.mark.parametrize("name", CASES)
def test_pixels_are_torchvisions(name: str) -> None:
    case = CASES[name]
    core, tensor = measure(case)
    assert core.mean <= case.mean
    assert core.maximum <= case.maximum
    assert tensor.mean <= case.tensor_mean
    assert tensor.maximum <= case.tensor_maximum


def test_decoding_is_pillows() -> None:
    assert decoding() == (0.0, 0)


def test_every_image_transform_is_compared() -> None:
    """Noise is random and has tests of its own; compositions are compared with their parts."""
    compared = {type(case.transform) for case in CASES.values()}
    kinds = (getattr(T, name) for name in T.__all__)
    image_transforms = {kind for kind in kinds if inspect.isclass(kind) and issubclass(kind, ImageTransform)}
    assert image_transforms - compared == {T.GaussianNoise, T.Compose, T.RandomApply, T.RandomChoice}


@pytest.mark.parametrize("size", [(61, 37), (500, 333), (300, 5), (2, 3), (1, 1)])
def test_pixels_are_torchvisions_in_any_size(size: tuple[int, int]) -> None:
    chosen = [Image.open(io.BytesIO(jpeg)).convert("RGB") for jpeg in photos(8)[:4]]
    images = np.stack([np.asarray(image.resize(size[::-1])) for image in chosen])
    for name, case in SAME_SIZE.items():
        transform = case.transform
        if (name == "Cutout" and min(size) < transform.crop_size) or ("Blur" in name and min(size) < 23):
            continue
        params = draw(transform, sizes_of(images), seed=8)
        expected = references(images, params, case.reference)
        assert difference(render_batch(images, transform.lower(params)), expected).maximum <= case.maximum, name
        assert difference(in_torch(transform, images, params), expected).maximum <= case.tensor_maximum, name


@pytest.mark.parametrize("kernel_size", [3, 23])
def test_blur_in_torch_is_the_cores(kernel_size: int) -> None:
    images, transform = views(), T.Blur(kernel_size)
    params = draw(transform, sizes_of(images))
    result = difference(in_torch(transform, images, params), render_batch(images, transform.lower(params)))
    assert result.maximum <= 1
    assert result.mean <= 0.01


def test_color_jitter_in_torch_is_the_cores() -> None:
    images, transform = views(), T.ColorJitter(0.4, 0.4, 0.2, 0.1, p=0.8)
    params = draw(transform, sizes_of(images))
    result = difference(in_torch(transform, images, params), render_batch(images, transform.lower(params)))
    assert result.maximum <= 3
    assert result.mean <= 0.01


@pytest.mark.parametrize("transform", [v2.RandAugment(magnitude=17), v2.TrivialAugmentWide()])
def test_auto_augment_is_torchvisions(transform: Any) -> None:
    """Every operation of torchvision's space on some photographs, through torchvision's own dispatcher."""
    trivial = isinstance(transform, v2.TrivialAugmentWide)
    ours = T.TrivialAugmentWide() if trivial else T.RandAugment(num_ops=1, magnitude=17)
    pictures = views()
    images = np.concatenate([pictures] * -(-150 // len(pictures)))  # enough for every operation to be drawn
    params = draw(ours, sizes_of(images))
    assert set(params.operation[:, 0]) == set(range(len(OPERATIONS)))
    expected = []
    for i, image in enumerate(images):
        name, magnitude = OPERATIONS[params.operation[i, 0]], params.magnitude[i, 0].item()
        pil = Image.fromarray(image)
        expected.append(
            np.asarray(
                transform._apply_image_or_video_transform(
                    pil, name, magnitude, v2.InterpolationMode.NEAREST, transform._fill
                )
            )
        )
    core = difference(render_batch(images, ours.lower(params)), np.stack(expected))
    assert core == (0.0, 0)
    tensor = difference(in_torch(ours, images, params), np.stack(expected))
    assert tensor.maximum <= 3


@pytest.mark.parametrize("trivial", [False, True])
def test_auto_augment_has_torchvisions_magnitudes(trivial: bool) -> None:
    reference = v2.TrivialAugmentWide() if trivial else v2.RandAugment()
    for bins in (31, 10):
        for magnitude in range(bins):
            ours = T.TrivialAugmentWide(bins) if trivial else T.RandAugment(1, magnitude, bins)
            u = np.full((len(OPERATIONS), ours.draws), 0.9)  # the sign: positive
            u[:, 0] = (np.arange(len(OPERATIONS)) + 0.5) / len(OPERATIONS)
            u[:, 2:] = (magnitude + 0.5) / bins
            params = ours.sample(u, np.tile(np.array([[96, 224]]), (len(u), 1)))
            for name, index, value in zip(OPERATIONS, params.operation[:, 0], params.magnitude[:, 0], strict=True):
                assert OPERATIONS[index] == name
                values = reference._AUGMENTATION_SPACE[name][0](bins, 96, 224)
                expected = 0.0 if values is None else float(values[magnitude])
                assert value == pytest.approx(expected, rel=1e-6)
                if name.startswith("Translate"):
                    assert int(value) == int(expected)


def test_noise_is_normal_and_the_same_everywhere() -> None:
    grey = np.full((3, 256, 256, 3), 128, np.uint8)
    transform = T.GaussianNoise(mean=0.02, sigma=0.1)
    params = draw(transform, sizes_of(grey))
    core = render_batch(grey, transform.lower(params))
    # exact values lie within half a step of the whole ones: their distribution function at the steps' ends is normal
    values, counts = np.unique(core[0].astype(int) - 128, return_counts=True)
    inside = (values > -120) & (values < 120)
    steps = np.abs(counts.cumsum() / counts.sum() - stats.norm.cdf((values + 0.5 - 5.1) / 25.5))[inside]
    assert steps.max() < 1.95 / np.sqrt(core[0].size)  # Kolmogorov-Smirnov, p = 0.001
    flat = (core.astype(float) - 128).reshape(3, -1)
    assert np.abs(np.corrcoef(flat) - np.eye(3)).max() < 0.01, "samples share their noise"
    assert abs(np.corrcoef(flat[0, :-1], flat[0, 1:])[0, 1]) < 0.01
    tensor = difference(in_torch(transform, grey, params), core)
    assert tensor.maximum <= 1
    assert tensor.mean < 1e-3


def test_float_tensors_follow_uint8_ones() -> None:
    images = views()[:6]
    tensor = torch.from_numpy(images).permute(0, 3, 1, 2)
    for name, case in SAME_SIZE.items():
        transform = case.transform
        params = draw(transform, sizes_of(images))
        before = tensor.float()
        result = transform.apply_torch(before, params)
        assert torch.equal(before, tensor.float()), f"{name} changed its input"
        assert result.dtype == torch.float32
        assert result.min() >= 0
        assert result.max() <= 255
        apart = (result - transform.apply_torch(tensor, params).float()).abs()
        assert apart.mean() <= 1.5, name  # roundings of up to a value a step, more where hues turn in eight bits
    assert transform.apply_torch(tensor.half(), params).dtype == torch.float16


def test_compositions_do_what_their_parts_do() -> None:
    images = views()
    parts = [T.RandomVerticalFlip(1.0), T.RandomPosterize(2, 1.0), T.RandomAffine(30), T.ColorJitter(0.5, hue=0.1)]
    for transform in (T.RandomApply(parts, p=0.4), T.RandomChoice(parts, p=[1, 2, 1, 0.5]), T.Compose(parts)):
        params = draw(transform, sizes_of(images))
        ours = render_batch(images, transform.lower(params))
        for i, image in enumerate(images):
            picked = list(range(len(parts)))
            if isinstance(transform, T.RandomApply):
                picked = picked if params.applied[i] else []
            if isinstance(transform, T.RandomChoice):
                picked = [params.choice[i]]
            expected = image[None]
            for k in picked:
                of_parts = params if isinstance(transform, T.Compose) else params.parts
                expected = render_batch(expected, parts[k].lower(only_row(of_parts[k], i)))
            np.testing.assert_array_equal(ours[i], expected[0])
        assert difference(in_torch(transform, images, params), ours).maximum <= 3


def drawn(transform: Any, height: int = 200, width: int = 300) -> Any:
    u = _core.uniforms(3, 4, 0, np.arange(DRAWS), transform.draws)
    return transform.sample(u, np.tile(np.array([[height, width]], np.int64), (DRAWS, 1)))


def theirs(transform: Any, height: int = 200, width: int = 300) -> dict[str, np.ndarray]:
    torch.manual_seed(0)
    image = torch.empty(3, height, width)
    rows = [transform.make_params([image]) for _ in range(DRAWS)]
    names = [name for name in rows[0] if name != "v"]  # RandomErasing's colours
    return {name: np.array([np.atleast_1d(one[name]) for one in rows]) for name in names}


def test_affine_parameters_are_drawn_as_torchvision_draws_them() -> None:
    arguments: dict = {"degrees": (-10, 40), "translate": (0.1, 0.3), "scale": (0.5, 2), "shear": (-5, 5, 1, 9)}
    ours, reference = drawn(T.RandomAffine(**arguments)), theirs(v2.RandomAffine(**arguments))
    pairs = [
        (ours.angle, reference["angle"][:, 0]),
        (ours.translate_x, reference["translate"][:, 0]),
        (ours.translate_y, reference["translate"][:, 1]),
        (ours.scale, reference["scale"][:, 0]),
        (ours.shear_x, reference["shear"][:, 0]),
        (ours.shear_y, reference["shear"][:, 1]),
        (drawn(T.RandomRotation(35)).angle, theirs(v2.RandomRotation(35))["angle"][:, 0]),
    ]
    for mine, other in pairs:
        assert stats.ks_2samp(mine, other).pvalue > 1e-3


def test_blurs_shifts_and_squares_are_drawn_evenly() -> None:
    sigma, reference = drawn(T.Blur(9, (0.3, 2.5))).sigma, theirs(v2.GaussianBlur(9, (0.3, 2.5)))["sigma"][:, 0]
    assert stats.ks_2samp(sigma, reference).pvalue > 1e-3
    for shift in drawn(T.RandomTranslate(40)):
        assert stats.chisquare(np.bincount(shift + 40, minlength=81)).pvalue > 1e-3
    square = drawn(T.Cutout(50))
    for corner, places in ((square.top, 151), (square.left, 251)):
        assert stats.chisquare(np.bincount(corner, minlength=places)).pvalue > 1e-3
    assert abs(np.corrcoef(square.top, square.left)[0, 1]) < 0.02


def test_erased_boxes_are_drawn_as_torchvision_draws_them() -> None:
    ours = drawn(T.RandomErasing(1.0, (0.05, 0.9), (0.3, 3)))
    reference = theirs(v2.RandomErasing(1.0, (0.05, 0.9), (0.3, 3)))
    for mine, name in zip(ours, "ijhw", strict=True):
        assert stats.ks_2samp(mine[ours.height > 0], reference[name][:, 0][reference["h"][:, 0] < 200]).pvalue > 1e-3


@pytest.mark.parametrize("alpha", [0.2, 0.5, 1.0, 2.0, 8.0])
def test_mixup_weights_are_beta(alpha: float) -> None:
    u = _core.uniforms(3, 4, 0, np.arange(DRAWS), 1)
    weight = T.ImageMixup(alpha, False).sample(u, np.arange(DRAWS)).weight
    assert stats.kstest(weight, "beta", (alpha, alpha)).pvalue > 1e-3


def test_choices_and_probabilities_are_even() -> None:
    operation, magnitude, *_ = drawn(T.RandAugment(2, 9))
    for turn in range(2):
        assert stats.chisquare(np.bincount(operation[:, turn], minlength=len(OPERATIONS))).pvalue > 1e-3
    signs = magnitude[(operation >= 1) & (operation <= 9)] > 0
    assert stats.binomtest(int(signs.sum()), signs.size).pvalue > 1e-3
    assert stats.chi2_contingency(np.histogram2d(*operation.T, bins=14)[0]).pvalue > 1e-3, "rounds depend on each other"
    bins = drawn(T.TrivialAugmentWide())
    shears = np.abs(bins.magnitude[bins.operation == 1])
    assert stats.chisquare(np.unique(shears, return_counts=True)[1]).pvalue > 1e-3
    choice = drawn(T.RandomChoice([T.Invert(), T.Equalize(), T.Invert()], p=[1, 2, 5])).choice
    assert stats.chisquare(np.bincount(choice), DRAWS * np.array([1, 2, 5]) / 8).pvalue > 1e-3
    once = (T.VerticalFlip, T.Invert, T.Equalize, T.Autocontrast)
    for transform in (*(kind(p=0.3) for kind in once), T.Posterize(3, p=0.3), T.AdjustSharpness(2, p=0.3)):
        assert stats.binomtest(int(drawn(transform).applied.sum()), DRAWS, 0.3).pvalue > 1e-4
    shifts = drawn(T.RandomTranslate(4))
    for shift in shifts:
        assert stats.chisquare(np.bincount(shift + 4, minlength=9)).pvalue > 1e-3
