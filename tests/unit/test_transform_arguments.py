"""What transforms refuse: each error names the argument, what it got, and what is allowed."""

import inspect
import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, get_type_hints

import numpy as np
import pytest
import torch

import ffcv.transforms as T
from ffcv.transforms.base import ImageTransform
from torchvision_reference import v2

NAN = math.nan


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: T.RandomRotation(-1), "degrees must be a finite number of at least 0"),
        (lambda: T.RandomRotation(30, expand=True), "expand must be False"),
        (lambda: T.RandomRotation(30, interpolation="cubic"), "interpolation must be one of 'nearest', 'bilinear'"),
        (lambda: T.RandomRotation(30, fill=300), r"fill must be one number or three .* 0\.\.255"),
        (lambda: T.RandomRotation(30, center=(1,)), "center must be None or a pair"),
        (lambda: T.RandomAffine(30, translate=(0.1, 1.1)), r"translate must be None or a pair .* within \[0, 1\]"),
        (lambda: T.RandomAffine(30, scale=(0.0, 1.0)), "scale must be a pair"),
        (lambda: T.RandomAffine(30, scale=(1e-320, 1.0)), r"scale must be a pair .* within \[0.001, 1000\]"),
        (lambda: T.RandomAffine(30, shear=(3, 1)), "shear must be a pair"),
        (lambda: T.RandomAffine(30, shear=(3, 1, 2)), r"shear must be .* a pair \(min, max\) or four numbers"),
        (lambda: T.RandomAffine(30, shear=(-5, 5, 2, 90)), r"shear must be a pair .* within \[-89, 89\]"),
        (lambda: T.RandomAffine(30, center=(1e300, 0)), r"center must be .* within \[-65535, 65535\]"),
        (lambda: T.RandomAffine(float("nan")), "degrees must be"),
        (lambda: T.Rotate(0.5, -0.1), "angle must be a finite number of at least 0"),
        (lambda: T.RandomTranslate(-1), r"padding must be a whole number within 0\.\.65535"),
        (lambda: T.RandomTranslate(10**30), r"padding must be a whole number within 0\.\.65535"),
        (lambda: T.RandomErasing(0.3, p=0.4), "p is another name for erase_prob; both are given"),
        (lambda: T.RandomHorizontalFlip(p=1.5), r"p must be a probability in \[0, 1\]"),
        (lambda: T.RandomBrightness(-1), "magnitude must be a finite number of at least 0"),
        (lambda: T.RandomErasing(1.2), r"erase_prob must be a probability in \[0, 1\]"),
        (lambda: T.RandomErasing(0.5, scale=(0.5, 1.5)), r"scale must be a pair .* within \[0, 1\]"),
        (lambda: T.Cutout(0), "crop_size must be a whole number at least 1"),
        (lambda: T.Cutout(9).sample(np.zeros((1, 2)), np.array([[8, 20]])), "crop_size must be at most"),
        (lambda: T.Posterize(9), r"bits must be a whole number within 0\.\.8"),
        (lambda: T.AdjustSharpness(-1), "sharpness_factor must be a finite number of at least 0"),
        (lambda: T.GaussianNoise(sigma=2), r"sigma must be a finite number within \[0, 1\]"),
        (lambda: T.GaussianNoise(clip=False), "clip must be True"),
        (lambda: T.RandAugment(magnitude=31), r"magnitude must be a whole number within 0\.\.30"),
        (lambda: T.RandAugment(num_ops=0), r"num_ops must be a whole number within 1\.\."),
        (lambda: T.TrivialAugmentWide(1), "num_magnitude_bins must be a whole number at least 2"),
        (lambda: T.Compose([]), "transforms must be a list of image transforms"),
        (lambda: T.RandomApply([T.ToTensor()]), "transforms must be a list of image transforms"),
        (lambda: T.RandomChoice([T.Invert()], p=[0.0]), "p must be None or one weight >= 0"),
        (lambda: T.Compose([T.Invert(seed=1)]), "give the seed to Compose instead of its parts"),
        (lambda: T.CornerCrop(8, 0.5, interpolation="cubic"), "interpolation must be one of"),
        (lambda: T.CornerCrop(8, 0.5, "middle"), "corner must be one of 'top_left'"),
        (lambda: T.RandomMask(14, 1.5), r"ratio must be a finite number within \[0, 1\]"),
        (lambda: T.RandomMask(600), "grid must have at most 262144 patches"),
        (lambda: T.BlockMask(520), "grid must have at most 262144 patches"),
        (lambda: T.BlockMask(14, block_area=(0, 1)), r"block_area must be a pair .* within \(0, 1\]"),
        (lambda: T.ImageMixup(0.0, True), "alpha must be a finite number above 0"),
        (lambda: T.MixupToOneHot(0), "num_classes must be a whole number at least 1"),
        (lambda: T.ReplaceLabel([-1], 0), "indices must be positions"),
        (lambda: T.Poison(np.zeros((4, 4)), np.zeros((4, 4)), [0]), r"mask must be \[H, W, 3\]"),
        (lambda: T.Poison(np.zeros((4, 4, 3)), np.full((4, 4), 2.0), [0]), r"alpha must be .* within \[0, 1\]"),
        (lambda: T.BatchFunction(3), "function must be callable"),
        (lambda: T.ModuleWrapper(3), "module must be a torch.nn.Module"),
        (lambda: T.Label(3), "transform must be an image transform"),
        (lambda: T.LabelDecoder(T.Invert()), "decoder must be an image decoder"),
        (lambda: T.Convert("nope"), "target_dtype must be a torch or numpy dtype"),
        (lambda: T.View("nope"), "target_dtype must be a torch or numpy dtype"),
        (lambda: T.Squeeze("a"), "dims must be a whole number"),
        (lambda: T.NormalizeImage((0, 0, 0), (1, 1, 1), "nope"), "type must be np.float16"),
        (lambda: T.RandomResizedCrop(8, antialias=False), "antialias must be True"),
        (lambda: T.RandomResizedCrop((0.08, 1.5), (1, 1), (8, 8)), "output_size must be a positive number"),
        (lambda: T.RandomResizedCrop(8, size=8), "size is FFCV's name for output_size"),
        (lambda: T.RandomResizedCrop(8, second_seed=0.5), "second_seed must be an int or None"),
        (lambda: T.RandomResizedCrop(np.array(8)), "output_size must be a positive number of pixels"),
        (lambda: T.Blur(3, torch.tensor(1.0)), "sigma must be a pair"),
        (lambda: T.RandomResizedCrop("ab"), "output_size must be a positive number of pixels"),
        (lambda: T.RandomResizedCrop((8.5, 8)), "output_size must be a positive number of pixels"),
        (lambda: T.RandomResizedCrop((NAN, 8)), "output_size must be a positive number of pixels"),
        (lambda: T.RandomResizedCrop(65536), "output_size must be .* at most 65535, got 65536"),
        (lambda: T.RandomResizedCrop(8, scale=(0.1, NAN)), r"scale must be a pair .* within \(0, 1\]"),
        (lambda: T.RandomResizedCrop(8, scale=0.5), "scale must be a pair"),
        (lambda: T.CenterCrop(8, NAN), r"ratio must be a finite number within \(0, 1\]"),
        (lambda: T.CenterCrop(8, "all"), r"ratio must be a finite number within \(0, 1\]"),
        (lambda: T.ColorJitter(math.inf), "brightness must be a finite number of at least 0"),
        (lambda: T.ColorJitter(saturation=(0.5, math.inf)), "saturation must be a pair"),
        (lambda: T.ColorJitter(hue=NAN), r"hue must be a finite number within \[0, 0.5\]"),
        (lambda: T.ColorJitter(hue=(-0.6, 0.1)), r"hue must be a pair .* within \[-0.5, 0.5\]"),
        (lambda: T.RandomSolarization(0.5, "bright"), r"threshold must be a finite number within \[0, 256\]"),
        (lambda: T.RandomSolarization(0.5, NAN), "threshold must be"),
        (lambda: T.Blur(2.5), r"kernel_size must be a whole number within 1\.\.1023"),
        (lambda: T.GaussianBlur(1, 99999999), r"kernel_size must be a whole number within 1\.\.1023"),
        (lambda: T.Blur(3, NAN), r"sigma must be a pair .* within \(0, inf\]"),
        (lambda: T.RandomAffine(30, translate=0.5), "translate must be None or a pair"),
        (lambda: T.RandomAffine(30, translate=(NAN, 0)), "translate must be None or a pair"),
        (lambda: T.RandomRotation(30, center=4), "center must be None or a pair"),
        (lambda: T.RandomChoice([T.Invert()], p=["often"]), "p must be None or one weight >= 0"),
        (lambda: T.Compose([T.Invert()], seed="a"), "seed must be an int or None"),
        (lambda: T.Poison(np.full((4, 4, 3), NAN), np.zeros((4, 4)), [0]), r"mask must hold numbers within 0\.\.255"),
        (lambda: T.Poison(np.zeros((4, 4, 3)), np.zeros((4, 4)), [0], 5), "clamp must be a pair"),
        (lambda: T.Poison("mask.png", np.zeros((4, 4)), [0]), "mask must be an array of numbers, got 'mask.png'"),
        (lambda: T.ReplaceLabel([1], "cat"), "new_label must be a number"),
    ],
)
def test_bad_arguments_name_themselves(make: Callable, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()


PROBABILITIES = (  # "p" last: beside another name, None stands for what is not given
    "flip_prob",
    "jitter_prob",
    "gray_prob",
    "blur_prob",
    "solarization_prob",
    "erase_prob",
    "rotate_prob",
    "p",
)
REQUIRED = {"bits": 4, "sharpness_factor": 1.5, "degrees": 10, "kernel_size": 3, "magnitude": 0.2}


@pytest.mark.parametrize("bad", [-0.1, 1.1, NAN, math.inf, "often", None])
def test_every_probability_is_checked(bad: object) -> None:
    tried = 0
    for name in T.__all__:
        arguments = inspect.signature(getattr(T, name)).parameters
        chosen = [argument for argument in PROBABILITIES if argument in arguments]
        if not chosen or name == "RandomChoice":  # its p are weights
            continue
        given = {key: value for key, value in REQUIRED.items() if key in arguments}
        if name == "RandomApply":
            given["transforms"] = [T.Invert()]
        with pytest.raises(ValueError, match=rf"^{chosen[0]} must be a probability in \[0, 1\]"):
            getattr(T, name)(**given, **{chosen[0]: bad})
        tried += 1
    assert tried > 20


def test_torchvisions_spellings() -> None:
    assert T.RandomHorizontalFlip(p=0.3) == T.RandomHorizontalFlip(0.3)
    assert T.RandomGrayscale(p=0.3) == T.RandomGrayscale(0.3)
    assert T.RandomErasing(p=0.3) == T.RandomErasing(0.3)
    assert replace(T.RandomErasing(p=0.3), seed=2) == T.RandomErasing(0.3, seed=2)
    assert T.RandomSolarize(100, p=0.3) == T.RandomSolarization(0.3, 100)
    bicubic = v2.InterpolationMode.BICUBIC
    assert T.RandomResizedCrop(8, interpolation=bicubic, antialias=True).interpolation == "bicubic"
    assert T.CenterCrop(8, 1.0, interpolation=bicubic) == T.CenterCrop(8, 1.0, interpolation="bicubic")
    assert T.CornerCrop(8, 1.0, interpolation=bicubic).interpolation == "bicubic"
    assert T.RandomAffine(9, shear=np.array([1, 2, 3, 4])) == T.RandomAffine(9, shear=(1, 2, 3, 4))
    assert T.NormalizeImage((1, 2, 3), (1, 2, 3), torch.float32).output.dtype == np.float32


@pytest.mark.parametrize("size", [32, np.int64(32), (32, 32), [32, 32]])
def test_crops_in_ffcvs_order(size: Any) -> None:
    expected = T.RandomResizedCrop(32, (0.08, 1.0), (0.75, 1.5))
    assert T.RandomResizedCrop((0.08, 1.0), (0.75, 1.5), size) == expected
    assert T.RandomResizedCrop((32, 32), (0.08, 1.0), (0.75, 1.5)) == expected
    assert T.RandomResizedCrop((2, 2), (0.08, 1.0), (1, 1)).output_size == (2, 2)


@pytest.mark.parametrize("make", [lambda c: T.RandomErasing(mean=c), lambda c: T.RandomAffine(9, fill=c)])
def test_colours_with_fractions_are_warned_of(make: Callable) -> None:
    with pytest.warns(UserWarning, match=r"is a colour in whole steps of 0\.\.255: .* loses its fractions"):
        transform = make((123.7, 116.0, 0.5))
    assert (123, 116, 0) in (getattr(transform, "mean", None), getattr(transform, "fill", None))
    make((123.0, 116, np.float32(3)))  # warnings are errors here


def test_a_mean_of_pixels_in_0_to_1_is_warned_of() -> None:
    with pytest.warns(UserWarning, match=r"0\.\.255, but mean \(0\.485, .* and std \(0\.229, .*: multiply both by 255"):
        T.NormalizeImage((0.485, 0.456, 0.406), (0.229, 0.224, 0.225), np.float32)
    T.NormalizeImage((0, 0, 0), (1, 1, 1), np.float32)  # nothing but another type: no warning, which would be an error


def test_numpys_numbers_are_numbers() -> None:
    assert T.RandomResizedCrop(np.int64(8), np.array([0.1, 1.0])).output_size == (8, 8)
    assert T.ColorJitter(np.float32(0.5)) == T.ColorJitter(0.5)
    assert T.Blur(np.int32(3), np.float64(1.0)) == T.Blur(3, 1.0)
    pair = np.array([0.1, 0.2])
    assert T.RandomAffine(9, translate=pair, center=pair) == T.RandomAffine(9, translate=(0.1, 0.2), center=(0.1, 0.2))
    assert T.RandomRotation(9, center=pair) == T.RandomRotation(9, center=(0.1, 0.2))
    for augment in (T.RandAugment, T.TrivialAugmentWide):
        assert augment(fill=np.array([1, 2, 3])) == augment(fill=(1, 2, 3))
    assert T.RandomHorizontalFlip(np.float32(0.5), np.int64(3)) == T.RandomHorizontalFlip(0.5, 3)


def test_type_checkers_take_what_the_transforms_take() -> None:
    for kind in (T.Compose, T.RandomApply, T.RandomChoice):
        assert get_type_hints(kind)["transforms"] == Sequence[ImageTransform]  # lists, too
    for kind in (T.RandomResizedCrop, T.CenterCrop, T.CornerCrop):
        assert get_type_hints(kind)["output_size"] is Any  # a number, too


def test_small_numpy_types_do_not_overflow() -> None:
    """Nor lose digits: what is computed with them is computed in Python's numbers."""
    sizes, small = np.full((50, 2), 300), np.uint8(200)

    def drawn(transform: Any) -> Any:
        return transform.sample(np.random.default_rng(0).random((50, transform.draws)), sizes)

    for make in (T.RandomTranslate, lambda n: T.RandAugment(num_ops=n), lambda n: T.BlockMask(num_blocks=n)):
        np.testing.assert_equal(drawn(make(small)), drawn(make(200)))  # warnings are errors here
    noise = T.GaussianNoise(sigma=np.float16(0.1))
    np.testing.assert_equal(noise.lower(drawn(noise))[0].parameters[:, 1], np.float32(255 * float(np.float16(0.1))))
    assert repr(T.RandomChoice([T.Invert(), T.Equalize()], p=np.array([1, 3])).p) == "(0.25, 0.75)"


@pytest.mark.parametrize("shape", [(2, 1, 8, 8), (2, 4, 8, 8), (3, 8, 8), (2, 8, 8, 3)])
def test_tensors_that_are_not_rgb_are_refused(shape: tuple[int, ...]) -> None:
    transform: ImageTransform = T.Invert(p=1.0)
    params = transform.sample(np.zeros((2, 1)), np.full((2, 2), 8))
    with pytest.raises(ValueError, match=r"images must be RGB, \[B, 3, H, W\]"):
        transform.apply_torch(torch.zeros(shape), params)
    with pytest.raises(ValueError, match="parameters must be those of 3 images"):
        transform.apply_torch(torch.zeros(3, 3, 8, 8), params)
