"""Decoders, image transforms and batch transforms, by the names of FFCV, FFCV-SSL and torchvision."""

from ffcv.transforms.affine import RandomAffine, RandomRotation, RandomTranslate, Rotate
from ffcv.transforms.auto_augment import RandAugment, TrivialAugmentWide
from ffcv.transforms.autocontrast import Autocontrast, RandomAutocontrast
from ffcv.transforms.color_jitter import (
    ColorJitter,
    RandomBrightness,
    RandomColorJitter,
    RandomContrast,
    RandomSaturation,
)
from ffcv.transforms.common import Squeeze
from ffcv.transforms.compose import Compose, RandomApply, RandomChoice
from ffcv.transforms.corner_crop import CornerCrop, PadRGBImageDecoder
from ffcv.transforms.crops import (
    CenterCrop,
    CenterCropRGBImageDecoder,
    RandomResizedCrop,
    RandomResizedCropRGBImageDecoder,
    SimpleRGBImageDecoder,
)
from ffcv.transforms.equalize import Equalize, RandomEqualize
from ffcv.transforms.erasing import Cutout, RandomErasing
from ffcv.transforms.flip import HorizontalFlip, RandomHorizontalFlip, RandomVerticalFlip, VerticalFlip
from ffcv.transforms.gaussian_blur import Blur, GaussianBlur
from ffcv.transforms.grayscale import Grayscale, RandomGrayscale
from ffcv.transforms.invert import Invert, RandomInvert
from ffcv.transforms.labels import (
    Label,
    LabelColorJitter,
    LabelDecoder,
    LabelGaussianBlur,
    LabelGrayscale,
    LabelRandomResizedCrop,
    LabelSolarization,
    LabelTranslate,
)
from ffcv.transforms.masks import BlockMask, RandomMask
from ffcv.transforms.mixup import ImageMixup, LabelMixup, MixupToOneHot
from ffcv.transforms.module import BatchFunction, ModuleWrapper
from ffcv.transforms.noise import GaussianNoise
from ffcv.transforms.normalize import NormalizeImage
from ffcv.transforms.ops import Convert, ToDevice, ToTensor, ToTorchImage, View
from ffcv.transforms.poison import Poison, ReplaceLabel
from ffcv.transforms.posterize import Posterize, RandomPosterize
from ffcv.transforms.sharpness import AdjustSharpness, RandomAdjustSharpness
from ffcv.transforms.solarize import RandomSolarization, RandomSolarize, Solarize

__all__ = [
    "AdjustSharpness",
    "Autocontrast",
    "BatchFunction",
    "BlockMask",
    "Blur",
    "CenterCrop",
    "CenterCropRGBImageDecoder",
    "ColorJitter",
    "Compose",
    "Convert",
    "CornerCrop",
    "Cutout",
    "Equalize",
    "GaussianBlur",
    "GaussianNoise",
    "Grayscale",
    "HorizontalFlip",
    "ImageMixup",
    "Invert",
    "Label",
    "LabelColorJitter",
    "LabelDecoder",
    "LabelGaussianBlur",
    "LabelGrayscale",
    "LabelMixup",
    "LabelRandomResizedCrop",
    "LabelSolarization",
    "LabelTranslate",
    "MixupToOneHot",
    "ModuleWrapper",
    "NormalizeImage",
    "PadRGBImageDecoder",
    "Poison",
    "Posterize",
    "RandAugment",
    "RandomAdjustSharpness",
    "RandomAffine",
    "RandomApply",
    "RandomAutocontrast",
    "RandomBrightness",
    "RandomChoice",
    "RandomColorJitter",
    "RandomContrast",
    "RandomEqualize",
    "RandomErasing",
    "RandomGrayscale",
    "RandomHorizontalFlip",
    "RandomInvert",
    "RandomMask",
    "RandomPosterize",
    "RandomResizedCrop",
    "RandomResizedCropRGBImageDecoder",
    "RandomRotation",
    "RandomSaturation",
    "RandomSolarization",
    "RandomSolarize",
    "RandomTranslate",
    "RandomVerticalFlip",
    "ReplaceLabel",
    "Rotate",
    "SimpleRGBImageDecoder",
    "Solarize",
    "Squeeze",
    "ToDevice",
    "ToTensor",
    "ToTorchImage",
    "TrivialAugmentWide",
    "VerticalFlip",
    "View",
]
