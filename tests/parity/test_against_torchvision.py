"""Transforms' pixels against torchvision v2 on PIL images: through the core, and through apply_torch.

Each case draws parameters as a loader does, applies them to real photographs, and lets torchvision do the same. What
Pillow does in integers or truncating blends is met exactly; the tolerances of the others say why.
"""

import io
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from PIL import Image
from scipy import stats

import ffcv.transforms as T
from core_render import render_batch
from ffcv import _core
from ffcv.transforms.auto_augment import OPERATIONS
from photos import photos
from torchvision_reference import functional as F
from torchvision_reference import v2

HEIGHT, WIDTH = 120, 152
DRAWS = 100_000


@pytest.fixture(autouse=True)
def _one_torch_thread() -> Iterator[None]:
    """Small tensors: threads that wait for busy cores take longer than the work."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def views() -> np.ndarray:
    """uint8 [50, HEIGHT, WIDTH, 3]: photographs, and three hard ones: flat, two-valued, dark."""
    images = [Image.open(io.BytesIO(jpeg)).convert("RGB").resize((WIDTH, HEIGHT)) for jpeg in photos()]
    stack = np.stack([np.asarray(image) for image in images])
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    hard = [np.full_like(stack[0], 77), np.where((x + y)[..., None] % 2, 255, 0) + 0 * stack[0], stack[0] // 9]
    return np.concatenate([stack, np.array(hard, np.uint8)])


def sizes_of(images: np.ndarray) -> np.ndarray:
    return np.tile(np.array([images.shape[1:3]], np.int64), (len(images), 1))


def draw(transform: Any, images: np.ndarray, seed: int = 5) -> Any:
    u = _core.uniforms(seed, 6, 0, np.arange(len(images)), max(1, transform.draws))[:, : transform.draws]
    return transform.sample(u, sizes_of(images))


def row(params: Any, index: int) -> Any:
    """One sample's parameters, as python numbers."""
    return type(params)(*(value[index].item() for value in params))


Reference = Callable[[Image.Image, Any], Any]


def affine_reference(interpolation: v2.InterpolationMode, fill: int) -> Reference:
    def apply(image: Image.Image, p: Any) -> Image.Image:
        shift, shear = [p.translate_x, p.translate_y], [p.shear_x, p.shear_y]
        return F.affine(image, p.angle, shift, p.scale, shear, interpolation=interpolation, fill=[fill] * 3)

    return apply


def rotate_reference(interpolation: v2.InterpolationMode, center: list[float] | None = None) -> Reference:
    return lambda image, p: F.rotate(image, p.angle, interpolation, center=center, fill=[9, 8, 7])


def translate_reference(image: Image.Image, p: Any) -> np.ndarray:
    width, height = image.size
    padded = np.full((height + 60, width + 60, 3), 128, np.uint8)
    padded[30 : 30 + height, 30 : 30 + width] = np.asarray(image)
    return padded[30 - p.down :, 30 - p.right :][:height, :width]


def erase_reference(image: Image.Image, p: Any) -> np.ndarray:
    erased = F.erase(F.pil_to_tensor(image), p.top, p.left, p.height, p.width, torch.tensor([1, 2, 3])[:, None, None])
    return erased.permute(1, 2, 0).numpy()


NEAREST, BILINEAR = v2.InterpolationMode.NEAREST, v2.InterpolationMode.BILINEAR
BOTH_WAYS = {"shear": (-20, 20, -15, 15), "translate": (0.2, 0.3), "scale": (0.5, 1.7)}
CASES: dict[str, tuple[Any, Reference]] = {
    "HorizontalFlip": (T.RandomHorizontalFlip(1.0), lambda image, p: F.horizontal_flip(image)),
    "VerticalFlip": (T.RandomVerticalFlip(1.0), lambda image, p: F.vertical_flip(image)),
    "Grayscale": (T.RandomGrayscale(1.0), lambda image, p: F.rgb_to_grayscale(image, 3)),
    "Solarize": (T.RandomSolarization(1.0, 100), lambda image, p: F.solarize(image, 100)),
    "Posterize": (T.RandomPosterize(3, 1.0), lambda image, p: F.posterize(image, 3)),
    "Invert": (T.RandomInvert(1.0), lambda image, p: F.invert(image)),
    "Equalize": (T.RandomEqualize(1.0), lambda image, p: F.equalize(image)),
    "Autocontrast": (T.RandomAutocontrast(1.0), lambda image, p: F.autocontrast(image)),
    "AdjustSharpness up": (T.RandomAdjustSharpness(1.8, 1.0), lambda image, p: F.adjust_sharpness(image, 1.8)),
    "AdjustSharpness down": (T.RandomAdjustSharpness(0.3, 1.0), lambda image, p: F.adjust_sharpness(image, 0.3)),
    "RandomBrightness": (T.RandomBrightness(0.6, 1.0), lambda image, p: F.adjust_brightness(image, p.brightness)),
    "RandomContrast": (T.RandomContrast(0.6, 1.0), lambda image, p: F.adjust_contrast(image, p.contrast)),
    "RandomSaturation": (T.RandomSaturation(0.6, 1.0), lambda image, p: F.adjust_saturation(image, p.saturation)),
    "hue": (T.ColorJitter(hue=0.5), lambda image, p: F.adjust_hue(image, p.hue)),
    "RandomRotation nearest": (T.RandomRotation(180, fill=(9, 8, 7)), rotate_reference(NEAREST)),
    "RandomRotation bilinear": (T.RandomRotation((20, 70), "bilinear", fill=(9, 8, 7)), rotate_reference(BILINEAR)),
    "RandomRotation center": (T.RandomRotation(30, center=(5, 9), fill=(9, 8, 7)), rotate_reference(NEAREST, [5, 9])),
    "Rotate": (T.Rotate(1.0, 0.5), lambda image, p: F.rotate(image, p.angle)),
    "RandomAffine nearest": (T.RandomAffine(40, **BOTH_WAYS, fill=77), affine_reference(NEAREST, 77)),
    "RandomAffine bilinear": (T.RandomAffine(40, **BOTH_WAYS, interpolation="bilinear"), affine_reference(BILINEAR, 0)),
    "RandomAffine scale only": (T.RandomAffine(0, scale=(0.4, 2.0)), affine_reference(NEAREST, 0)),
    "RandomTranslate": (T.RandomTranslate(30), translate_reference),
    "RandomErasing": (T.RandomErasing(1.0, mean=(1, 2, 3)), erase_reference),
    "Cutout": (T.Cutout(31, (1, 2, 3)), erase_reference),
}


