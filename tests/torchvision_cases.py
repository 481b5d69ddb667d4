"""What each transform is compared with: torchvision v2 on PIL images, with the same parameters, on real photographs.

`tests/parity` asserts the bounds that are stated here, `benchmarks/parity.py` prints what is measured.
"""

import functools
import io
from collections.abc import Callable
from itertools import permutations
from typing import Any, NamedTuple

import numpy as np
import torch
from PIL import Image

import ffcv.transforms as T
from core_render import render, render_batch
from ffcv import _core
from ffcv.transforms.auto_augment import OPERATIONS
from ffcv.transforms.base import ImageDecoder
from ffcv.transforms.decoded_crop import DecodedCrop
from photos import as_array, photos
from torchvision_reference import functional as F
from torchvision_reference import v2

COUNT = 50
Reference = Callable[[Image.Image, Any], Any]


class Case(NamedTuple):
    """A transform, what torchvision does instead of it, and how far apart they may be, in 255ths."""

    transform: Any
    reference: Reference
    mean: float = 0.0
    maximum: int = 0
    why: str = ""  # where the core's pixels are not equal
    tensor_mean: float = 0.5
    tensor_maximum: int = 3


class Difference(NamedTuple):
    mean: float
    maximum: int


def difference(ours: np.ndarray, reference: np.ndarray) -> Difference:
    absolute = np.abs(ours.astype(int) - reference.astype(int))
    return Difference(float(absolute.mean()), int(absolute.max()))


