"""What transforms refuse: each error names the argument, what it got, and what is allowed."""

from collections.abc import Callable

import numpy as np
import pytest

import ffcv.transforms as T


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: T.RandomRotation(-1), "degrees must be a number of degrees >= 0"),
        (lambda: T.RandomRotation(30, expand=True), "expand must be False"),
        (lambda: T.RandomRotation(30, interpolation="cubic"), "interpolation must be 'nearest' or 'bilinear'"),
        (lambda: T.RandomRotation(30, fill=300), r"fill must be one number or three .* 0\.\.255"),
        (lambda: T.RandomRotation(30, center=(1,)), "center must be None or a pair"),
        (lambda: T.RandomAffine(30, translate=(0.1, 1.1)), r"translate must be a pair .* within \[0, 1\]"),
        (lambda: T.RandomAffine(30, scale=(0.0, 1.0)), "scale must be a pair"),
        (lambda: T.RandomAffine(30, shear=(3, 1)), "shear must be a pair"),
        (lambda: T.RandomAffine(float("nan")), "degrees must be"),
        (lambda: T.Rotate(0.5, -0.1), "angle must be a number of radians >= 0"),
        (lambda: T.RandomTranslate(-1), "padding must be a whole number at least 0"),
        (lambda: T.RandomErasing(1.2), r"erase_prob must be a probability in \[0, 1\]"),
        (lambda: T.RandomErasing(0.5, scale=(0.5, 1.5)), r"scale must be a pair .* within \[0, 1\]"),
        (lambda: T.Cutout(0), "crop_size must be a whole number at least 1"),
        (lambda: T.Cutout(9).sample(np.zeros((1, 2)), np.array([[8, 20]])), "crop_size must be at most"),
        (lambda: T.Posterize(9), r"bits must be a whole number within 0\.\.8"),
        (lambda: T.AdjustSharpness(-1), "sharpness_factor must be a finite number of at least 0"),
        (lambda: T.GaussianNoise(sigma=2), r"sigma must be a finite number within \[0, 1\]"),
        (lambda: T.GaussianNoise(clip=False), "clip must be True"),
        (lambda: T.RandAugment(magnitude=31), r"magnitude must be a whole number within 0\.\.30"),
        (lambda: T.RandAugment(num_ops=0), "num_ops must be a whole number at least 1"),
        (lambda: T.TrivialAugmentWide(1), "num_magnitude_bins must be a whole number at least 2"),
        (lambda: T.Compose([]), "transforms must be a list of image transforms"),
        (lambda: T.RandomApply([T.ToTensor()]), "transforms must be a list of image transforms"),
        (lambda: T.RandomChoice([T.Invert()], p=[0.0]), "p must be None or one weight >= 0"),
        (lambda: T.Compose([T.Invert(seed=1)]), "give the seed to Compose instead of its parts"),
        (lambda: T.CornerCrop(8, 0.5, interpolation="cubic"), "interpolation must be one of"),
        (lambda: T.CornerCrop(8, 0.5, "middle"), "corner must be one of 'top_left'"),
        (lambda: T.RandomMask(14, 1.5), r"ratio must be a finite number within \[0, 1\]"),
        (lambda: T.BlockMask(14, block_area=(0, 1)), r"block_area must be a pair .* within \(0, 1\]"),
        (lambda: T.ImageMixup(0.0, True), "alpha must be above 0"),
        (lambda: T.MixupToOneHot(0), "num_classes must be a whole number at least 1"),
        (lambda: T.ReplaceLabel([-1], 0), "indices must be positions"),
        (lambda: T.Poison(np.zeros((4, 4)), np.zeros((4, 4)), [0]), r"mask must be \[H, W, 3\]"),
        (lambda: T.Poison(np.zeros((4, 4, 3)), np.full((4, 4), 2.0), [0]), r"alpha must be .* within \[0, 1\]"),
        (lambda: T.BatchFunction(3), "function must be callable"),
        (lambda: T.RandomResizedCrop(8, size=8), "size is FFCV's name for output_size"),
        (lambda: T.RandomResizedCrop(8, second_seed=0.5), "second_seed must be an int or None"),
    ],
)
def test_bad_arguments_name_themselves(make: Callable, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()
