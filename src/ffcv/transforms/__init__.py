"""Decoders, image transforms and batch transforms, by the names of FFCV, FFCV-SSL and torchvision."""

from ffcv.transforms.color_jitter import ColorJitter, RandomColorJitter
from ffcv.transforms.common import Squeeze
from ffcv.transforms.crops import (
    CenterCrop,
    CenterCropRGBImageDecoder,
    RandomResizedCrop,
    RandomResizedCropRGBImageDecoder,
    SimpleRGBImageDecoder,
)
from ffcv.transforms.flip import HorizontalFlip, RandomHorizontalFlip
from ffcv.transforms.gaussian_blur import Blur, GaussianBlur
from ffcv.transforms.grayscale import Grayscale, RandomGrayscale
from ffcv.transforms.module import ModuleWrapper
from ffcv.transforms.normalize import NormalizeImage
from ffcv.transforms.ops import Convert, ToDevice, ToTensor, ToTorchImage, View
from ffcv.transforms.solarize import RandomSolarization, Solarize

__all__ = [
    "Blur",
    "CenterCrop",
    "CenterCropRGBImageDecoder",
    "ColorJitter",
    "Convert",
    "GaussianBlur",
    "Grayscale",
    "HorizontalFlip",
    "ModuleWrapper",
    "NormalizeImage",
    "RandomColorJitter",
    "RandomGrayscale",
    "RandomHorizontalFlip",
    "RandomResizedCrop",
    "RandomResizedCropRGBImageDecoder",
    "RandomSolarization",
    "SimpleRGBImageDecoder",
    "Solarize",
    "Squeeze",
    "ToDevice",
    "ToTensor",
    "ToTorchImage",
    "View",
]