@functools.cache
def pictures() -> list[Image.Image]:
    """50 photographs: as they are (portrait and landscape), tiny, upright, grey, large; and three hard ones."""
    found = photos(COUNT)
    result = []
    for i in range(COUNT):
        image = Image.open(io.BytesIO(found[i % len(found)])).convert("RGB")
        shorter, kind = min(image.size), i // len(found) + i
        if kind % 5 == 1:
            image = image.resize((33 * image.width // shorter, 33 * image.height // shorter))
        elif kind % 5 == 2:
            image = image.resize((150, 200 + i))
        elif kind % 5 == 3:
            image = image.convert("L").convert("RGB").resize((240 + i, 180))
        elif kind % 25 == 4:
            image = image.resize((2 * image.width, 2 * image.height))
        result.append(image)
    y, x = np.mgrid[:90, :120]
    dark = np.asarray(result[0].resize((120, 90))) // 9
    hard = [np.full_like(dark, 77), np.where((x + y)[..., None] % 2, 255, 0) + 0 * dark, dark]
    return result + [Image.fromarray(picture.astype(np.uint8)) for picture in hard]


def draw(transform: Any, sizes: np.ndarray, seed: int = 5) -> Any:
    """Parameters for pictures of `sizes`, int64 [B, 2]."""
    u = _core.uniforms(seed, 6, 0, np.arange(len(sizes)), max(1, transform.draws))[:, : transform.draws]
    return transform.sample(u, sizes)


def row(params: Any, index: int) -> Any:
    """One sample's parameters, as python numbers and lists."""
    return type(params)(*(value[index].tolist() for value in params))


def only_row(params: Any, index: int) -> Any:
    """One sample's parameters, as arrays of length 1."""
    return type(params)(*(value[index : index + 1] for value in params))


def in_torch(transform: Any, images: np.ndarray, params: Any) -> np.ndarray:
    return transform.apply_torch(torch.from_numpy(images).permute(0, 3, 1, 2), params).permute(0, 2, 3, 1).numpy()


def measure(case: Case) -> tuple[Difference, Difference]:
    """How far the core's pixels and `apply_torch`'s are from torchvision's, over all pictures."""
    transform, images = case.transform, pictures()
    params = draw(transform, np.array([(image.height, image.width) for image in images]))
    apart: tuple[list[np.ndarray], list[np.ndarray]] = ([], [])
    for i, image in enumerate(images):
        pixels, one = np.array(image), only_row(params, i)
        expected = np.asarray(case.reference(image, row(params, i)))
        if isinstance(transform, ImageDecoder):
            box = transform.boxes(one)[0].tolist()
            core = render(pixels, box, transform.output_size, interpolation=transform.interpolation)
            tensor = in_torch(DecodedCrop(transform), pixels[None], one)[0]
        else:
            core = render_batch(pixels[None], transform.lower(one))[0]
            tensor = in_torch(transform, pixels[None], one)[0]
        for ours, kept in zip((core, tensor), apart, strict=True):
            kept.append(np.abs(ours.astype(np.int16) - expected).ravel())
    core, tensor = (np.concatenate(kept) for kept in apart)
    return Difference(float(core.mean()), int(core.max())), Difference(float(tensor.mean()), int(tensor.max()))


def decoding() -> Difference:
    """The core's decoder beside Pillow's, on all photographs and on grey ones of three chroma samplings."""
    apart = []
    for i, photo in enumerate(photos(COUNT)):
        jpegs = [photo]
        if i % 5 == 0:
            for subsampling in (0, 1, 2):
                buffer = io.BytesIO()
                Image.open(io.BytesIO(photo)).convert("RGB").resize((201, 155)).save(
                    buffer, "JPEG", subsampling=subsampling
                )
                jpegs.append(buffer.getvalue())
            buffer = io.BytesIO()
            Image.open(io.BytesIO(photo)).convert("L").save(buffer, "JPEG")
            jpegs.append(buffer.getvalue())
        for jpeg in jpegs:
            expected = np.asarray(Image.open(io.BytesIO(jpeg)).convert("RGB"))
            apart.append(np.abs(_core.decode_jpeg(as_array(jpeg)).astype(np.int16) - expected).ravel())
    together = np.concatenate(apart)
    return Difference(float(together.mean()), int(together.max()))


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


def crop_reference(interpolation: v2.InterpolationMode) -> Reference:
    def apply(image: Image.Image, p: Any) -> Image.Image:
        box = (p.top, p.left, p.height, p.width)
        return F.resized_crop(image, *box, [96, 128], interpolation=interpolation, antialias=True)

    return apply


def jitter_reference(image: Image.Image, p: Any) -> Image.Image:
    steps = (F.adjust_brightness, F.adjust_contrast, F.adjust_saturation, F.adjust_hue)
    for kind in list(permutations(range(4)))[p.order]:
        applied = kind < 3 or p.hue != 0.0  # a hue of 0 would go through HSV, and back to other colours
        image = steps[kind](image, p[kind]) if applied else image
    return image


def blur_reference(kernel_size: int) -> Reference:
    def apply(image: Image.Image, p: Any) -> Image.Image:
        return F.gaussian_blur(image, [kernel_size, kernel_size], [p.sigma, p.sigma])

    return apply


def augment_reference(transform: Any) -> Reference:
    """torchvision's own dispatcher, with our choices."""

    def apply(image: Image.Image, p: Any) -> Image.Image:
        for operation, magnitude in zip(p.operation, p.magnitude, strict=True):
            image = transform._apply_image_or_video_transform(
                image, OPERATIONS[operation], magnitude, NEAREST, transform._fill
            )
        return image

    return apply


NEAREST, BILINEAR = v2.InterpolationMode.NEAREST, v2.InterpolationMode.BILINEAR
BICUBIC = v2.InterpolationMode.BICUBIC
BOTH_WAYS = {"shear": (-20, 20, -15, 15), "translate": (0.2, 0.3), "scale": (0.5, 1.7)}
ORDER = "Pillow 13 takes the vertical pass first where the height shrinks most"
OVERSHOOT = ORDER + "; cubic filters overshoot, and each pass clips to 0..255 (float tensors only at the end)"
DOUBLES = "its matrix travels as two float32 for a double"
FLOATS = "torchvision blurs in float32, the core in 14-bit fixed point"
CASES: dict[str, Case] = {
    "RandomResizedCrop": Case(T.RandomResizedCrop((96, 128)), crop_reference(BILINEAR), 0.1, 1, ORDER),
    "RandomResizedCrop bicubic": Case(
        T.RandomResizedCrop((96, 128), interpolation="bicubic"),
        crop_reference(BICUBIC),
        0.1,
        8,
        OVERSHOOT,
        tensor_maximum=32,
    ),
    "RandomResizedCrop nearest": Case(T.RandomResizedCrop((96, 128), interpolation="nearest"), crop_reference(NEAREST)),
    "CenterCrop": Case(T.CenterCrop((96, 128), 0.875), crop_reference(BILINEAR), 0.1, 1, ORDER),
    "ColorJitter": Case(T.ColorJitter(0.4, 0.4, 0.4, 0.1, p=0.8), jitter_reference),
    "GaussianBlur 23": Case(T.Blur(23), blur_reference(23), 0.1, 1, FLOATS),
    "GaussianBlur 5": Case(T.Blur(5), blur_reference(5), 0.1, 1, FLOATS),
    "RandAugment": Case(T.RandAugment(2, 17), augment_reference(v2.RandAugment(2, 17))),
    "TrivialAugmentWide": Case(T.TrivialAugmentWide(), augment_reference(v2.TrivialAugmentWide())),
    "HorizontalFlip": Case(T.RandomHorizontalFlip(1.0), lambda image, p: F.horizontal_flip(image)),
    "VerticalFlip": Case(T.RandomVerticalFlip(1.0), lambda image, p: F.vertical_flip(image)),
    "Grayscale": Case(T.RandomGrayscale(1.0), lambda image, p: F.rgb_to_grayscale(image, 3)),
    "Solarize": Case(T.RandomSolarization(1.0, 100), lambda image, p: F.solarize(image, 100)),
    "Solarize between levels": Case(T.RandomSolarization(1.0, 99.5), lambda image, p: F.solarize(image, 99.5)),
    "Posterize": Case(T.RandomPosterize(3, 1.0), lambda image, p: F.posterize(image, 3)),
    "Invert": Case(T.RandomInvert(1.0), lambda image, p: F.invert(image)),
    "Equalize": Case(T.RandomEqualize(1.0), lambda image, p: F.equalize(image)),
    "Autocontrast": Case(T.RandomAutocontrast(1.0), lambda image, p: F.autocontrast(image)),
    "AdjustSharpness up": Case(T.RandomAdjustSharpness(1.8, 1.0), lambda image, p: F.adjust_sharpness(image, 1.8)),
    "AdjustSharpness down": Case(T.RandomAdjustSharpness(0.3, 1.0), lambda image, p: F.adjust_sharpness(image, 0.3)),
    "RandomBrightness": Case(T.RandomBrightness(0.6, 1.0), lambda image, p: F.adjust_brightness(image, p.brightness)),
    "RandomContrast": Case(T.RandomContrast(0.6, 1.0), lambda image, p: F.adjust_contrast(image, p.contrast)),
    "RandomSaturation": Case(T.RandomSaturation(0.6, 1.0), lambda image, p: F.adjust_saturation(image, p.saturation)),
    "hue": Case(T.ColorJitter(hue=0.5), lambda image, p: F.adjust_hue(image, p.hue)),
    "RandomRotation nearest": Case(T.RandomRotation(180, fill=(9, 8, 7)), rotate_reference(NEAREST)),
    "RandomRotation bilinear": Case(
        T.RandomRotation((20, 70), "bilinear", fill=(9, 8, 7)), rotate_reference(BILINEAR), 0.001, 1, DOUBLES
    ),
    "RandomRotation center": Case(
        T.RandomRotation(30, center=(5, 9), fill=(9, 8, 7)), rotate_reference(NEAREST, [5, 9])
    ),
    "Rotate": Case(T.Rotate(1.0, 0.5), lambda image, p: F.rotate(image, p.angle)),
    "RandomAffine nearest": Case(T.RandomAffine(40, **BOTH_WAYS, fill=77), affine_reference(NEAREST, 77)),
    "RandomAffine bilinear": Case(
        T.RandomAffine(40, **BOTH_WAYS, interpolation="bilinear"), affine_reference(BILINEAR, 0), 0.001, 1, DOUBLES
    ),
    "RandomAffine scale only": Case(T.RandomAffine(0, scale=(0.4, 2.0)), affine_reference(NEAREST, 0)),
    "RandomTranslate": Case(T.RandomTranslate(30), translate_reference),
    "RandomErasing": Case(T.RandomErasing(1.0, mean=(1, 2, 3)), erase_reference),
    "Cutout": Case(T.Cutout(31, (1, 2, 3)), erase_reference),
}