class Difference(NamedTuple):
    mean: float
    maximum: int


def difference(ours: np.ndarray, reference: np.ndarray) -> Difference:
    absolute = np.abs(ours.astype(int) - reference.astype(int))
    return Difference(float(absolute.mean()), int(absolute.max()))


def in_torch(transform: Any, images: np.ndarray, params: Any) -> np.ndarray:
    return transform.apply_torch(torch.from_numpy(images).permute(0, 3, 1, 2), params).permute(0, 2, 3, 1).numpy()


def references(images: np.ndarray, params: Any, apply: Reference) -> np.ndarray:
    return np.stack([np.asarray(apply(Image.fromarray(image), row(params, i))) for i, image in enumerate(images)])


@pytest.mark.parametrize("name", CASES)
def test_pixels_are_torchvisions(name: str, record_property: Callable) -> None:
    transform, apply = CASES[name]
    images = views()
    params = draw(transform, images)
    # Factors travel as float32 and Pillow computes blends in float32 from them: exact. Bilinear sampling adds doubles
    # in the same order as Pillow; a matrix of two float32 each is a few bits short of double.
    expected = references(images, params, apply)
    core = difference(render_batch(images, transform.lower(params)), expected)
    tensor = difference(in_torch(transform, images, params), expected)
    record_property("core", core)
    record_property("torch", tensor)
    print(f"PARITY {name}: core {core.mean:.5f} {core.maximum}; torch {tensor.mean:.5f} {tensor.maximum}")
    limit = (0.001, 1) if "bilinear" in name else (0.0, 0)
    assert core <= limit
    assert tensor.mean <= 0.5
    assert tensor.maximum <= 3


@pytest.mark.parametrize("size", [(61, 37), (500, 333), (300, 5), (2, 3), (1, 1)])
def test_pixels_are_torchvisions_in_any_size(size: tuple[int, int]) -> None:
    chosen = [Image.open(io.BytesIO(jpeg)).convert("RGB") for jpeg in photos(8)[:4]]
    images = np.stack([np.asarray(image.resize(size[::-1])) for image in chosen])
    for name, (transform, apply) in CASES.items():
        if name == "Cutout" and min(size) < transform.crop_size:
            continue
        params = draw(transform, images, seed=8)
        expected = references(images, params, apply)
        limit = 1 if "bilinear" in name else 0
        assert difference(render_batch(images, transform.lower(params)), expected).maximum <= limit, name
        assert difference(in_torch(transform, images, params), expected).maximum <= 3, name


@pytest.mark.parametrize("kernel_size", [3, 23])
def test_blur_in_torch_is_the_cores(kernel_size: int) -> None:
    images, transform = views(), T.Blur(kernel_size)
    params = draw(transform, images)
    result = difference(in_torch(transform, images, params), render_batch(images, transform.lower(params)))
    assert result.maximum <= 1
    assert result.mean <= 0.01


def test_color_jitter_in_torch_is_the_cores() -> None:
    images, transform = views(), T.ColorJitter(0.4, 0.4, 0.2, 0.1, p=0.8)
    params = draw(transform, images)
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
    params = draw(ours, images)
    assert set(params.operation[:, 0]) == set(range(len(OPERATIONS)))
    expected = []
    for i, image in enumerate(images):
        name, magnitude = OPERATIONS[params.operation[i, 0]], params.magnitude[i, 0].item()
        pil = Image.fromarray(image)
        expected.append(
            np.asarray(transform._apply_image_or_video_transform(pil, name, magnitude, NEAREST, transform._fill))
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
    params = draw(transform, grey)
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
    for name, (transform, _) in CASES.items():
        params = draw(transform, images)
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
        params = draw(transform, images)
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
                one = type(of_parts[k])(*(value[i : i + 1] for value in of_parts[k]))
                expected = render_batch(expected, parts[k].lower(one))
            np.testing.assert_array_equal(ours[i], expected[0])
        assert difference(in_torch(transform, images, params), ours).maximum <= 3


def drawn(transform: Any, height: int = 200, width: int = 300) -> Any:
    u = _core.uniforms(3, 4, 0, np.arange(DRAWS), transform.draws)
    return transform.sample(u, np.tile(np.array([[height, width]], np.int64), (DRAWS, 1)))


def theirs(transform: Any, height: int = 200, width: int = 300, count: int = 10_000) -> dict[str, np.ndarray]:
    torch.manual_seed(0)
    image = torch.empty(3, height, width)
    rows = [transform.make_params([image]) for _ in range(count)]
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
